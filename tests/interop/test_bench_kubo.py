"""The peer of the storage bench: the real Kubo adds the same bytes, synced, and its nodes move them."""

from pathlib import Path

from mpisa.cli.bench import kubo, storage, storage_network
from mpisa.cli.bench.storage_size import Size, write_random
from tests.interop.others import KUBO, required

SMALL = Size(runs=1, large_bytes=1 << 20, files=5, dead_blocks=100, remote_blocks=2, huge_bytes=1 << 20)


def test_both_take_turns(tmp_path: Path) -> None:
    library = Path(required(KUBO))
    figures = {figure.name: figure for figure in storage.on_disk(SMALL, tmp_path, library, lambda _: None)}
    for name in ("add_1gib", "add_10k_files"):
        assert figures[name].peer == kubo.NAME
        assert len(figures[name].peer_runs) == len(figures[name].runs) == 1
        assert figures[name].goal is not None
    assert figures["gc_100k_s"].peer is None


def test_its_nodes_move_bytes(tmp_path: Path) -> None:
    source = write_random(tmp_path / "source", 1 << 20)
    with storage_network.pair_of_kubo(tmp_path / "kubo", Path(required(KUBO))) as pair:
        assert pair is not None
        cid = pair.source.ask("add", source)
        assert pair.taker.seconds("pin", cid) > 0
        pair.source.stop()
        assert pair.taker.seconds("get", cid, tmp_path / "taken" / "file", 10.0) > 0
        assert (tmp_path / "taken" / "file").read_bytes() == source.read_bytes()
        assert pair.taker.peak_mib > 10
