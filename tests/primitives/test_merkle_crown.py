"""The crown against the definition of the map: every node, journals that undo, and the way down."""

from hashlib import sha256

from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.merkle import EMPTY_ROOT, build, key_path, prove_path, root_hash
from mpisa.primitives.merkle_bucket import bucket_node, leaf_hash
from mpisa.primitives.merkle_crown import BRANCH, EMPTY, EMPTY_NODE, LEAF, Crown, Node, crown_of, join, slot_of

BITS = 4


def slots_of(entries: dict[bytes, bytes]) -> list[tuple[int, Node]]:
    buckets: dict[int, bytes] = {}
    for path, value in sorted((key_path(key), value) for key, value in entries.items()):
        slot = slot_of(path, 0, BITS)
        buckets[slot] = buckets.get(slot, b"") + path + leaf_hash(path, value)
    return [(slot, bucket_node(bucket, BITS)) for slot, bucket in sorted(buckets.items())]


ENTRIES = st.dictionaries(st.binary(max_size=2), st.binary(max_size=2), max_size=40)


@settings(max_examples=60)
@given(before=ENTRIES, after=ENTRIES)
def test_the_root_is_the_maps_and_a_journal_undoes_a_change(
    before: dict[bytes, bytes], after: dict[bytes, bytes]
) -> None:
    crown = crown_of(BITS, slots_of(before))
    assert crown.root[1] == root_hash(build(before))
    nodes = crown.row(0, 2 << BITS)
    wanted = {slot: EMPTY_NODE for slot, _ in slots_of(before)} | dict(slots_of(after))
    journal = crown.replace(sorted(wanted.items()))
    assert crown.root[1] == root_hash(build(after))
    assert crown.row(0, 2 << BITS) == crown_of(BITS, slots_of(after)).row(0, 2 << BITS)
    crown.restore(journal)
    assert crown.row(0, 2 << BITS) == nodes
    assert crown.replace(sorted(wanted.items())) == journal


@settings(max_examples=60)
@given(entries=ENTRIES, key=st.binary(max_size=2))
def test_the_way_down_begins_as_the_proof_does(entries: dict[bytes, bytes], key: bytes) -> None:
    path = key_path(key)
    proof = prove_path(build(entries), path)
    found = crown_of(BITS, slots_of(entries)).descend(slot_of(path, 0, BITS))
    given_siblings = iter(proof.siblings)
    expected = [next(given_siblings) if proof.bitmap >> level & 1 else EMPTY_ROOT for level in range(proof.depth)]
    assert list(found.siblings) == expected[:BITS]
    if proof.depth < BITS:
        assert found.node[0] == (EMPTY if proof.leaf is None else LEAF)
    if found.node[0] == LEAF:
        assert proof.leaf is not None
        assert found.slot == slot_of(proof.leaf[0], 0, BITS)
        assert found.node[1] == sha256(b"\0" + proof.leaf[0] + proof.leaf[1]).digest()


def test_joining() -> None:
    leaf: Node = (LEAF, b"l" * 32)
    branch: Node = (BRANCH, b"b" * 32)
    assert join(EMPTY_NODE, EMPTY_NODE) == EMPTY_NODE
    assert join(leaf, EMPTY_NODE) == join(EMPTY_NODE, leaf) == leaf
    assert join(branch, EMPTY_NODE) == (BRANCH, sha256(b"\1" + branch[1] + bytes(32)).digest())
    assert join(EMPTY_NODE, branch) == (BRANCH, sha256(b"\1" + bytes(32) + branch[1]).digest())
    assert join(leaf, branch) == (BRANCH, sha256(b"\1" + leaf[1] + branch[1]).digest())


def test_filling_in_steps_is_filling_at_once() -> None:
    slots: list[tuple[int, Node]] = [
        (slot, (BRANCH, sha256(bytes([slot >> 8, slot & 255])).digest())) for slot in range(9000)
    ]
    crown = Crown(14)
    crown.fill(slots)
    at_once = Crown(14)
    at_once.replace(slots)
    assert crown.root == at_once.root
    assert crown.slot(8999) == slots[8999][1]
    assert crown.slot(9000) == EMPTY_NODE
