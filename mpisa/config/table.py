"""One TOML table being read: every key must be taken, and what is left over is an error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mpisa.primitives.errors import InvalidConfig

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@dataclass(slots=True)
class Table:
    """See the module. A method takes a key's value, the default where there is none, and raises InvalidConfig."""

    file: Path
    prefix: str
    values: dict[str, Any]

    def bad(self, key: str, expected: str) -> InvalidConfig:
        """The error for a value that isn't what was expected."""
        found = self.values.get(key)
        return InvalidConfig(
            f"{self.file}: {self.prefix}{key}: expected {expected}, found {found!r}",
            hint=f"correct {self.prefix}{key} in {self.file}",
        )

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """From low to high, both included."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.bad(key, f"an integer from {low} to {high}")
        self.values.pop(key, None)
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.bad(key, "true or false")
        self.values.pop(key, None)
        return value

    def text(self, key: str, default: str | None, expected: str, accepts: Callable[[str], bool]) -> str | None:
        """A string that `accepts` says yes to; `expected` is what that means in words."""
        if key not in self.values:
            return default
        value = self.values[key]
        if not isinstance(value, str) or not accepts(value):
            raise self.bad(key, expected)
        del self.values[key]
        return value

    def required(self, key: str, default: str, expected: str, accepts: Callable[[str], bool]) -> str:
        """As text; the default must be accepted too."""
        value = self.text(key, default, expected, accepts)
        assert value is not None
        if not accepts(value):
            raise self.bad(key, expected)
        return value

    def texts(self, key: str, limit: int, expected: str, accepts: Callable[[str], bool]) -> tuple[str, ...]:
        """A list of such strings, at most `limit`; empty by default."""
        values = self.values.get(key, [])
        whole = f"a list of at most {limit} items, each {expected}"
        if not isinstance(values, list) or len(values) > limit:
            raise self.bad(key, whole)
        for value in values:
            if not isinstance(value, str) or not accepts(value):
                raise self.bad(key, whole)
        self.values.pop(key, None)
        return tuple(values)

    def table(self, key: str) -> Table:
        """A table within this one."""
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self.bad(key, "a table")
        self.values.pop(key, None)
        return Table(self.file, f"{self.prefix}{key}.", dict(value))

    def tables(self, key: str, limit: int) -> list[Table]:
        """A list of tables within this one."""
        values = self.values.get(key, [])
        if not isinstance(values, list) or len(values) > limit or not all(isinstance(item, dict) for item in values):
            raise self.bad(key, f"at most {limit} tables")
        self.values.pop(key, None)
        return [Table(self.file, f"{self.prefix}{key}[{index}].", dict(item)) for index, item in enumerate(values)]

    def finish(self, known: str) -> None:
        """Raises InvalidConfig for a key that nothing took; `known` lists those that exist."""
        for key in sorted(self.values):
            raise InvalidConfig(
                f"{self.file}: {self.prefix}{key}: unknown key, expected one of {known}",
                hint=f"remove {self.prefix}{key} from {self.file}",
            )
