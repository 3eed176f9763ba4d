"""Which authority this node is in an epoch, if any (docs/protocol.md, section 16).

A node holds keys, not a place: in each committee it looks its own up by the address of its certificate key. While keys
are rotated it holds the next ones as well, and whichever the committee names counts.
"""

from dataclasses import dataclass
from typing import Final, Protocol

from consensus.dag.committee import Committee
from mpisa.primitives.identifiers import Address, AuthorityIndex
from mpisa.primitives.keys import PrivateKey


@dataclass(frozen=True, slots=True)
class Seat:
    """An own place in a committee: its index, and the key that signs its vertices."""

    index: AuthorityIndex
    key: PrivateKey


class Seats(Protocol):
    """Whoever finds its own places in committees: keys that never change, or a ring of them that the shell keeps."""

    def seat_in(self, committee: Committee) -> Seat | None:
        """The own place, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Identity:
    """Addresses of the certificate keys, and the Ed25519 vertex keys, that a node holds; a follower has none."""

    addresses: tuple[Address, ...] = ()
    keys: tuple[PrivateKey, ...] = ()

    def seat_in(self, committee: Committee) -> Seat | None:
        """The first authority of the committee whose address and vertex key are both held here."""
        held = {key.public_key.data: key for key in self.keys}
        for authority in committee.authorities:
            if authority.address in self.addresses and authority.public_key in held:
                return Seat(authority.index, held[authority.public_key])
        return None


FOLLOWER: Final = Identity()
