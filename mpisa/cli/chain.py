"""`mpisa chain`: the ledger, read and checked. `verify` and `decide` trust no node; `decide` needs none."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mpisa.cli import names
from mpisa.cli.commands import group
from mpisa.cli.render import emit, emit_line, fields, is_coloured, moment, note, plain, table
from mpisa.cli.settings import current
from mpisa.primitives.errors import Rejection, UsageError

if TYPE_CHECKING:
    from mpisa.sdk.models import ChainBlock, Dag, DagAuthority, Stake, Staking

MAX_CASE_BYTES = 256 << 20
CONDUCT_ROUNDS = 100
"""How far back `validators` looks at who did what."""


@group("chain", examples=("mpisa chain head", "mpisa chain verify", "mpisa chain watch"))
def chain() -> None:
    """The ledger."""


@chain.command("head", examples=("mpisa chain head", "mpisa chain head --json"))
def head() -> None:
    """The newest chain block and how far ordering is."""
    with current().client() as client:
        found = client.head()
    emit(found.to_dict(), lambda: fields(found.to_dict()))


@chain.command("block", examples=("mpisa chain block 12", "mpisa chain block HASH --json"))
@click.argument("which", metavar="HEIGHT|HASH")
def block(which: str) -> None:
    """A chain block: header, certificate, transactions and their outcomes."""
    with current().client() as client:
        found = client.block(int(which) if which.isdigit() and len(which) < 20 else which)
    emit(found.to_dict(), lambda: _block_text(found))


def _block_text(found: ChainBlock) -> str:
    data = found.to_dict()
    receipts = [(r.tx, r.status, r.reason or "", r.detail) for r in found.receipts]
    for name in ("header", "certificate", "transactions", "receipts"):
        data.pop(name, None)
    text = fields(data)
    return f"{text}\n\n{table(receipts, ('transaction', 'outcome', 'reason', 'detail'))}" if receipts else text


@chain.command("tx", examples=("mpisa chain tx HASH", "mpisa chain tx HASH --json"))
@click.argument("transaction_hash", metavar="HASH")
def tx(transaction_hash: str) -> None:
    """Where a transaction stands and what came of it."""
    with current().client() as client:
        found = client.transaction(transaction_hash)
    data = found.to_dict()
    emit(data, lambda: fields({name: value for name, value in data.items() if name != "raw"}))


@chain.command("account", examples=("mpisa chain account alice", "mpisa chain account 0x... --json"))
@click.argument("who", metavar="ADDRESS|NAME")
def account(who: str) -> None:
    """Balance, nonce and key of an account."""
    settings = current()
    with settings.client() as client:
        found = client.account(names.address_of(settings.home_or_default(), who))
    emit(found.to_dict(), lambda: fields(found.to_dict()))


@chain.command("stake", examples=("mpisa chain stake alice", "mpisa chain stake 0x... --json"))
@click.argument("who", metavar="ADDRESS|NAME")
def stake(who: str) -> None:
    """What an operator has at stake, and what is on its way back."""
    settings = current()
    with settings.client() as client:
        found = client.stake(names.address_of(settings.home_or_default(), who))
    emit(found.to_dict(), lambda: _stake_text(found))


def _stake_text(found: Stake) -> str:
    validator = found.validator
    summary = {
        "operator": found.operator,
        "validator": None if validator is None else validator.name,
        "power": 0 if validator is None else validator.power,
        "next power": 0 if validator is None else validator.next_power,
        "bonded": found.bonded,
        "leaves with the epoch": found.waiting,
    }
    if not found.returns:
        return fields(summary)
    returns = [(item.amount, moment(item.due_ms)) for item in found.returns]
    return f"{fields(summary)}\n\n{table(returns, ('returns', 'from'))}"


@chain.command("validators", examples=("mpisa chain validators", "mpisa chain validators --height 10 --json"))
@click.option("--height", type=click.IntRange(min=0), help="In force at this height.  [default: now]")
def validators(height: int | None) -> None:
    """Who certifies, with what power and how well of late; what the epoch's end changes, and who is jailed.

    `last` is the round of the newest vertex and its age; `votes` and `slots` count the last rounds: leader slots voted
    for of those that could be, slots that came out as commits of those led. "suspended" leads no slots for a while,
    "silent" isn't waited for, "equivocated" made two vertices in one round.
    """
    with current().client() as client:
        found = client.validators(height)
        staking = client.staking() if height is None else None
        dag = client.dag(CONDUCT_ROUNDS) if height is None else None
    if staking is None or dag is None:
        rows = [(v.name, v.address, v.power) for v in found.validators]
        emit(found.to_dict(), lambda: table(rows, ("name", "address", "power")))
        return
    conduct = [item.to_dict() for item in dag.authorities]
    emit(
        found.to_dict()
        | {"staking": staking.to_dict(), "conduct": {"rounds": len(dag.rounds), "authorities": conduct}},
        lambda: _standings_text(staking, dag),
    )
    if staking.pending:
        note(f"the set changes when epoch {staking.epoch} ends, from {moment(staking.closes_from_ms)} on")


def _standings_text(staking: Staking, dag: Dag) -> str:
    known = {item.address: item for item in dag.authorities}
    rows = [
        (
            item.name,
            item.address,
            item.power,
            item.next_power,
            "" if item.change == "none" else item.change,
            item.bonded,
            item.waiting or "",
            moment(item.jailed_until_ms) if item.jailed_until_ms else "",
            *_conduct(known.get(item.address), dag),
        )
        for item in staking.validators
    ]
    columns = ("name", "address", "power", "next power", "change", "bonded", "leaving stake", "jailed until")
    return table(rows, (*columns, "last", "votes", "slots", "conduct"))


def _conduct(item: DagAuthority | None, dag: Dag) -> tuple[str, str, str, str]:
    """The last four columns; empty for one that isn't in the epoch's set."""
    if item is None:
        return "", "", "", ""
    age = "" if item.last_ms is None else f" ({max(0, dag.now_ms - item.last_ms) / 1000:.1f} s)"
    words = []
    if item.suspended_until > dag.commit_index:
        words.append(f"suspended until commit {item.suspended_until}")
    elif item.points:
        words.append(f"{item.points} points")
    words += ["silent"] if item.suspect else []
    words += ["equivocated"] if item.equivocator else []
    return (
        f"{item.last_round}{age}",
        f"{item.voted}/{item.asked}",
        f"{item.committed}/{item.led}" + (f", {item.skipped} skipped" if item.skipped else ""),
        ", ".join(words),
    )


@chain.command("dag", examples=("mpisa chain dag", "mpisa chain dag --rounds 60", "mpisa chain dag --json"))
@click.option("--rounds", type=click.IntRange(1, 200), default=24, show_default=True, help="The last so many rounds.")
def dag(rounds: int) -> None:
    """The recent DAG as the node sees it: rounds by authorities, leader slots and their verdicts, newest first."""
    from mpisa.cli.dag_picture import picture

    with current().client() as client:
        found = client.dag(rounds)
    emit(found.to_dict(), lambda: picture(found, coloured=is_coloured()))
    note(f"epoch {found.epoch}, commit {found.commit_index}, rounds up to {found.gc_round} are let go")


@chain.command("vertex", examples=("mpisa chain vertex 0a1b2c3d", "mpisa chain vertex 0a1b2c3d --json"))
@click.argument("identifier", metavar="ID")
def vertex(identifier: str) -> None:
    """A vertex of the recent DAG by its id, or by the first 8 digits of it or more (`chain dag --json` has the ids)."""
    with current().client() as client:
        found = client.vertex(identifier)
    data = found.to_dict()
    parents = [(item.round, item.author, item.id) for item in found.parents]
    summary = {name: value for name, value in data.items() if name != "parents"}
    emit(data, lambda: f"{fields(summary)}\n\n{table(parents, ('round', 'author', 'parent'))}")


@chain.command("state", examples=("mpisa chain state account:0x...", "mpisa chain state name:alice/demo@v1 --json"))
@click.argument("key")
@click.option("--height", type=click.IntRange(min=0), help="As of this height.  [default: now]")
def state(key: str, height: int | None) -> None:
    """One entry of the state, as the node says (see `proof` for evidence).

    KEY is hex, or account:ADDRESS, name:OWNER/MODEL@TAG, owner:OWNER, record:CID:PUBLISHER, validator:ADDRESS,
    stake:OPERATOR, epoch, parameters.
    """
    with current().client() as client:
        found = client.state(names.state_key(key), height)
    emit(found.to_dict(), lambda: fields(found.to_dict()))


@chain.command("proof", examples=("mpisa chain proof name:alice/demo@v1 --json", "mpisa chain proof account:0x..."))
@click.argument("key")
@click.option("--height", type=click.IntRange(min=0), help="Under this height's header.  [default: latest certified]")
def proof(key: str, height: int | None) -> None:
    """An entry of the state, or its absence, with all a light client needs to check it. KEY as for `state`."""
    with current().client() as client:
        found = client.proof(names.state_key(key), height)
    emit(found.to_dict(), lambda: fields(found.to_dict()))


@chain.command(
    "verify",
    examples=(
        "mpisa chain verify",
        "mpisa chain verify --genesis genesis.json --json",
        "mpisa chain verify --skipping --against http://127.0.0.1:9001",
    ),
)
@click.option(
    "--genesis",
    metavar="FILE|HASH",
    help="Genesis document to trust.  [default: the home's, else the node's]",
)
@click.option("--trust", "trusted", metavar="HEIGHT:HASH", help="A later header to trust and to begin with.")
@click.option("--skipping", is_flag=True, help="Check each epoch's closing header and the head alone.")
@click.option("--against", metavar="URL", multiple=True, help="Another node, which must not contradict; repeatable.")
@click.option("--co-signatures", "cosigned", is_flag=True, help="Check ML-DSA-65 signatures of closing headers too.")
def verify(genesis: str | None, trusted: str | None, skipping: bool, against: tuple[str, ...], cosigned: bool) -> None:
    """Check links and certificates from genesis on, here."""
    with current().client() as client:
        found = client.verify_chain(
            genesis=genesis, trusted=trusted, skipping=skipping, against=against, cosigned=cosigned
        )
    data: dict[str, Any] = {"height": found.height, "headers_checked": found.headers_checked, "valid": found.valid}
    if found.compared:
        data["compared"] = list(found.compared)
    if found.cosigned is not None:
        data["cosigned"] = [item.to_dict() for item in found.cosigned]
    emit(data, f"valid: {found.headers_checked} headers up to height {found.height}, certificates checked here")
    note(f"genesis {found.genesis_hash}; {found.trust}")
    for item in found.cosigned or ():
        note(f"epoch {item.epoch}, closed at height {item.height}: {item.power} of {item.total_power} power co-signed")


@chain.command("report", examples=("mpisa chain report conflict.json",))
@click.argument("path", metavar="FILE")
def report(path: str) -> None:
    """Report certified headers that contradict each other; whoever signed both is convicted.

    FILE holds {"headers": [{"header": HEX, "certificate": HEX}, ...]}: two of one height, or one above its epoch's end.
    """
    headers = _read_case(path).get("headers")
    if not isinstance(headers, list):
        raise UsageError(f"{path}: headers: expected a list")
    try:
        pairs = [(bytes.fromhex(item["header"]), bytes.fromhex(item["certificate"])) for item in headers]
    except (TypeError, KeyError, ValueError):
        raise UsageError(f"{path}: headers: expected objects with header and certificate in hex") from None
    with current().client() as client:
        found = client.report(pairs)
    rows = [(item.kind, item.address, item.epoch, item.position) for item in found.offences]
    emit(found.to_dict(), lambda: table(rows, ("offence", "validator", "epoch", "height")))


@chain.command("decide", examples=("mpisa chain decide dag.json --json", "mpisa chain decide - < dag.json"))
@click.argument("path", metavar="FILE")
def decide(path: str) -> None:
    """Replay a DAG through the commit rule and print what it decides and commits; needs no node.

    FILE holds one case or {"cases": [...]}; then the answer is a list in the same order.
    """
    body = _read_case(path)
    cases = body.get("cases")
    if cases is None:
        answer: Any = _decide(body, path)
    elif isinstance(cases, list):
        answer = [_decide(case, f"{path}: case {at}") for at, case in enumerate(cases)]
    else:
        raise UsageError(f"{path}: cases: expected a list, found {type(cases).__name__}")
    emit(answer, lambda: json.dumps(answer, indent=2))


def _read_case(path: str) -> dict[str, Any]:
    if path == "-":
        data = sys.stdin.buffer.read(MAX_CASE_BYTES + 1)
    else:
        with Path(path).open("rb") as stream:
            data = stream.read(MAX_CASE_BYTES + 1)
    if len(data) > MAX_CASE_BYTES:
        raise UsageError(f"{path}: longer than {MAX_CASE_BYTES} bytes")
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(body, dict):
        raise UsageError(f"{path}: expected a JSON object, found {type(body).__name__}")
    return body


def _decide(case: Any, where: str) -> dict[str, Any]:
    from consensus.replay import decide_case

    if not isinstance(case, dict):
        raise UsageError(f"{where}: expected a JSON object, found {type(case).__name__}")
    try:
        return decide_case(case)
    except Rejection as error:
        raise UsageError(f"{where}: {error}", hint=error.hint) from None


@chain.command("watch", examples=("mpisa chain watch", "mpisa chain watch --count 5 --json"))
@click.option("--count", type=click.IntRange(min=1), help="Stop after that many events.")
@click.option("--kind", "kinds", multiple=True, help="Only events of this kind; may be repeated.")
def watch(count: int | None, kinds: tuple[str, ...]) -> None:
    """Events as they happen: blocks, certificates, transactions, peers, pins. Ctrl-C ends it."""
    shown = 0
    with current().client() as client:
        for event in client.events():
            if kinds and event.kind not in kinds:
                continue
            about = "  ".join(f"{name}={plain(value)}" for name, value in event.data.items())
            emit_line({"id": event.id, "kind": event.kind, "data": event.data}, f"{event.kind:<12}{about}")
            shown += 1
            if shown == count:
                return
