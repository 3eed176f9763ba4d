"""Records: what is kept under (subject, publisher), what a second publication changes, what may be superseded."""

from mpisa.primitives import codec
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import RejectionReason
from mpisa.primitives.identifiers import ArtefactName
from mpisa.primitives.operations import Publish, SetName
from mpisa.primitives.receipt import ReceiptStatus
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, StoredRecord


def test_a_record_is_kept_with_its_publication(chain, make_cid, make_record):
    record = make_record(
        "bert",
        media_type="application/octet-stream",
        license="Apache-2.0 OR (MIT AND CC-BY-4.0)",
        inputs=(
            Input("dataset", "train", cid=make_cid("wiki")),
            Input("base-model", "finetune", external=ExternalReference("huggingface", "google/bert", "main")),
        ),
    )
    signed = chain.sign(chain.alice, Publish(record))
    height, time_ms = chain.height, chain.time_ms
    chain.execute(signed.raw)
    stored = chain.record(make_cid("bert"), chain.alice)
    assert stored == StoredRecord(record, chain.alice.address, height, time_ms, signed.hash, time_ms)


def test_publishing_again_replaces_ones_own_record_and_keeps_the_first_time(chain, make_cid, make_record):
    first = chain.time_ms
    chain.run(chain.alice, Publish(make_record("bert")))
    chain.run(chain.alice, Publish(make_record("bert", license="MIT")))
    stored = chain.record(make_cid("bert"), chain.alice)
    assert (stored.record.license, stored.height, stored.time_ms) == ("MIT", 2, first + 10)
    assert stored.first_time_ms == first


def test_two_publishers_of_one_artefact_do_not_displace_each_other(chain, make_cid, make_record):
    chain.run(chain.alice, Publish(make_record("bert", license="MIT")))
    chain.run(chain.bob, Publish(make_record("bert", kind=ArtefactKind.DATASET)))
    assert chain.record(make_cid("bert"), chain.alice).record.license == "MIT"
    assert chain.record(make_cid("bert"), chain.bob).record.kind is ArtefactKind.DATASET


def test_only_ones_own_record_is_superseded(chain, make_cid, make_record):
    chain.run(chain.alice, Publish(make_record("v1")))
    newer = Publish(make_record("v2", supersedes=make_cid("v1")))
    assert chain.run(chain.bob, newer).reason is RejectionReason.UNKNOWN_RECORD
    assert chain.run(chain.alice, newer).status is ReceiptStatus.APPLIED


def test_a_bundle_publishes_supersedes_and_names_at_once(chain, make_cid, make_record):
    receipt = chain.run(
        chain.carol,
        Publish(make_record("v1")),
        Publish(make_record("v2", supersedes=make_cid("v1"))),
        SetName(ArtefactName("carol", "net"), make_cid("v2")),
    )
    assert receipt.status is ReceiptStatus.APPLIED
    assert chain.name("carol/net").cid == make_cid("v2")
    assert chain.record(make_cid("v2"), chain.carol).record.supersedes == make_cid("v1")


def test_a_failing_bundle_leaves_no_record(chain, make_cid, make_record):
    receipt = chain.run(chain.alice, Publish(make_record("v2")), Publish(make_record("v3", supersedes=make_cid("v1"))))
    assert receipt.reason is RejectionReason.UNKNOWN_RECORD
    assert chain.record(make_cid("v2"), chain.alice) is None


def test_stored_records_come_back_from_their_bytes(chain, make_record):
    stored = StoredRecord(make_record("bert", size=(1 << 63) - 1), chain.alice.address, 5, 6, bytes(32), 4)
    assert StoredRecord.decode(stored.encode()) == stored
    assert stored.to_json() == {
        "kind": "model",
        "subject": str(stored.record.subject),
        "size": (1 << 63) - 1,
        "media_type": None,
        "inputs": [],
        "license": None,
        "supersedes": None,
        "publisher": "0x" + chain.alice.address.hex(),
        "height": 5,
        "time_ms": 6,
        "tx": "00" * 32,
        "first_time_ms": 4,
    }


def test_the_largest_identity_subject_has_a_state_key(chain, make_record):
    subject = Cid(1, 0x55, 0, bytes(128))
    assert chain.run(chain.alice, Publish(make_record("x", subject=subject))).status is ReceiptStatus.APPLIED
    assert chain.record(subject, chain.alice).record.subject == subject


def test_superseding_a_cid_with_a_long_digest_is_refused_like_any_other(chain, make_record):
    unknown = Cid(1, 0x55, 0x13, bytes(100))
    receipt = chain.run(chain.alice, Publish(make_record("bert", supersedes=unknown)))
    assert (receipt.reason, receipt.nonce_used) == (RejectionReason.UNKNOWN_RECORD, True)
    assert receipt.detail.endswith(f"has no record of {unknown}")


def test_a_subject_with_a_long_digest_of_no_checked_hash_is_refused(chain, make_record):
    subject = Cid(1, 0x55, 0x13, bytes(100))
    value = make_record("bert").to_value() | {"subject": subject.to_bytes()}
    raw = chain.sign(chain.alice, Publish(make_record("bert"))).raw
    forged = raw.replace(codec.encode(make_record("bert").to_value()), codec.encode(value))
    assert chain.execute(forged).receipts[0].reason is RejectionReason.UNSUPPORTED_HASH
