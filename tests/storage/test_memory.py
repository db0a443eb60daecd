"""Arrays in this process's memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from chunkarr.grid import Grid
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.store import NDArray, Store
from tests.storage.contract import ReadContract, WriteContract


class TestMemory(ReadContract, WriteContract):
    """Memory keeps the contract."""

    file_backed = False

    def stored(self, folder: Path, values: NDArray) -> Store:
        return MemoryStore(values.copy())

    def target(self, folder: Path, grid: Grid, dtype: npt.DTypeLike) -> Store:
        return MemoryStore(shape=grid.shape, dtype=dtype, grid=grid)


def test_what_is_read_is_a_view() -> None:
    values = np.arange(12.0).reshape(3, 4)
    store = MemoryStore(values)
    store.read((slice(1, 2), slice(0, 4)))[...] = -1
    assert values[1].tolist() == [-1] * 4
    assert MemoryStore(values).location is None


def test_a_large_array_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="process"):
        pickle.dumps(MemoryStore(np.zeros(9000), name="x"))


def test_a_small_array_travels_by_value() -> None:
    store = pickle.loads(pickle.dumps(MemoryStore(np.arange(8), grid=Grid((8,), (3,)))))
    assert store.array.tolist() == list(range(8))
    assert store.grid.counts == (3,)


def test_a_given_array_survives_discard_and_not_release() -> None:
    store = MemoryStore(np.arange(3))
    store.discard()
    assert store.array is not None
    store.release()
    assert store.array is None


def test_a_read_only_array_refuses_writes() -> None:
    values = np.arange(3)
    values.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        MemoryStore(values).write((slice(0, 3),), np.zeros(3))


def test_neither_array_nor_shape_is_an_error() -> None:
    with pytest.raises(TypeError, match="needs"):
        MemoryStore(shape=(3,))
