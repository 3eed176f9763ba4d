"""The committee: who may write vertices in an epoch, and how much stake makes a quorum (docs/protocol.md, section 2).

Thresholds are over stake, computed in integers: a quorum is more than two thirds, the validity threshold more than one
third. Any two quorums share an author outside every set that is below the validity threshold.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from consensus.parameters import MAX_AUTHORITIES
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.header import Validator, ValidatorSet
from mpisa.primitives.identifiers import Address, AuthorityIndex
from mpisa.primitives.keys import KeyKind, PublicKey


@dataclass(frozen=True, slots=True)
class Authority:
    """A member: its index (ascending address), 20-byte address of its certificate key, stake, and 32-byte Ed25519
    key.
    """

    index: AuthorityIndex
    address: Address
    power: int
    public_key: bytes
    name: str = ""

    @property
    def verification_key(self) -> PublicKey:
        """The key that signs this authority's vertices."""
        return PublicKey(KeyKind.ED25519, self.public_key)


class Committee:
    """The authorities of one epoch by index. Immutable.

    Raises Rejection(MALFORMED) for none, too many, indices out of step, or addresses out of ascending order, and
    Rejection(OUT_OF_RANGE) for a power that isn't positive.
    """

    __slots__ = ("authorities", "powers", "total")

    authorities: tuple[Authority, ...]
    powers: tuple[int, ...]
    total: int

    def __init__(self, authorities: Sequence[Authority]) -> None:
        if not 1 <= len(authorities) <= MAX_AUTHORITIES:
            raise Rejection(
                RejectionReason.MALFORMED,
                f"committee: expected 1..{MAX_AUTHORITIES} authorities, got {len(authorities)}",
            )
        for position, authority in enumerate(authorities):
            if authority.index != position:
                raise Rejection(
                    RejectionReason.MALFORMED,
                    f"committee[{position}]: expected index {position}, got {authority.index}",
                )
            if authority.power <= 0:
                raise Rejection(
                    RejectionReason.OUT_OF_RANGE,
                    f"committee[{position}]: expected a positive power, got {authority.power}",
                )
            if position and authority.address <= authorities[position - 1].address:
                raise Rejection(
                    RejectionReason.MALFORMED, f"committee[{position}]: addresses must ascend without repeats"
                )
        self.authorities = tuple(authorities)
        self.powers = tuple(authority.power for authority in authorities)
        self.total = sum(self.powers)

    def __len__(self) -> int:
        return len(self.authorities)

    def __getitem__(self, index: int) -> Authority:
        return self.authorities[index]

    def is_member(self, index: int) -> bool:
        """Whether an authority has this index."""
        return 0 <= index < len(self.authorities)

    @property
    def validator_set(self) -> ValidatorSet:
        """Addresses and powers, as headers name the set and certificates are checked against."""
        return ValidatorSet(tuple(Validator(item.address, item.power) for item in self.authorities))

    def has_equal_power(self) -> bool:
        """Whether every authority has the same stake."""
        return min(self.powers) == max(self.powers)

    def stake_of(self, authors: Iterable[int]) -> int:
        """The sum of the authors' stake; the caller names each once."""
        powers = self.powers
        return sum(powers[author] for author in authors)

    def is_quorum(self, stake: int) -> bool:
        """Whether this is more than two thirds of all stake."""
        return 3 * stake > 2 * self.total

    def is_validity(self, stake: int) -> bool:
        """Whether this is more than one third of all stake: at least one honest author is among them."""
        return 3 * stake > self.total
