"""CARv1: blocks as one stream, written in a fixed order, read with every length capped and every block hashed."""

from collections.abc import Iterable, Iterator, Sequence

from mpisa.primitives.car_stream import CarFrames, encode_car_header, encode_car_section
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import Rejection, RejectionReason
from storage.blockstore import BlockStore
from storage.reader import DagReader
from storage.session import BATCH_BLOCKS, BATCH_BYTES, Reader

READ_BYTES = 1024 * 1024
MAX_CAR_BLOCKS = 100_000_000


def write_car(roots: Sequence[Cid], blocks: Iterable[tuple[Cid, bytes]]) -> Iterator[bytes]:
    """The stream of these blocks, in pieces; the blocks' bytes are passed on uncopied."""
    yield encode_car_header(tuple(roots))
    for cid, block in blocks:
        yield encode_car_section(cid, len(block))
        yield block


def export_car(store: BlockStore, root: Cid) -> Iterator[bytes]:
    """The tree below a root, depth first, each block as often as it is linked: what `CarStreamVerifier` expects."""
    return write_car([root], DagReader(store.get).walk(root))


class CarReader:
    """Blocks of a stream, hashed; at most one section and one read are held. Raises IntegrityError."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._frames = CarFrames()
        self._early: list[tuple[Cid, bytes]] = []
        while self._frames.roots is None:
            data = reader.read(READ_BYTES)
            if not data:
                self._frames.finish()
            self._early += self._frames.feed(data)

    @property
    def roots(self) -> tuple[Cid, ...]:
        """The roots that the header names."""
        assert self._frames.roots is not None
        return self._frames.roots

    def blocks(self) -> Iterator[tuple[Cid, bytes]]:
        """All blocks in order; raises IntegrityError when the stream ends within one."""
        early, self._early = self._early, []
        yield from early
        while data := self._reader.read(READ_BYTES):
            yield from self._frames.feed(data)
        self._frames.finish()


def import_car(store: BlockStore, reader: Reader) -> tuple[Cid, ...]:
    """Store every block of a stream, durably, and return the roots. Raises IntegrityError, and what the store raises.

    Blocks stored before an error stay: each is what its CID says.
    """
    car = CarReader(reader)
    batch: list[tuple[Cid, bytes]] = []
    size = 0
    for count, (cid, block) in enumerate(car.blocks()):
        if count == MAX_CAR_BLOCKS:
            raise Rejection(RejectionReason.TOO_MANY, f"the CAR stream has more than {MAX_CAR_BLOCKS} blocks")
        batch.append((cid, block))
        size += len(block)
        if size >= BATCH_BYTES or len(batch) >= BATCH_BLOCKS:
            store.put(batch)
            batch, size = [], 0
    store.put(batch)
    return car.roots
