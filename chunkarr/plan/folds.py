"""Emits what reductions need beside their visit: stores for the parts, and the merging of these."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from chunkarr.expr.node import Reduce
from chunkarr.grid import Grid
from chunkarr.kernels.evaluate import reducer_of
from chunkarr.kernels.recipe import Recipe
from chunkarr.plan.grids import choose_cut, write_unit
from chunkarr.plan.jobs import Job
from chunkarr.plan.works import Combine, Parts, ReduceOutput, Whole
from chunkarr.scheduler.steps import Step

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner


def reduce_outputs(
    folds: Sequence[Job], recipes: Sequence[Recipe], places: Sequence[Parts | Whole]
) -> Iterator[ReduceOutput]:
    """Join reductions of the same value along the same axes, so that it is made once for all."""
    together: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, (job, recipe) in enumerate(zip(folds, recipes, strict=True)):
        assert isinstance(job.node, Reduce)
        together.setdefault((id(recipe), job.node.axes), []).append(number)
    for (_, axes), numbers in together.items():
        names = tuple(n.name for i in numbers if isinstance(n := folds[i].node, Reduce))
        yield ReduceOutput(recipes[numbers[0]], axes, names, tuple(places[i] for i in numbers))


def place_fold(planner: Planner, job: Job, recipe: Recipe, grid: Grid) -> Parts | Whole:
    """Place a reduction: its value, where no cut goes through what is reduced, else its parts."""
    node = job.node
    assert isinstance(node, Reduce)
    rows = math.prod(grid.counts[axis] for axis in node.axes)
    kept = [axis for axis in range(len(grid.shape)) if axis not in node.axes]
    axes = tuple(grid.axes[axis] for axis in kept)
    target, cut = planner.target_of(node), Grid(node.shape, axes)
    if rows == 1 and (target is None or planner.suits(target, cut)):
        return Whole(node.name, planner.place(node, cut), node.ddof)
    shape = (rows, *node.shape)
    return Parts(
        tuple(
            # The tasks that fill them run while they are held, and there are several of them.
            planner.scratch(shape, dtype, Grid(shape, (1, *axes)), f"{node.label} parts", parts=8)
            for dtype in reducer_of(node.name).state_dtypes(recipe.dtype)
        )
    )


def combine(planner: Planner, job: Job, place: Parts | Whole) -> None:
    """Append the step that merges a reduction's parts to its result, where there are any."""
    if isinstance(place, Whole):
        return
    node, parts = job.node, place.stores
    assert isinstance(node, Reduce)
    rows = parts[0].shape[0]
    width = sum(store.dtype.itemsize for store in parts)
    target = planner.target_of(node)
    unit = write_unit(node.shape, [target] if target else [])
    if isinstance(unit, Grid):
        cut = unit
    else:
        elements = max(1, planner.limits.chunk_bytes // max(1, rows * width))
        cut = Grid(node.shape, choose_cut(node.shape, elements, unit))
    store = planner.place(node, cut)
    size = math.prod(cut.chunk_shape)
    step = Step(
        name=f"{node.label} merge",
        work=Combine(node.name, parts, store, cut, node.ddof),
        tasks=cut.size,
        bytes_task=2 * size * (rows * width + node.dtype.itemsize),
        where=node.where,
        creates=(store,),
        bytes_read=sum(s.bytes_size for s in parts),
        bytes_written=store.bytes_size,
        weight=size * rows * 4e-9,
    )
    planner.add(step, node, step.weight * cut.size)
    planner.release(parts)
