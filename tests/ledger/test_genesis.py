"""Genesis: one text, one hash, a state that is never empty, and messages that name what is wrong."""

import hashlib
import json
from dataclasses import replace

import pytest

from mpisa.ledger.parameters import read_parameters
from mpisa.ledger.staking import read_claim, read_epoch, read_registrations
from mpisa.ledger.validators import read_validator_set, read_validators
from mpisa.primitives import digest, merkle
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.genesis_state import genesis_header, genesis_state
from mpisa.primitives.identifiers import Address
from mpisa.primitives.staking import EpochState, Registration, claims_of
from mpisa.primitives.staking_parameters import DAY_MS, MAX_SPAN_MS, StakingParameters
from mpisa.primitives.state_keys import validator_key
from mpisa.primitives.validator_record import ValidatorRecord


@pytest.fixture
def genesis(chain):
    parameters = ChainParameters(
        faucet_limit=5, reserved_handles=("admin", "mpisa"), consensus=(("gc_depth", 60), ("idle_delay_ms", 1_000))
    )
    return replace(chain.genesis, parameters=parameters)


def test_the_document_comes_back_from_its_text(genesis):
    assert Genesis.from_json(genesis.to_json()) == genesis
    assert Genesis.from_document(json.loads(genesis.to_json())) == genesis


def test_its_hash_is_that_of_the_file(genesis):
    text = genesis.to_json()
    assert genesis.hash == hashlib.sha256(text.encode()).digest()
    assert genesis.chain_hash == digest.chain_hash("test-chain", genesis.hash)
    assert text.isascii()
    assert text.endswith("}\n")


@pytest.mark.parametrize(
    "respell", [str.strip, lambda text: text.replace("  ", " "), lambda text: text.replace('"a', '"\\u0061', 1)]
)
def test_another_spelling_is_refused(genesis, respell):
    with pytest.raises(Rejection) as refusal:
        Genesis.from_json(respell(genesis.to_json()))
    assert str(refusal.value) == (
        "not-canonical: genesis: the text isn't the document's one spelling "
        "(sorted keys, two spaces, ASCII, final newline)"
    )
    assert refusal.value.hint == "a genesis file that was edited or formatted is another chain's: fetch the original"


def test_state_and_header_of_height_zero(genesis):
    state = genesis_state(genesis)
    header = genesis_header(genesis)
    assert list(state) == sorted(state)
    assert (header.height, header.epoch, header.time_ms) == (0, 0, genesis.time_ms)
    assert header.chain_hash == genesis.chain_hash
    assert header.state_root == merkle.map_root(state) != bytes(32)
    assert header.validators_hash == genesis.validator_set.hash
    assert not header.closes_epoch
    assert read_parameters(state) == genesis.parameters
    assert read_validators(state) == genesis.validators
    assert read_validator_set(state) == genesis.validator_set


def test_a_genesis_without_accounts_still_has_a_state(genesis):
    assert len(genesis_state(replace(genesis, accounts=()))) == 10


def test_a_missing_validator_entry_is_damage(genesis):
    state = genesis_state(genesis)
    del state[validator_key(genesis.validators[0].address)]
    with pytest.raises(IntegrityError, match=r"^the state is damaged: it holds no entry for validator 0x[0-9a-f]{40}$"):
        read_validators(state)


def changed(document, path, value):
    *parents, last = path
    target = document
    for step in parents:
        target = target[step]
    if value is KeyError:
        del target[last]
    else:
        target[last] = value
    return document


VALIDATOR = ("validators", 0)
U64_RANGE = "an integer from 0 to 18446744073709551615"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("version",), 2, "version: expected 1, got 2"),
        (("chain_id",), KeyError, "genesis: missing ['chain_id'], unknown []"),
        (("surprise",), 1, "genesis: missing [], unknown ['surprise']"),
        (("time_ms",), 1.5, f"time_ms: expected {U64_RANGE}, got 1.5"),
        (("time_ms",), True, f"time_ms: expected {U64_RANGE}, got True"),
        (("validators",), [], "validators: expected 1 to 256 items, got 0"),
        (("validators",), {}, "validators: expected a list, got dict"),
        ((*VALIDATOR, "power"), 0, "validators[0].power: expected an integer from 1 to 72057594037927935, got 0"),
        ((*VALIDATOR, "consensus_key"), "00", "validators[0].consensus_key: expected 32 to 32 bytes, got 1"),
        ((*VALIDATOR, "consensus_key"), "zz", "validators[0].consensus_key: expected lower-case hex digits, got 'zz'"),
        ((*VALIDATOR, "proof"), "AA", "validators[0].proof: expected lower-case hex digits without spaces, got 'AA'"),
        ((*VALIDATOR, "address"), "0x12", "bad-address: expected 0x and 40 hex digits, got '0x12'"),
        (("accounts", 0, "balance"), -1, f"accounts[0].balance: expected {U64_RANGE}, got -1"),
        (("accounts", 0, "address"), "0x" + "00" * 20, None),
        (("parameters", "consensus"), {"a": "1"}, f"parameters.consensus.a: expected {U64_RANGE}, got '1'"),
        (
            ("parameters", "reserved_handles"),
            ["b", "a"],
            "parameters.reserved_handles: expected ascending order, each once",
        ),
        (("parameters", "faucet_limit"), None, f"parameters.faucet_limit: expected {U64_RANGE}, got None"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(genesis, path, value, message):
    if message is None:
        message = f"accounts[0].public_key: its address is 0x{genesis.accounts[0].address.hex()}"
    if not message.startswith("bad-address"):
        message = f"bad-genesis: genesis: {message}"
    with pytest.raises(Rejection) as refusal:
        Genesis.from_document(changed(json.loads(genesis.to_json()), path, value))
    assert str(refusal.value) == message


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1e999999"])
def test_hostile_text_is_refused(text):
    with pytest.raises(Rejection):
        Genesis.from_json(text)


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J", "a\nb", "\u202e"])
def test_names_that_have_no_bytes_or_move_the_cursor_are_refused(genesis, text):
    for field in ("name", "peer_id"):
        with pytest.raises(
            Rejection, match=rf"^bad-genesis: genesis: validators\[0\].{field}: expected a text of at most"
        ):
            Genesis.from_document(changed(genesis.to_document(), ["validators", 0, field], text))
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: parameters.consensus: expected a text of at most"):
        Genesis.from_document(changed(genesis.to_document(), ["parameters", "consensus"], {text: 1}))


def test_order_and_uniqueness_are_required(genesis):
    first = genesis.validators[0]
    twin = ValidatorRecord("v2", first.address, 1, bytes(32), "p2")
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: validators: expected ascending order, each once$"):
        genesis_state(replace(genesis, validators=(first, twin)))
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: accounts: expected ascending order, each once$"):
        genesis_state(replace(genesis, accounts=tuple(reversed(genesis.accounts))))
    same_peer = replace(first, address=bytes([255]) * 20, name="v2", consensus_key=bytes(32))
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: validators.peer_id: expected each once$"):
        replace(genesis, validators=(first, same_peer)).validate()


def test_parameters_come_back_from_their_bytes(genesis):
    assert ChainParameters.decode(genesis.parameters.encode()) == genesis.parameters


def test_an_account_without_a_key_shows_it_first(genesis):
    bare = replace(genesis, accounts=(GenesisAccount(genesis.accounts[0].address, 7),))
    assert Genesis.from_json(bare.to_json()) == bare


def test_what_genesis_validators_have_at_stake(genesis):
    (validator,) = genesis.validators
    state = genesis_state(genesis)
    assert read_registrations(state.get) == (Registration(validator.operator, validator, 10, validator.address),)
    assert read_epoch(state.get) == EpochState(0, genesis.time_ms, seated=1, electable=1)
    for claim, value in claims_of(validator):
        assert read_claim(state.get, claim, value) == validator.operator


def test_a_validator_without_an_operator_is_its_certificate_keys_own():
    record = ValidatorRecord("v", Address(bytes([7]) * 20), 1, bytes(32), "p")
    assert record.operator == record.address
    assert ValidatorRecord.decode(record.encode()) == record
    assert ValidatorRecord.from_document(record.to_document(), "validators[0]") == record


def test_operators_and_post_quantum_keys_are_one_validators(genesis):
    (first,) = genesis.validators
    second = replace(first, address=bytes([255]) * 20, name="v2", consensus_key=bytes(32), peer_id="p2")
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: validators.operator: expected each once$"):
        replace(genesis, validators=(first, second)).validate()
    keys = {"post_quantum_key": bytes(1952)}
    both = (replace(first, **keys), replace(second, operator=bytes(20), **keys))
    with pytest.raises(Rejection, match=r"^bad-genesis: genesis: validators.post_quantum_key: expected each once$"):
        replace(genesis, validators=both).validate()
    with pytest.raises(Rejection) as refusal:
        replace(genesis, validators=(replace(first, post_quantum_key=b"short"),)).validate()
    assert str(refusal.value) == (
        "bad-genesis: genesis: validators[0].post_quantum_key: expected none or 1952 bytes, got 5"
    )


def test_the_stake_of_a_genesis_validator_is_enough(genesis):
    staking = StakingParameters(power_unit=3, minimum_stake=31)
    parameters = replace(genesis.parameters, staking=staking)
    with pytest.raises(Rejection) as refusal:
        replace(genesis, parameters=parameters).validate()
    assert str(refusal.value) == (
        "bad-genesis: genesis: validators[0]: the stake of its power: expected an integer from 31 to "
        "18446744073709551615, got 30"
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"power_unit": 0}, "power_unit: expected an integer from 1 to 18446744073709551615, got 0"),
        ({"power_unit": 9}, "minimum_stake: expected an integer from 9 to 18446744073709551615, got 1"),
        ({"slash_ppm": 1_000_001}, "slash_ppm: expected an integer from 0 to 1000000, got 1000001"),
        ({"jail_ms": MAX_SPAN_MS + 1}, f"jail_ms: expected an integer from 0 to {MAX_SPAN_MS}, got {MAX_SPAN_MS + 1}"),
        (
            {"trusting_ms": 70, "evidence_ms": 30, "unbonding_ms": 100},
            "unbonding_ms: expected more than trusting_ms + evidence_ms = 100, got 100",
        ),
    ],
)
def test_staking_parameters_that_do_not_fit_are_refused(genesis, changes, message):
    parameters = replace(genesis.parameters, staking=replace(StakingParameters(), **changes))
    with pytest.raises(Rejection) as refusal:
        replace(genesis, parameters=parameters).validate()
    assert str(refusal.value) == f"bad-genesis: genesis: parameters.staking.{message}"


def test_the_defaults_fit_each_other():
    staking = StakingParameters()
    staking.validate()
    assert staking.unbonding_ms == staking.trusting_ms + staking.evidence_ms + DAY_MS


def test_a_parameter_that_is_none_any_more_is_refused_with_what_to_do(genesis):
    document = json.loads(genesis.to_json())
    document["parameters"]["consensus"] = {"evidence_epochs": 4}
    with pytest.raises(Rejection) as refusal:
        Genesis.from_document(document)
    assert str(refusal.value) == (
        "bad-genesis: genesis: parameters.consensus.evidence_epochs is no parameter any more: "
        "evidence is admissible as long as stake answers: staking.unbonding_ms"
    )
    assert refusal.value.hint == (
        "run this chain with the version of mpisa it was made for; "
        "a devnet is made anew by `mpisa devnet reset`, then `mpisa devnet up`"
    )


def test_a_document_without_staking_is_refused(genesis):
    document = json.loads(genesis.to_json())
    del document["parameters"]["staking"]["jail_ms"]
    with pytest.raises(Rejection) as refusal:
        Genesis.from_document(document)
    assert str(refusal.value) == "bad-genesis: genesis: parameters.staking: missing ['jail_ms'], unknown []"
