"""`dataclass` for the many small records that every program loads, a quarter as dear to define.

The decorator of the standard library compiles up to eight methods for each class. With some seventy
classes that was most of the time before a first result. This one lets it make `__slots__` and
`__init__` only. Comparing, hashing and showing are functions that records share, and that nobody
assigns to a frozen record is checked by the type checker, which sees the standard decorator, and
not again at run time; making a record is faster for it, too.

Where a user can lay hands on a record (`Settings`, `Grid`), the standard decorator is used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        *, frozen: bool = False, eq: bool = True, **options: bool
    ) -> Callable[[type], type]:
        """Make a class of records; takes the arguments of `dataclasses.dataclass`."""

        def make(cls: type) -> type:
            made = dataclasses.dataclass(eq=False, repr=False, **options)(cls)
            fields = dataclasses.fields(made)
            made.__repr__ = _showing([field.name for field in fields if field.repr])
            if eq:
                values = _values([field.name for field in fields if field.compare])
                made.__eq__ = _comparing(values)
                made.__hash__ = _hashing(values) if frozen else None
            return made

        return make


def _values(names: list[str]) -> Callable[[Any], Any]:
    """Give what reads the fields of a record as a tuple."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda record: tuple(getattr(record, name) for name in names)


def _comparing(values: Callable[[Any], Any]) -> Callable[[Any, object], Any]:
    def __eq__(self: Any, other: object) -> Any:  # noqa: N807 - it becomes a method
        if other.__class__ is not self.__class__:
            return NotImplemented
        return values(self) == values(other)

    return __eq__


def _hashing(values: Callable[[Any], Any]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:  # noqa: N807 - it becomes a method
        return hash(values(self))

    return __hash__


def _showing(names: list[str]) -> Callable[[Any], str]:
    def __repr__(self: Any) -> str:  # noqa: N807 - it becomes a method
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names)
        return f"{type(self).__qualname__}({shown})"

    return __repr__
