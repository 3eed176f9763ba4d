"""Trees that are built and hashed here: what is left out, what is sent, and puts that go on."""

from __future__ import annotations

import io
import os
import random
import stat
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from mpisa.node.views import CarView
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import IntegrityError, NotReady, UsageError
from mpisa.primitives.profiles import PROFILES, Profile, profile_by_name
from mpisa.sdk import streaming, upload
from mpisa.sdk.async_client import AsyncClient
from mpisa.sdk.ignore import read_rules
from mpisa.sdk.tree import Source, build, list_directory, open_source
from storage.importer import ImportResult, cid_of_path
from tests.api.fake_node import FakeNode
from tests.sdk.test_transfer import content, make_tree

MIB = 1 << 20


def cid_here(path: Path, profile: Profile) -> Cid:
    return build(open_source(path), profile, lambda *_: None).cid


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("size", [0, 1, 1023, 1024, 1025, 4096, 40_000])
def test_a_file_gets_the_cid_that_the_node_gives_it(tmp_path: Path, name: str, size: int) -> None:
    profile = PROFILES[name].replace(chunk_size=1024, max_links=3)
    (tmp_path / "file").write_bytes(os.urandom(size))
    assert cid_here(tmp_path / "file", profile) == cid_of_path(tmp_path / "file", profile)


@pytest.mark.parametrize("name", sorted(PROFILES))
@pytest.mark.parametrize("threshold", [100, 256 << 10])
def test_a_tree_gets_the_cid_that_the_node_gives_it(tmp_path: Path, name: str, threshold: int) -> None:
    source = make_tree(tmp_path / "model")
    for number in range(40):
        (source / "weights" / f"part-{number}").write_text("x" * number)
        (source / "a" / "b" / f"{number % 3}").mkdir(parents=True, exist_ok=True)
    (source / "weights" / "odd").symlink_to("./nothing/")
    for keep in (False, True):
        profile = PROFILES[name].replace(hamt_threshold=threshold, preserve_mode=keep, preserve_mtime=keep)
        assert cid_here(source, profile) == cid_of_path(source, profile)


def test_a_stream_is_cut_into_the_same_chunks_however_it_comes() -> None:
    data = os.urandom(5000)

    class Trickle(io.RawIOBase):
        def __init__(self) -> None:
            self.at = 0

        def readable(self) -> bool:
            return True

        def read(self, size: int = -1, /) -> bytes:
            piece = data[self.at : self.at + min(size, 7)]
            self.at += len(piece)
            return piece

    profile = PROFILES["unixfs-v1-2025"].replace(chunk_size=1000)
    trickled = build(Source(None, None, None, Trickle()), profile, lambda *_: None)
    whole = build(Source(None, None, None, io.BytesIO(data)), profile, lambda *_: None)
    assert trickled == whole
    assert (whole.size, whole.blocks) == (5000, 6)


def names(root: Path, *patterns: str, use_file: bool = True) -> list[str]:
    return [item.name for item in list_directory(root, read_rules(root, patterns, use_file=use_file))]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.tmp", "keep.tmp", "build/out.o", "src/build/x.c", "src/a.tmp", "src/deep/logs/1.log", ".git/HEAD"):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_text(name)
    return tmp_path / "tree"


EVERYTHING = [
    ".git", ".git/HEAD", "a.tmp", "build", "build/out.o", "keep.tmp", "src", "src/a.tmp", "src/build",
    "src/build/x.c", "src/deep", "src/deep/logs", "src/deep/logs/1.log",
]  # fmt: skip
RULES: dict[str, tuple[tuple[str, ...], set[str]]] = {
    "nothing": ((), set()),
    "a suffix, wherever": (("*.tmp",), {"a.tmp", "keep.tmp", "src/a.tmp"}),
    "taken back": (("*.tmp", "!keep.tmp"), {"a.tmp", "src/a.tmp"}),
    "anchored": (("/a.tmp",), {"a.tmp"}),
    "a directory, wherever": (("build/",), {"build", "build/out.o", "src/build", "src/build/x.c"}),
    "an anchored directory": (("/build/",), {"build", "build/out.o"}),
    "two stars": (("src/**/*.log",), {"src/deep/logs/1.log"}),
    "nothing below comes back": (("build", "!build/out.o"), {"build", "build/out.o", "src/build", "src/build/x.c"}),
    "hidden ones": ((".*",), {".git", ".git/HEAD"}),
    "comments and blank lines": (("# a.tmp", "", "   "), set()),
    "all but one kind": (
        ("*", "!*/", "!*.c"),
        {".git/HEAD", "a.tmp", "build/out.o", "keep.tmp", "src/a.tmp", "src/deep/logs/1.log"},
    ),
}


@pytest.mark.parametrize("how", sorted(RULES))
def test_what_is_ignored(tree: Path, how: str) -> None:
    patterns, hidden = RULES[how]
    assert names(tree, *patterns) == [name for name in EVERYTHING if name not in hidden]


def test_the_file_of_rules_belongs_to_the_tree_and_the_callers_patterns_win(tree: Path) -> None:
    (tree / ".mpisaignore").write_text("*.tmp\n/.git\n")
    assert names(tree, "!a.tmp", "/src") == [".mpisaignore", "a.tmp", "build", "build/out.o"]
    assert len(names(tree, use_file=False)) == len(EVERYTHING) + 1
    (tree / ".mpisaignore").write_bytes(b"\xff")
    with pytest.raises(UsageError, match="isn't UTF-8"):
        names(tree)
    (tree / ".mpisaignore").unlink()
    (tree / ".mpisaignore").symlink_to("/etc/passwd")
    with pytest.raises(UsageError, match="can't be read"):
        names(tree)


def test_a_pattern_that_is_none_is_named(tree: Path) -> None:
    for wrong in ("!", "/", "//", "a[b", "[[:alpha:]]", "a\\", "x" * 5000, "[a\\]b]"):
        with pytest.raises(UsageError, match="pattern"):
            names(tree, wrong)


def test_git_leaves_out_the_same(tmp_path: Path) -> None:
    """Random patterns over random trees, next to git itself (which doesn't know empty directories)."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    root = tmp_path / "tree"
    files = {"/".join(dice.choice(["a", "b", "ab", "c.o", ".d"]) for _ in range(dice.randint(1, 4))) for _ in range(60)}
    files = {name for name in files if not any(other.startswith(name + "/") for other in files)}
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    words = ["a", "b", "ab", "*", "?", "**", "a*", "*.o", ".*", "[ab]", "[!a]", "[^b]*", "\\a", "c.?"]
    for _ in range(25):
        lines = []
        for _ in range(dice.randint(1, 5)):
            body = "/".join(dice.choice(words) for _ in range(dice.randint(1, 3)))
            lines.append(dice.choice(["", "", "!"]) + dice.choice(["", "", "/"]) + body + dice.choice(["", "", "/"]))
        (root / ".git" / "info" / "exclude").write_text("\n".join(lines))
        listed = subprocess.run(
            ["git", "-C", str(root), "ls-files", "-o", "-z", "--exclude-from=.git/info/exclude"],
            check=True,
            capture_output=True,
        )
        theirs = sorted(name for name in listed.stdout.decode().split("\0") if name)
        rules = read_rules(root, [*lines, "/.git"])
        ours = [item.name for item in list_directory(root, rules) if stat.S_ISREG(item.mode)]
        assert sorted(ours) == theirs, lines


def test_no_pattern_takes_long(tmp_path: Path) -> None:
    rules = read_rules(tmp_path, ["*a" * 100 + "b", "/".join(["**"] * 100 + ["b"]), "/".join(["**", "a"] * 60 + ["b"])])
    assert not rules.hides("/".join(["a" * 255] * 200), is_directory=True)
    assert not rules.hides("/".join(["a"] * 250), is_directory=True)


async def test_a_put_leaves_out_what_is_ignored(client: AsyncClient, tree: Path, tmp_path: Path) -> None:
    stored = await client.put(tree, ignore=["*.tmp", "/.git"])
    await client.get(stored.cid, tmp_path / "copy")
    kept = {name: data for name, data in content(tree).items() if not name.endswith(".tmp") and ".git" not in name}
    assert content(tmp_path / "copy") == kept


async def test_only_what_the_node_lacks_is_sent(client: AsyncClient, tmp_path: Path) -> None:
    data = os.urandom(40 * MIB)
    (tmp_path / "file").write_bytes(data)
    first = await client.put(tmp_path / "file")
    assert first.sent > len(data)
    again = await client.put(tmp_path / "file")
    assert (again.cid, again.sent) == (first.cid, 0)
    (tmp_path / "file").write_bytes(data[: 20 * MIB] + b"X" + data[20 * MIB + 1 :])
    changed = await client.put(tmp_path / "file")
    assert MIB < changed.sent < MIB + 10_000


@pytest.fixture
def by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large files too are sent block by block."""
    monkeypatch.setattr(streaming, "WORTH_BYTES", 1 << 50)


async def test_a_large_new_file_goes_as_one_stream_and_on_by_blocks_when_it_breaks_off(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(70 * MIB)
    (tmp_path / "file").write_bytes(data)
    real = node.blobs.put_stream

    async def breaks(reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        async def some() -> AsyncIterator[bytes]:
            seen = 0
            async for part in reader:
                yield part
                seen += len(part)
                if seen > 30 * MIB:
                    return

        await real(some(), profile=profile)
        node.blobs.pinned.clear()
        raise NotReady("the node is stopping")

    monkeypatch.setattr(node.blobs, "put_stream", breaks)
    stored = await client.put(tmp_path / "file")
    assert stored.cid == str(cid_of_path(tmp_path / "file"))
    assert 38 * MIB < stored.sent < 41 * MIB
    node.blobs.store._blocks.clear()
    node.blobs.cars.clear()
    monkeypatch.setattr(node.blobs, "put_stream", real)
    seen: list[tuple[int, int | None]] = []
    again = await client.put(tmp_path / "file", progress=lambda done, total: seen.append((done, total)))
    assert (again.cid, again.sent, node.blobs.cars) == (stored.cid, len(data), [])
    assert seen[-1] == (len(data), len(data))
    with_modes = await client.put(tmp_path / "file", profile="unixfs-v0-2015,mode,mtime")
    keeping = profile_by_name("unixfs-v0-2015,mode,mtime")
    assert with_modes.cid == str(cid_of_path(tmp_path / "file", keeping))


async def test_a_node_that_stores_something_else_is_not_believed(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(70 * MIB))
    real = node.blobs.put_stream

    async def other(reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        async def changed() -> AsyncIterator[bytes]:
            async for part in reader:
                yield bytes([part[0] ^ 1]) + part[1:]

        return await real(changed(), profile=profile)

    monkeypatch.setattr(node.blobs, "put_stream", other)
    with pytest.raises(IntegrityError, match="the node stored"):
        await client.put(tmp_path / "file")


@pytest.mark.usefixtures("by_blocks")
async def test_a_put_that_broke_off_goes_on(client: AsyncClient, node: FakeNode, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(os.urandom(80 * MIB))
    real, taken = node.blobs.put_car, 0

    async def breaks(reader: AsyncIterator[bytes]) -> CarView:
        nonlocal taken
        if taken >= 2:
            raise UsageError("the node has had enough")
        answer = await real(reader)
        taken += 1
        return answer

    node.blobs.put_car = breaks  # type: ignore[method-assign]
    with pytest.raises(UsageError, match="had enough"):
        await client.put(tmp_path / "file")
    assert node.blobs.pins() == ()
    here = sum(node.blobs.store.size_of(cid) for cid in node.blobs.store.cids())
    assert here >= 2 * upload.BATCH_BYTES
    node.blobs.put_car = real  # type: ignore[method-assign]
    seen: list[tuple[int, int | None]] = []
    stored = await client.put(tmp_path / "file", progress=lambda done, total: seen.append((done, total)))
    assert stored.sent < 80 * MIB - here + 100_000
    assert seen[-1] == (80 * MIB, 80 * MIB)
    assert [pin.cid for pin in await client.pins()] == [stored.cid]


async def test_a_busy_node_is_asked_again(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"content")
    real, refused = node.blobs.put_car, 0

    async def busy(reader: AsyncIterator[bytes]) -> CarView:
        nonlocal refused
        refused += 1
        if refused < 3:
            raise NotReady("too many uploads")
        return await real(reader)

    monkeypatch.setattr(upload, "BUSY_PAUSE_S", 0.001)
    node.blobs.put_car = busy  # type: ignore[method-assign]
    assert (await client.put(tmp_path / "file")).size == 7
    assert refused == 3


async def test_a_node_that_forgets_blocks_is_not_believed(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it has everything: the root isn't pinned, so the put says so instead of ending well."""
    (tmp_path / "file").write_bytes(os.urandom(3 * MIB))

    async def has_all(cids: object) -> tuple[int, ...]:
        return ()

    monkeypatch.setattr(node.blobs, "missing", has_all)
    with pytest.raises(IntegrityError, match="the node lacks blocks of"):
        await client.put(tmp_path / "file")


async def test_a_stream_is_put(client: AsyncClient, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 5)
    (tmp_path / "file").write_bytes(data)
    stored = await client.put(io.BytesIO(data))
    assert (stored.cid, stored.size) == (str(cid_of_path(tmp_path / "file")), len(data))


async def test_a_file_that_changes_while_it_is_streamed_is_refused(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(70 * MIB))
    real = node.blobs.put_stream

    async def meanwhile(reader: AsyncIterator[bytes], *, profile: str | None = None) -> ImportResult:
        with (tmp_path / "file").open("ab") as stream:
            stream.write(b"more")
        return await real(reader, profile=profile)

    monkeypatch.setattr(node.blobs, "put_stream", meanwhile)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        await client.put(tmp_path / "file")


@pytest.mark.usefixtures("by_blocks")
async def test_a_file_that_changes_meanwhile_is_refused(
    client: AsyncClient, node: FakeNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(os.urandom(100 * MIB))
    real = node.blobs.missing

    async def meanwhile(cids: list[Cid]) -> tuple[int, ...]:
        with (tmp_path / "file").open("ab") as stream:
            stream.write(b"more")
        return await real(cids)

    monkeypatch.setattr(node.blobs, "missing", meanwhile)
    with pytest.raises(IntegrityError, match="changed while it was read"):
        await client.put(tmp_path / "file")
    assert node.blobs.pins() == ()
