"""Fetching what `verify` checks.

From the header that is trusted (see `trust`), one closing header an epoch leads to the validators of any later one; the
rules are in `verify` and `mpisa.primitives.light`.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, NotFound, Rejection
from mpisa.primitives.header import Certificate, Header, ValidatorSet, decode_header
from mpisa.primitives.identifiers import format_address, parse_address
from mpisa.primitives.light import CertifiedHeader
from mpisa.primitives.merkle import MapProof
from mpisa.primitives.state_keys import record_key
from mpisa.sdk import models
from mpisa.sdk.cosigned import verify_cosignatures
from mpisa.sdk.trust import choose_trust
from mpisa.sdk.verify import (
    Followed,
    StateProofBundle,
    TrustedChain,
    begin,
    follow,
    verify_headers,
    verify_no_fork,
    verify_record,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from mpisa.primitives.record import StoredRecord
    from mpisa.sdk.async_client import AsyncClient, Progress

PAGE_HEADERS: Final = 500
PAGE_EPOCHS: Final = 100


async def closed_epochs(client: AsyncClient, followed: Followed) -> AsyncIterator[CertifiedHeader]:
    """The closing headers that a node shows, from the epoch reached on, without a gap; nothing is verified yet."""
    epoch = followed.epoch
    while (page := await client.epochs(epoch, PAGE_EPOCHS)).epochs:
        for item in page.epochs:
            signed = certified_header(item.header, item.certificate, item.validators)
            if item.epoch != epoch or signed.header.epoch != epoch:
                raise IntegrityError(
                    f"epoch {epoch}: check 'gap' failed: the node shows epoch {item.epoch}",
                    hint="don't trust this node's answers",
                )
            if not signed.header.closes_epoch:
                raise IntegrityError(
                    f"header {signed.header.height}: check 'epoch' failed: it doesn't close epoch {epoch}",
                    hint="don't trust this node's answers",
                )
            yield signed
            epoch += 1


async def follow_epochs(client: AsyncClient, followed: Followed, epoch: int | None = None) -> Followed:
    """The chain followed over the closing headers that a node shows, to this epoch or to its latest."""
    if epoch is not None and followed.epoch >= epoch:
        return followed
    async for signed in closed_epochs(client, followed):
        followed = await asyncio.to_thread(follow, followed, signed, _now_ms())
        if followed.epoch == epoch:
            break
    return followed


async def verify_artefact(
    client: AsyncClient, cid: str, publisher: str | None, genesis: str | Path | None, trusted: str | None = None
) -> models.VerifyResult:
    """One record's certificate and proof; without a publisher that of the earliest record about the CID."""
    subject = Cid.parse(cid)
    chain, trust = await choose_trust(client, genesis, trusted)
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
    followed = await follow_epochs(client, begin(chain), bundle.header.epoch)
    stored, checks = await asyncio.to_thread(verify_record, chain, subject, address, bundle, followed)
    return models.VerifyResult(
        cid=cid,
        publisher=format_address(address),
        height=bundle.header.height,
        record=artefact_of(stored),
        checks=tuple(models.Check(name=check.name, detail=check.found) for check in checks),
        trust=trust,
    )


async def verify_chain(
    client: AsyncClient,
    genesis: str | Path | None,
    progress: Progress | None,
    *,
    trusted: str | None = None,
    is_skipping: bool = False,
    against: Sequence[AsyncClient] = (),
    is_cosigned: bool = False,
) -> models.ChainVerification:
    """Every header from the trusted one to the head that the node names at the start; of a skipping check the closing
    headers and the head alone. The heads of the nodes in `against` must not contradict this one's chain.
    """
    chain, trust = await choose_trust(client, genesis, trusted)
    head = await client.head()
    if is_skipping:
        followed, checked = await _skip_to(client, chain, head)
    else:
        checked = await _verify_all(client, chain, head, progress)
        followed = await _follow_to(client, begin(chain), head.height)
    for other in against:
        await _compare(client, other, followed)
    return models.ChainVerification(
        height=head.height,
        headers_checked=checked,
        valid=True,
        genesis_hash=chain.genesis_hash.hex(),
        trust=trust,
        compared=tuple(other.endpoint for other in against),
        cosigned=await verify_cosignatures(client, chain) if is_cosigned else None,
    )


async def _verify_all(
    client: AsyncClient, chain: TrustedChain, head: models.ChainHead, progress: Progress | None
) -> int:
    first = chain.anchor.height
    last: Header | None = chain.anchor if first > 0 else None
    checked = 1 if first > 0 else 0
    while last is None or last.height < head.height:
        wanted = first + checked
        page = await client.headers(wanted, min(PAGE_HEADERS, head.height + 1 - wanted))
        if not page.headers:
            raise IntegrityError(
                f"header {wanted}: check 'gap' failed: the node names height {head.height}, but shows none"
            )
        last = await asyncio.to_thread(_follow_page, chain, page, last)
        checked += len(page.headers)
        if progress is not None:
            progress(checked, head.height + 1 - first)
    if last.height == head.height:
        _require_head(last, head)
    return checked


async def _skip_to(client: AsyncClient, chain: TrustedChain, head: models.ChainHead) -> tuple[Followed, int]:
    """The chain followed to the head; how many headers that took, the trusted one included."""
    start = begin(chain)
    followed = await _follow_to(client, start, head.height)
    if followed.client.trusted.height == head.height:
        _require_head(followed.client.trusted, head)
    passed = followed.epoch - start.epoch
    is_at_close = followed.client.trusted.closes_epoch or head.height <= chain.anchor.height
    return followed, 1 + passed + (0 if is_at_close else 1)


async def _follow_to(client: AsyncClient, followed: Followed, height: int) -> Followed:
    """Over the closing headers, then straight to a height of the node's latest epoch."""
    followed = await follow_epochs(client, followed)
    if height <= followed.client.trusted.height:
        return followed
    return await asyncio.to_thread(follow, followed, await _certified_at(client, height), _now_ms())


async def _compare(client: AsyncClient, other: AsyncClient, followed: Followed) -> None:
    """Another node's chain against what was followed here: further along it, or at the height where it stands."""
    height = (await other.head()).height
    if height > followed.client.trusted.height:
        await _follow_to(other, followed, height)
    shared = min(height, followed.client.trusted.height)
    if shared > 0:
        ours, theirs = await _certified_at(client, shared), await _certified_at(other, shared)
        known = await follow_epochs(client, followed, theirs.header.epoch)
        await asyncio.to_thread(verify_no_fork, known, ours, theirs)


async def _certified_at(client: AsyncClient, height: int) -> CertifiedHeader:
    page = await client.headers(height, 1)
    if not page.headers:
        raise IntegrityError(f"header {height}: check 'gap' failed: {client.endpoint} names it, but doesn't show it")
    return certified_header(page.headers[0].header, page.headers[0].certificate, page.validators)


def _require_head(last: Header, head: models.ChainHead) -> None:
    if last.hash.hex() != head.hash:
        raise IntegrityError(f"header {head.height}: check 'head' failed: the node names {head.hash} as its head")


def certified_header(header: str, certificate: str | None, validators: str) -> CertifiedHeader:
    """A header answer, decoded (all hex); raises IntegrityError for one that isn't well-formed."""
    try:
        decoded = _header(header)
        if certificate is None:
            raise IntegrityError(
                f"header {decoded.height}: check 'certificate' failed: there is none",
                hint="don't trust this node's answers",
            )
        return CertifiedHeader(
            decoded, Certificate.decode(bytes.fromhex(certificate)), ValidatorSet.decode(bytes.fromhex(validators))
        )
    except (ValueError, Rejection) as error:
        raise IntegrityError(
            f"headers: check 'format' failed: {error}", hint="don't trust this node's answers"
        ) from None


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


def _follow_page(chain: TrustedChain, page: models.HeaderPage, last: Header | None) -> Header:
    try:
        headers = [(_header(item.header), _certificate(item.certificate)) for item in page.headers]
        validators = ValidatorSet.decode(bytes.fromhex(page.validators))
    except (ValueError, Rejection) as error:
        raise IntegrityError(
            f"headers: check 'format' failed: {error}", hint="don't trust this node's answers"
        ) from None
    return verify_headers(chain, headers, validators, last)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _header(text: str) -> Header:
    return decode_header(bytes.fromhex(text))


def _certificate(text: str | None) -> Certificate | None:
    return None if text is None else Certificate.decode(bytes.fromhex(text))
