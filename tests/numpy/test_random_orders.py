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


@pytest.mark.parametrize(
    "named",
    [
        {},
        {"size": 7},
        {"size": (3, 4)},
        {"size": 5, "replace": False},
        {"size": 6, "axis": 1},
        {"size": 3, "axis": -1, "shuffle": False, "replace": False},
        {"size": 4, "p": np.full(40, 1 / 40)},
    ],
)
def test_elements_that_are_not_in_memory_are_chosen_as_by_numpy(named: dict[str, Any]) -> None:
    values = np.arange(40 * 30.0).reshape(40, 30)
    with chunkarr.config(eager_bytes=0, chunk_bytes=512):
        x = chunkarr.from_array(values) + 0
        theirs, ours = np.random.default_rng(5), ours_random.default_rng(5)
        found, expected = ours.choice(x, **named), theirs.choice(values, **named)
        np.testing.assert_array_equal(np.asarray(found), expected)
        assert ours.random() == theirs.random()
        if "axis" in named:
            return
        old, new = np.random.RandomState(5), ours_random.RandomState(5)
        found, expected = new.choice(x[:, 0], **named), old.choice(values[:, 0], **named)
        np.testing.assert_array_equal(np.asarray(found), expected)
        assert new.random_sample() == old.random_sample()
        with pytest.raises(ValueError, match="1-dimensional"):
            new.choice(x, **named)
