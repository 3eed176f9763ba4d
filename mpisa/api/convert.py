"""From what the node shows (`mpisa.node.views`) to what the API answers (`mpisa.sdk.models`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mpisa.api.problems import problem_of
from mpisa.primitives.account import NameEntry
from mpisa.primitives.header import encode_header
from mpisa.primitives.identifiers import ArtefactName, format_address
from mpisa.sdk import models

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mpisa.ledger.standing import StakeStanding, StakingStanding, ValidatorStanding
    from mpisa.node import views
    from mpisa.node.content import EntryPage
    from mpisa.node.epoch_proof import Entry
    from mpisa.primitives.cosignature import Cosignature
    from mpisa.primitives.genesis import Genesis
    from mpisa.primitives.header import ValidatorSet
    from mpisa.primitives.identifiers import Address
    from mpisa.primitives.merkle import MapProof
    from mpisa.primitives.receipt import Receipt


def node_info(status: views.NodeStatus) -> models.NodeInfo:
    """The node's account of itself, word for word."""
    return models.NodeInfo(**{name: getattr(status, name) for name in models.NodeInfo.__struct_fields__})


def peers(found: Sequence[views.PeerView]) -> models.Peers:
    """Peers as they are known."""
    return models.Peers(
        peers=tuple(
            models.Peer(
                peer_id=peer.peer_id,
                addresses=peer.addresses,
                connected=peer.connected,
                link=peer.link,
                authority=peer.authority,
            )
            for peer in found
        )
    )


def head(found: views.Head) -> models.ChainHead:
    """The newest certified chain block."""
    return models.ChainHead(
        chain_id=found.chain_id,
        height=found.height,
        hash=found.hash.hex(),
        state_root=found.state_root.hex(),
        epoch=found.epoch,
        time_ms=found.time_ms,
        ordered_height=found.ordered_height,
        certified=found.certified,
    )


def genesis(found: Genesis) -> models.GenesisDocument:
    """The genesis document with its hashes."""
    return models.GenesisDocument(
        chain_id=found.chain_id, hash=found.hash.hex(), chain_hash=found.chain_hash.hex(), document=found.to_json()
    )


def receipt(found: Receipt) -> models.Receipt:
    """A transaction's outcome."""
    return models.Receipt(
        tx=found.tx_hash.hex(),
        status=found.status.value,
        reason=None if found.reason is None else found.reason.value,
        detail=found.detail,
        nonce_used=found.nonce_used,
        fee=found.fee,
    )


def chain_block(found: views.ChainBlock) -> models.ChainBlock:
    """A chain block with every field of its header."""
    header = found.header
    return models.ChainBlock(
        height=header.height,
        hash=found.hash.hex(),
        time_ms=header.time_ms,
        epoch=header.epoch,
        first_commit=header.first_commit,
        last_commit=header.last_commit,
        previous=header.previous.hex(),
        commit_digest=header.commit_digest.hex(),
        window_root=header.window_root.hex(),
        tx_root=header.tx_root.hex(),
        receipts_root=header.receipts_root.hex(),
        state_root=header.state_root.hex(),
        validators_hash=header.validators_hash.hex(),
        next_validators_hash=header.next_validators_hash.hex(),
        header=encode_header(header).hex(),
        certified=found.certificate is not None,
        certificate=None if found.certificate is None else found.certificate.encode().hex(),
        transactions=tuple(raw.hex() for raw in found.transactions),
        receipts=tuple(receipt(item) for item in found.receipts),
    )


def header_page(bundles: Sequence[views.HeaderBundle], following: int | None) -> models.HeaderPage:
    """Headers of one validator set."""
    return models.HeaderPage(
        headers=tuple(
            models.SignedHeader(
                height=bundle.header.height,
                header=encode_header(bundle.header).hex(),
                certificate=None if bundle.certificate is None else bundle.certificate.encode().hex(),
            )
            for bundle in bundles
        ),
        validators=bundles[0].validators.encode().hex() if bundles else "",
        next=following,
    )


def epoch_page(closed: Sequence[views.HeaderBundle], following: int | None) -> models.EpochPage:
    """Closing headers."""
    return models.EpochPage(
        epochs=tuple(
            models.ClosedEpoch(
                epoch=bundle.header.epoch,
                height=bundle.header.height,
                header=encode_header(bundle.header).hex(),
                certificate=bundle.certificate.encode().hex(),
                validators=bundle.validators.encode().hex(),
            )
            for bundle in closed
            if bundle.certificate is not None
        ),
        next=following,
    )


def cosignatures(epoch: int, items: Sequence[Cosignature], records: Sequence[Entry]) -> models.Cosignatures:
    """Co-signatures, and the records that name their keys."""
    return models.Cosignatures(
        epoch=epoch,
        cosignatures=tuple(
            models.Cosignature(address=format_address(item.address), signature=item.signature.hex()) for item in items
        ),
        records=tuple(
            models.ProvenRecord(key=item.key.hex(), value=item.value.hex(), proof=item.proof.hex()) for item in records
        ),
    )


def transaction(found: views.TransactionStatus) -> models.Transaction:
    """Where a transaction is."""
    return models.Transaction(
        hash=found.hash.hex(),
        status=found.status.value,
        height=found.height,
        index=found.index,
        receipt=None if found.receipt is None else receipt(found.receipt),
        raw=None if found.raw is None else found.raw.hex(),
    )


def stream_answer(found: views.StreamAnswer) -> models.StreamAnswer:
    """What became of some of a stream's transactions."""
    return models.StreamAnswer(
        transactions=found.transactions,
        status=None if found.status is None else found.status.value,
        height=found.height,
        receipt=None if found.receipt is None else receipt(found.receipt),
        problem=None if found.error is None else problem_of(found.error),
    )


def offences(found: Iterable[views.OffenceView]) -> models.Offences:
    """What was proved by a report."""
    return models.Offences(
        offences=tuple(
            models.Offence(
                kind=item.kind, address=format_address(item.address), epoch=item.epoch, position=item.position
            )
            for item in found
        )
    )


def validators(found: ValidatorSet, names: Mapping[Address, str], height: int, epoch: int) -> models.Validators:
    """A validator set, each with the name it gave itself."""
    return models.Validators(
        height=height,
        epoch=epoch,
        total_power=found.total_power,
        hash=found.hash.hex(),
        encoded=found.encode().hex(),
        validators=tuple(
            models.Validator(address=format_address(item.address), power=item.power, name=names.get(item.address))
            for item in found.validators
        ),
    )


def validator_standing(found: ValidatorStanding) -> models.ValidatorStanding:
    """A validator as it stands."""
    record, following = found.record, found.next
    moves = found.now is not None and following is not None and following.address != found.now.address
    return models.ValidatorStanding(
        name=record.name,
        operator=format_address(record.operator),
        address=format_address(record.address),
        power=0 if found.now is None else found.now.power,
        next_power=0 if following is None else following.power,
        change=found.change.value,
        bonded=found.registration.bonded,
        waiting=found.registration.waiting,
        consensus_key=record.consensus_key.hex(),
        peer_id=record.peer_id,
        post_quantum_key=record.post_quantum_key.hex() or None,
        next_address=format_address(following.address) if moves and following is not None else None,
        jailed_until_ms=found.registration.jailed_until_ms or None,
    )


def staking(height: int, found: StakingStanding) -> models.Staking:
    """How validators stand."""
    return models.Staking(
        height=height,
        epoch=found.epoch.epoch,
        opened_ms=found.epoch.opened_ms,
        pending=found.epoch.pending,
        closes_from_ms=found.closes_from_ms,
        power_unit=found.parameters.power_unit,
        minimum_stake=found.parameters.minimum_stake,
        unbonding_ms=found.parameters.unbonding_ms,
        validators=tuple(validator_standing(item) for item in found.validators),
    )


def stake(height: int, found: StakeStanding) -> models.Stake:
    """How one operator stands."""
    registration = found.registration
    return models.Stake(
        height=height,
        operator=format_address(registration.operator),
        bonded=registration.bonded,
        waiting=registration.waiting,
        returns=tuple(models.StakeReturn(amount=item.amount, due_ms=item.due_ms) for item in found.returns),
        validator=None if found.validator is None else validator_standing(found.validator),
    )


def map_proof(found: MapProof) -> models.MapProof:
    """A map proof, as readable fields."""
    leaf = None
    if found.leaf is not None:
        leaf = models.ProofLeaf(path=found.leaf[0].hex(), value_hash=found.leaf[1].hex())
    return models.MapProof(
        depth=found.depth,
        bitmap=hex(found.bitmap),
        siblings=tuple(sibling.hex() for sibling in found.siblings),
        leaf=leaf,
    )


def state_proof(found: views.StateProof) -> models.StateProof:
    """A state entry with what shows it."""
    return models.StateProof(
        key=found.key.hex(),
        height=found.header.height,
        header=encode_header(found.header).hex(),
        validators=found.validators.encode().hex(),
        proof=map_proof(found.proof),
        certificate=None if found.certificate is None else found.certificate.encode().hex(),
        value=None if found.value is None else found.value.hex(),
    )


def account(found: views.AccountView) -> models.Account:
    """An account."""
    key = found.public_key
    return models.Account(
        address=format_address(found.address),
        exists=found.exists,
        nonce=found.nonce,
        pending_nonce=found.pending_nonce,
        balance=found.balance,
        public_key=None if key is None else key.encode().hex(),
        key_kind=None if key is None else key.kind.value,
    )


def name(found: ArtefactName, value: bytes) -> models.Name:
    """What a name points to."""
    entry = NameEntry.decode(value)
    return models.Name(
        name=str(found),
        cid=str(entry.cid),
        account=format_address(entry.account),
        height=entry.height,
        time_ms=entry.time_ms,
        tx=entry.tx_hash.hex(),
    )


def stat(found: views.StatView) -> models.BlobStat:
    """What lies behind a CID."""
    return models.BlobStat(
        cid=str(found.cid),
        kind=found.kind,
        size=found.size,
        dag_size=found.dag_size,
        blocks=found.blocks,
        local=found.local,
        target=found.target,
        mode=found.mode,
        mtime_ns=found.mtime_ns,
    )


def entries(cid: str, page: EntryPage) -> models.Entries:
    """Some names of a directory."""
    listed = (models.Entry(name=e.name, cid=str(e.cid), size=e.size, kind=e.kind.value) for e in page.entries)
    return models.Entries(cid=cid, entries=tuple(listed), next=page.next)


def pin(found: views.PinView) -> models.Pin:
    """A pin."""
    return models.Pin(cid=str(found.cid), kind=found.kind, name=found.name, reason=found.reason)


def car(found: views.CarView) -> models.CarResult:
    """What was taken of a CAR."""
    return models.CarResult(
        roots=tuple(str(root) for root in found.roots),
        blocks=found.blocks,
        bytes=found.size,
        pinned=tuple(str(root) for root in found.pinned),
    )


def check(found: views.CheckView) -> models.BlobCheck:
    """A DAG's blocks, hashed again."""
    return models.BlobCheck(
        cid=str(found.cid),
        blocks=found.blocks,
        bytes=found.size,
        damaged=found.damaged,
        missing=found.missing,
        damaged_cids=tuple(str(cid) for cid in found.damaged_cids),
        missing_cids=tuple(str(cid) for cid in found.missing_cids),
    )
