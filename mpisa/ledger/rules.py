"""What an operation may look at beside the state: the block it is executed in and the chain's parameters."""

from __future__ import annotations

from dataclasses import dataclass

from mpisa.primitives.genesis import ChainParameters


@dataclass(frozen=True, slots=True)
class BlockContext:
    """The chain block being executed: `time_ms` is its header's time, decided by the DAG, not by a clock."""

    chain_hash: bytes
    height: int
    time_ms: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The context of a block together with the parameters in force."""

    context: BlockContext
    parameters: ChainParameters
