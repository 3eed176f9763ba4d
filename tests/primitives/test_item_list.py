"""The list tree of tx_root and receipts_root: RFC 6962's shape, proofs for every place, every change refused."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.merkle import EMPTY_ROOT, MAX_LIST_ITEMS, ItemProof, list_root, prove_item, verify_item


def reference(items: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word by word; the empty list is ours."""
    if not items:
        return bytes(32)
    if len(items) == 1:
        return sha256(b"\x00" + items[0]).digest()
    split = 1 << (len(items) - 1).bit_length() - 1
    return sha256(b"\x01" + reference(items[:split]) + reference(items[split:])).digest()


def test_known_roots() -> None:
    """The first of RFC 6962's published test leaves: an empty item, a zero byte, 0x10."""
    assert list_root([]) == EMPTY_ROOT
    assert list_root([b""]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert list_root([b"", b"\x00"]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert (
        list_root([b"", b"\x00", b"\x10"]).hex() == "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"
    )


@pytest.mark.parametrize("count", [*range(1, 20), 31, 32, 33, 100])
def test_every_item_is_proved_and_nothing_else(count: int) -> None:
    items = [b"item/%d" % number for number in range(count)]
    root = list_root(items)
    assert root == reference(items)
    for index, item in enumerate(items):
        proof = prove_item(items, index)
        verify_item(root, item, proof)
        for bad_root, bad_item, bad_proof in [
            (sha256(root).digest(), item, proof),
            (root, item + b"x", proof),
            (root, item, ItemProof(index ^ 1, count, proof.siblings)),
            (root, item, ItemProof(count, count, proof.siblings)),
            (root, item, ItemProof(-1, count, proof.siblings)),
            (root, item, ItemProof(index, count, (*proof.siblings, root))),
            (root, item, ItemProof(index, count, (*proof.siblings[:-1], b"short"))),
            (root, item, ItemProof(index, MAX_LIST_ITEMS + 1, proof.siblings)),
        ]:
            with pytest.raises(Rejection) as refused:
                verify_item(bad_root, bad_item, bad_proof)
            assert refused.value.reason is RejectionReason.BAD_PROOF


@settings(deadline=None, max_examples=100)
@given(st.lists(st.binary(max_size=8), max_size=70))
def test_any_list_has_the_reference_root(items: list[bytes]) -> None:
    assert list_root(items) == reference(items)


def test_a_missing_sibling_is_refused() -> None:
    items = [b"a", b"b", b"c"]
    proof = prove_item(items, 0)
    with pytest.raises(Rejection) as refused:
        verify_item(list_root(items), b"a", ItemProof(0, 3, proof.siblings[:1]))
    assert str(refused.value) == "bad-proof: expected more than 1 siblings"


def test_there_is_no_proof_beyond_the_list() -> None:
    for index in (-1, 2):
        with pytest.raises(IndexError, match=f"no item {index} in a list of 2"):
            prove_item([b"a", b"b"], index)
