"""A node follows blocks only where it has no seat: not between two epochs, and not through one that may need it."""

from __future__ import annotations

import threading
from pathlib import Path

from mpisa.network.ports import PeerId
from mpisa.node.certificates import CERTIFICATES
from mpisa.node.chain_records import CERTIFICATE, number
from mpisa.node.database import Database
from mpisa.node.home import Home
from mpisa.node.key_ring import KeyRing
from mpisa.primitives.errors import NotFound
from mpisa.primitives.validator_record import ValidatorRecord
from tests.node.cluster import DEADLINE_S, key_of, until
from tests.node.validators import Town, town

ALICE = key_of("account 0")
COMING = 4


class LateRing(KeyRing):
    """Adopts keys at the end of an epoch only once keeping up has looked for a seat meanwhile."""

    def __init__(self, home: Home, looked: threading.Event) -> None:
        super().__init__(home, home.read_keys(home.read_config().role))
        self._looked = looked
        self.waits: list[bool] = []

    def settle(self, record: ValidatorRecord | None) -> None:
        self._looked.clear()
        self.waits.append(self._looked.wait(DEADLINE_S))
        super().settle(record)


def looks(made: Town, number: int) -> threading.Event:
    """Set whenever keeping up looks for a seat."""
    keeping_up, looked = made.cluster.nodes[number]._running.behind.keeping_up, threading.Event()
    has_seat = keeping_up._has_seat

    def look() -> bool:
        found = has_seat()
        looked.set()
        return found

    keeping_up._has_seat = look  # type: ignore[method-assign]
    return looked


async def none(peer: PeerId, body: bytes) -> bytes:
    raise NotFound("no certificates are kept here")


async def proposes(made: Town, number: int) -> None:
    node = made.cluster.nodes[number]
    before = node.metrics()["vertices_proposed_total"]
    await until(lambda: node.metrics()["vertices_proposed_total"] > before, f"node {number} proposes")


async def test_one_that_is_looked_at_between_two_epochs_takes_its_seat(tmp_path: Path) -> None:
    """It leaves and comes back: the epoch that it has left is dropped in the turn that opens the one it is in again."""
    async with town(tmp_path, 4, 1) as made:
        await made.submit(made.join(COMING))
        await until(lambda: made.cluster.nodes[COMING].status().authority == "node5", "a seat")
        ring = LateRing(Home(made.cluster.home(COMING)), looks(made, COMING))
        made.cluster.nodes[COMING]._running.ordering._ring = ring
        await made.submit(made.leave(COMING))
        await made.submit(made.join(COMING))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(3)
        assert len(ring.waits) >= 2
        assert all(ring.waits), "it was looked at each time an epoch was dropped"
        await proposes(made, COMING)
        await made.level()


async def test_one_that_lost_the_certificate_of_the_header_that_seats_it_takes_its_seat(tmp_path: Path) -> None:
    """Certificates are written without a sync: after a power cut the closing block may be there alone."""
    async with town(tmp_path, 4, 1) as made:
        await made.submit(made.join(COMING))
        await until(lambda: made.cluster.nodes[COMING].chain.head().height >= 1, "the closing header is certified")
        await made.cluster.stop(COMING)
        ledger = Database(Home(made.cluster.home(COMING)).ledger, "chain store")
        ledger.write([(CERTIFICATE + number(1), None)], sync=True)
        ledger.close()
        for node in made.cluster.nodes.values():
            node.network.authorities.set_request_handler(CERTIFICATES, none)
        await made.cluster.start(COMING)
        looked = looks(made, COMING)
        await until(looked.is_set, "it is looked for a seat while the epoch isn't open")
        assert made.cluster.nodes[COMING].status().epoch == 0
        for node in made.cluster.nodes.values():
            node._running.certificates.attach()
        await proposes(made, COMING)
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        await made.level()
