"""Rules of names: `owner/model@tag` points to a CID, and only the holder of the owner handle sets it.

The first account that sets a name under a free handle claims the handle, for good. Against squatting: an account holds
a bounded number of handles, each claim burns the chain's handle fee, reserved handles are nobody's, and a handle that
starts like an address (`0x`) is refused, for it could be taken for one.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from mpisa.ledger.accounts import apply_debit
from mpisa.ledger.rules import Rules
from mpisa.ledger.state import Staged, damaged
from mpisa.primitives.account import NameEntry, OwnerEntry
from mpisa.primitives.errors import Rejection, RejectionReason
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.operations import SetName
from mpisa.primitives.state_keys import name_key, owner_key

ADDRESS_PREFIX: Final = "0x"


def apply_set_name(staged: Staged, operation: SetName, sender: Address, tx_hash: bytes, rules: Rules) -> None:
    """Set or remove a name, claiming its owner handle when that is free. Raises Rejection."""
    name = operation.name
    owner = _read_owner(staged, name.owner)
    if owner is not None and owner.account != sender:
        raise Rejection(
            RejectionReason.NOT_OWNER,
            f"{name}: {name.owner!r} is held by {format_address(owner.account)}, not by {format_address(sender)}",
        )
    key = name_key(name)
    if operation.cid is None:
        if staged.value(key) is None:
            raise Rejection(RejectionReason.UNKNOWN_NAME, f"{name}: it isn't set, so it can't be removed")
        staged.put_value(key, None)
        return
    if owner is None:
        _claim(staged, name.owner, sender, rules)
    entry = NameEntry(operation.cid, sender, rules.context.height, rules.context.time_ms, tx_hash)
    staged.put_value(key, entry.encode())


def _claim(staged: Staged, handle: str, sender: Address, rules: Rules) -> None:
    parameters = rules.parameters
    if handle in parameters.reserved_handles or handle.startswith(ADDRESS_PREFIX):
        raise Rejection(RejectionReason.NAME_RESERVED, f"{handle!r} is reserved")
    account = staged.existing_account(sender)
    if account.handles >= parameters.handles_per_account:
        raise Rejection(
            RejectionReason.HANDLE_LIMIT,
            f"{handle!r}: {format_address(sender)} holds {account.handles} of {parameters.handles_per_account} handles",
        )
    if parameters.handle_fee:
        apply_debit(staged, sender, parameters.handle_fee, f"claiming {handle!r}")
        account = staged.existing_account(sender)
    staged.put_account(replace(account, handles=account.handles + 1))
    staged.put_value(owner_key(handle), OwnerEntry(sender, rules.context.height).encode())


def _read_owner(staged: Staged, handle: str) -> OwnerEntry | None:
    data = staged.value(owner_key(handle))
    if data is None:
        return None
    try:
        return OwnerEntry.decode(data)
    except Rejection as damage:
        raise damaged(f"owner {handle!r}", damage) from damage
