"""Making a devnet's home: keys, genesis document, one home a node, funded accounts.

Keys are random unless a seed is given, from which each is then derived by role and number. Validators are numbered in
the order of the committee (ascending certificate address), so that node1 is authority 0. The home is marked as ours
before anything else is written, and devnet.json comes last: a making that was cut short is recognised and done again.
"""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from devnet import state
from devnet.plan import (
    ACCOUNT_BALANCE,
    ACCOUNT_NAMES,
    DEFAULT_ACCOUNTS,
    DEFAULT_CHAIN_ID,
    DEFAULT_NODES,
    FAUCET_LIMIT,
    MIN_EPOCH_MS,
    POWER_UNIT,
    Plan,
    Say,
)
from devnet.ports import HOST, choose_ports
from devnet.state import DevnetAccount, DevnetNode, Manifest
from mpisa.config import ApiConfig, NodeConfig, PeerConfig, PeerEntry
from mpisa.network.peer_id import peer_id_of
from mpisa.node.home import Home, NodeKeys, init_home
from mpisa.primitives import digest
from mpisa.primitives.errors import InvalidConfig, Rejection
from mpisa.primitives.genesis import ChainParameters, Genesis, GenesisAccount
from mpisa.primitives.identifiers import format_address
from mpisa.primitives.key_file import decode_key_file, encode_key_file
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key
from mpisa.primitives.staking_parameters import StakingParameters
from mpisa.primitives.validator_record import ValidatorRecord

GENESIS = "genesis.json"
PORTS_PER_NODE = 3
"""API, peer port, libp2p."""


@dataclass(frozen=True, slots=True)
class _Account:
    name: str
    key: PrivateKey
    file: Path


@dataclass(frozen=True, slots=True)
class _Member:
    """A validator to be: its keys and its three ports."""

    name: str
    keys: NodeKeys
    peer_id: str
    api_port: int
    peer_port: int
    libp2p_port: int

    @property
    def entry(self) -> PeerEntry:
        """How the others find it."""
        return PeerEntry(self.peer_id, (f"/ip4/{HOST}/tcp/{self.libp2p_port}",), f"https://{HOST}:{self.peer_port}")


def make(home: Path, plan: Plan, say: Say) -> Manifest:
    """Make everything a devnet needs in `home`. Raises InvalidConfig when something else lives there."""
    if (home / "config.toml").exists():
        raise InvalidConfig(f"{home} is the home of a single node", hint="choose another --home for the devnet")
    if state.is_devnet_home(home):
        discard_unfinished(home)
    foreign = [path.name for path in sorted(home.glob("node*")) if path.is_dir()]
    if foreign:
        raise InvalidConfig(
            f"{home} already holds {', '.join(foreign[:3])}, which no devnet made", hint="choose another --home"
        )
    count = plan.nodes or DEFAULT_NODES
    ports = choose_ports(count * PORTS_PER_NODE, plan.base_port)
    state.write_processes(home, {})
    accounts = _make_accounts(home, plan)
    members = _make_members(plan, count, ports)
    genesis = _make_genesis(plan, members, accounts)
    text = genesis.to_json()
    (home / GENESIS).write_text(text, encoding="utf-8")
    for member in members:
        _make_home(home / member.name, member, members, text)
    manifest = Manifest(
        chain_id=genesis.chain_id,
        home=home,
        nodes=tuple(
            DevnetNode(m.name, f"http://{HOST}:{m.api_port}", m.peer_id, None, index, home / m.name)
            for index, m in enumerate(members)
        ),
        accounts=tuple(DevnetAccount(a.name, format_address(a.key.public_key.address), a.file) for a in accounts),
    )
    state.write_json(home / state.MANIFEST, manifest.to_json())
    say(f"made {count} validators and {len(accounts)} accounts in {home}")
    return manifest


def _seed(plan: Plan, role: str, number: int) -> bytes:
    if plan.seed is None:
        return os.urandom(32)
    return digest.tagged("devnet-key", plan.seed.encode(), b"\0", role.encode(), number.to_bytes(4, "big"))


def _make_accounts(home: Path, plan: Plan) -> tuple[_Account, ...]:
    directory = home / state.ACCOUNTS
    directory.mkdir(mode=0o700, exist_ok=True)
    names = ACCOUNT_NAMES[: plan.accounts or DEFAULT_ACCOUNTS]
    made = []
    for number, name in enumerate(names):
        file = directory / f"{name}.json"
        if file.exists():
            key = _read_account(file)
        else:
            key = private_key(KeyKind.ED25519, _seed(plan, "account", number))
            _write_account(file, key)
        made.append(_Account(name, key, file))
    return tuple(made)


def _read_account(file: Path) -> PrivateKey:
    try:
        return decode_key_file(file.read_bytes(), None)
    except Rejection as error:
        raise InvalidConfig(
            f"{file}: can't be funded: {error}", hint="move it away, or choose another --home"
        ) from None


def _write_account(file: Path, key: PrivateKey) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(encode_key_file(key, passphrase=None, salt=os.urandom(16), nonce=os.urandom(12)))


def _make_members(plan: Plan, count: int, ports: tuple[int, ...]) -> tuple[_Member, ...]:
    keys = []
    for number in range(count):
        certificate = private_key(KeyKind.SECP256K1, _seed(plan, "certificate", number))
        keys.append(
            NodeKeys(
                node=private_key(KeyKind.ED25519, _seed(plan, "node", number)),
                consensus=private_key(KeyKind.ED25519, _seed(plan, "consensus", number)),
                certificate=certificate,
            )
        )
    keys.sort(key=_certificate_address)
    return tuple(
        _Member(f"node{at + 1}", owned, peer_id_of(owned.node.public_key.data), *ports[at * 3 : at * 3 + 3])
        for at, owned in enumerate(keys)
    )


def _certificate_address(keys: NodeKeys) -> bytes:
    assert keys.certificate is not None
    return keys.certificate.public_key.address


def _make_genesis(plan: Plan, members: tuple[_Member, ...], accounts: tuple[_Account, ...]) -> Genesis:
    validators = []
    for member in members:
        assert member.keys.consensus is not None
        assert member.keys.certificate is not None
        validators.append(
            ValidatorRecord(
                name=member.name,
                address=member.keys.certificate.public_key.address,
                power=1,
                consensus_key=member.keys.consensus.public_key.data,
                peer_id=member.peer_id,
            )
        )
    funded = [GenesisAccount(a.key.public_key.address, ACCOUNT_BALANCE, a.key.public_key) for a in accounts]
    genesis = Genesis(
        chain_id=plan.chain_id or DEFAULT_CHAIN_ID,
        time_ms=time.time_ns() // 1_000_000,
        parameters=ChainParameters(
            faucet_limit=0 if plan.faucet is False else FAUCET_LIMIT,
            staking=StakingParameters(power_unit=POWER_UNIT, minimum_stake=POWER_UNIT, min_epoch_ms=MIN_EPOCH_MS),
        ),
        validators=tuple(validators),
        accounts=tuple(sorted(funded, key=lambda account: account.address)),
    )
    genesis.validate()
    return genesis


def _make_home(path: Path, member: _Member, members: tuple[_Member, ...], genesis_text: str) -> None:
    config = NodeConfig(
        name=member.name,
        devnet=True,
        api=ApiConfig(host=HOST, port=member.api_port),
        peer=PeerConfig(
            host=HOST,
            port=member.peer_port,
            libp2p_port=member.libp2p_port,
            peers=tuple(other.entry for other in members if other is not member),
        ),
    )
    init_home(path, config, genesis_text=genesis_text, keys=member.keys)


def why_unreadable(home: Path) -> str | None:
    """What this version can't read of a devnet's genesis document; None when it can."""
    try:
        Genesis.from_json((home / GENESIS).read_text(encoding="utf-8"))
    except (Rejection, OSError, UnicodeDecodeError) as error:
        return f"{home / GENESIS}: {error}"
    return None


def discard_unfinished(home: Path) -> None:
    """Delete what an interrupted making left in a home that is marked as ours; accounts stay."""
    for path in home.glob("node*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
    for name in (GENESIS, state.MANIFEST):
        (home / name).unlink(missing_ok=True)


def empty_node(home: Path) -> None:
    """Delete what a node's chain and stores hold; settings, keys and genesis stay."""
    paths = Home(home)
    for directory in (paths.blocks, paths.ledger, paths.consensus, paths.pins, paths.log_file.parent):
        if directory.is_symlink():
            raise InvalidConfig(f"{directory} is a symbolic link: nothing behind it was deleted")
        if directory.exists():
            shutil.rmtree(directory)
    paths.peer_store.unlink(missing_ok=True)
