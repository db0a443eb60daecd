"""Files that are read or written from start to end: text, archives, bare values, buffers.

Text of any length is read and written in blocks. Values that are read go to memory while they take
a small part of the limit, and to scratch beyond.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import inspect
import io
import itertools
import lzma
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from chunkarr import engine, namespace, shaping
from chunkarr.arrays import Array
from chunkarr.dispatch import give
from chunkarr.errors import MemoryBudgetError
from chunkarr.expr.node import Source
from chunkarr.settings import settings
from chunkarr.storage.files import refuse_objects
from chunkarr.storage.formats import open_raw
from chunkarr.storage.memory import BufferStore, MemoryStore
from chunkarr.storage.npy import make_header
from chunkarr.storage.scratch import new_flat
from chunkarr.storage.store import Store
from chunkarr.storage.streamed import whole_file
from chunkarr.streaming import block_bytes, in_order, in_rows, settled

NDArray = npt.NDArray[Any]

_loadtxt: Any = np.loadtxt
_genfromtxt: Any = np.genfromtxt

PACKERS: dict[str, Callable[[IO[bytes]], Any]] = {
    ".gz": lambda file: gzip.GzipFile(fileobj=file, mode="wb"),
    ".bz2": lambda file: bz2.BZ2File(file, "wb"),
    ".xz": lambda file: lzma.LZMAFile(file, "wb"),  # noqa: SIM115 - closed by its user
    ".lzma": lambda file: lzma.LZMAFile(file, "wb"),  # noqa: SIM115 - closed by its user
}
"""What compresses text, by the end of the file's name, as in NumPy."""

HELD_PART = 8
"""What is read stays in memory up to the limit over this."""

TEXT_FACTOR = 16
"""Bytes that NumPy's readers of whole texts hold, per byte of text."""


# -- writing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def _text_file(fname: Any, encoding: str | None) -> Iterator[Any]:
    """Open what text is written to: an open file, or a path that appears whole."""
    if hasattr(fname, "write"):
        yield fname
        return
    packer = PACKERS.get(os.path.splitext(os.fspath(fname))[1])
    with whole_file(fname) as file:
        packed = packer(file) if packer else file
        text = io.TextIOWrapper(packed, encoding=encoding)
        yield text
        text.flush()
        text.detach()
        if packer:
            packed.close()


def savetxt(
    fname: Any,
    X: Any,
    fmt: Any = "%.18e",
    delimiter: str = " ",
    newline: str = "\n",
    header: str = "",
    footer: str = "",
    comments: str = "# ",
    encoding: str | None = None,
) -> None:
    """Write an array of one or two axes as text, block by block.

    The file appears whole or not at all; one that ends in .gz, .bz2, .xz or .lzma is compressed.
    Raises ValueError for other numbers of axes, as NumPy does.
    """
    whole = settled(X)
    lines = whole.ndim in (1, 2)
    blocks = in_rows(whole, block_bytes()) if lines else iter([np.empty((0,) * whole.ndim)])
    with _text_file(fname, encoding) as file:
        block, begin = next(blocks), header
        for following in itertools.chain(blocks, [None]):
            end = footer if following is None else ""
            np.savetxt(file, block, fmt, delimiter, newline, begin, end, comments, encoding)
            block, begin = following, ""  # type: ignore[assignment]


def savez(file: Any, *args: Any, allow_pickle: bool = True, **kwds: Any) -> None:
    """Stream arrays to an `.npz` archive, which appears whole or not at all.

    Raises ValueError for arrays of objects, whatever `allow_pickle` says.
    """
    del allow_pickle
    _save_archive(file, args, kwds, zipfile.ZIP_STORED)


def savez_compressed(file: Any, *args: Any, allow_pickle: bool = True, **kwds: Any) -> None:
    """Stream arrays to a compressed `.npz` archive, which appears whole or not at all.

    Raises ValueError for arrays of objects, whatever `allow_pickle` says.
    """
    del allow_pickle
    _save_archive(file, args, kwds, zipfile.ZIP_DEFLATED)


def _save_archive(file: Any, args: tuple[Any, ...], kwds: dict[str, Any], method: int) -> None:
    members = dict(kwds)
    for i, value in enumerate(args):
        if f"arr_{i}" in members:
            message = f"Cannot use un-named variables and keyword arr_{i}"
            raise ValueError(message)
        members[f"arr_{i}"] = value
    arrays = {name: settled(value) for name, value in members.items()}
    for name, array in arrays.items():
        refuse_objects(array.dtype, name)
    if hasattr(file, "write"):
        _write_members(file, arrays, method)
        return
    path = os.fspath(file)
    with whole_file(path if path.endswith(".npz") else path + ".npz") as target:
        _write_members(target, arrays, method)


def _write_members(file: IO[bytes], arrays: dict[str, Array], method: int) -> None:
    with zipfile.ZipFile(file, "w", method, allowZip64=True) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                save_open(member, array)


def save_open(file: IO[bytes], array: Array) -> None:
    """Stream an array to an open file, as `.npy`."""
    refuse_objects(array.dtype, "an open file")
    file.write(make_header(array.shape, array.dtype, "C"))
    for piece in in_order(settled(array), block_bytes()):
        file.write(piece.tobytes())


# -- reading ---------------------------------------------------------------------------------------


def load_open(file: IO[bytes]) -> Any:
    """Read what an open file holds: an array, or the arrays of an archive by their names."""
    found = np.load(file)
    return found if isinstance(found, np.lib.npyio.NpzFile) else give(found)


class _Growing:
    """Blocks of rows that come one by one, in memory while they are few, then in scratch."""

    def __init__(self) -> None:
        self.parts: list[Array] = []
        self.bytes_held = 0

    def add(self, rows: NDArray) -> None:
        """Keep a block."""
        store: Store = MemoryStore(rows, owned=True)
        if (
            self.bytes_held + rows.nbytes > settings().memory // HELD_PART
            and not rows.dtype.hasobject
        ):
            store = new_flat(rows.shape, rows.dtype, "text")
            store.create()
            store.write(tuple(slice(0, n) for n in rows.shape), rows)
        else:
            self.bytes_held += rows.nbytes
        self.parts.append(Array(Source(shape=rows.shape, dtype=rows.dtype, store=store)))

    def whole(self) -> Array:
        """Give all rows as one array."""
        if len(self.parts) == 1:
            return self.parts[0]
        made: Array = namespace.concatenate(self.parts)
        return made.persist() if made.nbytes <= block_bytes() else made


@contextlib.contextmanager
def _lines(fname: Any, encoding: str | None) -> Iterator[Iterator[Any]]:
    """Open the lines of a text: a path, compressed or not, an open file, or any iterable."""
    if not isinstance(fname, str | os.PathLike):
        yield iter(fname)
        return
    source = np.lib.npyio.DataSource(None)
    with source.open(os.fspath(fname), "rt", encoding=encoding) as file:
        yield file


def _in_blocks(
    read: Callable[[Iterator[Any], bool, int], NDArray],
    lines: Iterator[Any],
    max_rows: int | None,
) -> Array:
    """Read blocks of rows until there are no more.

    `read` gets the lines, whether the block is the first, and how many rows it may have.
    """
    grown = _Growing()
    left = max_rows
    count = FIRST_ROWS
    while True:
        wanted = count if left is None else min(count, left)
        with warnings.catch_warnings():
            if grown.parts:
                warnings.filterwarnings("ignore", message=".*no data|.*Empty input")
            if max_rows is None:
                warnings.filterwarnings("ignore", message=".*towards `max_rows")
            rows = read(lines, not grown.parts, wanted)
        if grown.parts and not rows.shape[0]:
            break
        grown.add(rows)
        left = None if left is None else left - rows.shape[0]
        if rows.shape[0] < wanted or left == 0:
            break
        count = max(1, block_bytes() * rows.shape[0] // max(1, rows.nbytes))
    return grown.whole()


FIRST_ROWS = 64
"""Rows of the first block, which tell how many make up a block of the right size."""


def _small_file(fname: Any) -> bool:
    """Whether NumPy may read a file as a whole; it words the errors with the right rows."""
    if not isinstance(fname, str | os.PathLike) or not os.path.exists(fname):
        return False
    packed = os.path.splitext(os.fspath(fname))[1] in PACKERS
    return not packed and os.path.getsize(fname) * TEXT_FACTOR <= settings().eager_bytes


def _shaped(made: Array, ndmin: int, unpack: bool | None) -> Any:
    """Drop axes of length one as NumPy's readers do, and give columns where they are asked for."""
    if made.ndim > ndmin:
        made = namespace.squeeze(made)
    if made.ndim < ndmin:
        made = shaping.atleast_1d(made) if ndmin == 1 else shaping.atleast_2d(made).T
    if not unpack:
        return made
    names = made.dtype.names
    return made.T if names is None else [made[name] for name in names]


def loadtxt(
    fname: Any,
    dtype: Any = float,
    comments: Any = "#",
    delimiter: str | None = None,
    converters: Any = None,
    skiprows: int = 0,
    usecols: Any = None,
    unpack: bool = False,
    ndmin: int = 0,
    encoding: str | None = None,
    max_rows: int | None = None,
    *,
    quotechar: str | None = None,
    like: Any = None,  # noqa: ARG001 - arrays are chunkarr's here
) -> Any:
    """Read rows of numbers from text of any length; arguments and errors are NumPy's.

    The result is in memory while it is a small part of the limit, else in scratch. Where text is
    read in blocks, the row that an error names is counted within its block.
    """
    shared: dict[str, Any] = {
        "dtype": dtype,
        "comments": comments,
        "delimiter": delimiter,
        "converters": converters,
        "usecols": usecols,
        "encoding": encoding,
        "quotechar": quotechar,
    }
    if _small_file(fname):
        given = {"skiprows": skiprows, "max_rows": max_rows, "unpack": unpack, "ndmin": ndmin}
        return give(_loadtxt(fname, **shared, **given))
    _loadtxt(["0"], ndmin=ndmin)  # NumPy checks ndmin
    axes = 1 if np.dtype(dtype).names else 2

    def read(lines: Iterator[Any], first: bool, most: int) -> NDArray:
        skipped = skiprows if first else 0
        block: NDArray = _loadtxt(lines, skiprows=skipped, max_rows=most, ndmin=axes, **shared)
        return block

    with _lines(fname, encoding) as lines:
        made = _in_blocks(read, lines, max_rows)
    return _shaped(made, ndmin, unpack)


def genfromtxt(
    fname: Any,
    dtype: Any = float,
    comments: Any = "#",
    delimiter: Any = None,
    skip_header: int = 0,
    skip_footer: int = 0,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Read a table from text with missing values; arguments and errors are NumPy's.

    Text of any length is read in blocks where `dtype` is given. With `dtype=None`, `skip_footer`,
    or `usemask`, NumPy has to see all of it: MemoryBudgetError where that does not fit the limit.
    """
    order = list(inspect.signature(np.genfromtxt).parameters)[6:]
    kwargs.update(zip(order, args, strict=False))
    kwargs.pop("like", None)
    shared = {"comments": comments, "delimiter": delimiter}
    at_once = dtype is None or skip_footer or kwargs.get("usemask")
    if at_once or _small_file(fname):
        _check_text(fname, "genfromtxt")
        options = {"skip_header": skip_header, "skip_footer": skip_footer, **kwargs}
        made = _genfromtxt(fname, dtype, **shared, **options)
        return made if isinstance(made, np.ma.MaskedArray) else give(made)
    ndmin, unpack, most = (kwargs.pop(k, d) for k, d in GENFROMTXT_ENDS.items())
    seen: list[np.dtype[Any]] = []

    def read(lines: Iterator[Any], first: bool, rows: int) -> NDArray:
        options = {**shared, **kwargs, "max_rows": rows}
        if first:
            options["skip_header"] = skip_header
        elif seen[0].names:
            options["names"] = None
        kind = dtype if first else seen[0]
        axes = 1 if not first and seen[0].names else 2
        block = _genfromtxt(lines, kind, ndmin=axes, **options)
        seen.append(block.dtype)
        return np.asarray(block.reshape(-1) if block.dtype.names else block)

    with _lines(fname, kwargs.get("encoding")) as lines:
        whole = _in_blocks(read, lines, most)
    made = _shaped(whole, ndmin, unpack)
    # A single column comes alone, unlike in `loadtxt`.
    return made[0] if isinstance(made, list) and len(made) == 1 else made


GENFROMTXT_ENDS: dict[str, Any] = {"ndmin": 0, "unpack": None, "max_rows": None}
"""Arguments of `genfromtxt` that are about the whole result, and their defaults."""


def _check_text(fname: Any, operation: str) -> None:
    """Raise MemoryBudgetError where NumPy's reading of a whole text does not fit the limit."""
    if not isinstance(fname, str | os.PathLike) or not os.path.exists(fname):
        return
    needed = os.path.getsize(fname) * TEXT_FACTOR
    available = engine.current_limits()[0].bytes_available
    if needed > max(available, 1 << 16):
        raise MemoryBudgetError(
            array=f"the text of {os.fspath(fname)}",
            operation=f"numpy.{operation}, which sees all text at once,",
            where="",
            bytes_needed=needed,
            bytes_available=available,
            remedies=(
                "read it in blocks: chunkarr.loadtxt, or genfromtxt with a dtype",
                "raise the limit: config(memory=...) or CHUNKARR_MEMORY",
            ),
        )


def fromregex(file: Any, regexp: Any, dtype: Any, encoding: str | None = None) -> Any:
    """Read records that a regular expression finds in a text, which has to fit the limit."""
    _check_text(file, "fromregex")
    return give(np.fromregex(file, regexp, dtype, encoding))


def fromfile(
    file: Any,
    dtype: Any = float,
    count: int = -1,
    sep: str = "",
    offset: int = 0,
    *,
    like: Any = None,  # noqa: ARG001 - arrays are chunkarr's here
) -> Array:
    """Read bare values, or numbers in a text; large binary files are mapped and not copied.

    Raises MemoryBudgetError for a text, or an open file, that does not fit the limit.
    """
    kind = np.dtype(dtype)
    is_path = isinstance(file, str | os.PathLike)
    held = os.path.getsize(file) - offset if is_path else 0
    if not is_path or sep or held <= settings().eager_bytes:
        if sep:
            _check_text(file, "fromfile")
        made: Array = give(np.fromfile(file, kind, count, sep, offset=offset))
        return made
    length = held // kind.itemsize if count < 0 else min(count, held // kind.itemsize)
    store = open_raw(file, kind, "r", offset, (length,), "C")
    return Array(Source(shape=store.shape, dtype=kind, store=store))


def frombuffer(
    buffer: Any,
    dtype: Any = float,
    count: int = -1,
    offset: int = 0,
    *,
    like: Any = None,  # noqa: ARG001 - arrays are chunkarr's here
) -> Array:
    """Look at the memory of a buffer, which writes go to, as an array of one axis."""
    shown = np.frombuffer(buffer, dtype, count, offset)
    store = BufferStore(shown)
    source = Source(shape=shown.shape, dtype=shown.dtype, store=store)
    return Array(source, writable=shown.flags.writeable)
