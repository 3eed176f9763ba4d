"""The working state of a chain block: reads fall through to a view, writes are kept aside until the block is done.

`BlockState` holds what the transactions applied so far have changed; `Staged` holds one transaction's changes on top
and is committed whole or dropped. Accounts are kept decoded, since a block touches the same ones again and again.
"""

from __future__ import annotations

from typing import Final, Protocol, TypeAlias

from mpisa.primitives.account import Account
from mpisa.primitives.errors import IntegrityError, Rejection
from mpisa.primitives.identifiers import Address, format_address
from mpisa.primitives.state_keys import account_key

Change: TypeAlias = tuple[bytes, bytes | None]

MAX_KEPT_ACCOUNTS: Final = 16_384


class StateView(Protocol):
    """The state after the previous chain block."""

    def get(self, key: bytes) -> bytes | None:
        """The value under a state key, or None."""
        ...


class KeptAccounts:
    """Accounts under the very bytes that encode them, so that what one block wrote the next needn't decode.

    It changes no outcome: whatever isn't here is decoded. In two generations: when the young one has grown to half the
    bound it becomes the old one, and the old one goes.
    """

    __slots__ = ("_half", "_old", "_young")

    def __init__(self, bound: int = MAX_KEPT_ACCOUNTS) -> None:
        self._half = bound // 2
        self._young: dict[tuple[Address, bytes], Account] = {}
        self._old: dict[tuple[Address, bytes], Account] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, address: Address, data: bytes) -> Account | None:
        """The account that these bytes encode at this address, if it is kept."""
        name = address, data
        return self._young.get(name) or self._old.get(name)

    def put(self, account: Account, data: bytes) -> None:
        """Keep an account with its bytes."""
        self._young[account.address, data] = account
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}


class BlockState:
    """The state as the transactions applied so far in this block leave it."""

    __slots__ = ("_accounts", "_changed_accounts", "_kept", "_values", "_view")

    def __init__(self, view: StateView, kept: KeptAccounts | None = None) -> None:
        self._view = view
        self._kept = KeptAccounts() if kept is None else kept
        self._accounts: dict[Address, Account | None] = {}
        self._changed_accounts: dict[Address, Account] = {}
        self._values: dict[bytes, bytes | None] = {}

    def account(self, address: Address) -> Account | None:
        """The account, or None if it doesn't exist. Raises IntegrityError when the stored bytes are damaged."""
        try:
            return self._accounts[address]
        except KeyError:
            account = self._load(address)
            self._accounts[address] = account
            return account

    def put_account(self, account: Account) -> None:
        """Replace the account at its address."""
        self._accounts[account.address] = account
        self._changed_accounts[account.address] = account

    def value(self, key: bytes) -> bytes | None:
        """The value under a key that is no account's."""
        if key in self._values:
            return self._values[key]
        return self._view.get(key)

    def put_value(self, key: bytes, value: bytes | None) -> None:
        """Replace the value under a key that is no account's; None removes it."""
        self._values[key] = value

    def changes(self) -> tuple[Change, ...]:
        """Every key whose value differs from the view's, ascending by key."""
        changes: list[Change] = []
        for address, account in self._changed_accounts.items():
            data = account.encode()
            self._kept.put(account, data)
            changes.append((account_key(address), data))
        changes += [(key, value) for key, value in self._values.items() if value != self._view.get(key)]
        changes.sort(key=_key_of)
        return tuple(changes)

    def _load(self, address: Address) -> Account | None:
        data = self._view.get(account_key(address))
        if data is None:
            return None
        kept = self._kept.get(address, data)
        if kept is not None:
            return kept
        try:
            return Account.decode(address, data)
        except Rejection as damage:
            raise damaged(f"account {format_address(address)}", damage) from damage


class Staged:
    """One transaction's changes on top of a block's state: `commit` makes them part of it, else they are forgotten."""

    __slots__ = ("_accounts", "_state", "_values")

    def __init__(self, state: BlockState) -> None:
        self._state = state
        self._accounts: dict[Address, Account] = {}
        self._values: dict[bytes, bytes | None] = {}

    def account(self, address: Address) -> Account | None:
        """The account, or None if it doesn't exist."""
        account = self._accounts.get(address)
        return self._state.account(address) if account is None else account

    def existing_account(self, address: Address) -> Account:
        """The account, which the caller knows to exist."""
        account = self.account(address)
        assert account is not None
        return account

    def put_account(self, account: Account) -> None:
        """Replace the account at its address."""
        self._accounts[account.address] = account

    def value(self, key: bytes) -> bytes | None:
        """The value under a key that is no account's."""
        if key in self._values:
            return self._values[key]
        return self._state.value(key)

    def put_value(self, key: bytes, value: bytes | None) -> None:
        """Replace the value under a key that is no account's; None removes it."""
        self._values[key] = value

    def commit(self) -> None:
        """Make the changes part of the block's state."""
        for account in self._accounts.values():
            self._state.put_account(account)
        for key, value in self._values.items():
            self._state.put_value(key, value)


def damaged(what: str, cause: Rejection) -> IntegrityError:
    """The error for state bytes that don't decode: the store's fault, never the transaction's."""
    return IntegrityError(f"the state is damaged: {what}: {cause}", hint="stop the node and run `mpisa node repair`")


def _key_of(change: Change) -> bytes:
    return change[0]
