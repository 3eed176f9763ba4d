"""What to trust: a genesis document, or one later header of its chain.

A given file, a given hash, or the document in the home; or a header given as HEIGHT:HASH, whose chain hash then binds
the document that the node shows. Without any of them the node's own genesis is taken, and every result says in plain
words that nothing independent vouches for it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpisa.primitives.errors import IntegrityError, InvalidConfig, Rejection, UsageError
from mpisa.primitives.genesis import MAX_GENESIS_BYTES
from mpisa.primitives.header import decode_header
from mpisa.sdk.endpoint import find_genesis_file
from mpisa.sdk.verify import TrustedChain

if TYPE_CHECKING:
    from mpisa.sdk.async_client import AsyncClient

UNVOUCHED: Final = (
    "the genesis came from the node itself: nothing independent vouches for it (give --genesis FILE or its hash)"
)

_HASH: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
_TRUSTED_HEADER: Final = re.compile(r"([0-9]{1,18}):(?:0x)?([0-9a-fA-F]{64})")


async def choose_trust(
    client: AsyncClient, genesis: str | Path | None, trusted: str | None = None
) -> tuple[TrustedChain, str]:
    """The chain to trust, and where that trust comes from, in words. `trusted` is a header as HEIGHT:HASH."""
    if trusted is None:
        return await _choose_genesis(client, genesis)
    match = _TRUSTED_HEADER.fullmatch(trusted)
    if match is None:
        raise UsageError(
            f"trusted header: expected HEIGHT:HASH, got {trusted[:90]!r}",
            hint="`mpisa chain head` on a machine that you trust shows both",
        )
    height, digest = int(match[1]), match[2].lower()
    try:
        shown = (await client.headers(height, 1)).headers
        header = decode_header(bytes.fromhex(shown[0].header if shown else ""))
    except (ValueError, Rejection) as error:
        raise IntegrityError(f"header {height}: check 'format' failed: {error}") from None
    if header.height != height or header.hash.hex() != digest:
        raise IntegrityError(
            f"header {height}: check 'hash' failed: expected {digest}, the node's has {header.hash.hex()}",
            hint="this node is of another chain than the one you trust",
        )
    if genesis is not None:
        chain, where = await _choose_genesis(client, genesis)
        return chain.anchored_at(header), f"header {height}:{digest}, {where}"
    chain = _parse((await client.genesis()).document, "the node's genesis document")
    return chain.anchored_at(header), f"header {height}:{digest}, as given"  # its chain hash binds the document


async def _choose_genesis(client: AsyncClient, genesis: str | Path | None) -> tuple[TrustedChain, str]:
    wanted = _HASH.fullmatch(genesis) if isinstance(genesis, str) else None
    if wanted is not None:
        chain = _parse((await client.genesis()).document, "the node's genesis document")
        if chain.genesis_hash.hex() != wanted[1].lower():
            raise IntegrityError(
                f"genesis: check 'hash' failed: the node's document has {chain.genesis_hash.hex()}",
                hint="this node is of another chain than the one you trust",
            )
        return chain, f"genesis hash {chain.genesis_hash.hex()}, as given"
    path = Path(genesis) if genesis is not None else find_genesis_file(client.target.home)
    if path is None:
        return _parse((await client.genesis()).document, "the node's genesis document"), UNVOUCHED
    return _parse(_read(path), str(path)), f"genesis file {path}"


def _parse(document: str, where: str) -> TrustedChain:
    try:
        return TrustedChain.from_genesis(document)
    except Rejection as error:
        raise IntegrityError(f"{where}: check 'genesis' failed: {error}", hint=error.hint) from None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_GENESIS_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            f"no such genesis file: {path}", hint="--genesis takes a file or a hash of 64 hex digits"
        ) from None
    except OSError as error:
        raise InvalidConfig(f"{path}: can't be read: {error.strerror}") from None
    if len(data) > MAX_GENESIS_BYTES:
        raise InvalidConfig(f"{path}: longer than {MAX_GENESIS_BYTES} bytes: no genesis document")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidConfig(f"{path}: not UTF-8 text at byte {error.start}") from None
