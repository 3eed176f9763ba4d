"""How far a starting node has to come before it calls itself ready."""

from __future__ import annotations

import pytest

from consensus.dag.committee import Authority, Committee
from mpisa.node.standing import height_to_reach
from mpisa.primitives.identifiers import Address, AuthorityIndex


def committee(*powers: int) -> Committee:
    return Committee(
        [
            Authority(
                AuthorityIndex(index), Address(bytes([index + 1]) * 20), power, bytes([index + 1]) * 32, f"n{index}"
            )
            for index, power in enumerate(powers)
        ]
    )


@pytest.mark.parametrize(
    ("powers", "claims", "expected"),
    [
        pytest.param((1, 1, 1, 1), {}, 0, id="nobody answered"),
        pytest.param((1, 1, 1, 1), {0: 7, 1: 7, 2: 7}, 7, id="all agree"),
        pytest.param((1, 1, 1, 1), {0: 7, 1: 6, 2: 5}, 6, id="two of four have it"),
        pytest.param((1, 1, 1, 1), {0: 10**15, 1: 6, 2: 6}, 6, id="one liar can't raise it"),
        pytest.param((1, 1, 1, 1), {0: 9}, 0, id="one of four is no evidence"),
        pytest.param((1, 1, 1, 7), {3: 9, 0: 2}, 9, id="stake counts, not heads"),
    ],
)
def test_the_height_that_a_validity_threshold_claims(
    powers: tuple[int, ...], claims: dict[int, int], expected: int
) -> None:
    assert height_to_reach(committee(*powers), claims) == expected
