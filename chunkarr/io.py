"""Files in and out, and what people look at before they compute: `explain`."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np

from chunkarr import engine
from chunkarr.arrays import Array, wrap
from chunkarr.display import explain_table
from chunkarr.errors import FormatError
from chunkarr.expr.node import Source
from chunkarr.functions.manipulation import regrid
from chunkarr.grid import Grid
from chunkarr.plan.plan import Target
from chunkarr.settings import parse_bytes, settings
from chunkarr.storage.formats import new_npy, new_zarr, open_npz, open_raw, open_store
from chunkarr.storage.objects import ObjectStore, sliceable
from chunkarr.storage.store import Store


def _from_store(store: Store, *, writable: bool = True) -> Array:
    source = Source(shape=store.shape, dtype=store.dtype, store=store)
    return Array(source, writable=writable)


def open(path: str | os.PathLike[str], mode: str = "r") -> Array:
    """Open the array in a file or directory, recognising its format; reads no data.

    Reads `.npy`, `.npz` with one member, and Zarr arrays of versions 2 and 3. Raises
    FileNotFoundError, or FormatError naming what can be read.
    """
    return _from_store(open_store(path, mode))


def from_zarr(path: str | os.PathLike[str]) -> Array:
    """Open a Zarr array of version 2 or 3."""
    if not os.path.isdir(path):
        if not os.path.exists(path):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        raise FormatError(os.fspath(path), "not a directory, so not a Zarr array on disk")
    return open(path)


def from_array(x: Any, chunks: Any = "auto", *, lock: Any = False, **_: Any) -> Array:
    """Look at an ndarray, or any array-like, without copying it.

    What slices read (an HDF5 dataset, an array of another library, of dask) is read box by box when
    values are wanted, with `lock` one box at a time.

    The array must not be changed by others while expressions read it. Writing to the result copies.
    """
    made = x if isinstance(x, Array) else _looked_at(x, lock)
    if made.dtype.hasobject or (isinstance(chunks, str) and chunks == "auto"):
        return made
    grid = grid_for(chunks, made.shape, made.dtype)
    return wrap(regrid(made.to_expr(), grid))


def _looked_at(x: Any, lock: Any) -> Array:
    if not sliceable(x):
        return Array.of(np.asarray(x), owned=False)
    if hasattr(x, "__dask_graph__"):
        made: Array = importlib.import_module("chunkarr.dask_bridge").from_dask(x)
        return made
    return _from_store(ObjectStore(x, lock=threading.Lock() if lock is True else lock or None))


class NpzFile(Mapping[str, Array]):
    """The members of an `.npz` file, each opened when it is asked for."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._members = open_npz(path)
        self._path = os.fspath(path)
        self.files = list(self._members)

    def __repr__(self) -> str:
        more = "..." if len(self.files) > SHOWN_MAX else ""
        return f"NpzFile {self._path!r} with keys: {', '.join(self.files[:SHOWN_MAX])}{more}"

    def __getitem__(self, name: str) -> Array:
        return _from_store(self._members[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def close(self) -> None:
        """Do nothing: members hold no file open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


SHOWN_MAX = 5
"""How many members the text of an archive names."""


def load(file: Any, mmap_mode: str | None = None, **kwargs: Any) -> Any:
    """Open an `.npy` file as an array, an `.npz` file as a mapping; lazily, as `np.load` maps.

    What an open file gives is read at once. Pickled objects are never loaded: `allow_pickle=True`
    raises ValueError.
    """
    if kwargs.pop("allow_pickle", False):
        message = "chunkarr never unpickles data files; use numpy.load"
        raise ValueError(message)
    if hasattr(file, "read"):
        return importlib.import_module("chunkarr.textio").load_open(file)
    with _open_binary(file) as stream:
        magic = stream.read(4)
    if magic[:2] == b"PK":
        return NpzFile(file)
    if magic != b"\x93NUM":
        raise FormatError(os.fspath(file), "neither .npy nor .npz; chunkarr.open reads Zarr too")
    # Without a mode NumPy gives an array of its own: writes change the name, never the file.
    return _from_store(open_store(file, mmap_mode or "r"), writable=mmap_mode != "r")


def _open_binary(path: str | os.PathLike[str]) -> Any:
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC), "rb")


def memmap(
    filename: Any,
    dtype: Any = np.uint8,
    mode: str = "r+",
    offset: int = 0,
    shape: Any = None,
    order: str = "C",
) -> Array:
    """Map a raw file, open or not, with the arguments of `np.memmap`; writes go to the file."""
    if hasattr(filename, "fileno"):
        filename.flush()
        filename = filename.name
    store = open_raw(filename, dtype, mode, offset, shape, order)
    return _from_store(store, writable=mode not in {"r", "readonly"})


def save(file: Any, arr: Any, *, resume: bool = False, **_: Any) -> None:
    """Stream an array to an `.npy` file, which appears whole or not at all.

    `resume` is as in `to_zarr`.
    """
    whole = arr if isinstance(arr, Array) else Array.of(np.asarray(arr), owned=False)
    if hasattr(file, "write"):
        importlib.import_module("chunkarr.textio").save_open(file, whole)
        return
    path = os.fspath(file)
    if not path.endswith(".npy"):
        path += ".npy"
    engine.write(whole.to_expr(), new_npy(path, whole.shape, whole.dtype), resume=resume)


def to_zarr(
    self: Array,
    path: str | os.PathLike[str],
    chunks: Any = None,
    shards: tuple[int, ...] | None = None,
    *,
    resume: bool = False,
    **options: Any,
) -> Array:
    """Write to a Zarr v3 array, which appears whole or not at all; gives the stored array.

    Without `chunks` the array's own cut is used. Raises MemoryBudgetError if a chunk does not fit.
    With `resume`, what a run has written is kept, hidden, if it fails or its process is killed; a
    call that computes the same from the same files then makes the chunks that are missing.
    """
    grid = self.grid if chunks is None else grid_for(chunks, self.shape, self.dtype)
    target = new_zarr(path, self.shape, self.dtype, _even(grid), shards=shards, **options)
    engine.write(self.to_expr(), target, resume=resume)
    return open(path)


def _even(grid: Grid) -> tuple[int, ...]:
    """Give one chunk size per axis for a grid that may be irregular."""
    return tuple(max(1, n) for n in grid.chunk_shape)


def grid_for(chunks: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Grid:
    """Read `chunks=` as dask does: sizes, -1 or None for whole axes, "auto", bytes, a mapping."""
    if isinstance(chunks, str) and chunks != "auto":
        most = max(1, parse_bytes("chunks", chunks) // max(1, dtype.itemsize))
        return Grid(shape, engine.square_cut(shape, most))
    if isinstance(chunks, str):
        most = max(1, settings().chunk_bytes // max(1, dtype.itemsize))
        return Grid(shape, engine.square_cut(shape, most))
    if isinstance(chunks, Mapping):
        chunks = tuple(chunks.get(axis, -1) for axis in range(len(shape)))
    if not isinstance(chunks, tuple | list):
        chunks = (chunks,) * len(shape)
    if len(chunks) != len(shape):
        message = f"chunks {chunks!r} have {len(chunks)} axes, the array has {len(shape)}"
        raise ValueError(message)
    axes: list[int | tuple[int, ...]] = []
    for axis, (given, n) in enumerate(zip(chunks, shape, strict=True)):
        axes.append(_axis_cut(given, n, axis))
    return Grid(shape, tuple(axes))


def _axis_cut(given: Any, n: int, axis: int) -> int | tuple[int, ...]:
    if given is None or (isinstance(given, int | np.integer) and given == -1):
        return max(1, n)
    if isinstance(given, str):
        return max(1, n)
    if isinstance(given, tuple | list):
        parts = tuple(int(m) for m in given)
        if sum(parts) != n or any(m < 0 for m in parts):
            message = f"chunks {parts} do not add up to {n} on axis {axis}"
            raise ValueError(message)
        return Grid.from_sizes([parts]).axes[0]
    if isinstance(given, int | np.integer) and given > 0:
        return min(int(given), max(1, n))
    message = (
        f"chunk size {given!r} on axis {axis}: give a positive integer, -1, or a list of sizes"
    )
    raise ValueError(message)


def explain(*arrays: Array | Sequence[Array], analyze: bool = False) -> str:
    """Show the steps that computing arrays together takes; lists of arrays are taken as well.

    With `analyze`, the steps run, and what each took stands beside them.
    """
    limits, _ = engine.current_limits()
    wanted = [a for given in arrays for a in ([given] if isinstance(given, Array) else given)]
    targets = [Target(a.to_expr()) for a in wanted]
    if not analyze:
        plan = engine.plan_for(targets, limits)
        return explain_table(
            plan.rows, bytes_limit=limits.bytes_limit, bytes_spilled=plan.bytes_spilled
        )
    engine.execute(targets)
    rows, trace = engine.last.rows, engine.last.trace
    return explain_table(rows, bytes_limit=limits.bytes_limit, records=trace.steps if trace else ())
