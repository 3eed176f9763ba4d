"""Bytes out: the IPFS gateway under /ipfs and /ipns, after specs.ipfs.tech (trustless gateway, path gateway).

`negotiation` says what is asked for, `paths` of what, `names` what an IPNS name points to; `content`, `codecs` and
`blocks` answer with files and listings, documents, and blocks that verify themselves; `sending` puts an answer on the
wire. `routes` ties them together. docs/gateway.md says which groups of the public conformance suite hold.
"""
