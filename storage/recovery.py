"""Opening a store after whatever happened to it: which packs are there, where the last one ends, what the index lacks.

Rules. Everything before the index's checkpoint, and everything in a pack that has a successor, was acknowledged: a
fault there is damage. After the checkpoint in the last pack, complete groups are taken over; an incomplete last group
is a write that never finished, and is cut off. A bad record there that is followed by a later group is damage again,
since a group begins only after the one before it was durable. If the index itself was unreadable, a bad last group is
taken for damage unless the file simply ends within it.

The newest pack is hashed whole on opening (at most one pack, a fraction of a second); the others are checked for
presence and length, and hashed by every read and by `verify`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from mpisa.primitives.errors import StoreDamaged
from storage.blockstore import Damage
from storage.files import PackFiles
from storage.index import EMPTY_CHECKPOINT, BlockIndex, Checkpoint
from storage.leveldb import REPAIR_HINT
from storage.records import PACK_HEADER_BYTES, PackHeader, Record, decode_pack_header
from storage.scan import BadRange, walk

INDEX_BATCH_RECORDS = 4096

OnDamage = Callable[[Damage], None]


@dataclass(frozen=True, slots=True)
class Tail:
    """Where writing goes on: the last pack (0 when there is none), its acknowledged length, its last group."""

    pack: int
    length: int
    group: int
    blocks: int


class PackDamaged(StoreDamaged):
    """A pack is damaged: unlike the index, it can't be made again."""


def refuse(damage: Damage) -> None:
    """The strict answer to damage."""
    whose = f" (block {damage.cid})" if damage.cid is not None else ""
    raise PackDamaged(f"{damage.file} is damaged at byte {damage.offset}{whose}: {damage.reason}", hint=REPAIR_HINT)


def recover(packs: PackFiles, index: BlockIndex, *, index_lost: bool, on_damage: OnDamage) -> Tail:
    """Bring packs and index into agreement. Raises StoreDamaged unless `on_damage` lets damage pass, and OSError."""
    checkpoint = index.checkpoint() or EMPTY_CHECKPOINT
    numbers = _whole_packs(packs)
    sealed = index.sealed()
    _check_presence(packs, sealed, checkpoint, numbers, on_damage)
    if not numbers:
        return Tail(0, 0, 0, checkpoint.blocks)
    blocks = checkpoint.blocks
    headers = {
        number: _header(packs, number, _pass_over if sealed.get(number) == PACK_HEADER_BYTES else on_damage)
        for number in numbers
    }
    for number, following in pairwise(numbers):
        if number >= checkpoint.pack:
            length = _sealed_length(packs, number, headers[number], headers[following], on_damage)
            start = checkpoint.length if number == checkpoint.pack else PACK_HEADER_BYTES
            blocks = _index_records(packs, index, number, start, length, blocks, on_damage, following)
    last = numbers[-1]
    acknowledged = checkpoint.length if last == checkpoint.pack else PACK_HEADER_BYTES
    end, group = _find_tail(packs, last, acknowledged, strict=index_lost, on_damage=on_damage)
    _cut(packs, last, end)
    blocks = _index_records(packs, index, last, acknowledged, end, blocks, on_damage, None)
    return Tail(last, end, group, blocks)


def catch_up(packs: PackFiles, index: BlockIndex, tail: Tail) -> int:
    """Index what lies between the checkpoint and the tail, after the index failed; the number of blocks then."""
    checkpoint = index.checkpoint() or EMPTY_CHECKPOINT
    blocks = checkpoint.blocks
    numbers = [number for number in packs.numbers() if checkpoint.pack <= number <= tail.pack]
    for number, following in zip(numbers, [*numbers[1:], None], strict=True):
        start = checkpoint.length if number == checkpoint.pack else PACK_HEADER_BYTES
        end = (
            tail.length
            if following is None
            else _sealed_length(
                packs, number, _header(packs, number, refuse), _header(packs, following, refuse), refuse
            )
        )
        blocks = _index_records(packs, index, number, start, end, blocks, refuse, following)
    return blocks


def _pass_over(_damage: Damage) -> None:
    """What to do with the header of a pack that is being retired: the crash may have torn it. See opening.py."""


def _whole_packs(packs: PackFiles) -> list[int]:
    """The packs, less a last one whose creation was never finished: nothing in it was ever acknowledged."""
    numbers = packs.numbers()
    if numbers and packs.size(numbers[-1]) <= PACK_HEADER_BYTES:
        last = numbers[-1]
        if decode_pack_header(packs.read(last, PACK_HEADER_BYTES, 0)) is None:
            packs.forget(last)
            packs.path(last).unlink()
            packs.layer.sync_directory(packs.directory)
            numbers.pop()
    return numbers


def _check_presence(
    packs: PackFiles, sealed: dict[int, int], checkpoint: Checkpoint, numbers: list[int], on_damage: OnDamage
) -> None:
    expected = dict(sealed)
    if checkpoint.pack:
        expected[checkpoint.pack] = max(checkpoint.length, expected.get(checkpoint.pack, 0))
    present = set(numbers)
    for number, length in sorted(expected.items()):
        path = str(packs.path(number))
        if number not in present:
            on_damage(Damage(path, 0, None, "the file is missing"))
        elif (size := packs.size(number)) < length:
            on_damage(Damage(path, size, None, f"the file ends here, acknowledged blocks reach to byte {length}"))


def _header(packs: PackFiles, number: int, on_damage: OnDamage) -> PackHeader | None:
    header = decode_pack_header(packs.read(number, PACK_HEADER_BYTES, 0))
    if header is None or header.number != number:
        on_damage(Damage(str(packs.path(number)), 0, None, "no whole pack header"))
        return None
    return header


def _sealed_length(
    packs: PackFiles, number: int, own: PackHeader | None, following: PackHeader | None, on_damage: OnDamage
) -> int:
    """The acknowledged length of a pack as its direct successor recorded it; the file's where that one was removed."""
    if own is not None and own.retired:
        return PACK_HEADER_BYTES
    size = packs.size(number)
    if following is None or following.number != number + 1:
        return size
    length = following.previous_length
    if size < length:
        reason = f"the file ends here, acknowledged blocks reach to byte {length}"
        on_damage(Damage(str(packs.path(number)), size, None, reason))
    return min(size, length)


def _index_records(
    packs: PackFiles,
    index: BlockIndex,
    number: int,
    start: int,
    end: int,
    blocks: int,
    on_damage: OnDamage,
    following: int | None,
) -> int:
    """Add a pack's records to the index, a batch at a time; the number of blocks then."""
    batch: dict[bytes, Record] = {}
    for item in walk(packs, number, start, end, hashed=False):
        if isinstance(item, BadRange):
            on_damage(item.damage(packs))
            continue
        multihash = item.cid.multihash
        if multihash not in batch and not index.contains(multihash):
            blocks += 1
        batch[multihash] = item
        if len(batch) == INDEX_BATCH_RECORDS:
            index.apply(batch.values(), Checkpoint(number, item.end, blocks))
            batch.clear()
    sealed = None if following is None else (number, end)
    place = Checkpoint(number, end, blocks) if following is None else Checkpoint(following, PACK_HEADER_BYTES, blocks)
    if batch or sealed is not None or start == PACK_HEADER_BYTES:
        index.apply(batch.values(), place, sealed=sealed)
    return blocks


def _find_tail(
    packs: PackFiles, number: int, acknowledged: int, *, strict: bool, on_damage: OnDamage
) -> tuple[int, int]:
    """Where the last whole group of the last pack ends, and its number; hashes every record of the pack."""
    size = packs.size(number)
    whole_end = max(PACK_HEADER_BYTES, min(acknowledged, size))
    whole_group = 0
    last: Record | None = None
    doubtful: list[tuple[BadRange, int]] = []
    for item in walk(packs, number, PACK_HEADER_BYTES, size, hashed=True):
        if isinstance(item, BadRange):
            if item.offset < acknowledged:
                on_damage(item.damage(packs))
            else:
                doubtful.append((item, _group_of(item, last)))
            continue
        damaged = [bad for bad, group in doubtful if item.group > group]
        for bad in damaged:
            on_damage(bad.damage(packs))
        doubtful = [(bad, group) for bad, group in doubtful if item.group <= group]
        last = item
        if item.remaining == 0 and not doubtful:
            whole_end, whole_group = max(whole_end, item.end), item.group
    if strict and doubtful and not doubtful[0][0].cut_off:
        on_damage(doubtful[0][0].damage(packs))
    return whole_end, max(whole_group, 0)


def _group_of(bad: BadRange, last: Record | None) -> int:
    """The group that a bad record belongs to, at the least."""
    if bad.record is not None:
        return bad.record.group
    if last is None:
        return 1
    return last.group if last.remaining else last.group + 1


def _cut(packs: PackFiles, number: int, end: int) -> None:
    if packs.size(number) > end:
        with packs.lease(number) as descriptor:
            packs.layer.truncate(descriptor, end)
            packs.layer.sync(descriptor)
