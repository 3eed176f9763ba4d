import pytest

from mpisa.cli import render


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(count: int, text: str) -> None:
    assert render.size(count) == text


def test_moments() -> None:
    assert render.moment(1_700_000_000_999) == "2023-11-14 22:13:20 UTC"


def test_fields_and_tables_align() -> None:
    assert render.fields({"a": 1, "long": None}) == "a     1\nlong  -"
    assert render.table([("x", True), ("long", [1])], ("name", "on")) == "name  on\nx     yes\nlong  [1]"
    assert render.fields({}) == ""
