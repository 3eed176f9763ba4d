"""How a node meets other nodes: libp2p says who, what and where; HTTPS between nodes moves the bytes.

`ports` holds the Protocols that the rest of MPISA depends on, `memory` their in-memory twin, `service` the real thing.
Only `libp2p_host` knows libp2p and trio. Nothing here is imported eagerly: libp2p costs seconds.
"""
