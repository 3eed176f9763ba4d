"""Names: claiming a handle, setting, moving and removing names, and what stands against squatting."""

from mpisa.primitives.account import NameEntry, OwnerEntry
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.operations import Publish, SetName
from mpisa.primitives.receipt import ReceiptStatus

NAME = ArtefactName("alice", "bert", "v1")


def test_the_first_to_set_a_name_claims_the_handle(chain, make_cid):
    signed = chain.sign(chain.alice, SetName(NAME, make_cid("one")))
    height, time_ms = chain.height, chain.time_ms
    assert chain.execute(signed.raw).receipts[0].status is ReceiptStatus.APPLIED
    assert chain.name("alice/bert@v1") == NameEntry(make_cid("one"), chain.alice.address, height, time_ms, signed.hash)
    assert chain.owner("alice") == OwnerEntry(chain.alice.address, height)
    assert chain.account(chain.alice).handles == 1


def test_of_two_claims_in_one_block_the_first_holds(chain, make_cid):
    first = chain.sign(chain.bob, SetName(NAME, make_cid("bob's")))
    second = chain.sign(chain.alice, SetName(NAME, make_cid("alice's")))
    receipts = chain.execute(first.raw, second.raw).receipts
    assert [receipt.reason for receipt in receipts] == [None, RejectionReason.NOT_OWNER]
    assert chain.name("alice/bert@v1").cid == make_cid("bob's")


def test_the_owner_moves_a_name_and_others_do_not(chain, make_cid):
    chain.run(chain.alice, SetName(NAME, make_cid("one")))
    assert chain.run(chain.bob, SetName(NAME, make_cid("evil"))).reason is RejectionReason.NOT_OWNER
    assert chain.run(chain.bob, SetName(NAME, None)).reason is RejectionReason.NOT_OWNER
    assert chain.run(chain.alice, SetName(NAME, make_cid("two"))).status is ReceiptStatus.APPLIED
    assert chain.name("alice/bert@v1").cid == make_cid("two")
    assert chain.account(chain.alice).handles == 1


def test_removing_a_name_keeps_the_handle(chain, make_cid):
    chain.run(chain.alice, SetName(NAME, make_cid("one")))
    assert chain.run(chain.alice, SetName(NAME, None)).status is ReceiptStatus.APPLIED
    assert chain.name("alice/bert@v1") is None
    assert chain.run(chain.alice, SetName(NAME, None)).reason is RejectionReason.UNKNOWN_NAME
    assert chain.run(chain.bob, SetName(NAME, make_cid("evil"))).reason is RejectionReason.NOT_OWNER


def test_a_name_set_and_removed_in_one_block_leaves_no_change(chain, make_cid):
    chain.run(chain.alice, SetName(NAME, make_cid("one")))
    other = ArtefactName("alice", "gone")
    set_it = chain.sign(chain.alice, SetName(other, make_cid("two")))
    remove = chain.sign(chain.alice, SetName(other, None), nonce=2)
    result = chain.execute(set_it.raw, remove.raw)
    assert [receipt.status for receipt in result.receipts] == [ReceiptStatus.APPLIED] * 2
    assert len(result.changes) == 1


def test_handles_are_bounded_an_account_and_cost_their_fee(make_chain, make_cid):
    chain = make_chain(handles_per_account=2, handle_fee=100)
    for handle in ("one", "two"):
        assert chain.run(chain.alice, SetName(ArtefactName(handle, "m"), make_cid("x"))).reason is None
    third = chain.run(chain.alice, SetName(ArtefactName("three", "m"), make_cid("x")))
    assert third.reason is RejectionReason.HANDLE_LIMIT
    assert chain.run(chain.alice, SetName(ArtefactName("two", "other"), make_cid("x"))).reason is None
    assert chain.balance(chain.alice) == 1_000_000 - 200
    assert chain.account(chain.alice).handles == 2


def test_two_handles_claimed_in_one_bundle_are_both_counted(chain, make_cid):
    claims = [SetName(ArtefactName(handle, "m"), make_cid("x")) for handle in ("one", "two")]
    chain.run(chain.alice, *claims)
    assert chain.account(chain.alice).handles == 2


def test_a_claim_rolls_back_with_its_bundle(make_chain, make_cid, make_record):
    chain = make_chain(handle_fee=100)
    before = dict(chain.state)
    bad = Publish(make_record("new", supersedes=make_cid("unknown")))
    receipt = chain.run(chain.alice, SetName(NAME, make_cid("one")), bad)
    assert receipt.reason is RejectionReason.UNKNOWN_RECORD
    assert receipt.detail.startswith("operations[1].supersedes: ")
    assert set(chain.state) == set(before)
    assert (chain.owner("alice"), chain.balance(chain.alice)) == (None, 1_000_000)
