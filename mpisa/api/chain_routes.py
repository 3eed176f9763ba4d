"""The chain: head, blocks, headers, state, proofs, accounts."""

from __future__ import annotations

from typing import Final

import msgspec
from aiohttp import web

from mpisa.api import convert
from mpisa.api.routing import (
    DEFAULT_PAGE,
    HEIGHT,
    LIMIT,
    MAX_HEIGHT,
    Answer,
    Context,
    Query,
    Route,
    read_height,
    read_hex,
    read_int,
    read_json,
    read_limit,
)
from mpisa.primitives.errors import UsageError
from mpisa.primitives.header import HEADER_BYTES, Certificate, decode_header
from mpisa.primitives.identifiers import parse_address
from mpisa.sdk import models

HASH_BYTES: Final = 32
MAX_REPORTED: Final = 2
MAX_CERTIFICATE_BYTES: Final = 32 + 64 * 256


class ReportedHeader(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A header and its certificate, in hex."""

    header: str
    certificate: str


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One certified header above its epoch's end, or two of one height."""

    headers: list[ReportedHeader]


async def head(context: Context, request: web.Request) -> Answer:
    return convert.head(context.node.chain.head())


async def genesis(context: Context, request: web.Request) -> Answer:
    return convert.genesis(context.node.chain.genesis)


async def block(context: Context, request: web.Request) -> Answer:
    text = request.match_info["block"]
    if text.isascii() and text.isdigit() and len(text) < 20:
        return convert.chain_block(context.node.chain.block(int(text)))
    found = read_hex(text, "block (a height or a hash)", length=HASH_BYTES)
    return convert.chain_block(context.node.chain.block(found))


async def headers(context: Context, request: web.Request) -> Answer:
    first = read_int(request, "from", 0, 0, MAX_HEIGHT) or 0
    newest = context.node.chain.head().height
    if first > newest:
        return convert.header_page((), None)
    bundles = context.node.chain.headers(first, min(read_limit(request), newest + 1 - first))
    same = [bundle for bundle in bundles if bundle.validators == bundles[0].validators]
    last = same[-1].header.height if same else newest
    return convert.header_page(same, last + 1 if last < newest else None)


async def epochs(context: Context, request: web.Request) -> Answer:
    first = read_int(request, "from", 0, 0, MAX_HEIGHT) or 0
    limit = read_limit(request)
    closed = context.node.chain.epochs(first, limit)
    return convert.epoch_page(closed, first + len(closed) if len(closed) == limit else None)


async def cosignatures(context: Context, request: web.Request) -> Answer:
    text = request.match_info["epoch"]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise UsageError(f"epoch: expected a number, got {text[:40]!r}")
    return convert.cosignatures(int(text), *context.node.chain.cosignatures(int(text)))


async def validators(context: Context, request: web.Request) -> Answer:
    chain = context.node.chain
    height = read_height(request)
    at = chain.head().height if height is None else height
    return convert.validators(chain.validators(at), chain.validator_names(at), at, chain.header(at).epoch)


async def report(context: Context, request: web.Request) -> Answer:
    body: Report = await read_json(request, Report)
    if not 1 <= len(body.headers) <= MAX_REPORTED:
        raise UsageError(f"headers: expected 1 to {MAX_REPORTED}, got {len(body.headers)}")
    headers = []
    for at, item in enumerate(body.headers):
        header = read_hex(item.header, f"headers[{at}].header", length=HEADER_BYTES)
        certificate = read_hex(item.certificate, f"headers[{at}].certificate", max_length=MAX_CERTIFICATE_BYTES)
        headers.append((decode_header(header), Certificate.decode(certificate)))
    return convert.offences(await context.node.report(headers))


async def staking(context: Context, request: web.Request) -> Answer:
    return convert.staking(*context.node.chain.staking())


async def stake(context: Context, request: web.Request) -> Answer:
    return convert.stake(*context.node.chain.stake(parse_address(request.match_info["address"])))


async def state(context: Context, request: web.Request) -> Answer:
    chain = context.node.chain
    key = read_hex(request.match_info["key"], "key")
    height = read_height(request)
    value = chain.state(key, height)
    at = chain.head().height if height is None else height
    return models.StateValue(key=key.hex(), height=at, value=None if value is None else value.hex())


async def proof(context: Context, request: web.Request) -> Answer:
    key = read_hex(request.match_info["key"], "key")
    return convert.state_proof(context.node.chain.prove(key, read_height(request)))


async def account(context: Context, request: web.Request) -> Answer:
    return convert.account(context.node.chain.account(parse_address(request.match_info["address"])))


_FROM: Final = Query("from", {"type": "integer", "minimum": 0, "maximum": MAX_HEIGHT}, "The first height; 0.")
_FROM_EPOCH: Final = Query("from", {"type": "integer", "minimum": 0, "maximum": MAX_HEIGHT}, "The first epoch; 0.")

ROUTES = (
    Route("GET", "/v1/chain/head", head, "The newest certified chain block", "chain", models.ChainHead),
    Route("GET", "/v1/chain/genesis", genesis, "The genesis document", "chain", models.GenesisDocument),
    Route(
        "GET",
        "/v1/chain/blocks/{block}",
        block,
        "A chain block by height or header hash",
        "chain",
        models.ChainBlock,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/chain/headers",
        headers,
        "Certified headers in ascending order, for light clients",
        "chain",
        models.HeaderPage,
        description=f"A page is of one validator set; `next` is the next page's `from`. {DEFAULT_PAGE} a page.",
        query=(_FROM, LIMIT),
    ),
    Route(
        "GET",
        "/v1/chain/epochs",
        epochs,
        "Closing headers in ascending order of epoch: how a light client gets from one validator set to the next",
        "chain",
        models.EpochPage,
        description=f"The running epoch has no closing header yet. {DEFAULT_PAGE} a page.",
        query=(_FROM_EPOCH, LIMIT),
    ),
    Route(
        "GET",
        "/v1/chain/epochs/{epoch}/cosignatures",
        cosignatures,
        "ML-DSA-65 signatures of an epoch's closing header, as far as this node holds them",
        "chain",
        models.Cosignatures,
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/chain/validators",
        validators,
        "The validator set in force at a height",
        "chain",
        models.Validators,
        query=(HEIGHT,),
        errors=(404,),
    ),
    Route(
        "POST",
        "/v1/chain/evidence",
        report,
        "Report certified headers that contradict each other, or lie above their epoch's end",
        "chain",
        models.Offences,
        description="Whoever signed both headers of a height, or one above its epoch's end, is convicted with the next "
        "vertex. Give what a light client saw: it froze over these headers. Headers that prove nothing are refused.",
        body=Report,
        consumes=("application/json",),
        errors=(413, 422, 503),
    ),
    Route(
        "GET",
        "/v1/chain/staking",
        staking,
        "How validators stand: power now and next, stake, who joins, leaves or is jailed",
        "chain",
        models.Staking,
    ),
    Route(
        "GET",
        "/v1/chain/staking/{address}",
        stake,
        "What an operator has at stake, and what is on its way back",
        "chain",
        models.Stake,
    ),
    Route(
        "GET",
        "/v1/chain/state/{key}",
        state,
        "A state entry by its key in hex",
        "chain",
        models.StateValue,
        query=(HEIGHT,),
        errors=(404,),
    ),
    Route(
        "GET",
        "/v1/chain/proof/{key}",
        proof,
        "A state entry, or its absence, with header, certificate, validators and map proof",
        "chain",
        models.StateProof,
        query=(HEIGHT,),
        errors=(404, 503),
    ),
    Route(
        "GET",
        "/v1/accounts/{address}",
        account,
        "An account; one that never appeared has `exists` false",
        "chain",
        models.Account,
    ),
)
