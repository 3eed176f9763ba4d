"""By which way a provider is asked for blocks: the peer port where it has one, bitswap where it has none."""

from __future__ import annotations

from collections.abc import Sequence

from mpisa.network.exchange import BatchAnswer, BlockTransport
from mpisa.network.ports import PeerAddress
from mpisa.primitives.cid import Cid


class RoutedTransport:
    """A BlockTransport over two others. A peer that said hello has told its peer port; Kubo and Helia never do."""

    def __init__(self, https: BlockTransport, bitswap: BlockTransport) -> None:
        self._https = https
        self._bitswap = bitswap

    async def get_block(self, provider: PeerAddress, cid: Cid, *, timeout: float) -> bytes:
        return await self._of(provider).get_block(provider, cid, timeout=timeout)

    async def get_blocks(self, provider: PeerAddress, cids: Sequence[Cid], *, timeout: float) -> BatchAnswer:
        return await self._of(provider).get_blocks(provider, cids, timeout=timeout)

    def _of(self, provider: PeerAddress) -> BlockTransport:
        return self._bitswap if provider.peer_url is None else self._https
