"""Files of bare values, with the arguments of `np.memmap`."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.errors import FormatError, OutputError
from chunkarr.grid import Region
from chunkarr.storage.files import OpenFile, preallocate, refuse_objects
from chunkarr.storage.mapped import MappedStore, check_extent
from chunkarr.storage.npy import NpyTarget
from chunkarr.storage.store import NDArray

_MODES = {
    "readonly": "r",
    "copyonwrite": "c",
    "readwrite": "r+",
    "write": "w+",
}


class RawStore(MappedStore):
    """An array in a file without a header.

    As in `np.memmap`, `shape=None` takes the whole file from `offset`, "r+" lengthens a file that
    is too short, and "w+" makes the file anew, at once and without a way back. Unlike there, the
    disk is reserved, so that a full one is an error here and not a signal at the first store.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     _ = file.write(bytes(range(6)))
    ...     file.flush()
    ...     RawStore(file.name, "u1", "r", shape=(2, 3)).read((slice(0, 2), slice(1, 2)))
    array([[1],
           [4]], dtype=uint8)
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        dtype: npt.DTypeLike = np.uint8,
        mode: str = "r+",
        offset: int = 0,
        shape: int | tuple[int, ...] | None = None,
        order: str = "C",
    ) -> None:
        mode = _MODES.get(mode, mode)
        if mode not in {"r", "c", "r+", "w+"}:
            raise ValueError(f"mode must be one of 'r', 'c', 'r+', 'w+' (got {mode!r})")
        if order not in {"C", "F"}:
            raise ValueError(f"order must be 'C' or 'F' (got {order!r})")
        place, kind = os.fspath(path), np.dtype(dtype)
        refuse_objects(kind, place)
        if mode == "w+" and shape is None:
            raise ValueError("shape must be given if mode == 'w+'")
        extent = _shape(place, kind, offset, shape)
        if mode == "w+":
            _make(place, kind, offset, extent, os.O_CREAT | os.O_TRUNC)
        elif mode == "r+":
            _make(place, kind, offset, extent, 0)
        else:
            check_extent(place, extent, kind, offset, os.stat(place).st_size)
        # Another process must find the file that was made here, and not make it again.
        kept = "r+" if mode == "w+" else mode
        super().__init__(place, kind, extent, order=order, offset=offset, mode=kept)


class RawTarget(NpyTarget):
    """A new file without a header that takes the place of `path` at `commit`."""

    def _make_header(self) -> bytes:
        return b""

    def read(self, region: Region) -> NDArray:
        """Give a box of what was written; a view, which the commit leaves valid."""
        path = self._partial or self.path
        return RawStore(path, self.dtype, "r", shape=self.shape, order=self.order).read(region)


def _shape(
    path: str, dtype: np.dtype[Any], offset: int, shape: int | tuple[int, ...] | None
) -> tuple[int, ...]:
    """Give the shape asked for, or what the file holds after the offset."""
    if shape is not None:
        return (int(shape),) if isinstance(shape, int | np.integer) else tuple(map(int, shape))
    if not dtype.itemsize:
        raise ValueError("shape must be given where elements have no bytes")
    held = os.stat(path).st_size - offset
    if held < 0:
        raise FormatError(path, f"the offset {offset} lies beyond the end of the file")
    if held % dtype.itemsize:
        raise ValueError("Size of available data is not a multiple of the data-type size.")
    return (held // dtype.itemsize,)


def _make(path: str, dtype: np.dtype[Any], offset: int, shape: tuple[int, ...], flags: int) -> None:
    """Open or make a file for writing and lengthen it to hold the array."""
    if any(n < 0 for n in shape) or offset < 0:
        raise ValueError(f"shape and offset must not be negative (got {shape}, {offset})")
    found = os.path.exists(path)
    file = OpenFile.at(path, os.O_RDWR | os.O_CLOEXEC | flags)
    before = os.fstat(file.fd).st_size
    try:
        size = offset + math.prod(shape) * dtype.itemsize
        if before < size:
            preallocate(file.fd, size)
    except OSError as error:
        if found:
            os.ftruncate(file.fd, before)
        else:
            os.unlink(path)
        raise OutputError(path, error.strerror or str(error)) from error
    finally:
        file.close()
