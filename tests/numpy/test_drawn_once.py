"""Random numbers are drawn once where what is computed from them would draw them again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.arrays import Array
from chunkarr.expr.node import Source
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.settings import config
from chunkarr.storage.stream import StreamStore

ours_random: Any = chunkarr.random


def drawn_of(array: Array) -> int:
    """Count the windows that were drawn for an array."""
    cell = array.to_expr()
    assert isinstance(cell, Source)
    assert isinstance(cell.store, StreamStore)
    return cell.store.stream.windows_drawn


@pytest.fixture
def lazy() -> Iterator[None]:
    with config(eager_bytes=0, chunk_bytes=4096):
        yield


def test_what_a_name_holds_is_drawn_once(lazy: None) -> None:
    x = ours_random.default_rng(3).normal(size=(300, 40))
    store = x.to_expr().store
    wanted = np.random.default_rng(3).normal(size=(300, 40))
    later = x[:10] * 2
    assert np.array_equal(x.max(axis=0).compute(), wanted.max(axis=0))
    drawn = store.stream.windows_drawn
    assert drawn > 0
    assert np.array_equal(x[x[:, 0] > 0].compute(), wanted[wanted[:, 0] > 0])
    assert np.array_equal((x + 1).compute(), wanted + 1)
    x[0] = 7
    assert np.array_equal(x[:2].compute(), np.concatenate([np.full((1, 40), 7.0), wanted[1:2]]))
    assert np.array_equal(later.compute(), wanted[:10] * 2)
    assert store.stream.windows_drawn == drawn


def test_what_several_steps_read_is_drawn_once(lazy: None) -> None:
    def loop(x: Any, w: Any) -> Any:
        for _ in range(5):
            w = w - (x.T @ (x @ w)) / len(x)
        return w

    x = ours_random.default_rng(3).normal(size=(300, 40))
    stream = x.to_expr().store.stream
    start = np.ones(40)
    late = loop(x, chunkarr.asarray(start))
    del x
    found = late.compute()
    np.testing.assert_allclose(found, loop(np.random.default_rng(3).normal(size=(300, 40)), start))
    assert stream.windows_drawn == stream.count


def test_persisting_draws_once(lazy: None) -> None:
    x = ours_random.default_rng(3).poisson(4, 1000)
    store = x.to_expr().store
    x.persist()
    drawn = store.stream.windows_drawn
    for _ in range(3):
        assert int(x.sum()) == np.random.default_rng(3).poisson(4, 1000).sum()
    assert store.stream.windows_drawn == drawn


def test_what_takes_too_much_memory_is_drawn_again() -> None:
    with config(memory=memory_in_use() + (64 << 20), executor="threads", chunk_bytes=1 << 20):
        x = ours_random.default_rng(3).normal(size=20_000_000)
        assert float(x.max()) == float(x.max())
        assert drawn_of(x) > 0
        assert x.in_memory is None
