"""Emits the counting of numbers: an `Algorithm` named "count".

Operands are numbers of places, of which those below zero or beyond the last count nowhere, and
perhaps weights of the same shape. What makes them is fused into the visit. Tasks take cells that
follow each other and have counts of their own, as many tasks as memory has room for such; the
counts are added up at the end. Numbers of any order give the same counts, and the order in which
weights are added depends on the plan alone.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from chunkarr.expr.node import Expr
from chunkarr.grid import Grid
from chunkarr.kernels.counting import COPIES, add_counts, tally
from chunkarr.kernels.program import Program
from chunkarr.kernels.recipe import Recipe, bytes_extra
from chunkarr.plan.emit import (
    SECONDS_PER_BYTE,
    SECONDS_PER_BYTE_STORED,
    settle_rereads,
    sweep_grid,
)
from chunkarr.plan.grids import bytes_wanted, choose_cut, write_unit
from chunkarr.plan.jobs import Group, Job
from chunkarr.plan.works import Combine
from chunkarr.records import dataclass
from chunkarr.scheduler.steps import Context, Step, Touched
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner

TASKS_MAX = 256
COUNTS_SHARE = 16
"""All tasks' counts together take so small a part of the memory limit, but for one task's."""
SECONDS_PER_ELEMENT = 4e-9


@dataclass(frozen=True, slots=True)
class CountsWork:
    """Counts the numbers of a few cells, which follow each other, into a row of its own."""

    places: Recipe
    weights: Recipe | None
    grid: Grid
    cells: int
    """How many cells a task takes."""
    store: Store

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes."""
        cells = range(task * self.cells, min(self.grid.size, (task + 1) * self.cells))
        recipes = [recipe for recipe in (self.places, self.weights) if recipe is not None]
        reads = [box for cell in cells for r in recipes for box in r.boxes(self.grid.region(cell))]
        row = (slice(task, task + 1), slice(0, self.store.shape[1]))
        return Touched(reads, [(self.store, row)])

    def run(self, task: int, context: Context) -> None:
        """Count one task's cells."""
        bins, values = (None, self.places) if self.weights is not None else _split(self.places)
        counts = np.zeros(self.store.shape[1], self.store.dtype)
        for cell in range(task * self.cells, min(self.grid.size, (task + 1) * self.cells)):
            context.check()
            region = self.grid.region(cell)
            if bins is not None:
                tally(bins, values.evaluate(region), counts)
                continue
            weights = None if self.weights is None else self.weights.evaluate(region)
            add_counts(counts, values.evaluate(region), weights)
        self.store.write((slice(task, task + 1), slice(0, counts.size)), counts[None])


def _split(places: Recipe) -> tuple[Any, Recipe]:
    """Take the finding of bins off the end of a recipe: the held `Edges`, and what makes values."""
    program = places.program
    op = program.ops[-1] if program.ops else None
    if op is None or op.name != "locate":
        return None, places
    held, value = op.args

    def moved(number: int) -> int:
        return number - (number > held)

    def without(items: tuple[Any, ...]) -> tuple[Any, ...]:
        return items[:held] + items[held + 1 :]

    ops = tuple(replace(o, args=tuple(map(moved, o.args))) for o in program.ops[:-1])
    before = Program(without(program.inputs), ops, (moved(value),))
    bins = places.leaves[held].load((), ())
    return bins, Recipe(places.shape, without(places.leaves), before)


def emit(planner: Planner, node: Expr) -> None:
    """Emit the counting and the adding up."""
    operands = node.operands
    shape = operands[0].shape
    recipes = _recipes(planner, operands)
    grid, bytes_of = sweep_grid(planner, shape, recipes, [], [tuple(range(len(shape)))])
    scratch = settle_rereads(planner, Group([Job.plain(node)]), grid, recipes)
    if scratch:
        recipes = _recipes(planner, operands)
    width = node.nbytes
    room = planner.limits.bytes_limit // COUNTS_SHARE // max(1, width)
    cells = -(-grid.size // max(1, min(TASKS_MAX, room)))
    tasks = -(-grid.size // cells)
    parts = planner.scratch(
        (tasks, *node.shape), node.dtype, Grid((tasks, *node.shape), (1, *node.shape)), "counts"
    )
    places, weights = recipes[0], recipes[1] if len(recipes) > 1 else None
    mapped, stored = bytes_wanted(recipes)
    seconds = math.prod(shape) * SECONDS_PER_ELEMENT
    seconds += stored * SECONDS_PER_BYTE_STORED + mapped * SECONDS_PER_BYTE
    step = Step(
        name=node.label,
        work=CountsWork(places, weights, grid, cells, parts),
        tasks=tasks,
        bytes_task=bytes_of(grid.chunk_shape) + bytes_extra(recipes) + (COPIES + 2) * width,
        where=node.where,
        creates=(parts,),
        bytes_read=mapped + stored,
        bytes_written=parts.bytes_size,
        weight=seconds / max(1, tasks),
    )
    planner.add(step, node, seconds / planner.limits.workers)
    planner.release(tuple(scratch))
    _add_up(planner, node, parts)


def _recipes(planner: Planner, operands: tuple[Expr, ...]) -> list[Recipe]:
    return [planner.lowering(operands[0].shape).recipe(operand) for operand in operands]


def _add_up(planner: Planner, node: Expr, parts: Store) -> None:
    rows = parts.shape[0]
    elements = max(1, planner.limits.chunk_bytes // (rows * node.dtype.itemsize))
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    cut = (
        unit if isinstance(unit, Grid) else Grid(node.shape, choose_cut(node.shape, elements, unit))
    )
    store = planner.place(node, cut)
    size = math.prod(cut.chunk_shape)
    step = Step(
        name=f"{node.label} merge",
        work=Combine("sum", (parts,), store, cut),
        tasks=cut.size,
        bytes_task=2 * size * (rows + 1) * node.dtype.itemsize,
        where=node.where,
        creates=(store,),
        bytes_read=parts.bytes_size,
        bytes_written=store.bytes_size,
        weight=size * rows * 4e-9,
    )
    planner.add(step, node, step.weight * cut.size)
    planner.release((parts,))
