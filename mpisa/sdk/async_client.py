"""`AsyncClient`: the one core of the SDK; `Client` is its synchronous face.

Every method names one route of the API; what comes back is a frozen record of `models`, what goes wrong an error of
`mpisa.primitives.errors`. `get`, `verify` and `verify_chain` check on this machine what the node says. Here are bytes,
records, transactions and checks; `chain_client` asks for the rest of the chain, `connection` reaches the node.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

from mpisa import sdk  # its models are imported when the first answer is asked for
from mpisa.sdk.chain_client import ChainClient
from mpisa.sdk.connection import segment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mpisa.primitives.keys import PrivateKey
    from mpisa.primitives.record import Input
    from mpisa.sdk import models
    from mpisa.sdk.validators import KeyChoice

MAX_PAGE: Final = 1_000
CHECK_SILENCE_S: Final = 24 * 3600.0
"""Hashing a large DAG again takes long and says nothing meanwhile."""

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with what is done and the total where it is known: bytes for transfers, headers for verify_chain."""
KeyLike: TypeAlias = "PrivateKey | str | Path | None"
"""A key, an account's name in HOME/accounts, a key file, or None for the default account."""
InputLike: TypeAlias = "Input | str | Mapping[str, Any]"
"""An input as a record, as a CID, or as a mapping with role, relation and cid or external."""


class AsyncClient(ChainClient):
    """A node, as seen from asyncio. Nothing is opened before the first request.

    `endpoint`, `token` and `home` are found as `mpisa.sdk.endpoint` describes; `timeout` is in seconds: for a whole
    small request, or for silence within a transfer. Methods raise NotFound, Denied, Rejection, IntegrityError,
    Unreachable, NotReady and TimedOut, each with a hint where there is something to do. Methods that sign take
    `sender`, the account's address, for one that has rotated to the given key; else it is the key's own address.
    """

    # Transactions

    async def submit(
        self, raw: bytes | str, wait: str = "certified", timeout: float | None = None
    ) -> models.Transaction:
        """Hand in a signed transaction and wait until it is accepted, ordered or certified.

        A transaction that was ordered but rejected comes back with that status and its receipt. Handing in the same
        bytes again is harmless: the node knows them by hash.
        """
        from mpisa.sdk.publishing import submit

        return await submit(self.transport, raw if isinstance(raw, str) else raw.hex(), wait, timeout or self.timeout)

    async def submit_many(
        self, raws: Iterable[bytes], wait: str = "certified", timeout: float | None = None
    ) -> tuple[models.BatchResult, ...]:
        """Hand in signed transactions in batches; one result each, in their order.

        A transaction that is refused has a `problem` (see `mpisa.sdk.problems.error_from_problem`) and doesn't stop
        the others.
        """
        from mpisa.sdk.submitting import submit_many

        return await submit_many(self.transport, raws, wait, timeout or self.timeout)

    def submit_stream(
        self, source: AsyncIterable[bytes | Sequence[bytes]], wait: str = "certified"
    ) -> AsyncIterator[models.StreamAnswer]:
        """Hand in signed transactions as `source` gives them, on one stream; yields answers as they get on.

        Answers name transactions by their places, from 0. The node reads no further while too many are unanswered,
        and then `source` isn't asked for more. Close it with `aclose()`, or read it to its end.
        """
        from mpisa.sdk.submitting import submit_stream

        return submit_stream(self.transport, source, wait)

    # Bytes

    async def put(
        self,
        path: str | Path | BinaryIO,
        *,
        profile: str | None = None,
        ignore: Sequence[str] = (),
        ignore_file: bool = True,
        progress: Progress | None = None,
    ) -> models.PutResult:
        """Send a file, a directory or a stream; returns once the node holds every block durably and pinned.

        The blocks are made and hashed here and only those are sent that the node lacks: a put that was interrupted goes
        on when it is called again. `ignore`: patterns of what to leave out of a directory, as in a .gitignore, besides
        those of its .mpisaignore unless `ignore_file` is false.
        """
        from mpisa.sdk.upload import put

        return await put(
            self.transport, path, profile=profile, ignore=ignore, ignore_file=ignore_file, progress=progress
        )

    async def get(
        self,
        cid: str,
        output: str | Path | BinaryIO,
        *,
        overwrite: bool = False,
        span: str | None = None,
        tar: str | None = None,
        discard: bool = False,
        progress: Progress | None = None,
    ) -> models.GetResult:
        """Fetch a file or directory (a CID, or a path below one) to `output`; every block is hashed here.

        A path appears whole or not at all and is not overwritten unless asked; "-" and binary file objects take a
        single file as it arrives, so only a return without error means that all of it was there. What an interrupted
        get left beside the path is hashed again and kept, unless `discard`. `span`: only FIRST-LAST, FIRST- or -COUNT
        of a file's bytes; `tar`: as a tar archive with this name at its top.
        """
        from mpisa.sdk.download import get

        sink = sys.stdout.buffer if output == "-" else output
        return await get(
            self.transport, cid, sink, overwrite=overwrite, span=span, tar=tar, discard=discard, progress=progress
        )

    async def export_car(
        self,
        cid: str,
        output: str | Path | BinaryIO,
        *,
        overwrite: bool = False,
        scope: str = "all",
        span: str | None = None,
        progress: Progress | None = None,
    ) -> models.CarFile:
        """Write all blocks below a CID (or a path below one) to a CAR; a path appears when all of it was proven.

        `scope`: all, entity (a file, or a directory's own blocks; `span`: a range of a file) or block.
        """
        from mpisa.sdk.cars import export_car

        return await export_car(
            self.transport, cid, output, overwrite=overwrite, scope=scope, span=span, progress=progress
        )

    async def import_car(self, source: str | Path | BinaryIO, *, progress: Progress | None = None) -> models.CarResult:
        """Store the blocks of a CAR on the node; roots whose whole DAG is there are pinned."""
        from mpisa.sdk.cars import import_car

        return await import_car(self.transport, source, progress=progress)

    async def find(self, what: str) -> str:
        """The CID that a path such as CID/a/b leads to, every block on the way hashed here; NotFound names the part."""
        if "/" not in what:
            return what
        from mpisa.sdk.paths import resolve

        return str(await resolve(self.transport, what))

    async def stat(self, cid: str) -> models.BlobStat:
        """What a CID, or a path below one, is."""
        place = segment(await self.find(cid))
        return await self.transport.call(sdk.models.BlobStat, "GET", f"/v1/blobs/{place}/stat")

    async def ls(self, cid: str) -> tuple[models.Entry, ...]:
        """The names in a directory, fetched page by page."""
        place = segment(await self.find(cid))
        found: list[models.Entry] = []
        query: dict[str, str] = {}
        while True:
            page = await self.transport.call(sdk.models.Entries, "GET", f"/v1/blobs/{place}/ls", query=query)
            found += page.entries
            if page.next is None or page.next == query.get("cursor"):
                return tuple(found)
            query = {"cursor": page.next}

    async def check(self, cid: str) -> models.BlobCheck:
        """Let the node hash all of a DAG again that it has; nothing is fetched."""
        place = segment(await self.find(cid))
        return await self.transport.call(
            sdk.models.BlobCheck, "POST", f"/v1/blobs/{place}/verify", silence=CHECK_SILENCE_S
        )

    async def pin(self, cid: str, *, recursive: bool = True, name: str = "") -> models.Pin:
        """Keep a CID on this node, fetching what is missing."""
        body = {"recursive": recursive, "name": name}
        place = segment(await self.find(cid))
        return await self.transport.call(sdk.models.Pin, "PUT", f"/v1/pins/{place}", body=body)

    async def unpin(self, cid: str, *, reason: str | None = None) -> None:
        """Stop keeping a CID; NotFound when it isn't pinned. Pins of custody go only when `reason` names it."""
        query = {} if reason is None else {"reason": reason}
        place = segment(await self.find(cid))
        async with self.transport.stream("DELETE", f"/v1/pins/{place}", query=query, total=self.timeout):
            return

    async def pins_of(self, cid: str) -> tuple[models.Pin, ...]:
        """The pins of one CID, one for each kind and reason."""
        return (await self.transport.call(sdk.models.Pins, "GET", "/v1/pins", query={"cid": cid})).pins

    async def pins(self) -> tuple[models.Pin, ...]:
        """Every pin, fetched page by page."""
        found: list[models.Pin] = []
        cursor: str | None = None
        while True:
            query = {"limit": str(MAX_PAGE)} | ({"cursor": cursor} if cursor else {})
            page = await self.transport.call(sdk.models.Pins, "GET", "/v1/pins", query=query)
            found += page.pins
            if page.next is None or page.next == cursor:
                return tuple(found)
            cursor = page.next

    # Records, names, accounts

    async def publish(
        self,
        path: str | Path,
        *,
        key: KeyLike = None,
        kind: str = "model",
        license: str | None = None,  # noqa: A002 - the word people know
        inputs: Sequence[InputLike] = (),
        supersedes: str | None = None,
        name: str | None = None,
        media_type: str | None = None,
        profile: str | None = None,
        ignore: Sequence[str] = (),
        ignore_file: bool = True,
        progress: Progress | None = None,
        timeout: float | None = None,
        sender: str | None = None,
    ) -> models.PublishResult:
        """Put a file or directory and register it on the ledger; returns once the record is certified.

        The record is built and signed here. Publishing the same bytes again replaces the record by an equal one, so a
        publish that was interrupted may simply be repeated.
        """
        from mpisa.sdk import publishing

        signer = publishing.load_signer(key, self.target.home, sender)
        draft = publishing.Draft(kind, license, tuple(inputs), supersedes, name, media_type)
        draft.validate()
        stored = await self.put(path, profile=profile, ignore=ignore, ignore_file=ignore_file, progress=progress)
        return await publishing.publish(self, signer, draft, stored, timeout or self.timeout)

    async def artefacts(self, cursor: str | None = None, limit: int = 100) -> models.ArtefactPage:
        """A page of all records; go on with its `next`."""
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        return await self.transport.call(sdk.models.ArtefactPage, "GET", "/v1/artefacts", query=query)

    async def artefact(self, cid: str) -> models.ArtefactRecords:
        """Every record about a CID; NotFound when there is none."""
        return await self.transport.call(sdk.models.ArtefactRecords, "GET", f"/v1/artefacts/{segment(cid)}")

    async def lineage(self, cid: str) -> models.Lineage:
        """What a CID was made from, all the way down, and what was made from it directly."""
        return await self.transport.call(sdk.models.Lineage, "GET", f"/v1/artefacts/{segment(cid)}/lineage")

    async def resolve(self, name: str) -> models.Name:
        """What `owner/model@tag` points to; NotFound when nothing does."""
        from mpisa.primitives.identifiers import ArtefactName

        parsed = ArtefactName.parse(name)
        path = f"/v1/names/{segment(parsed.owner)}/{segment(parsed.model)}"
        return await self.transport.call(sdk.models.Name, "GET", path, query={"tag": parsed.tag})

    async def set_name(
        self, name: str, cid: str | None, *, key: KeyLike = None, sender: str | None = None
    ) -> models.Transaction:
        """Let `owner/model@tag` point to a CID; None removes it. The first use of an owner claims it."""
        from mpisa.sdk import publishing

        operation = publishing.set_name(name, cid)
        return await publishing.transact(
            self, publishing.load_signer(key, self.target.home, sender), (operation,), self.timeout
        )

    async def send(self, to: str, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        """Transfer an amount (smallest unit) to an address."""
        from mpisa.sdk import publishing

        operation = publishing.transfer(to, amount)
        return await publishing.transact(
            self, publishing.load_signer(key, self.target.home, sender), (operation,), self.timeout, idempotent=False
        )

    async def faucet(
        self, key: KeyLike = None, *, amount: int | None = None, to: str | None = None, sender: str | None = None
    ) -> models.Transaction:
        """On a devnet: create an amount for the key's own account, or for the address `to`."""
        from mpisa.sdk import publishing

        return await publishing.faucet(
            self, publishing.load_signer(key, self.target.home, sender), amount, to, self.timeout
        )

    async def rotate_key(self, key: KeyLike, new_key: KeyLike, *, sender: str | None = None) -> models.Transaction:
        """Make `new_key` the key of the account; its address stays, so that later calls name it as `sender`."""
        from mpisa.sdk import publishing

        home = self.target.home
        return await publishing.rotate(
            self, publishing.load_signer(key, home, sender), publishing.load_signer(new_key, home), self.timeout
        )

    # Running a validator: `key` is its operator's

    async def join_validator(
        self,
        keys: KeyChoice,
        *,
        name: str,
        peer_id: str,
        stake: int,
        key: KeyLike = None,
        sender: str | None = None,
    ) -> models.Transaction:
        """Register a validator with these keys and bond a stake; it is in the set from the next epoch on."""
        from mpisa.sdk import publishing, validators

        signer = publishing.load_signer(key, self.target.home, sender)
        return await validators.join(self, signer, keys, name, peer_id, stake, self.timeout)

    async def change_validator(
        self, keys: KeyChoice, *, peer_id: str | None = None, key: KeyLike = None, sender: str | None = None
    ) -> models.Transaction:
        """Change to those of these keys that are given, or to another peer id, from the next epoch on."""
        from mpisa.sdk import publishing, validators

        signer = publishing.load_signer(key, self.target.home, sender)
        return await validators.change(self, signer, keys, peer_id, self.timeout)

    async def leave_validator(self, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        """Take the operator's validator out of the next epoch; the stake returns an unbonding period after that."""
        from mpisa.sdk import publishing, validators

        return await validators.leave(self, publishing.load_signer(key, self.target.home, sender), self.timeout)

    async def bond(self, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        """Add an amount (smallest unit) to the stake."""
        from mpisa.sdk import publishing, validators

        signer = publishing.load_signer(key, self.target.home, sender)
        return await validators.bond(self, signer, amount, self.timeout)

    async def unbond(self, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        """Take an amount of the stake; it returns an unbonding period after the epoch's end."""
        from mpisa.sdk import publishing, validators

        signer = publishing.load_signer(key, self.target.home, sender)
        return await validators.unbond(self, signer, amount, self.timeout)

    # Checking without trust

    async def verify(
        self,
        cid: str,
        *,
        publisher: str | None = None,
        genesis: str | Path | None = None,
        trusted: str | None = None,
    ) -> models.VerifyResult:
        """Check a record's certificate and state proof on this machine.

        `genesis` is a genesis document to trust (a file) or its hash (hex), `trusted` a header of the chain to trust as
        HEIGHT:HASH. Without either the genesis of the home is used, and without that the node's own word, which the
        result's `trust` then says. Raises IntegrityError naming the check that failed, NotFound when there is none.
        """
        from mpisa.sdk.light import verify_artefact

        return await verify_artefact(self, cid, publisher, genesis, trusted)

    async def verify_chain(
        self,
        *,
        genesis: str | Path | None = None,
        trusted: str | None = None,
        skipping: bool = False,
        against: Sequence[AsyncClient] = (),
        cosigned: bool = False,
        progress: Progress | None = None,
    ) -> models.ChainVerification:
        """Check every header from the trusted one (genesis by default) to the head on this machine.

        With `skipping` as a light client does: each epoch's closing header, and the head. The nodes in `against` must
        not show a chain that contradicts this one's. With `cosigned` the co-signatures that the node holds are checked,
        and the result says how much power each closing header has of them. Raises IntegrityError naming what failed.
        """
        from mpisa.sdk.light import verify_chain

        return await verify_chain(
            self, genesis, progress, trusted=trusted, is_skipping=skipping, against=against, is_cosigned=cosigned
        )
