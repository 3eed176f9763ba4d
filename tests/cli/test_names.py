from pathlib import Path

import pytest

from mpisa.cli import names
from mpisa.primitives import state_keys
from mpisa.primitives.cid import Cid
from mpisa.primitives.errors import NotFound, UsageError
from mpisa.primitives.identifiers import ArtefactName, parse_address
from mpisa.sdk.client import Client

ADDRESS = "0x" + "11" * 20
CID = str(Cid.of(b"x"))


def test_state_keys_have_readable_forms() -> None:
    address = parse_address(ADDRESS)
    assert names.state_key(f"account:{ADDRESS}") == state_keys.account_key(address)
    assert names.state_key(f"validator:{ADDRESS}") == state_keys.validator_key(address)
    assert names.state_key("name:alice/demo@v1") == state_keys.name_key(ArtefactName.parse("alice/demo@v1"))
    assert names.state_key("owner:alice") == state_keys.owner_key("alice")
    assert names.state_key("parameters") == state_keys.parameters_key()
    assert names.state_key(f"record:{CID}:{ADDRESS}") == state_keys.record_key(Cid.parse(CID), address)
    assert names.state_key("epoch") == state_keys.epoch_key()
    assert names.state_key(f"stake:{ADDRESS}") == state_keys.registration_key(address)
    assert names.state_key("0x00ff") == b"\x00\xff"
    with pytest.raises(UsageError, match=r"^state key 'nonsense': expected hex, account:ADDRESS"):
        names.state_key("nonsense")


@pytest.mark.parametrize(
    ("what", "hint"),
    [
        ("nonsense", "a name looks like owner/model@tag"),
        ("Alice/demo", "a name looks like owner/model@tag"),
    ],
)
def test_what_is_neither_a_cid_nor_a_name_is_a_usage_error(what: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"^'{what}' is neither a CID nor a name: ") as caught:
        names.cid_of(Client("http://127.0.0.1:1"), what)
    assert caught.value.hint == hint


def test_inputs_take_their_relation_from_the_role_unless_given() -> None:
    assert names.parse_input(f"dataset:{CID}") == {"role": "dataset", "relation": "train", "cid": CID}
    assert names.parse_input(f"base-model/quantize:{CID}") == {"role": "base-model", "relation": "quantize", "cid": CID}
    for wrong in ("dataset", ":cid", "dataset:", "/train:cid"):
        with pytest.raises(UsageError) as caught:
            names.parse_input(wrong)
        assert str(caught.value) == f"--input {wrong!r}: expected ROLE:CID"


def test_one_account_signs(tmp_path: Path) -> None:
    assert names.key_choice(None, None) is None
    assert names.key_choice("bob", None) == "bob"
    with pytest.raises(UsageError) as both:
        names.key_choice("bob", tmp_path / "key")
    assert str(both.value) == "--account and --key exclude each other"
    with pytest.raises(NotFound) as missing:
        names.key_choice(None, tmp_path / "key")
    assert str(missing.value) == f"no such key file: {tmp_path / 'key'}"
