"""The campaign's own parts: the judge sees what is lost, a fork is heard to its last line, runs add up."""

import subprocess
import sys
from pathlib import Path

import pytest

from mpisa.primitives.errors import StoreDamaged
from storage.packs import DiskBlockStore
from storage.pins import PinStore
from tests.storage.campaign.judge import Promises, judge
from tests.storage.campaign.summary import BEGIN, END, Run, Summary
from tests.storage.campaign.victims import dag
from tests.storage.test_packs import flip, pack_path

FORKS = """
import sys
from pathlib import Path
from tests.storage.campaign.forks import Fork, ask

heard = []
prints = Path(sys.argv[1])

def work(say):
    for number in range(1000):
        say("stored", number)
    print("printed", flush=True)
    while True:
        say("still here")

fork = Fork(work, prints)
while not any(line == ("still here",) for line in heard):
    assert not fork.listen(0.01, lambda *what: heard.append(what))
fork.kill(lambda *what: heard.append(what))
assert fork.status == -9, fork.status
assert fork.peak > 1 << 20
assert [line[1] for line in heard if line[0] == "stored"] == list(range(1000))
assert prints.read_text() == "printed\\n"
assert ask(lambda: [1, "two"], prints) == [1, "two"]
try:
    ask(lambda: 1 / 0, prints)
except RuntimeError as error:
    assert "ZeroDivisionError" in str(error)
else:
    raise AssertionError("a fork that fails must be noticed")
"""


def home_with(path: Path, *numbers: int) -> Promises:
    store = DiskBlockStore.open(path / "store")
    pins = PinStore(path / "pins")
    promises = Promises()
    for number in numbers:
        store.put(dag(number))
        promises.hear("stored", number)
    pins.pin(dag(numbers[0])[-1][0])
    promises.hear("pinned", numbers[0])
    store.close()
    pins.close()
    return promises


def test_a_judge_finds_nothing_in_a_whole_store(tmp_path: Path) -> None:
    assert judge(tmp_path, home_with(tmp_path, 3, 4)) == []


def test_a_judge_misses_what_was_promised(tmp_path: Path) -> None:
    promises = home_with(tmp_path, 1)
    promises.hear("stored", 2)
    promises.hear("pinned", 2)
    found = judge(tmp_path, promises)
    lost = [f"{cid} of DAG 2 is lost" for cid, _ in dag(2) if cid not in {known for known, _ in dag(1)}]
    assert found == [*lost, "DAG 2 isn't pinned"]
    promises.hear("unpinning", 2)
    assert judge(tmp_path, promises) == lost


def test_a_judge_sees_a_flipped_bit(tmp_path: Path) -> None:
    promises = home_with(tmp_path, 1)
    path = pack_path(tmp_path / "store")
    flip(path, path.stat().st_size - 1)
    with pytest.raises(StoreDamaged, match="is damaged at byte"):
        judge(tmp_path, promises)


def test_what_a_victim_read_wrongly_counts() -> None:
    promises = Promises()
    promises.hear("wrong", "a block")
    promises.hear("collected", 2, 1)
    assert promises.findings == ["a read of a block gave other bytes"]
    assert (promises.collections, promises.packs_retired, promises.count) == (1, 3, 0)


def test_a_fork_is_heard_to_its_last_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FORKS, str(tmp_path / "prints")], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_runs_add_up_and_a_page_shows_them(tmp_path: Path) -> None:
    path, page = tmp_path / "summary.json", tmp_path / "page.md"
    Summary(path).add(Run("aaaa", 1, {"put": 3, "get": 2}, 40, 5, 6, 50))
    Summary(path).add(Run("bbbb", 2, {"put": 4}, 10, 1, 2, 60, findings=["put: lost"]))
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    Summary(path).show(page)
    Summary(path).show(page)
    assert page.read_text().splitlines() == [
        "before",
        BEGIN.strip(),
        "",
        "| commit | kills | get | put | acknowledged | collections | packs retired | peak MiB | wrong |",
        "|---|---|---|---|---|---|---|---|---|",
        "| aaaa | 5 | 2 | 3 | 40 | 5 | 6 | 50 | 0 |",
        "| bbbb | 4 | 0 | 4 | 10 | 1 | 2 | 60 | 1 |",
        "| all | 9 | 2 | 7 | 50 | 6 | 8 | 60 | 1 |",
        "",
        "- bbbb, seed 2: put: lost",
        "",
        END.strip(),
        "after",
    ]
    page.write_text("no markers\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        Summary(path).show(page)
