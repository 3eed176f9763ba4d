"""The directory one node lives in, and the lock that keeps a second node out of it.

    HOME/config.toml                                     settings
    HOME/genesis.json                                    the chain's genesis document, word for word
    HOME/keys/{node,consensus,certificate}.json          0600: libp2p identity, vertices, certificates
    HOME/keys/next-{consensus,certificate}.json          0600: the keys to be used once the validator set names them
    HOME/keys/former-{consensus,certificate}-N.json      0600: those that were used before
    HOME/keys/operator.json                              0600: the operator's, where a certificate key was it
    HOME/keys/post-quantum.json                          0600: ML-DSA-65, for co-signatures; optional
    HOME/blocks/  HOME/ledger/  HOME/consensus/          the stores
    HOME/ledger.joining/                                 a ledger on its way from a snapshot
    HOME/consensus.lost                                  when and why a repair lost what this authority had signed
    HOME/ipns/                                           IPNS records, a file a name
    HOME/peers.json                                      addresses seen before
    HOME/log/node.log                                    rotated
    HOME/node.lock                                       held while a node runs; holds its pid

The lock is the kernel's (flock), so it is gone the moment its process is, however that ended.
"""

from __future__ import annotations

import fcntl
import itertools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from consensus.identity import Identity
from mpisa.config import CONFIG_NAME, NodeConfig, Role, read_config, write_config
from mpisa.primitives.errors import Denied, InvalidConfig, NotFound, Rejection, RejectionReason, StoreBusy
from mpisa.primitives.genesis import Genesis
from mpisa.primitives.key_file import decode_key_file, encode_key_file
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key

if TYPE_CHECKING:
    from types import TracebackType

KEY_KINDS = {"node": KeyKind.ED25519, "consensus": KeyKind.ED25519, "certificate": KeyKind.SECP256K1}
OPERATOR, POST_QUANTUM = "operator", "post-quantum"
_OTHER_KINDS = {OPERATOR: KeyKind.SECP256K1, POST_QUANTUM: KeyKind.ML_DSA_65}
NEXT = "next-"
MAX_LOSS_BYTES = 16 * 1024
MAX_KEY_FILE_BYTES = 64 * 1024
MAX_GENESIS_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """A node's keys. A follower has only `node`; a validator that changes its keys holds the next ones as well."""

    node: PrivateKey
    consensus: PrivateKey | None = None
    certificate: PrivateKey | None = None
    next_consensus: PrivateKey | None = None
    next_certificate: PrivateKey | None = None
    post_quantum: PrivateKey | None = None

    @property
    def certificates(self) -> tuple[PrivateKey, ...]:
        """Every key that may sign headers."""
        return tuple(key for key in (self.certificate, self.next_certificate) if key is not None)

    @property
    def identity(self) -> Identity:
        """What consensus looks for in a committee."""
        vertex_keys = tuple(key for key in (self.consensus, self.next_consensus) if key is not None)
        return Identity(tuple(key.public_key.address for key in self.certificates), vertex_keys)


@dataclass(frozen=True, slots=True)
class Loss:
    """What was signed before this moment (ms since 1970) isn't known any more, and why."""

    noticed_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Home:
    """Where each thing lies in a node's directory."""

    path: Path

    @property
    def config_file(self) -> Path:
        return self.path / CONFIG_NAME

    @property
    def genesis_file(self) -> Path:
        return self.path / "genesis.json"

    @property
    def keys(self) -> Path:
        return self.path / "keys"

    @property
    def blocks(self) -> Path:
        return self.path / "blocks"

    @property
    def ledger(self) -> Path:
        return self.path / "ledger"

    @property
    def snapshot(self) -> Path:
        """A ledger that is being made from a snapshot."""
        return self.path / "ledger.joining"

    @property
    def consensus(self) -> Path:
        return self.path / "consensus"

    @property
    def marks(self) -> Path:
        """Where a garbage collection keeps marks while it runs."""
        return self.path / "marks"

    @property
    def pins(self) -> Path:
        return self.path / "pins"

    @property
    def peer_store(self) -> Path:
        return self.path / "peers.json"

    @property
    def ipns(self) -> Path:
        return self.path / "ipns"

    @property
    def loss_file(self) -> Path:
        return self.path / "consensus.lost"

    def read_loss(self) -> Loss | None:
        """Why the vertex store can't say what this authority signed; None when it can. Raises InvalidConfig."""
        try:
            when, _, reason = self.loss_file.read_text(encoding="utf-8")[:MAX_LOSS_BYTES].strip().partition(" ")
        except FileNotFoundError:
            return None
        if not when.isascii() or not when.isdigit():
            raise InvalidConfig(f"{self.loss_file}: expected a time in milliseconds and a reason, found {when[:40]!r}")
        return Loss(int(when), reason)

    def write_loss(self, loss: Loss) -> None:
        """Durable before anything is repaired: this authority signs no vertex of an epoch that has begun by now."""
        with self.loss_file.open("w", encoding="utf-8") as stream:
            stream.write(f"{loss.noticed_ms} {loss.reason}\n")
            stream.flush()
            os.fsync(stream.fileno())
        _sync_directory(self.path)

    @property
    def log_file(self) -> Path:
        return self.path / "log" / "node.log"

    @property
    def lock_file(self) -> Path:
        return self.path / "node.lock"

    def read_config(self) -> NodeConfig:
        """Raises InvalidConfig."""
        return read_config(self.config_file)

    def read_genesis(self) -> Genesis:
        """Raises InvalidConfig that names the file and what is wrong with it."""
        text = self.read_genesis_text()
        try:
            return Genesis.from_json(text)
        except Rejection as rejection:
            raise InvalidConfig(f"{self.genesis_file}: {rejection}", hint=rejection.hint) from None

    def read_genesis_text(self) -> str:
        """The genesis document word for word."""
        try:
            if self.genesis_file.stat().st_size > MAX_GENESIS_BYTES:
                raise InvalidConfig(f"{self.genesis_file}: expected at most {MAX_GENESIS_BYTES} bytes")
            return self.genesis_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise InvalidConfig(
                f"{self.genesis_file}: there is no such file",
                hint="copy the network's genesis.json there, or `mpisa node init --genesis FILE`",
            ) from None
        except UnicodeDecodeError as error:
            raise InvalidConfig(f"{self.genesis_file}: not UTF-8 text at byte {error.start}") from None

    def read_key(self, name: str, passphrase: bytes | None = None) -> PrivateKey:
        """One of the node's keys. Raises NotFound, or InvalidConfig for a wrong kind or loose permissions."""
        file = self.keys / f"{name}.json"
        try:
            status = file.stat()
            if status.st_mode & 0o077:
                raise InvalidConfig(
                    f"{file}: others can read it (mode {status.st_mode & 0o777:o}), expected 600",
                    hint=f"chmod 600 {file}",
                )
            if status.st_size > MAX_KEY_FILE_BYTES:
                raise InvalidConfig(f"{file}: expected at most {MAX_KEY_FILE_BYTES} bytes")
            key = decode_key_file(file.read_bytes(), passphrase)
        except FileNotFoundError:
            raise NotFound(f"{file}: there is no such key file", hint=f"mpisa node init --home {self.path}") from None
        except Rejection as rejection:
            if rejection.reason in (RejectionReason.PASSPHRASE_NEEDED, RejectionReason.WRONG_PASSPHRASE):
                raise Denied(
                    f"{file}: {rejection.detail}", hint="set MPISA_PASSPHRASE to the passphrase it was sealed with"
                ) from None
            raise InvalidConfig(f"{file}: {rejection}", hint="restore the key file from a copy") from None
        expected = _OTHER_KINDS.get(name) or KEY_KINDS[name.removeprefix(NEXT)]
        if key.kind is not expected:
            raise InvalidConfig(f"{file}: expected a key of kind {expected.value}, found {key.kind.value}")
        return key

    def read_keys(self, role: Role, passphrase: bytes | None = None) -> NodeKeys:
        """The keys a node of this role needs."""
        node = self.read_key("node", passphrase)
        if role is Role.FOLLOWER:
            return NodeKeys(node)
        return NodeKeys(
            node,
            self.read_key("consensus", passphrase),
            self.read_key("certificate", passphrase),
            self._read_optional(f"{NEXT}consensus", passphrase),
            self._read_optional(f"{NEXT}certificate", passphrase),
            self._read_optional(POST_QUANTUM, passphrase),
        )

    def _read_optional(self, name: str, passphrase: bytes | None) -> PrivateKey | None:
        return self.read_key(name, passphrase) if (self.keys / f"{name}.json").exists() else None

    def write_next_keys(
        self, consensus: PrivateKey | None, certificate: PrivateKey | None, passphrase: bytes | None = None
    ) -> None:
        """Keeps the keys that a change of keys will name. Raises InvalidConfig where next keys wait already."""
        for name, key in (("consensus", consensus), ("certificate", certificate)):
            if key is not None:
                _write_key(self.keys / f"{NEXT}{name}.json", key, passphrase)
        _sync_directory(self.keys)

    def make_next_keys(self, *, consensus: bool, certificate: bool, passphrase: bytes | None = None) -> None:
        """Fresh random ones of the kinds wanted, where none wait already."""
        for name, wanted in (("consensus", consensus), ("certificate", certificate)):
            file = self.keys / f"{NEXT}{name}.json"
            if wanted and not file.exists():
                _write_key(file, private_key(KEY_KINDS[name], os.urandom(32)), passphrase)
        _sync_directory(self.keys)

    def make_post_quantum_key(self, passphrase: bytes | None = None) -> None:
        """A fresh random ML-DSA-65 key, where there is none."""
        file = self.keys / f"{POST_QUANTUM}.json"
        if not file.exists():
            _write_key(file, private_key(KeyKind.ML_DSA_65, os.urandom(32)), passphrase)
            _sync_directory(self.keys)

    def adopt_next_keys(self) -> None:
        """The next keys become the present ones: once no epoch that names the old ones is open any more."""
        for name in ("consensus", "certificate"):
            self.adopt_next_key(name)

    def adopt_next_key(self, name: str) -> None:
        """The same for one of them; at every moment there is a present key, and the old one is kept aside."""
        following, present = self.keys / f"{NEXT}{name}.json", self.keys / f"{name}.json"
        if not following.exists():
            return
        for number in itertools.count(1):
            former = self.keys / f"former-{name}-{number}.json"
            try:
                former.hardlink_to(present)
            except FileExistsError:
                continue
            break
        following.replace(present)
        _sync_directory(self.keys)

    @property
    def operator_key_name(self) -> str:
        """Which key of the home opens its operator's account, where no other account is the operator."""
        return OPERATOR if (self.keys / f"{OPERATOR}.json").exists() else "certificate"

    def keep_operator_key(self) -> None:
        """Keep the certificate key as the operator's, whose account it opens, before another takes its place."""
        kept = self.keys / f"{OPERATOR}.json"
        if not kept.exists():
            kept.hardlink_to(self.keys / "certificate.json")
            _sync_directory(self.keys)


def new_keys(role: Role, *, post_quantum: bool = False) -> NodeKeys:
    """Fresh random keys for a node of this role; of a validator also one to co-sign with, where wanted."""
    made = {name: private_key(kind, os.urandom(32)) for name, kind in KEY_KINDS.items()}
    if role is Role.FOLLOWER:
        return NodeKeys(made["node"])
    cosigning = private_key(KeyKind.ML_DSA_65, os.urandom(32)) if post_quantum else None
    return NodeKeys(made["node"], made["consensus"], made["certificate"], post_quantum=cosigning)


def init_home(
    path: Path,
    config: NodeConfig,
    *,
    genesis_text: str | None = None,
    keys: NodeKeys | None = None,
    passphrase: bytes | None = None,
) -> Home:
    """Makes a node's directory: settings, keys (random unless given) and the genesis document when there is one.

    Raises InvalidConfig when the directory already holds a node's settings or keys: nothing is ever overwritten.
    """
    home = Home(path)
    if home.config_file.exists():
        raise InvalidConfig(f"{home.config_file} exists already", hint="choose another --home")
    genesis = Genesis.from_json(genesis_text) if genesis_text is not None else None
    path.mkdir(parents=True, exist_ok=True)
    home.keys.mkdir(mode=0o700, exist_ok=True)
    chosen = keys if keys is not None else new_keys(config.role)
    for name in KEY_KINDS:
        key: PrivateKey | None = getattr(chosen, name)
        if key is not None:
            _write_key(home.keys / f"{name}.json", key, passphrase)
    if chosen.post_quantum is not None:
        _write_key(home.keys / f"{POST_QUANTUM}.json", chosen.post_quantum, passphrase)
    if genesis is not None and genesis_text is not None:
        home.genesis_file.write_text(genesis_text, encoding="utf-8")
    write_config(home.config_file, config)
    return home


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_key(file: Path, key: PrivateKey, passphrase: bytes | None) -> None:
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidConfig(f"{file} exists already", hint="choose another --home") from None
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(encode_key_file(key, passphrase=passphrase, salt=os.urandom(16), nonce=os.urandom(12)))
        stream.flush()
        os.fsync(stream.fileno())


class HomeLock:
    """Holds a home for this process; a context manager."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Raises StoreBusy, which names the pid of the node that runs on this home."""
        descriptor = os.open(self._home.lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreBusy(
                f"another node (pid {holder}) already runs on {self._home.path}",
                hint="stop it first, or give this node another --home",
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Lets the next node in; harmless when not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> HomeLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
