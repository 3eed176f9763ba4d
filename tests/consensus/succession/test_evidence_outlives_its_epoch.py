"""Evidence found while an epoch ends is ordered in the next, by whose members it is judged, and too late it isn't."""

from consensus import events as e
from consensus.dag.evidence import EvidenceKind
from consensus.dag.judging import Evidence, read_evidence
from consensus.dag.vertex import ExecutionSignature
from mpisa.primitives.header import certificate_digest
from mpisa.primitives.identifiers import AuthorityIndex, Epoch, Height
from tests.consensus.succession.town import CLOSE, Citizen, Town, committee
from tests.simulator.world import CHAIN_HASH, keys_of

FIRST = committee(0, 1, 2, 3)
SECOND = committee(4, 5, 6, 7)
SETS = {**{str(epoch): SECOND for epoch in range(1, 5)}, "5": committee(5, 6, 7, 8)}
NODES = {name: (name,) for name in range(8)}
OFFENDER = AuthorityIndex(2)


def signature(height: int, mark: int) -> ExecutionSignature:
    """The offender's over a header that nobody made."""
    key = next(keys_of(seat)[1] for seat in range(4) if keys_of(seat)[1].address == FIRST[OFFENDER].address)
    digest = bytes([mark]) * 32
    made = key.sign_digest(certificate_digest(CHAIN_HASH, height, digest))
    return ExecutionSignature(Height(height), digest, OFFENDER, made)


def offend(node: Citizen, height: int) -> None:
    for mark in (1, 2):
        node.handle(e.ExecutionSignatureReceived(OFFENDER, signature(height, mark), Epoch(0)))


def ordered(node: Citizen) -> list[tuple[int, Evidence]]:
    """The evidence in the commits that were executed, with the epoch of the commit."""
    found = []
    for effect in node.effects:
        if isinstance(effect, e.Commit):
            court = node.running.jurisdictions
            found += [
                (int(effect.commit.epoch), read_evidence(item, court[node.running.epoch], node.town.parameters))
                for vertex in effect.commit.vertices
                for item in vertex.evidence
            ]
    return found


def closed() -> tuple[Town, int]:
    """A town just before its first epoch ends for a wholly different committee; the height that closes it."""
    town = Town(NODES, FIRST, {"second": SECOND}).boot()
    town.has_offenders = True
    town.run(300)
    town.citizens[1].submit(b"before")
    town.run(200)
    town.citizens[1].submit(CLOSE + b"second")
    first = town.citizens[0]
    town.until(lambda: bool(first.disk.headers) and first.disk.headers[-1].closes_epoch, "the closing header")
    return town, first.disk.headers[-1].height


def test_found_behind_the_closing_header_it_is_ordered_in_the_next_epoch() -> None:
    town, last = closed()
    # One of the next committee meets it, when no commit of the old epoch is executed any more.
    offend(town.citizens[4], last)
    assert [item.kind for item in town.citizens[4].effects if isinstance(item, e.EvidenceFound)] == [
        EvidenceKind.DOUBLE_HEADER
    ]
    town.until(lambda: town.in_epoch(1), "a certified header of epoch 1")
    town.until(lambda: bool(ordered(town.citizens[5])), "the evidence is ordered")
    [(epoch, evidence)] = ordered(town.citizens[5])
    assert epoch == 1
    assert (evidence.kind, evidence.epoch, evidence.author, evidence.position) == (
        EvidenceKind.DOUBLE_HEADER,
        0,
        OFFENDER,
        last,
    )
    assert evidence.address == FIRST[OFFENDER].address
    town.check()


def test_ordered_before_the_end_it_isn_t_carried_again() -> None:
    town = Town(NODES, FIRST, {"second": SECOND}).boot()
    town.has_offenders = True
    town.run(300)
    offend(town.citizens[0], 1)
    town.until(lambda: len(ordered(town.citizens[0])) == 1, "the evidence is ordered")
    town.citizens[1].submit(CLOSE + b"second")
    town.until(lambda: town.in_epoch(1), "a certified header of epoch 1")
    town.run(2_000)
    for name in (1, 5):
        assert [epoch for epoch, _ in ordered(town.citizens[name])] == [0]
    town.check()


def many_epochs_later(unbonding_ms: int) -> Town:
    """Somebody who read along saw an offence in epoch 0, and gets a place in epoch 5; all before were short."""
    town = Town({**NODES, 8: (8,)}, FIRST, SETS, unbonding_ms=unbonding_ms).boot()
    town.has_offenders = True
    town.run(300)
    offend(town.citizens[8], 1)
    for epoch in range(1, 6):
        members = (0, 1, 2, 3) if epoch == 1 else (4, 5, 6, 7)
        town.citizens[members[1]].submit(CLOSE + b"%d" % epoch)
        town.until(lambda epoch=epoch: town.in_epoch(epoch), f"a certified header of epoch {epoch}")
    town.citizens[5].submit(b"after")
    town.until(lambda: b"after" in town.citizens[6].disk.payloads, "the chain goes on")
    town.run(2_000)
    town.check()
    return town


def test_it_is_admissible_as_long_as_stake_answers_however_many_epochs_that_are() -> None:
    town = many_epochs_later(3_600_000)
    [(epoch, evidence)] = ordered(town.citizens[6])
    assert (epoch, evidence.kind, evidence.epoch, evidence.author) == (5, EvidenceKind.DOUBLE_HEADER, 0, OFFENDER)


def test_where_no_stake_answers_any_more_it_lapses() -> None:
    town = many_epochs_later(1)
    assert ordered(town.citizens[6]) == []
