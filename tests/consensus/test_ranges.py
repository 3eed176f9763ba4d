"""Ranges of certified commits: they lead to the very cursor an engine stores, and each lie is refused by name."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from consensus.dag.vertex import decode_vertex, encode_vertex
from consensus.order.checkpoint import decode_cursor
from consensus.order.conduct import Record
from consensus.order.ranges import (
    MAX_ANSWER_BYTES,
    Outline,
    RangeAnswer,
    RangeBlock,
    check_signatures,
    complete_block,
    decode_answer,
    decode_outline,
    encode_answer,
    encode_outline,
    open_block,
    read_vertices,
    verify_range,
    verify_tail,
)
from consensus.order.window import find_window
from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Certificate, encode_header, make_certificate, sign_header
from mpisa.primitives.identifiers import Height
from tests.consensus.certified import DEPTH, PARAMETERS, Chain, make_chain, swapped
from tests.consensus.forge import Forge

CHAIN = make_chain()
MIDDLE = 4
"""A height whose block has folded commits before the one that closes it."""


def refused(blocks: list[RangeBlock], chain: Chain = CHAIN) -> tuple[RejectionReason, str]:
    with pytest.raises(Rejection) as caught:
        verify_range(chain.position(), blocks, chain.validators, PARAMETERS)
    return caught.value.reason, caught.value.detail


def tampered(height: int, change: Callable[[RangeBlock], RangeBlock]) -> list[RangeBlock]:
    """All blocks up to this height, the last one changed."""
    return [*CHAIN.blocks(1, height - 1), change(CHAIN.block(height))]


def with_outline(change: Callable[[Outline], Outline]) -> list[RangeBlock]:
    return tampered(
        MIDDLE, lambda block: replace(block, outline=encode_outline(change(decode_outline(block.outline, 100))))
    )


def wide() -> int:
    """Which commit of the middle block has several vertices."""
    return next(at for at, commit in enumerate(CHAIN.commits_of(MIDDLE)) if len(commit.vertices) > 1)


def test_the_chain_of_these_tests_folds_commits_and_outgrows_its_window() -> None:
    assert len(CHAIN.commits_of(MIDDLE)) > 1
    assert CHAIN.height > 10
    assert CHAIN.commits[-1].leader.round > 3 * DEPTH


@pytest.mark.parametrize("powers", [(1, 1, 1, 1), (3, 1, 2, 4)])
def test_a_range_gives_the_commits_that_an_engine_emits_and_the_cursor_it_stores(powers: tuple[int, ...]) -> None:
    chain = make_chain(30, powers=powers)
    assert chain.height > 4
    blocks = [
        replace(block, certificate=chain.certificate(height, range(len(powers))).encode())
        for height, block in enumerate(chain.blocks(1, chain.height), 1)
    ]
    done, after = verify_range(chain.position(), blocks, chain.validators, PARAMETERS)
    for block, height in zip(done, range(1, chain.height + 1), strict=True):
        commits = chain.commits_of(height)
        closing = commits[-1]
        assert replace(block.commit, vertices=()) == replace(closing, vertices=())
        assert [vertex.id for vertex in block.commit.vertices] == [vertex.id for vertex in closing.vertices]
        assert [vertex.payload for vertex in block.commit.vertices] == [vertex.payload for vertex in closing.vertices]
        assert [vertex.ref for vertex in block.vertices] == [
            vertex.ref for commit in commits for vertex in commit.vertices
        ]
        assert block.header == chain.headers[height]
    assert after.header == chain.headers[-1]
    assert after.checkpoint == decode_cursor(chain.commits_of(chain.height)[-1].cursor)


def test_a_range_goes_on_from_any_block_with_the_window_found_in_the_vertices() -> None:
    done, _ = verify_range(CHAIN.position(), CHAIN.blocks(1, CHAIN.height), CHAIN.validators, PARAMETERS)
    vertices = {vertex.id: vertex for block in done for vertex in block.vertices}
    for height in range(1, CHAIN.height):
        checkpoint = decode_cursor(CHAIN.commits_of(height)[-1].cursor)
        window, lost = find_window(
            checkpoint, DEPTH, lambda ref: vertices[ref.id].parents if ref.id in vertices else None
        )
        assert lost is None
        assert window.root(checkpoint) == CHAIN.headers[height].window_root
        before = replace(CHAIN.position(), header=CHAIN.headers[height], checkpoint=checkpoint, window=window)
        again, after = verify_range(before, CHAIN.blocks(height + 1, CHAIN.height), CHAIN.validators, PARAMETERS)
        assert again == done[height:]
        assert after.header == CHAIN.headers[-1]


def test_only_the_last_block_needs_its_certificate() -> None:
    blocks = [replace(block, certificate=b"") for block in CHAIN.blocks(1, 3)]
    assert refused(blocks) == (
        RejectionReason.BAD_CERTIFICATE,
        "range: expected a certificate of its last block, got none",
    )
    blocks[-1] = CHAIN.block(3)
    done, _ = verify_range(CHAIN.position(), blocks, CHAIN.validators, PARAMETERS)
    assert [block.certificate is not None for block in done] == [False, False, True]


def test_an_answer_round_trips() -> None:
    answer = RangeAnswer(Height(9), Height(2), tuple(CHAIN.blocks(2, 5)))
    assert decode_answer(encode_answer(answer), 4, PARAMETERS) == answer
    assert decode_answer(encode_answer(RangeAnswer(Height(9), Height(2), ())), 4, PARAMETERS).blocks == ()


def test_a_large_block_comes_in_pieces_each_checked_by_itself() -> None:
    position, whole = CHAIN.position(), CHAIN.block(1)
    opened = open_block(position, replace(whole, vertices=whole.vertices[:1]), CHAIN.validators, PARAMETERS)
    found = [*read_vertices(opened, 0, whole.vertices[:1], PARAMETERS)]
    for at in range(1, len(whole.vertices)):
        found += read_vertices(opened, at, [whole.vertices[at]], PARAMETERS)
    (expected,), _ = verify_range(position, [whole], CHAIN.validators, PARAMETERS)
    assert complete_block(opened, found) == expected
    with pytest.raises(Rejection) as caught:
        read_vertices(opened, len(whole.vertices) - 1, whole.vertices[-2:], PARAMETERS)
    assert caught.value.reason is RejectionReason.TOO_MANY


# Lies about the header and its certificate.


def test_a_header_that_skips_one_is_refused() -> None:
    reason, detail = refused([CHAIN.block(1), CHAIN.block(3)])
    assert (reason, detail) == (RejectionReason.BAD_HEADER, "height: expected 2, got 3")


def test_a_header_behind_another_chain_s_is_refused() -> None:
    other = make_chain(12, every=2)
    reason, detail = refused([CHAIN.block(1), other.block(2)])
    assert reason is RejectionReason.BAD_HEADER
    assert "expected" in detail


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("chain_hash", bytes(32), "chain_hash: expected"),
        ("epoch", 1, "epoch: expected 0, got 1"),
        ("first_commit", 2, "first_commit: expected 1, got 2"),
        ("previous", bytes(32), "previous: expected"),
        ("validators_hash", bytes(32), "validators_hash: expected"),
        ("time_ms", 0, "time_ms: expected more than 1000000, got 0"),
    ],
)
def test_a_header_that_does_not_follow_is_refused(field: str, value: object, message: str) -> None:
    changed = replace(CHAIN.headers[1], **{field: value})  # type: ignore[arg-type]
    reason, detail = refused([replace(CHAIN.block(1), header=encode_header(changed))])
    assert reason is RejectionReason.BAD_HEADER
    assert detail.startswith(message)


def test_a_header_that_nobody_signed_is_refused() -> None:
    changed = replace(CHAIN.headers[1], state_root=bytes(32))
    reason, detail = refused([replace(CHAIN.block(1), header=encode_header(changed))])
    assert reason is RejectionReason.BAD_CERTIFICATE
    assert detail.startswith("signature of validator 0:")


def test_a_certificate_of_another_set_is_refused() -> None:
    strangers = Forge((2, 1, 1, 1)).keys[::-1]
    signatures = {who: sign_header(strangers[who][1], CHAIN.headers[1]) for who in range(3)}
    reason, _ = refused([replace(CHAIN.block(1), certificate=make_certificate(signatures).encode())])
    assert reason is RejectionReason.BAD_CERTIFICATE


def test_a_certificate_without_a_quorum_is_refused() -> None:
    reason, _ = refused([replace(CHAIN.block(1), certificate=CHAIN.certificate(1, (0, 1)).encode())])
    assert reason is RejectionReason.NO_QUORUM


def test_a_certificate_that_counts_one_validator_twice_is_refused() -> None:
    one = sign_header(CHAIN.forge.keys[0][1], CHAIN.headers[1])
    reason, _ = refused([replace(CHAIN.block(1), certificate=Certificate(0b111, (one, one, one)).encode())])
    assert reason is RejectionReason.BAD_CERTIFICATE


# Lies about the outline.


def test_reordered_vertices_are_refused() -> None:
    where = wide()
    reason, detail = refused(
        with_outline(
            lambda outline: replace(
                outline,
                commits=tuple(swapped(refs) if at == where else refs for at, refs in enumerate(outline.commits)),
            )
        )
    )
    assert (reason, detail) == (
        RejectionReason.MALFORMED,
        f"outline.commits[{where}]: expected ascending references without repeats",
    )


def test_a_missing_commit_is_refused() -> None:
    count = len(CHAIN.commits_of(MIDDLE))
    reason, detail = refused(with_outline(lambda outline: replace(outline, commits=outline.commits[1:])))
    assert (reason, detail) == (
        RejectionReason.HASH_MISMATCH,
        f"outline: expected the header's {count} commits, got {count - 1}",
    )


def test_a_missing_vertex_is_refused() -> None:
    def shorten(outline: Outline) -> Outline:
        commits = list(outline.commits)
        longest = commits.index(max(commits, key=len))
        assert len(commits[longest]) > 1
        commits[longest] = commits[longest][1:]
        return replace(outline, commits=tuple(commits))

    reason, detail = refused(with_outline(shorten))
    assert reason is RejectionReason.HASH_MISMATCH
    assert detail.startswith("outline: expected commits of the digest ")


def test_a_vertex_moved_to_another_commit_is_refused() -> None:
    def move(outline: Outline) -> Outline:
        commits = list(outline.commits)
        where = wide()
        other = where - 1 if where else where + 1
        commits[other] = tuple(sorted((commits[where][0], *commits[other])))
        commits[where] = commits[where][1:]
        return replace(outline, commits=tuple(commits))

    assert refused(with_outline(move))[0] is RejectionReason.HASH_MISMATCH


def test_an_invented_vertex_is_refused() -> None:
    def invent(outline: Outline) -> Outline:
        last = outline.commits[-1]
        return replace(outline, commits=(*outline.commits[:-1], (last[0]._replace(id=bytes(32)), *last[1:])))

    assert refused(with_outline(invent))[0] is RejectionReason.HASH_MISMATCH


def test_another_slot_is_refused() -> None:
    reason, detail = refused(with_outline(lambda outline: replace(outline, slot=1 - outline.slot)))
    assert reason is RejectionReason.HASH_MISMATCH
    assert detail.startswith("window: expected the root ")


def test_another_conduct_is_refused() -> None:
    reason, detail = refused(with_outline(lambda outline: replace(outline, conduct=(Record(1, 2, 0),))))
    assert reason is RejectionReason.HASH_MISMATCH
    assert detail.startswith("window: expected the root ")


@pytest.mark.parametrize("size", [0, 43, 45])
def test_references_of_another_size_are_refused(size: int) -> None:
    raw = codec.encode((0, (), (bytes(size),)))
    with pytest.raises(Rejection) as caught:
        decode_outline(raw, 10)
    assert caught.value.detail == f"outline.commits[0]: expected one or more of 44 bytes, got {size} bytes"


def test_more_commits_than_a_heartbeat_has_milliseconds_are_refused() -> None:
    refs = CHAIN.outline(1).commits[0]
    many = encode_outline(Outline(0, (), (refs,) * (PARAMETERS.heartbeat_ms + 2)))
    reason, _ = refused([replace(CHAIN.block(1), outline=many)])
    assert reason is RejectionReason.TOO_LARGE


# Lies about the vertices.


def with_vertices(change: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]) -> list[RangeBlock]:
    return tampered(MIDDLE, lambda block: replace(block, vertices=change(block.vertices)))


def test_another_vertex_is_refused() -> None:
    other = CHAIN.block(1).vertices[0]
    reason, detail = refused(with_vertices(lambda raws: (other, *raws[1:])))
    assert reason is RejectionReason.HASH_MISMATCH
    assert detail.startswith("vertices[0]: expected ")


def test_a_payload_that_the_header_does_not_bind_is_refused() -> None:
    def forge(raws: tuple[bytes, ...]) -> tuple[bytes, ...]:
        vertex = decode_vertex(raws[-1], PARAMETERS)
        return (*raws[:-1], encode_vertex(replace(vertex, payload=vertex.payload + b"!")))

    assert refused(with_vertices(forge))[0] is RejectionReason.BAD_PAYLOAD


def test_a_truncated_vertex_is_refused() -> None:
    assert refused(with_vertices(lambda raws: (*raws[:-1], raws[-1][:-1])))[0] is RejectionReason.MALFORMED


def test_too_few_vertices_are_refused() -> None:
    reason, detail = refused(with_vertices(lambda raws: raws[:-1]))
    assert reason is RejectionReason.MALFORMED
    assert detail.startswith("vertices: expected the outline's ")


def test_too_many_vertices_are_refused() -> None:
    reason, detail = refused(with_vertices(lambda raws: (*raws, raws[0])))
    assert reason is RejectionReason.TOO_MANY
    assert detail.startswith("vertices: expected at most ")


def test_a_vertex_signature_is_not_needed_to_know_the_order_but_is_checked_for_those_handed_on() -> None:
    def forge(raws: tuple[bytes, ...]) -> tuple[bytes, ...]:
        return (encode_vertex(replace(decode_vertex(raws[0], PARAMETERS), signature=bytes(64))), *raws[1:])

    blocks = with_vertices(forge)
    done, _ = verify_range(CHAIN.position(), blocks, CHAIN.validators, PARAMETERS)
    check_signatures((vertex for block in done[:-1] for vertex in block.vertices), CHAIN.forge.committee)
    with pytest.raises(Rejection) as caught:
        check_signatures(done[-1].vertices, CHAIN.forge.committee)
    assert caught.value.reason is RejectionReason.BAD_SIGNATURE


# Lies about sizes.


def test_an_answer_above_the_cap_is_refused_unread() -> None:
    with pytest.raises(Rejection) as caught:
        decode_answer(bytes(MAX_ANSWER_BYTES + 1), 8, PARAMETERS)
    assert caught.value.reason is RejectionReason.TOO_LARGE


def test_more_blocks_than_asked_for_are_refused() -> None:
    answer = RangeAnswer(Height(9), Height(1), tuple(CHAIN.blocks(1, 3)))
    with pytest.raises(Rejection) as caught:
        decode_answer(encode_answer(answer), 2, PARAMETERS)
    assert caught.value.reason is RejectionReason.TOO_LARGE


def test_a_truncated_answer_is_refused() -> None:
    raw = encode_answer(RangeAnswer(Height(9), Height(1), tuple(CHAIN.blocks(1, 3))))
    for size in (0, 1, 100, len(raw) - 1):
        with pytest.raises(Rejection) as caught:
            decode_answer(raw[:size], 4, PARAMETERS)
        assert caught.value.reason is RejectionReason.MALFORMED


def test_a_vertex_above_its_cap_is_refused() -> None:
    block = replace(CHAIN.block(1), vertices=(bytes(PARAMETERS.max_vertex_bytes + 1),))
    with pytest.raises(Rejection) as caught:
        decode_answer(encode_answer(RangeAnswer(Height(9), Height(1), (block,))), 2, PARAMETERS)
    assert caught.value.reason is RejectionReason.TOO_LARGE


# The end of a chain, for a snapshot.


def tail_start(last: int) -> int:
    """The height behind which the tail must begin so that it holds the window of `last`."""
    gc_round = CHAIN.commits_of(last)[-1].leader.round - DEPTH
    return max(height for height in range(1, last) if CHAIN.commits_of(height)[-1].leader.round <= gc_round)


def test_a_tail_leads_to_the_cursor_and_the_window_of_its_last_block() -> None:
    last = CHAIN.height
    first = tail_start(last)
    assert first > 1
    blocks = [replace(block, certificate=b"") for block in CHAIN.blocks(first + 1, last - 1)]
    done, after = verify_tail(CHAIN.headers[first], [*blocks, CHAIN.block(last)], CHAIN.validators, PARAMETERS)
    _, expected = verify_range(CHAIN.position(), CHAIN.blocks(1, last), CHAIN.validators, PARAMETERS)
    assert after.checkpoint == expected.checkpoint
    assert after.window.root(after.checkpoint) == expected.header.window_root
    assert done[-1].commit.cursor == CHAIN.commits_of(last)[-1].cursor


def test_a_tail_that_is_too_short_is_refused() -> None:
    last = CHAIN.height
    short = tail_start(last) + 1
    with pytest.raises(Rejection) as caught:
        verify_tail(CHAIN.headers[short], CHAIN.blocks(short + 1, last), CHAIN.validators, PARAMETERS)
    assert caught.value.reason is RejectionReason.HASH_MISMATCH
    with pytest.raises(Rejection) as caught:
        verify_tail(CHAIN.headers[last], [], CHAIN.validators, PARAMETERS)
    assert caught.value.reason is RejectionReason.MALFORMED
