"""The real ledger in the simulator: transition, state map, headers, validator sets, from a genesis with rich accounts.

Executing is a function of (block before, commit), so its result is shared by all nodes that ask the same; every so
often it is computed again and compared, so that a rule that isn't a function is found.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from consensus.dag.committee import Committee
from consensus.dag.judging import Era, Jurisdiction, ListedEras, is_admissible, read_evidence
from consensus.events import CommittedSubDag
from consensus.order.epoch import EpochStart, start_behind
from consensus.parameters import Parameters
from mpisa.ledger.offences import Offence, OffenceKind, Punishment
from mpisa.ledger.rules import BlockContext
from mpisa.ledger.transition import execute_payloads
from mpisa.node.epoch_record import EpochRecord
from mpisa.primitives import merkle
from mpisa.primitives.digest import ZERO_DIGEST, sha256
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.header import Header, header_hash
from mpisa.primitives.identifiers import Epoch, Height
from mpisa.primitives.keys import PublicKey
from mpisa.primitives.receipt import Receipt
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.transaction import SignedTransaction, decode_transaction
from mpisa.primitives.validator_record import ValidatorRecord
from tests.simulator.keys import client_key, operator_key, seats

GENESIS_MS = 1_000_000
BALANCE = 1_000_000
POWER_UNIT = 100
MAX_CLIENTS = 16
MAX_SEATS = 16
AGAIN = 16


class State:
    """A state map with all its values. Shares the map's unchanged nodes with the one before."""

    __slots__ = ("_paths", "entries", "root")

    def __init__(self, entries: dict[bytes, bytes], root: merkle.MapNode | None) -> None:
        self.entries = entries
        self.root = root
        self._paths: list[tuple[bytes, bytes, bytes]] = []

    def by_path(self) -> list[tuple[bytes, bytes, bytes]]:
        """(path, key, value) ascending, made once."""
        if not self._paths:
            self._paths = sorted((merkle.key_path(key), key, value) for key, value in self.entries.items())
        return self._paths

    def get(self, key: bytes) -> bytes | None:
        """The value under a state key, or None."""
        return self.entries.get(key)

    def after(self, changes: tuple[tuple[bytes, bytes | None], ...]) -> "State":
        """The state with these changes."""
        entries = dict(self.entries)
        for key, value in changes:
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        return State(entries, merkle.update(self.root, changes))


@dataclass(frozen=True, slots=True)
class Block:
    """An executed chain block: what a node's ledger store holds of it.

    `start` is where the epoch of the next block begins; `eras` are those of that epoch and of all before it,
    `closed_ms` the times of the headers that closed those before it; `record` is of the epoch that this block opens,
    None where it opens none; `outline` names the vertices that it took.
    """

    header: Header
    hash: bytes
    state: State
    transactions: tuple[bytes, ...]
    receipts: tuple[Receipt, ...]
    offences: tuple[Offence, ...]
    punishments: tuple[Punishment, ...]
    cursor: bytes
    start: EpochStart
    eras: Mapping[Epoch, Era]
    closed_ms: Mapping[Epoch, int]
    outline: bytes = b""
    record: EpochRecord | None = None

    @property
    def next_committee(self) -> Committee | None:
        """The committee that a closing header names."""
        return self.start.committee if self.header.closes_epoch else None

    def earlier(self, epoch: Epoch, unbonding_ms: int) -> ListedEras:
        """The epochs before one that has begun, as far as they are admissible in it."""
        opened_ms = self.closed_ms.get(Epoch(epoch - 1), GENESIS_MS)
        return ListedEras(
            {
                earlier: self.eras[earlier]
                for earlier, closed_ms in self.closed_ms.items()
                if earlier < epoch and is_admissible(closed_ms, opened_ms, unbonding_ms)
            }
        )


@cache
def genesis_of(powers: tuple[int, ...], min_epoch_ms: int) -> Genesis:
    """Validators of these powers by seat, and rich clients and operators."""
    validators = tuple(
        ValidatorRecord(
            f"validator-{seat}",
            header_key.address,
            power,
            vertex_key.public_key.data,
            f"peer-{seat}",
            operator=operator_key(seat).address,
        )
        for seat, ((vertex_key, header_key), power) in enumerate(zip(seats(len(powers)), powers, strict=True))
    )
    keys = [*map(client_key, range(MAX_CLIENTS)), *map(operator_key, range(MAX_SEATS))]
    accounts = sorted(
        (GenesisAccount(key.address, BALANCE, key.public_key) for key in keys), key=lambda item: item.address
    )
    staking = StakingParameters(
        power_unit=POWER_UNIT,
        minimum_stake=POWER_UNIT,
        min_epoch_ms=min_epoch_ms,
        trusting_ms=20_000,
        evidence_ms=10_000,
        unbonding_ms=40_000,
        jail_ms=5_000,
    )
    return Genesis(
        "simulator", GENESIS_MS, ChainParameters(minimum_fee=1, staking=staking), validators, tuple(accounts)
    )


@cache
def first_block(genesis: Genesis) -> Block:
    """Height 0."""
    entries = genesis_state(genesis)
    header = genesis_header(genesis)
    record = EpochRecord(Epoch(0), Height(0), b"", genesis.validators)
    start = start_behind(header, record.committee)
    state = State(entries, merkle.build(entries))
    eras = {Epoch(0): Era(start.committee, 1)}
    return Block(header, header_hash(header), state, (), (), (), (), b"", start, eras, {}, b"", record)


class Ledger:
    """Executes blocks for every node of a world. Signatures are checked once each, then remembered."""

    def __init__(self, genesis: Genesis, parameters: Parameters) -> None:
        self.chain_hash = genesis.chain_hash
        self.first = first_block(genesis)
        self.unbonding_ms = genesis.parameters.staking.unbonding_ms
        self._parameters = parameters
        self._done: dict[tuple[object, ...], Block] = {}
        self._good: set[tuple[bytes, bytes]] = set()
        self._decoded: dict[bytes, SignedTransaction] = {}
        self._calls = 0

    def execute(
        self, previous: Block, commit: CommittedSubDag, outline: Callable[[], bytes], lineage: int | None = None
    ) -> Block:
        """The block that this commit closes behind `previous`. `lineage` names a node whose state came from a snapshot:
        what others executed isn't taken for its own.
        """
        payloads = [vertex.payload for vertex in commit.content if vertex.payload]
        key = (lineage, previous.hash, commit.digest, sha256(*(sha256(payload) for payload in payloads)))
        known = self._done.get(key)
        self._calls += 1
        if known is not None and self._calls % AGAIN:
            return known
        block = self._execute(previous, commit, payloads, outline())
        assert known is None or known.hash == block.hash, "executing the same twice gave two results"
        self._done[key] = block
        return block

    def decode(self, raw: bytes) -> SignedTransaction:
        """decode_transaction, remembered."""
        known = self._decoded.get(raw)
        if known is None:
            known = self._decoded[raw] = decode_transaction(raw)
        return known

    def _check(self, signed: SignedTransaction, key: PublicKey) -> bool:
        name = (signed.raw, key.encode())
        if name not in self._good and signed.verify(key):
            self._good.add(name)
        return name in self._good

    def _execute(self, previous: Block, commit: CommittedSubDag, payloads: list[bytes], outline: bytes) -> Block:
        assert commit.block is not None
        before = previous.header
        assert commit.block.height == before.height + 1, "heights have no gaps"
        assert commit.epoch == previous.start.epoch, "a block is of the epoch that the one before left open"
        offences = self._offences(previous, commit)
        context = BlockContext(before.chain_hash, commit.block.height, commit.time_ms, commit.epoch)
        result = execute_payloads(
            previous.state, payloads, context, signature_ok=self._check, decode=self.decode, offences=offences
        )
        state = previous.state.after(result.changes)
        committee = previous.start.committee
        record = None
        if result.next_validators is not None:
            record = EpochRecord(
                Epoch(commit.epoch + 1), commit.block.height, commit.cursor, tuple(result.next_validators)
            )
        following = None if record is None else record.committee
        header = Header(
            chain_hash=before.chain_hash,
            height=commit.block.height,
            time_ms=commit.time_ms,
            epoch=commit.epoch,
            first_commit=commit.block.first_commit,
            last_commit=commit.index,
            previous=previous.hash,
            commit_digest=commit.digest,
            window_root=commit.window_root,
            tx_root=merkle.list_root(result.transactions),
            receipts_root=merkle.list_root([receipt.encode() for receipt in result.receipts]),
            state_root=merkle.root_hash(state.root),
            validators_hash=committee.validator_set.hash,
            next_validators_hash=ZERO_DIGEST if following is None else following.validator_set.hash,
        )
        start, eras, closed_ms = previous.start, previous.eras, previous.closed_ms
        if following is not None:
            start = start_behind(header, following)
            closed = Era(committee, previous.start.height + 1, header.height)
            eras = {**eras, commit.epoch: closed, start.epoch: Era(following, header.height + 1)}
            closed_ms = {**closed_ms, commit.epoch: header.time_ms}
        return Block(
            header,
            header_hash(header),
            state,
            result.transactions,
            result.receipts,
            offences,
            result.punishments,
            commit.cursor,
            start,
            eras,
            closed_ms,
            outline,
            record,
        )

    def _offences(self, previous: Block, commit: CommittedSubDag) -> tuple[Offence, ...]:
        """What the evidence in a commit shows, as the shell tells the ledger."""
        earlier = previous.earlier(commit.epoch, self.unbonding_ms)
        jurisdiction = Jurisdiction(self.chain_hash, commit.epoch, previous.eras[commit.epoch], earlier)
        found = []
        for raw in (item for vertex in commit.content for item in vertex.evidence):
            evidence = read_evidence(raw, jurisdiction, self._parameters)
            kind = OffenceKind(evidence.kind.value)
            found.append(Offence(kind, evidence.address, evidence.epoch, evidence.position, sha256(raw)))
        return tuple(found)
