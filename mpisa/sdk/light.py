"""Fetching what `verify` checks, and finding a genesis to trust.

Trust comes from a genesis document: a given file, a given hash, or the one in the home. Without any, the node's own is
taken, and every result says in plain words that nothing independent vouches for it.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, InvalidConfig, NotFound, Rejection, UsageError
from mpisa.primitives.genesis import MAX_GENESIS_BYTES
from mpisa.primitives.header import Certificate, Header, ValidatorSet, decode_header
from mpisa.primitives.identifiers import format_address, parse_address
from mpisa.primitives.merkle import MapProof
from mpisa.primitives.state_keys import record_key
from mpisa.sdk import models
from mpisa.sdk.endpoint import find_genesis_file
from mpisa.sdk.verify import Position, StateProofBundle, TrustedChain, verify_headers, verify_record

if TYPE_CHECKING:
    from mpisa.primitives.record import StoredRecord
    from mpisa.sdk.async_client import AsyncClient, Progress

PAGE_HEADERS: Final = 500
UNVOUCHED: Final = (
    "the genesis came from the node itself: nothing independent vouches for it (give --genesis FILE or its hash)"
)

_HASH: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")


async def choose_trust(client: AsyncClient, genesis: str | Path | None) -> tuple[TrustedChain, str]:
    """The chain to trust, and where that trust comes from, in words."""
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


async def verify_artefact(
    client: AsyncClient, cid: str, publisher: str | None, genesis: str | Path | None
) -> models.VerifyResult:
    """One record's certificate and proof; without a publisher that of the earliest record about the CID."""
    subject = Cid.parse(cid)
    chain, trust = await choose_trust(client, genesis)
    if publisher is None:
        records = (await client.artefact(cid)).records
        if not records:
            raise NotFound(f"no record about {cid}", hint="`mpisa publish` makes one")
        publisher = records[0].publisher
    address = parse_address(publisher)
    key = record_key(subject, address)
    answer = await client.proof(key)
    if answer.value is None:
        raise NotFound(f"no record about {cid} by {publisher}", hint="`mpisa lineage CID` shows who published it")
    bundle = read_bundle(answer)
    stored, checks = await asyncio.to_thread(verify_record, chain, subject, address, bundle)
    return models.VerifyResult(
        cid=cid,
        publisher=format_address(address),
        height=bundle.header.height,
        record=artefact_of(stored),
        checks=tuple(models.Check(name=check.name, detail=check.found) for check in checks),
        trust=trust,
    )


async def verify_chain(
    client: AsyncClient, genesis: str | Path | None, progress: Progress | None
) -> models.ChainVerification:
    """Every header from genesis to the head that the node names at the start."""
    chain, trust = await choose_trust(client, genesis)
    head = await client.head()
    position: Position | None = None
    checked = 0
    while position is None or position.header.height < head.height:
        page = await client.headers(checked, min(PAGE_HEADERS, head.height + 1 - checked))
        if not page.headers:
            raise IntegrityError(
                f"header {checked}: check 'gap' failed: the node names height {head.height}, but shows none"
            )
        position = await asyncio.to_thread(_follow, chain, page, position)
        checked += len(page.headers)
        if progress is not None:
            progress(checked, head.height + 1)
    if position.header.height == head.height and position.header.hash.hex() != head.hash:
        raise IntegrityError(f"header {head.height}: check 'head' failed: the node names {head.hash} as its head")
    return models.ChainVerification(
        height=position.header.height,
        headers_checked=checked,
        valid=True,
        genesis_hash=chain.genesis_hash.hex(),
        trust=trust,
    )


def read_bundle(answer: models.StateProof) -> StateProofBundle:
    """A proof answer, decoded; raises IntegrityError for one that isn't well-formed."""
    try:
        return StateProofBundle(
            header=_header(answer.header),
            certificate=_certificate(answer.certificate),
            validators=ValidatorSet.decode(bytes.fromhex(answer.validators)),
            key=bytes.fromhex(answer.key),
            value=None if answer.value is None else bytes.fromhex(answer.value),
            proof=MapProof.from_json(answer.proof.to_dict()),
        )
    except (ValueError, Rejection) as error:
        raise IntegrityError(f"proof: check 'format' failed: {error}", hint="don't trust this node's answers") from None


def artefact_of(stored: StoredRecord) -> models.Artefact:
    """A stored record as the SDK shows it."""
    record = stored.record
    return models.Artefact(
        cid=str(record.subject),
        kind=record.kind.value,
        size=record.size,
        publisher=format_address(stored.publisher),
        height=stored.height,
        time_ms=stored.time_ms,
        first_time_ms=stored.first_time_ms,
        tx=stored.tx_hash.hex(),
        media_type=record.media_type,
        license=record.license,
        supersedes=None if record.supersedes is None else str(record.supersedes),
        inputs=tuple(
            models.Input(
                role=item.role,
                relation=item.relation,
                cid=None if item.cid is None else str(item.cid),
                external=None if item.external is None else models.External(**item.external.to_json()),
                resolved=item.cid is not None,
            )
            for item in record.inputs
        ),
    )


def _follow(chain: TrustedChain, page: models.HeaderPage, position: Position | None) -> Position:
    try:
        headers = [(_header(item.header), _certificate(item.certificate)) for item in page.headers]
        validators = ValidatorSet.decode(bytes.fromhex(page.validators))
    except (ValueError, Rejection) as error:
        raise IntegrityError(
            f"headers: check 'format' failed: {error}", hint="don't trust this node's answers"
        ) from None
    return verify_headers(chain, headers, validators, position)


def _header(text: str) -> Header:
    return decode_header(bytes.fromhex(text))


def _certificate(text: str | None) -> Certificate | None:
    return None if text is None else Certificate.decode(bytes.fromhex(text))


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
