"""Directories: one block of links sorted by name, or above the profile's threshold a sharded one (HAMT).

A HAMT directory is a tree of nodes with 256 slots. An entry's slot at depth d is byte d of the murmur3 hash of its
name; a slot holds one entry, or a further node when several share it. The shape depends on the names alone, so building
it from a sorted list gives what inserting one by one would. Link names carry the slot in two hex digits before the
name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import mmh3

from mpisa.primitives.cid import DAG_PB, Cid
from mpisa.primitives.dag_pb import MAX_NODE_BYTES, PBLink, PBNode, encode_node
from mpisa.primitives.errors import UsageError
from mpisa.primitives.profiles import DirectoryEstimate, Profile
from mpisa.primitives.unixfs import MURMUR3_X64_64, FileType, UnixFsNode, encode_unixfs
from mpisa.primitives.unixfs_layout import DIRECTORY_MODE, NO_METADATA, Metadata, Node, Sink

HAMT_HASH_BYTES = 8
"""The hash has eight bytes, so a HAMT is at most eight nodes deep."""


def build_directory(
    entries: Mapping[str, Node], profile: Profile, sink: Sink, metadata: Metadata = NO_METADATA
) -> Node:
    """The directory with these entries; its blocks go to the sink. Raises UsageError for too large a block."""
    ordered = sorted(entries.items(), key=lambda entry: entry[0].encode())
    links = tuple(PBLink(node.cid.to_bytes(), name, node.dag_size) for name, node in ordered)
    said = metadata.with_default(DIRECTORY_MODE)
    content = UnixFsNode(FileType.DIRECTORY, mode=said.mode, mtime=said.mtime)
    block = encode_node(PBNode(links, encode_unixfs(content)))
    if links and _estimate(links, block, profile) > profile.hamt_threshold:
        return _build_hamt(links, profile, sink, said)
    return _finish(block, links, profile, sink)


def name_hash(name: str) -> bytes:
    """The murmur3-x64-64 hash of a name, big-endian: byte d is the slot at depth d."""
    first, _ = mmh3.hash64(name.encode(), seed=0, x64arch=True, signed=False)
    return first.to_bytes(HAMT_HASH_BYTES, "big")


def _estimate(links: tuple[PBLink, ...], block: bytes, profile: Profile) -> int:
    if profile.hamt_estimate is DirectoryEstimate.BLOCK_BYTES:
        return len(block)
    return sum(len(link.name.encode()) + len(link.hash) for link in links)


def _finish(block: bytes, links: tuple[PBLink, ...], profile: Profile, sink: Sink) -> Node:
    if len(block) > MAX_NODE_BYTES:
        raise UsageError(
            f"a directory of {len(links)} entries takes a block of {len(block)} bytes; at most {MAX_NODE_BYTES} fit",
            hint="choose a lower HAMT threshold",
        )
    cid = Cid.of(block, codec=DAG_PB, version=profile.cid_version)
    sink(cid, block)
    return Node(cid, 0, len(block) + sum(link.tsize for link in links))


@dataclass(slots=True)
class _Shard:
    """A node under construction: its entries `start` to `end` in the list sorted by hash."""

    start: int
    end: int
    depth: int
    slot: int
    links: list[tuple[int, PBLink]] = field(default_factory=list)
    next: int = 0


def _build_hamt(links: tuple[PBLink, ...], profile: Profile, sink: Sink, said: Metadata) -> Node:
    entries = sorted((name_hash(link.name), link.name.encode(), link) for link in links)
    stack = [_Shard(0, len(entries), 0, 0, next=0)]
    while True:
        shard = stack[-1]
        if shard.next < shard.end:
            position = shard.next
            slot = entries[position][0][shard.depth]
            end = position + 1
            while end < shard.end and entries[end][0][shard.depth] == slot:
                end += 1
            shard.next = end
            if end - position == 1:
                link = entries[position][2]
                shard.links.append((slot, PBLink(link.hash, f"{slot:02X}{link.name}", link.tsize)))
            elif shard.depth + 1 == HAMT_HASH_BYTES:
                raise UsageError(
                    f"the names {links[0].name!r} and others have the same hash; no directory can hold both"
                )
            else:
                stack.append(_Shard(position, end, shard.depth + 1, slot, next=position))
            continue
        node = _finish_shard(shard, profile, sink, said)
        stack.pop()
        if not stack:
            return node
        stack[-1].links.append((shard.slot, PBLink(node.cid.to_bytes(), f"{shard.slot:02X}", node.dag_size)))


def _finish_shard(shard: _Shard, profile: Profile, sink: Sink, said: Metadata) -> Node:
    """Every shard says the directory's mode and time, as Helia has it."""
    bits = sum(1 << slot for slot, _ in shard.links)
    bitfield = bits.to_bytes((bits.bit_length() + 7) // 8, "big")
    content = UnixFsNode(
        FileType.HAMT_SHARD,
        bitfield,
        hash_type=MURMUR3_X64_64,
        fanout=profile.hamt_fanout,
        mode=said.mode,
        mtime=said.mtime,
    )
    links = tuple(link for _, link in shard.links)
    return _finish(encode_node(PBNode(links, encode_unixfs(content))), links, profile, sink)
