"""Selections by masks: how often chunks are read for the count and for the values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunkarr import engine
from chunkarr.settings import config
from tests.plan.support import CountingStore

LENGTHS = st.integers(1, 30)


def plain(*shape: int) -> Any:
    return np.random.default_rng(0).normal(size=shape)


@given(
    shape=st.tuples(LENGTHS, LENGTHS) | st.tuples(LENGTHS, LENGTHS, st.integers(1, 4)),
    chunk=st.integers(1, 9),
    chunk_bytes=st.sampled_from([64, 256, 1024]),
    counted=st.sampled_from([0, 1 << 20]),
)
def test_selections_are_numpys(
    shape: tuple[int, ...], chunk: int, chunk_bytes: int, counted: int
) -> None:
    values = plain(*shape)
    store = CountingStore(values, tuple(min(n, chunk) for n in shape))
    with config(eager_bytes=0, chunk_bytes=chunk_bytes), pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "ROWS_COUNTED", counted)
        x = store.as_array()
        selected = x[(x > 0) | (x < -1)]
        assert selected.shape == values[(values > 0) | (values < -1)].shape
        assert np.array_equal(selected.compute(), values[(values > 0) | (values < -1)])


@pytest.mark.parametrize("chunks", [(20, 20), (20, 100), (1, 100)])
def test_counting_reads_each_chunk_once_and_writes_nothing(chunks: tuple[int, int]) -> None:
    values = plain(100, 100)
    store = CountingStore(values, chunks)
    with config(eager_bytes=0, chunk_bytes=4000):
        x = store.as_array()
        assert len(x[x > 0]) == np.count_nonzero(values > 0)
        assert sum(row.bytes_written for row in engine.last.rows) < values.nbytes // 10
    assert store.calls["chunks"] <= 2 * store.grid.size
