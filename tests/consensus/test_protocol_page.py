"""docs/protocol.md and those who cite it: a cited section exists and names who cites it; a file that it names exists.

Who renumbers or moves a section, or moves a file, hears of it here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "protocol.md"
SOURCES = ("consensus", "devnet", "mpisa", "storage")
READERS = (*SOURCES, "docs", "tests")

CITATION = re.compile(r"(?<!RFC \d{4}, )\bsections?[\s#]+(\d+)(?:[\s#]+(and|to)[\s#]+(\d+))?")
"""`section 4`, `sections 4 and 12`, `sections 9 to 13`, over the end of a line too."""


@dataclass(frozen=True, slots=True)
class Section:
    """`files` are paths or ends of paths, as the section names them."""

    number: int
    title: str
    files: tuple[str, ...]


def read_sections(text: str) -> list[Section]:
    parts = re.split(r"^## (\d+)\. (.*)$", text, flags=re.MULTILINE)
    return [
        Section(int(number), title, named_files(body))
        for number, title, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)
    ]


def named_files(body: str) -> tuple[str, ...]:
    """`a/{b,c}.py` is a/b.py and a/c.py."""
    found: list[str] = []
    for start, names, end in re.findall(r"`([\w/]*)(?:\{([\w,]+)\})?([\w/]*\.py)`", body):
        found += [f"{start}{name}{end}" for name in names.split(",")]
    return tuple(found)


def cited(text: str) -> set[int]:
    found: set[int] = set()
    for first, how, second in CITATION.findall(text):
        last = int(second or first)
        found |= set(range(int(first), last + 1)) if how == "to" else {int(first), last}
    return found


def citations() -> list[tuple[str, int]]:
    """(path, section number), each once: of files that name the page, and of the page itself."""
    found: list[tuple[str, int]] = []
    for path in sorted(path for room in READERS for path in (ROOT / room).rglob("*") if path.suffix in (".py", ".md")):
        text = path.read_text(encoding="utf-8")
        if path != Path(__file__) and (path == PAGE or "docs/protocol.md" in text):
            found += [(path.relative_to(ROOT).as_posix(), number) for number in sorted(cited(text))]
    return found


SECTIONS = read_sections(PAGE.read_text(encoding="utf-8"))
CITATIONS = citations()


def test_sections_are_numbered_from_one_without_a_gap() -> None:
    assert [section.number for section in SECTIONS] == list(range(1, len(SECTIONS) + 1))


def test_every_cited_section_exists() -> None:
    known = {section.number for section in SECTIONS}
    assert [(path, number) for path, number in CITATIONS if number not in known] == []


def test_a_section_names_the_code_that_cites_it() -> None:
    files = {section.number: section.files for section in SECTIONS}
    code = [(path, number) for path, number in CITATIONS if path.split("/")[0] in SOURCES]
    assert len(code) > 50, "citations are found at all"
    assert [(path, number) for path, number in code if path not in files.get(number, ())] == []


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: f"{section.number} {section.title}")
def test_the_files_that_a_section_names_exist(section: Section) -> None:
    there = [f"/{path.relative_to(ROOT)}" for room in READERS for path in (ROOT / room).rglob("*.py")]
    assert [name for name in section.files if not any(path.endswith(f"/{name}") for path in there)] == []


def test_citations_are_read_however_they_are_written() -> None:
    text = '"""(docs/protocol.md, sections 4 and\n12).""" # section\n    # 7, sections 9 to 11; RFC 8032, section 99.1'
    assert cited(text) == {4, 12, 7, 9, 10, 11}
    assert read_sections("## 3. A\n`a/{b,c}.py`\n## 4. B\n`d.py`, `e/f.toml`\n") == [
        Section(3, "A", ("a/b.py", "a/c.py")),
        Section(4, "B", ("d.py",)),
    ]
