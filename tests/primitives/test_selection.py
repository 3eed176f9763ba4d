"""The words of partial DAGs: what a request means, what is refused, and which bytes a range is."""

import pytest

from mpisa.primitives.errors import UsageError
from mpisa.primitives.selection import ByteRange, Scope, Selection, parse_entity_bytes, parse_selection


@pytest.mark.parametrize(
    ("query", "accept", "expected"),
    [
        ({}, {}, Selection()),
        ({"dag-scope": "block"}, {}, Selection(Scope.BLOCK)),
        ({"entity-bytes": "0:*"}, {}, Selection(Scope.ENTITY, ByteRange(0, None))),
        ({"dag-scope": "entity", "entity-bytes": "5:-1"}, {}, Selection(Scope.ENTITY, ByteRange(5, -1))),
        ({}, {"version": "1", "order": "unk", "dups": "n"}, Selection(duplicates=False, ordered=False)),
        ({"car-dups": "y", "car-order": "dfs"}, {"order": "unk", "dups": "n"}, Selection()),
    ],
)
def test_requests(query: dict[str, str], accept: dict[str, str], expected: Selection) -> None:
    assert parse_selection(query, accept) == expected


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"dag-scope": "some"}, "dag-scope 'some' is not known; expected block or entity or all"),
        ({"car-version": "2"}, "CAR version '2' is not known; expected 1"),
        ({"car-order": "bfs"}, "CAR order 'bfs' is not known; expected dfs or unk"),
        ({"car-dups": "maybe"}, "CAR dups 'maybe' is not known; expected y or n"),
        ({"entity-bytes": "0-5"}, "entity-bytes '0-5' is not FIRST:LAST or FIRST:*"),
        ({"entity-bytes": "5:4"}, "entity-bytes '5:4' ends before it begins"),
        ({"entity-bytes": "-4:-5"}, "entity-bytes '-4:-5' ends before it begins"),
        ({"entity-bytes": "0:-9300000000000000000"},
         "entity-bytes '0:-9300000000000000000' goes beyond 9223372036854775807"),
        ({"entity-bytes": "0:*", "dag-scope": "all"}, "entity-bytes goes with dag-scope=entity, not with 'all'"),
    ],
)  # fmt: skip
def test_words_that_are_refused(query: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_selection(query, {})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "size", "expected"),
    [
        ("0:*", 10, (0, 10)), ("0:0", 10, (0, 1)), ("3:5", 10, (3, 6)), ("3:-1", 10, (3, 10)), ("3:-5", 10, (3, 6)),
        ("-4:*", 10, (6, 10)), ("-4:-2", 10, (6, 9)), ("-99:*", 10, (0, 10)), ("-99:-3", 10, (0, 8)),
        ("5:99", 10, (5, 10)), ("10:*", 10, (10, 10)), ("99:*", 10, (10, 10)), ("8:-5", 10, (8, 8)), ("0:*", 0, (0, 0)),
        ("-99:-50", 10, (0, 0)),
    ],
)  # fmt: skip
def test_ranges_within_a_size(text: str, size: int, expected: tuple[int, int]) -> None:
    asked = parse_entity_bytes(text)
    assert asked.clamp(size) == expected
    assert str(asked) == text
