"""Verify: hash everything again. Repair: set what is damaged aside and keep the rest.

A repair changes nothing in place. The whole records of a damaged pack are written again to a new pack; once they are
durable there, the index forgets what is lost and the old pack is removed. Damaged bytes are kept in `quarantine/`. A
repair that is interrupted can be run again.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from mpisa.primitives.cid import Cid
from storage.blockstore import MAX_REPORTED_DAMAGES, Damage, Progress, RepairReport, VerifyReport
from storage.compaction import is_retired
from storage.files import PackFiles, disk_error
from storage.index import BlockIndex, Entry
from storage.records import MAX_RECORD_HEADER_BYTES, PACK_HEADER_BYTES, Record, decode_pack_header, decode_record_header
from storage.scan import BadRange, walk

HASH_THREADS = 2
MAX_PENDING_JOBS = 8
JOB_BYTES = 1024 * 1024
JOB_RECORDS = 1024
REWRITE_BYTES = 16 * 1024 * 1024
MAX_QUARANTINE_FILE_BYTES = 4 * 1024 * 1024
"""Of a damaged range longer than that only the beginning is kept: it is no single block."""

Rewrite = Callable[[Sequence[tuple[Cid, bytes]], int], None]
Drop = Callable[[int, Sequence[Cid]], None]
Relink = Callable[[Sequence[Record]], None]


@dataclass(slots=True)
class _Findings:
    """Damage of one pass, bounded in what it describes."""

    bad: dict[int, list[BadRange]] = field(default_factory=dict)
    unindexed: list[Record] = field(default_factory=list)
    blocks: int = 0
    bytes_hashed: int = 0


def verify_packs(
    packs: PackFiles, index: BlockIndex, limits: Mapping[int, int], progress: Progress | None
) -> VerifyReport:
    """Hash every record within `limits` (acknowledged length by pack) and compare packs with the index."""
    findings = _inspect(packs, index, limits, progress)
    newest = max(limits, default=0)
    end = newest, limits.get(newest, 0)
    damages: list[Damage] = []
    total = 0

    def report(damage: Damage) -> None:
        nonlocal total
        total += 1
        if len(damages) < MAX_REPORTED_DAMAGES:
            damages.append(damage)

    explained: set[tuple[int, int]] = set()
    for entry in index.entries():
        if (entry.pack, entry.offset) >= end:
            continue  # put, or moved there by a compaction, since the limits were taken
        where = _fault(packs, limits, findings.bad, entry)
        if where is not None and index.lookup(entry.cid.multihash) == entry:
            report(Damage(str(packs.path(entry.pack)), entry.offset, entry.cid, where[0]))
            if where[1] is not None:
                explained.add((entry.pack, where[1].offset))
    for pack, ranges in findings.bad.items():
        if is_retired(packs, pack):
            continue  # it went meanwhile: what it held lies elsewhere
        for bad in ranges:
            if (pack, bad.offset) not in explained:
                report(bad.damage(packs))
    retiring = index.retiring()
    for record in findings.unindexed:
        if record.pack not in retiring and not is_retired(packs, record.pack):
            reason = "the index does not know this block"
            report(Damage(str(packs.path(record.pack)), record.offset, record.cid, reason))
    return VerifyReport(findings.blocks, findings.bytes_hashed, total, tuple(damages))


def quarantine_damage(
    packs: PackFiles,
    index: BlockIndex,
    limits: Mapping[int, int],
    quarantine: Path,
    *,
    relink: Relink,
    rewrite: Rewrite,
    drop: Drop,
) -> RepairReport:
    """Repair; the store hands in how to index, how to write again and how to forget. Raises DiskFull."""
    findings = _inspect(packs, index, limits, None)
    retiring = index.retiring()
    unknown = [record for record in findings.unindexed if record.pack not in retiring]
    if unknown:
        relink(unknown)
    lost: dict[int, list[Cid]] = {}
    damages: dict[int, list[Damage]] = {}
    for entry in index.entries():
        where = _fault(packs, limits, findings.bad, entry)
        if where is not None:
            lost.setdefault(entry.pack, []).append(entry.cid)
            damages.setdefault(entry.pack, []).append(
                Damage(str(packs.path(entry.pack)), entry.offset, entry.cid, where[0])
            )
    for pack in sorted(set(lost) | set(findings.bad)):
        ranges = findings.bad.get(pack, [])
        named = {damage.offset for damage in damages.get(pack, [])}
        damages.setdefault(pack, []).extend(bad.damage(packs) for bad in ranges if bad.offset not in named)
        _keep_evidence(packs, quarantine, ranges)
        if pack in limits and packs.path(pack).exists():
            for blocks in _whole_blocks(packs, index, pack, limits[pack]):
                rewrite(blocks, pack)
        drop(pack, lost.get(pack, []))
    kept = sum(1 for _ in index.entries())
    names = tuple(cid for pack in sorted(lost) for cid in lost[pack])
    return RepairReport(kept, names, tuple(damage for pack in sorted(damages) for damage in damages[pack]))


def _inspect(packs: PackFiles, index: BlockIndex, limits: Mapping[int, int], progress: Progress | None) -> _Findings:
    findings = _Findings()
    for pack, limit in sorted(limits.items()):
        with suppress(FileNotFoundError):  # the index may miss it, or a compaction removed it meanwhile
            _inspect_pack(packs, index, pack, min(limit, packs.size(pack)), findings, progress)
    return findings


def _inspect_pack(
    packs: PackFiles, index: BlockIndex, pack: int, end: int, findings: _Findings, progress: Progress | None
) -> None:
    header = decode_pack_header(packs.read(pack, PACK_HEADER_BYTES, 0))
    if header is None or header.number != pack:
        findings.bad[pack] = [BadRange(pack, 0, PACK_HEADER_BYTES, "no whole pack header")]
    for item in _hashed(packs, pack, end):
        if isinstance(item, BadRange):
            findings.bad.setdefault(pack, []).append(item)
            continue
        findings.blocks += 1
        findings.bytes_hashed += item.length
        if not index.contains(item.cid.multihash):
            findings.unindexed.append(item)
        if progress is not None:
            progress(findings.bytes_hashed)


def _hashed(packs: PackFiles, pack: int, end: int) -> Iterator[Record | BadRange]:
    """Like `walk(hashed=True)`, on several threads: jobs of about a MiB, a bounded number at a time."""
    pending: deque[Future[list[Record | BadRange]]] = deque()
    with ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="verify") as pool:
        for job in _jobs(walk(packs, pack, PACK_HEADER_BYTES, end, hashed=False)):
            pending.append(pool.submit(_check_job, packs, job))
            if len(pending) >= MAX_PENDING_JOBS:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()


def _jobs(items: Iterator[Record | BadRange]) -> Iterator[list[Record | BadRange]]:
    job: list[Record | BadRange] = []
    size = 0
    for item in items:
        job.append(item)
        size += item.end - item.offset
        if size >= JOB_BYTES or len(job) >= JOB_RECORDS:
            yield job
            job, size = [], 0
    if job:
        yield job


def _check_job(packs: PackFiles, job: list[Record | BadRange]) -> list[Record | BadRange]:
    """The job's records with their data hashed, all of it read at once. Headers were looked at when it was made up."""
    records = [item for item in job if isinstance(item, Record)]
    if not records:
        return job
    start = records[0].data_offset
    data = memoryview(packs.read(records[0].pack, records[-1].end - start, start))
    checked: list[Record | BadRange] = []
    for item in job:
        if isinstance(item, Record):
            content = bytes(data[item.data_offset - start : item.end - start])
            if not item.cid.matches(content):
                reason = "the bytes do not match the CID"
                item = BadRange(item.pack, item.offset, item.end, reason, item)
        checked.append(item)
    return checked


def _fault(
    packs: PackFiles, limits: Mapping[int, int], bad: Mapping[int, list[BadRange]], entry: Entry
) -> tuple[str, BadRange | None] | None:
    """What is wrong where an index entry points at, and the bad range it lies in; None for a good record."""
    for found in bad.get(entry.pack, ()):
        if found.offset <= entry.offset < found.end:
            return found.reason, found
    if entry.pack not in limits or not packs.path(entry.pack).exists():
        return "the file is missing", None
    room = limits[entry.pack] - entry.offset
    try:
        raw = packs.read(entry.pack, min(MAX_RECORD_HEADER_BYTES, max(room, 0)), entry.offset)
    except FileNotFoundError:  # removed by a compaction since
        raw = b""
    record = decode_record_header(raw, entry.pack, entry.offset)
    if record is None or record.cid.multihash != entry.cid.multihash or record.length != entry.length:
        return "the index points here, but the block is not here", None
    return None


def _whole_blocks(packs: PackFiles, index: BlockIndex, pack: int, limit: int) -> Iterator[list[tuple[Cid, bytes]]]:
    """The good blocks of a pack that the index expects there, in batches."""
    batch: list[tuple[Cid, bytes]] = []
    size = 0
    for item in walk(packs, pack, PACK_HEADER_BYTES, min(limit, packs.size(pack)), hashed=True):
        if isinstance(item, BadRange):
            continue
        entry = index.lookup(item.cid.multihash)
        if entry is None or (entry.pack, entry.offset) != (pack, item.offset):
            continue
        batch.append((item.cid, packs.read(pack, item.length, item.data_offset)))
        size += item.length
        if size >= REWRITE_BYTES or len(batch) >= JOB_RECORDS:
            yield batch
            batch, size = [], 0
    yield batch


def _keep_evidence(packs: PackFiles, quarantine: Path, ranges: Sequence[BadRange]) -> None:
    for bad in ranges:
        length = min(bad.end - bad.offset, MAX_QUARANTINE_FILE_BYTES)
        path = quarantine / f"{bad.pack:08d}-{bad.offset}.bin"
        try:
            quarantine.mkdir(exist_ok=True)
            path.write_bytes(packs.read(bad.pack, length, bad.offset))
        except OSError as error:
            raise disk_error(error, path) from error
