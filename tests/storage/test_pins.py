"""Pins are durable, distinct by kind and reason, and honest about damage."""

from pathlib import Path

import pytest

from mpisa.primitives.cid import DAG_PB, RAW, Cid
from mpisa.primitives.errors import NotFound, StoreBusy, StoreDamaged, UsageError
from storage.pins import MAX_PIN_NAME_BYTES, Pin, PinKind, PinReason, PinStore, repair_pins

NODE = Cid.of(b"\x0a\x02\x08\x01", codec=DAG_PB)
OTHER = Cid.of(b"other")


def test_pins_last_and_are_told_apart(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    user = pins.pin(NODE, name="first")
    published = pins.pin(NODE, reason=PinReason.PUBLISH)
    direct = pins.pin(OTHER, PinKind.DIRECT)
    assert pins.pin(NODE, name="renamed") == Pin(NODE, PinKind.RECURSIVE, PinReason.USER, "renamed")
    pins.close()
    pins = PinStore(tmp_path)
    assert user.name == "first"
    assert set(pins.list()) == {Pin(NODE, PinKind.RECURSIVE, PinReason.USER, "renamed"), published, direct}
    assert (pins.is_pinned(NODE), pins.is_pinned(Cid.of(b"no"))) == (True, False)
    assert pins.unpin(NODE, reason=PinReason.USER) == (Pin(NODE, PinKind.RECURSIVE, PinReason.USER, "renamed"),)
    assert pins.pins_of(NODE) == (published,)
    assert pins.unpin(NODE) == (published,)
    with pytest.raises(NotFound) as error:
        pins.unpin(NODE)
    assert str(error.value) == f"{NODE} is not pinned"
    pins.close()


def test_a_cid_is_pinned_in_either_version_but_not_under_another_codec(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    pins.pin(NODE)
    assert pins.is_pinned(Cid(0, DAG_PB, NODE.digest_code, NODE.digest))
    assert not pins.is_pinned(Cid(1, RAW, NODE.digest_code, NODE.digest))
    pins.close()


def test_names_are_bounded(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    assert pins.pin(NODE, name="n" * MAX_PIN_NAME_BYTES) in list(pins.list())
    with pytest.raises(UsageError) as error:
        pins.pin(NODE, name="n" * (MAX_PIN_NAME_BYTES + 1))
    assert str(error.value) == "the name of a pin has at most 256 bytes"
    pins.close()


def test_a_long_list_is_read_in_pages(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    cids = [Cid.of(bytes([i % 256, i // 256])) for i in range(2500)]
    pins._database.write([(b"p" + c.multihash + b"\x0055\x00direct\x00user", _value(c)) for c in cids], sync=False)
    assert [pin.cid for pin in pins.list()] == sorted(cids)
    pins.close()


def _value(cid: Cid) -> bytes:
    from mpisa.primitives.codec import encode

    return encode((cid.to_bytes(), "direct", "user", ""))


def test_damaged_pins_are_salvaged(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    kept = pins.pin(NODE)
    pins._database.write([(b"p" + OTHER.multihash, b"\xc1")], sync=True)
    pins.close()
    (tmp_path / "CURRENT").unlink()
    assert repair_pins(tmp_path) == ((kept,), 1)
    pins = PinStore(tmp_path)
    assert list(pins.list()) == [kept]
    pins.close()


def test_a_second_opener_and_damage(tmp_path: Path) -> None:
    pins = PinStore(tmp_path)
    pins.pin(NODE)
    with pytest.raises(StoreBusy):
        PinStore(tmp_path)
    pins._database.write([(b"p" + OTHER.multihash, b"\xc1")], sync=True)
    with pytest.raises(StoreDamaged) as damaged:
        list(pins.list())
    assert str(damaged.value) == f"pins {tmp_path}: an entry can't be read"
    pins.close()
    (tmp_path / "CURRENT").unlink()
    with pytest.raises(StoreDamaged) as damaged:
        PinStore(tmp_path)
    assert str(damaged.value) == f"pins {tmp_path}: the file CURRENT is missing"
    assert damaged.value.hint == "run `mpisa node repair`"


def test_a_database_whose_making_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """LevelDB writes its first manifest, then CURRENT, then a log: before that there was nothing to lose."""
    first = PinStore(tmp_path / "whole")
    first.close()
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    manifest = next((tmp_path / "whole").glob("MANIFEST-*")).read_bytes()
    (unfinished / "MANIFEST-000001").write_bytes(manifest[: len(manifest) // 2])
    (unfinished / "000001.dbtmp").write_bytes(b"MANIF")
    (unfinished / "LOCK").touch()
    pins = PinStore(unfinished)
    pins.pin(NODE)
    pins.close()
    pins = PinStore(unfinished)
    assert [pin.cid for pin in pins.list()] == [NODE]
    pins.close()
