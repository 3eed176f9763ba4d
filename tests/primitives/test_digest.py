"""Domain tags and the chain hash."""

import hashlib

from mpisa.primitives.digest import ZERO_DIGEST, chain_hash, sha256, tag_prefix, tagged


def test_sha256_joins_its_parts() -> None:
    assert sha256(b"ab", b"", b"c") == hashlib.sha256(b"abc").digest()
    assert len(ZERO_DIGEST) == 32


def test_a_tag_opens_what_is_hashed() -> None:
    assert tag_prefix("vertex") == b"MPISA/vertex/1\0"
    assert tagged("vertex", b"a", b"b") == hashlib.sha256(b"MPISA/vertex/1\0ab").digest()


def test_the_chain_hash_binds_name_and_genesis() -> None:
    genesis = bytes(range(32))
    assert chain_hash("devnet", genesis) == hashlib.sha256(b"MPISA/chain/1\0devnet\0" + genesis).digest()
    assert len({chain_hash("a", genesis), chain_hash("b", genesis), chain_hash("a", ZERO_DIGEST)}) == 3
