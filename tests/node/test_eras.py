"""The epochs of which evidence is admissible, as a node's chain store knows them."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from consensus.dag.judging import Era
from mpisa.ledger.offences import OffenceKind
from mpisa.node.eras import StoredEras
from mpisa.node.runtime import open_ledger, read_setup
from mpisa.primitives import codec
from mpisa.primitives.header import make_certificate, sign_header
from mpisa.primitives.identifiers import Epoch
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.state_keys import offence_key
from mpisa.primitives.validator_operations import Bond
from tests.node.cluster import key_of, until
from tests.node.validators import AT_ONCE, Town, town

ALICE = key_of("account 0")
EPOCHS = 7
OFFENDER = 2
BRIEF = StakingParameters(min_epoch_ms=0, trusting_ms=0, evidence_ms=0, unbonding_ms=1)
"""Stake answers for a millisecond after its epoch: for nothing, but for the epoch before."""


async def through_many_epochs(made: Town) -> None:
    """A validator bonds more again and again, each time an epoch ends."""
    await made.submit(made.join(4))
    for epoch in range(1, EPOCHS):
        await made.submit(made.cluster.transfer(ALICE, epoch - 1))
        await made.in_epoch(epoch)
        await made.submit(made.sign(4, made.nonce(4), Bond(1)))
    await made.submit(made.cluster.transfer(ALICE, EPOCHS - 1))
    await made.in_epoch(EPOCHS)


async def test_an_offence_counts_many_short_epochs_later(tmp_path: Path) -> None:
    """Two headers of epoch 0 that somebody shows in epoch 7: the stake that answers for it is still there."""
    async with town(tmp_path, 4, 1) as made:
        await through_many_epochs(made)
        nodes, key = made.cluster.nodes, made.keys(OFFENDER).certificate
        assert key is not None
        header = nodes[0].chain.header(1)
        assert header.epoch == 0
        fork = replace(header, state_root=bytes(32))
        pair = [(item, make_certificate({OFFENDER: sign_header(key, item)})) for item in (header, fork)]
        [offence] = await nodes[0].report(pair)
        assert (offence.kind, offence.epoch, offence.address) == ("double-header", 0, key.public_key.address)
        name = offence_key(key.public_key.address, Epoch(0), punishable=True)
        for node in nodes.values():
            await until(lambda node=node: node._running.store.get(name) is not None, "it is punished")  # type: ignore[misc]
        raw = nodes[3]._running.store.get(name)
        assert raw is not None
        kind, position, _ = codec.expect_tuple(codec.decode(raw, max_bytes=1_024), "offence", length=3)
        assert (kind, position) == (OffenceKind.DOUBLE_HEADER, 1)


async def test_epochs_are_known_after_their_blocks_are_pruned(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1, staking=AT_ONCE) as made:
        await through_many_epochs(made)
        await made.cluster.stop(0)
        store = open_ledger(read_setup(made.cluster.home(0)))
        try:
            bases = [store.epoch(epoch).base for epoch in range(EPOCHS + 1)]
            assert max(later - earlier for earlier, later in pairwise(bases)) > 1
            expected = {height: store.header(height).epoch for height in range(1, store.height)}
            store.prune(store.height - 1)
            eras = StoredEras(store, EPOCHS)
            assert {height: eras.epoch_at(height) for height in range(1, bases[-1] + 1)} == {
                height: epoch for height, epoch in expected.items() if height <= bases[-1]
            }
            assert [eras.epoch_at(height) for height in (0, bases[-1] + 1)] == [None, None]
            for epoch in range(EPOCHS):
                record = store.epoch(epoch)
                assert eras.era_of(epoch) == Era(record.committee, bases[epoch] + 1, bases[epoch + 1])
            assert [eras.era_of(epoch) for epoch in (-1, EPOCHS, EPOCHS + 1)] == [None] * 3
        finally:
            store.close()


async def test_no_epoch_whose_stake_answers_no_more(tmp_path: Path) -> None:
    async with town(tmp_path, 4, 1, staking=BRIEF) as made:
        await made.submit(made.join(4))
        await made.submit(made.cluster.transfer(ALICE, 0))
        await made.in_epoch(1)
        await made.submit(made.sign(4, made.nonce(4), Bond(1)))
        await made.submit(made.cluster.transfer(ALICE, 1))
        await made.in_epoch(2)
        store = made.cluster.nodes[0]._running.store
        closed = [store.header(store.epoch(epoch + 1).base).time_ms for epoch in range(2)]
        assert closed[1] - closed[0] > BRIEF.unbonding_ms
        eras = StoredEras(store, 2)
        assert [eras.era_of(epoch) is not None for epoch in (0, 1)] == [False, True]
