"""Each signature is verified once: remembered from the door to its execution, and no longer."""

from __future__ import annotations

from dataclasses import replace

from mpisa.cli.bench.load.work import make_accounts, sign_all
from mpisa.node.execution import SignatureCache

ACCOUNTS = make_accounts(b"signatures", 2)
FIRST, SECOND = sign_all(ACCOUNTS, 2, bytes(32), 1)
KEY = ACCOUNTS[0].key.public_key


def test_a_good_one_is_remembered_until_it_is_executed() -> None:
    cache = SignatureCache()
    assert cache.check(FIRST, KEY)
    assert len(cache) == 1
    assert cache.check(FIRST, KEY)
    assert cache.check_last(FIRST, KEY)
    assert len(cache) == 0
    assert cache.check_last(FIRST, KEY)
    assert len(cache) == 0


def test_the_same_body_under_another_signature_or_key_is_another_question() -> None:
    cache = SignatureCache()
    assert cache.check(FIRST, KEY)
    forged = replace(FIRST, signature=SECOND.signature)
    assert forged.hash == FIRST.hash
    assert not cache.check(forged, KEY)
    assert not cache.check_last(forged, KEY)
    assert not cache.check_last(FIRST, ACCOUNTS[1].key.public_key)
    assert len(cache) == 1


def test_the_bound_holds() -> None:
    cache = SignatureCache(bound=1)
    assert cache.check(FIRST, KEY)
    assert cache.check(SECOND, ACCOUNTS[1].key.public_key)
    assert len(cache) == 1
