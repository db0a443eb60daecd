"""Tiled Cholesky factorisation, left-looking.

For each tile (i, j) of the lower triangle, column by column:

    S = A[i, j] - sum over k < j of  L[i, k] L[j, k]^H
    L[j, j] = potrf(S)                    for i = j
    L[i, j] = S L[j, j]^-H                for i > j

Left-looking, because every tile is then written once by one task that only reads finished tiles:
tasks are pure and may be repeated, and out of core a tile of the result costs one write. The
right-looking form (PLASMA's) rewrites the trailing matrix in every column. Order follows from the
tiles that a task reads and writes; nothing here spells it out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.node import Algorithm, Expr
from chunkarr.grid import Grid, region_shape
from chunkarr.kernels.gemm import gemm
from chunkarr.kernels.recipe import Recipe
from chunkarr.scheduler.steps import Accesses, Context, Step, Touched
from chunkarr.storage.store import Store
from chunkarr.tiled.builder import Builder

NDArray = npt.NDArray[Any]
TILE_SIDE = 512
"""Tiles of 256 to 512 reach the best rate of GEMM on current processors."""


@dataclass(frozen=True, slots=True)
class CholeskyWork:
    """One task per tile, numbered down the columns from the diagonal, the zero tiles last."""

    recipe: Recipe
    grid: Grid
    store: Store

    def tile(self, task: int) -> tuple[int, int]:
        """Give the row and column of a task's tile."""
        count = self.grid.counts[0]
        j, below = divmod(task, count)
        return (j + below) % count, j

    def accesses(self, task: int) -> Accesses:
        """Tell which tiles of the factor a task reads, and the one it writes."""
        i, j = self.tile(task)
        if i < j:
            return Accesses((), ((i, j),))
        rows = {i, j}
        reads = [(row, k) for row in sorted(rows) for k in range(j)]
        return Accesses([*reads, (j, j)] if i > j else reads, ((i, j),))

    def touched(self, task: int) -> Touched:
        """Tell what a task reads and writes: beside the matrix, two rows of finished tiles."""
        i, j = self.tile(task)
        region = self.grid.region((i, j))
        if i < j:
            return Touched((), [(self.store, region)])
        spans = [(row, slice(0, self.grid.bounds(1, j)[0])) for row in {i, j} if j]
        if i > j:
            spans.append((j, region[1]))
        reads = [(self.store, (slice(*self.grid.bounds(0, row)), span)) for row, span in spans]
        return Touched([*self.recipe.boxes(region), *reads], [(self.store, region)])

    def run(self, task: int, context: Context) -> None:
        """Compute one tile of the factor."""
        i, j = self.tile(task)
        region = self.grid.region((i, j))
        if i < j:
            self.store.write(region, np.zeros(region_shape(region), self.store.dtype))
            return
        dtype = self.store.dtype
        total = np.array(self.recipe.evaluate(region), dtype)
        for k in range(j):
            context.check()
            left, right = self._read(i, k), self._read(j, k)
            total -= gemm(left, right.conj().T)
        if i == j:
            tile = np.linalg.cholesky(total)
        else:
            # X L^H = S, that is L X^H = S^H; NumPy has no triangular solve.
            tile = np.linalg.solve(self._read(j, j), total.conj().T).conj().T
        self.store.write(region, tile.astype(dtype, copy=False))

    def _read(self, i: int, j: int) -> NDArray:
        return self.store.read(self.grid.region((i, j)))


def emit(planner: Builder, node: Expr) -> None:
    """Emit the factorisation of a square matrix as one step of ordered tasks."""
    assert isinstance(node, Algorithm)
    n = node.shape[0]
    size = node.dtype.itemsize
    recipe = planner.lowering(node.shape).recipe(node.operands[0])
    most = min(planner.limits.bytes_share, planner.limits.chunk_bytes * 4) // (6 * size)
    side = max(1, min(n, TILE_SIDE, math.isqrt(max(1, most))))
    grid = Grid(node.shape, (side, side))
    # Finished tiles are read again, so a target that only takes whole chunks gets a copy later.
    stays = planner.stays(node)
    store = planner.scratch(node.shape, node.dtype, grid, node.label, stays=stays)
    planner.adopt(node, store, store)
    flops = n**3 / 3
    planner.add(
        Step(
            name=node.label,
            work=CholeskyWork(recipe, grid, store),
            tasks=grid.size,
            bytes_task=recipe.bytes_box((side, side)) + 6 * side * side * size,
            where=node.where,
            creates=(store,),
            bytes_read=sum(s.bytes_size for s in recipe.stores()),
            bytes_written=node.nbytes,
            weight=flops / 2e10 / max(1, grid.size),
            blas=True,
        ),
        node,
        flops / 2e10 / planner.limits.workers,
        passes=grid.counts[0] // 3 + 1,
    )
