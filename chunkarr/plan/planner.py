"""The planner: from wanted values to steps within the memory limit.

rewrite -> jobs -> groups -> for each group in order: choose the cut, place the stores (memory while
it fits, spill otherwise), lower to recipes, emit steps. Liveness is known before the first store is
placed, because groups run in order and the last reader of each job is known from the graph; so the
peak is a sum over what is alive, computed on the fused plan, and a plan that cannot fit is refused
before anything runs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chunkarr.errors import MemoryBudgetError
from chunkarr.expr.node import (
    Algorithm,
    Blocks,
    Compress,
    Contract,
    Expr,
    Gather,
    Reshape,
    Scan,
    Scatter,
    Source,
    walk,
)
from chunkarr.faults import fault_point
from chunkarr.grid import Grid
from chunkarr.kernels.recipe import StoreLeaf
from chunkarr.plan.blocks import emit_blocks
from chunkarr.plan.emit import (
    copy_sweep,
    emit_compress,
    emit_count,
    emit_reshape,
    emit_scan,
    emit_sweep,
)
from chunkarr.plan.gather import emit_gather, emit_scatter
from chunkarr.plan.jobs import Group, find_jobs, group_jobs, read_whole
from chunkarr.plan.lower import Lowering
from chunkarr.plan.plan import Limits, Plan, Row, Target
from chunkarr.plan.products import emit_contract
from chunkarr.plan.rewrite import rewrite
from chunkarr.scheduler.steps import Step
from chunkarr.storage.memory import PICKLE_BYTES_MAX, MemoryStore
from chunkarr.storage.scratch import copy_of, new_flat, new_spill
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.tiled.builder import Builder

Emitter = Callable[["Planner", Group], None]

EMITTERS: dict[type[Expr], Emitter] = {
    Scan: emit_scan,
    Compress: emit_compress,
    Contract: emit_contract,
    Reshape: emit_reshape,
    Gather: emit_gather,
    Scatter: emit_scatter,
    Blocks: emit_blocks,
}
"""How each kind of node becomes steps; all other kinds share sweeps."""

STAYING_BYTES = 64 << 10
"""What stays after its plan and is not larger may take the room of later tasks as well."""

ALGORITHMS = {
    "sort": "chunkarr.tiled.sort",
    "cholesky": "chunkarr.tiled.cholesky",
    "count": "chunkarr.plan.counting",
}
"""The files of tiled algorithms, by the name in their node; each has a function `emit`."""


class Planner:
    """Builds one plan."""

    def __init__(self, targets: Sequence[Target], keep: Sequence[Expr], limits: Limits) -> None:
        self.targets = targets
        self.limits = limits
        self.plan = Plan(limits=limits)
        self.new = rewrite([target.expr for target in targets])
        self.wanted = [self.new[id(target.expr)] for target in targets]
        self.keep = self._worth_keeping(keep)
        self.placed: dict[int, Store] = {}
        self.swapped: dict[int, Store] = {}  # id of a store -> the copy that is read instead
        self.recut: dict[StoreLeaf, StoreLeaf] = {}  # leaf -> leaf over a copy cut for it
        self.done: dict[int, Store] = {}  # position of a target -> where it is
        self.held = 0
        self.alive: dict[int, Store] = {}  # id of a job's node -> scratch store to free
        self.last: dict[int, int] = {}  # id of a job's node -> last group that reads it
        self.number = 0
        self.held += sum(
            target.store.bytes_size
            for target in targets
            if target.store is not None and target.store.in_memory
        )

    def _worth_keeping(self, keep: Sequence[Expr]) -> dict[int, Expr]:
        """Choose, among values that live names hold, those small enough to hold on to."""
        out: dict[int, Expr] = {}
        room = self.limits.bytes_keep // 4
        for node in keep:
            new = self.new.get(id(node))
            if new is not None and 0 < new.nbytes <= room:
                out[id(new)] = node
                room -= new.nbytes
        return out

    # -- bytes ------------------------------------------------------------------------------

    @property
    def bytes_free(self) -> int:
        """Bytes that are neither in use before the plan nor held by its own stores."""
        return self.limits.bytes_available - self.held

    def refuse(
        self,
        node: Expr,
        needed: int,
        array: str | None = None,
        remedy: str = "use smaller chunks in the stored arrays that are read or written",
    ) -> MemoryBudgetError:
        """Make the error for a step that cannot fit."""
        return MemoryBudgetError(
            array=array or f"array of shape {node.shape} and dtype {node.dtype}",
            operation=node.label,
            where=node.where,
            bytes_needed=needed + self.held,
            bytes_available=self.limits.bytes_available,
            remedies=(
                "raise the limit: config(memory=...) or CHUNKARR_MEMORY",
                remedy,
            ),
        )

    # -- places -----------------------------------------------------------------------------

    def scratch(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        grid: Grid,
        name: str,
        parts: int = 2,
        *,
        stays: bool = False,
    ) -> Store:
        """Make a store for a value, which is read by this plan alone unless it `stays` after it.

        It lies in memory if it takes at most one of `parts` equal parts of what is free. What stays
        leaves room for a task of the plans to come.
        """
        memory = MemoryStore(shape=shape, dtype=dtype, grid=grid, name=name, owned=True)
        memory.tiled = True
        if self._fits(memory, parts, stays=stays):
            return memory
        spill = new_spill(shape, dtype, grid, name)
        self.plan.bytes_spilled += spill.bytes_size
        return spill

    def contiguous(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], name: str, *, stays: bool = False
    ) -> Store:
        """Make a store for a value that is read under another shape; as `scratch` otherwise."""
        memory = MemoryStore(shape=shape, dtype=dtype, name=name, owned=True)
        if self._fits(memory, stays=stays):
            return memory
        flat = new_flat(shape, dtype, name)
        self.plan.bytes_spilled += flat.bytes_size
        return flat

    def _fits(self, memory: MemoryStore, parts: int = 2, *, stays: bool = False) -> bool:
        limits = self.limits
        left = 3 * limits.bytes_share if stays and memory.bytes_size > STAYING_BYTES else 0
        free = limits.bytes_keep - self.held
        room = min(free // parts, free - left)
        if not limits.shares_memory or limits.lasting or memory.bytes_size > room:
            return False
        self.held += memory.bytes_size
        return True

    def target_of(self, node: Expr) -> Store | None:
        """Give the store that the user wants a node's value in, if there is one."""
        for wanted, target in zip(self.wanted, self.targets, strict=True):
            if wanted is node and target.store is not None:
                return target.store
        return None

    def place(self, node: Expr, grid: Grid) -> Store:
        """Choose where a node's value goes and remember it for its readers."""
        target = self.target_of(node)
        if target is not None and self.suits(target, grid) and not self._read_later(node, target):
            for position, wanted in enumerate(self.wanted):
                if wanted is node and self.targets[position].store is target:
                    self.done[position] = target
            self.placed[id(node)] = target
            return target
        stays = self.stays(node)
        store = self.scratch(node.shape, node.dtype, grid, node.label, stays=stays)
        self.adopt(node, store, store)
        return store

    def stays(self, node: Expr) -> bool:
        """Whether a node's value is wanted itself, and stands after the plan."""
        return any(wanted is node for wanted in self.wanted)

    def _read_later(self, node: Expr, target: Store) -> bool:
        """Whether a node's value is needed again, from a target that can only be written."""
        if target.in_memory:
            return False
        takers = sum(wanted is node for wanted in self.wanted)
        return takers > 1 or self.last.get(id(node), -1) > self.number

    def read_by_others(self, node: Expr) -> bool:
        """Whether anything but the group that is being emitted wants a node's value."""
        later = id(node) in self.keep or self.last.get(id(node), -1) > self.number
        return later or self.stays(node)

    def adopt(self, node: Expr, store: Store, scratch: Store) -> None:
        """Let readers of a node find its value in `store`, whose bytes `scratch` holds."""
        self.placed[id(node)] = store
        keep = self.keep.get(id(node))
        if self.stays(node):
            return
        if keep is not None and (scratch.in_memory or not self.limits.shares_memory):
            self.plan.kept.append((keep, store))
        else:
            self.alive[id(node)] = scratch

    def suits(self, store: Store, grid: Grid) -> bool:
        """Whether cells of `grid` may be written to a store as they come."""
        unit = store.write_grid
        return unit is None or all(unit.aligned(region) for region in _corner_regions(grid))

    # -- the walk ---------------------------------------------------------------------------

    def build(self) -> Plan:
        """Make the plan for the targets."""
        return self._build(self.wanted, self._results)

    def build_count(self, bands: Grid) -> Store:
        """Make the plan that counts the true values of the one target in each of its bands."""
        counts: list[Store] = []
        self._build((), lambda: counts.append(emit_count(self, self.wanted[0], bands)))
        return counts[0]

    def _build(self, stored: Sequence[Expr], finish: Callable[[], None]) -> Plan:
        order = walk(self.wanted)
        kept = read_whole(order, self.wanted) & self.keep.keys()
        shared = [] if self.limits.shares_memory else self._share_memory(order)
        jobs = find_jobs(order, stored, kept, self.limits.bytes_available // 8)
        groups = group_jobs(jobs)
        spot = {id(job.node): n for n, group in enumerate(groups) for job in group.jobs}
        for job in jobs:
            for need in job.needs:
                self.last[need] = max(self.last.get(need, -1), spot[id(job.node)])
        if not stored:
            # What finishes the plan reads these, after all groups.
            self.last |= dict.fromkeys(_reached(self.wanted, spot), len(groups))
        for self.number, group in enumerate(groups):
            self._emit(group)
            self._free()
        finish()
        self.number = len(groups)
        self._free()
        if shared and self.plan.steps:
            first = self.plan.steps[0]
            self.plan.steps[0] = replace(first, creates=(*shared, *first.creates))
        return self.plan

    def _share_memory(self, order: Sequence[Expr]) -> list[Store]:
        """Put what lies in this process's memory where other processes can read it."""
        made: list[Store] = []
        for node in order:
            if not isinstance(node, Source) or not node.store.in_memory:
                continue
            store = node.store
            if store.bytes_size <= PICKLE_BYTES_MAX or id(store) in self.swapped:
                continue
            copy = copy_of(store)
            self.plan.copied.append(store)
            self.plan.bytes_spilled += copy.bytes_size
            made.append(copy)
            self.swapped[id(store)] = copy
        return made

    def _emit(self, group: Group) -> None:
        node = group.jobs[0].node
        if isinstance(node, Algorithm):
            emit: Callable[[Builder, Expr], None] = importlib.import_module(
                ALGORITHMS[node.name]
            ).emit
            emit(self, node)
        else:
            EMITTERS.get(type(node), emit_sweep)(self, group)

    def _free(self) -> None:
        """Release scratch stores after the last group that reads them."""
        gone = [key for key in self.alive if self.last.get(key, -1) <= self.number]
        stores = tuple(self.alive.pop(key) for key in gone)
        self.release(stores)

    def release(self, stores: Sequence[Store]) -> None:
        """Let the last step so far free scratch stores."""
        if not self.plan.steps or not stores:
            return
        step = self.plan.steps[-1]
        self.plan.steps[-1] = replace(step, releases=(*step.releases, *stores))
        self.held -= sum(store.bytes_size for store in stores if store.in_memory)
        gone = set(map(id, stores))
        self.recut = {k: v for k, v in self.recut.items() if id(v.store) not in gone}

    def _results(self) -> None:
        for position, (node, target) in enumerate(zip(self.wanted, self.targets, strict=True)):
            store = self.done.get(position)
            if store is None:
                found = self.placed.get(id(node))
                store = node.store if found is None and isinstance(node, Source) else found
                assert store is not None
                if target.store is not None and store is not target.store:
                    copy_sweep(self, node, target.store)
                    store = target.store
            self.plan.results.append(store)

    # -- emission ---------------------------------------------------------------------------

    def lowering(
        self,
        shape: tuple[int, ...],
        earlier: dict[int, int] | None = None,
        interned: dict[StoreLeaf, StoreLeaf] | None = None,
    ) -> Lowering:
        """Give the lowering over an index space, with what is placed so far."""
        shared = {} if interned is None else interned
        return Lowering(shape, self.placed, earlier or {}, self.swapped, self.recut, shared)

    def plain_leaf(self, node: Expr) -> Store | None:
        """Give the store whose content a node's value is, as it is; None for anything else."""
        recipe = self.lowering(node.shape).recipe(node)
        leaf = recipe.leaves[0] if recipe.trivial else None
        return leaf.store if isinstance(leaf, StoreLeaf) and leaf.plain else None

    def add(
        self, step: Step, node: Expr, seconds: float, passes: int = 1, array: str | None = None
    ) -> None:
        """Append a step after checking that it fits; `array` names what makes it large."""
        extra = sum(store.bytes_write_extra for store in step.creates)
        step = replace(step, bytes_task=step.bytes_task + extra)
        needed = step.bytes_task + step.bytes_fixed
        if needed > self.bytes_free:
            raise self.refuse(node, needed, array)
        # What the plan's own stores hold is not there for tasks; the run admits them by this.
        step = replace(step, bytes_fixed=step.bytes_fixed + self.held)
        workers = max(1, min(self.limits.workers, step.tasks))
        room = self.limits.bytes_available - step.bytes_fixed
        running = min(workers, max(1, room // max(1, step.bytes_task)))
        peak = step.bytes_fixed + running * step.bytes_task
        self.plan.bytes_peak = max(self.plan.bytes_peak, peak)
        self.plan.steps.append(step)
        self.plan.rows.append(
            Row(
                step.name,
                step.where,
                step.tasks,
                step.bytes_read,
                step.bytes_written,
                peak,
                passes,
                seconds,
            )
        )


def _corner_regions(grid: Grid) -> list[tuple[slice, ...]]:
    """Give a few cells that stand for all: the first and the second along each axis."""
    if not grid.size:
        return []
    counts = grid.counts
    cells = [(0,) * len(counts)]
    cells += [
        tuple(1 if axis == other else 0 for other in range(len(counts)))
        for axis, count in enumerate(counts)
        if count > 1
    ]
    return [grid.region(cell) for cell in cells]


def make_plan(targets: Sequence[Target], keep: Sequence[Expr], limits: Limits) -> Plan:
    """Plan how to compute the targets; values of the nodes in `keep` are held where they fit."""
    fault_point("plan")
    return Planner(targets, keep, limits).build()


def _reached(roots: Sequence[Expr], jobs: Mapping[int, int]) -> list[int]:
    """List the jobs whose values the roots read directly."""
    found, stack, seen = [], list(roots), set[int]()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if id(node) in jobs:
            found.append(id(node))
        else:
            stack.extend(node.operands)
    return found


def count_plan(mask: Expr, bands: Grid, keep: Sequence[Expr], limits: Limits) -> tuple[Plan, Store]:
    """Plan counting the true values of a mask in each of its bands; `keep` as in `make_plan`."""
    fault_point("plan")
    planner = Planner([Target(mask)], keep, limits)
    counts = planner.build_count(bands)
    return planner.plan, counts
