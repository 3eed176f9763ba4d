"""From a commit to a signed header: execute, make durable in one batch, read back, sign.

The commit that closes a chain block brings what the folded ones carry; commits behind an epoch's closing block, or
executed before, are dropped. Everything happens in the store's
one writer thread, so the loop goes on meanwhile. What is signed is the header as the disk gave it back; a height is
written once, so no two headers of one height are ever signed, across crashes too. Non-goals: the order (consensus)
and the meaning (ledger).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import structlog

from consensus.events import CommittedSubDag, Executed
from consensus.order.checkpoint import decode_cursor
from consensus.order.ranges import Outline, encode_outline
from mpisa.ledger.rules import BlockContext
from mpisa.ledger.state import KeptAccounts
from mpisa.ledger.transition import BlockResult, execute_payloads
from mpisa.node.chain_records import ExecutedBlock
from mpisa.node.offences import jurisdiction_in, offences_of
from mpisa.node.stages import Stage, Stages
from mpisa.primitives import merkle
from mpisa.primitives.digest import ZERO_DIGEST
from mpisa.primitives.errors import IntegrityError
from mpisa.primitives.header import Header, Validator, ValidatorSet, header_hash, sign_header
from mpisa.primitives.identifiers import Height, format_address
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import RECORD_SPACE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor as ThreadExecutor

    from consensus.dag.vertex import VertexRef
    from consensus.parameters import Parameters
    from mpisa.ledger.offences import Offence
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.transaction_cache import TransactionCache
    from mpisa.primitives.keys import PrivateKey
    from mpisa.primitives.validator_record import ValidatorRecord

SignerAmong: TypeAlias = "Callable[[Sequence[ValidatorRecord]], PrivateKey | None]"
"""The key of that validator of a set which this node is, if any."""

MAX_UNCERTIFIED = 1_024
"""Heights told to consensus again after a restart; the certificates of earlier ones are asked for from peers."""


log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A chain block that is durable, and the event that tells the engine."""

    block: ExecutedBlock
    event: Executed


class Diverged(IntegrityError):
    """A certified chain block comes out otherwise here: this node is wrong, or a quorum is."""

    code = "diverged"

    def __init__(self, own: Header, certified: Header) -> None:
        fields = [name for name in Header.__slots__ if getattr(own, name) != getattr(certified, name)]
        super().__init__(
            f"a quorum certified another header at height {certified.height} than this node executed: "
            f"{certified.hash.hex()} instead of {own.hash.hex()}; they differ in {', '.join(fields)}",
            hint="nothing is lost: tell its operator",
        )
        self.own = own
        self.certified = certified


def signs_nothing(validators: Sequence[ValidatorRecord]) -> None:
    """The SignerAmong of whoever holds no keys."""
    return


class Execution:
    """See the module. One task calls `execute`, commit after commit."""

    def __init__(
        self,
        store: ChainStore,
        signer_among: SignerAmong,
        writer: ThreadExecutor,
        transactions: TransactionCache,
        parameters: Parameters,
        stages: Stages | None = None,
    ) -> None:
        self._store = store
        self._parameters = parameters
        self._signer_among = signer_among
        self._writer = writer
        self._transactions = transactions
        self.accounts = KeptAccounts()
        self._stages = stages or Stages()
        self._folded: list[tuple[VertexRef, ...]] = []

    async def execute(self, commit: CommittedSubDag) -> Outcome | None:
        """The outcome when this commit closes a chain block, else None.

        Raises DiskFull, and may then be called again with the same commit; StoreDamaged or IntegrityError are final.
        """
        if self._is_void(commit):
            return None
        if commit.block is None:
            self._folded.append(refs_of(commit))
            return None
        outline = outline_of(self._folded, commit)
        outcome = await asyncio.get_running_loop().run_in_executor(self._writer, self._execute, commit, outline)
        self._folded = []
        return outcome

    def forget_folded(self) -> None:
        """Commits come again from the latest chain block on."""
        self._folded = []

    def _is_void(self, commit: CommittedSubDag) -> bool:
        """Behind its epoch's closing block, or in a chain block that is executed already."""
        head = self._store.header(self._store.height)
        is_over = commit.epoch < head.epoch or (head.closes_epoch and commit.epoch == head.epoch)
        return is_over or commit.index <= head.last_commit

    def uncertified(self) -> list[Executed]:
        """The events of heights that were executed before and have no certificate, ascending: after a restart."""
        return [self._sign(height) for height in self._store.uncertified()[-MAX_UNCERTIFIED:]]

    def execute_again(self, commit: CommittedSubDag, outline: bytes, *, sync: bool) -> Header:
        """The header of the chain block that this commit closes, which was ordered before; blocks, signs nothing.

        Without `sync` a power cut may take the latest blocks, and then the same commits come again. Raises DiskFull.
        """
        return self._make(commit, outline, sync=sync).header

    def follow(self, commit: CommittedSubDag, outline: bytes, certified: Header, *, sync: bool) -> Outcome:
        """The outcome of a chain block that others certified; blocks, signs nothing.

        Raises DiskFull, and Diverged where it comes out otherwise here: nothing is stored then.
        """
        block = self._make(commit, outline, sync=sync, certified=certified)
        header = block.header
        return Outcome(block, Executed(Height(header.height), header_hash(header), b"", header))

    def _execute(self, commit: CommittedSubDag, outline: bytes) -> Outcome:
        block = self._make(commit, outline, sync=True)
        with self._stages.measure(Stage.HEADER):
            return Outcome(block, self._sign(block.header.height))

    def _make(
        self,
        commit: CommittedSubDag,
        outline: bytes,
        *,
        sync: bool,
        certified: Header | None = None,
    ) -> ExecutedBlock:
        assert commit.block is not None
        height = commit.block.height
        previous = self._store.header(height - 1)
        context = BlockContext(previous.chain_hash, height, commit.time_ms, commit.epoch)
        with self._stages.measure(Stage.EXECUTION):
            result = execute_payloads(
                self._store,
                [vertex.payload for vertex in commit.content if vertex.payload],
                context,
                signature_ok=self._transactions.check_last,
                decode=self._transactions.decode,
                offences=self._offences(commit),
                kept=self.accounts,
            )
        with self._stages.measure(Stage.STATE_MAP):
            update = self._store.preview(result.changes)
        with self._stages.measure(Stage.HEADER):
            header = self._header(commit, previous, result, update.root)
        if certified is not None and header != certified:
            raise Diverged(header, certified)
        with self._stages.measure(Stage.CHAIN_STORE):
            links = _lineage_links(result)
            block = ExecutedBlock(
                header,
                result.transactions,
                result.receipts,
                result.changes,
                links,
                outline,
                commit.cursor,
                result.next_validators,
            )
            self._store.commit(block, update, sync=sync)
        for item in result.punishments:
            log.error(
                "validator punished",
                operator=format_address(item.operator),
                kind=item.offence.kind.value,
                epoch=item.offence.epoch,
                position=item.offence.position,
                burned=item.burned,
                jailed_until_ms=item.jailed_until_ms,
                height=height,
            )
        return block

    def _offences(self, commit: CommittedSubDag) -> tuple[Offence, ...]:
        """What the evidence in the chain block proves."""
        if not any(vertex.evidence for vertex in commit.content):
            return ()
        jurisdiction = jurisdiction_in(self._store, commit.epoch)
        return offences_of(commit.content, jurisdiction, self._parameters)

    def _header(self, commit: CommittedSubDag, previous: Header, result: BlockResult, state_root: bytes) -> Header:
        assert commit.block is not None
        following = None
        if result.next_validators is not None:
            following = ValidatorSet(tuple(Validator(item.address, item.power) for item in result.next_validators))
        return Header(
            chain_hash=previous.chain_hash,
            height=commit.block.height,
            time_ms=commit.time_ms,
            epoch=commit.epoch,
            first_commit=commit.block.first_commit,
            last_commit=commit.index,
            previous=self._store.hash_at(previous.height),
            commit_digest=commit.digest,
            window_root=commit.window_root,
            tx_root=merkle.list_root(result.transactions),
            receipts_root=merkle.list_root([receipt.encode() for receipt in result.receipts]),
            state_root=state_root,
            validators_hash=self._store.epoch(commit.epoch).validator_set.hash,
            next_validators_hash=ZERO_DIGEST if following is None else following.hash,
        )

    def _sign(self, height: int) -> Executed:
        header = self._store.reread_header(height)
        key = self._signer_among(self._store.epoch(header.epoch).validators)
        signature = sign_header(key, header) if key is not None else b""
        committee = self._store.epoch(header.epoch + 1).committee if header.closes_epoch else None
        return Executed(Height(height), header_hash(header), signature, header, committee)


def refs_of(commit: CommittedSubDag) -> tuple[VertexRef, ...]:
    """What an outline lists of a commit."""
    return tuple([vertex.ref for vertex in commit.vertices])


def outline_of(folded: Sequence[tuple[VertexRef, ...]], closing: CommittedSubDag) -> bytes:
    """The outline of a chain block: the commits folded into it, then the one that closes it."""
    checkpoint = decode_cursor(closing.cursor)
    return encode_outline(Outline(checkpoint.slot, checkpoint.conduct, (*folded, refs_of(closing))))


def _lineage_links(result: BlockResult) -> tuple[tuple[bytes, bytes], ...]:
    """(input CID bytes, record key) of every record written, for the index of what was made from what."""
    links = []
    for key, value in result.changes:
        if value is not None and key.startswith(RECORD_SPACE):
            record = StoredRecord.decode(value).record
            links += [(item.cid.to_bytes(), key) for item in record.inputs if item.cid is not None]
    return tuple(links)
