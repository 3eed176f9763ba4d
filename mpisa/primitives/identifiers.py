"""Names of things: numbered places on the chain, account addresses, artefact names, chain ids.

Addresses are 20 bytes, shown as 0x and 40 lower-case hex digits; mixed-case input must satisfy the checksum of EIP-55,
so that a mistyped address is caught where its writer gave us the means. Artefact names are `owner/model@tag`, in lower
case only: two names that differ in case alone would invite impersonation.
"""

import re
from dataclasses import dataclass
from typing import Final, NewType

from mpisa.primitives.errors import Rejection, RejectionReason

Round = NewType("Round", int)
Epoch = NewType("Epoch", int)
Height = NewType("Height", int)
AuthorityIndex = NewType("AuthorityIndex", int)
Address = NewType("Address", bytes)

ADDRESS_BYTES: Final = 20
DEFAULT_TAG: Final = "latest"
MAX_OWNER_LENGTH: Final = 39
MAX_MODEL_LENGTH: Final = 96
MAX_TAG_LENGTH: Final = 64
MAX_CHAIN_ID_LENGTH: Final = 64

_WORD = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*\Z")
# Models and tags live below one owner, so look-alikes in case harm nobody else, and people write Llama-3 and v1.0-RC1.
_MIXED_CASE_WORD = re.compile(r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*\Z")
_HEX_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")


def keccak256(data: bytes) -> bytes:
    """Ethereum's Keccak-256 (not SHA3-256): 32 bytes. Used for EVM addresses and their checksum only."""
    # Importing it takes as long as the rest of this room together: a start that needs no EVM address goes without.
    from Crypto.Hash import keccak

    return keccak.new(digest_bits=256, data=data).digest()


def format_address(address: bytes) -> str:
    """0x and 40 lower-case hex digits."""
    return "0x" + address.hex()


def checksum_address(address: bytes) -> str:
    """The address in the mixed case of EIP-55."""
    digits = address.hex()
    check = keccak256(digits.encode("ascii")).hex()
    return "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit for digit, nibble in zip(digits, check, strict=False)
    )


def parse_address(text: str) -> Address:
    """An address from 0x and 40 hex digits. Raises Rejection(BAD_ADDRESS); mixed case must satisfy EIP-55."""
    if not _HEX_ADDRESS.match(text):
        raise Rejection(
            RejectionReason.BAD_ADDRESS, f"expected 0x and {2 * ADDRESS_BYTES} hex digits, got {_shorten(text)}"
        )
    digits = text[2:]
    address = Address(bytes.fromhex(digits))
    if digits not in (digits.lower(), digits.upper()) and text != checksum_address(address):
        raise Rejection(
            RejectionReason.BAD_ADDRESS,
            f"the mixed case of {text} doesn't match its EIP-55 checksum; without one, write lower case",
        )
    return address


def validate_address(address: bytes) -> Address:
    """The same 20 bytes as an Address. Raises Rejection(BAD_ADDRESS) for another length."""
    if len(address) != ADDRESS_BYTES:
        raise Rejection(RejectionReason.BAD_ADDRESS, f"expected {ADDRESS_BYTES} bytes, got {len(address)}")
    return Address(address)


@dataclass(frozen=True, slots=True, order=True)
class ArtefactName:
    """`owner/model@tag`: three words of letters, digits and single inner `.`, `_` or `-`; the owner in lower case."""

    owner: str
    model: str
    tag: str = DEFAULT_TAG

    def __post_init__(self) -> None:
        validate_owner(self.owner)
        _validate_below_owner("model", self.model, MAX_MODEL_LENGTH)
        _validate_below_owner("tag", self.tag, MAX_TAG_LENGTH)

    @classmethod
    def parse(cls, text: str) -> "ArtefactName":
        """From `owner/model` or `owner/model@tag`. Raises Rejection(BAD_NAME)."""
        path, at, tag = text.partition("@")
        owner, slash, model = path.partition("/")
        if not slash:
            raise Rejection(RejectionReason.BAD_NAME, f"expected owner/model@tag, got {_shorten(text)}")
        return cls(owner, model, tag if at else DEFAULT_TAG)

    def __str__(self) -> str:
        return f"{self.owner}/{self.model}@{self.tag}"


def validate_owner(owner: str) -> str:
    """The owner handle itself. Raises Rejection(BAD_NAME)."""
    if len(owner) > MAX_OWNER_LENGTH or not _WORD.match(owner):
        raise Rejection(
            RejectionReason.BAD_NAME,
            f"owner: expected at most {MAX_OWNER_LENGTH} lower-case letters, digits and single inner . _ -, "
            f"got {_shorten(owner)}",
        )
    return owner


def validate_chain_id(chain_id: str) -> str:
    """The chain id itself: 1 to 64 characters, words as in artefact names. Raises Rejection(BAD_CHAIN_ID)."""
    if len(chain_id) > MAX_CHAIN_ID_LENGTH or not _WORD.match(chain_id):
        raise Rejection(
            RejectionReason.BAD_CHAIN_ID,
            f"expected at most {MAX_CHAIN_ID_LENGTH} lower-case letters, digits and single inner . _ -, "
            f"got {_shorten(chain_id)}",
        )
    return chain_id


def _validate_below_owner(what: str, word: str, max_length: int) -> None:
    if len(word) > max_length or not _MIXED_CASE_WORD.match(word):
        raise Rejection(
            RejectionReason.BAD_NAME,
            f"{what}: expected at most {max_length} letters, digits and single inner . _ -, got {_shorten(word)}",
        )


def _shorten(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
