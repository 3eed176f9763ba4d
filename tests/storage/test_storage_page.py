"""docs/storage.md names tests and numbers: they are those of the code."""

import re
from pathlib import Path

from mpisa.config.settings import Limits
from storage import compaction, gc, pack_writer
from storage.blockstore import MAX_BLOCK_BYTES
from storage.commit_queue import MAX_GROUP_BYTES
from storage.records import PACK_HEADER_BYTES
from tests.storage.campaign.runner import KILLS_A_HOME, KILLS_A_NODE, OPENING_SHARE

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "storage.md").read_text()
MIB = 1 << 20


def test_every_file_that_the_page_names_is_there() -> None:
    named = re.findall(r"`((?:tests|storage|docs)/[\w/.-]+)`", PAGE)
    assert len(named) > 20
    assert [name for name in named if not (ROOT / name).exists() and name != "docs/storage-campaign.json"] == []


def test_the_numbers_are_those_of_the_code() -> None:
    limits = Limits()
    for text in (
        f"packs of up to {pack_writer.MAX_PACK_BYTES // MIB} MiB",
        f"up to {MAX_GROUP_BYTES // MIB} MiB, writes it",
        f"at most {compaction.SLICE_BYTES // MIB} MiB and {compaction.SLICE_BLOCKS:,} blocks",
        f"rewritten when {gc.DEAD_SHARE:.0%} of it is dead",
        f"gets {gc.WANTED_DEAD_SHARE:.0%} and pays",
        f"leaves {PACK_HEADER_BYTES} bytes behind",
        f"At {limits.gc_high_water_percent}% (`limits.gc_high_water_percent`)",
        f"Blocks are at most {MAX_BLOCK_BYTES // MIB} MiB",
    ):
        assert text in PAGE.replace("\n", " ").replace("  ", " "), text
    assert limits.gc_grace_ms == 3_600_000
    assert (KILLS_A_HOME, KILLS_A_NODE) == (8, 25)
    assert OPENING_SHARE == 0.2
