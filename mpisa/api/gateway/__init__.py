"""Bytes out: the IPFS gateway, /ipfs."""
