"""Each transaction is decoded and its signature verified once: remembered from the door to its execution, no longer."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mpisa.cli.bench.load.work import make_accounts, sign_all
from mpisa.node.transaction_cache import TransactionCache
from mpisa.primitives.transaction import SignedTransaction

ACCOUNTS = make_accounts(b"signatures", 2)
FIRST, SECOND = sign_all(ACCOUNTS, 2, bytes(32), 1)
KEY, OTHER_KEY = (account.key.public_key for account in ACCOUNTS)


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The hashes whose signatures were verified."""
    seen: list[bytes] = []
    verify = SignedTransaction.verify
    monkeypatch.setattr(SignedTransaction, "verify", lambda self, key: seen.append(self.hash) or verify(self, key))
    return seen


def test_a_good_one_is_remembered_until_it_is_executed(verified: list[bytes]) -> None:
    cache = TransactionCache()
    assert cache.check(FIRST, KEY)
    cache.keep(FIRST.raw, FIRST)
    assert cache.decode(FIRST.raw) is FIRST
    assert cache.check_last(FIRST, KEY)
    assert (len(cache), verified) == (0, [FIRST.hash])
    again = cache.decode(FIRST.raw)
    assert again == FIRST
    assert cache.check_last(again, KEY)
    assert verified == [FIRST.hash, FIRST.hash]


def test_the_same_body_under_another_signature_or_key_is_another_question() -> None:
    cache = TransactionCache()
    assert cache.check(FIRST, KEY)
    cache.keep(FIRST.raw, FIRST)
    forged = replace(FIRST, signature=SECOND.signature)
    assert forged.hash == FIRST.hash
    assert not cache.check(forged, KEY)
    cache.keep(forged.raw, forged)
    assert not cache.check_last(cache.decode(forged.raw), KEY)
    assert not cache.check_last(cache.decode(FIRST.raw), OTHER_KEY)
    assert len(cache) == 0


def test_what_wasnt_checked_last_is_not_kept() -> None:
    cache = TransactionCache()
    assert cache.check(FIRST, KEY)
    cache.keep(SECOND.raw, SECOND)
    assert len(cache) == 0


def test_the_bound_holds() -> None:
    cache = TransactionCache(bound=1)
    for signed, key in ((FIRST, KEY), (SECOND, OTHER_KEY)):
        assert cache.check(signed, key)
        cache.keep(signed.raw, signed)
    assert len(cache) == 1
    assert cache.decode(SECOND.raw) is SECOND
