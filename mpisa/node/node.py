"""One running node: reads its home, starts the parts in order, and stops them again. See `mpisa.node.facade`.

Order of starting: lock, stores, engine recovered from them, network, tasks. All tasks live in one TaskGroup; if one
fails, all end, the reason is logged, and `wait` raises it. Order of stopping is the reverse.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from consensus.dag.conflicts import evidence_in
from consensus.events import EvidenceOffered
from consensus.parameters import Parameters
from mpisa._version import __version__
from mpisa.node.assembling import assemble
from mpisa.node.clock import Clock, SystemClock
from mpisa.node.events import EventHub
from mpisa.node.following import follow
from mpisa.node.home import HomeLock
from mpisa.node.inspecting import facts_of
from mpisa.node.link_faults import faults_of, rules_of
from mpisa.node.logs import configure_logging
from mpisa.node.metrics import metrics_of
from mpisa.node.offences import jurisdiction_in
from mpisa.node.runtime import Runtime, Setup, read_setup
from mpisa.node.status import peers_of, reasons_not_ready, status_of
from mpisa.node.surveying import dag_of, vertex_of
from mpisa.node.views import EventKind, OffenceView, WaitFor
from mpisa.primitives.errors import Denied, MpisaError, NotReady, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from mpisa.config import NodeConfig
    from mpisa.network.ports import BlockSource, GossipSubscription, Network, NetworkConfig, PeerInfo
    from mpisa.node.blobs import BlobStore
    from mpisa.node.chain_view import Chain
    from mpisa.node.collecting import CollectionState
    from mpisa.node.content import Content
    from mpisa.node.diagnosis import Facts
    from mpisa.node.flow import Flow
    from mpisa.node.inspecting import Verification
    from mpisa.node.ipns_records import IpnsRecords
    from mpisa.node.views import DagView, LinkFault, NodeStatus, PeerView, TransactionStatus, VertexView
    from mpisa.primitives.header import Certificate, Header
    from mpisa.primitives.identifiers import Address
    from storage.blockstore import VerifyReport
    from storage.gc import GcReport

MAX_WAIT_S = 600.0
PACE = Parameters(min_round_delay_ms=20)
"""With 25 ms and messages of 6 ms a transaction is ordered after 99 ms on average, with 20 ms after 84."""

log = structlog.get_logger(__name__)


def _real_network(config: NetworkConfig, source: BlockSource) -> Network:
    from mpisa.network.service import PeerNetwork  # imports libp2p, which takes seconds

    return PeerNetwork(config, source)


class Node:
    """See the module. `open`, then `start`; `stop` may be called at any time and twice."""

    def __init__(
        self,
        setup: Setup,
        make_network: Callable[[NetworkConfig, BlockSource], Network],
        clock: Clock,
        log_to_home: bool,
    ) -> None:
        self._setup = setup
        self._make_network = make_network
        self._clock = clock
        self._log_to_home = log_to_home
        self._events = EventHub(setup.config.limits.event_queue)
        self._runtime: Runtime | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._started_ms = 0
        self.api_url = f"http://{setup.config.api.host}:{setup.config.api.port}"

    @classmethod
    def open(
        cls,
        home: Path | str,
        *,
        make_network: Callable[[NetworkConfig, BlockSource], Network] = _real_network,
        clock: Clock | None = None,
        passphrase: bytes | None = None,
        log_to_home: bool = True,
    ) -> Node:
        """Reads settings, genesis and keys; opens nothing yet. Raises InvalidConfig, NotFound or Denied."""
        return cls(read_setup(Path(home), passphrase), make_network, clock or SystemClock(), log_to_home)

    @property
    def home(self) -> Path:
        return self._setup.home.path

    @property
    def config(self) -> NodeConfig:
        return self._setup.config

    @property
    def chain(self) -> Chain:
        return self._running.chain

    @property
    def blobs(self) -> BlobStore:
        return self._running.blobs

    @property
    def content(self) -> Content:
        return self._running.content

    @property
    def names(self) -> IpnsRecords:
        return self._running.names

    @property
    def network(self) -> Network:
        return self._running.network

    @property
    def events(self) -> EventHub:
        return self._events

    @property
    def peer_id(self) -> str:
        return self._running.network.peer_id

    @property
    def _running(self) -> Runtime:
        if self._runtime is None:
            raise NotReady("the node isn't running", hint="start it first")
        return self._runtime

    async def start(self) -> None:
        """Returns once the tasks run, which is before the node is ready. Raises StoreBusy, StoreDamaged, DiskFull,
        InvalidConfig or OSError; nothing is left open then.
        """
        if self._main is not None:
            raise UsageError("a node is started once")
        started: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._main = asyncio.create_task(self._run(started), name="node")
        await asyncio.wait((started, self._main), return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            await self._main
            raise NotReady("the node was stopped while it started")

    async def _run(self, started: asyncio.Future[None]) -> None:
        with HomeLock(self._setup.home):  # the log too belongs to the node that holds the lock
            if self._log_to_home:
                configure_logging(self._setup.config.log, self._setup.home.log_file)
            await self._run_parts(started)

    async def _run_parts(self, started: asyncio.Future[None]) -> None:
        try:
            async with AsyncExitStack() as stack:
                parameters = PACE.with_agreed(dict(self._setup.genesis.parameters.consensus))
                runtime = await assemble(
                    stack,
                    self._setup,
                    self._make_network,
                    self._events,
                    self._clock,
                    parameters,
                    self._stopping.is_set,
                )
                self._attach(runtime)
                await stack.enter_async_context(runtime.network)
                self._runtime = runtime
                stack.callback(self._close_runtime)
                await self._run_tasks(runtime, started)
        except MpisaError as error:
            log.error("the node could not start", reason=str(error), hint=error.hint)
            raise
        except ExceptionGroup as group:
            cause = first_cause(group)
            log.error("a task failed, the node stops", reason=str(cause), exc_info=cause)
            raise cause from group
        log.info("stopped")

    def _attach(self, runtime: Runtime) -> None:
        runtime.links.attach()
        runtime.certificates.attach()
        runtime.providing.attach()
        runtime.cosigning.attach()
        runtime.standing.attach()
        runtime.forwarding.attach()
        runtime.submissions.relay = lambda: None if runtime.helm.proposes() else runtime.forwarding.forward
        runtime.network.set_peer_observer(self._observe_peer)

    def _observe_peer(self, info: PeerInfo) -> None:
        self._events.publish(EventKind.PEER, {"peer_id": info.peer_id, "connected": info.connected})

    def _close_runtime(self) -> None:
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.submissions.close()
        self._events.close()

    async def _run_tasks(self, runtime: Runtime, started: asyncio.Future[None]) -> None:
        announcements = await runtime.providers.subscribe()
        try:
            await self._run_group(runtime, started, announcements)
        finally:
            runtime.collecting.close()
            runtime.inspecting.close()
            runtime.publishing.close()
            runtime.content.close()
            runtime.blobs.close()
            await runtime.retriever.close()
            await runtime.behind.ranging.close()
            await runtime.links.stop()
            await runtime.certificates.close()
            await runtime.providing.close()
            await announcements.close()

    async def _run_group(
        self, runtime: Runtime, started: asyncio.Future[None], announcements: GossipSubscription
    ) -> None:
        await runtime.network.discovery.provide_many([pin.cid for pin in runtime.blobs.pins()])
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._order(runtime), name="ordering"),
                tasks.create_task(runtime.standing.run(), name="standing"),
                tasks.create_task(runtime.providers.listen(announcements), name="announcements"),
                tasks.create_task(runtime.blobs.announce(), name="announce"),
                tasks.create_task(runtime.collecting.watch(), name="collecting"),
            ]
            if runtime.reactions.is_halted():
                runtime.reactions.stay_halted()
            else:
                running += [
                    tasks.create_task(runtime.certificates.run(), name="certificates"),
                    tasks.create_task(runtime.cosigning.run(), name="co-signing"),
                    tasks.create_task(runtime.forwarding.run(), name="forwarding"),
                    tasks.create_task(runtime.behind.keeping_up.run(), name="keeping up"),
                    tasks.create_task(self._follow(runtime), name="follow"),
                    tasks.create_task(runtime.behind.pruning.run(), name="pruning"),
                ]
                runtime.providing.begin()
                runtime.submissions.open_intake()
            self._started_ms = self._clock.now_ms()
            started.set_result(None)
            log.info("started", peer_id=runtime.network.peer_id, height=runtime.store.height, version=__version__)
            await self._stopping.wait()
            for task in running:
                task.cancel()

    @staticmethod
    async def _order(runtime: Runtime) -> None:
        if not runtime.reactions.is_halted():
            await runtime.behind.keeping_up.before_ordering(lambda: runtime.standing.target)
        await runtime.ordering.run()

    async def _follow(self, runtime: Runtime) -> None:
        def rests() -> bool:
            target = runtime.standing.target
            is_level = target is not None and runtime.store.height >= target
            return runtime.behind.keeping_up.is_away or (is_level and runtime.helm.proposes())

        await follow(runtime.network, runtime.links, runtime.helm, runtime.inbox, rests)

    async def stop(self) -> None:
        """Ends the tasks, closes network, stores and lock. Harmless when it doesn't run; raises nothing."""
        self._stopping.set()
        if self._main is not None:
            await asyncio.wait((self._main,))
            if not self._main.cancelled():
                self._main.exception()

    async def wait(self) -> None:
        """Returns when the node has stopped; raises what crashed it."""
        if self._main is not None:
            await asyncio.shield(self._main)

    def ready(self) -> tuple[bool, list[str]]:
        """(True, []) or (False, reasons a person can read)."""
        if self._runtime is None:
            return False, ["the node isn't running"]
        reasons = reasons_not_ready(self._runtime)
        return not reasons, reasons

    def status(self) -> NodeStatus:
        """The node's own account of itself. Raises NotReady when it doesn't run."""
        return status_of(self._running, self._setup, self.api_url, self._started_ms, self.ready())

    def peers(self) -> tuple[PeerView, ...]:
        """Connected peers and all authorities, sorted by peer id."""
        return peers_of(self._running)

    def dag(self, rounds: int) -> DagView:
        """The last rounds of the current epoch's DAG, with verdicts."""
        return dag_of(self._running, rounds)

    def vertex(self, prefix: bytes) -> VertexView:
        """A vertex of the recent DAG by the first bytes of its id. Raises NotFound and UsageError."""
        return vertex_of(self._running, prefix)

    def link_faults(self) -> tuple[LinkFault, ...]:
        """The faults that this node applies to its own links, by ascending peer id."""
        return faults_of(self._running.network.link_rules())

    async def set_link_faults(self, faults: Sequence[LinkFault]) -> None:
        """These and no others from now on. Raises Denied and UsageError."""
        if not self.config.devnet:
            raise Denied("this node belongs to no devnet: it doesn't break its own links")
        await self._running.network.set_link_rules(rules_of(faults))

    async def collect(self, *, dry_run: bool = False) -> GcReport:
        """Give back the space of what no pin keeps."""
        return await self._running.collecting.run(dry_run=dry_run)

    def collection(self) -> CollectionState:
        """Whether a collection runs, how far it is, and the report of the last one."""
        return self._running.collecting.state

    async def verify(self) -> VerifyReport:
        """Hash every block again, beside everything else."""
        return await self._running.inspecting.verify()

    def verification(self) -> Verification:
        """Whether a verification runs, how far it is, and the report of the last one."""
        return self._running.inspecting.state

    async def facts(self) -> Facts:
        """What a diagnosis goes by."""
        return await facts_of(self._running, self._setup)

    def metrics(self) -> dict[str, float]:
        """Counters (names that end in _total) and gauges."""
        return metrics_of(self._running, self._setup.home, self._clock.now_ms())

    async def submit(
        self, raw: bytes, wait: WaitFor | str = WaitFor.ACCEPTED, timeout_s: float = 30.0
    ) -> TransactionStatus:
        """Validate, pool, and wait. Raises Rejection, TimedOut (which says what is known), NotReady, DiskFull,
        and Unreachable where this node makes no vertices and no authority took it.
        """
        until = _read_wait(wait, timeout_s)
        return await self._running.submissions.submit(raw, until, timeout_s)

    async def submit_many(
        self, raws: Sequence[bytes], wait: WaitFor | str = WaitFor.ACCEPTED, timeout_s: float = 30.0
    ) -> list[TransactionStatus | MpisaError]:
        """The same for several: what `submit` would return or raise for each, in their order."""
        until = _read_wait(wait, timeout_s)
        return await self._running.submissions.submit_many(list(raws), until, timeout_s)

    def open_stream(self, wait: WaitFor | str) -> AbstractContextManager[Flow]:
        """A stream of transactions, closed on leaving. Raises NotReady when too many are open."""
        return self._running.submissions.flow(_read_wait(wait, MAX_WAIT_S))

    async def report(self, headers: Sequence[tuple[Header, Certificate]]) -> tuple[OffenceView, ...]:
        """Takes what certified headers prove into a next vertex, kept until it is ordered.

        Raises Rejection where they prove nothing, NotReady where this node makes no vertices.
        """
        runtime = self._running
        if not runtime.helm.proposes():
            raise NotReady("this node makes no vertices", hint="report it to a validator's node")
        jurisdiction = jurisdiction_in(runtime.store, runtime.helm.epoch)
        found = await asyncio.to_thread(evidence_in, headers, jurisdiction, runtime.parameters)
        for item in found:
            await runtime.ordering.keep_evidence(item.raw)
            runtime.inbox.post(EvidenceOffered(item.raw))
        return tuple(OffenceView(item.kind.value, item.address, item.epoch, item.position) for item in found)

    def transaction(self, transaction_hash: bytes) -> TransactionStatus:
        """From the chain or from this node's pool. Raises NotFound."""
        return self._running.submissions.status(transaction_hash)

    def pending_nonce(self, address: Address) -> int:
        """The next nonce to sign, counting what waits here."""
        return self._running.submissions.pending_nonce(address)


def _read_wait(wait: WaitFor | str, timeout_s: float) -> WaitFor:
    if not 0 < timeout_s <= MAX_WAIT_S:
        raise UsageError(f"timeout: expected more than 0 and at most {MAX_WAIT_S:g} seconds, got {timeout_s:g}")
    try:
        return WaitFor(wait)
    except ValueError:
        known = ", ".join(item.value for item in WaitFor)
        raise UsageError(f"wait: expected one of {known}, got {wait!r}") from None


def first_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error in a group of groups: what ended the node; the others were cancelled or followed."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
