"""Transactions from the client's side: build, sign here, submit, and try again where that is safe.

A nonce conflict means that another transaction of the same account came first. Ours is then signed again with a fresh
nonce, but only once it can no longer take effect itself: it was refused at the door, or its receipt says that its nonce
is spent. A transaction that met a gap is handed in again as it is, since the gap may close; it is signed anew only
where applying both would do no harm. A broken connection repeats the same bytes: a node knows a transaction by hash.
"""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import (
    IntegrityError,
    MpisaError,
    NotFound,
    NotReady,
    Rejection,
    RejectionReason,
    TimedOut,
    Unreachable,
    UsageError,
)
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.identifiers import Address, ArtefactName, format_address, parse_address
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.operations import Faucet, Operation, Publish, SetName, Transfer, rotate_key
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, ProvenanceRecord
from mpisa.primitives.transaction import SignedTransaction, Transaction, sign_transaction
from mpisa.sdk import models, wallet
from mpisa.sdk.transport import ConnectionCut

if TYPE_CHECKING:
    from mpisa.sdk.async_client import AsyncClient, InputLike, KeyLike
    from mpisa.sdk.transport import Transport

MAX_ATTEMPTS: Final = 200
"""Most signatures for one request; the timeout usually ends it first."""
VALIDITY_MS: Final = 10 * 60 * 1000
FIRST_BACKOFF_S: Final = 0.02
MAX_BACKOFF_S: Final = 0.5
UNIQUE_MEMO_BYTES: Final = 8
"""Two equal transfers signed in the same millisecond would have one hash, and happen once: a memo tells them apart."""
ANSWER_MARGIN_S: Final = 10.0
"""How much longer we wait for the answer than we ask the node to wait."""
DEFAULT_FAUCET_AMOUNT: Final = 1_000_000_000

Build: TypeAlias = Callable[[int], tuple[Operation, ...]]
"""From a nonce to the operations to sign with it."""

_CONFLICTS: Final = (RejectionReason.REPLAYED, RejectionReason.NONCE_GAP)
_BUSY: Final = (RejectionReason.MEMPOOL_FULL, RejectionReason.RATE_LIMITED)


@dataclass(frozen=True, slots=True)
class Draft:
    """What a publisher says about a path, before its CID is known."""

    kind: str
    license: str | None
    inputs: tuple[InputLike, ...]
    supersedes: str | None
    name: str | None
    media_type: str | None

    def validate(self) -> None:
        """Raise Rejection or UsageError for what can be known before anything is uploaded."""
        self.operations(_ANY_CID, 0)

    def operations(self, cid: Cid, size: int) -> tuple[Operation, ...]:
        """The operations that publish a CID under this draft."""
        try:
            kind = ArtefactKind(self.kind)
        except ValueError:
            known = ", ".join(item.value for item in ArtefactKind)
            raise UsageError(f"kind: expected one of {known}, got {self.kind!r}") from None
        record = ProvenanceRecord(
            kind=kind,
            subject=cid,
            size=size,
            media_type=self.media_type,
            inputs=tuple(read_input(item) for item in self.inputs),
            license=self.license,
            supersedes=None if self.supersedes is None else Cid.parse(self.supersedes),
        )
        record.validate()
        naming = () if self.name is None else (set_name(self.name, str(cid)),)
        return (Publish(record), *naming)


_ANY_CID: Final = Cid.of(b"", codec=0x55)


def read_input(item: InputLike) -> Input:
    """An input from a record, a CID or a mapping; raises UsageError or Rejection."""
    if isinstance(item, Input):
        return item
    if isinstance(item, str):
        return Input(role="input", relation="derived", cid=Cid.parse(item))
    if not isinstance(item, Mapping):
        raise UsageError(f"inputs: expected a CID, a mapping or an Input, got {type(item).__name__}")
    unknown = sorted(set(item) - {"role", "relation", "cid", "external", "resolved"})
    if unknown:
        raise UsageError(f"inputs: unknown keys {unknown}", hint="known: role, relation, cid, external")
    cid, external = item.get("cid"), item.get("external")
    return Input(
        role=str(item.get("role", "input")),
        relation=str(item.get("relation", "derived")),
        cid=None if cid is None else Cid.parse(str(cid)),
        external=None if external is None else _read_external(external),
    )


def _read_external(value: Any) -> ExternalReference:
    if isinstance(value, ExternalReference):
        return value
    if not isinstance(value, Mapping) or not {"hub", "repo"} <= set(value) <= {"hub", "repo", "revision"}:
        raise UsageError("inputs: external: expected a mapping with hub, repo and perhaps revision")
    revision = value.get("revision")
    return ExternalReference(str(value["hub"]), str(value["repo"]), None if revision is None else str(revision))


def set_name(name: str, cid: str | None) -> SetName:
    """The operation that lets a name point to a CID, or to nothing."""
    return SetName(ArtefactName.parse(name), None if cid is None else Cid.parse(cid))


def transfer(to: str, amount: int) -> Transfer:
    """The operation that sends an amount to an address."""
    return Transfer(parse_address(to), amount)


@dataclass(frozen=True, slots=True, repr=False)
class Signer:
    """A key and the account it signs for: the key's own address, unless the account has rotated to this key."""

    key: PrivateKey
    address: Address


def load_signer(key: KeyLike, home: Path, sender: str | None = None) -> Signer:
    """The key itself, that of an account in the home, that of a key file, or that of the default account."""
    if key is None:
        loaded = wallet.load_default(home)
    elif isinstance(key, (str, Path)):
        loaded = wallet.load(key, home)
    else:
        loaded = key
    return Signer(loaded, loaded.public_key.address if sender is None else parse_address(sender))


async def submit(transport: Transport, raw_hex: str, wait: str, timeout: float) -> models.Transaction:
    """POST one signed transaction; the same bytes may be sent any number of times."""
    return await transport.call(
        models.Transaction,
        "POST",
        "/v1/transactions",
        query={"wait": wait, "timeout": f"{timeout:.3f}"},
        body={"transaction": raw_hex},
        timeout=timeout + ANSWER_MARGIN_S,
    )


async def publish(
    client: AsyncClient, signer: Signer, draft: Draft, stored: models.PutResult, timeout: float
) -> models.PublishResult:
    """Register what was put; returns once certified."""
    operations = draft.operations(Cid.parse(stored.cid), stored.size)
    outcome = await transact(client, signer, operations, timeout)
    assert outcome.height is not None
    return models.PublishResult(
        cid=stored.cid,
        tx=outcome.hash,
        height=outcome.height,
        certified=outcome.status == "certified",
        size=stored.size,
        blocks=stored.blocks,
        name=None if draft.name is None else str(ArtefactName.parse(draft.name)),
    )


async def faucet(
    client: AsyncClient, signer: Signer, amount: int | None, to: str | None, timeout: float
) -> models.Transaction:
    """Create an amount for an address, by default the signer's own and at most what the chain allows at once."""
    recipient = signer.address if to is None else parse_address(to)
    if amount is None:
        limit = (await chain_genesis(client)).parameters.faucet_limit
        amount = min(DEFAULT_FAUCET_AMOUNT, limit) if limit else DEFAULT_FAUCET_AMOUNT
    return await transact(client, signer, (Faucet(recipient, amount),), timeout, idempotent=False)


async def rotate(client: AsyncClient, signer: Signer, new_key: Signer, timeout: float) -> models.Transaction:
    """Replace the key of the account that `signer` signs for."""
    chain_hash = (await chain_genesis(client)).chain_hash

    def build(nonce: int) -> tuple[Operation, ...]:
        return (rotate_key(new_key.key, chain_hash, signer.address, nonce),)

    return await transact_built(client, signer, build, timeout)


async def transact(
    client: AsyncClient,
    signer: Signer,
    operations: tuple[Operation, ...],
    timeout: float,
    *,
    idempotent: bool = True,
) -> models.Transaction:
    """Sign and submit operations of one account until certified, within `timeout` seconds.

    Raises Rejection with the ledger's reason when they can't be applied, TimedOut when the outcome is unknown by then.
    `idempotent` says that applying them twice does no harm.
    """
    return await _Submission(client, signer, lambda nonce: operations, timeout, idempotent).run()


async def transact_built(client: AsyncClient, signer: Signer, build: Build, timeout: float) -> models.Transaction:
    """The same for operations that depend on the nonce, which must not be applied twice."""
    return await _Submission(client, signer, build, timeout, False).run()


class _Submission:
    """One request's way to the ledger: which nonce, how often, and until when.

    Signing and handing in happen under a lock an account, so that requests of one client don't take each other's
    nonce; waiting for the certificate does not. Other clients of the same account are met by trying again.
    """

    def __init__(self, client: AsyncClient, signer: Signer, build: Build, timeout: float, idempotent: bool) -> None:
        self._client = client
        self._signer = signer
        self._build = build
        self._idempotent = idempotent
        self._timeout = timeout
        self._deadline = time.monotonic() + timeout
        self._backoff_s = FIRST_BACKOFF_S
        self._signed: SignedTransaction | None = None
        self._handed_in = False
        self._conflict: MpisaError | None = None

    async def run(self) -> models.Transaction:
        lock = self._client.chain_facts.locks.setdefault(self._signer.address, asyncio.Lock())
        for _ in range(MAX_ATTEMPTS):
            if self._remaining() <= 0:
                break
            try:
                async with lock:
                    outcome = await self._hand_in("accepted")
                if outcome.status in ("accepted", "ordered"):
                    outcome = await self._hand_in("certified")
            except Rejection as error:
                found = await self._judge_refusal(error)
                if found is not None:
                    return found
            except (NotReady, ConnectionCut) as error:
                self._conflict = error
            else:
                if outcome.status == "certified":
                    return outcome
                self._judge_receipt(outcome)
            await self._pause()
        raise self._gave_up()

    async def _hand_in(self, wait: str) -> models.Transaction:
        if self._signed is None:
            self._signed = await self._sign()
            self._handed_in = False
        try:
            outcome = await submit(self._client.transport, self._signed.raw.hex(), wait, max(self._remaining(), 0.1))
        except (ConnectionCut, NotReady):
            self._handed_in = True
            raise
        self._handed_in = True
        return outcome

    async def _judge_refusal(self, error: Rejection) -> models.Transaction | None:
        """What to do when the node refuses at the door: return what became of it, try again, or give up by raising."""
        self._conflict = error
        if error.reason in _BUSY:
            return None
        if error.reason not in (*_CONFLICTS, RejectionReason.DUPLICATE):
            raise error
        if self._handed_in and (found := await self._find_own()) is not None:
            if found.status == "certified":
                return found
            if found.status != "rejected":
                return None
            _raise_if_final(found)
        if not self._handed_in or self._may_sign_again(error.reason):
            self._signed = None
        return None

    def _judge_receipt(self, outcome: models.Transaction) -> None:
        self._conflict = conflict = _raise_if_final(outcome)
        if self._may_sign_again(conflict.reason):
            self._signed = None

    def _may_sign_again(self, reason: RejectionReason) -> bool:
        return reason is RejectionReason.REPLAYED or self._idempotent

    async def _sign(self) -> SignedTransaction:
        genesis = await chain_genesis(self._client)
        parameters = genesis.parameters
        account = await self._client.account(format_address(self._signer.address))
        operations = self._build(account.pending_nonce)
        transaction = Transaction(
            chain_hash=genesis.chain_hash,
            sender=self._signer.address,
            nonce=account.pending_nonce,
            expires_ms=int(time.time() * 1000) + VALIDITY_MS,
            operations=operations,
            fee=parameters.minimum_fee + parameters.operation_fee * len(operations),
            public_key=self._signer.key.public_key if account.public_key is None else None,
            memo=None if self._idempotent else secrets.token_hex(UNIQUE_MEMO_BYTES),
        )
        return sign_transaction(transaction, self._signer.key)

    async def _find_own(self) -> models.Transaction | None:
        assert self._signed is not None
        try:
            return await self._client.transaction(self._signed.hash.hex())
        except NotFound:
            return None

    async def _pause(self) -> None:
        await asyncio.sleep(min(random.uniform(0, self._backoff_s), max(self._remaining(), 0)))  # noqa: S311
        self._backoff_s = min(self._backoff_s * 1.5, MAX_BACKOFF_S)

    def _remaining(self) -> float:
        return self._deadline - time.monotonic()

    def _gave_up(self) -> MpisaError:
        conflict = self._conflict
        if isinstance(conflict, (NotReady, Unreachable)):
            return conflict
        if isinstance(conflict, Rejection) and conflict.reason in _BUSY:
            return conflict
        why = "" if conflict is None else f"; the last answer was {conflict}"
        last = "" if self._signed is None else f"; transaction {self._signed.hash.hex()}"
        return TimedOut(
            f"not certified within {self._timeout:g} s{why}{last}",
            hint="ask again with `mpisa chain tx HASH`; publishing the same bytes twice does no harm",
        )


def _raise_if_final(outcome: models.Transaction) -> Rejection:
    """The nonce conflict of a rejected transaction; raises any other reason, and one whose nonce is spent."""
    conflict = _rejection_of(outcome)
    spent = outcome.receipt is not None and outcome.receipt.nonce_used
    if spent or conflict.reason not in _CONFLICTS:
        raise conflict
    return conflict


def _rejection_of(outcome: models.Transaction) -> Rejection:
    receipt = outcome.receipt
    try:
        reason = RejectionReason(receipt.reason or "" if receipt else "")
    except ValueError:
        reason = RejectionReason.MALFORMED
    detail = receipt.detail if receipt and receipt.detail else f"transaction {outcome.hash} was rejected"
    return Rejection(reason, detail)


async def chain_genesis(client: AsyncClient) -> Genesis:
    """The chain that this client signs for, asked for once.

    Fees come from the document too: a node that lies about them lies about the chain, and what was signed for that one
    is worth nothing on the true chain.
    """
    facts = client.chain_facts
    if facts.genesis is None:
        try:
            facts.genesis = Genesis.from_json((await client.genesis()).document)
        except Rejection as error:
            raise IntegrityError(f"the node's genesis document: {error}", hint=error.hint) from None
    return facts.genesis
