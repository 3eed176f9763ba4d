"""`ChainClient`: the routes that tell of a node and of its chain, each as the node says it (`light` checks)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa import sdk  # its models are imported when the first answer is asked for
from mpisa.sdk.collecting import collect
from mpisa.sdk.connection import Connection, segment
from mpisa.sdk.inspecting import verify_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from mpisa.sdk import models


class ChainClient(Connection):
    """See `AsyncClient`, which is one."""

    # The node

    async def ready(self) -> models.Readiness:
        """Whether the node serves, and if not, what it waits for."""
        return await self.transport.call(sdk.models.Readiness, "GET", "/readyz", also=(503,))

    async def node(self) -> models.NodeInfo:
        return await self.transport.call(sdk.models.NodeInfo, "GET", "/v1/node")

    async def peers(self) -> tuple[models.Peer, ...]:
        return (await self.transport.call(sdk.models.Peers, "GET", "/v1/peers")).peers

    async def collect(
        self, *, dry_run: bool = False, progress: Callable[[models.GcState], None] | None = None
    ) -> models.GcResult:
        """Have the node give back the space of what no pin keeps; returns when it has."""
        return await collect(self.transport, dry_run, progress)

    async def verify_store(self, *, progress: Callable[[int, int | None], None] | None = None) -> models.StoreCheck:
        """Have the node hash every block again; returns when it has. `progress`: bytes done, of about how many."""
        return await verify_store(self.transport, progress)

    async def diagnose(self) -> models.Diagnosis:
        """What is wrong with the node, why that matters, and what to do."""
        return await self.transport.call(sdk.models.Diagnosis, "GET", "/v1/doctor")

    async def collection(self) -> models.GcState:
        """Whether a collection runs, how far it is, and what the last one did."""
        return await self.transport.call(sdk.models.GcState, "GET", "/v1/gc")

    # The chain

    async def head(self) -> models.ChainHead:
        """The newest certified chain block, as the node tells it; `verify_chain` checks."""
        return await self.transport.call(sdk.models.ChainHead, "GET", "/v1/chain/head")

    async def genesis(self) -> models.GenesisDocument:
        return await self.transport.call(sdk.models.GenesisDocument, "GET", "/v1/chain/genesis")

    async def block(self, which: int | str) -> models.ChainBlock:
        """A chain block by height or by header hash (hex)."""
        return await self.transport.call(sdk.models.ChainBlock, "GET", f"/v1/chain/blocks/{segment(str(which))}")

    async def headers(self, first: int = 0, limit: int = 100) -> models.HeaderPage:
        """Certified headers from a height on, ascending."""
        query = {"from": str(first), "limit": str(limit)}
        return await self.transport.call(sdk.models.HeaderPage, "GET", "/v1/chain/headers", query=query)

    async def cosignatures(self, epoch: int) -> models.Cosignatures:
        """What the node holds of the co-signatures of an epoch's closing header."""
        return await self.transport.call(sdk.models.Cosignatures, "GET", f"/v1/chain/epochs/{epoch}/cosignatures")

    async def epochs(self, first: int = 0, limit: int = 100) -> models.EpochPage:
        """The closing headers of the epochs from this one on, ascending; the running epoch has none yet."""
        query = {"from": str(first), "limit": str(limit)}
        return await self.transport.call(sdk.models.EpochPage, "GET", "/v1/chain/epochs", query=query)

    async def transaction(self, transaction_hash: str) -> models.Transaction:
        return await self.transport.call(sdk.models.Transaction, "GET", f"/v1/transactions/{segment(transaction_hash)}")

    async def account(self, address: str) -> models.Account:
        return await self.transport.call(sdk.models.Account, "GET", f"/v1/accounts/{segment(address)}")

    async def validators(self, height: int | None = None) -> models.Validators:
        return await self.transport.call(sdk.models.Validators, "GET", "/v1/chain/validators", query=_at(height))

    async def report(self, headers: Sequence[tuple[bytes, bytes]]) -> models.Offences:
        """Hand in one or two certified headers (header and certificate bytes) that convict their signers."""
        pairs = [{"header": header.hex(), "certificate": certificate.hex()} for header, certificate in headers]
        return await self.transport.call(sdk.models.Offences, "POST", "/v1/chain/evidence", body={"headers": pairs})

    async def staking(self) -> models.Staking:
        """How validators stand: power now and next, stake, who joins, leaves or is jailed."""
        return await self.transport.call(sdk.models.Staking, "GET", "/v1/chain/staking")

    async def dag(self, rounds: int = 24) -> models.Dag:
        """The recent DAG as the node sees it: rounds, verdicts, each authority's part."""
        return await self.transport.call(sdk.models.Dag, "GET", "/v1/chain/dag", query={"rounds": str(rounds)})

    async def vertex(self, identifier: str) -> models.DagVertexDetail:
        """A vertex of the recent DAG by its id in hex, or the first digits of it."""
        return await self.transport.call(sdk.models.DagVertexDetail, "GET", f"/v1/chain/dag/{segment(identifier)}")

    async def stake(self, operator: str) -> models.Stake:
        """What an operator (an address) has at stake, and what is on its way back."""
        return await self.transport.call(sdk.models.Stake, "GET", f"/v1/chain/staking/{segment(operator)}")

    async def state(self, key: str | bytes, height: int | None = None) -> models.StateValue:
        """A state entry by its key (bytes or hex), at the newest certified height unless one is named."""
        return await self.transport.call(
            sdk.models.StateValue, "GET", f"/v1/chain/state/{_hex(key)}", query=_at(height)
        )

    async def proof(self, key: str | bytes, height: int | None = None) -> models.StateProof:
        """The same with header, certificate, validators and map proof; see `mpisa.sdk.verify`."""
        return await self.transport.call(
            sdk.models.StateProof, "GET", f"/v1/chain/proof/{_hex(key)}", query=_at(height)
        )

    def events(self, last_event_id: int | None = None) -> AsyncIterator[models.Event]:
        """Events as they happen; ends with an error when the node goes away. Close it with `aclose()`."""
        from mpisa.sdk.events import stream_events

        return stream_events(self.transport, last_event_id)


def _hex(key: str | bytes) -> str:
    return segment(key.hex() if isinstance(key, bytes) else key)


def _at(height: int | None) -> dict[str, str]:
    return {} if height is None else {"height": str(height)}
