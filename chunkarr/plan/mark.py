"""A mark for a plan: equal for two runs only if they write the same bits.

It goes into what is left of an output that may be resumed, so it has to tell apart all that decides
about values: the expression, the content of its sources, users' functions down to what they refer
to, the cuts that the plan chose, and the versions that made them. Files are told by their number,
size and times of change, since reading them would cost as much as the run.
"""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version

import numpy as np

from chunkarr.expr.node import Blocks, Expr, Generate, Source, walk
from chunkarr.grid import Grid, region_of
from chunkarr.plan.plan import Plan
from chunkarr.plan.telling import Teller, version_of
from chunkarr.storage.copies import checksums
from chunkarr.storage.store import Store


def find_mark(plan: Plan, exprs: Sequence[Expr]) -> str:
    """Give a mark of 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for fact in _facts(plan, exprs):
        digest.update(repr(fact).encode())
    return digest.hexdigest()


def _facts(plan: Plan, exprs: Sequence[Expr]) -> Iterator[object]:
    tell = Teller(_known)
    yield platform.python_version(), version_of("chunkarr"), np.__version__, version("numba")
    order = walk(tuple(exprs))
    number = {id(node): n for n, node in enumerate(order)}
    for node in order:
        operands = [number[id(operand)] for operand in node.operands]
        yield type(node).__name__, node.shape, node.dtype.str, operands, _own(node, tell)
    yield [number[id(expr)] for expr in exprs]
    # A step of one task cuts nothing; executors that do not share memory have a few more of these.
    for step in (step for step in plan.steps if step.tasks > 1):
        grid = getattr(step.work, "grid", None)
        yield type(step.work).__name__, step.tasks, tell(grid if isinstance(grid, Grid) else None)


def _own(node: Expr, tell: Teller) -> object:
    """Tell what a node is beside its operands, shape and dtype."""
    if isinstance(node, Source):
        return tell(node.store)
    if isinstance(node, Generate):
        return tell((node.kind, node.values))
    if isinstance(node, Blocks):
        fields = (getattr(node.call, name) for name in type(node.call).__slots__)
        return node.output, [tell(value) for value in fields]
    return tell(node.params)


def _known(value: object, tell: Teller) -> object:
    """Tell a store by its content, without reading files; None for others."""
    if not isinstance(value, Store):
        return None
    if value.in_memory or value.private:
        return checksums(value.read(region_of(value.shape)))
    if value.passing:
        # Scratch of this process has another name in the next one.
        return [checksums(np.ascontiguousarray(value.read(r))) for r in value.grid.regions()]
    if value.location is None:
        return None if value.recipe is None else tell(value.recipe)
    return value.location, value.part, [*_files(value.location)]


def _files(path: str) -> Iterator[tuple[str, ...]]:
    """Tell a file, or all files below a directory, without reading them."""
    if not os.path.isdir(path):
        yield _file(path)
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            yield _file(os.path.join(folder, name))


def _file(path: str) -> tuple[str, ...]:
    """Tell a file by what changes with its content: whoever writes may set `mtime` back."""
    info = os.stat(path)
    return path, *map(str, (info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns))
