"""`mpisa put | get | blob ...` at a fake node that really serves: output, JSON, exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from mpisa.api import blob_routes
from mpisa.api.server import ApiServer
from mpisa.cli.main import run
from mpisa.node.views import PinView
from mpisa.primitives.car_stream import encode_car_header, encode_car_section
from mpisa.primitives.cid import DAG_CBOR, Cid
from mpisa.primitives.ipld import Link, encode_dag_cbor
from storage.car import export_car
from storage.importer import cid_of_path
from tests.api.fake_node import FakeLedger, FakeNode, make_genesis
from tests.sdk.test_transfer import content, make_tree

Mpisa = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def node(tmp_path: Path) -> FakeNode:
    return FakeNode(tmp_path / "served", FakeLedger(*make_genesis()))


@pytest.fixture
async def mpisa(
    node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> AsyncIterator[Mpisa]:
    for name in ("MPISA_ENDPOINT", "MPISA_TOKEN", "MPISA_HOME", "MPISA_ACCOUNT", "MPISA_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MPISA_RUNTIME_DIR", str(tmp_path / "runtime"))
    monkeypatch.chdir(tmp_path)
    server = ApiServer(node)
    await server.start()

    async def call(*words: object) -> tuple[int, bytes, str]:
        options = ["--home", str(node.home), "--endpoint", server.url]
        code = await asyncio.to_thread(run, [*map(str, words), *options])
        printed = capsysbinary.readouterr()
        return code, printed.out, printed.err.decode()

    yield call
    await server.stop()


async def answer(mpisa: Mpisa, *words: object) -> Any:
    code, out, err = await mpisa(*words, "--json")
    assert code == 0, err
    return json.loads(out)


async def test_a_tree_there_and_back(mpisa: Mpisa, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    put = await answer(mpisa, "put", "model", "--ignore", "*.bin")
    assert await answer(mpisa, "blob", "cid", "model", "--ignore", "*.bin") == {"cid": put["cid"]}
    assert put["sent"] > 0
    assert (await answer(mpisa, "put", "model", "--ignore", "*.bin"))["sent"] == 0
    (source / ".mpisaignore").write_text("weights/*\n")
    ruled, unruled = await answer(mpisa, "put", "model"), await answer(mpisa, "put", "model", "--no-ignore-file")
    assert unruled["cid"] == str(cid_of_path(source)) != ruled["cid"]
    got = await answer(mpisa, "get", ruled["cid"], "-o", "copy")
    assert (got["path"], got["files"], got["reused"]) == ("copy", 4, 0)
    assert sorted(content(tmp_path / "copy")) == sorted(
        name for name in content(source) if not name.startswith("weights/")
    )
    code, _, err = await mpisa("put", "model", "--ignore", "a[")
    assert (code, "brackets" in err) == (2, True)


async def test_paths_ranges_and_archives(mpisa: Mpisa, tmp_path: Path) -> None:
    source = make_tree(tmp_path / "model")
    big = (source / "weights" / "big.bin").read_bytes()
    root = (await answer(mpisa, "put", "model"))["cid"]
    assert (await answer(mpisa, "get", f"{root}/weights/big.bin"))["path"] == "big.bin"
    assert (tmp_path / "big.bin").read_bytes() == big
    code, out, err = await mpisa("get", f"ipfs://{root}/weights/big.bin", "--range", "1000000-1100000", "-o", "-")
    assert (code, out) == (0, big[1_000_000:1_100_001]), err
    assert (await answer(mpisa, "get", f"{root}/weights/big.bin", "--range", "-7", "-o", "end"))["size"] == 7
    assert (tmp_path / "end").read_bytes() == big[-7:]
    code, out, err = await mpisa("get", root, "--tar", "-o", "-")
    assert code == 0, err
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        tar.extractall(tmp_path / "out", filter="data")
    assert content(tmp_path / "out" / root) == content(source)
    assert (await answer(mpisa, "get", f"{root}/empty", "--tar"))["path"] == "empty.tar"
    listed = await answer(mpisa, "blob", "ls", f"{root}/weights")
    assert {entry["name"] for entry in listed["entries"]} == {"again.bin", "big.bin", "nothing", "same.bin", "up"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("get", "{root}/nope"), 3, "there is no 'nope' in"),
        (("get", "{root}", "-o", "-"), 2, "a directory can't be written to a stream"),
        (("get", "{root}/README.md", "--range", "9-"), 2, "no byte of the range lies in"),
        (("get", "{root}/README.md", "--range", "x"), 2, "expected FIRST-LAST"),
        (("get", "{root}", "--range", "0-1"), 2, "is not a file"),
        (("get", "{root}", "--range", "0-1", "--tar"), 2, "exclude each other"),
        (("get", "{root}/../x"), 2, "a path goes down only"),
        (("get", "No/such/thing"), 2, "neither a CID nor a name"),
        (("get", "no/such/thing"), 3, "no such name"),
        (("blob", "verify", "{absent}"), 5, "1 blocks of"),
        (("blob", "unpin", "{absent}"), 3, "isn't pinned"),
        (("blob", "import-car", "absent.car"), 3, "no such file"),
        (("put", "absent"), 3, "no such file or directory"),
    ],
)
async def test_exit_codes(mpisa: Mpisa, tmp_path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    make_tree(tmp_path / "model")
    root = (await answer(mpisa, "put", "model"))["cid"]
    before = sorted(path.name for path in tmp_path.iterdir())
    absent = str(Cid.of(b"absent"))
    found, _, err = await mpisa(*(word.format(root=root, absent=absent) for word in words), "--json")
    assert found == code
    assert message in json.loads(err.splitlines()[-1])["error"]["message"]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


async def test_what_a_tree_says_of_modes_and_times(mpisa: Mpisa, tmp_path: Path) -> None:
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "run").write_bytes(b"#!/bin/sh")
    (tmp_path / "tool" / "run").chmod(0o750)
    (tmp_path / "tool" / "link").symlink_to("run")
    os.utime(tmp_path / "tool" / "run", ns=(0, 1_700_000_000_000_000_005))
    put = await answer(mpisa, "put", "tool", "--keep", "mode", "--keep", "mtime")
    assert await answer(mpisa, "blob", "cid", "tool", "--keep", "mtime", "--keep", "mode") == {"cid": put["cid"]}
    stat = await answer(mpisa, "blob", "stat", f"{put['cid']}/run")
    assert (stat["mode"], stat["mtime_ns"]) == (0o750, 1_700_000_000_000_000_005)
    _, out, _ = await mpisa("blob", "stat", f"{put['cid']}/run")
    assert b"0750" in out
    assert b"2023-11-14 22:13:20 UTC" in out
    assert (await answer(mpisa, "blob", "stat", f"{put['cid']}/link"))["target"] == "run"
    await answer(mpisa, "get", put["cid"], "-o", "copy")
    assert (tmp_path / "copy" / "run").stat().st_mode & 0o777 == 0o750


async def test_a_long_directory_is_listed_page_by_page(
    mpisa: Mpisa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blob_routes, "LS_PAGE", 7)
    (tmp_path / "many").mkdir()
    for number in range(30):
        (tmp_path / "many" / f"{number} & ü").write_bytes(b"%d" % number)
    root = (await answer(mpisa, "put", "many"))["cid"]
    listed = (await answer(mpisa, "blob", "ls", root))["entries"]
    assert [entry["name"] for entry in listed] == sorted(f"{number} & ü" for number in range(30))


async def test_stdin_is_streamed(mpisa: Mpisa, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(3_000_000)
    (tmp_path / "file").write_bytes(data)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert (await answer(mpisa, "put", "-"))["cid"] == str(cid_of_path(tmp_path / "file"))


async def test_a_killed_get_goes_on(mpisa: Mpisa, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(5 << 20))
    root = (await answer(mpisa, "put", "file"))["cid"]
    (tmp_path / f".copy.mpisa-part-{root[-12:]}").write_bytes((tmp_path / "file").read_bytes()[: 3 << 20])
    assert (await answer(mpisa, "get", root, "-o", "copy"))["reused"] == 3 << 20
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "file").read_bytes()


async def test_pins_say_their_reason(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    root = (await answer(mpisa, "put", "file"))["cid"]
    stat = await answer(mpisa, "blob", "stat", root)
    assert stat["pins"] == [{"cid": root, "kind": "recursive", "name": "", "reason": "publish"}]
    code, out, _ = await mpisa("blob", "stat", root)
    assert (code, b"pinned for  publish (recursive)" in out) == (0, True)
    other = Cid.of(b"other")
    node.blobs.pinned[other] = PinView(other, "recursive", "", "custody")
    assert {pin["reason"] for pin in (await answer(mpisa, "blob", "pins"))["pins"]} == {"publish", "custody"}
    assert (await answer(mpisa, "blob", "unpin", root))["left"] == []


async def test_verify_counts_and_fails_when_something_is_wrong(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    make_tree(tmp_path / "model")
    put = await answer(mpisa, "put", "model")
    found = await answer(mpisa, "blob", "verify", put["cid"])
    assert (found["blocks"], found["damaged"], found["missing"]) == (put["blocks"], 0, 0)
    victim = next(cid for cid in node.blobs.store.cids() if node.blobs.store.size_of(cid) > 100_000)
    node.blobs.store._blocks[victim.multihash] = (victim, b"not these")
    code, out, err = await mpisa("blob", "verify", put["cid"])
    assert code == 5
    assert b"1 damaged, 0 missing" in out
    assert f"the first is {victim}" in err


async def test_cars_out_and_in(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    make_tree(tmp_path / "model")
    root = (await answer(mpisa, "put", "model"))["cid"]
    exported = await answer(mpisa, "blob", "export-car", root)
    assert exported["path"] == f"{root}.car"
    archive = (tmp_path / f"{root}.car").read_bytes()
    assert archive == b"".join(export_car(node.blobs.store, Cid.parse(root)))
    code, out, err = await mpisa("blob", "export-car", root, "-o", "-")
    assert (code, out) == (0, archive), err
    node.blobs.store._blocks.clear()
    node.blobs.pinned.clear()
    taken = await answer(mpisa, "blob", "import-car", f"{root}.car")
    assert (taken["roots"], taken["pinned"], taken["blocks"]) == ([root], [root], exported["blocks"])
    assert (await answer(mpisa, "blob", "verify", root))["missing"] == 0


async def test_cars_of_parts(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    make_tree(tmp_path / "model")
    root = (await answer(mpisa, "put", "model"))["cid"]
    assert (await answer(mpisa, "blob", "export-car", root, "--scope", "block", "-o", "b.car"))["blocks"] == 1
    assert (await answer(mpisa, "blob", "export-car", root, "--scope", "entity", "-o", "d.car"))["blocks"] == 1
    big = f"{root}/weights/big.bin"
    whole = await answer(mpisa, "blob", "export-car", big, "--scope", "entity", "-o", "e.car")
    part = await answer(mpisa, "blob", "export-car", big, "--scope", "entity", "--range", "0-9", "-o", "r.car")
    assert (whole["blocks"], part["blocks"]) == (5, 2)
    node.blobs.store._blocks.clear()
    taken = await answer(mpisa, "blob", "import-car", "r.car")
    assert (taken["blocks"], taken["pinned"]) == (2, [])
    assert (await answer(mpisa, "get", part["cid"], "--range", "0-9", "-o", "ten"))["size"] == 10
    code, _, err = await mpisa("blob", "export-car", root, "--range", "0-9", "-o", "x.car")
    assert (code, "goes with the scope entity" in err) == (2, True)


async def test_a_car_of_documents(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    leaf = Cid.of(b"leaf")
    body = encode_dag_cbor({"leaf": Link(leaf), "again": Link(leaf)})
    root = Cid.of(body, codec=DAG_CBOR)
    blocks = [(root, body), (leaf, b"leaf")]
    (tmp_path / "in.car").write_bytes(
        encode_car_header((root,)) + b"".join(encode_car_section(cid, len(data)) + data for cid, data in blocks)
    )
    assert (await answer(mpisa, "blob", "import-car", "in.car"))["pinned"] == [str(root)]
    assert (await answer(mpisa, "blob", "export-car", str(root), "-o", "out.car"))["blocks"] == 3


async def test_cars_that_lie(mpisa: Mpisa, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(2_500_000))
    root = (await answer(mpisa, "put", "file"))["cid"]
    archive = b"".join(export_car(node.blobs.store, Cid.parse(root)))
    for name, wrong in (("cut", archive[:-1]), ("flipped", archive[:-1] + bytes([archive[-1] ^ 1])), ("none", b"")):
        (tmp_path / f"{name}.car").write_bytes(wrong)
        code, _, err = await mpisa("blob", "import-car", f"{name}.car")
        assert code == 5, err
    node.blobs.tamper = cut_by_one
    code, _, err = await mpisa("blob", "export-car", root, "-o", "out.car")
    assert code == 5, err
    assert not (tmp_path / "out.car").exists()
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


async def cut_by_one(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    whole = b"".join([part async for part in parts])
    yield whole[:-1]
