"""Array, the object a user holds: a mutable name for an immutable expression.

A root array holds its expression. A view holds its base and a lens, and reads whatever the base
names now, so that writes are seen both ways. Arrays whose value is in memory behave as NumPy's do:
writes go into the buffer at once, unless a lazy expression still reads it; then the name gets a new
expression and the reader keeps the old value.

Operators, methods and NumPy's functions are attached in `operators`, from tables.
"""

from __future__ import annotations

import gc
import math
import sys
import threading
import weakref
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import engine, maps, patches, picks
from chunkarr.attached import Attached
from chunkarr.expr.affine import Affine
from chunkarr.expr.build import as_expr, caller, cast_lazily, itself, view
from chunkarr.expr.cuts import computed
from chunkarr.expr.node import Expr, Source
from chunkarr.functions.indexing import NUMBERS, Basic, Fancy, Masked, names_element, read_key
from chunkarr.functions.views import NewShape
from chunkarr.grid import Grid, region_of
from chunkarr.settings import settings
from chunkarr.storage.memory import BufferStore, MemoryStore
from chunkarr.views import (
    Field,
    Lens,
    Reading,
    Selection,
    assign_now,
    c_strides,
    check_value,
    field_key,
    get,
    immediate,
    lay,
    look,
    look_strides,
    ndarray_key,
    plain_key,
    put,
    source_of,
    taken_now,
    value_for,
)

NDArray = npt.NDArray[Any]

COPY_BYTES = 1 << 20
"""A buffer that lazy expressions read is copied before a write up to this size, else laid over."""

COPY_BYTES_MAX = 1 << 26
"""`compute` keeps a second copy for the name up to here; above, `persist` is what keeps."""

READS_MAX = 8
"""After this many elements read of an array that has to be computed, all of it is."""


_writing = threading.RLock()


class Array(Attached):
    """An array of any size: NumPy's `ndarray`, computed when its values are needed."""

    __slots__ = (
        "__weakref__",
        "_base",
        "_cell",
        "_frozen",
        "_lens",
        "_reads",
        "_seen",
        "_selection",
        "_writable",
        "is_scalar",
    )
    __array_priority__ = 1000.0
    __hash__ = None

    def __init__(
        self,
        cell: Expr | None = None,
        dtype: Any = float,
        buffer: Any = None,
        offset: int = 0,
        strides: Any = None,
        order: Any = None,
        *,
        shape: Any = None,
        base: Array | None = None,
        lens: Lens | None = None,
        selection: Selection | None = None,
        scalar: bool = False,
        writable: bool = True,
    ) -> None:
        if shape is not None or (cell is not None and not isinstance(cell, Expr)):
            # Called with the arguments of `numpy.ndarray`: a shape, perhaps a buffer to look at.
            buffer = np.asarray(buffer) if isinstance(buffer, Array) else buffer
            length: Any = cell if shape is None else shape
            held = np.ndarray(length, dtype, buffer, offset, strides, order)
            writable = held.flags.writeable
            store = MemoryStore(held, owned=True) if buffer is None else BufferStore(held)
            cell = Source(shape=held.shape, dtype=held.dtype, store=store)
        self._cell = cell
        self._base, self._lens = base, lens
        self._seen: weakref.ref[Expr] | None = None
        self._selection = selection
        self._writable, self._frozen = writable, False
        self._reads = 0
        self.is_scalar = scalar
        """Whether this stands for a NumPy scalar: in-place operators then rebind."""
        if cell is not None:
            if type(cell) is not Source or cell.store.drawn:
                engine.live[id(cell)] = self
        elif selection is not None:
            engine.live[id(selection)] = self

    # -- what it names ------------------------------------------------------------------------

    @classmethod
    def of(cls, array: NDArray, *, owned: bool = True, scalar: bool = False) -> Array:
        """Hold an ndarray; `owned` says that nobody else will change it."""
        store = MemoryStore(array, owned=owned)
        return cls(Source(shape=array.shape, dtype=array.dtype, store=store), scalar=scalar)

    @property
    def expr_or_none(self) -> Expr | None:
        """The expression of a root array, None for a view."""
        return self._cell if self._base is None else None

    @property
    def selection(self) -> Selection | None:
        """The pending selection, if the array is one."""
        return self._selection if self._cell is None else None

    def to_expr(self) -> Expr:
        """Give the expression that the array names now."""
        if self._base is None:
            if self._cell is None:
                selection = self._selection
                assert selection is not None
                self._cell = engine.select(selection.operand, selection.mask, caller())
                engine.live[id(self._cell)] = self
            return self._cell
        assert self._lens is not None
        held = self._base.in_memory
        if held is not None:
            parent = self._base.to_expr()
            assert isinstance(parent, Source)
            return source_of(look(self._lens, held), parent)
        parent = self._base.to_expr()
        if self._seen is None or self._seen() is not parent or self._cell is None:
            self._cell = get(self._lens, parent)
            self._seen = weakref.ref(parent)
        return self._cell

    @property
    def in_memory(self) -> NDArray | None:
        """The ndarray with the array's value, if it is in memory."""
        cell = self._cell
        if self._base is not None:
            held = self._base.in_memory
            if held is None:
                return None
            assert self._lens is not None
            return look(self._lens, held)
        if type(cell) is Source and type(cell.store) is MemoryStore:
            return cell.store.array
        if cell is None:
            return None
        store = cell.held
        if store is None:
            return None
        if not store.in_memory or (isinstance(store, MemoryStore) and store.array is None):
            return None
        if not isinstance(cell, Source) or cell.store is not store:
            # The value was computed on the way: from now on the name is the value.
            self._cell = computed(cell, store)
        return store.array if isinstance(store, MemoryStore) else store.read(region_of(store.shape))

    def rebind(self, new: Expr) -> None:
        """Name another value, through the lens for a view."""
        if self._base is not None:
            assert self._lens is not None
            self._base.rebind(put(self._lens, self._base.to_expr(), new))
            return
        if self._cell is not None:
            engine.live.pop(id(self._cell), None)
        self._selection = None
        self._cell = new
        if not isinstance(new, Source) or new.store.drawn:
            engine.live[id(new)] = self

    def view_through(self, lens: Lens, *, writable: bool = True) -> Array:
        """Give a view of this array; a scalar is immutable, so of a copy of it."""
        if self.is_scalar and self._base is None:
            if not isinstance(lens, Reading) and not lens.shape:
                return self
            return Array(self.to_expr(), writable=writable).view_through(lens)
        if self._base is not None and isinstance(lens, Affine) and isinstance(self._lens, Affine):
            return Array(
                base=self._base,
                lens=self._lens.then(lens),
                writable=self.writable and writable,
            )
        return Array(base=self, lens=lens, writable=self.writable and writable)

    # -- attributes ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The lengths of the axes."""
        if isinstance(self._lens, Affine | NewShape):
            return self._lens.shape
        return self.to_expr().shape

    def become(self, lens: Lens) -> None:
        """Be the view of itself under another shape or dtype; its views go on seeing the old."""
        seen = self._views()
        if self._base is None and not seen and isinstance(lens, NewShape):
            self.rebind(get(lens, self.to_expr()))
            return
        inner = Array(self._cell, base=self._base, lens=self._lens, writable=self._writable)
        for other in seen:
            other._base = inner  # noqa: SLF001 - one class
        self._base, self._lens, self._cell = inner, lens, None

    def _views(self) -> list[Array]:
        """List the views of this array that are alive; slow, so only for changes of its shape."""
        held = [other for other in gc.get_referrers(self) if isinstance(other, Array)]
        return [other for other in held if other._base is self]  # noqa: SLF001 - one class

    @property
    def has_views(self) -> bool:
        """Whether a view of this array is alive."""
        return bool(self._views())

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the elements."""
        if self._base is not None and not isinstance(self._lens, Reading):
            return self._base.dtype
        if self._cell is None and self._selection is not None:
            return self._selection.operand.dtype
        return self.to_expr().dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        if self._cell is None and self._selection is not None:
            return self._selection.operand.ndim - self._selection.mask.ndim + 1
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.dtype.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.size * self.itemsize

    @property
    def base(self) -> Array | None:
        """The array that this one is a view of, or None."""
        root = self._base
        while root is not None and root._base is not None:  # noqa: SLF001 - one class
            root = root._base  # noqa: SLF001 - one class
        return root

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes to the next element along each axis, in C order for what has no memory."""
        held = self.in_memory
        if held is not None:
            return held.strides
        found = self._strides()
        return c_strides(self.shape, self.itemsize) if found is None else found

    def _strides(self) -> tuple[int, ...] | None:
        if self._base is None:
            held = maps.whole(self._cell) if self.in_memory is None else self.in_memory
            return c_strides(self.shape, self.itemsize) if held is None else held.strides
        below = self._base._strides()  # noqa: SLF001 - one class
        assert self._lens is not None
        if below is None:
            return None
        return look_strides(self._lens, below, self._base.shape, self._base.dtype)

    @property
    def grid(self) -> Grid:
        """How the array is cut when it is stored."""
        return engine.nominal_grid(self.to_expr())

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """The chunk sizes along each axis, as dask spells them."""
        return self.grid.sizes

    @property
    def chunksize(self) -> tuple[int, ...]:
        """The largest chunk."""
        return self.grid.chunk_shape

    @property
    def numblocks(self) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return self.grid.counts

    @property
    def npartitions(self) -> int:
        """The number of chunks."""
        return self.grid.size

    # -- reading ------------------------------------------------------------------------------

    def __getitem__(self, key: Any) -> Any:
        held = self.in_memory
        if held is not None:
            if names_element(key, held.ndim):
                element = held[key]
                if type(element) is not np.void or element.dtype.names is None:
                    return element
            if type(key) is Array and key.ndim and immediate(held) and taken_now(held, (key,)):
                return Array.of(np.asarray(held[key.compute()]))
        named = field_key(key, self.dtype, single=self.is_scalar)
        if named is not None:
            return self._field(named)
        if self.selection is not None:
            self.to_expr()
        item = read_key(plain_key(key), self.shape)
        if isinstance(item, Basic):
            if item.scalar:
                return self if self.is_scalar else self._element(item.affine)
            if self.is_scalar and not item.affine.shape:
                return Array(self.to_expr())  # `scalar[...]` is an array
            seen = self.view_through(item.affine)
            return seen.copy() if item.copies else seen
        now = held is not None and taken_now(held, item.named)
        if held is not None and now and (isinstance(item, Fancy) or immediate(held)):
            return Array.of(np.asarray(held[ndarray_key(key)]))
        if isinstance(item, Masked):
            mask = item.mask.to_expr() if isinstance(item.mask, Array) else as_expr(item.mask)
            return Array(selection=Selection(self.to_expr(), mask))
        return Array(picks.pick(self, item.key))

    def _element(self, place: Affine) -> Any:
        """Give one element: a scalar, which for records is a view, or the Python object."""
        if self.dtype.names is not None:
            return Array(base=self, lens=place, scalar=True, writable=self.writable)
        if self.dtype.kind in "SUV" and self.dtype.names is None:
            # A text is Python's `str` or `bytes` too, and is used as one; so are raw bytes.
            return Array(view(self.to_expr(), place)).compute()[()]
        if self._count_reads():
            return self[tuple([term.offset for term in place.terms])]
        # A scalar has the machine's own byte order.
        native = self.dtype.newbyteorder("=")
        return Array(cast_lazily(view(self.to_expr(), place), native), scalar=True)

    def _field(self, key: str | tuple[str, ...]) -> Array:
        """Give a field of records, or records of several: a view."""
        seen = Array(base=self, lens=Field(key), writable=self.writable)
        seen.is_scalar = self.is_scalar and seen.ndim == 0
        return seen

    def __setitem__(self, key: Any, value: Any) -> None:
        if type(value) in NUMBERS:
            held = self.own_ndarray()
            if held is not None and names_element(key, held.ndim):
                held[key] = value
                return
        # Reading a value, laying over it and naming the result is one act for other threads too.
        with _writing:
            if type(key) is slice and type(value) in NUMBERS:
                held = self.own_ndarray()
                if held is not None:
                    held[key] = value
                    return
            self._set(key, value)

    def _set(self, key: Any, value: Any) -> None:
        named = field_key(key, self.dtype, single=self.is_scalar)
        if named is not None:
            self._field(named).assign(() if self.is_scalar else (...), value)
            return
        if self.is_scalar and self._base is None:
            message = f"{self.dtype.type.__name__!r} object does not support item assignment"
            raise TypeError(message)
        self.assign(key, itself(value))

    def assign(self, key: Any, value: Any) -> None:
        """Set what an index of positions names, as `x[key] = value` does."""
        self.check_writable()
        item = read_key(plain_key(key), self.shape)
        if self.on_file:
            maps.settle(key, value)
        held = self.writable_ndarray()
        if held is not None and assign_now(held, item, key, value, self.on_file):
            return
        if isinstance(item, Masked):
            picks.assign_masked(self, item.mask, value)
            return
        if isinstance(item, Fancy):
            picks.put(self, item.key, value)
            return
        given = value.to_expr() if isinstance(value, Array) else value
        check_value(given, self.dtype, None if item.scalar else len(item.affine.shape))
        self._assign(item.affine, value_for(given, item.affine.shape, self.dtype))
        self._count_writes()

    def own_ndarray(self) -> NDArray | None:
        """Give the buffer where it may be written and nobody else reads it; else None."""
        if self.is_scalar or self._frozen or not self._writable:
            return None
        cell, lens = self._cell, self._lens
        if self._base is not None:
            below = self._base.own_ndarray()
            return lens.apply(below) if below is not None and isinstance(lens, Affine) else None
        return patches.own_buffer(cell) if type(cell) is Source else None

    @property
    def writable(self) -> bool:
        """Whether assignments are allowed: not to a broadcast, or a file opened to read."""
        return self._writable and not self._frozen

    def set_writable(self, writable: bool) -> None:
        """Allow or forbid assignments, by this name and by views that are made of it later."""
        if writable and self._base is not None:
            lens = self._lens
            seen_once = not isinstance(lens, Affine) or (lens.boxed and lens.injective)
            self._writable = self._base.writable and seen_once
        if writable and not self._writable:
            message = "cannot set WRITEABLE flag to True of this array"
            raise ValueError(message)
        self._frozen = not writable

    def check_writable(self, what: str = "assignment destination") -> None:
        """Raise ValueError where NumPy would, which has its word for what is written to."""
        if not self.writable:
            message = f"{what} is read-only"
            raise ValueError(message)

    @property
    def _root(self) -> Array:
        base = self.base
        return self if base is None else base

    def _root_cell(self) -> Expr | None:
        return self._root._cell  # noqa: SLF001 - one class

    @property
    def on_file(self) -> bool:
        """Whether writes go through to a file that was opened for writing."""
        store = maps.store_of(self._root_cell())
        return store is not None and store.mode == "r+"

    def writable_ndarray(self) -> NDArray | None:
        """Give the buffer to write into at once; None where somebody still reads the old value."""
        if self._base is not None:
            held = self._base.writable_ndarray()
            if held is None:
                return None
            assert self._lens is not None
            seen = look(self._lens, held)
            return seen if np.may_share_memory(seen, held) or seen.size == 0 else None
        if self.in_memory is None or not isinstance(self._cell, Source):
            return self._writable_map() if isinstance(self._cell, Source) else None
        if isinstance(self._cell.store, BufferStore):
            return self._writable_map()
        store = self._cell.store
        if not isinstance(store, MemoryStore) or store.array is None:
            return None
        del store
        # Two references each: the holder's and the call's own. Any other is a lazy reader's.
        read = sys.getrefcount(self._cell) > 2 or sys.getrefcount(self._cell.store) > 2
        store = self._cell.store
        assert isinstance(store, MemoryStore)
        assert store.array is not None
        if read or not store.owned or not store.array.flags.writeable:
            if store.array.nbytes > max(settings().eager_bytes, COPY_BYTES):
                return None
            fresh = MemoryStore(store.array.copy(), owned=True)
            self._cell = computed(self._cell, fresh)
            return fresh.array
        return store.array

    def _writable_map(self) -> NDArray | None:
        """Give the map of a file opened for writing."""
        cell = self._cell
        assert isinstance(cell, Source)
        # The holder's reference, this function's and the call's own; any other may be a reader's.
        held = maps.buffer_to_write(cell, self, shared=sys.getrefcount(cell) > 3)
        if held is not None:
            self._cell = maps.renamed(cell)
        return held

    def map_of_file(self) -> NDArray | None:
        """Give the map of the file that the array looks into, or None."""
        if self._base is not None:
            assert self._lens is not None
            below = self._base.map_of_file()
            return None if below is None else look(self._lens, below)
        return maps.whole(self._cell)

    def flush(self) -> None:
        """Bring what was written through to a file to disk, as `np.memmap.flush` does."""
        maps.flush(self._root_cell())

    def _assign(self, affine: Affine, value: Expr) -> None:
        """Replace what an affine view of this array shows."""
        if self._base is not None and isinstance(self._lens, Affine):
            self._base._assign(self._lens.then(affine), value)  # noqa: SLF001
            return
        cell = self.to_expr()
        # The holder's reference, this function's and the call's own; any other is a reader's.
        self.rebind(lay(affine, cell, value, unread=sys.getrefcount(cell) <= 3))

    def _count_writes(self) -> None:
        """Bring an array into memory when writes pile up on it."""
        root, cell = self._root, self._root_cell()
        if cell is not None and patches.piled_up(cell):
            # The holder's reference, this function's and the call's own.
            below = None if sys.getrefcount(cell) > 3 else patches.carry_out(cell)
            root.persist() if below is None else root.rebind(below)

    def _count_reads(self) -> bool:
        """Bring an array into memory when reads of elements pile up; tells whether it is there."""
        root = self._root
        root._reads += 1  # noqa: SLF001 - one class
        often = root._reads > READS_MAX and not isinstance(root.to_expr(), Source)  # noqa: SLF001
        if often and root.nbytes <= settings().memory // 16:
            root.persist()
        return self.in_memory is not None

    # -- computing ----------------------------------------------------------------------------

    def compute(self) -> NDArray:
        """Give the value as an ndarray, which is the caller's to change.

        Raises MemoryBudgetError before any work if it does not fit the memory limit.
        """
        shared = self.in_memory
        if shared is not None:
            return shared.copy()
        expr = self.to_expr()
        (whole,) = engine.values(expr)
        return self._remember(expr, whole)

    def _remember(self, expr: Expr, whole: NDArray) -> NDArray:
        """Keep a computed value for the name where a second copy is cheap."""
        fits = whole.nbytes <= min(COPY_BYTES_MAX, settings().memory // 16)
        if fits and not isinstance(expr, Source) and expr.memo.store is None:
            expr.memo.store = MemoryStore(whole.copy(), owned=True)
        return whole

    def persist(self) -> Array:
        """Compute the value and hold it, in memory while it fits and on disk beyond; gives self."""
        if self.in_memory is None:
            expr = self.to_expr()
            (store,) = engine.persist(expr)
            if self._base is None:
                self.rebind(computed(expr, store))
        return self

    def copy(self, order: Any = "C") -> Array:
        """Give an array of its own with the same value, laid out in an order of NumPy's."""
        if order == "F" or (order in ("K", "A") and self.flags.fnc):
            upright: Array = self.T.copy().T
            return upright
        held = self.in_memory
        # The memory of others may be gone by the time that a lazy copy is computed.
        lent = isinstance(maps.store_of(self._root_cell()), BufferStore)
        turned = held is not None and not held.flags.c_contiguous and held.nbytes <= COPY_BYTES_MAX
        if held is not None and (lent or turned or immediate(held)):
            return Array.of(held.copy(order), scalar=self.is_scalar)
        return Array(self.to_expr(), scalar=self.is_scalar)


def wrap(expr: Expr, *, scalar: bool = False) -> Array:
    """Make an array that names an expression."""
    return Array(expr, scalar=scalar)
