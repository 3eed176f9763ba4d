"""`mpisa wallet`: accounts and their key files in the home."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mpisa.cli import names
from mpisa.cli.commands import group
from mpisa.cli.render import emit, fields, hint, table
from mpisa.cli.settings import PASSPHRASE_VARIABLE, current, given_passphrase
from mpisa.primitives.errors import UsageError

KINDS = ("ed25519", "secp256k1", "ml-dsa-65")
_MAX_PASSPHRASE_BYTES = 4096


@group("wallet", examples=("mpisa wallet new alice", "mpisa wallet ls", "mpisa wallet send bob 5"))
def wallet() -> None:
    """Accounts and their keys."""


def _passphrase(ask: bool) -> bytes | None:
    if not ask:
        return None
    given = given_passphrase()
    if given is not None:
        return given
    if not sys.stdin.isatty():
        line = sys.stdin.buffer.readline(_MAX_PASSPHRASE_BYTES).rstrip(b"\r\n")
        if not line:
            raise UsageError("no passphrase on stdin", hint=f"type one, or set {PASSPHRASE_VARIABLE}")
        return line
    entered: str = click.prompt("Passphrase", hide_input=True, confirmation_prompt=True, err=True)
    return entered.encode()


@wallet.command("new", examples=("mpisa wallet new alice", "mpisa wallet new cold --kind ml-dsa-65 --passphrase"))
@click.argument("name")
@click.option("--kind", type=click.Choice(KINDS), default=KINDS[0], show_default=True, help="Signature scheme.")
@click.option("--passphrase", is_flag=True, help=f"Encrypt the key file; asked for, or from {PASSPHRASE_VARIABLE}.")
def new(name: str, kind: str, passphrase: bool) -> None:
    """Make an account: a fresh random key in a file only you can read."""
    from mpisa.sdk import wallet as keys

    home = current().home_or_default()
    made = keys.create(home, name, kind=kind, passphrase=_passphrase(passphrase))
    data = {"name": made.name, "address": made.address, "key_file": str(made.key_file), "kind": made.kind}
    emit(data, lambda: fields(data))
    hint(f"draw coins on a devnet: mpisa wallet faucet {name}")


@wallet.command("ls", examples=("mpisa wallet ls", "mpisa wallet ls --json"))
def ls() -> None:
    """The accounts of this home."""
    from mpisa.sdk import wallet as keys

    home = current().home_or_default()
    accounts = keys.accounts(home)
    data = {
        "accounts": [
            {"name": a.name, "address": a.address, "key_file": str(a.key_file), "kind": a.kind} for a in accounts
        ]
    }
    rows = [(a.name, a.address, a.kind, a.key_file) for a in accounts]
    emit(data, lambda: table(rows, ("name", "address", "kind", "key file")))
    if not accounts:
        hint(f"none in {home}; make one: mpisa wallet new NAME")


@wallet.command("faucet", examples=("mpisa wallet faucet alice", "mpisa wallet faucet alice --amount 1000"))
@click.argument("account", required=False)
@click.option("--amount", type=click.IntRange(min=1), help="Smallest units.  [default: as much as the chain gives]")
@click.option("--to", metavar="ADDRESS|NAME", help="Who gets them.  [default: the account itself]")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Key file of the account that signs.")
def faucet(account: str | None, amount: int | None, to: str | None, key_file: Path | None) -> None:
    """Draw coins on a devnet."""
    settings = current()
    target = names.address_of(settings.home_or_default(), to) if to else None
    with settings.client() as client:
        found = client.faucet(names.key_choice(account, key_file), amount=amount, to=target)
    emit(found.to_dict(), lambda: f"{found.status} at height {plain_height(found.height)}: {found.hash}")


@wallet.command("send", examples=("mpisa wallet send bob 5", "mpisa wallet send 0x... 5 --account carol --json"))
@click.argument("to", metavar="ADDRESS|NAME")
@click.argument("amount", type=click.IntRange(min=1))
@click.option("--account", help="Who pays.  [default: the first]")
@click.option("--key", "key_file", type=click.Path(path_type=Path), help="Key file of the account that pays.")
def send(to: str, amount: int, account: str | None, key_file: Path | None) -> None:
    """Send coins; returns when certified."""
    settings = current()
    target = names.address_of(settings.home_or_default(), to)
    with settings.client() as client:
        found = client.send(target, amount, key=names.key_choice(account, key_file))
    if found.status == "rejected":
        reason = found.receipt.reason if found.receipt else "unknown"
        raise UsageError(f"the ledger refused it: {reason}", hint=f"mpisa chain tx {found.hash}")
    emit(found.to_dict(), lambda: f"{found.status} at height {plain_height(found.height)}: {found.hash}")


def plain_height(height: int | None) -> str:
    """A height, or a dash while there is none."""
    return "-" if height is None else str(height)
