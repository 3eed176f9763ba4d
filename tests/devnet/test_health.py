"""One word for what keeps a node from serving, out of the reasons it gives."""

from __future__ import annotations

import pytest

from devnet.health import NodeReport


@pytest.mark.parametrize(
    ("reasons", "word"),
    [
        (("halted: two certified vertices in slot 0 of round 9; keep its home",), "halted"),
        (
            (
                "can't write to vertex store /n/consensus: IO error: 000007.log: No space left on device",
                "linked to authorities with 1 of 4 stake, a quorum is needed",
            ),
            "disk full",
        ),
        (("can't write to ledger /n/ledger: IO error: Input/output error",), "disk fault"),
        (("linked to authorities with 2 of 4 stake, a quorum is needed",), "no quorum"),
        (("connected to no authority",), "no peers"),
        (("catching up: certified up to height 3 of 9",), "catching up"),
        (("nothing was certified for 31 s while transactions wait for it",), "not certifying"),
        (("certification is 65 chain blocks behind ordering, at most 64 are allowed",), "not certifying"),
        (("does not answer yet",), "silent"),
        (("asking the others how far they are",), None),
        ((), None),
    ],
)
def test_the_worst_reason_gives_the_word(reasons: tuple[str, ...], word: str | None) -> None:
    report = NodeReport("node1", 7, True, not reasons, "http://127.0.0.1:1", 1, 1, "ab", 3, reasons)
    assert report.trouble == word
