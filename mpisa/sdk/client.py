"""`Client`: the synchronous face of `AsyncClient`, method for method.

A private thread runs one event loop; each call hands a coroutine over and waits. Calls from several threads share the
loop and its connections, so one client may be used from a thread pool. `close()` (or leaving `with`) ends the thread.
"""

from __future__ import annotations

import asyncio
import weakref
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, cast

from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.connection import DEFAULT_TIMEOUT_S
from mpisa.sdk.loop_thread import LoopThread

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence

    from mpisa.sdk import models
    from mpisa.sdk.async_client import InputLike, KeyLike, Progress
    from mpisa.sdk.validators import KeyChoice

__all__ = ["AsyncClient", "Client"]

T = TypeVar("T")


class Client:
    """A node, as seen from ordinary code. See `AsyncClient` for what each method does and raises."""

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        token: str | None = None,
        home: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT_S,
    ) -> None:
        self._client = AsyncClient(endpoint, token=token, home=home, timeout=timeout)
        self._loop = LoopThread(self._client)
        self._finalizer = weakref.finalize(self, self._loop.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """The node's URL, resolved at the first use."""
        return self._client.endpoint

    def close(self) -> None:
        """Close connections and end the private thread; safe to call twice. A forgotten client is closed at exit."""
        self._finalizer()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run(work)

    # The node

    def ready(self) -> models.Readiness:
        return self._run(self._client.ready())

    def node(self) -> models.NodeInfo:
        return self._run(self._client.node())

    def peers(self) -> tuple[models.Peer, ...]:
        return self._run(self._client.peers())

    def collect(
        self, *, dry_run: bool = False, progress: Callable[[models.GcState], None] | None = None
    ) -> models.GcResult:
        return self._run(self._client.collect(dry_run=dry_run, progress=progress))

    def verify_store(self, *, progress: Progress | None = None) -> models.StoreCheck:
        return self._run(self._client.verify_store(progress=progress))

    def diagnose(self) -> models.Diagnosis:
        return self._run(self._client.diagnose())

    def collection(self) -> models.GcState:
        return self._run(self._client.collection())

    # The chain

    def head(self) -> models.ChainHead:
        return self._run(self._client.head())

    def genesis(self) -> models.GenesisDocument:
        return self._run(self._client.genesis())

    def block(self, which: int | str) -> models.ChainBlock:
        return self._run(self._client.block(which))

    def headers(self, first: int = 0, limit: int = 100) -> models.HeaderPage:
        return self._run(self._client.headers(first, limit))

    def cosignatures(self, epoch: int) -> models.Cosignatures:
        return self._run(self._client.cosignatures(epoch))

    def epochs(self, first: int = 0, limit: int = 100) -> models.EpochPage:
        return self._run(self._client.epochs(first, limit))

    def transaction(self, transaction_hash: str) -> models.Transaction:
        return self._run(self._client.transaction(transaction_hash))

    def account(self, address: str) -> models.Account:
        return self._run(self._client.account(address))

    def validators(self, height: int | None = None) -> models.Validators:
        return self._run(self._client.validators(height))

    def report(self, headers: Sequence[tuple[bytes, bytes]]) -> models.Offences:
        return self._run(self._client.report(headers))

    def staking(self) -> models.Staking:
        return self._run(self._client.staking())

    def dag(self, rounds: int = 24) -> models.Dag:
        return self._run(self._client.dag(rounds))

    def vertex(self, identifier: str) -> models.DagVertexDetail:
        return self._run(self._client.vertex(identifier))

    def stake(self, operator: str) -> models.Stake:
        return self._run(self._client.stake(operator))

    def state(self, key: str | bytes, height: int | None = None) -> models.StateValue:
        return self._run(self._client.state(key, height))

    def proof(self, key: str | bytes, height: int | None = None) -> models.StateProof:
        return self._run(self._client.proof(key, height))

    def events(self, last_event_id: int | None = None) -> Iterator[models.Event]:
        """Events as they happen, until the iterator is closed or the client is."""
        stream = self._client.events(last_event_id)
        try:
            while True:
                event = self._run(_next(stream))
                if event is None:
                    return
                yield event
        finally:
            if not self._loop.closed:
                self._run(_close(stream))

    # Bytes

    def put(
        self,
        path: str | Path | BinaryIO,
        *,
        profile: str | None = None,
        ignore: Sequence[str] = (),
        ignore_file: bool = True,
        progress: Progress | None = None,
    ) -> models.PutResult:
        return self._run(
            self._client.put(path, profile=profile, ignore=ignore, ignore_file=ignore_file, progress=progress)
        )

    def get(
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
        return self._run(
            self._client.get(cid, output, overwrite=overwrite, span=span, tar=tar, discard=discard, progress=progress)
        )

    def export_car(
        self,
        cid: str,
        output: str | Path | BinaryIO,
        *,
        overwrite: bool = False,
        scope: str = "all",
        span: str | None = None,
        progress: Progress | None = None,
    ) -> models.CarFile:
        return self._run(
            self._client.export_car(cid, output, overwrite=overwrite, scope=scope, span=span, progress=progress)
        )

    def import_car(self, source: str | Path | BinaryIO, *, progress: Progress | None = None) -> models.CarResult:
        return self._run(self._client.import_car(source, progress=progress))

    def find(self, what: str) -> str:
        return self._run(self._client.find(what))

    def stat(self, cid: str) -> models.BlobStat:
        return self._run(self._client.stat(cid))

    def ls(self, cid: str) -> tuple[models.Entry, ...]:
        return self._run(self._client.ls(cid))

    def pin(self, cid: str, *, recursive: bool = True, name: str = "") -> models.Pin:
        return self._run(self._client.pin(cid, recursive=recursive, name=name))

    def check(self, cid: str) -> models.BlobCheck:
        return self._run(self._client.check(cid))

    def unpin(self, cid: str, *, reason: str | None = None) -> None:
        self._run(self._client.unpin(cid, reason=reason))

    def pins_of(self, cid: str) -> tuple[models.Pin, ...]:
        return self._run(self._client.pins_of(cid))

    def pins(self) -> tuple[models.Pin, ...]:
        return self._run(self._client.pins())

    # Records, names, accounts

    def publish(
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
        return self._run(
            self._client.publish(
                path,
                key=key,
                kind=kind,
                license=license,
                inputs=inputs,
                supersedes=supersedes,
                name=name,
                media_type=media_type,
                profile=profile,
                ignore=ignore,
                ignore_file=ignore_file,
                progress=progress,
                timeout=timeout,
                sender=sender,
            )
        )

    def artefacts(self, cursor: str | None = None, limit: int = 100) -> models.ArtefactPage:
        return self._run(self._client.artefacts(cursor, limit))

    def artefact(self, cid: str) -> models.ArtefactRecords:
        return self._run(self._client.artefact(cid))

    def lineage(self, cid: str) -> models.Lineage:
        return self._run(self._client.lineage(cid))

    def resolve(self, name: str) -> models.Name:
        return self._run(self._client.resolve(name))

    def set_name(
        self, name: str, cid: str | None, *, key: KeyLike = None, sender: str | None = None
    ) -> models.Transaction:
        return self._run(self._client.set_name(name, cid, key=key, sender=sender))

    def send(self, to: str, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        return self._run(self._client.send(to, amount, key=key, sender=sender))

    def faucet(
        self, key: KeyLike = None, *, amount: int | None = None, to: str | None = None, sender: str | None = None
    ) -> models.Transaction:
        return self._run(self._client.faucet(key, amount=amount, to=to, sender=sender))

    def rotate_key(self, key: KeyLike, new_key: KeyLike, *, sender: str | None = None) -> models.Transaction:
        return self._run(self._client.rotate_key(key, new_key, sender=sender))

    def submit(self, raw: bytes | str, wait: str = "certified", timeout: float | None = None) -> models.Transaction:
        return self._run(self._client.submit(raw, wait, timeout))

    def submit_many(
        self, raws: Iterable[bytes], wait: str = "certified", timeout: float | None = None
    ) -> tuple[models.BatchResult, ...]:
        return self._run(self._client.submit_many(raws, wait, timeout))

    def submit_stream(self, source: Iterable[bytes], wait: str = "certified") -> Iterator[models.StreamAnswer]:
        """As AsyncClient's; `source` is asked for more in another thread, so it may block."""
        stream = self._client.submit_stream(_in_a_thread(source), wait)
        try:
            while (answer := self._run(_next(stream))) is not None:
                yield answer
        finally:
            if not self._loop.closed:
                self._run(_close(stream))

    # Running a validator

    def join_validator(
        self,
        keys: KeyChoice,
        *,
        name: str,
        peer_id: str,
        stake: int,
        key: KeyLike = None,
        sender: str | None = None,
    ) -> models.Transaction:
        return self._run(
            self._client.join_validator(keys, name=name, peer_id=peer_id, stake=stake, key=key, sender=sender)
        )

    def change_validator(
        self, keys: KeyChoice, *, peer_id: str | None = None, key: KeyLike = None, sender: str | None = None
    ) -> models.Transaction:
        return self._run(self._client.change_validator(keys, peer_id=peer_id, key=key, sender=sender))

    def leave_validator(self, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        return self._run(self._client.leave_validator(key=key, sender=sender))

    def bond(self, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        return self._run(self._client.bond(amount, key=key, sender=sender))

    def unbond(self, amount: int, *, key: KeyLike = None, sender: str | None = None) -> models.Transaction:
        return self._run(self._client.unbond(amount, key=key, sender=sender))

    # Checking without trust

    def verify(
        self,
        cid: str,
        *,
        publisher: str | None = None,
        genesis: str | Path | None = None,
        trusted: str | None = None,
    ) -> models.VerifyResult:
        return self._run(self._client.verify(cid, publisher=publisher, genesis=genesis, trusted=trusted))

    def verify_chain(
        self,
        *,
        genesis: str | Path | None = None,
        trusted: str | None = None,
        skipping: bool = False,
        against: Sequence[str] = (),
        cosigned: bool = False,
        progress: Progress | None = None,
    ) -> models.ChainVerification:
        return self._run(self._verify_chain(genesis, trusted, skipping, against, cosigned, progress))

    async def _verify_chain(
        self,
        genesis: str | Path | None,
        trusted: str | None,
        skipping: bool,
        against: Sequence[str],
        cosigned: bool,
        progress: Progress | None,
    ) -> models.ChainVerification:
        async with AsyncExitStack() as stack:
            others = [await stack.enter_async_context(AsyncClient(endpoint)) for endpoint in against]
            return await self._client.verify_chain(
                genesis=genesis,
                trusted=trusted,
                skipping=skipping,
                against=others,
                cosigned=cosigned,
                progress=progress,
            )


async def _in_a_thread(source: Iterable[T]) -> AsyncIterator[T]:
    items = iter(source)
    end = object()
    while (item := await asyncio.to_thread(next, items, end)) is not end:
        yield cast("T", item)


async def _next(stream: AsyncIterator[T]) -> T | None:
    return await anext(stream, None)


async def _close(stream: AsyncIterator[Any]) -> None:
    close = getattr(stream, "aclose", None)
    if close is not None:
        await close()
