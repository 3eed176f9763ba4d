"""Validator operations as bytes: they come back, and what is wrong whatever the state is refused with its place."""

from dataclasses import replace

import pytest

from mpisa.primitives import codec
from mpisa.primitives.errors import Rejection
from mpisa.primitives.identifiers import Address
from mpisa.primitives.keys import KeyKind, private_key
from mpisa.primitives.operations import operation_to_json, operation_value, read_operations, validate_operations
from mpisa.primitives.possession import NewKey
from mpisa.primitives.validator_operations import (
    NO_KEY,
    Bond,
    ChangeValidator,
    JoinValidator,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)

CHAIN = bytes(32)
OPERATOR = Address(bytes(range(20)))
KEYS = ValidatorKeys(
    private_key(KeyKind.ED25519, bytes([1]) * 32),
    private_key(KeyKind.SECP256K1, bytes([2]) * 32),
    private_key(KeyKind.ML_DSA_65, bytes([3]) * 32),
)
JOIN = join_validator(KEYS, CHAIN, OPERATOR, 0, name="v", peer_id="peer", stake=5)
CHANGE = change_validator(KEYS, CHAIN, OPERATOR, 0, peer_id="other")
OPERATIONS = [
    JOIN,
    replace(JOIN, post_quantum=None, stake=0),
    LeaveValidator(),
    Bond(1),
    Unbond((1 << 64) - 1),
    CHANGE,
    ChangeValidator(peer_id="other"),
    ChangeValidator(post_quantum=NO_KEY),
    ChangeValidator(consensus=JOIN.consensus),
]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_operation_comes_back_from_its_bytes(operation):
    data = codec.encode((operation_value(operation),))
    assert read_operations(codec.decode(data, max_bytes=16_384)) == (operation,)
    validate_operations((operation,), OPERATOR)


def test_json_names_the_kind_and_shows_no_proof():
    keys = {
        "address": "0x" + JOIN.certificate.key.hex(),
        "consensus_key": JOIN.consensus.key.hex(),
        "post_quantum_key": JOIN.post_quantum.key.hex(),
    }
    assert operation_to_json(JOIN) == {"type": "join-validator", "name": "v", "stake": 5, "peer_id": "peer"} | keys
    assert operation_to_json(CHANGE) == {"type": "change-validator", "peer_id": "other"} | keys
    assert operation_to_json(ChangeValidator(post_quantum=NO_KEY)) == {
        "type": "change-validator",
        "address": None,
        "consensus_key": None,
        "post_quantum_key": "",
        "peer_id": None,
    }
    assert operation_to_json(LeaveValidator()) == {"type": "leave-validator"}
    assert operation_to_json(Bond(3)) == {"type": "bond", "amount": 3}
    assert operation_to_json(Unbond(3)) == {"type": "unbond", "amount": 3}


@pytest.mark.parametrize(
    ("operation", "message"),
    [
        (Bond(0), "zero-amount: operations[0].amount: expected at least 1, got 0"),
        (Unbond(0), "zero-amount: operations[0].amount: expected at least 1, got 0"),
        (replace(JOIN, name=""), "malformed: operations[0].name: expected 1 to 64 printable characters, got ''"),
        (
            replace(JOIN, name="x" * 65),
            f"malformed: operations[0].name: expected 1 to 64 printable characters, got {'x' * 65!r:.40}",
        ),
        (
            replace(JOIN, peer_id="a\x1b[2J"),
            "malformed: operations[0].peer_id: expected 1 to 128 printable characters, got 'a\\x1b[2J'",
        ),
        (
            replace(CHANGE, peer_id="\u202e"),
            "malformed: operations[0].peer_id: expected 1 to 128 printable characters, got '\\u202e'",
        ),
        (
            ChangeValidator(),
            "malformed: operations[0].change-validator: expected at least one key or a peer id, got none",
        ),
        (
            replace(JOIN, consensus=NewKey(bytes(32), bytes(64))),
            "bad-key: operations[0].consensus key: not the canonical encoding of a point, or of small order",
        ),
        (
            ChangeValidator(certificate=NewKey(bytes(19), bytes(64))),
            "bad-key: operations[0].certificate key: expected 20 bytes, got 19",
        ),
        (
            replace(JOIN, post_quantum=NO_KEY),
            "bad-key: operations[0].post-quantum key: expected 1952 bytes, got 0",
        ),
    ],
)
def test_what_can_not_be_is_refused(operation, message):
    with pytest.raises(Rejection) as refusal:
        validate_operations((operation,), OPERATOR)
    assert str(refusal.value) == message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((6, "v", "p", 1), "malformed: operations[0].fields: expected 7 items, got 4"),
        ((7, 1), "malformed: operations[0].fields: expected 1 items, got 2"),
        ((8, -1), "out-of-range: operations[0].amount: expected 0..18446744073709551615, got -1"),
        ((9, "1"), "malformed: operations[0].amount: expected an integer, got str"),
        ((10, None, None, None), "malformed: operations[0].fields: expected 5 items, got 4"),
        ((10, (b"",), None, None, None), "malformed: operations[0].consensus key: expected 2 items, got 1"),
        (
            (10, None, None, (bytes(1953), b""), None),
            "too-large: operations[0].post-quantum key: expected at most 1952 bytes, got 1953",
        ),
        (
            (10, None, (b"", bytes(3310)), None, None),
            "too-large: operations[0].certificate key proof: expected at most 3309 bytes, got 3310",
        ),
    ],
)
def test_misshapen_values_are_refused(value, message):
    with pytest.raises(Rejection) as refusal:
        read_operations((value,))
    assert str(refusal.value) == message


def test_a_join_needs_both_keys():
    with pytest.raises(AssertionError):
        join_validator(ValidatorKeys(), CHAIN, OPERATOR, 0, name="v", peer_id="p", stake=1)
    assert isinstance(JOIN, JoinValidator)
