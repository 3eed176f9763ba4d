"""Drafting a provenance record from files: what can be read off them, for the publisher to correct and sign.

Reads names, sizes, the model card and licence files only, each within bounds; symbolic links are counted, never
followed, and nothing but regular files is opened. What isn't certain is left None.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mpisa.primitives.errors import NotFound, Rejection, UsageError
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input, validate_input
from mpisa.provenance.card import read_front_matter
from mpisa.provenance.licences import license_of_identifier, license_of_text

MAX_FILES: Final = 100_000
MAX_CARD_BYTES: Final = 262_144
MAX_LICENSE_BYTES: Final = 65_536
MAX_DRAFT_INPUTS: Final = 32
DIRECTORY_MEDIA_TYPE: Final = "inode/directory"

_MODEL_SUFFIX: Final = re.compile(
    r"\.(?:safetensors|onnx|gguf|ggml|pt|pth|ckpt|keras"
    r"|tflite|mlmodel|joblib|pickle|pkl|msgpack|engine)"
)
_DATASET_SUFFIX: Final = re.compile(
    r"\.(?:parquet|csv|tsv|jsonl|ndjson|arrow|feather|avro"
    r"|tfrecord|npy|npz|h5|hdf5|sqlite|xlsx)"
)
_CODE_SUFFIX: Final = re.compile(
    r"\.(?:py|ipynb|rs|c|cc|cpp|h|hpp|cu|go"
    r"|java|js|ts|sh|jl|r|sol|swift|kt)"
)
_EVALUATION_NAME: Final = re.compile(
    r"(?:.*[_-])?(?:eval|evaluation|results|metrics|scores|benchmark)s?(?:[_-].*)?\.json"
)
_CARD_NAMES: Final = ("readme.md", "model_card.md", "modelcard.md", "dataset_card.md")
_LICENSE_NAME: Final = re.compile(r"(?:licen[cs]e|copying|unlicense)(?:[.-][a-z0-9.-]+)?")
_MEDIA_TYPES: Final = {
    ".avro": "application/avro",
    ".csv": "text/csv",
    ".gz": "application/gzip",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".jsonl": "application/x-ndjson",
    ".md": "text/markdown",
    ".ndjson": "application/x-ndjson",
    ".parquet": "application/vnd.apache.parquet",
    ".py": "text/x-python",
    ".sqlite": "application/vnd.sqlite3",
    ".tar": "application/x-tar",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".zip": "application/zip",
}
_HUB: Final = "huggingface"


@dataclass(frozen=True, slots=True)
class Draft:
    """What a path looks like: `size` in bytes over `files` regular files; `skipped` entries were no regular files.

    None (or no inputs) means that the files don't say. `truncated`: there were more entries than the bound.
    """

    kind: ArtefactKind | None
    size: int
    media_type: str | None
    license: str | None
    inputs: tuple[Input, ...]
    files: int
    skipped: int = 0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    size: int

    @property
    def name(self) -> str:
        return self.path.name.lower()

    @property
    def suffix(self) -> str:
        return self.path.suffix.lower()


def draft_record(path: Path, *, max_files: int = MAX_FILES) -> Draft:
    """Look at a file or directory. Raises NotFound, and UsageError for what is neither."""
    try:
        mode = path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"{path}: no such file or directory") from None
    if stat.S_ISREG(mode):
        entry = _Entry(path, path.lstat().st_size)
        return Draft(_guess_kind([entry]), entry.size, _guess_media_type(entry), None, (), 1)
    if not stat.S_ISDIR(mode):
        raise UsageError(f"{path}: expected a regular file or a directory", hint="give the target of a link itself")
    return _draft_directory(path, max_files)


def _draft_directory(root: Path, max_files: int) -> Draft:
    entries: list[_Entry] = []
    skipped = 0
    truncated = False
    for place, entry in enumerate(_walk(root)):
        if place >= max_files:
            truncated = True
            break
        if entry is None:
            skipped += 1
        else:
            entries.append(entry)
    top = {entry.name: entry for entry in entries if entry.path.parent == root}
    fields: dict[str, tuple[str, ...]] = {}
    for name in _CARD_NAMES:
        if name in top and not fields:
            fields = read_front_matter(_read_text(top[name].path, MAX_CARD_BYTES))
    return Draft(
        kind=_guess_kind(entries),
        size=sum(entry.size for entry in entries),
        media_type=DIRECTORY_MEDIA_TYPE,
        license=_guess_license(fields, top.values()),
        inputs=_guess_inputs(fields),
        files=len(entries),
        skipped=skipped,
        truncated=truncated,
    )


def _walk(root: Path) -> Iterator[_Entry | None]:
    """Regular files below root in a fixed order; None for what isn't one or can't be listed."""
    pending = [root]
    while pending:
        directory = pending.pop()
        try:
            with os.scandir(directory) as scan:
                found = sorted(scan, key=lambda item: item.name)
        except PermissionError:
            yield None
            continue
        below: list[Path] = []
        for item in found:
            if item.is_dir(follow_symlinks=False):
                below.append(Path(item.path))
            elif item.is_file(follow_symlinks=False):
                yield _Entry(Path(item.path), item.stat(follow_symlinks=False).st_size)
            else:
                yield None
        pending.extend(reversed(below))


def _guess_kind(entries: Iterable[_Entry]) -> ArtefactKind | None:
    weights = dict.fromkeys((ArtefactKind.DATASET, ArtefactKind.CODE), 0)
    evaluation = False
    for entry in entries:
        if _MODEL_SUFFIX.fullmatch(entry.suffix) or entry.name in ("pytorch_model.bin", "model.bin", "model.h5"):
            return ArtefactKind.MODEL
        if _DATASET_SUFFIX.fullmatch(entry.suffix):
            weights[ArtefactKind.DATASET] += 1 + entry.size
        elif _CODE_SUFFIX.fullmatch(entry.suffix):
            weights[ArtefactKind.CODE] += 1 + entry.size
        elif _EVALUATION_NAME.fullmatch(entry.name):
            evaluation = True
    if weights[ArtefactKind.DATASET] or weights[ArtefactKind.CODE]:
        more_data = weights[ArtefactKind.DATASET] >= weights[ArtefactKind.CODE]
        return ArtefactKind.DATASET if more_data else ArtefactKind.CODE
    return ArtefactKind.EVALUATION if evaluation else None


def _guess_media_type(entry: _Entry) -> str:
    return _MEDIA_TYPES.get(entry.suffix, "application/octet-stream")


def _guess_license(fields: dict[str, tuple[str, ...]], top: Iterable[_Entry]) -> str | None:
    declared = fields.get("license", ())
    if len(declared) == 1:
        guess = license_of_identifier(declared[0])
        names = fields.get("license_name", ())
        if guess is None and declared[0].lower() == "other" and len(names) == 1:
            guess = license_of_identifier(names[0])
        if guess is not None:
            return guess
    texts = [
        license_of_text(_read_text(entry.path, MAX_LICENSE_BYTES))
        for entry in top
        if _LICENSE_NAME.fullmatch(entry.name)
    ]
    return texts[0] if texts and texts.count(texts[0]) == len(texts) else None


def _guess_inputs(fields: dict[str, tuple[str, ...]]) -> tuple[Input, ...]:
    relation = next(iter(fields.get("base_model_relation", ())), "derived").lower()
    wanted = [
        Input("base-model", relation, external=ExternalReference(_HUB, item)) for item in fields.get("base_model", ())
    ]
    wanted += [Input("dataset", "train", external=ExternalReference(_HUB, item)) for item in fields.get("datasets", ())]
    inputs: dict[Input, None] = {}
    for item in wanted:
        try:
            validate_input(item, None, "input")
        except Rejection:
            continue
        inputs[item] = None
    return tuple(inputs)[:MAX_DRAFT_INPUTS]


def _read_text(path: Path, limit: int) -> str:
    """The first `limit` bytes as text; nothing of what has become something else than a regular file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return ""
        return file.read(limit).decode("utf-8", errors="replace")
