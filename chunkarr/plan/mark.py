"""A mark for a plan: equal for two runs only if they write the same bits.

It goes into what is left of an output that may be resumed, so it has to tell apart all that decides
about values: the expression, the content of its sources, users' functions down to what they refer
to, the cuts that the plan chose, and the versions that made them. Files are told by size and time
of change, since reading them would cost as much as the run. An object that nothing is known of is
told by how it pickles. If that differs from run to run, nothing is resumed, which is safe.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import types
from collections.abc import Iterator, Sequence

import numpy as np

from chunkarr.expr.node import Blocks, Expr, Generate, Source, walk
from chunkarr.grid import Grid
from chunkarr.plan.plan import Plan
from chunkarr.storage.copies import checksums
from chunkarr.storage.store import Store

DEPTH_MAX = 40
"""Objects that refer to each other deeper than this are not followed; nobody writes such plans."""


def find_mark(plan: Plan, exprs: Sequence[Expr]) -> str:
    """Give a mark of 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for fact in _facts(plan, exprs):
        digest.update(repr(fact).encode())
    return digest.hexdigest()


def _facts(plan: Plan, exprs: Sequence[Expr]) -> Iterator[object]:
    yield [_version(name) for name in ("chunkarr", "numpy")]
    order = walk(tuple(exprs))
    number = {id(node): n for n, node in enumerate(order)}
    for node in order:
        operands = [number[id(operand)] for operand in node.operands]
        yield type(node).__name__, node.shape, node.dtype.str, operands, _own(node)
    yield [number[id(expr)] for expr in exprs]
    # A step of one task cuts nothing; executors that do not share memory have a few more of these.
    for step in (step for step in plan.steps if step.tasks > 1):
        grid = getattr(step.work, "grid", None)
        yield type(step.work).__name__, step.tasks, _token(grid if isinstance(grid, Grid) else None)


def _own(node: Expr) -> object:
    """Tell what a node is beside its operands, shape and dtype."""
    if isinstance(node, Source):
        return _store(node.store)
    if isinstance(node, Generate):
        return _token((node.kind, node.values))
    if isinstance(node, Blocks):
        fields = (getattr(node.call, name) for name in type(node.call).__slots__)
        return node.output, [_token(value) for value in fields]
    return _token(node.params)


def _store(store: Store) -> object:
    """Tell the content of a store."""
    if store.in_memory:
        return checksums(store.read(tuple(slice(0, n) for n in store.shape)))
    if store.passing:
        # Scratch of this process has another name in the next one.
        return [checksums(np.ascontiguousarray(store.read(r))) for r in store.grid.regions()]
    if store.location is None:
        return _token(store.recipe) if store.recipe is not None else _pickled(store, 0)
    return store.location, [*_files(store.location)]


def _files(path: str) -> Iterator[tuple[str, int, int]]:
    """Give name, size and time of change of a file, or of all files below a directory."""
    if not os.path.isdir(path):
        info = os.stat(path)
        yield path, info.st_size, info.st_mtime_ns
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            info = os.stat(os.path.join(folder, name))
            yield os.path.join(folder, name), info.st_size, info.st_mtime_ns


def _token(value: object, depth: int = 0) -> object:
    """Give plain data that tells a value, and whose text does."""
    if depth > DEPTH_MAX:
        return "deep"
    follow = functools.partial(_token, depth=depth + 1)
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | slice):
        return type(value).__name__, repr(value)
    if isinstance(value, np.ndarray | np.generic) and not value.dtype.hasobject:
        array = np.asarray(value)
        return array.dtype.str, array.shape, checksums(array)
    if isinstance(value, np.dtype):
        return repr(value)
    if isinstance(value, list | tuple):
        return type(value).__name__, [follow(item) for item in value]
    if isinstance(value, dict):
        return [(follow(key), follow(item)) for key, item in value.items()]
    if isinstance(value, types.FunctionType):
        return _function(value, depth)
    if isinstance(value, types.ModuleType):
        return value.__name__, _version(value.__name__.partition(".")[0])
    if isinstance(value, type | types.BuiltinFunctionType | np.ufunc):
        return getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
    if isinstance(value, Store):
        return _store(value)
    return _pickled(value, depth)


def _function(function: types.FunctionType, depth: int) -> object:
    """Tell a function by its code and by what that refers to."""
    top = function.__module__.partition(".")[0]
    if _version(top) or top in sys.stdlib_module_names:
        return function.__module__, function.__qualname__, _version(top)
    follow = functools.partial(_token, depth=depth + 1)
    cells = [cell.cell_contents for cell in function.__closure__ or () if cell != types.CellType()]
    names = sorted(_names(function.__code__) & function.__globals__.keys())
    return (
        function.__qualname__,
        _code(function.__code__),
        follow(function.__defaults__),
        follow(function.__kwdefaults__),
        [follow(cell) for cell in cells],
        # Functions may refer to themselves, by way of each other.
        [(name, follow(function.__globals__[name])) for name in names] if depth < 6 else [],
    )


def _version(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", ""))


def _code(code: types.CodeType) -> object:
    constants = [_code(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts]
    return code.co_code, code.co_names, constants


def _names(code: types.CodeType) -> set[str]:
    inner = (c for c in code.co_consts if isinstance(c, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _pickled(value: object, depth: int) -> object:
    """Tell an object by what it would be pickled as."""
    reduced = value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return type(value).__module__, reduced
    return [_token(list(p) if hasattr(p, "__next__") else p, depth + 1) for p in reduced]
