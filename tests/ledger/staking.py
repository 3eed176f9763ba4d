"""A chain on which numbered validators come and go: number n has its keys, its operator and its name by its number."""

from mpisa.ledger.offences import Offence, OffenceKind
from mpisa.ledger.staking import read_epoch, read_registration
from mpisa.primitives.account import Account
from mpisa.primitives.genesis import ChainParameters
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.keys import KeyKind, PrivateKey
from mpisa.primitives.operations import Operation
from mpisa.primitives.receipt import Receipt
from mpisa.primitives.staking import EpochState, Registration, Return, decode_agenda_entry
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.state_keys import ACCOUNT_SPACE, AGENDA_SPACE, REGISTRATION_SPACE
from mpisa.primitives.validator_operations import (
    Bond,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)
from mpisa.primitives.validator_record import ValidatorRecord
from tests.ledger.conftest import START_MS, Chain, certificate_key, consensus_key, make_key, operator_key

MIN_EPOCH_MS = 5_000
UNBONDING_MS = 100_000
STAKING = StakingParameters(
    power_unit=10,
    minimum_stake=20,
    min_epoch_ms=MIN_EPOCH_MS,
    trusting_ms=60_000,
    evidence_ms=30_000,
    unbonding_ms=UNBONDING_MS,
    jail_ms=7_000,
    slash_ppm=100_000,
)
EXPIRES_MS = START_MS + 1_000 * UNBONDING_MS


def keys_of(number: int, *, post_quantum: bool = False) -> ValidatorKeys:
    quantum = make_key(f"validator {number}", KeyKind.ML_DSA_65) if post_quantum else None
    return ValidatorKeys(consensus_key(number), certificate_key(number), quantum)


def double_vertex(
    number: int, epoch: int = 0, kind: OffenceKind = OffenceKind.DOUBLE_VERTEX, position: int = 7
) -> Offence:
    address = certificate_key(number).address
    return Offence(kind, address, Epoch(epoch), position, bytes([number]) * 32)


class StakingChain(Chain):
    """Genesis validators 1..n of the given powers (10 units of stake each); operators 1 to 12 have a balance."""

    def __init__(self, powers: tuple[int, ...] = (10, 10, 10, 10), **staking: int) -> None:
        parameters = ChainParameters(staking=StakingParameters(**(STAKING.to_document() | staking)))
        super().__init__(parameters, powers, [operator_key(number) for number in range(1, 13)])

    def operate(self, number: int, operation: Operation, **changes: object) -> Receipt:
        """Run an operator's operation alone in a block."""
        return self.run(operator_key(number), operation, **({"expires_ms": EXPIRES_MS} | changes))

    def nonce(self, number: int) -> int:
        account = self.account(operator_key(number))
        return 0 if account is None else account.nonce

    def join_operation(self, number: int, stake: int, keys: ValidatorKeys | None = None, **changes: object):
        operator = operator_key(number).address
        fields = {"name": f"v{number}", "peer_id": f"12D3KooWTest{number}", "stake": stake} | changes
        return join_validator(keys or keys_of(number), self.chain_hash, operator, self.nonce(number), **fields)

    def join(self, number: int, stake: int = 100, keys: ValidatorKeys | None = None, **changes: object) -> Receipt:
        return self.operate(number, self.join_operation(number, stake, keys, **changes))

    def leave(self, number: int) -> Receipt:
        return self.operate(number, LeaveValidator())

    def bond(self, number: int, amount: int) -> Receipt:
        return self.operate(number, Bond(amount))

    def unbond(self, number: int, amount: int) -> Receipt:
        return self.operate(number, Unbond(amount))

    def change(self, number: int, keys: ValidatorKeys, peer_id: str | None = None) -> Receipt:
        operator = operator_key(number).address
        return self.operate(
            number, change_validator(keys, self.chain_hash, operator, self.nonce(number), peer_id=peer_id)
        )

    def end_epoch(self) -> tuple[ValidatorRecord, ...] | None:
        """The set that an old enough block names."""
        self.time_ms = max(self.time_ms, self.epoch_state.opened_ms + self.staking.min_epoch_ms)
        return self.execute().next_validators

    def pass_time(self, span_ms: int) -> None:
        """An empty block this much later."""
        self.time_ms += span_ms
        self.execute()

    @property
    def staking(self) -> StakingParameters:
        return self.genesis.parameters.staking

    @property
    def epoch_state(self) -> EpochState:
        return read_epoch(self.state.get)

    def registration(self, number: int) -> Registration:
        return read_registration(self.state.get, operator_key(number).address)

    def returns(self) -> list[tuple[int, int]]:
        """(operator's number, amount) of stake on its way back, in the order in which it is due."""
        numbers = {operator_key(number).address: number for number in range(1, 13)}
        return [(numbers[entry.operator], entry.amount) for entry in self.returns_raw()]

    def returns_raw(self) -> list[Return]:
        """The same as entries of the agenda."""
        entries = [
            decode_agenda_entry(value) for key, value in sorted(self.state.items()) if key.startswith(AGENDA_SPACE)
        ]
        return [entry for entry in entries if isinstance(entry, Return)]

    def value_in_all(self) -> int:
        """Balances, bonded, waiting and returning stake together."""
        total = 0
        for key, value in self.state.items():
            if key.startswith(ACCOUNT_SPACE):
                total += Account.decode(key[len(ACCOUNT_SPACE) :], value).balance
            elif key.startswith(REGISTRATION_SPACE):
                registration = Registration.decode(key[len(REGISTRATION_SPACE) :], value)
                total += registration.bonded + registration.waiting
        return total + sum(entry.amount for entry in self.returns_raw())


def names(records: tuple[ValidatorRecord, ...] | None) -> list[str] | None:
    """The names in a set, ascending."""
    return None if records is None else sorted(record.name for record in records)


def other_key(number: int, kind: KeyKind = KeyKind.ED25519) -> PrivateKey:
    """A key that no numbered validator begins with."""
    return make_key(f"another {number}", kind)
