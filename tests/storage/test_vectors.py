"""Every root CID, size and set of blocks that Helia and Kubo gave, from files on disk."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from storage.blockstore import MemoryBlockStore
from storage.importer import cid_of_path, import_path
from storage.profiles import DirectoryEstimate, Profile

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "unixfs.json").read_text())


def profile_of(name: str) -> Profile:
    config = VECTORS["configs"][name]
    return Profile(
        name=name,
        cid_version=config["cid_version"],
        raw_leaves=config["raw_leaves"],
        chunk_size=config["chunk"],
        max_links=config["width"],
        hamt_threshold=config["hamt_threshold"],
        hamt_estimate=DirectoryEstimate(config["hamt_estimate"]),
        hamt_fanout=config["hamt_fanout"],
    )


def content(data: dict[str, Any]) -> bytes:
    if data["kind"] == "hex":
        return bytes.fromhex(data["hex"])
    if data["kind"] == "zeros":
        return bytes(data["size"])
    return prng(data["seed"], data["size"])


def prng(seed: str, size: int) -> bytes:
    rounds = range(-(-size // 32))
    return b"".join(hashlib.sha256(seed.encode() + i.to_bytes(8, "big")).digest() for i in rounds)[:size]


def write_input(top: Path, description: dict[str, Any]) -> None:
    if description["type"] == "file":
        top.write_bytes(content(description["data"]))
        return
    top.mkdir()
    rule = description.get("entries_rule")
    entries = description.get("entries", [])
    if rule is not None:
        for i in range(rule["n"]):
            (top / (rule["path"] % i)).write_bytes(prng(rule["seed"] % i, rule["size"]))
    for entry in entries:
        path = top / entry["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if "link" in entry:
            path.symlink_to(entry["link"])
        else:
            path.write_bytes(content(entry["data"]))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made: dict[str, Path] = {}
    top = tmp_path_factory.mktemp("inputs")
    for name, description in VECTORS["inputs"].items():
        made[name] = top / name
        write_input(made[name], description)
    return made


@pytest.mark.parametrize(
    "vector", VECTORS["vectors"], ids=[f"{vector['config']}-{vector['input']}" for vector in VECTORS["vectors"]]
)
def test_vector(vector: dict[str, Any], inputs: dict[str, Path]) -> None:
    store = MemoryBlockStore()
    profile = profile_of(vector["config"])
    result = import_path(store, inputs[vector["input"]], profile)
    multihashes = sorted(cid.multihash.hex() for cid in store.cids())
    assert {
        "cid": str(result.cid),
        "dag_size": str(result.dag_size),
        "blocks": result.blocks,
        "blocks_sha256": hashlib.sha256("\n".join(multihashes).encode()).hexdigest(),
    } == {key: vector[key] for key in ("cid", "dag_size", "blocks", "blocks_sha256")}
    assert len(multihashes) == result.blocks


def test_the_cid_alone_needs_no_store(inputs: dict[str, Path]) -> None:
    vector = next(v for v in VECTORS["vectors"] if v["input"] == "dir_nested" and v["config"] == "unixfs-v1-2025")
    assert str(cid_of_path(inputs["dir_nested"], profile_of("unixfs-v1-2025"))) == vector["cid"]
