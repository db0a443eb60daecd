"""Scratch that is not in memory: the stores a plan makes for what does not fit.

Their files are loaded with the first such value; most runs have none.
"""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np

from chunkarr.grid import Grid
from chunkarr.storage.store import Store


def new_spill(shape: tuple[int, ...], dtype: np.dtype[Any], grid: Grid, name: str) -> Store:
    """Give a `SpillStore`: checksummed tiles of a file."""
    store: Store = _load("spill").SpillStore(shape, dtype, grid, name=name)
    return store


def new_flat(shape: tuple[int, ...], dtype: np.dtype[Any], name: str) -> Store:
    """Give a `FlatStore`: a file in C order, to be read under another shape."""
    store: Store = _load("flat").FlatStore(shape, dtype, name)
    return store


def copy_of(store: Store) -> Store:
    """Give the `SharedCopy` of an array in memory, for workers in other processes."""
    copy: Store = _load("copies").SharedCopy.of(store)
    return copy


def _load(name: str) -> Any:
    return importlib.import_module(f"chunkarr.storage.{name}")
