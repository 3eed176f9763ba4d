"""Clients and operators: each signs one transaction after the other, real ones, and asks again elsewhere while nothing
is certified.

What a client saw certified must stay. Now and then it hands the same transaction to two nodes: it is executed once.
"""

from typing import TYPE_CHECKING

from mpisa.primitives.keys import PrivateKey
from mpisa.primitives.operations import Operation, Transfer
from mpisa.primitives.transaction import Transaction, sign_transaction
from mpisa.primitives.validator_operations import (
    Bond,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)
from tests.simulator.keys import client_key, operator_key
from tests.simulator.ledger import MAX_CLIENTS, POWER_UNIT
from tests.simulator.scenario import Change, Move

if TYPE_CHECKING:
    from tests.simulator.world import World

PATIENCE_MS = 1_200
FOREVER_MS = 1 << 50
DOUBLED = 0.2


class Customer:
    """One account that has at most one transaction under way."""

    def __init__(self, world: "World", key: PrivateKey) -> None:
        self.world = world
        self.key = key
        self.nonce = 0

    def sign(self, operation: Operation) -> None:
        """Sign the next transaction and submit it until it is certified."""
        address = self.key.public_key.address
        transaction = Transaction(self.world.ledger.chain_hash, address, self.nonce, FOREVER_MS, (operation,), fee=1)
        signed = sign_transaction(transaction, self.key)
        self.nonce += 1
        self.world.waiting[signed.raw] = self
        self.world.submitted += 1
        self._submit(signed.raw)

    def done(self) -> None:
        """What was under way is certified."""

    def _submit(self, raw: bytes) -> None:
        if raw not in self.world.waiting:
            return
        random, nodes = self.world.random, self.world.known()
        for _ in range(2 if random.random() < DOUBLED else 1):
            nodes[random.randrange(len(nodes))].submit(raw)
        self.world.later(PATIENCE_MS, lambda: self._submit(raw))


class Client(Customer):
    """Sends money on, again and again."""

    def __init__(self, world: "World", number: int) -> None:
        super().__init__(world, client_key(number))
        self.number = number
        self.is_stopped = False

    def next(self) -> None:
        """The next transfer."""
        if not self.is_stopped:
            to = client_key((self.number + 1 + self.nonce % 3) % MAX_CLIENTS).public_key.address
            self.sign(Transfer(to, 1 + self.nonce % 5))

    def done(self) -> None:
        self.world.later(self.world.scenario.pause_ms, self.next)


class Operator(Customer):
    """Runs a seat's validator; asks for one change after the other."""

    def __init__(self, world: "World", seat: int) -> None:
        super().__init__(world, operator_key(seat))
        self.seat = seat
        self._changes: list[Change] = []
        self._is_busy = False

    def ask(self, change: Change) -> None:
        """This is to be done, once what was asked before is certified."""
        self._changes.append(change)
        self._next()

    def done(self) -> None:
        self._is_busy = False
        self._next()

    def _next(self) -> None:
        if self._changes and not self._is_busy:
            change = self._changes.pop(0)
            self._is_busy = True
            self.world.note(self.seat, f"its operator asks: {change.move} {change.power}")
            self.sign(self._operation(change))

    def _operation(self, change: Change) -> Operation:
        match change.move:
            case Move.JOIN:
                return join_validator(
                    ValidatorKeys(*self.world.nodes[self.seat].keys[0]),
                    self.world.ledger.chain_hash,
                    self.key.public_key.address,
                    self.nonce,
                    name=f"validator-{self.seat}",
                    peer_id=f"peer-{self.seat}",
                    stake=change.power * POWER_UNIT,
                )
            case Move.LEAVE:
                return LeaveValidator()
            case Move.BOND:
                return Bond(change.power * POWER_UNIT)
            case Move.UNBOND:
                return Unbond(change.power * POWER_UNIT)
            case Move.CHANGE_KEYS:
                keys = ValidatorKeys(*self.world.nodes[self.seat].next_keys())
                return change_validator(keys, self.world.ledger.chain_hash, self.key.public_key.address, self.nonce)
