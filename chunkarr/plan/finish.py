"""What is made of a value where it is made: tiles of matrix products, results of calls.

A step that makes a value box by box may hand each box to a sweep that reads it at its own index,
elementwise or in reductions, while it is there. The value itself is stored only if something else
wants it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from chunkarr.expr.node import Expr
from chunkarr.grid import Grid
from chunkarr.kernels import tier
from chunkarr.kernels.recipe import Recipe, bytes_extra, bytes_loaded
from chunkarr.plan.emit import SECONDS_PER_OPERATION, outputs_of, recipes_of, settle_rereads
from chunkarr.plan.folds import combine
from chunkarr.plan.jobs import Group, Job
from chunkarr.plan.works import Parts, Sweep, Whole
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.plan.planner import Planner


class Finish(NamedTuple):
    """What a step makes of its value."""

    store: Store | None
    """Where the value itself goes, if anything else wants it."""
    sweep: Sweep | None
    creates: tuple[Store, ...]
    """All stores that the step fills."""
    recipes: tuple[Recipe, ...] = ()
    folds: tuple[Job, ...] = ()
    places: tuple[Parts | Whole, ...] = ()
    scratch: tuple[Store, ...] = ()

    @property
    def seconds(self) -> float:
        """Estimated seconds of all that is made of the value, on one core."""
        return sum(
            math.prod(recipe.shape) * (len(recipe.program.ops) + 1) * SECONDS_PER_OPERATION
            for recipe in self.recipes
        )


def bytes_finish(planner: Planner, group: Group, made: Expr, cell: tuple[int, ...]) -> int:
    """Most bytes that making more of a box holds, the box itself among them."""
    maps, folds = group.rest
    recipes = recipes_of(planner, made.shape, maps, folds, made)
    sizes = [recipe.dtype.itemsize for recipe in recipes]
    results = sum(sizes[: len(maps)]) + max(sizes[len(maps) :], default=0)
    box = math.prod(cell) * (results + made.dtype.itemsize)
    return bytes_loaded(recipes, cell) + box + bytes_extra(recipes)


def room_finish(planner: Planner, group: Group, made: Expr) -> int:
    """Bytes that are left for a task at least, each store having taken up to half of what was."""
    maps, folds = group.rest
    stores = sum(planner.target_of(job.node) is None for job in maps)
    return planner.bytes_free >> (stores + bool(folds) + planner.read_by_others(made))


def finish(planner: Planner, group: Group, made: Expr, grid: Grid) -> Finish:
    """Place a value that is made in the cells of a grid, and what a group makes of it."""
    maps, folds = group.rest
    recipes = recipes_of(planner, made.shape, maps, folds, made)
    scratch = settle_rereads(planner, group, grid, recipes)
    if scratch:
        recipes = recipes_of(planner, made.shape, maps, folds, made)
    store = planner.place(made, grid) if not recipes or planner.read_by_others(made) else None
    outputs, creates, places = outputs_of(planner, maps, folds, recipes, grid)
    for recipe in recipes:
        tier.request(recipe.program, made.size)
    return Finish(
        store,
        Sweep(grid, outputs) if outputs else None,
        (*creates, *(() if store is None else (store,))),
        tuple(recipes),
        tuple(folds),
        tuple(places),
        tuple(scratch),
    )


def merge(planner: Planner, done: Finish) -> None:
    """Free what only the last step has read, and merge the parts of its reductions."""
    planner.release(done.scratch)
    for job, place in zip(done.folds, done.places, strict=True):
        combine(planner, job, place)
