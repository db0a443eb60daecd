"""Writes of values that are still to be computed, one by one, into an array in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.expr.node import walk
from chunkarr.patches import WRITES_MAX
from chunkarr.settings import config

xp: Any = chunkarr
rng = np.random.default_rng(0)
VALUES = rng.normal(size=(90, 7))


@pytest.fixture(autouse=True)
def lazy() -> Iterator[None]:
    with config(eager_bytes=0, chunk_bytes=256):
        yield


def buffer_of(array: Any) -> Any:
    store = getattr(array.to_expr(), "store", None)
    return getattr(store, "array", None)


def by_element(np: Any, x: Any, out: Any) -> None:
    for i in range(90):
        out[i, i % 7] = np.sqrt(np.max(x[i] ** 2))


def by_row(np: Any, x: Any, out: Any) -> None:
    for i in range(90):
        out[i] = x[i] - x[89 - i]


def by_column_and_backward(np: Any, x: Any, out: Any) -> None:
    for i in range(90):
        out[::-2, i % 7] = x[1::2, i % 7] * i


def over_each_other(np: Any, x: Any, out: Any) -> None:
    for i in range(90):
        out[i // 2 : i // 2 + 5, 1:4] = x[i, 1:4] + i


def through_a_view(np: Any, x: Any, out: Any) -> None:
    seen = out.T[::-1]
    for i in range(90):
        seen[:, i] = x[i] * 2


def of_much_that_is_lazy(np: Any, x: Any, out: Any) -> None:
    lazy = x + 1
    for k in range(20):
        lazy[k] = x[k + 1] * lazy[k]
    for i in range(90):
        out[i] = lazy[i] * 2


def of_what_was_written(np: Any, x: Any, out: Any) -> None:
    for i in range(1, 90):
        out[i] = out[i - 1] * 0.5 + x[i]


PROGRAMS = [
    by_element,
    by_row,
    by_column_and_backward,
    over_each_other,
    through_a_view,
    of_much_that_is_lazy,
    of_what_was_written,
]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.__name__)
def test_a_loop_of_writes_gives_numpys_values(program: Callable[[Any, Any, Any], None]) -> None:
    wanted = np.ones((90, 7))
    program(np, VALUES, wanted)
    out = xp.ones((90, 7)).persist()
    program(xp, xp.asarray(VALUES), out)
    assert len(walk([out.to_expr()])) < 10 * WRITES_MAX
    assert np.array_equal(out.compute(), wanted)


def test_a_loop_of_writes_keeps_the_buffer() -> None:
    out = xp.ones((90, 7)).persist()
    held = buffer_of(out)
    x = xp.asarray(VALUES)
    for i in range(WRITES_MAX):
        out[i] = x[i] * 2
    assert buffer_of(out) is held
    assert np.array_equal(held[:WRITES_MAX], VALUES[:WRITES_MAX] * 2)


@pytest.mark.parametrize("when", [0, 5, WRITES_MAX - 2])
def test_who_reads_the_old_values_keeps_them(when: int) -> None:
    out = xp.ones((90, 7)).persist()
    x = xp.asarray(VALUES)
    wanted = np.ones((90, 7))
    reader, old = None, wanted
    for i in range(2 * WRITES_MAX):
        if i == when:
            reader, old = out + 1, wanted + 1
        out[i] = x[i] * 2
        wanted[i] = VALUES[i] * 2
    assert reader is not None
    assert np.array_equal(reader.compute(), old)
    assert np.array_equal(out.compute(), wanted)


def test_a_value_that_cannot_be_computed_leaves_the_buffer_as_it_was() -> None:
    def fail(block: Any) -> Any:
        message = "no value"
        raise ValueError(message)

    out = xp.ones((90, 7)).persist()
    held = buffer_of(out)
    x = xp.asarray(VALUES)

    def write() -> None:
        for i in range(2 * WRITES_MAX):
            out[i] = x[i] * 2 if i != 3 else chunkarr.map_blocks(fail, x[i], dtype=float)

    with pytest.raises(ValueError, match="no value"):
        write()
    assert np.array_equal(held, np.ones((90, 7)))
