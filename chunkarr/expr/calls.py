"""Calls of a function on whole boxes of its operands, as plain data.

A call has an index space of its own, `tasks`: the loop axes of a generalised ufunc, or the numbers
of chunks along each axis. `Laid` says how an array lies along it, so that the box of any operand
and any result follows from a box of tasks, and nothing is ever listed box by box.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from chunkarr.grid import Grid, Region
from chunkarr.records import dataclass

WHOLE = -1
"""In `Laid.follows`: each call takes all of the axis."""


@dataclass(frozen=True, slots=True)
class Laid:
    """How an array lies along the tasks.

    Chunk i of `grid` along an axis belongs to index i of the task axis that the axis follows.
    `reach` widens what is read before and after it, as far as the array goes; the array may be
    longer than `grid` by what was padded to it.

    >>> rows = Laid(Grid((10, 3), (4, 3)), (0, WHOLE), ((1, 1), (0, 0)))
    >>> rows.region((slice(1, 2),), (10, 3))
    (slice(3, 9, None), slice(0, 3, None))
    """

    grid: Grid
    follows: tuple[int, ...]
    reach: tuple[tuple[int, int], ...] = ()

    def region(self, tasks: Region, shape: Sequence[int]) -> Region:
        """Give the box of an array of `shape` that belongs to a box of tasks."""
        spans = []
        for axis, (along, n) in enumerate(zip(self.follows, shape, strict=True)):
            if along == WHOLE:
                spans.append(slice(0, n))
                continue
            start = self.grid.bounds(axis, tasks[along].start)[0]
            stop = self.grid.bounds(axis, tasks[along].stop - 1)[1]
            before, after = self.reach[axis] if self.reach else (0, 0)
            spans.append(slice(max(0, start - before), min(n, stop + after)))
        return tuple(spans)

    def cut(self, cell: Sequence[int]) -> Grid:
        """Give the cut of the array that goes with cells of so many tasks along each axis."""
        axes: list[int | tuple[int, ...]] = []
        for n, size, along in zip(self.grid.shape, self.grid.axes, self.follows, strict=True):
            if along == WHOLE:
                axes.append(max(1, n))
            else:
                assert isinstance(size, int) or cell[along] <= 1
                axes.append(size * max(1, cell[along]) if isinstance(size, int) else size)
        return Grid(self.grid.shape, tuple(axes))

    def box(self, cell: Sequence[int], shape: Sequence[int]) -> tuple[int, ...]:
        """Give the largest box of an array of `shape` that a cell of tasks takes."""
        largest = self.cut(cell).chunk_shape
        reach = self.reach or ((0, 0),) * len(largest)
        return tuple(
            n if along == WHOLE else min(n, length + sum(wider))
            for n, length, along, wider in zip(shape, largest, self.follows, reach, strict=True)
        )


class Made(NamedTuple):
    """One result of a call: its dtype, and how it lies along the tasks."""

    dtype: np.dtype[Any]
    laid: Laid


class Place(NamedTuple):
    """Where a call is, for functions that ask."""

    cell: tuple[int, ...]
    """The first of its tasks, one number per task axis."""
    reads: tuple[Region, ...]
    """The box of each operand."""
    makes: tuple[Region, ...]
    """The box of each result."""


STRETCH_BYTES = 1 << 20
"""So much of a stretched operand is read together; it fits a core's cache."""


class Stretches(Protocol):
    """An operand's last axis, of which a function reads stretches one after the other."""

    step: int
    """The length of a stretch; the last may be shorter."""

    def __len__(self) -> int:
        """Give the length of the axis."""
        ...

    def read(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Give so many values, at most `step`, as an array of one axis that is read-only."""
        ...


@dataclass(frozen=True, slots=True)
class Call:
    """A function, and how its calls lie over its operands and results.

    `function(*boxes, **options)` gives an array, or a tuple where there are several results. Boxes
    are read-only unless the function `owns` them. With `placed` it gets a `Place` as first
    argument. With `joined`, one call may take any box of tasks, otherwise it takes one.
    """

    function: Callable[..., Any]
    name: str
    tasks: tuple[int, ...]
    reads: tuple[Laid, ...]
    makes: tuple[Made, ...]
    options: tuple[tuple[str, Any], ...] = ()
    joined: bool = False
    owns: bool = False
    placed: bool = False
    scratch: float = 1.0
    """Bytes that a call holds for itself, per byte of its boxes."""
    stretched: tuple[int, ...] = ()
    """Positions of operands that may be too long to be held: the function gets `Stretches`."""

    @property
    def key(self) -> Hashable:
        """What two calls that do the same have in common; functions are told by identity."""
        return (
            id(self.function),
            self.tasks,
            self.reads,
            self.makes,
            self.options,
            self.joined,
            self.owns,
            self.placed,
            self.stretched,
        )
