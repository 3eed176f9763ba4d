"""The part of `mpisa node` by which an operator runs a validator: transactions that the next epoch's set follows.

The operator's account is named by --account or --key; without either it is the account of the node's own certificate
key, which is what a devnet's validators have.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mpisa.cli import names
from mpisa.cli.commands import command
from mpisa.cli.render import emit, hint, moment, note
from mpisa.cli.settings import current, given_passphrase
from mpisa.primitives.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mpisa.node.home import Home
    from mpisa.primitives.keys import PrivateKey
    from mpisa.sdk.client import Client
    from mpisa.sdk.models import Transaction

_ACCOUNT = click.option("--account", help="The operator, by its name in the home.  [default: the certificate key]")
_KEY = click.option("--key", "key_file", type=click.Path(path_type=Path), help="Key file of the operator.")
_AMOUNT = click.argument("amount", type=click.IntRange(min=1))


def _node_home() -> Home:
    """The home of the node whose validator is meant. Raises NotFound."""
    from mpisa.node.home import Home

    home = current().home_or_default()
    if not (home / "config.toml").exists():
        raise NotFound(f"no node in {home}", hint="--home names a node's directory (of a devnet: HOME/node1)")
    return Home(home)


def _operator(account: str | None, key_file: Path | None) -> PrivateKey | str | Path:
    chosen = names.key_choice(account, key_file)
    if chosen is not None:
        return chosen
    home = _node_home()
    return home.read_key(home.operator_key_name, given_passphrase())


def _transact(send: Callable[[Client], Transaction], what: str) -> None:
    """Send, print what came of it and when it takes effect."""
    with current().client() as client:
        found = send(client)
        staking = client.staking()
    data: dict[str, Any] = found.to_dict()
    data.pop("raw", None)
    emit(
        data | {"epoch": staking.epoch, "pending": staking.pending, "closes_from_ms": staking.closes_from_ms},
        lambda: f"{what}: {found.status} at height {found.height}, {found.hash}",
    )
    if staking.pending:
        note(f"the set changes when epoch {staking.epoch} ends, from {moment(staking.closes_from_ms)} on")
    else:
        note(f"in force: epoch {staking.epoch} has begun")
    hint("see who comes and goes: mpisa chain validators")


@command(
    "join",
    examples=(
        "mpisa node join --home ./node5 --stake 1000 --key ~/.mpisa/accounts/alice.json",
        "mpisa node join --home ./node5 --stake 1000 --json",
    ),
)
@click.option("--stake", type=click.IntRange(min=0), required=True, help="Smallest units to bond.")
@click.option("--name", help="What the validator is called.  [default: the node's name]")
@_ACCOUNT
@_KEY
def join(stake: int, name: str | None, account: str | None, key_file: Path | None) -> None:
    """Make this home's node a validator, or bring a jailed one back.

    The keys are those of the home; each proves itself. A jailed validator that has its stake still gives --stake 0.
    """
    from mpisa.config import Role
    from mpisa.network.peer_id import peer_id_of
    from mpisa.sdk.validators import KeyChoice

    home = _node_home()
    config = home.read_config()
    if config.role is not Role.VALIDATOR:
        raise UsageError(
            f"the node in {home.path} has no keys of a validator: its role is {config.role.value}",
            hint="make one: mpisa node init --role validator --join URL",
        )
    keys = home.read_keys(config.role, given_passphrase())
    peer_id = peer_id_of(keys.node.public_key.data)
    operator = _operator(account, key_file)
    _transact(
        lambda client: client.join_validator(
            KeyChoice(keys.consensus, keys.certificate, keys.post_quantum),
            name=name or config.name,
            peer_id=peer_id,
            stake=stake,
            key=operator,
        ),
        "join",
    )


@command(
    "leave",
    examples=("mpisa node leave --home ~/.mpisa/node1", "mpisa node leave --key ~/.mpisa/accounts/alice.json --json"),
)
@_ACCOUNT
@_KEY
def leave(account: str | None, key_file: Path | None) -> None:
    """Leave the validator set; the stake returns an unbonding period after the epoch's end."""
    operator = _operator(account, key_file)
    _transact(lambda client: client.leave_validator(key=operator), "leave")


@command(
    "bond",
    examples=("mpisa node bond 500 --home ~/.mpisa/node1", "mpisa node bond 500 --account alice --json"),
)
@_AMOUNT
@_ACCOUNT
@_KEY
def bond(amount: int, account: str | None, key_file: Path | None) -> None:
    """Bond more stake: more power from the next epoch on."""
    operator = _operator(account, key_file)
    _transact(lambda client: client.bond(amount, key=operator), "bond")


@command(
    "unbond",
    examples=("mpisa node unbond 500 --home ~/.mpisa/node1", "mpisa node unbond 500 --account alice --json"),
)
@_AMOUNT
@_ACCOUNT
@_KEY
def unbond(amount: int, account: str | None, key_file: Path | None) -> None:
    """Take stake out: less power from the next epoch on; it returns an unbonding period after the epoch's end."""
    operator = _operator(account, key_file)
    _transact(lambda client: client.unbond(amount, key=operator), "unbond")


@command(
    "rotate-keys",
    examples=(
        "mpisa node rotate-keys --home ~/.mpisa/node1",
        "mpisa node rotate-keys --consensus --home ./node5 --key ~/.mpisa/accounts/alice.json --json",
    ),
)
@click.option("--consensus", is_flag=True, help="The consensus key.")
@click.option("--certificate", is_flag=True, help="The certificate key.")
@click.option("--post-quantum", is_flag=True, help="Register the home's ML-DSA key, made where it has none.")
@_ACCOUNT
@_KEY
def rotate_keys(
    consensus: bool, certificate: bool, post_quantum: bool, account: str | None, key_file: Path | None
) -> None:
    """Change the validator's keys with the next epoch: consensus and certificate key, or those that are named.

    Fresh keys are kept in the home before the ledger is asked, so that a running node takes them when their epoch
    begins. Repeating the command after a failure asks for the same keys again. The operator's account stays.
    """
    from mpisa.config import Role
    from mpisa.sdk.validators import KeyChoice

    home = _node_home()
    operator = _operator(account, key_file)
    passphrase = given_passphrase()
    if not (consensus or certificate or post_quantum):
        consensus = certificate = True
    home.read_keys(Role.VALIDATOR, passphrase)  # says what is missing before anything is made
    if account is None and key_file is None:
        home.keep_operator_key()
    home.make_next_keys(consensus=consensus, certificate=certificate, passphrase=passphrase)
    if post_quantum:
        home.make_post_quantum_key(passphrase)
    keys = home.read_keys(Role.VALIDATOR, passphrase)
    chosen = KeyChoice(
        keys.next_consensus if consensus else None,
        keys.next_certificate if certificate else None,
        keys.post_quantum if post_quantum else None,
    )
    _transact(lambda client: client.change_validator(chosen, key=operator), "rotate-keys")
    if post_quantum:
        hint("the node co-signs once it was started again")


COMMANDS: Final = (join, leave, bond, unbond, rotate_keys)
