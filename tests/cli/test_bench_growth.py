"""Message delays with real engines on a network of one delay, and the plot."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from mpisa.cli.bench import delays
from mpisa.cli.bench.plot import Panel, draw


@pytest.mark.parametrize("size", [4, 7])
def test_a_leader_is_ordered_after_three_message_delays(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delays, "VERTICES", 0)
    found = delays.measure(size)
    assert (found.authorities, found.to_order) == (size, 3.0)
    assert 3.0 <= found.to_order_any < 4.0
    assert found.vertex_us > 0


def test_a_plot_has_every_value() -> None:
    text = draw([Panel("a < b", "ms", [(4, 3.0), (50, 3.25)], (2.7, 3.3)), Panel("c", "us", [(4, 100.0)])], "nodes")
    root = ElementTree.fromstring(text)
    words = [item.text for item in root.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["a < b (ms)", "0", "nodes", "3", "4", "3.25", "50", "c (us)", "0", "nodes", "100", "4"]
    assert root.get("width") == "840"
