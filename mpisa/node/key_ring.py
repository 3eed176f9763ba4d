"""The keys that a node holds while it runs: those it began with, and the next ones as they come to lie in its home.

Keys are changed without a stop: `mpisa node rotate-keys` puts the next ones beside the present ones and asks the ledger
for the change. Before the node enters an epoch it looks at its home again, and once no epoch that names the old keys is
open any more, the next ones become the present ones. Nothing is lost on the way: old key files are kept aside.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

import structlog

from mpisa.config import Role
from mpisa.primitives.errors import MpisaError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from consensus.dag.committee import Committee
    from consensus.identity import Seat
    from mpisa.node.home import Home, NodeKeys
    from mpisa.primitives.keys import PrivateKey
    from mpisa.primitives.validator_record import ValidatorRecord

log = structlog.get_logger(__name__)


class KeyRing:
    """See the module. Any thread."""

    def __init__(self, home: Home, keys: NodeKeys, passphrase: bytes | None = None) -> None:
        self._home = home
        self._hold(keys)
        self._passphrase = passphrase
        self._lock = Lock()

    @property
    def keys(self) -> NodeKeys:
        """What is held now."""
        return self._keys

    def seat_in(self, committee: Committee) -> Seat | None:
        """See `consensus.identity.Identity`."""
        return self._keys.identity.seat_in(committee)

    def signer_among(self, validators: Iterable[ValidatorRecord]) -> PrivateKey | None:
        """The key that signs headers of a set, if one of its validators is this node."""
        held = self._held
        return next((held[item.address] for item in validators if item.address in held), None)

    def refresh(self) -> None:
        """Read the home's keys again; blocks. Where that fails the node goes on with those that it holds."""
        with self._lock:
            self._read()

    def settle(self, record: ValidatorRecord | None) -> None:
        """Adopt the next keys where the only open epoch names this node (as `record`) by them; blocks."""
        with self._lock:
            keys = self._keys
            following = {
                "consensus": keys.next_consensus,
                "certificate": keys.next_certificate,
            }
            named = {} if record is None else {"consensus": record.consensus_key, "certificate": record.address}
            adopted = []
            for name, key in following.items():
                own = None if key is None else key.address if name == "certificate" else key.public_key.data
                if own is not None and named.get(name) == own:
                    self._home.adopt_next_key(name)
                    adopted.append(name)
            if adopted:
                self._read()
                log.info("next keys adopted", keys=adopted)

    def _hold(self, keys: NodeKeys) -> None:
        self._keys = keys
        self._held = {key.address: key for key in keys.certificates}

    def _read(self) -> None:
        if self._keys.certificate is None:
            return
        try:
            self._hold(self._home.read_keys(Role.VALIDATOR, self._passphrase))
        except MpisaError as error:
            log.error("the home's keys can't be read, those held stay in use", reason=str(error), hint=error.hint)
