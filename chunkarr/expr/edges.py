"""Edges of bins and sorted tables: constant operands of operations that find places of values.

And what has the same number, of a bin or of a stretch, brought together.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from chunkarr.records import dataclass


@dataclass(frozen=True, slots=True, eq=False)
class Edges:
    """Sorted edges; a bin holds its first edge and not its second, the last bin holds both."""

    values: npt.NDArray[Any]
    scale: float = field(init=False)
    """Bins per unit, where arithmetic finds the bin of any value or one beside it; else zero."""
    slack: float = field(init=False)
    """How far arithmetic leads astray, in bins: beyond that from a whole number it is right."""

    def __post_init__(self) -> None:
        scale, slack = _scale(self.values)
        object.__setattr__(self, "scale", scale)
        object.__setattr__(self, "slack", slack)

    @property
    def count(self) -> int:
        """The number of bins."""
        return int(self.values.size - 1)


@dataclass(frozen=True, slots=True, eq=False)
class Ladder:
    """Sorted values; a value's place is the number of those below it."""

    values: npt.NDArray[Any]
    side: Literal["left", "right"]
    """ "left", or "right" where values that equal it count as below it."""


def _scale(edges: npt.NDArray[Any]) -> tuple[float, float]:
    """Give the bins per unit of evenly spaced edges, zero for any others, and the slack.

    What is found never falls as the value grows, so for all values it is off by one at most if it
    is not for the edges: each in its own bin or the one before. For the same reason a value between
    two edges is found between what is found for the two.
    """
    bins = edges.size - 1
    if edges.dtype.kind != "f" or bins < 1 or not np.isfinite(edges).all():
        return 0.0, 0.0
    with np.errstate(all="ignore"):
        scale = edges.dtype.type(bins) / (edges[-1] - edges[0])
        if not np.isfinite(scale) or scale <= 0:
            return 0.0, 0.0
        found = (edges - edges[0]) * scale
        off = np.arange(bins + 1) - found.astype(np.int64)
    if not ((off == 0) | (off == 1)).all():
        return 0.0, 0.0
    return float(scale), float(np.abs(found - np.arange(bins + 1)).max())


def grouped(numbers: npt.NDArray[Any], last: int) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """Give each of the numbers with the places where it stands, both in order.

    `numbers` is an integer array of one axis, with values from 0 to `last`; places are `intp`.
    """
    # Numbers of 16 bits are put in order without being compared.
    numbers = numbers.astype(np.uint16 if last < 1 << 16 else np.int64)
    order = np.argsort(numbers, kind="stable")
    ordered, at = numbers[order], 0
    while at < len(order):
        end = int(np.searchsorted(ordered, ordered[at], side="right"))
        yield int(ordered[at]), order[at:end]
        at = end
