"""The HTTP side of a node: JSON under /v1, verified bytes under /ipfs, server-sent events, health and metrics.

It listens on loopback, answers known Host names only, wants a token for whatever writes, and knows the node only
through `mpisa.node.facade`. One table (`routes.py`) is what is served and what /openapi.json documents.
"""
