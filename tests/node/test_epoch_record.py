"""What the stores keep of epochs: the record of each, and what a node remembers of having lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.order.checkpoint import decode_cursor
from mpisa.node.clock import SystemClock
from mpisa.node.epoch_record import EpochRecord
from mpisa.node.epochs import CLOCK_MARGIN_MS
from mpisa.node.home import Home, Loss
from mpisa.primitives.errors import NotFound, Rejection
from mpisa.primitives.identifiers import Epoch, Height
from tests.node.cluster import key_of, make_cluster, until
from tests.node.rebuilding import rebuild
from tests.node.test_rebuild import PAGE_ROUNDS, content
from tests.node.validators import town

ALICE = key_of("account 0")


def test_a_record_reads_back_to_the_same(tmp_path: Path) -> None:
    validators = make_cluster(tmp_path).genesis.validators
    record = EpochRecord(Epoch(3), Height(70), b"cursor", validators)
    assert EpochRecord.decode(record.encode()) == record
    assert [item.address for item in record.committee.authorities] == [item.address for item in validators]
    assert record.committee.validator_set == record.validator_set
    with pytest.raises(Rejection):
        EpochRecord.decode(record.encode()[:-1])


async def test_a_closing_block_leaves_the_record_of_the_next_epoch(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1) as made:
        await made.submit(made.join(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        store = made.cluster.nodes[0]._running.store
        first, second = store.epoch(0), store.epoch(1)
        assert (first.epoch, first.base, first.closing_cursor) == (0, 0, b"")
        closing = store.header(second.base)
        assert closing.closes_epoch
        assert closing.next_validators_hash == second.validator_set.hash
        assert len(second.validators) == 5
        cursor = decode_cursor(second.closing_cursor)
        assert (cursor.epoch, cursor.height, cursor.index) == (0, closing.height, closing.last_commit)
        with pytest.raises(NotFound, match="epoch 2 hasn't begun here"):
            store.epoch(2)


async def test_a_loss_counts_for_the_epochs_that_had_begun(tmp_path: Path) -> None:
    """Node 3 lost what it signed; it sits the epoch out and takes part in the one that begins long enough after."""
    async with town(tmp_path, 4, 1) as made:
        await made.cluster.stop(3)
        noticed = SystemClock().now_ms() - CLOCK_MARGIN_MS - 1_000
        Home(made.cluster.home(3)).write_loss(Loss(noticed, "its vertex store was damaged"))
        await made.cluster.start(3)
        await made.cluster.ready(3)
        node = made.cluster.nodes[3]
        assert node.status().sitting_out == "its vertex store was damaged"
        await made.submit(made.join(4), through=3)
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        assert node.status().sitting_out is None
        await until(lambda: node.metrics()["vertices_proposed_total"] > 0, "it proposes")
        await made.submit(made.cluster.transfer(ALICE, 1), through=3)
        await made.level()


async def test_a_ledger_set_aside_is_executed_again_through_its_epochs(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1) as made:
        await made.submit(made.join(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.submit(made.leave(4))
        for nonce in range(1, 4):
            await made.submit(made.cluster.transfer(ALICE, nonce))
        await made.in_epoch(2)
        await made.level()
        await made.cluster.stop(*made.cluster.nodes)
    home = made.cluster.home(1)
    before = content(home / "ledger")
    (home / "ledger").rename(home / "ledger.aside")
    rebuild(home, PAGE_ROUNDS, lambda _height: False)
    after = content(home / "ledger")
    records = [key for key in before if key[:1] == b"e"]
    assert len(records) == 3
    for key in records:
        assert after[key] == before[key]
    headers = [key for key in after if key[:1] == b"h"]
    assert len(headers) > 5, "up to what the vertices lead to"
    assert all(after[key] == before[key] for key in headers)
