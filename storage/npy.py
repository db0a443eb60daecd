"""`.npy` files: read through a map, written box by box to a hidden file that replaces the old one.

The header is parsed by NumPy from at most the first bytes of the file, and believed only as far as
the file is long. A new file is preallocated under a hidden name in the directory of its path, takes
boxes from any number of threads and processes, and gets its name in one step when it is complete.
"""

from __future__ import annotations

import io
import math
import os
import stat
import struct
import tokenize
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy_format

from chunkarr.errors import FormatError, OutputError, format_bytes
from chunkarr.faults import fault_point
from chunkarr.grid import Grid, Region, region_shape
from chunkarr.storage.claims import Claim, sweep
from chunkarr.storage.files import (
    OpenFile,
    as_bytes,
    handles,
    output_error,
    preallocate,
    refuse_objects,
    sync_path,
    view_of,
    wait_for,
    write_at,
)
from chunkarr.storage.guard import GuardedMap
from chunkarr.storage.journal import Journal, checksum_of
from chunkarr.storage.mapped import MappedStore, check_extent
from chunkarr.storage.pages import put
from chunkarr.storage.store import NDArray, Store

HEADER_BYTES_MAX = 10_000
"""NumPy's own limit for headers that are not trusted."""
PREFIX_BYTES = HEADER_BYTES_MAX + 64
"""Enough of a file's beginning to hold any header that is accepted."""
MAGIC = b"\x93NUMPY"
RUN_BYTES_MIN = 16 * 1024
"""Shorter runs are stored through a map: a system call per run would cost more than page faults."""
PIECE_BYTES = 4 * 1024 * 1024
"""The largest copy made of values that do not lie as the file does."""
PARTIAL = ".partial"

_UNREADABLE = (
    ValueError,
    TypeError,
    SyntaxError,
    struct.error,
    tokenize.TokenError,
    RecursionError,
    MemoryError,
)
"""What NumPy's parser raises on headers that were not written by it."""


def parse_header(
    path: str, prefix: bytes, bytes_held: int
) -> tuple[tuple[int, ...], str, np.dtype[Any], int]:
    """Give shape, order, dtype and the place of the data from the first bytes of a `.npy` file."""
    stream = io.BytesIO(prefix)
    try:
        version = npy_format.read_magic(stream)
        width = "<H" if version == (1, 0) else "<I"
        start = stream.tell() + struct.calcsize(width)
        (length,) = struct.unpack(width, stream.read(struct.calcsize(width)))
        if version not in {(1, 0), (2, 0), (3, 0)}:
            raise FormatError(path, f"npy format version {version} is not known")
        if length > HEADER_BYTES_MAX or start + length > len(prefix):
            raise FormatError(path, f"the header gives its own length as {length} bytes")
        header = prefix[start : start + length]
        if version == (3, 0):
            # UTF-8 stands in field names only, and escapes in a literal mean the same text.
            header = header.decode("utf-8").encode("ascii", "backslashreplace")
        stream = io.BytesIO(struct.pack("<I", len(header)) + header)
        shape, fortran, dtype = npy_format.read_array_header_2_0(
            stream, max_header_size=8 * HEADER_BYTES_MAX
        )
    except FormatError:
        raise
    except _UNREADABLE as error:
        raise FormatError(path, f"not a valid npy header: {error}") from error
    if dtype.hasobject:
        raise ValueError(
            f"{path}: Object arrays cannot be loaded when allow_pickle=False: they are pickles"
        )
    shape = tuple(int(n) for n in shape)
    check_extent(path, shape, dtype, start + length, bytes_held)
    return shape, "F" if fortran else "C", dtype, start + length


def make_header(shape: tuple[int, ...], dtype: np.dtype[Any], order: str) -> bytes:
    """Give the header that `np.save` would write, in the oldest version that can hold it."""
    fields = {
        "descr": npy_format.dtype_to_descr(dtype),
        "fortran_order": order == "F",
        "shape": shape,
    }
    for write in (npy_format.write_array_header_1_0, npy_format.write_array_header_2_0):
        stream = io.BytesIO()
        try:
            write(stream, fields)
        except ValueError:  # too long, or field names beyond Latin-1
            continue
        return stream.getvalue()
    items = "".join(f"'{key}': {value!r}, " for key, value in sorted(fields.items()))
    text = f"{{{items}}}".encode()
    if shape:
        # NumPy leaves room for the growing axis to be rewritten in place.
        grown = repr(shape[-1 if order == "F" else 0])
        text += b" " * (npy_format.GROWTH_AXIS_MAX_DIGITS - len(grown))
    start = len(MAGIC) + 2 + 4
    padding = -(start + len(text) + 1) % npy_format.ARRAY_ALIGN
    text += b" " * padding + b"\n"
    return npy_format.magic(3, 0) + struct.pack("<I", len(text)) + text


class NpyStore(MappedStore):
    """An existing `.npy` file; mode "r", "r+" or "c" as in `np.load(mmap_mode=...)`."""

    def __init__(self, path: str | os.PathLike[str], mode: str = "r") -> None:
        if mode not in {"r", "r+", "c"}:
            raise ValueError(f"mode must be one of 'r', 'r+', 'c' (got {mode!r})")
        place = os.fspath(path)
        with open(place, "rb", buffering=0) as file:
            prefix = file.read(PREFIX_BYTES)
            held = os.fstat(file.fileno()).st_size
        shape, order, dtype, offset = parse_header(place, prefix, held)
        super().__init__(place, dtype, shape, order=order, offset=offset, mode=mode)


class NpyTarget(Store):
    """A new `.npy` file that takes the place of `path` at `commit`.

    Until then everything lies in a hidden file beside it, which boxes may be written to in any
    order, from any process that the target is pickled to.
    """

    local = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        order: str = "C",
        grid: Grid | None = None,
    ) -> None:
        if order not in {"C", "F"}:
            raise ValueError(f"order must be 'C' or 'F' (got {order!r})")
        self.path = os.path.realpath(path)
        self.shape: tuple[int, ...] = tuple(shape)
        self.dtype: np.dtype[Any] = np.dtype(dtype)
        refuse_objects(self.dtype, self.path)
        self.order, self.name = order, os.path.basename(self.path)
        self.grid = Grid.single(self.shape) if grid is None else grid
        self._header = self._make_header()
        self._partial: str | None = None
        self._claim: Claim | None = None
        self._journal: Journal | None = None

    def _make_header(self) -> bytes:
        return make_header(self.shape, self.dtype, self.order)

    @property
    def location(self) -> str:
        """The path that the file will have."""
        return self.path

    @property
    def bytes_write_extra(self) -> int:
        """A piece of the values, where they do not lie as the file does."""
        return max(PIECE_BYTES, self.dtype.itemsize)

    def create(self) -> None:
        """Make the hidden file and reserve its disk; nothing where a resumed run has done so."""
        if self._claim is not None:
            return
        directory, base = os.path.split(self.path)
        stem = partial_stem(base)
        try:
            if os.path.isdir(self.path):
                raise OutputError(self.path, "a directory is in the way")
            sweep(directory, stem, PARTIAL)
            if self._journal is not None:
                self._journal.begin(directory, stem)
            make = Claim if self._journal is None else self._journal.claim
            self._claim = make(directory, stem, PARTIAL, 0o666)
            self._claim.make()
            fault_point("commit.meta", self._claim.path)
            preallocate(self._claim.fd, self._bytes_file)
            write_at(self._claim.fd, self._header, 0)
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError) and not isinstance(error, OutputError):
                raise output_error(self.path, format_bytes(self._bytes_file), error) from error
            raise
        self._partial = self._claim.path
        if self._journal is not None:
            self._journal.believe(self._is_written, together=False)

    def resume_as(self, mark: str) -> None:
        """Keep the boxes that are written under a mark."""
        self._journal = Journal(mark, self.shape, self.dtype, self.order)
        self.resumable = True

    @property
    def resumed(self) -> bool:
        """Whether boxes were kept from an earlier run."""
        return self._journal is not None and self._journal.resumed

    def holds(self, region: Region) -> bool:
        """Whether a box was kept from an earlier run, which wrote it as one."""
        return self._journal is not None and self._journal.holds(_key(region))

    def _is_written(self, key: str, size: int, checksum: int) -> bool:
        spans = (span.split(":") for span in key.split(",") if span)
        region = tuple(slice(int(start), int(stop)) for start, stop in spans)
        box = np.ascontiguousarray(self.read(region))
        return box.nbytes == size and checksum_of([as_bytes(box)]) == checksum

    @property
    def _bytes_file(self) -> int:
        return len(self._header) + self.bytes_size

    def write(self, region: Region, values: NDArray) -> None:
        """Write a box: a system call per contiguous run, or a map where runs are short."""
        box = np.broadcast_to(values, region_shape(region))
        if not box.size or not self.dtype.itemsize:
            return
        self._write(region, box)
        if self._journal is not None:
            data = np.ascontiguousarray(box, dtype=self.dtype)
            self._journal.note(_key(region), [as_bytes(data)])

    def _write(self, region: Region, box: NDArray) -> None:
        shape = self.shape
        if self.order == "F":
            # A file in Fortran order is a C-ordered file of the transposed array.
            region, shape, box = region[::-1], shape[::-1], box.T
        file = self._file()
        strides = _byte_strides(shape, self.dtype.itemsize)
        split = contiguous_axes(region, shape)
        try:
            fault_point("commit.chunk", self._partial or "")
            if math.prod(box.shape[split:]) * self.dtype.itemsize < RUN_BYTES_MIN < box.nbytes:
                self._store(file, shape, region, box)
                return
            origin = sum(s.start * n for s, n in zip(region, strides, strict=True))
            for index, piece in _pieces(box, split):
                place = sum(i * n for i, n in zip(index, strides, strict=False))
                data = np.ascontiguousarray(piece, dtype=self.dtype)
                write_at(file.fd, as_bytes(data), len(self._header) + origin + place)
        except OSError as error:
            raise output_error(self.path, format_bytes(self._bytes_file), error) from error

    def _store(self, file: OpenFile, shape: tuple[int, ...], region: Region, box: NDArray) -> None:
        # The disk was reserved when the file was made, so storing to the map cannot fail for room.
        if file.bytes is None:
            told = partial(_cut_short, self.path)
            file.bytes = GuardedMap.of(file.fd, self._bytes_file, told)
            # More pages at a time are quicker, but a worker that has little memory drops them.
            file.bytes.expect_scattered(handles.watch is not None)
        if not file.bytes.intact():
            raise _cut_short(self.path, 0)
        array: NDArray = np.ndarray(shape, self.dtype, file.bytes, len(self._header))
        put(view_of(array, region), box)

    def read(self, region: Region) -> NDArray:
        """Give a box of what was written; a view, which the commit leaves valid."""
        path = self._partial or self.path
        return NpyStore(path).read(region)

    def commit(self) -> None:
        """Make the file durable and give it its name in one step."""
        claim = self._owned()
        try:
            fault_point("commit.meta", claim.path)
            wait_for([partial(os.fsync, claim.fd)])
            if os.path.exists(self.path):
                os.fchmod(claim.fd, stat.S_IMODE(os.stat(self.path).st_mode))
            fault_point("commit.meta", claim.path)
            os.replace(claim.path, self.path)
            fault_point("commit.meta", self.path)
            wait_for([partial(sync_path, os.path.dirname(self.path))])
        except OSError as error:
            raise output_error(self.path, format_bytes(self._bytes_file), error) from error
        handles.drop(claim.path)
        claim.keep()
        if self._journal is not None:
            self._journal.end()
        self._claim = self._partial = None

    def discard(self) -> None:
        """Remove the hidden file, or leave it to be resumed; the old content of the path stands."""
        if self._partial is not None:
            handles.drop(self._partial)
        if self._journal is not None:
            self._journal.close()
        if self._claim is not None and self._journal is not None:
            self._claim.keep()
        elif self._claim is not None:
            self._claim.drop()
        self._claim = self._partial = None

    def _owned(self) -> Claim:
        if self._claim is None:
            raise RuntimeError(f"{self.name}: only the process that created the target commits it")
        return self._claim

    def _file(self) -> OpenFile:
        if self._partial is None:
            raise RuntimeError(f"{self.name}: the target was not created yet, or is finished")
        return handles.get(self._partial, self._open)

    def _open(self) -> OpenFile:
        assert self._partial is not None
        try:
            return OpenFile.at(self._partial, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise output_error(self.path, format_bytes(self._bytes_file), error) from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_claim": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._partial is not None:
            handles.use(self, self._partial)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path!r}, shape={self.shape}, dtype={self.dtype})"


def _cut_short(path: str, _: int) -> OutputError:
    return OutputError(path, "the file was cut short while it was written")


def _key(region: Region) -> str:
    return ",".join(f"{span.start}:{span.stop}" for span in region) or ":"


def partial_stem(name: str) -> str:
    """Give how the hidden siblings of a file name begin, short enough for any file system."""
    return f".{os.fsdecode(os.fsencode(name)[:120])}."


def contiguous_axes(region: Region, shape: tuple[int, ...]) -> int:
    """Give the first axis from which on a box of a C-ordered array lies in one run."""
    split = len(shape)
    while split and (split == len(shape) or region_shape(region)[split] == shape[split]):
        split -= 1
    return split


def _pieces(box: NDArray, split: int) -> Iterator[tuple[tuple[int, ...], NDArray]]:
    """Cut a box into runs that are contiguous in the file, long ones that need a copy once more."""
    for index in np.ndindex(box.shape[:split]):
        run = box[(*index, ...)]
        if not run.ndim or run.flags.c_contiguous or run.nbytes <= PIECE_BYTES:
            yield index, run
            continue
        rows = max(1, PIECE_BYTES // (run.nbytes // run.shape[0]))
        for row in range(0, run.shape[0], rows):
            yield (*index, row), run[row : row + rows]


def _byte_strides(shape: tuple[int, ...], itemsize: int) -> list[int]:
    return [math.prod(shape[axis + 1 :]) * itemsize for axis in range(len(shape))]
