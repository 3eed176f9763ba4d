"""A tar archive, streamed, into a directory. Written for archives from strangers.

Names are relative paths without "..", each once; only directories, regular files and symlinks are taken, and a
symlink's target is data that nothing here follows. Hard links, devices, pipes and sparse files are refused. Every
refusal names the entry. Files are chunked as they arrive; of the tree only names and CIDs are held.
"""

from dataclasses import dataclass, field

from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.profiles import DEFAULT_PROFILE, Profile
from mpisa.primitives.unixfs_directory import build_directory
from mpisa.primitives.unixfs_layout import NO_METADATA, Metadata, Node
from storage.blockstore import BlockStore, Progress
from storage.session import ImportResult, ImportSession, Reader
from storage.tar_reader import EntryKind, TarEntry, TarReader

MAX_TAR_DEPTH = 128
MAX_NAME_BYTES = 255


@dataclass(slots=True)
class _Tree:
    """A directory of the archive; `explicit` once an entry of its own named it, which may say its metadata."""

    explicit: bool = False
    metadata: Metadata = NO_METADATA
    entries: "dict[str, _Tree | Node]" = field(default_factory=dict)


def import_tar(
    store: BlockStore, reader: Reader, profile: Profile = DEFAULT_PROFILE, progress: Progress | None = None
) -> ImportResult:
    """Import an archive as one directory; durable on return.

    Raises Rejection that names the entry at fault, and what the store raises.
    """
    root = _Tree(explicit=False)
    with ImportSession(store, profile, progress) as session:
        archive = TarReader(reader)
        for entry in archive.entries():
            _add_entry(root, entry, archive, session, _metadata(entry, profile))
        node = _build(root, session)
    return session.result(node)


def _metadata(entry: TarEntry, profile: Profile) -> Metadata:
    return Metadata(entry.mode if profile.preserve_mode else None, entry.mtime if profile.preserve_mtime else None)


def _add_entry(root: _Tree, entry: TarEntry, archive: TarReader, session: ImportSession, metadata: Metadata) -> None:
    parts = _split(entry)
    if not parts:
        if entry.kind is not EntryKind.DIRECTORY:
            raise _refused(RejectionReason.BAD_NAME, entry, "has no name")
        _mark_explicit(root, entry, metadata)
        return
    parent = root
    for part in parts[:-1]:
        child = parent.entries.setdefault(part, _Tree())
        if not isinstance(child, _Tree):
            raise _refused(RejectionReason.DUPLICATE, entry, f"lies in {part!r}, which is not a directory")
        parent = child
    name = parts[-1]
    present = parent.entries.get(name)
    if entry.kind is EntryKind.DIRECTORY:
        if present is None:
            parent.entries[name] = _Tree(explicit=True, metadata=metadata)
        elif isinstance(present, _Tree):
            _mark_explicit(present, entry, metadata)
        else:
            raise _refused(RejectionReason.DUPLICATE, entry, "is there twice")
        return
    if present is not None:
        raise _refused(RejectionReason.DUPLICATE, entry, "is there twice")
    if entry.kind is EntryKind.SYMLINK:
        parent.entries[name] = session.add_symlink(entry.target, metadata.mtime)
    else:
        parent.entries[name] = session.add_file(archive, metadata)


def _mark_explicit(tree: _Tree, entry: TarEntry, metadata: Metadata) -> None:
    if tree.explicit:
        raise _refused(RejectionReason.DUPLICATE, entry, "is there twice")
    tree.explicit = True
    tree.metadata = metadata


def _split(entry: TarEntry) -> list[str]:
    """The components of an entry's name, all of them harmless; none for the archive's own top directory."""
    name = entry.name
    if name.startswith("/"):
        raise _refused(RejectionReason.BAD_NAME, entry, "has an absolute name")
    if "\0" in name:
        raise _refused(RejectionReason.BAD_NAME, entry, "has a zero byte in its name")
    parts = [part for part in name.rstrip("/").split("/") if part != "."]
    if parts == [""]:
        parts = []
    for part in parts:
        if part == "..":
            raise _refused(RejectionReason.BAD_NAME, entry, "has '..' in its name")
        if not part:
            raise _refused(RejectionReason.BAD_NAME, entry, "has an empty part in its name")
        if len(part.encode()) > MAX_NAME_BYTES:
            raise _refused(RejectionReason.TOO_LARGE, entry, f"has a name part of more than {MAX_NAME_BYTES} bytes")
    if len(parts) > MAX_TAR_DEPTH:
        raise _refused(RejectionReason.TOO_DEEP, entry, f"lies more than {MAX_TAR_DEPTH} directories deep")
    return parts


def _refused(reason: RejectionReason, entry: TarEntry, what: str) -> Rejection:
    return Rejection(reason, f"tar entry {entry.shown_name} {what}")


def _build(root: _Tree, session: ImportSession) -> Node:
    """Directory nodes from the leaves up."""
    stack: list[tuple[str, _Tree, list[tuple[str, _Tree]], dict[str, Node]]] = [_frame("", root)]
    while True:
        name, tree, subdirectories, done = stack[-1]
        if subdirectories:
            stack.append(_frame(*subdirectories.pop()))
            continue
        node = build_directory(done, session.profile, session.sink, tree.metadata)
        stack.pop()
        if not stack:
            return node
        stack[-1][3][name] = node


def _frame(name: str, tree: _Tree) -> tuple[str, _Tree, list[tuple[str, _Tree]], dict[str, Node]]:
    below = [(child, value) for child, value in tree.entries.items() if isinstance(value, _Tree)]
    done = {child: value for child, value in tree.entries.items() if isinstance(value, Node)}
    return name, tree, below, done
