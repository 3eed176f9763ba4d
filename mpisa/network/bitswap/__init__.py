"""Bitswap 1.2: how blocks travel between this node and peers that don't speak MPISA, Kubo and Helia among them.

`messages` is the wire, `ledger` what peers want of us, `wants` what we want of them, `service` the asyncio side that
is a BlockTransport and answers peers. Streams belong to `libp2p_host.bitswap_streams`. Between MPISA nodes blocks
travel over the peer port, which is several times faster; `transports` chooses.
"""
