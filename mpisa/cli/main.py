"""The tree of commands, and the one place where a failure becomes a message and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from mpisa.cli.commands import Lazy, LazyGroup

_PEOPLE, _CHAIN, _NODES, _TOOLS = "Artefacts", "Ledger", "Nodes", "Tools"

TREE = {
    "put": Lazy("mpisa.cli.artefacts", "put", "Store a file or a directory; prints its CID.", _PEOPLE),
    "get": Lazy("mpisa.cli.artefacts", "get", "Fetch an artefact by CID or name, every block hashed.", _PEOPLE),
    "publish": Lazy("mpisa.cli.artefacts", "publish", "Store an artefact and register it on the ledger.", _PEOPLE),
    "lineage": Lazy("mpisa.cli.artefacts", "lineage", "What an artefact was made from.", _PEOPLE),
    "verify": Lazy("mpisa.cli.artefacts", "verify", "Check an artefact's record locally, trusting no node.", _PEOPLE),
    "blob": Lazy("mpisa.cli.blob", "blob", "Content by CID: cid, ls, stat, verify, pins, CARs.", _PEOPLE),
    "chain": Lazy("mpisa.cli.chain", "chain", "The ledger: head, blocks, transactions, proofs.", _CHAIN),
    "wallet": Lazy("mpisa.cli.wallet", "wallet", "Accounts and their keys.", _CHAIN),
    "devnet": Lazy("mpisa.cli.devnet", "devnet", "A network of validators on this machine.", _NODES),
    "node": Lazy("mpisa.cli.node", "node", "One node: set up, run, look after.", _NODES),
    "doctor": Lazy("mpisa.cli.doctor", "doctor", "What is wrong with a node, and what to type.", _NODES),
    "demo": Lazy("mpisa.cli.demo", "demo", "A real model's trip through four validators, checked.", _TOOLS),
    "bench": Lazy("mpisa.cli.bench", "bench", "Measure, next to the peer and the limit.", _TOOLS),
    "selftest": Lazy("mpisa.cli.selftest", "selftest", "Check this installation, offline.", _TOOLS),
    "completion": Lazy("mpisa.cli.completion", "completion", "Print a shell's completion script.", _TOOLS),
}


def _version(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from mpisa._version import __version__

        click.echo(f"mpisa {__version__}")
        context.exit()


@click.command(
    "mpisa",
    cls=LazyGroup,
    lazy=TREE,
    examples=(
        "mpisa devnet up                      four validators on this machine",
        "mpisa publish ./model                store it and register it: CID, transaction, block",
        "mpisa get CID -o model               fetch it, verified",
    ),
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def root() -> None:
    """Store AI models and datasets by content, and register who made what from what on a ledger anyone can check."""


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; failures are reported on stderr."""
    from mpisa.cli import failures

    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        result = root.main(arguments, prog_name="mpisa", standalone_mode=False)
        sys.stdout.flush()
    except (BrokenPipeError, ConnectionResetError) as error:
        if isinstance(error, ConnectionResetError):
            return failures.report(error, arguments)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else the interpreter complains at exit
        return 1
    except SystemExit as error:  # click's own answer to a closed stdout
        return error.code if isinstance(error.code, int) else 1
    except BaseException as error:  # noqa: BLE001 - the program's root: every failure becomes a message and a code
        return failures.report(error, arguments)
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the `mpisa` script."""
    sys.exit(run())
