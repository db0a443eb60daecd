"""Which file is of which format: the one place that knows all readers.

A format is recognised by its first bytes, or by the metadata in a directory, never by its name.
Each reader's file is loaded when the first of its kind is met: zarr-python takes longer to import
than NumPy, and arrays in memory should not pay for any of them.
"""

from __future__ import annotations

import importlib
import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chunkarr.errors import FormatError
from chunkarr.storage.store import Store

if TYPE_CHECKING:
    from chunkarr.storage.zarr import ZarrTarget

READ = "chunkarr reads .npy, .npz and zarr 2 and 3; for bare values give a dtype and a shape"
_NPY_MAGIC = b"\x93NUMPY"
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_MODES = ("r", "r+", "c")


def open_store(path: str | os.PathLike[str], mode: str = "r") -> Store:
    """Open the array under a path; nothing of its data is read.

    Mode "r+" writes through to a `.npy` file and "c" keeps changes in memory, as in
    `np.load(mmap_mode=...)`; other formats are read only.
    """
    place = os.fspath(path)
    if mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, _MODES))} (got {mode!r})")
    kind = os.stat(place).st_mode
    if stat.S_ISDIR(kind):
        _refuse_writing(place, mode, "zarr arrays are")
        return _open_zarr(place)
    if not stat.S_ISREG(kind):
        raise FormatError(place, f"not a regular file; {READ}")
    with open(place, "rb", buffering=0) as file:
        magic = file.read(len(_NPY_MAGIC))
    if magic == _NPY_MAGIC:
        store: Store = _load("npy").NpyStore(place, mode)
        return store
    if magic.startswith(_ZIP_MAGIC):
        _refuse_writing(place, mode, ".npz archives are")
        return _only_member(place)
    raise FormatError(place, f"{'an empty file' if not magic else 'not a known format'}; {READ}")


def open_npz(path: str | os.PathLike[str]) -> Mapping[str, Store]:
    """Open an `.npz` archive; its arrays are opened when they are asked for."""
    members: Mapping[str, Store] = _load("npz").open_npz(path)
    return members


def open_raw(
    path: str | os.PathLike[str], dtype: Any, mode: str, offset: int, shape: Any, order: str
) -> Store:
    """Map a file of bare values, with the arguments of `np.memmap`."""
    store: Store = _load("raw").RawStore(path, dtype, mode, offset, shape, order)
    return store


def new_npy(path: str | os.PathLike[str], shape: tuple[int, ...], dtype: Any) -> Store:
    """Give a store that writes an `.npy` file, which appears whole when it is committed."""
    target: Store = _load("npy").NpyTarget(path, shape, dtype)
    return target


def new_raw(path: str | os.PathLike[str], shape: tuple[int, ...], dtype: Any) -> Store:
    """Give a store that writes a file of bare values, which appears whole when it is committed."""
    target: Store = _load("raw").RawTarget(path, shape, dtype)
    return target


def new_zarr(
    path: str | os.PathLike[str],
    shape: tuple[int, ...],
    dtype: Any,
    chunks: tuple[int, ...],
    **options: Any,
) -> ZarrTarget:
    """Give a `ZarrTarget`, importing zarr-python now."""
    target: ZarrTarget = _load("zarr").ZarrTarget(path, shape, dtype, chunks, **options)
    return target


def _open_zarr(path: str) -> Store:
    names = ("zarr.json", ".zarray", ".zgroup")
    if not any(os.path.exists(os.path.join(path, name)) for name in names):
        raise FormatError(path, f"a directory without zarr metadata; {READ}")
    store: Store = _load("zarr").ZarrStore(path)
    return store


def _only_member(path: str) -> Store:
    members = open_npz(path)
    if len(members) == 1:
        return members[next(iter(members))]
    names = ", ".join(list(members)[:20]) or "none"
    raise FormatError(path, f"an archive of {len(members)} arrays, open one of them: {names}")


def _refuse_writing(path: str, mode: str, what: str) -> None:
    if mode != "r":
        raise ValueError(f"{path}: {what} read only; mode {mode!r} is for .npy files")


def _load(name: str) -> Any:
    return importlib.import_module(f"chunkarr.storage.{name}")
