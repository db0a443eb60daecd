"""The only place that asks for a plan and runs it.

A value that was computed for a node is kept in the node's memo while the node lives, so that what a
live name holds is not computed twice while it fits. `live` knows which nodes names hold.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.display import watching
from chunkarr.errors import MemoryBudgetError
from chunkarr.expr.build import cast_lazily
from chunkarr.expr.cuts import cut_of
from chunkarr.expr.node import Blocks, Compress, Expr, Reduce, Source, walk
from chunkarr.floats import gathering, tell
from chunkarr.grid import CRUMB_BYTES, Grid, fair_bytes, region_of
from chunkarr.kernels import tier
from chunkarr.plan.grids import choose_cut
from chunkarr.plan.plan import Limits, Plan, Row, Target
from chunkarr.plan.planner import count_plan, make_plan
from chunkarr.points import read_box
from chunkarr.scheduler.budget import memory_in_use_within
from chunkarr.scheduler.executor import Executor
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import Trace, run
from chunkarr.settings import config, settings
from chunkarr.storage.arena import arena
from chunkarr.storage.chunkcache import chunk_cache
from chunkarr.storage.guard import watched
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.store import Store

NDArray = npt.NDArray[Any]

ARENA_PARTS = 8
"""Memory that results leave behind is kept up to this part of the limit."""

live: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()
"""Maps the id of a node to the Array that names it."""


class _Last(threading.local):
    """What the last run of this thread was, for `explain(analyze=True)` and the command line."""

    rows: tuple[Row, ...] = ()
    trace: Trace | None = None


last = _Last()


def current_limits() -> tuple[Limits, Executor]:
    """Give what a plan made now may use, and who will run it."""
    now = settings()
    executor = get_executor(now.executor, now.workers)
    memory = now.memory
    if executor.bytes_most is not None and config.is_default("memory"):
        memory = min(memory, executor.bytes_most)
    # What the arena keeps is there for the plan: the run lets go of what it needs otherwise.
    used = memory_in_use_within(now.memory, executor.trim) - arena.bytes_kept
    workers, starting = executor.afford(now.memory - used)
    # What a cluster's workers are enough for is theirs; what this process holds lies elsewhere.
    free = min(now.memory - used - starting, memory)
    kernels = tier.bytes_to_come() * (1 if executor.shares_memory else workers)
    # Tasks take what the limit says; kernels and what stands in memory leave room for others.
    spare = config.spare() if executor.bytes_most is None else None
    # Where little is left, the room goes to the data and the NumPy tier does the work.
    compiling = free - kernels >= memory // 4 and (spare is None or spare >= 2 * kernels)
    tier.set_compiling(allowed=compiling)
    limits = Limits(
        bytes_limit=memory,
        bytes_available=free - kernels if compiling else free,
        chunk_bytes=now.chunk_bytes,
        workers=workers,
        shares_memory=executor.shares_memory,
        bytes_spare=None if spare is None else spare + arena.bytes_kept,
    )
    return limits, executor


def plan_for(targets: Sequence[Target], limits: Limits) -> Plan:
    """Plan targets, keeping the values of nodes that other live names hold.

    Where what is on the way is there for a later run, it is not kept for names.
    """
    wanted = [target.expr for target in targets]
    limits, keep = without_crumbs(limits, wanted), [] if limits.lasting else _named(wanted)
    room = limits.bytes_keep // 4
    beside = [] if limits.lasting else _made_beside(targets, room)
    plan = make_plan([*targets, *map(Target, beside)], keep, limits)
    plan.kept.extend(zip(beside, plan.results[len(targets) :], strict=True))
    del plan.results[len(targets) :]
    return plan


def without_crumbs(limits: Limits, exprs: Sequence[Expr]) -> Limits:
    """Let chunks be larger where very many very small ones would cost more than what is in them."""
    if limits.chunk_bytes >= CRUMB_BYTES:
        return limits
    most = max((node.nbytes for node in walk(exprs)), default=0)
    return dataclasses.replace(limits, chunk_bytes=fair_bytes(limits.chunk_bytes, most))


def _named(exprs: Sequence[Expr]) -> list[Expr]:
    """List the nodes that live names hold, and whose values nobody holds yet."""
    order = walk(exprs, held=False)
    return [node for node in order if id(node) in live and node.memo.store is None]


def _made_beside(targets: Sequence[Target], room: int) -> list[Expr]:
    """Find results that live names hold and that calls which are made anyway give as well."""
    made = {id(node): node for node in _to_compute(targets) if isinstance(node, Blocks)}
    calls = {id(node.call) for node in made.values()}
    found: dict[int, Expr] = {}
    for array in list(live.values()) if calls else ():
        node = array.expr_or_none
        while node is not None and not isinstance(node, Blocks):
            node = node.operands[0] if len(node.operands) == 1 else None
        if node is None or id(node.call) not in calls or id(node) in made | found:
            continue
        if node.memo.store is None and node.nbytes <= room:
            found[id(node)] = node
            room -= node.nbytes
    return list(found.values())


def _to_compute(targets: Sequence[Target]) -> list[Expr]:
    """List the nodes whose values are computed: none below a value that is held."""
    seen: dict[int, Expr] = {}
    stack = [target.expr for target in targets]
    while stack:
        node = stack.pop()
        if id(node) not in seen and node.memo.store is None:
            seen[id(node)] = node
            stack.extend(node.operands)
    return list(seen.values())


def _run(plan: Plan, executor: Executor, limits: Limits) -> Trace:
    # Memory is kept for later runs where this one leaves room for it.
    spare = limits.bytes_keep - plan.bytes_peak
    arena.resize(max(0, min(spare, limits.bytes_limit // ARENA_PARTS)))
    try:
        with watching(plan.steps, limits.bytes_limit) as shown, gathering() as events:
            trace = run(plan.steps, executor, limits.bytes_available, shown)
    except BaseException:
        arena.resize(0)  # not all of it was ever touched, and it counts as if it was
        raise
    else:
        tell(events.found)
        return trace
    finally:
        chunk_cache.resize(0)


def _carry_out(plan: Plan, executor: Executor, limits: Limits) -> Trace | None:
    """Run a plan's steps, if there are any, and let names hold what it has made for them."""
    trace = _run(plan, executor, limits) if plan.steps else None
    for node, store in plan.kept:
        node.memo.store = store
    return trace


def execute(
    targets: Sequence[Target],
    *,
    lasting: Any = None,
    within: tuple[Limits, Executor] | None = None,
) -> list[Store]:
    """Plan and run within limits, by default those of now; gives the store of each target.

    With a `LastingScratch` the run goes on from what one of the same plan has left.
    """
    limits, executor = within or current_limits()
    limits = dataclasses.replace(limits, lasting=lasting is not None)
    plan = plan_for(targets, limits)
    if lasting is not None:
        _resume(plan, targets, lasting)
    last.rows, last.trace = tuple(plan.rows), None
    last.trace = _carry_out(plan, executor, limits)
    return plan.results


def _resume(plan: Plan, targets: Sequence[Target], lasting: Any) -> None:
    """Let targets and the scratch on the way go on from what a run of the same plan has left."""
    find: Any = importlib.import_module("chunkarr.plan.mark").find_mark
    mark = find(plan, [target.expr for target in targets])
    stores = [target.store for target in targets if target.store is not None]
    scratch = list({id(s): s for step in plan.steps for s in step.releases}.values())
    with watched():
        for number, store in enumerate(stores):
            store.resume_as(f"{mark}-{number}")
            store.create()
        lasting.take(scratch, str(stores[0].location), mark)
    if any(store.resumed for store in (*stores, *scratch)):
        plan.steps = importlib.import_module("chunkarr.plan.missing").leave_out(plan.steps)


def explain_rows(*exprs: Expr) -> tuple[Row, ...]:
    """Give the steps that computing values together takes."""
    limits, _ = current_limits()
    return tuple(plan_for([Target(expr) for expr in exprs], limits).rows)


def persist(*exprs: Expr) -> list[Store]:
    """Compute values and hold them, in memory while they fit and on disk beyond."""
    stores = execute([Target(expr) for expr in exprs])
    for expr, store in zip(exprs, stores, strict=True):
        if not isinstance(expr, Source) or expr.store is not store:
            expr.memo.store = store
    return stores


def values(*exprs: Expr) -> list[NDArray]:
    """Compute ndarrays, all in one plan; refuses before running what does not fit."""
    if len(exprs) == 1:
        found = read_box(exprs[0])
        if found is not None:
            return [found]
    within = current_limits()
    limits, _ = within
    wanted = sum(expr.nbytes for expr in exprs if not _in_memory(expr))
    if wanted > max(0, limits.bytes_available) and wanted > 1 << 16:
        biggest = max(exprs, key=lambda expr: expr.nbytes)
        raise MemoryBudgetError(
            array=f"array of shape {biggest.shape} and dtype {biggest.dtype}",
            operation="compute",
            where=biggest.where,
            bytes_needed=wanted,
            bytes_available=limits.bytes_available,
            remedies=(
                "write it to a file: chunkarr.save(path, x) or x.to_zarr(path)",
                "keep it in chunkarr's hands: x.persist()",
                "raise the limit: config(memory=...) or CHUNKARR_MEMORY",
            ),
        )
    targets = [
        Target(expr)
        if _in_memory(expr) or not limits.shares_memory
        else Target(expr, MemoryStore(shape=expr.shape, dtype=expr.dtype, owned=True))
        for expr in exprs
    ]
    stores = execute(targets, within=within)
    with watched():
        taken = list(map(_taken, targets, stores))
    # Equal expressions have one store; some are held by those that had been computed before.
    held = {id(expr.held) for expr in exprs}
    for target, store in zip(targets, stores, strict=True):
        if target.store is None and not store.in_memory and id(store) not in held:
            store.release()
    return taken


def _taken(target: Target, store: Store) -> NDArray:
    """Give a value as an array of the caller's own."""
    whole = store.read(region_of(store.shape))
    return whole if target.store is not None else np.array(whole)


def _in_memory(expr: Expr) -> bool:
    store = expr.held
    return store is not None and store.in_memory


def write(expr: Expr, store: Store, *, resume: bool = False) -> None:
    """Compute into a store and publish it; on any failure nothing is published.

    With `resume` what was written is kept for a run of the same plan.
    """
    lasting: Any = None
    if resume:
        lasting = importlib.import_module("chunkarr.storage.lasting").LastingScratch()
    try:
        execute([Target(expr, store)], lasting=lasting)
        store.commit()
        if lasting is not None:
            lasting.end()
    except BaseException:
        store.discard()
        if lasting is not None:
            lasting.close()
        raise


def write_all(pairs: Sequence[tuple[Expr, Store]]) -> None:
    """Compute several values into stores, in one pass over what they share."""
    try:
        execute([Target(expr, store) for expr, store in pairs])
        for _, store in pairs:
            store.commit()
    except BaseException:
        for _, store in pairs:
            store.discard()
        raise


def reads_path(expr: Expr, path: str) -> bool:
    """Whether a value depends on what is stored at or under a path."""
    place = os.path.realpath(path)
    for node in walk((expr,)):
        store = node.store if isinstance(node, Source) else None
        where = store.location if store is not None else None
        if where is not None and (where == place or where.startswith(place + os.sep)):
            return True
    return False


def select(operand: Expr, mask: Expr, line: Any = None) -> Compress:
    """Count a mask's true values and make the selection, whose length is then known."""
    limits, executor = current_limits()
    limits = without_crumbs(limits, (operand, mask))
    rest = operand.shape[mask.ndim :]
    width = math.prod(rest) * operand.dtype.itemsize
    most = min(limits.chunk_bytes, limits.bytes_share // 4) // max(1, width)
    # Cells that are whole along the last axes follow each other in C order.
    bands = Grid(mask.shape, choose_cut(mask.shape, max(1, most), (1,) * mask.ndim))
    if _cuts_chunks(mask, bands):
        counts = _counts_of_rows(mask, bands)
    else:
        plan, store = count_plan(mask, bands, _named([mask]), limits)
        try:
            _carry_out(plan, executor, limits)
            counts = store.read(region_of(store.shape)) if bands.size else np.empty(0, np.int64)
        finally:
            store.release()
    offsets = (0, *np.cumsum(counts).tolist())
    return Compress(
        shape=(offsets[-1], *rest),
        dtype=operand.dtype,
        operands=(operand, mask),
        line=line,
        bands=bands,
        offsets=offsets,
    )


def _cuts_chunks(mask: Expr, bands: Grid) -> bool:
    """Whether bands of whole rows cut chunks that lie beside each other: these were decoded often.

    Not where there are too many rows to know the count of each.
    """
    if any(count > 1 for count in bands.counts[1:]) or bands.size <= 1:
        return False
    stores = [n.store for n in walk((mask,)) if isinstance(n, Source) and n.ndim == mask.ndim]
    return mask.shape[0] <= ROWS_COUNTED and any(
        store.tiled
        and not store.addressable
        and max(store.grid.counts[1:], default=1) > 1
        and store.grid.chunk_shape[0] > bands.chunk_shape[0]
        for store in stores
    )


ROWS_COUNTED = 1 << 20
"""The true values of so many rows are counted row by row at most."""


def _counts_of_rows(mask: Expr, bands: Grid) -> NDArray:
    """Count the true values of a mask in bands of rows, chunk by chunk of what it is made of."""
    number = np.dtype(np.int64)
    axes, rows = tuple(range(1, mask.ndim)), mask.shape[:1]
    whole = cast_lazily(mask, number)
    (counts,) = values(Reduce(shape=rows, dtype=number, operands=(whole,), name="sum", axes=axes))
    starts = np.arange(0, rows[0], bands.chunk_shape[0])
    return np.add.reduceat(counts, starts)


def nominal_grid(expr: Expr) -> Grid:
    """Give the cut that people see and that storing follows by default."""
    found = cut_of(expr)
    if found is not None:
        return found
    now = settings()
    most = max(1, min(now.chunk_bytes * 4, now.memory // 64) // max(1, expr.dtype.itemsize))
    return Grid(expr.shape, square_cut(expr.shape, most))


def square_cut(shape: tuple[int, ...], elements: int) -> tuple[int, ...]:
    """Cut an index space evenly along all axes, for readers that come from any side.

    >>> square_cut((1000, 1000), 10_000)
    (63, 125)
    """
    cell = [max(1, n) for n in shape]
    while math.prod(cell) > elements:
        axis = max(range(len(cell)), key=lambda a: cell[a])
        if cell[axis] == 1:
            break
        cell[axis] = -(-cell[axis] // 2)
    return tuple(cell)
