"""The chain as a node shows it: the store's bytes turned into the values of `views`.

Whatever carries trust (head, proofs, accounts, names) is read at the latest certified height; what is only ordered is
reachable by height and marked by the lack of a certificate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.ledger.standing import StakeStanding, StakingStanding, read_stake, read_staking
from mpisa.node.epoch_proof import read_entries
from mpisa.node.views import (
    AccountView,
    ChainBlock,
    Head,
    HeaderBundle,
    RecordPage,
    RecordView,
    StateProof,
    TransactionStatus,
)
from mpisa.primitives.account import Account, NameEntry
from mpisa.primitives.errors import NotFound, UsageError
from mpisa.primitives.record import StoredRecord
from mpisa.primitives.state_keys import RECORD_SPACE, account_key, name_key, record_prefix

if TYPE_CHECKING:
    from mpisa.node.chain_store import ChainStore
    from mpisa.node.epoch_proof import Entry
    from mpisa.node.epoch_record import EpochRecord
    from mpisa.node.submission import Submissions
    from mpisa.primitives.cid import Cid
    from mpisa.primitives.cosignature import Cosignature
    from mpisa.primitives.genesis import Genesis
    from mpisa.primitives.header import Certificate, Header, ValidatorSet
    from mpisa.primitives.identifiers import Address, ArtefactName

MAX_PAGE = 1_000
MAX_STATE_KEY_BYTES = 1_024


class Chain:
    """See `mpisa.node.facade.ChainView`."""

    def __init__(self, store: ChainStore, genesis: Genesis, genesis_text: str, submissions: Submissions) -> None:
        self._store = store
        self._genesis = genesis
        self._genesis_text = genesis_text
        self._submissions = submissions

    @property
    def genesis(self) -> Genesis:
        """The document that this chain starts from."""
        return self._genesis

    @property
    def genesis_text(self) -> str:
        """The genesis document word for word."""
        return self._genesis_text

    def head(self) -> Head:
        """The latest certified header, and how far ordering is ahead of it."""
        height = self._store.certified_height
        header = self._store.header(height)
        return Head(
            chain_id=self._genesis.chain_id,
            height=height,
            hash=self._store.hash_at(height),
            state_root=header.state_root,
            epoch=header.epoch,
            time_ms=header.time_ms,
            ordered_height=self._store.height,
            certified=height > 0,
        )

    def header(self, height: int) -> Header:
        """Raises NotFound."""
        return self._store.header(height)

    def certificate(self, height: int) -> Certificate | None:
        """None while the height is ordered only, and for genesis. Raises NotFound for an unknown height."""
        self._store.header(height)
        return self._store.certificate(height)

    def block(self, which: int | bytes) -> ChainBlock:
        """By height or header hash. Raises NotFound."""
        height = which if isinstance(which, int) else self._store.height_of(which)
        return ChainBlock(
            hash=self._store.hash_at(height),
            header=self._store.header(height),
            certificate=self._store.certificate(height),
            transactions=self._store.transactions(height),
            receipts=self._store.receipts(height),
        )

    def headers(self, first: int, limit: int) -> tuple[HeaderBundle, ...]:
        """Up to `limit` (at most MAX_PAGE) headers from height `first` to the latest certified one, ascending."""
        if first < 0 or limit < 1:
            raise UsageError(f"expected a height from 0 and a limit from 1, got {first} and {limit}")
        last = min(first + min(limit, MAX_PAGE) - 1, self._store.certified_height)
        return tuple(
            HeaderBundle(self._store.header(height), self._store.certificate(height), self.validators(height))
            for height in range(first, last + 1)
        )

    def epochs(self, first: int, limit: int) -> tuple[HeaderBundle, ...]:
        """Up to `limit` (at most MAX_PAGE) certified closing headers, from that of epoch `first` on, ascending."""
        if first < 0 or limit < 1:
            raise UsageError(f"expected an epoch from 0 and a limit from 1, got {first} and {limit}")
        found: list[HeaderBundle] = []
        running = self._store.header(self._store.certified_height).epoch
        for epoch in range(first, min(first + min(limit, MAX_PAGE), running + 1)):
            try:
                height = self._store.epoch(epoch + 1).base
            except NotFound:
                break
            if height > self._store.certified_height:
                break
            header, certificate = self._store.header(height), self._store.certificate(height)
            found.append(HeaderBundle(header, certificate, self._store.epoch(epoch).validator_set))
        return tuple(found)

    def cosignatures(self, epoch: int) -> tuple[tuple[Cosignature, ...], tuple[Entry, ...]]:
        """Those of an epoch's closing header that are here, and its validators' records with proofs (none for the first
        epoch). Raises NotFound for an epoch that didn't end.
        """
        self._store.epoch(epoch + 1)
        raw = self._store.epoch_entries(epoch)
        return self._store.cosignatures.get(epoch), () if raw is None else read_entries(raw)

    def transaction(self, transaction_hash: bytes) -> TransactionStatus:
        """From the chain, or from this node's pool. Raises NotFound."""
        return self._submissions.status(transaction_hash)

    def account(self, address: Address) -> AccountView:
        """At the latest certified state; an address that never appeared has nonce and balance 0."""
        pending = self._submissions.pending_nonce(address)
        value = self.state(account_key(address))
        if value is None:
            return AccountView(address, False, None, 0, 0, pending)
        account = Account.decode(address, value)
        return AccountView(address, True, account.public_key, account.nonce, account.balance, pending)

    def validators(self, height: int | None = None) -> ValidatorSet:
        """The set whose quorum certifies this height (by default the latest certified one). Raises NotFound for an
        unknown height.
        """
        return self._epoch_at(height).validator_set

    def validator_names(self, height: int | None = None) -> dict[Address, str]:
        """What the validators of a height call themselves."""
        return {item.address: item.name for item in self._epoch_at(height).validators}

    def _epoch_at(self, height: int | None) -> EpochRecord:
        at = self._store.certified_height if height is None else height
        return self._store.epoch(self._store.header(at).epoch)

    def staking(self) -> tuple[int, StakingStanding]:
        """How validators stand, at the latest certified height, which comes first."""
        view = _StateAt(self._store, self._store.certified_height)
        return view.height, read_staking(view)

    def stake(self, operator: Address) -> tuple[int, StakeStanding]:
        """How one operator stands, at the latest certified height, which comes first."""
        view = _StateAt(self._store, self._store.certified_height)
        return view.height, read_stake(view, operator)

    def state(self, key: bytes, height: int | None = None) -> bytes | None:
        """A state value at a height (the latest certified one by default). Raises NotFound where it isn't kept."""
        return self._store.value_at(key, self._store.certified_height if height is None else height)

    def prove(self, key: bytes, height: int | None = None) -> StateProof:
        """A value or its absence with all that a light client needs. Raises NotFound for a height that is too old, not
        there, or not certified yet.
        """
        if len(key) > MAX_STATE_KEY_BYTES:
            raise UsageError(f"a state key has at most {MAX_STATE_KEY_BYTES} bytes, got {len(key)}")
        at = self._store.certified_height if height is None else height
        header, certificate = self._store.header(at), self._store.certificate(at)
        if certificate is None and at > 0:
            raise NotFound(
                f"height {at} has no certificate here",
                hint=f"the latest certified one is {self._store.certified_height}",
            )
        value = self._store.value_at(key, at)
        proof = self._store.prove(key, at)
        return StateProof(header, certificate, self.validators(at), key, value, proof)

    def records(self, cursor: bytes | None = None, limit: int = 100) -> RecordPage:
        """All provenance records in key order, a page at a time; `cursor` is the last page's next_cursor."""
        limit = max(1, min(limit, MAX_PAGE))
        if cursor is not None and not cursor.startswith(RECORD_SPACE):
            raise UsageError("the cursor isn't one of this list", hint="start again without a cursor")
        found = self._store.scan_state(RECORD_SPACE, cursor, limit + 1)
        page = tuple(_record(key, value) for key, value in found[:limit])
        return RecordPage(page, page[-1].key if len(found) > limit else None)

    def records_of(self, cid: Cid) -> tuple[RecordView, ...]:
        """Every publisher's record about one CID, the earliest claim first."""
        found = self._store.scan_state(record_prefix(cid), None, MAX_PAGE)
        return tuple(sorted((_record(key, value) for key, value in found), key=_claimed))

    def derived_from(self, cid: Cid, limit: int = 1000) -> tuple[RecordView, ...]:
        """Records that name this CID as an input."""
        found = []
        for key in self._store.derived(cid.to_bytes(), max(1, min(limit, MAX_PAGE))):
            value = self._store.get(key)
            if value is not None:
                record = _record(key, value)
                if any(item.cid == cid for item in record.stored.record.inputs):
                    found.append(record)
        return tuple(found)

    def resolve(self, name: ArtefactName) -> Cid | None:
        """The CID that a name stands for at the latest certified state."""
        value = self.state(name_key(name))
        return None if value is None else NameEntry.decode(value).cid


class _StateAt:
    """The state of one height, which doesn't move while it is read."""

    def __init__(self, store: ChainStore, height: int) -> None:
        self._store = store
        self.height = height

    def get(self, key: bytes) -> bytes | None:
        return self._store.value_at(key, self.height)


def _record(key: bytes, value: bytes) -> RecordView:
    stored = StoredRecord.decode(value)
    return RecordView(stored.record.subject, key, stored)


def _claimed(record: RecordView) -> tuple[int, bytes]:
    return record.stored.first_time_ms, record.key
