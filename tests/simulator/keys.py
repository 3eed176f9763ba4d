"""Keys of simulated nodes and committees of them: the same seat has the same keys in every run."""

from functools import cache

from consensus.dag.committee import Authority, Committee
from mpisa.primitives.digest import sha256, tagged
from mpisa.primitives.identifiers import AuthorityIndex
from mpisa.primitives.keys import KeyKind, PrivateKey, private_key

CHAIN_HASH = tagged("chain", b"simulator")
ANCHOR = tagged("anchor", b"simulator")
SPARE = 1_000
GENERATION = 10_000

Keys = tuple[PrivateKey, PrivateKey]


@cache
def keys_of(seat: int) -> Keys:
    """The vertex key and the certificate key of a seat."""
    material = seat.to_bytes(4, "big")
    return (
        private_key(KeyKind.ED25519, sha256(b"vertex", material)),
        private_key(KeyKind.SECP256K1, sha256(b"header", material)),
    )


@cache
def seats(count: int) -> tuple[Keys, ...]:
    """The keys of so many seats, ascending by address: seat i is authority i of a committee of them all."""
    return tuple(sorted((keys_of(seat) for seat in range(count)), key=lambda pair: pair[1].address))


def seat_keys(seat: int, members: int, generation: int = 0) -> Keys:
    """The keys of a node: of the first committee's members those of `seats`, of others and later ones their own."""
    if generation == 0 and seat < members:
        return seats(members)[seat]
    return keys_of(SPARE + seat + GENERATION * generation)


@cache
def committee_of(powers: tuple[int, ...]) -> tuple[Committee, tuple[Keys, ...]]:
    """A committee of these powers, and its keys by authority."""
    pairs = seats(len(powers))
    authorities = [
        Authority(AuthorityIndex(index), pair[1].address, power, pair[0].public_key.data)
        for index, (pair, power) in enumerate(zip(pairs, powers, strict=True))
    ]
    return Committee(authorities), pairs


@cache
def client_key(number: int) -> PrivateKey:
    """The key of a client's account."""
    return private_key(KeyKind.ED25519, sha256(b"client", number.to_bytes(4, "big")))


@cache
def operator_key(seat: int) -> PrivateKey:
    """The key of the account that runs a seat's validator."""
    return private_key(KeyKind.ED25519, sha256(b"operator", seat.to_bytes(4, "big")))
