"""What the planner's tests share: fixed limits, plans without running, a store that counts."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import chunkarr
from chunkarr.expr.node import Expr, Source
from chunkarr.grid import Grid, Region
from chunkarr.plan.plan import Limits, Plan, Target
from chunkarr.plan.planner import make_plan
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import Trace, run
from chunkarr.storage.store import Store

NDArray = npt.NDArray[Any]
MIB = 1 << 20


def limits(
    memory: int = 256 * MIB,
    chunk_bytes: int = 1 << 20,
    workers: int = 2,
    *,
    available: int | None = None,
    shares_memory: bool = True,
) -> Limits:
    """Give limits that depend on neither the machine nor the settings."""
    free = memory if available is None else available
    return Limits(memory, free, chunk_bytes, workers, shares_memory)


def plan_of(
    *arrays: Any, keep: Sequence[Any] = (), at: Limits | None = None, into: Store | None = None
) -> Plan:
    """Plan arrays together, without running anything."""
    targets = [Target(array.to_expr(), into) for array in arrays]
    return make_plan(targets, [array.to_expr() for array in keep], at or limits())


def run_plan(plan: Plan) -> Trace:
    """Run a plan in this process, whatever its memory holds."""
    assert plan.limits is not None
    return run(plan.steps, get_executor("threads", 2), plan.limits.bytes_available)


def names(plan: Plan) -> list[str]:
    """List the steps of a plan by name, mergers of partial results left out."""
    return [step.name for step in plan.steps if not step.name.endswith(" merge")]


class CountingStore(Store):
    """Chunks that pretend to be on a disk, and count how often each element is read."""

    def __init__(self, array: NDArray, chunks: tuple[int, ...], name: str = "counted") -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype
        self.grid = Grid(array.shape, chunks)
        self.name = name
        self.reads: NDArray = np.zeros(array.shape, np.int64)
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()

    def read(self, region: Region) -> NDArray:
        """Give a fresh copy, as a decoder would."""
        with self._lock:
            self.reads[region] += 1
            self.calls["read"] += 1
            self.calls["chunks"] += sum(1 for _ in self.grid.overlapping(region))
        return self.array[region].copy()

    def as_array(self) -> Any:
        """Give the array that a user would hold."""
        return chunkarr.Array(self.as_expr())

    def as_expr(self) -> Expr:
        """Give the source node."""
        return Source(shape=self.shape, dtype=self.dtype, store=self)


class FakeStore(Store):
    """A store of any size that has no data: for planning only."""

    def __init__(
        self,
        shape: tuple[int, ...],
        chunks: tuple[int, ...] | Grid,
        dtype: npt.DTypeLike = np.float64,
        name: str = "x.zarr",
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.grid = chunks if isinstance(chunks, Grid) else Grid(shape, chunks)
        self.name = name

    def read(self, region: Region) -> NDArray:
        """Fail: planning reads nothing."""
        raise AssertionError(f"planning has read {region}")

    def as_array(self) -> Any:
        """Give the array that a user would hold."""
        return chunkarr.Array(Source(shape=self.shape, dtype=self.dtype, store=self))


class FakeTarget(FakeStore):
    """A target that takes whole chunks only."""

    @property
    def write_grid(self) -> Grid:
        """The chunks."""
        return self.grid
