"""Copies of arrays in memory: one for each array, right at each plan, gone with the array."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from chunkarr.grid import region_of
from chunkarr.settings import config
from chunkarr.storage.copies import SharedCopy
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.spill import Session
from chunkarr.storage.store import NDArray
from tests.storage.test_flat import files

ARRAYS = {
    "plain": np.arange(12.0).reshape(3, 4),
    "transposed": np.arange(12.0).reshape(3, 4).T,
    "strided": np.arange(40)[::-3],
    "broadcast": np.broadcast_to(np.arange(3), (5, 3)),
    "dates": np.arange(5).astype("m8[s]"),
    "records": np.zeros(3, "u1, f8"),
    "empty": np.empty((0, 3)),
}


@pytest.fixture(autouse=True)
def spill_dir(tmp_path: Path) -> Iterator[Path]:
    """Spill under the test's own directory."""
    directory = tmp_path / "spill"
    directory.mkdir()
    config(spill_dir=str(directory))
    yield directory
    Session.close_all()


def copied(store: MemoryStore) -> SharedCopy:
    copy = SharedCopy.of(store)
    copy.create()
    return copy


@pytest.mark.parametrize("name", ARRAYS)
def test_a_copy_has_the_values_of_the_array(name: str) -> None:
    array: NDArray = ARRAYS[name]
    there = pickle.loads(pickle.dumps(copied(store := MemoryStore(array))))
    np.testing.assert_array_equal(there.read(region_of(array.shape)), array)
    assert store.array is array


def test_it_is_made_once_while_the_array_stays_as_it_is(spill_dir: Path) -> None:
    store = MemoryStore(np.arange(1_000_000.0))
    before = copied(store).location
    SharedCopy.of(store).release()
    assert copied(store).location == before
    assert len(files(spill_dir)) == 1


def test_an_array_that_was_written_to_is_copied_again(spill_dir: Path) -> None:
    store = MemoryStore(np.arange(1_000_000.0))
    before = pickle.loads(pickle.dumps(copied(store)))
    last = (slice(999_999, 1_000_000),)
    mapped = before.read(last)
    store.write(last, np.array([-1.0]))
    assert float(copied(store).read(last)[0]) == -1
    assert float(mapped[0]) == 999_999
    assert len(files(spill_dir)) == 1


def test_a_copy_that_someone_has_removed_is_made_again(spill_dir: Path) -> None:
    store = MemoryStore(np.arange(9.0))
    os.unlink(str(copied(store).location))
    assert float(copied(store).read((slice(8, 9),))[0]) == 8


def test_it_goes_with_the_array(spill_dir: Path) -> None:
    store = MemoryStore(np.arange(9.0))
    copied(store)
    del store
    assert files(spill_dir) == []
