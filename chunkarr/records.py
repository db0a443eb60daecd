"""`dataclass` for the many small records that every program loads, a tenth as dear to define.

The decorator of the standard library compiles up to eight methods for each class. With some ninety
classes that was most of the time before a first result. This one lets it make fields and
`__slots__` only. Comparing, hashing and showing are functions that records share. `__init__` is
compiled once for all records that are alike but for the names, and renamed for each. That nobody
assigns to a frozen record is checked by the type checker, which sees the standard decorator, and
not again at run time; making a record is faster for it, too.

Where a user can lay hands on a record (`Settings`, `Grid`), the standard decorator is used.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from operator import attrgetter
from types import CodeType, FunctionType
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
            made = dataclasses.dataclass(init=False, eq=False, repr=False, **options)(cls)
            fields = dataclasses.fields(made)
            made.__init__ = _assigning(made, [field for field in fields if field.init])
            made.__repr__ = _showing([field.name for field in fields if field.repr])
            if eq:
                values = _values([field.name for field in fields if field.compare])
                made.__eq__ = _comparing(values)
                made.__hash__ = _hashing(values) if frozen else None
            return made

        return make


def _assigning(cls: type, fields: list[dataclasses.Field[Any]]) -> Callable[..., None]:
    """Make `__init__`, which takes the fields in order, those by keyword only at the end."""
    keyword = [field for field in fields if field.kw_only]
    positional = [field for field in fields if not field.kw_only]
    fields = [*positional, *keyword]
    code = _assignments(tuple([_is_made(field) for field in fields]), hasattr(cls, "__post_init__"))
    names = {f"value_{i}": field.name for i, field in enumerate(fields)}
    code = code.replace(
        co_argcount=1 + len(positional),
        co_kwonlyargcount=len(keyword),
        co_varnames=("self", *names.values()),
        co_names=tuple([names.get(name, name) for name in code.co_names]),
        co_qualname=f"{cls.__qualname__}.__init__",
    )
    factories = {f"make_{i}": f.default_factory for i, f in enumerate(fields) if _is_made(f)}
    init = FunctionType(code, {"NOT_GIVEN": _NOT_GIVEN, **factories})
    init.__defaults__ = tuple(_defaults(positional).values())
    init.__kwdefaults__ = _defaults(keyword)
    return init


def _is_made(field: dataclasses.Field[Any]) -> bool:
    return field.default_factory is not dataclasses.MISSING


def _defaults(fields: list[dataclasses.Field[Any]]) -> dict[str, Any]:
    """Give the defaults by name, a mark where a factory makes one for each record."""
    found = {f.name: _NOT_GIVEN if _is_made(f) else f.default for f in fields}
    return {name: value for name, value in found.items() if value is not dataclasses.MISSING}


_NOT_GIVEN: Any = object()


@functools.cache
def _assignments(made: tuple[bool, ...], finishes: bool) -> CodeType:
    """Compile the `__init__` of records with so many fields, some of them made by factories."""
    names = [f"value_{i}" for i in range(len(made))]
    lines = [f"def __init__({', '.join(('self', *names))}):", " pass"]
    for i, (name, factory) in enumerate(zip(names, made, strict=True)):
        chosen = f"make_{i}() if {name} is NOT_GIVEN else {name}" if factory else name
        lines.append(f" self.{name} = {chosen}")
    if finishes:
        lines.append(" self.__post_init__()")
    scope: dict[str, Any] = {}
    exec("\n".join(lines), scope)  # noqa: S102 - the text is made of numbers
    code: CodeType = scope["__init__"].__code__
    return code


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
