"""The model that travels in the demo: a real one, with card and licence.

By default it is the file-type classifier of the PyPI package `magika` (an ONNX network of 3 MB with its card and
configuration), found in the environment without importing it. The package declares its licence in its metadata; where
it ships no licence text, the declaration itself becomes the LICENSE file.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
from dataclasses import dataclass
from pathlib import Path

from mpisa.primitives.errors import NotFound

PACKAGE = "magika"
WEIGHTS = (".onnx", ".safetensors")
LICENCE_NAMES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING")


@dataclass(frozen=True, slots=True)
class DemoModel:
    """A directory ready to publish, what it is, and the SPDX licence its origin declares (None: the card says it)."""

    path: Path
    origin: str
    license: str | None


def prepare(chosen: Path | None, workspace: Path) -> DemoModel:
    """Copy the model into `workspace`, writable and with a licence file. Raises NotFound with what to install."""
    target = workspace / "model"
    if chosen is not None:
        if not chosen.is_dir():
            raise NotFound(f"no such directory: {chosen}", hint="--model takes a directory with weights and a card")
        shutil.copytree(chosen, target)
        return DemoModel(target, str(chosen), None)
    source = _packaged_model()
    shutil.copytree(source, target, copy_function=shutil.copyfile)
    metadata = importlib.metadata.metadata(PACKAGE)
    declared = [metadata[name] for name in ("License-Expression", "License") if name in metadata]
    licence = declared[0] if declared else None
    _add_licence(target, metadata, licence)
    return DemoModel(target, f"{PACKAGE} {importlib.metadata.version(PACKAGE)}, {source.name}", licence)


def _packaged_model() -> Path:
    found = importlib.util.find_spec(PACKAGE)
    places = list(found.submodule_search_locations or ()) if found else []
    for place in places:
        for weights in sorted(Path(place).glob("models/*/*")):
            if weights.suffix in WEIGHTS:
                return weights.parent
    raise NotFound(
        f"the model of the PyPI package {PACKAGE} is not installed",
        hint=f"`make demo` installs it; or `pip install --no-deps {PACKAGE}`, or --model DIR",
    )


def _add_licence(target: Path, metadata: importlib.metadata.PackageMetadata, licence: str | None) -> None:
    if any((target / name).exists() for name in LICENCE_NAMES):
        return
    for file in importlib.metadata.files(PACKAGE) or ():
        if file.name in LICENCE_NAMES:
            shutil.copyfile(str(file.locate()), target / file.name)
            return
    if licence:
        text = f"{metadata['Name']} {metadata['Version']}\nSPDX-License-Identifier: {licence}\n"
        (target / "LICENSE").write_text(text)
