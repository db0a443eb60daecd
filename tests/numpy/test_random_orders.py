"""Random orders are NumPy's along each axis."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chunkarr
import chunkarr.random as ours_random


@pytest.mark.parametrize("kind", [np.random.default_rng, np.random.RandomState])
@pytest.mark.parametrize("shape", [(50,), (1,), (0,), (40, 3), (7, 1), (4, 5, 6)])
@pytest.mark.parametrize("dtype", ["f8", "i1", "U3", "c16"])
def test_orders_are_numpys_along_each_axis(kind: Any, shape: tuple[int, ...], dtype: str) -> None:
    values = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    theirs = kind(5)
    ours = (ours_random.RandomState if kind is np.random.RandomState else ours_random.default_rng)(
        5
    )
    for axis in range(len(shape)) if kind is np.random.default_rng else [0]:
        named = {"axis": axis} if axis else {}
        assert np.array_equal(
            theirs.permutation(values, **named),
            ours.permutation(chunkarr.array(values), **named).compute(),
        )
        a, b = values.copy(), chunkarr.array(values)
        theirs.shuffle(a, **named)
        ours.shuffle(b, **named)
        assert np.array_equal(a, b.compute())
    assert theirs.bytes(8) == ours.bytes(8)
