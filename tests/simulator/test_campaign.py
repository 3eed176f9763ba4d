"""A campaign goes on where its summary ends, and a page shows what it has seen."""

from pathlib import Path

import pytest

from tests.simulator.campaign import BEGIN, END, Part, Summary, campaign


def test_a_campaign_goes_on_behind_the_highest_number_and_adds_up(tmp_path: Path) -> None:
    path, said = tmp_path / "summary.json", list[str]()
    assert Summary(path).next("twins") == 0
    campaign("twins", 0, 3, Summary(path), said.append)
    again = Summary(path)
    assert again.next("twins") == 3
    campaign("twins", again.next("twins"), 2, again, said.append)
    (part,) = Summary(path).kinds["twins"]
    assert part.ranges == [[0, 4]]
    assert part.count == 5
    assert part.simulated_s > 0
    assert part.failing == {}
    assert len(said) == 2


def test_a_page_shows_the_table_between_its_markers(tmp_path: Path) -> None:
    summary, page = Summary(tmp_path / "summary.json"), tmp_path / "page.md"
    summary.kinds["seeds"] = [
        Part("aaaa", [[0, 9]], 10, 100.0, 5.0, 4, 3),
        Part("bbbb", [[10, 14]], 5, 50.0, 2.5, 4, 1, {"12": "node 1 halted"}),
    ]
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    summary.show(page)
    summary.show(page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n| what |")
    assert text.endswith(f"\n- seeds 12 on bbbb: node 1 halted\n\n{END}after\n")
    assert "| seeds | all | 0-14 | 15 | 150 | 10.0 | 8 | 20.0 | 4 | 12 |" in text
    assert "old" not in text


def test_a_page_without_markers_is_left_alone(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="lacks the lines <!-- campaign -->"):
        Summary(tmp_path / "summary.json").show(page)
    assert page.read_text() == "no markers\n"
