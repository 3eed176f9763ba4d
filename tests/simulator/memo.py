"""Signature checks remembered: all nodes of a world run in one process and check the same signatures over and over.

Each is checked for real the first time; what is remembered is the answer to exactly the same bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from mpisa.primitives import secp256k1

_REMEMBERED = 1 << 15
_recover = secp256k1.recover_address
_remembered = lru_cache(maxsize=_REMEMBERED)(_recover)


@contextmanager
def remembered_signatures() -> Iterator[None]:
    """Within this, an address is recovered from the same digest and signature once."""
    before = secp256k1.recover_address
    secp256k1.recover_address = _remembered
    try:
        yield
    finally:
        secp256k1.recover_address = before
