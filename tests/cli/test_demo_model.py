from pathlib import Path

import pytest

from mpisa.cli import demo_model
from mpisa.primitives.errors import NotFound


def test_a_chosen_directory_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "mine"
    source.mkdir()
    (source / "weights.onnx").write_bytes(b"weights")
    model = demo_model.prepare(source, tmp_path)
    assert (model.path / "weights.onnx").read_bytes() == b"weights"
    assert model == demo_model.DemoModel(tmp_path / "model", str(source), None)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound) as caught:
        demo_model.prepare(tmp_path / "absent", tmp_path)
    assert str(caught.value) == f"no such directory: {tmp_path / 'absent'}"


def test_the_packaged_model_comes_with_weights_card_and_licence(tmp_path: Path) -> None:
    model = demo_model.prepare(None, tmp_path)
    names = {path.name for path in model.path.iterdir()}
    assert {"model.onnx", "README.md", "LICENSE"} <= names
    assert model.license == "Apache-2.0"
    assert "Apache" in (model.path / "LICENSE").read_text()
