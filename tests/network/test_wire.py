import pytest

from mpisa.network import wire
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, Rejection, RejectionReason, Unreachable
from tests.network.support import DictBlocks


def reason(function, *args) -> RejectionReason:
    with pytest.raises(Rejection) as caught:
        function(*args)
    return caught.value.reason


def test_wants_go_both_ways_and_are_bounded():
    cids = [Cid.of(b"%d" % index) for index in range(4)]
    assert wire.decode_wants(wire.encode_wants(cids), 4) == cids
    assert reason(wire.decode_wants, wire.encode_wants(cids), 3) is RejectionReason.TOO_LARGE
    assert reason(wire.decode_wants, b"x" * 1000, 4) is RejectionReason.TOO_LARGE
    assert reason(wire.decode_wants, b"\xff", 4) is RejectionReason.MALFORMED
    assert reason(wire.decode_wants, b"no cid", 4) in wire.GARBAGE


def test_a_batch_says_what_is_absent_and_ends_when_it_is_large():
    blocks = DictBlocks()
    small, absent = blocks.add(b"small"), Cid.of(b"absent")
    large = [blocks.add(bytes([index]) * (1 << 20)) for index in range(6)]
    answer, count = wire.collect_blocks(blocks, [small, absent, *large])
    assert count == 4
    assert len(answer) == 6, "small pieces are joined, large blocks are not copied"
    decoded = wire.decode_blocks(answer, 8)
    joined = b"".join(answer)
    assert wire.decode_blocks([joined[at : at + 999] for at in range(0, len(joined), 999)], 8) == decoded
    assert decoded[:2] == (b"small", None)
    assert len(decoded) == 5, "the fourth large block would pass the bound"
    assert [len(block or b"") for block in decoded[2:]] == [1 << 20] * 3


@pytest.mark.parametrize("answer", [b"\0", b"\0\0\0\5abcd", b"\0\0\0\1a\0\0\0\1b"])
def test_a_broken_batch_is_refused(answer):
    assert reason(wire.decode_blocks, [answer], 1) is RejectionReason.MALFORMED


def test_frames_go_both_ways_and_are_bounded():
    frames = [b"", b"a", bytes(100)]
    assert list(wire.unpack_frames(wire.pack_frames(frames), 100)) == frames
    assert reason(lambda: list(wire.unpack_frames(wire.pack_frames(frames), 99))) is RejectionReason.TOO_LARGE
    assert reason(lambda: list(wire.unpack_frames(b"\0\0", 99))) is RejectionReason.MALFORMED
    assert reason(lambda: list(wire.unpack_frames(b"\0\0\0\2a", 99))) is RejectionReason.MALFORMED


def test_an_answered_error_is_the_same_error():
    rejection = wire.decode_problem(422, wire.encode_problem(Rejection(RejectionReason.REPLAYED, "nonce 3")), "peer")
    assert isinstance(rejection, Rejection)
    assert str(rejection) == "replayed: nonce 3"
    found = wire.decode_problem(404, wire.encode_problem(NotFound("no such vertex")), "peer")
    assert isinstance(found, NotFound)
    assert found.message == "no such vertex"


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{}", b"\xff", b'{"detail": 1, "reason": "no-such-reason"}', b"[" * 5000]
)
def test_an_error_of_any_shape_is_at_least_unreachable(body):
    assert isinstance(wire.decode_problem(500, body, "peer"), Unreachable)
