"""A stopped node's stores: looked through for damage, and mended without deleting anything.

A node refuses to start on a damaged store. What each one is worth decides the mending:

    ledger      follows from the vertices: set aside; executed again from them at the next start
    consensus   what this authority signed can't be known any more: set aside together with the ledger, which executed
                its vertices; both come back from the peers, and the authority sits the epoch out
    pins        LevelDB salvages what its checksums vouch for

Blocks are the block store's own business (`storage.packs.repair_store`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.dag.vertex import decode_vertex
from consensus.parameters import Parameters
from mpisa.node.chain_store import ChainStore
from mpisa.node.consensus_store import ConsensusStore
from mpisa.node.database import Database
from mpisa.node.home import Loss
from mpisa.node.runtime import Setup, epochs_of, open_ledger
from mpisa.primitives import merkle
from mpisa.primitives.errors import MpisaError, NotFound, Rejection, StoreDamaged
from mpisa.primitives.header import header_hash
from storage.pins import PinStore, repair_pins

if TYPE_CHECKING:
    from collections.abc import Callable


LEDGER, CONSENSUS, PINS = "ledger", "consensus", "pins"


@dataclass(frozen=True, slots=True)
class Finding:
    """One damaged store: its name and what is wrong."""

    store: str
    damage: str


@dataclass(frozen=True, slots=True)
class Mending:
    """What was done about a finding, in words for the operator."""

    store: str
    damage: str
    done: str


def check(setup: Setup) -> list[Finding]:
    """Reads every database of a home whole. The caller holds the home's lock. Raises InvalidConfig or StoreBusy."""
    checks: list[tuple[str, Callable[[Setup], None]]] = [
        (PINS, _check_pins),
        (LEDGER, _check_ledger),
        (CONSENSUS, _check_consensus),
    ]
    findings = []
    for store, look in checks:
        try:
            look(setup)
        except StoreDamaged as error:
            findings.append(Finding(store, error.message))
    if not findings:
        findings += _check_together(setup)
    return findings


def repair(setup: Setup, now_ms: int) -> list[Mending]:
    """Mends what `check` finds; `now_ms` is the time since 1970. The caller holds the home's lock."""
    home = setup.home
    findings = check(setup)
    damaged = {finding.store for finding in findings}
    mendings = []
    for finding in findings:
        if finding.store == PINS:
            kept, lost = repair_pins(home.pins)
            done = f"{len(kept)} pins kept, {lost} unreadable entries dropped; what is gone has to be pinned again"
        elif finding.store == CONSENSUS:
            done = _set_consensus_aside(setup, finding.damage, now_ms)
        elif CONSENSUS in damaged:
            continue
        else:
            done = f"set aside as {_set_aside(home.ledger)}; executed again from the vertices at the next start"
        mendings.append(Mending(finding.store, finding.damage, done))
    return mendings


def _set_consensus_aside(setup: Setup, damage: str, now_ms: int) -> str:
    home = setup.home
    has_keys = bool(setup.keys.certificates)
    if has_keys:
        home.write_loss(Loss(now_ms, f"its vertex store was damaged and repaired: {damage}"))
    names = [_set_aside(place) for place in (home.ledger, home.consensus) if place.exists()]
    done = f"set aside as {' and '.join(names)}; both come back from the peers"
    if not has_keys:
        return done
    return f"{done}; this authority sits the epoch out, since it can't know what it signed"


def _set_aside(place: Path) -> str:
    """Renames a directory to the first free `NAME.damaged-N`; that name."""
    for number in itertools.count(1):
        target = place.with_name(f"{place.name}.damaged-{number}")
        if not target.exists():
            place.rename(target)
            return target.name
    raise AssertionError("counting ended")


def _check_pins(setup: Setup) -> None:
    store = PinStore(setup.home.pins)
    try:
        for _ in store.list():
            pass
    finally:
        store.close()


def _check_ledger(setup: Setup) -> None:
    store = open_ledger(setup)
    try:
        _check_blocks(store, setup.home.ledger)
        store.check_state()
    finally:
        store.close()
    database = Database(setup.home.ledger, "chain store")
    try:
        for _ in database.scan(b""):  # every checksum, of what no other check reads too
            pass
    finally:
        database.close()


def _check_blocks(store: ChainStore, path: Path) -> None:
    previous = bytes(32)
    for height in range(store.height + 1):
        try:
            header = store.reread_header(height)
            transactions = merkle.list_root(store.transactions(height))
            receipts = merkle.list_root([receipt.encode() for receipt in store.receipts(height)])
            store.certificate(height)
        except (NotFound, Rejection) as error:
            raise StoreDamaged(f"{path} is damaged: chain block {height}: {error}") from None
        if height and (header.previous, header.tx_root, header.receipts_root) != (previous, transactions, receipts):
            raise StoreDamaged(f"{path} is damaged: chain block {height} isn't what its header names")
        previous = header_hash(header)


def _check_consensus(setup: Setup) -> None:
    store = ConsensusStore(setup.home.consensus)
    parameters = _parameters(setup)
    try:
        for epoch, why in store.withheld.items():
            raise StoreDamaged(f"{setup.home.consensus} is damaged: vertices of epoch {epoch}, which is over: {why}")
        for epoch in range(store.highest_epoch() + 1):
            proposal = store.proposal(epoch)
            if proposal is not None:
                decode_vertex(proposal[1], parameters)
            for raw in store.all_from(epoch, 0):
                decode_vertex(raw, parameters)
    except Rejection as rejection:
        raise StoreDamaged(f"{setup.home.consensus} is damaged: a vertex can't be read: {rejection}") from None
    finally:
        store.close()


def _check_together(setup: Setup) -> list[Finding]:
    """Whether the vertices lead to what the ledger executed."""
    ledger, vertices = open_ledger(setup), ConsensusStore(setup.home.consensus)
    try:
        epochs_of(setup, _parameters(setup), ledger, vertices).check()
    except MpisaError as error:
        return [Finding(CONSENSUS, error.message)]
    finally:
        ledger.close()
        vertices.close()
    return []


def _parameters(setup: Setup) -> Parameters:
    return Parameters().with_agreed(dict(setup.genesis.parameters.consensus))
