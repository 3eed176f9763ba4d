"""What a devnet is asked to be, and whether an existing one already is that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from devnet.state import Manifest
from mpisa.primitives.errors import InvalidConfig

DEFAULT_NODES = 4
MAX_NODES = 32
ACCOUNT_NAMES = ("alice", "bob", "carol", "dave", "eve", "frank", "grace", "heidi", "ivan", "judy")
DEFAULT_ACCOUNTS = 3
DEFAULT_CHAIN_ID = "mpisa-devnet"
ACCOUNT_BALANCE = 1_000_000_000_000
FAUCET_LIMIT = 1_000_000_000
POWER_UNIT = 1_000_000_000
"""Stake that gives one power, which is what each validator of a devnet starts with."""
MIN_EPOCH_MS = 5_000
"""Short, so that a change of the validator set can be watched."""


Say = Callable[[str], None]
"""Where progress goes, one line a call."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Parameters of `up`; None means "as it is, or the default". `seed` makes every key reproducible."""

    nodes: int | None = None
    accounts: int | None = None
    chain_id: str | None = None
    base_port: int | None = None
    seed: str | None = None
    faucet: bool | None = None

    def __post_init__(self) -> None:
        if self.nodes is not None and not 1 <= self.nodes <= MAX_NODES:
            raise InvalidConfig(f"--nodes {self.nodes}: expected 1 to {MAX_NODES}")
        if self.accounts is not None and not 1 <= self.accounts <= len(ACCOUNT_NAMES):
            raise InvalidConfig(f"--accounts {self.accounts}: expected 1 to {len(ACCOUNT_NAMES)}")

    def require_matches(self, manifest: Manifest) -> None:
        """Refuse to pretend that an existing devnet has other parameters than it was made with."""
        asked = {"--nodes": self.nodes, "--accounts": self.accounts, "--chain-id": self.chain_id}
        actual = {
            "--nodes": len(manifest.nodes),
            "--accounts": len(manifest.accounts),
            "--chain-id": manifest.chain_id,
        }
        for option, value in asked.items():
            if value is not None and value != actual[option]:
                raise InvalidConfig(
                    f"the devnet in {manifest.home} has {option} {actual[option]}, not {value}",
                    hint="leave the option out, or choose another --home",
                )
        for option, value in (("--seed", self.seed), ("--base-port", self.base_port), ("--faucet", self.faucet)):
            if value is not None:
                raise InvalidConfig(
                    f"the devnet in {manifest.home} exists: {option} only counts when it is made",
                    hint="leave the option out, or choose another --home",
                )
