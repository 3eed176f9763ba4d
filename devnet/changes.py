"""Changes of the validator set for a chaos run: epochs close while faults and load go on.

One change at a time, drawn from a seed among those that the ledger takes: a validator bonds more stake or takes some
out, changes its keys, leaves, or comes back. Each is an operator's transaction like any other: handed in until some
node says certified, written down, and looked for on every node in the end. What was drawn is never refused, for a
change waits until the answering node knows of the change before. At the end everybody is in the set again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from devnet.plan import POWER_UNIT
from devnet.state import DevnetNode
from mpisa.config import Role
from mpisa.node.home import NEXT, Home
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.operations import Operation
from mpisa.primitives.validator_operations import (
    Bond,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)
from mpisa.sdk import models
from mpisa.sdk.async_client import AsyncClient

MAX_POWER = 3
"""So that no validator alone is a third of the power for long, and leaving doesn't cost a quorum."""

MAX_RETURNS = 12
"""Entries on their way back; with 16 of them the ledger takes no change that adds one."""

KINDS = (("bond", 3), ("unbond", 3), ("rotate-keys", 2), ("leave", 2))
"""Kinds of changes and how often each comes where it can, in proportion. Who left joins next."""

CALM_S = (1.0, 8.0)
POLL_S = 0.3

_T = TypeVar("_T")


class Hands(Protocol):
    """Who hands transactions in, whatever nodes are up."""

    stopping: asyncio.Event

    async def ask(self, read: Callable[[AsyncClient], Awaitable[_T]]) -> _T:
        """What some node answers."""

    async def next_nonce(self, address: str) -> int:
        """Of an account."""

    async def send(
        self, key: PrivateKey, nonce: int, operations: tuple[Operation, ...], what: Mapping[str, object]
    ) -> int:
        """Returns the height at which it is certified."""

    async def fund(self, to: Address, amount: int) -> None:
        """Returns when it is there."""


@dataclass(frozen=True, slots=True)
class Member:
    """A node of the devnet as the ledger has it: `power` of the next set, 0 for one that isn't registered."""

    name: str
    power: int
    is_leaving: bool = False
    returns: int = 0
    has_next_keys: bool = False


def possible(member: Member, others: Sequence[Member]) -> tuple[str, ...]:
    """The changes that the ledger takes of this one now, and that leave the network alive."""
    if member.is_leaving:
        return ()
    if not member.power:
        return ("join",)
    kinds = ["bond"] if member.power < MAX_POWER else []
    if member.returns < MAX_RETURNS:
        if member.power > 1:
            kinds.append("unbond")
        if not member.has_next_keys:
            kinds.append("rotate-keys")
        if len(others) >= 3 and all(item.power and not item.is_leaving for item in others):
            kinds.append("leave")
    return tuple(kinds)


def choose(source: random.Random, members: Sequence[Member]) -> tuple[str, str] | None:
    """Which change of which node; whoever is out comes back first. None while none is possible."""
    found = [
        (kind, member.name)
        for member in members
        for kind in possible(member, [other for other in members if other is not member])
    ]
    if not found:
        return None
    back = [item for item in found if item[0] == "join"]
    weights = dict(KINDS)
    return source.choice(back) if back else source.choices(found, [weights[kind] for kind, _ in found])[0]


class Changes:
    """See the module."""

    def __init__(self, nodes: Sequence[DevnetNode], seed: int, hands: Hands, chain_hash: bytes) -> None:
        self._homes = {node.name: node.home for node in nodes}
        self._peer_ids = {node.name: node.peer_id for node in nodes}
        self._random = random.Random(f"changes {seed}")  # noqa: S311 - a seed that replays
        self._hands = hands
        self._chain_hash = chain_hash
        self._nonces: dict[str, int] = {}
        self._height = 0

    async def run(self) -> None:
        """Until told to stop; then only who is out comes back."""
        while True:
            members = [await self._member(name) for name in self._homes]
            is_whole = all(member.power and not member.is_leaving for member in members)
            if self._hands.stopping.is_set() and is_whole:
                return
            if self._hands.stopping.is_set() or not is_whole:
                members = [member for member in members if not member.power]
            chosen = choose(self._random, members)
            if chosen is not None:
                await self._make(*chosen)
            await self._rest(POLL_S if chosen is None else self._random.uniform(*CALM_S))

    async def _rest(self, seconds: float) -> None:
        if self._hands.stopping.is_set():
            await asyncio.sleep(POLL_S)
            return
        try:
            async with asyncio.timeout(seconds):
                await self._hands.stopping.wait()
        except TimeoutError:
            return

    async def _member(self, name: str) -> Member:
        address = format_address(_operator(self._homes[name]).public_key.address)
        while True:
            found: models.Stake = await self._hands.ask(lambda client: client.stake(address))
            if found.height >= self._height:
                break
            await asyncio.sleep(POLL_S)
        standing = found.validator
        has_next = any(Home(self._homes[name]).keys.glob(f"{NEXT}*.json"))
        if standing is None:
            return Member(name, 0, returns=len(found.returns), has_next_keys=has_next)
        is_leaving = standing.change == "leaves"
        return Member(name, standing.next_power, is_leaving, len(found.returns), has_next)

    async def _make(self, kind: str, name: str) -> None:
        key = _operator(self._homes[name])
        address = key.public_key.address
        if kind in ("bond", "join"):
            await self._hands.fund(address, POWER_UNIT)
        if name not in self._nonces:
            self._nonces[name] = await self._hands.next_nonce(format_address(address))
        nonce = self._nonces[name]
        operation = self._operation(kind, name, address, nonce)
        what: dict[str, Any] = {"change": kind, "validator": name}
        self._height = await self._hands.send(key, nonce, (operation,), what)
        self._nonces[name] = nonce + 1

    def _operation(self, kind: str, name: str, operator: Address, nonce: int) -> Operation:
        match kind:
            case "bond":
                return Bond(POWER_UNIT)
            case "unbond":
                return Unbond(POWER_UNIT)
            case "leave":
                return LeaveValidator()
        home = Home(self._homes[name])
        if kind == "rotate-keys":
            home.keep_operator_key()
            home.make_next_keys(consensus=True, certificate=True)
            keys = home.read_keys(Role.VALIDATOR)
            following = ValidatorKeys(keys.next_consensus, keys.next_certificate)
            return change_validator(following, self._chain_hash, operator, nonce)
        keys = home.read_keys(Role.VALIDATOR)
        present = ValidatorKeys(keys.next_consensus or keys.consensus, keys.next_certificate or keys.certificate)
        peer_id = self._peer_ids[name]
        return join_validator(present, self._chain_hash, operator, nonce, name=name, peer_id=peer_id, stake=POWER_UNIT)


def _operator(path: Path) -> PrivateKey:
    home = Home(path)
    return home.read_key(home.operator_key_name)
