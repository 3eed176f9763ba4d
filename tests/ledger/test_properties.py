"""Properties over random histories: value is conserved, nonces rise, nothing applies twice, all nodes agree."""

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mpisa.ledger.transition import execute_block
from mpisa.primitives import merkle
from mpisa.primitives.account import Account
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Faucet, Publish, SetName, Transfer
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.record import ArtefactKind, ProvenanceRecord
from mpisa.primitives.state_keys import ACCOUNT_SPACE
from mpisa.primitives.transaction import decode_transaction

CIDS = [Cid.of(bytes((i,))) for i in range(3)]
HANDLES = ["ann", "ben", "reserved"]
PEOPLE = 4

amounts = st.one_of(st.integers(1, 50), st.integers(1, 2_000_000), st.just((1 << 64) - 1))
people = st.integers(0, PEOPLE - 1)
operations = st.one_of(
    st.tuples(st.just("transfer"), people, amounts),
    st.tuples(st.just("faucet"), people, st.integers(1, 1_200)),
    st.tuples(st.just("name"), st.sampled_from(HANDLES), st.sampled_from([None, *CIDS])),
    st.tuples(st.just("publish"), st.sampled_from(CIDS), st.sampled_from([None, *CIDS])),
)
steps = st.fixed_dictionaries(
    {
        "sender": people,
        "operations": st.lists(operations, min_size=1, max_size=3),
        "nonce_shift": st.sampled_from([0, 0, 0, 0, 1, -1]),
        "fee": st.sampled_from([3, 3, 3, 2, 10, 5_000_000]),
        "replay": st.booleans(),
    }
)
histories = st.lists(st.lists(steps, max_size=6), max_size=6)
in_memory = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def build(step, keys):
    built = []
    for kind, first, second in step["operations"]:
        match kind:
            case "transfer":
                built.append(Transfer(keys[first].address, second))
            case "faucet":
                built.append(Faucet(keys[first].address, second))
            case "name":
                built.append(SetName(ArtefactName(first, "m"), second))
            case _:
                built.append(Publish(ProvenanceRecord(ArtefactKind.MODEL, first, 1, supersedes=second)))
    return built


def make_raws(chain, keys, block, old):
    """The block's transactions, those that can be signed, each behind its sender's earlier ones; and replays."""
    raws = []
    waiting = {}
    for step in block:
        key = keys[step["sender"]]
        account = chain.account(key)
        nonce = waiting.get(key.address, 0 if account is None else account.nonce) + step["nonce_shift"]
        try:
            signed = chain.sign(
                key, *build(step, keys), nonce=max(nonce, 0), fee=step["fee"], public_key=key.public_key
            )
        except Rejection:
            continue
        if step["nonce_shift"] == 0:
            waiting[key.address] = nonce + 1
        raws.append(signed.raw)
        if step["replay"] and old:
            raws.append(old[len(raws) % len(old)])
    return raws


def accounts_of(state):
    prefix = len(ACCOUNT_SPACE)
    return {
        key[prefix:]: Account.decode(key[prefix:], value)
        for key, value in state.items()
        if key.startswith(ACCOUNT_SPACE)
    }


def created_by(raw):
    return sum(op.amount for op in decode_transaction(raw).transaction.operations if isinstance(op, Faucet))


@in_memory
@given(histories=histories)
def test_random_histories_keep_the_ledgers_promises(histories, make_chain, make_key):
    chain = make_chain(minimum_fee=2, operation_fee=1, handle_fee=7, reserved_handles=("reserved",))
    keys = [chain.alice, chain.bob, make_key("dora"), make_key("emil", KeyKind.SECP256K1)]
    old = []
    final = set()
    for block in histories:
        raws = make_raws(chain, keys, block, old)
        before = accounts_of(chain.state)
        tree = merkle.build(chain.state)
        result = chain.execute(*raws)
        after = accounts_of(chain.state)

        burned = sum(receipt.fee for receipt in result.receipts)
        applied = [raw for raw, receipt in zip(raws, result.receipts, strict=True) if receipt.reason is None]
        created = sum(created_by(raw) for raw in applied)
        claims = sum(account.handles for account in after.values()) - sum(a.handles for a in before.values())
        assert sum(a.balance for a in after.values()) == (
            sum(a.balance for a in before.values()) + created - burned - 7 * claims
        )
        for address, account in before.items():
            senders = [decode_transaction(raw).transaction.sender for raw in raws]
            used = sum(
                receipt.nonce_used and sender == address
                for sender, receipt in zip(senders, result.receipts, strict=True)
            )
            assert after[address].nonce == account.nonce + used
        for receipt in result.receipts:
            assert (receipt.reason is None) == (receipt.status is ReceiptStatus.APPLIED)
            if receipt.nonce_used:
                assert receipt.tx_hash not in final
                final.add(receipt.tx_hash)
        assert [key for key, _ in result.changes] == sorted({key for key, _ in result.changes})
        assert merkle.root_hash(merkle.update(tree, result.changes)) == merkle.map_root(chain.state)
        old += raws


@in_memory
@given(block=st.lists(steps, max_size=12))
def test_execution_is_a_function_of_state_and_bytes(block, make_chain, make_key):
    chain = make_chain()
    keys = [chain.alice, chain.bob, make_key("dora"), make_key("emil")]
    raws = make_raws(chain, keys, block, [])
    shuffled = dict(sorted(chain.state.items(), reverse=True))
    first = execute_block(chain.state, raws, chain.context)
    asked = []

    def remembering(signed, key):
        asked.append((signed.raw, key))
        return signed.verify(key)

    second = execute_block(shuffled, raws, chain.context, signature_ok=remembering)
    assert first == second
    assert len(asked) == len(raws)


@in_memory
@given(block=st.lists(steps, min_size=1, max_size=8), cut=st.integers(0, 8))
def test_one_block_or_two_makes_no_difference_to_balances(block, cut, make_chain, make_key):
    chain = make_chain()
    keys = [chain.alice, chain.bob, make_key("dora"), make_key("emil")]
    raws = make_raws(chain, keys, block, [])
    whole = execute_block(chain.state, raws, chain.context)
    receipts = [*chain.execute(*raws[:cut]).receipts, *chain.execute(*raws[cut:]).receipts]
    assert receipts == list(whole.receipts)
    accounts = {key: value for key, value in whole.changes if key.startswith(ACCOUNT_SPACE)}
    assert accounts == {key: chain.state[key] for key in accounts}


@in_memory
@given(data=st.data())
def test_no_bytes_make_execution_raise(data, chain):
    good = chain.sign(
        chain.alice,
        Transfer(chain.bob.address, 1),
        Publish(ProvenanceRecord(ArtefactKind.MODEL, CIDS[0], 1, license="MIT")),
        SetName(ArtefactName("ann", "m"), CIDS[0]),
        public_key=chain.alice.public_key,
        memo="hello",
    ).raw
    mutated = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(mutated) - 1))
        action = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if action == "flip":
            mutated[place] ^= data.draw(st.integers(1, 255))
        elif action == "cut" and len(mutated) > 1:
            del mutated[place]
        else:
            mutated.insert(place, data.draw(st.integers(0, 255)))
    assume(mutated != good)
    raws = [bytes(mutated), data.draw(st.binary(max_size=80)), good]
    result = execute_block(chain.state, raws, chain.context)
    statuses = [receipt.status for receipt in result.receipts]
    assert statuses[2] is ReceiptStatus.APPLIED
    assert statuses[1] is ReceiptStatus.REJECTED
    assert statuses[0] is ReceiptStatus.REJECTED
