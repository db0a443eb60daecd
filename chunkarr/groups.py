"""Equal numbers brought together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

NDArray = npt.NDArray[Any]


def grouped(numbers: NDArray, last: int) -> Iterator[tuple[int, NDArray]]:
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
