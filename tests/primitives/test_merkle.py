"""The state map: the shared vectors, a naive reference over random histories, and every refusal of a proof."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.merkle import (
    EMPTY_ROOT,
    MAX_PROOF_BYTES,
    Branch,
    Leaf,
    MapNode,
    MapProof,
    build,
    key_path,
    map_root,
    prove,
    root_hash,
    update,
    verify_absence,
    verify_membership,
)

CHAIN = json.loads((Path(__file__).parents[1] / "vectors" / "chain.json").read_text())
HISTORIES = CHAIN["map"]


def naive_root(entries: dict[bytes, bytes], depth: int = 0) -> bytes:
    """The definition, word by word: entries by path as a string of bits."""
    if not entries:
        return bytes(32)
    if len(entries) == 1:
        ((path, value_hash),) = entries.items()
        return sha256(b"\x00" + path + value_hash).digest()
    sides: tuple[dict[bytes, bytes], dict[bytes, bytes]] = ({}, {})
    for path, value_hash in entries.items():
        sides[int(f"{int.from_bytes(path, 'big'):0256b}"[depth])][path] = value_hash
    return sha256(b"\x01" + naive_root(sides[0], depth + 1) + naive_root(sides[1], depth + 1)).digest()


def hashed(items: dict[bytes, bytes]) -> dict[bytes, bytes]:
    return {sha256(key).digest(): sha256(value).digest() for key, value in items.items()}


def nodes_of(node: MapNode | None) -> set[int]:
    found, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current is not None:
            found.add(id(current))
            if isinstance(current, Branch):
                waiting += [current.left, current.right]
    return found


def refused(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> str:
    with pytest.raises(Rejection) as rejection:
        verify(root, key, value, proof)
    assert rejection.value.reason is RejectionReason.BAD_PROOF
    return rejection.value.detail


def verify(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> None:
    if value is None:
        verify_absence(root, key, proof)
    else:
        verify_membership(root, key, value, proof)


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: f"seed {history['seed']}")
def test_the_vectors(history: dict[str, Any]) -> None:
    """Every root after every step; every proof byte for byte, accepted, and refused when anything is changed."""
    node: MapNode | None = None
    entries: dict[bytes, bytes] = {}
    for step in history["steps"]:
        changes = [
            (bytes.fromhex(key), None if value is None else bytes.fromhex(value)) for key, value in step["changes"]
        ]
        node = update(node, changes)
        for key, value in changes:
            entries.pop(key, None)
            if value is not None:
                entries[key] = value
        assert root_hash(node).hex() == step["root"]
        assert map_root(entries).hex() == step["root"]
        for expected in step["proofs"]:
            key = bytes.fromhex(expected["key"])
            proof = prove(node, key)
            assert proof.to_json() == {name: expected[name] for name in ("depth", "bitmap", "siblings", "leaf")}
            assert MapProof.from_json(proof.to_json()) == proof
            assert MapProof.decode(proof.encode()) == proof
            assert expected["present"] == (key in entries)
            if node is None:
                assert refused(EMPTY_ROOT, key, None, proof) == "the root must be 32 bytes, not all zero"
            else:
                check_proof_and_its_tampered_twins(root_hash(node), key, entries.get(key), proof)


def check_proof_and_its_tampered_twins(root: bytes, key: bytes, value: bytes | None, proof: MapProof) -> None:
    verify(root, key, value, proof)
    refused(sha256(root).digest(), key, value, proof)
    refused(root, key, b"" if value is None else None, proof)
    if value is not None:
        refused(root, key, value + b"\0", proof)
        refused(root, key + b"\0", value, proof)
    for twin in tampered(proof):
        refused(root, key, value, twin)


def tampered(proof: MapProof) -> list[MapProof]:
    depth, bitmap, siblings, leaf = proof.depth, proof.bitmap, proof.siblings, proof.leaf
    twins = [
        MapProof(depth + 1, bitmap, siblings, leaf),
        MapProof(depth + 1, bitmap | 1 << depth, (*siblings, EMPTY_ROOT), leaf),
        MapProof(depth, bitmap | 1 << depth, (*siblings, b"\x01" * 32), leaf),
        MapProof(depth, bitmap, (*siblings, b"\x01" * 32), leaf),
        MapProof(depth, bitmap ^ 1, siblings, leaf),
    ]
    if depth:
        twins.append(MapProof(depth - 1, bitmap, siblings, leaf))
    for index, sibling in enumerate(siblings):
        twins += [
            MapProof(depth, bitmap, (*siblings[:index], changed, *siblings[index + 1 :]), leaf)
            for changed in (bytes((sibling[0] ^ 1,)) + sibling[1:], sibling[:-1], sibling + b"\0", EMPTY_ROOT)
        ]
        twins.append(MapProof(depth, bitmap, siblings[:index] + siblings[index + 1 :], leaf))
    for level in range(depth):
        if not bitmap >> level & 1:
            position = (bitmap & ((1 << level) - 1)).bit_count()
            twins.append(
                MapProof(depth, bitmap | 1 << level, (*siblings[:position], EMPTY_ROOT, *siblings[position:]), leaf)
            )
    if leaf is None:
        twins.append(MapProof(depth, bitmap, siblings, (bytes(32), bytes(32))))
    else:
        path, value_hash = leaf
        twins += [
            MapProof(depth, bitmap, siblings, None),
            MapProof(depth, bitmap, siblings, (path, sha256(value_hash).digest())),
            MapProof(depth, bitmap, siblings, (path[:-1], value_hash)),
            MapProof(depth, bitmap, siblings, (path, value_hash + b"\0")),
        ]
    return twins


keys = st.integers(0, 60).map(lambda number: b"key/%d" % number)
changes = st.lists(st.tuples(keys, st.none() | st.binary(max_size=8)), max_size=30)


@settings(deadline=None, max_examples=150)
@given(st.lists(changes, max_size=6))
def test_any_history_gives_the_root_of_the_entries_left(history: list[list[tuple[bytes, bytes | None]]]) -> None:
    node: MapNode | None = None
    entries: dict[bytes, bytes] = {}
    versions = []
    for step in history:
        node = update(node, step)
        for key, value in step:
            entries.pop(key, None)
            if value is not None:
                entries[key] = value
        assert root_hash(node) == naive_root(hashed(entries))
        versions.append((node, dict(entries)))
    for version, then in versions:  # older versions stay whole
        root = root_hash(version)
        assert root == naive_root(hashed(then))
        if version is None:
            continue
        for key in (b"key/%d" % number for number in range(0, 60, 7)):
            verify(root, key, then.get(key), prove(version, key))


def test_the_order_of_changes_matters_for_one_key_alone() -> None:
    assert map_root({b"a": b"2"}) == root_hash(update(None, [(b"a", b"1"), (b"a", None), (b"a", b"2")]))
    assert update(None, [(b"a", b"1"), (b"a", None)]) is None
    assert root_hash(update(None, [(b"a", b"1"), (b"b", b"2")])) == root_hash(
        update(None, [(b"b", b"2"), (b"a", b"1")])
    )


def test_the_empty_map_has_a_zero_root() -> None:
    assert build({}) is None
    assert map_root({}) == EMPTY_ROOT == bytes(32)
    assert prove(None, b"a") == MapProof(0, 0, (), None)


def test_an_update_shares_what_it_doesnt_touch() -> None:
    items = {b"key/%d" % number: b"value" for number in range(1000)}
    node = build(items)
    before = nodes_of(node)
    changed = update(node, [(b"key/7", b"other")])
    made = nodes_of(changed) - before
    assert len(made) <= prove(node, b"key/7").depth + 1
    assert update(node, []) is node
    assert update(node, list(items.items())) is node
    assert update(node, [(b"absent/%d" % number, None) for number in range(100)]) is node
    assert root_hash(update(changed, [(b"key/7", b"value")])) == root_hash(node)


def test_paths_may_part_at_the_last_bit() -> None:
    """Depth 256 is the deepest: a chain of 255 branches with one side, then two leaves."""
    path = key_path(b"key")
    twin = Leaf(path[:-1] + bytes((path[-1] ^ 1,)), sha256(b"twin").digest())
    node = update(twin, [(b"key", b"value")])
    root = root_hash(node)
    proof = prove(node, b"key")
    assert (proof.depth, proof.bitmap, proof.siblings) == (256, 1 << 255, (twin.hash,))
    assert proof.leaf == (path, sha256(b"value").digest())
    verify_membership(root, b"key", b"value", proof)
    assert MapProof.decode(proof.encode()) == proof
    assert update(node, [(b"key", None)]) is twin  # the lone leaf rises through all 256 levels
    verify_absence(twin.hash, b"key", MapProof(0, 0, (), (twin.path, twin.value_hash)))


def test_the_largest_proof_fits_its_bound() -> None:
    proof = MapProof(
        256, (1 << 256) - 1, tuple([bytes((number,)) * 32 for number in (*range(1, 256), 255)]), (bytes(32), bytes(32))
    )
    encoded = proof.encode()
    assert MapProof.decode(encoded) == proof
    assert len(encoded) <= MAX_PROOF_BYTES


def one_of_two() -> tuple[bytes, bytes, MapProof]:
    """Root, a key and the proof of its value in a map of two."""
    node = build({b"a": b"1", b"b": b"2"})
    return root_hash(node), b"a", prove(node, b"a")


def test_each_refusal_says_what_is_wrong() -> None:
    root, key, proof = one_of_two()
    depth, bitmap, siblings, leaf = proof.depth, proof.bitmap, proof.siblings, proof.leaf
    assert (depth, bitmap, len(siblings)) == (1, 1, 1)
    verify_membership(root, key, b"1", proof)
    cases = [
        (root, MapProof(257, bitmap, siblings, leaf), "expected a depth of 0..256, got 257"),
        (root, MapProof(-1, bitmap, siblings, leaf), "expected a depth of 0..256, got -1"),
        (root, MapProof(1, 3, (*siblings, root), leaf), "its bitmap has bits at or above its depth of 1"),
        (root, MapProof(1, -1, siblings, leaf), "its bitmap has bits at or above its depth of 1"),
        (root, MapProof(1, 1, (), leaf), "its bitmap names 1 siblings, got 0"),
        (root, MapProof(1, 0, siblings, leaf), "its bitmap names 0 siblings, got 1"),
        (root, MapProof(1, 1, (EMPTY_ROOT,), leaf), "an empty sibling is listed"),
        (root, MapProof(1, 1, (b"short",), leaf), "expected siblings of 32 bytes, got 5"),
        (root, MapProof(1, 1, siblings, None), "it proves absence, not membership"),
        (root, MapProof(1, 1, siblings, (bytes(32), bytes(32))), "its leaf isn't this key and value"),
        (EMPTY_ROOT, proof, "the root must be 32 bytes, not all zero"),
        (root[:31], proof, "the root must be 32 bytes, not all zero"),
        (b"\x01" * 32, proof, f"it leads to the root {root.hex()}, expected {'01' * 32}"),
    ]
    for against, bad, detail in cases:
        assert refused(against, key, b"1", bad) == detail


def test_absence_is_refused_for_the_key_itself_or_a_leaf_elsewhere() -> None:
    root, key, proof = one_of_two()
    assert refused(root, key, None, proof) == "its leaf is the key itself: it proves membership, not absence"
    assert proof.leaf is not None
    elsewhere = next(
        absent for absent in (b"absent/%d" % i for i in range(99)) if (key_path(absent)[0] ^ key_path(key)[0]) & 0x80
    )
    assert refused(root, elsewhere, None, proof) == "its leaf doesn't share the key's first 1 bits"


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_proof_or_rejected(raw: bytes) -> None:
    try:
        proof = MapProof.decode(raw)
    except Rejection:
        return
    assert proof.encode() == raw


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 1000), st.integers(0, 255))
def test_a_changed_byte_never_makes_another_proof_of_the_same(position: int, byte: int) -> None:
    items = {b"key/%d" % number: b"%d" % number for number in range(40)}
    node = build(items)
    raw = bytearray(prove(node, b"key/5").encode())
    position %= len(raw)
    if raw[position] == byte:
        return
    raw[position] = byte
    with pytest.raises(Rejection):
        verify_membership(root_hash(node), b"key/5", b"5", MapProof.decode(bytes(raw)))


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"depth": 1, "bitmap": "0x1", "siblings": ["zz"], "leaf": None},
        {"depth": 1, "bitmap": "0x1", "siblings": [5], "leaf": None},
        {"depth": 1, "bitmap": "1", "siblings": ["11" * 32], "leaf": None},
        {"depth": 1, "bitmap": "0x" + "0" * 64 + "1", "siblings": ["11" * 32], "leaf": None},
        {"depth": 1, "bitmap": "0x1\n", "siblings": ["11" * 32], "leaf": None},
        {"depth": "1", "bitmap": "0x1", "siblings": ["11" * 32], "leaf": None},
        {"depth": 1, "bitmap": "0x1", "siblings": ["11" * 31], "leaf": None},
        {"depth": 1, "bitmap": "0x1", "siblings": ["11" * 32], "leaf": {"path": "00"}},
        {"depth": 1, "bitmap": "0x1", "siblings": ["11" * 32], "leaf": 5},
        {"depth": 1, "bitmap": "0x1", "siblings": ["11" * 32], "leaf": {"path": "00", "value_hash": "00"}},
        {"depth": 256, "bitmap": "0x1", "siblings": ["11" * 32] * 257, "leaf": None},
    ],
)
def test_other_json_is_no_proof(value: object) -> None:
    with pytest.raises(Rejection) as rejection:
        MapProof.from_json(value)
    assert rejection.value.reason is RejectionReason.BAD_PROOF
