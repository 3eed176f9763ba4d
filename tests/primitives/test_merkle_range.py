"""Range proofs: every interval of a map, and every way to cheat about one."""

import json
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.merkle import MapNode, MapProof, build, key_path, root_hash, update
from mpisa.primitives.merkle_range import RangeProof, prove_range, verify_range

FIRST, LAST = bytes(32), b"\xff" * 32
MAPS = st.dictionaries(st.binary(max_size=2), st.binary(max_size=2), min_size=1, max_size=30)

Entries = list[tuple[bytes, bytes]]


def by_path(items: dict[bytes, bytes]) -> Entries:
    return sorted(items.items(), key=lambda item: key_path(item[0]))


def within(items: dict[bytes, bytes], first: bytes, last: bytes) -> Entries:
    return [item for item in by_path(items) if first <= key_path(item[0]) <= last]


def is_refused(root: bytes, first: bytes, last: bytes, entries: Entries, proof: RangeProof) -> bool:
    try:
        verify_range(root, first, last, entries, proof)
    except Rejection as rejection:
        return rejection.reason is RejectionReason.BAD_PROOF
    return False


def an_end(items: dict[bytes, bytes]) -> st.SearchStrategy[bytes]:
    """A path anywhere, at an entry, or right beside one."""
    paths = [key_path(key) for key in items]
    beside = [(int.from_bytes(path, "big") + step).to_bytes(32, "big") for path in paths for step in (-1, 0, 1)]
    return st.one_of(st.sampled_from(beside), st.binary(min_size=32, max_size=32), st.sampled_from((FIRST, LAST)))


@st.composite
def ranges(draw: st.DrawFn) -> tuple[dict[bytes, bytes], bytes, bytes]:
    items = draw(MAPS)
    first, last = sorted((draw(an_end(items)), draw(an_end(items))))
    return items, first, last


@settings(max_examples=150)
@given(case=ranges())
def test_exactly_what_the_map_holds_is_accepted(case: tuple[dict[bytes, bytes], bytes, bytes]) -> None:
    items, first, last = case
    node = build(items)
    root = root_hash(node)
    entries = within(items, first, last)
    proof = prove_range(node, first, last)
    verify_range(root, first, last, entries, proof)
    assert RangeProof.decode(proof.encode()) == proof
    for at in range(len(entries)):
        key, value = entries[at]
        assert is_refused(root, first, last, entries[:at] + entries[at + 1 :], proof)
        assert is_refused(root, first, last, [*entries[:at], (key, value + b"x"), *entries[at + 1 :]], proof)
        assert is_refused(root, first, last, [*entries[: at + 1], *entries[at:]], proof)
    outside = [item for item in by_path(items) if item not in entries]
    for item in outside:
        assert is_refused(root, first, last, by_path(dict([*entries, item])), proof)
    assert is_refused(sha256(root).digest(), first, last, entries, proof)


@settings(max_examples=150)
@given(case=ranges(), extra=st.binary(min_size=3, max_size=4), data=st.data())
def test_a_changed_proof_never_carries_other_entries(
    case: tuple[dict[bytes, bytes], bytes, bytes], extra: bytes, data: st.DataObject
) -> None:
    """Neither a proof for another set of entries nor a mangled one makes a false set true."""
    items, first, last = case
    node = build(items)
    root = root_hash(node)
    entries = within(items, first, last)
    false_items = dict(items)
    dropped = data.draw(st.sampled_from([None, *entries]))
    if dropped is not None:
        del false_items[dropped[0]]
    else:
        false_items[extra] = b"forged"
    false_entries = within(false_items, first, last)
    false_proof = prove_range(build(false_items), first, last)
    for proof in (*mangled(prove_range(node, first, last), data), *mangled(false_proof, data)):
        if false_entries != entries:
            assert is_refused(root, first, last, false_entries, proof)
        assert is_refused(root, first, last, [*entries, (b"", b"")][::-1], proof)


def mangled(proof: RangeProof, data: st.DataObject) -> list[RangeProof]:
    """The proof, and twins with a half replaced: shorter, longer, another leaf, other siblings."""
    found = [proof, RangeProof(proof.right, proof.left)]
    for half in ("left", "right"):
        found += [replace(proof, **{half: twin}) for twin in twins(getattr(proof, half), data)]
    return found


def twins(half: MapProof, data: st.DataObject) -> list[MapProof]:
    digest = data.draw(st.binary(min_size=32, max_size=32))
    found = [
        replace(half, leaf=None),
        replace(half, leaf=(digest, digest)),
        replace(half, depth=half.depth + 1),
        replace(half, depth=half.depth + 1, bitmap=half.bitmap | 1 << half.depth, siblings=(*half.siblings, digest)),
    ]
    if half.depth:
        mask = (1 << (half.depth - 1)) - 1
        bitmap = half.bitmap & mask
        found.append(replace(half, depth=half.depth - 1, bitmap=bitmap, siblings=half.siblings[: bitmap.bit_count()]))
    if half.siblings:
        found.append(replace(half, siblings=(digest, *half.siblings[1:])))
        found.append(replace(half, siblings=half.siblings[1:], bitmap=half.bitmap & (half.bitmap - 1)))
    return found


def a_map() -> tuple[dict[bytes, bytes], MapNode | None]:
    items = {b"key %d" % n: b"value %d" % n for n in range(40)}
    return items, build(items)


def refusal(root: bytes, first: bytes, last: bytes, entries: Entries, proof: RangeProof) -> str:
    with pytest.raises(Rejection) as rejection:
        verify_range(root, first, last, entries, proof)
    return rejection.value.detail


def test_each_refusal_says_what_is_wrong() -> None:
    items, node = a_map()
    root = root_hash(node)
    everything = by_path(items)
    proof = prove_range(node, FIRST, LAST)
    assert refusal(bytes(32), FIRST, LAST, everything, proof) == "the root must be 32 bytes, not all zero"
    assert (
        refusal(root, LAST, FIRST, everything, proof) == "expected two paths of 32 bytes, the first not above the last"
    )
    order = "the entries aren't ascending by path, or one lies outside of the interval"
    assert refusal(root, FIRST, LAST, everything[::-1], proof) == order
    assert refusal(root, key_path(everything[1][0]), LAST, everything, proof) == order
    assert refusal(root, FIRST, key_path(everything[-2][0]), everything, proof) == order
    assert refusal(root, FIRST, LAST, [*everything[:20], *everything[21:]], proof).startswith("it leads to the root ")
    one = key_path(everything[7][0])
    narrow = prove_range(node, one, one)
    verify_range(root, one, one, everything[7:8], narrow)
    assert refusal(root, one, one, [], narrow) == "the entries aren't those that its ways end at"
    differently = RangeProof(narrow.left, replace(narrow.right, leaf=None))
    assert refusal(root, one, one, everything[7:8], differently) == "its two ways end differently in one place"
    inside = RangeProof(MapProof(1, 1, (bytes([1]) * 32,), None), proof.right)
    assert refusal(root, FIRST, LAST, everything, inside) == "its sibling at level 0 lies inside of the interval"
    elsewhere = (bytes([255]) * 32, bytes(32))
    astray = RangeProof(replace(proof.left, leaf=elsewhere), proof.right)
    assert refusal(root, FIRST, FIRST, [], astray) == "its two ways end differently in one place"


def test_a_leaf_that_does_not_belong_where_a_way_ends_is_refused() -> None:
    items, node = a_map()
    first = bytes([0x80]) + bytes(31)
    proof = prove_range(node, first, LAST)
    astray = RangeProof(replace(proof.left, leaf=(bytes(32), bytes(32))), proof.right)
    detail = refusal(root_hash(node), first, LAST, within(items, first, LAST)[1:], astray)
    assert detail == f"its leaf doesn't share the way's first {proof.left.depth} bits"


def test_decoding_is_bounded_and_strict() -> None:
    proof = prove_range(a_map()[1], FIRST, LAST)
    raw = proof.encode()
    for bad in (raw + b"\0", raw[:-1], b"", b"\x92\xc4\x01\x00\xc4\x01\x00", b"\xc0" * 30_000):
        with pytest.raises(Rejection):
            RangeProof.decode(bad)


def test_the_vectors_hold_in_ranges() -> None:
    """The maps of the shared vectors, cut into ranges of a few entries each, one after another."""
    chain = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text())
    for history in chain["map"]:
        node: MapNode | None = None
        items: dict[bytes, bytes] = {}
        for step in history["steps"]:
            changes = [(bytes.fromhex(k), None if v is None else bytes.fromhex(v)) for k, v in step["changes"]]
            node = update(node, changes)
            for key, value in changes:
                items.pop(key, None)
                if value is not None:
                    items[key] = value
        if not items:
            continue
        first, entries = FIRST, by_path(items)
        while entries:
            part, entries = entries[:3], entries[3:]
            last = key_path(part[-1][0]) if entries else LAST
            verify_range(bytes.fromhex(history["steps"][-1]["root"]), first, last, part, prove_range(node, first, last))
            first = (int.from_bytes(last, "big") + 1).to_bytes(32, "big") if entries else LAST
