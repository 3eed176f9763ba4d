"""A certified chain for tests: a forged DAG, ordered by a real engine, with headers that a real quorum signed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from consensus.dag.vertex import VertexRef, encode_vertex
from consensus.engine import Engine
from consensus.events import Commit, CommittedSubDag
from consensus.order.checkpoint import decode_cursor
from consensus.order.epoch import EpochStart
from consensus.order.ranges import Outline, Position, RangeBlock, encode_outline
from consensus.order.window import Window
from consensus.parameters import Parameters
from mpisa.primitives.digest import ZERO_DIGEST, sha256
from mpisa.primitives.header import (
    Certificate,
    Header,
    Validator,
    ValidatorSet,
    encode_header,
    header_hash,
    make_certificate,
    sign_header,
)
from mpisa.primitives.identifiers import Epoch, Height
from tests.consensus.forge import NOW, Forge, receive_all
from tests.simulator.world import ANCHOR, CHAIN_HASH

DEPTH = 9
PARAMETERS = Parameters(gc_depth=DEPTH, heartbeat_ms=1_000)


@dataclass(frozen=True)
class Chain:
    """What a node keeps of a chain: the commits in order, and the header of each block, genesis first."""

    forge: Forge
    commits: tuple[CommittedSubDag, ...]
    headers: tuple[Header, ...]

    @cached_property
    def validators(self) -> ValidatorSet:
        return validators_of(self.forge)

    @property
    def height(self) -> int:
        return self.headers[-1].height

    def commits_of(self, height: int) -> list[CommittedSubDag]:
        header = self.headers[height]
        return list(self.commits[header.first_commit - 1 : header.last_commit])

    def certificate(self, height: int, signers: Sequence[int] = (0, 1, 2)) -> Certificate:
        header = self.headers[height]
        return make_certificate({who: sign_header(self.forge.keys[who][1], header) for who in signers})

    def outline(self, height: int) -> Outline:
        commits = self.commits_of(height)
        refs = tuple(tuple(vertex.ref for vertex in commit.vertices) for commit in commits)
        checkpoint = decode_cursor(commits[-1].cursor)
        return Outline(checkpoint.slot, checkpoint.conduct, refs)

    def block(self, height: int) -> RangeBlock:
        vertices = tuple(encode_vertex(vertex) for commit in self.commits_of(height) for vertex in commit.vertices)
        return RangeBlock(
            encode_header(self.headers[height]),
            self.certificate(height).encode(),
            encode_outline(self.outline(height)),
            vertices,
        )

    def blocks(self, first: int, last: int) -> list[RangeBlock]:
        return [self.block(height) for height in range(first, last + 1)]

    def position(self) -> Position:
        """Where a new node begins."""
        return Position(self.headers[0], start_of(self.forge).checkpoint, Window())


def start_of(forge: Forge) -> EpochStart:
    """Where the chain begins."""
    return EpochStart(Epoch(0), forge.committee, ANCHOR, NOW)


def validators_of(forge: Forge) -> ValidatorSet:
    return ValidatorSet.of(Validator(item.address, item.power) for item in forge.committee.authorities)


def make_chain(rounds: int = 40, *, every: int = 3, powers: Sequence[int] = (1, 1, 1, 1)) -> Chain:
    """Full rounds; each `every`th has a payload, so that commits fold; the last author links late to one vertex."""
    forge = Forge(powers)
    engine = Engine(PARAMETERS, CHAIN_HASH, start_of(forge))
    effects = list(engine.start(NOW + 10_000))
    for number in range(1, rounds + 1):
        authors = range(len(powers))
        made = [
            forge.vertex(
                number,
                author,
                payload=b"payload %d of %d" % (number, author) if number % every == 0 else b"",
                timestamp_ms=NOW + 10 * number + author,
            )
            for author in authors
        ]
        effects += receive_all(engine, made, NOW + 10_000)
    commits = tuple(effect.commit for effect in effects if isinstance(effect, Commit))
    return Chain(forge, commits, tuple(_headers(forge, commits)))


def genesis_of(forge: Forge) -> Header:
    zero = ZERO_DIGEST
    validators = validators_of(forge).hash
    return Header(
        CHAIN_HASH, Height(0), NOW, Epoch(0), 0, 0, zero, zero, zero, zero, zero, sha256(b"state"), validators, zero
    )


def _headers(forge: Forge, commits: Sequence[CommittedSubDag]) -> list[Header]:
    headers = [genesis_of(forge)]
    for commit in commits:
        if commit.block is None:
            continue
        header = replace(
            headers[-1],
            height=commit.block.height,
            time_ms=commit.time_ms,
            first_commit=commit.block.first_commit,
            last_commit=commit.index,
            previous=header_hash(headers[-1]),
            commit_digest=commit.digest,
            window_root=commit.window_root,
            state_root=sha256(headers[-1].state_root, *(vertex.payload for vertex in commit.content)),
        )
        headers.append(header)
    return headers


def swapped(refs: tuple[VertexRef, ...]) -> tuple[VertexRef, ...]:
    """The first two exchanged."""
    return (refs[1], refs[0], *refs[2:])
