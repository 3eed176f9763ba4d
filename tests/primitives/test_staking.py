"""The state's entries about stake: they come back from their bytes, and other bytes are refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import Address
from mpisa.primitives.staking import (
    MAX_RETURNS,
    EpochState,
    Forget,
    Registration,
    Return,
    claims_of,
    decode_agenda_entry,
    encode_agenda_entry,
)
from mpisa.primitives.state_keys import Claim
from mpisa.primitives.validator_record import MAX_POWER, ValidatorRecord

U64 = (1 << 64) - 1
OPERATOR = Address(bytes(range(20)))
RECORD = ValidatorRecord(
    "v", Address(bytes([1]) * 20), MAX_POWER, bytes([2]) * 32, "peer", b"proof", OPERATOR, bytes(1952)
)

numbers = st.integers(0, U64)
addresses = st.binary(min_size=20, max_size=20).map(Address)


@given(st.builds(EpochState, numbers, numbers, st.booleans(), numbers, numbers, numbers, numbers, numbers))
def test_an_epochs_entry(epoch):
    assert EpochState.decode(epoch.encode()) == epoch


@given(
    st.builds(
        Registration,
        st.just(OPERATOR),
        st.sampled_from([None, RECORD]),
        numbers,
        st.sampled_from([b"", bytes([1]) * 20]),
        st.booleans(),
        numbers,
        numbers,
        st.lists(numbers, max_size=MAX_RETURNS + 2).map(tuple),
    )
)
def test_a_registration(registration):
    assert Registration.decode(OPERATOR, registration.encode()) == registration


@given(
    st.one_of(
        st.builds(Return, numbers, addresses, numbers, numbers), st.builds(Forget, numbers, st.binary(max_size=255))
    )
)
def test_an_agenda_entry(entry):
    assert decode_agenda_entry(encode_agenda_entry(entry)) == entry


def test_what_a_validator_claims():
    assert claims_of(RECORD) == (
        (Claim.CERTIFICATE, RECORD.address),
        (Claim.CONSENSUS, RECORD.consensus_key),
        (Claim.NAME, b"v"),
        (Claim.PEER, b"peer"),
        (Claim.POST_QUANTUM, bytes(1952)),
    )


@pytest.mark.parametrize(
    ("decode", "data", "message"),
    [
        (
            EpochState.decode,
            codec.encode((0, 0, 0, 0, 0, 0, 0, 0)),
            "malformed: epoch.pending: expected a boolean, got int",
        ),
        (EpochState.decode, codec.encode((0, 0, True)), "malformed: epoch: expected 8 items, got 3"),
        (EpochState.decode, codec.encode(bytes(200)), "too-large: expected at most 128 bytes, got 202"),
        (
            lambda data: Registration.decode(OPERATOR, data),
            codec.encode((None, 0, bytes(21), False, 0, 0, ())),
            "too-large: registration.active: expected at most 20 bytes, got 21",
        ),
        (
            lambda data: Registration.decode(OPERATOR, data),
            codec.encode((None, 0, b"", False, 0, 0, tuple(range(MAX_RETURNS + 3)))),
            "too-large: registration.returns: expected at most 18 items, got 19",
        ),
        (decode_agenda_entry, codec.encode((3, 0)), "malformed: agenda entry: expected kind 1 or 2, got 3"),
        (
            decode_agenda_entry,
            codec.encode((2, 0, bytes(256))),
            "too-large: agenda entry.key: expected at most 255 bytes, got 256",
        ),
        (decode_agenda_entry, codec.encode((1, 0, bytes(20), 5)), "malformed: agenda entry: expected 4 items, got 2"),
        (decode_agenda_entry, codec.encode((1,)), "malformed: agenda entry: expected at least 2 items, got 1"),
    ],
)
def test_other_bytes_are_refused(decode, data, message):
    with pytest.raises(Rejection) as refusal:
        decode(data)
    assert str(refusal.value) == message
