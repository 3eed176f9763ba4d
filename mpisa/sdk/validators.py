"""An operator's transactions from the client's side: each builds its operation for the nonce it is signed with.

Keys are shown to be held by signing for that very transaction, so an operation is built anew with each signature.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mpisa.primitives.errors import UsageError
from mpisa.primitives.keys import KeyKind
from mpisa.primitives.operations import Operation
from mpisa.primitives.validator_operations import (
    NO_KEY,
    Bond,
    ChangeValidator,
    LeaveValidator,
    Unbond,
    ValidatorKeys,
    change_validator,
    join_validator,
)
from mpisa.sdk.publishing import Signer, chain_genesis, transact, transact_built

if TYPE_CHECKING:
    from mpisa.primitives.keys import PrivateKey
    from mpisa.sdk import models
    from mpisa.sdk.async_client import AsyncClient


@dataclass(frozen=True, slots=True, repr=False)
class KeyChoice:
    """The keys to register, or to change to; `drop_post_quantum` takes that key away."""

    consensus: PrivateKey | None = None
    certificate: PrivateKey | None = None
    post_quantum: PrivateKey | None = None
    drop_post_quantum: bool = False

    def read(self) -> ValidatorKeys:
        """The keys, each of the kind that its role needs. Raises UsageError."""
        _require_kind(self.consensus, "consensus", KeyKind.ED25519)
        _require_kind(self.certificate, "certificate", KeyKind.SECP256K1)
        _require_kind(self.post_quantum, "post-quantum", KeyKind.ML_DSA_65)
        if self.drop_post_quantum and self.post_quantum is not None:
            raise UsageError("a post-quantum key is either given or taken away")
        return ValidatorKeys(self.consensus, self.certificate, self.post_quantum)


async def join(
    client: AsyncClient, signer: Signer, choice: KeyChoice, name: str, peer_id: str, stake: int, timeout: float
) -> models.Transaction:
    """Register a validator and bond a stake; in the set from the next epoch on."""
    keys = choice.read()
    if keys.consensus is None or keys.certificate is None:
        raise UsageError("a validator needs a consensus key and a certificate key")
    chain_hash = (await chain_genesis(client)).chain_hash

    def build(nonce: int) -> tuple[Operation, ...]:
        operator = signer.address
        return (join_validator(keys, chain_hash, operator, nonce, name=name, peer_id=peer_id, stake=stake),)

    return await transact_built(client, signer, build, timeout)


async def change(
    client: AsyncClient, signer: Signer, choice: KeyChoice, peer_id: str | None, timeout: float
) -> models.Transaction:
    """Change keys or the peer id from the next epoch on."""
    keys = choice.read()
    chain_hash = (await chain_genesis(client)).chain_hash

    def build(nonce: int) -> tuple[Operation, ...]:
        built = change_validator(keys, chain_hash, signer.address, nonce, peer_id=peer_id)
        if choice.drop_post_quantum:
            built = ChangeValidator(built.consensus, built.certificate, NO_KEY, built.peer_id)
        return (built,)

    return await transact_built(client, signer, build, timeout)


async def leave(client: AsyncClient, signer: Signer, timeout: float) -> models.Transaction:
    """Take the operator's validator out of the next epoch."""
    return await transact(client, signer, (LeaveValidator(),), timeout, idempotent=False)


async def bond(client: AsyncClient, signer: Signer, amount: int, timeout: float) -> models.Transaction:
    """Add to its stake."""
    return await transact(client, signer, (Bond(amount),), timeout, idempotent=False)


async def unbond(client: AsyncClient, signer: Signer, amount: int, timeout: float) -> models.Transaction:
    """Take of its stake."""
    return await transact(client, signer, (Unbond(amount),), timeout, idempotent=False)


def _require_kind(key: PrivateKey | None, role: str, kind: KeyKind) -> None:
    if key is not None and key.kind is not kind:
        raise UsageError(f"the {role} key: expected a key of kind {kind.value}, got {key.kind.value}")
