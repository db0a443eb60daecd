"""NumPy's sub-modules as chunkarr's own: each name is carried as a table says, or as its kind goes.

A chapter such as `chunkarr.fft` is a table of the names that run on arrays of any size. Any other
function is NumPy's, called on values that together fit the memory limit; larger ones are refused
with their bytes before anything is computed. Classes and constants are NumPy's own objects, so
that `except` and `isinstance` mean the same on both sides.
"""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Mapping
from types import FunctionType, ModuleType
from typing import Any

import numpy as np

import chunkarr
from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.dispatch import LIFTED, arrays_in, asking, convert, store_out
from chunkarr.whole import check_fit

chunkarr.Array  # noqa: B018 - asking the package for it attaches the operators

Function = Callable[..., Any]


class Chapter:
    """What a module of chunkarr that mirrors one of NumPy's answers."""

    def __init__(
        self, name: str, own: Mapping[str, Any] | None = None, source: str | None = None
    ) -> None:
        self.name = name
        self.source: ModuleType = importlib.import_module(f"numpy.{source or name}")
        self.own = dict(own or {})
        """The names that run on arrays of any size, or that are not NumPy's."""
        for key, value in self.own.items():
            if isinstance(value, FunctionType) and getattr(namespace, key, None) is not value:
                value.__module__ = f"chunkarr.{name}"
                known = getattr(self.source, key, None)
                if callable(known) and value not in LIFTED:
                    self.own[key] = asking(value, known)

    def find(self, name: str) -> Any:
        """Give what a public name stands for: module-level `__getattr__`.

        Raises AttributeError for what NumPy does not have there.
        """
        if name == "__all__":
            return self.names()
        if name in self.own:
            return self.own[name]
        if name.startswith("_") or not hasattr(self.source, name):
            message = f"module 'chunkarr.{self.name}' has no attribute {name!r}"
            raise AttributeError(message)
        value = getattr(self.source, name)
        if isinstance(value, ModuleType):
            made = self._module(name, value)
        elif isinstance(value, np.ufunc) or (callable(value) and not isinstance(value, type)):
            made = self._function(name, value)
        else:
            made = value
        self.own[name] = made
        return made

    def _module(self, name: str, module: ModuleType) -> ModuleType:
        if not module.__name__.startswith(f"numpy.{self.name}."):
            return module
        return mirrored(f"{self.name}.{name}")

    def _function(self, name: str, function: Function) -> Any:
        if getattr(np, name, None) is function:
            return getattr(chunkarr, name)
        made = Called if hasattr(function, "reduce") else on_values
        return made(f"{self.name}.{name}", function)

    def names(self) -> list[str]:
        """List the public names."""
        listed = getattr(self.source, "__all__", None) or [
            name for name in dir(self.source) if not name.startswith("_")
        ]
        return sorted({*listed, *self.own})


class _Module(ModuleType):
    """A module without a file: a part of a chapter, such as `chunkarr.lib.stride_tricks`."""

    def __init__(self, chapter: Chapter) -> None:
        super().__init__(f"chunkarr.{chapter.name}", chapter.source.__doc__)
        self._chapter = chapter

    def __getattr__(self, name: str) -> Any:
        return self._chapter.find(name)

    def __dir__(self) -> list[str]:
        return self._chapter.names()


def mirrored(name: str, own: Mapping[str, Any] | None = None) -> ModuleType:
    """Make a part of a chapter, and let the import system find it by its name."""
    full = f"chunkarr.{name}"
    if full not in sys.modules:
        sys.modules[full] = _Module(Chapter(name, own))
    return sys.modules[full]


COPIES = 4.0
"""How many copies of its arguments a function of NumPy may hold at once, as a guess."""


WRITTEN = {"assign_fields_by_name": 0, "put": 0, "putmask": 0, "recursive_fill_fields": 1}
"""Functions that write to an argument, and its place."""


def on_values(name: str, function: Function) -> Function:
    """Make a function that hands the values of arrays to NumPy's."""
    written = WRITTEN.get(name.rpartition(".")[2])

    @functools.wraps(function, updated=())
    def made(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        arrays = arrays_in((*args, *kwargs.values()))
        if arrays:
            check_fit(name, arrays, COPIES)
        plain = [convert(a, Array.compute) for a in args]
        named = {k: convert(v, Array.compute) for k, v in kwargs.items()}
        if out is not None and not isinstance(out, Array):
            named["out"] = out
        result = function(*plain, **named)
        if written is not None and isinstance(args[written], Array):
            args[written][...] = plain[written]
        if isinstance(out, Array):
            return store_out(given(result), out)
        # What a function gives back as it got it stays the same object.
        same = [mine for mine, held in zip(args, plain, strict=True) if held is result]
        return same[0] if same else given(result)

    made.__module__ = f"chunkarr.{name.rpartition('.')[0]}"
    made.__doc__ = f"Run `numpy.{name}` on values that together fit the memory limit."
    return made


class Called:
    """An object of NumPy's that is called, and has methods, such as `ma.minimum.reduce`."""

    def __init__(self, name: str, called: Any) -> None:
        self._name, self._called = name, called
        self._function = on_values(name, called.__call__)
        self.__doc__ = self._function.__doc__
        self.__name__ = self.__qualname__ = name.rpartition(".")[2]
        self.__module__ = f"chunkarr.{name.rpartition('.')[0]}"

    def __reduce__(self) -> str:
        return self.__name__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it on values."""
        return self._function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._called, name)
        return on_values(f"{self._name}.{name}", value) if callable(value) else value


def given(result: Any) -> Any:
    """Make arrays of NumPy's; scalars, and classes with more than values, stay what they are."""
    if type(result) is np.ndarray:
        return Array.of(result)
    if isinstance(result, tuple):
        parts = [given(part) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if type(result) is list:
        return [given(part) for part in result]
    return result
