"""Tells values, users' functions and objects by plain data, the same in each process.

A function is told by its code and by all that this refers to: defaults, closures, globals, and of
modules what it names. Classes are told by their members, and other objects by how they pickle. What
is installed with a version is told by that, everything else by its content. Of what cannot be told,
a lock or a function of a compiled library that has no name there, nothing is believed: it is told
by a number that does not come again.
"""

from __future__ import annotations

import contextlib
import dis
import functools
import hashlib
import importlib
import importlib.metadata
import os
import secrets
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from chunkarr.storage.copies import checksums

DEPTH_MAX = 150
"""Objects that refer to each other deeper than this cannot be told."""
INSTALLED = frozenset(("site-packages", "dist-packages"))
PLAIN = (
    *(types.NoneType, bool, int, float, complex, str, bytes),
    *(slice, range, types.EllipsisType, types.NotImplementedType),
)
BY_NAME = (
    types.BuiltinFunctionType,
    types.WrapperDescriptorType,
    types.MethodDescriptorType,
    types.ClassMethodDescriptorType,
    types.MethodWrapperType,
)
OF_NO_ACCOUNT = frozenset(
    (
        *("__dict__", "__weakref__", "__doc__", "__module__", "__slotnames__", "_abc_impl"),
        *("__firstlineno__", "__static_attributes__", "__annotations__", "__annotate__"),
        *("__annotate_func__", "__annotations_cache__"),
        *("__dataclass_fields__", "__dataclass_params__"),
    )
)
"""Members of classes that say what the others say as well, or nothing."""
UFUNCS = ("numpy", "numpy._core.umath", "scipy.special")

_NO_NAMES: frozenset[str] = frozenset()


def _unknown(_: object, __: Teller) -> object:
    return None


class Teller:
    """Gives plain data that tells values, and whose text does.

    >>> Teller()((1, 2.0)) == Teller()((1, 2.0)), Teller()(1) == Teller()(True)
    (True, False)

    `known` tells objects of certain kinds otherwise, or gives None.
    """

    def __init__(self, known: Callable[[object, Teller], object] = _unknown) -> None:
        self._known = known
        self._told: dict[object, str] = {}
        self._open: dict[object, int] = {}
        """What is being told, and how far down it was met: objects may refer to themselves."""
        self._held: list[object] = []
        """All that was met: no other object must come to have its `id`."""

    def __call__(self, value: object, names: frozenset[str] = _NO_NAMES, depth: int = 0) -> object:
        """Tell a value; of a module, what has one of these names."""
        if type(value) in PLAIN:
            return type(value).__name__, repr(value)
        if type(value) in {np.ndarray, np.memmap} or isinstance(value, np.generic):
            array: Any = np.asarray(value)
            if not array.dtype.hasobject:
                return repr(array.dtype), array.shape, checksums(array)
        key = (id(value), names) if isinstance(value, types.ModuleType) else id(value)
        if key in self._open:
            return "within", self._open[key]
        if key not in self._told:
            if depth > DEPTH_MAX:
                return unlike_any()
            self._held.append(value)
            self._open[key] = len(self._open)
            told = self._known(value, self)
            told = self._tell(value, names, depth + 1) if told is None else told
            del self._open[key]
            self._told[key] = hashlib.sha256(repr(told).encode()).hexdigest()
        return self._told[key]

    def _tell(self, value: Any, names: frozenset[str], depth: int) -> object:
        follow = functools.partial(self, depth=depth)
        match value:
            case np.dtype():
                return repr(value)
            case types.CodeType():
                return self._code(value, depth)
            case types.FunctionType():
                return self._function(value, depth)
            case types.ModuleType():
                version, held = version_of(value.__name__), vars(value)
                if version is not None:
                    return value.__name__, version
                return value.__name__, [
                    (name, self(held[name], names, depth)) for name in sorted(names & held.keys())
                ]
            case type():
                return self._class(value, depth)
            case np.ufunc():
                if any(_member(place, value.__name__) is value for place in UFUNCS):
                    return "ufunc", value.__name__
                return unlike_any()
            case types.MethodType() | staticmethod() | classmethod():
                return follow(value.__func__), follow(getattr(value, "__self__", None))
            case property():
                return "property", *map(follow, (value.fget, value.fset, value.fdel))
            case functools.cached_property():
                return "cached_property", follow(value.func)
            case types.MemberDescriptorType() | types.GetSetDescriptorType():
                return "slot", value.__name__
        if type(value) in {list, tuple}:
            return type(value).__name__, [follow(item) for item in value]
        if type(value) in {dict, types.MappingProxyType}:
            return "dict", [(follow(key), follow(item)) for key, item in value.items()]
        if type(value) in {set, frozenset}:
            return type(value).__name__, sorted(repr(follow(item)) for item in value)
        if isinstance(value, BY_NAME):
            return self._named(value, depth)
        return self._object(value, depth)

    def _function(self, function: types.FunctionType, depth: int) -> object:
        """Tell a function by its code and by what that refers to."""
        version = version_of(function.__module__)
        if version is not None and "<locals>" not in function.__qualname__:
            return function.__module__, function.__qualname__, version
        follow = functools.partial(self, depth=depth)
        cells = [c.cell_contents for c in function.__closure__ or () if c != types.CellType()]
        names, held = _names(function.__code__), function.__globals__
        package = str(held.get("__package__") or "")
        imported = [_imported(name, package) for name in sorted(_imports(function.__code__))]
        return (
            function.__qualname__,
            follow(function.__code__),
            follow(function.__defaults__),
            follow(function.__kwdefaults__),
            [self(cell, names, depth) for cell in cells],
            [(name, self(held[name], names, depth)) for name in sorted(names & held.keys())],
            [[self(module, names, depth) for module in modules] for modules in imported],
            follow(vars(function)),
        )

    def _code(self, code: types.CodeType, depth: int) -> object:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        constants = [self(constant, depth=depth) for constant in code.co_consts]
        return counts, code.co_code, code.co_exceptiontable, code.co_names, constants

    def _class(self, kind: type, depth: int) -> object:
        """Tell a class by its members and those of its bases."""
        version = version_of(kind.__module__)
        if version is not None and "<locals>" not in kind.__qualname__:
            return kind.__module__, kind.__qualname__, version
        follow = functools.partial(self, depth=depth)
        members = sorted(vars(kind).keys() - OF_NO_ACCOUNT)
        return (
            kind.__qualname__,
            follow(type(kind)),
            [follow(base) for base in kind.__bases__],
            [(name, follow(vars(kind)[name])) for name in members],
        )

    def _named(self, value: Any, depth: int) -> object:
        """Tell what was compiled by its name, and by the file that it comes from."""
        of = getattr(value, "__self__", None)
        if of is not None and not isinstance(of, types.ModuleType):
            return value.__name__, self(of, depth=depth)
        owner = getattr(value, "__objclass__", None)
        place = str(getattr(value, "__module__", None) or getattr(owner, "__module__", ""))
        return place, value.__qualname__, version_of(place) or _file_of(place)

    def _object(self, value: Any, depth: int) -> object:
        """Tell an object by what it wraps, or by what it would be pickled as."""
        follow = functools.partial(self, depth=depth)
        place, name = (str(getattr(value, a, "")) for a in ("__module__", "__qualname__"))
        version = version_of(place)
        if version is not None and callable(value) and _member(place, name) is value:
            return place, name, version
        if callable(function := getattr(value, "py_func", None)):  # compiled by Numba
            options = repr(getattr(value, "targetoptions", None))
            return type(value).__name__, follow(function), options
        if callable(function := getattr(value, "__wrapped__", None)):
            return type(value).__name__, follow(function)
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:  # noqa: BLE001 - whatever an object says that cannot be pickled
            return unlike_any()
        if isinstance(reduced, str):
            version = version_of(place)
            return unlike_any() if version is None else (place, reduced, version)
        return [follow(list(part) if hasattr(part, "__next__") else part) for part in reduced]


def unlike_any() -> str:
    """Tell what cannot be told."""
    return secrets.token_hex(16)


def version_of(module: str | None) -> str | None:
    """Give the version of what a module belongs to; None where it is a user's own."""
    top = (module or "").partition(".")[0]
    if top == "__main__":
        return None
    if top in sys.stdlib_module_names:
        return sys.version
    found = sys.modules.get(top)
    file = getattr(found, "__file__", None)
    if top != "chunkarr" and (file is None or INSTALLED.isdisjoint(Path(file).parts)):
        return None
    version = getattr(found, "__version__", None)
    if version is None:
        try:
            version = importlib.metadata.version(top)
        except importlib.metadata.PackageNotFoundError:
            return None
    return str(version)


def _member(module: str, name: str) -> object:
    return getattr(sys.modules.get(module), name, None)


def _file_of(module: str) -> object:
    """Tell the file of a compiled module that has no version."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return unlike_any()
    info = os.stat(file)
    return file, info.st_size, info.st_mtime_ns


def _names(code: types.CodeType) -> frozenset[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return frozenset(code.co_names).union(*map(_names, inner))


def _imports(code: types.CodeType) -> frozenset[str]:
    """List the modules that a function imports when it runs, as they are called there."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME"}
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return frozenset(found).union(*map(_imports, inner))


def _imported(name: str, package: str) -> list[object]:
    """Give what such a name may mean; that alone where nothing can be imported."""
    found: list[object] = [name]
    inside = f"{package}.{name}".strip(".")
    for place, whole in ((name, name.partition(".")[0]), (inside, inside)):
        with contextlib.suppress(Exception):  # whatever a module says that cannot be imported
            importlib.import_module(place)
            found.append(sys.modules[whole])
    return found
