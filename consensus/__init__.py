"""Consensus: how many nodes agree on one order of bytes they don't look into (docs/protocol.md).

A DAG of signed vertices (`dag`) is decided into a sequence of commits (`order`) by an engine without I/O (`engine`):
events and the time go in, effects come out. No asyncio, no sockets, no clock, no randomness, no logging in here.
"""
