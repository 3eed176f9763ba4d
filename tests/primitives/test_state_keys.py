"""State keys: fixed bytes, and no two things under one key."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpisa.primitives import state_keys
from mpisa.primitives.cid import Cid
from mpisa.primitives.digest import sha256
from mpisa.primitives.identifiers import ArtefactName

ADDRESS = bytes(range(20))


def test_the_bytes_of_each_space() -> None:
    cid = Cid.of(b"")
    assert state_keys.account_key(ADDRESS) == b"account\0" + ADDRESS
    assert state_keys.validator_key(ADDRESS) == b"validator\0" + ADDRESS
    assert state_keys.record_key(cid, ADDRESS) == b"record\0" + b"\x24" + cid.to_bytes() + ADDRESS
    assert state_keys.record_prefix(cid) == b"record\0" + b"\x24" + cid.to_bytes()
    assert state_keys.name_key(ArtefactName("alice", "llama", "v1")) == b"name\0\x05alice\x05llama\x02v1"
    assert state_keys.owner_key("alice") == b"owner\0\x05alice"
    assert state_keys.parameters_key() == b"parameters\0"
    assert state_keys.epoch_key() == b"epoch\0"
    assert state_keys.registration_key(ADDRESS) == b"registration\0" + ADDRESS
    assert state_keys.registrations_key() == b"registrations\0"
    assert state_keys.claim_key(state_keys.Claim.NAME, b"v1") == b"claim\0\x04name" + sha256(b"v1")
    assert state_keys.agenda_key(258) == b"agenda\0" + bytes(6) + b"\x01\x02"
    assert state_keys.closed_key(1) == b"closed\0" + bytes(7) + b"\x01"
    assert state_keys.offence_key(ADDRESS, 1, True) == b"offence\0" + ADDRESS + bytes(7) + b"\x01\x01"
    assert state_keys.offence_key(ADDRESS, 1, False) == b"offence\0" + ADDRESS + bytes(7) + b"\x01\x00"


words = st.from_regex(r"[a-z0-9]{1,4}", fullmatch=True)


@settings(deadline=None, max_examples=200)
@given(st.tuples(words, words, words), st.tuples(words, words, words))
def test_names_share_a_key_only_if_equal(a: tuple[str, str, str], b: tuple[str, str, str]) -> None:
    same = state_keys.name_key(ArtefactName(*a)) == state_keys.name_key(ArtefactName(*b))
    assert same == (a == b)


def test_a_field_of_the_wrong_size_is_our_own_bug() -> None:
    with pytest.raises(ValueError, match="expected an address of 20 bytes, got 19"):
        state_keys.account_key(bytes(19))
    assert state_keys.owner_key("o" * 255)
    with pytest.raises(ValueError, match="expected at most 255 bytes, got 256"):
        state_keys.owner_key("o" * 256)
