"""Drafts: kinds, licences and inputs read off real-looking directories; hostile ones read within bounds."""

import os
import socket

import pytest

from mpisa.primitives.errors import NotFound, UsageError
from mpisa.primitives.record import ArtefactKind, ExternalReference, Input
from mpisa.provenance.draft import MAX_CARD_BYTES, Draft, draft_record

MIT = """MIT License

Copyright (c) 2024 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction... THE SOFTWARE IS PROVIDED "AS IS", WITHOUT
WARRANTY OF ANY KIND.
"""
CARD = """---
license: apache-2.0   # as upstream
base_model: google/bert-base
base_model_relation: finetune
datasets:
- squad
- "glue"
tags: [a, b]
---
# A model
license: mit
"""


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def test_a_model_directory_with_its_card(tmp_path):
    write(tmp_path, {"README.md": CARD, "model.safetensors": bytes(100), "LICENSE": MIT, "sub/run.py": "x = 1\n"})
    hub = "huggingface"
    assert draft_record(tmp_path) == Draft(
        kind=ArtefactKind.MODEL,
        size=len(CARD) + 100 + len(MIT) + 6,
        media_type="inode/directory",
        license="Apache-2.0",
        inputs=(
            Input("base-model", "finetune", external=ExternalReference(hub, "google/bert-base")),
            Input("dataset", "train", external=ExternalReference(hub, "squad")),
            Input("dataset", "train", external=ExternalReference(hub, "glue")),
        ),
        files=4,
    )


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({"a.onnx": "x", "b.csv": "x" * 1_000}, ArtefactKind.MODEL),
        ({"pytorch_model.bin": "x"}, ArtefactKind.MODEL),
        ({"train.parquet": "x" * 10, "load.py": "x"}, ArtefactKind.DATASET),
        ({"train.csv": "x", "src/a.py": "x" * 10}, ArtefactKind.CODE),
        ({"eval_results.json": "{}"}, ArtefactKind.EVALUATION),
        ({"metrics.json": "{}", "a.py": ""}, ArtefactKind.CODE),
        ({"notes.txt": "x", "config.json": "{}"}, None),
        ({}, None),
    ],
)
def test_the_kind_is_guessed_by_file_types(tmp_path, files, kind):
    assert draft_record(write(tmp_path, files)).kind is kind


@pytest.mark.parametrize(
    ("files", "license"),
    [
        ({"LICENSE": MIT}, "MIT"),
        ({"LICENCE.txt": MIT}, "MIT"),
        ({"COPYING": "GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007"}, "GPL-3.0-only"),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": "Apache License\nVersion 2.0, January 2004"}, None),
        ({"LICENSE": MIT + "\nApache License\n Version 2.0, January 2004"}, None),
        ({"LICENSE": "all rights reserved"}, None),
        ({"sub/LICENSE": MIT}, None),
        ({"README.md": "---\nlicense: unknown\n---\n", "LICENSE": MIT}, "MIT"),
        ({"README.md": "---\nlicense: other\nlicense_name: my-terms\n---\n"}, "LicenseRef-my-terms"),
        ({"README.md": "---\nlicense:\n- mit\n- apache-2.0\n---\n"}, None),
        ({"README.md": "---\nlicense: [mit]\n---\n"}, "MIT"),
        ({"README.md": "---\nlicense: llama3.1\n---\n"}, "LicenseRef-llama3.1"),
        ({"README.md": "---\nlicense: MIT OR Apache-2.0\n---\n"}, "MIT OR Apache-2.0"),
        ({"README.md": "---\nlicense: a b c\n---\n"}, None),
        ({"README.md": "---\nlicense: |\n  mit\n---\n"}, None),
        ({"README.md": "---\nlicense: mit\n"}, None),
        ({"README.md": "license: mit\n"}, None),
        ({"README.md": "\ufeff---\r\nlicense: 'mit'\r\n---\r\n"}, "MIT"),
        ({"README.md": "---\nextra:\n  license: mit\n---\n"}, None),
        ({"README.md": b"---\nlicense: mit\n---\n\xff\xfe"}, "MIT"),
        ({"readme.MD": "---\nlicense: cc-by-nc-4.0\n---\n"}, "CC-BY-NC-4.0"),
        ({"README.md": "---\n" + "x" * MAX_CARD_BYTES + "\nlicense: mit\n---\n"}, None),
    ],
)
def test_the_licence_is_taken_from_the_card_or_a_well_known_text(tmp_path, files, license):  # noqa: A002
    assert draft_record(write(tmp_path, files)).license == license


@pytest.mark.parametrize("value", ["Not A Repo", "a" * 200, "[x y]", "-"])
def test_inputs_that_no_record_could_hold_are_left_out(tmp_path, value):
    write(tmp_path, {"README.md": f"---\nbase_model: {value}\nbase_model_relation: Weird Thing\n---\n"})
    assert draft_record(tmp_path).inputs == ()


@pytest.mark.parametrize(
    ("name", "kind", "media_type"),
    [
        ("a.onnx", ArtefactKind.MODEL, "application/octet-stream"),
        ("table.CSV", ArtefactKind.DATASET, "text/csv"),
        ("a.py", ArtefactKind.CODE, "text/x-python"),
        ("notes", None, "application/octet-stream"),
    ],
)
def test_a_single_file(tmp_path, name, kind, media_type):
    write(tmp_path, {name: "hello"})
    assert draft_record(tmp_path / name) == Draft(kind, 5, media_type, None, (), 1)


def test_links_devices_and_pipes_are_counted_not_opened(tmp_path):
    outside = tmp_path / "outside"
    write(outside, {"LICENSE": MIT, "big.safetensors": bytes(1_000)})
    root = tmp_path / "root"
    root.mkdir()
    (root / "LICENSE").symlink_to(outside / "LICENSE")
    (root / "README.md").symlink_to("/dev/zero")
    (root / "model.onnx").symlink_to(outside / "big.safetensors")
    (root / "loop").symlink_to(root)
    os.mkfifo(root / "COPYING")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(root / "socket"))
        assert draft_record(root) == Draft(None, 0, "inode/directory", None, (), 0, skipped=6)


def test_what_is_neither_file_nor_directory(tmp_path):
    with pytest.raises(NotFound) as missing:
        draft_record(tmp_path / "missing")
    assert str(missing.value) == f"{tmp_path}/missing: no such file or directory"
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    with pytest.raises(UsageError) as refusal:
        draft_record(link)
    assert str(refusal.value) == f"{link}: expected a regular file or a directory"
    assert refusal.value.hint == "give the target of a link itself"


def test_the_walk_stops_at_its_bound(tmp_path):
    write(tmp_path, {f"{number}.txt": "x" for number in range(5)})
    assert draft_record(tmp_path, max_files=5).truncated is False
    cut = draft_record(tmp_path, max_files=4)
    assert (cut.files, cut.truncated) == (4, True)
