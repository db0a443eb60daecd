"""Arrays to and from dask, lazily both ways; loaded when somebody asks for it.

A dask array is read chunk by chunk. Where tasks of its graph serve several chunks, which would run
again for each, dask computes it once, into scratch. An array of ours is a dask array whose chunks
are computed here, box by box, within the memory limit. What it needs as a whole, such as a mean, is
computed with the first chunk and held.
"""

from __future__ import annotations

import secrets
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import dask
import dask.array as da
import numpy as np
from dask.base import get_scheduler
from dask.core import get_dependencies
from dask.optimization import cull

from chunkarr import engine
from chunkarr.arrays import Array, wrap
from chunkarr.expr.node import Expr, Source, walk
from chunkarr.grid import Grid, Region, region_of, region_shape, shift
from chunkarr.plan.jobs import PLACED
from chunkarr.plan.plan import Target
from chunkarr.scheduler.registry import current_client
from chunkarr.settings import config, settings
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.scratch import new_spill
from chunkarr.storage.store import NDArray, Store

CHUNK_COPIES = 4
"""What dask holds while it computes a chunk, in chunks: a guess, as its tasks do not tell."""


# -- from dask ----------------------------------------------------------------------------------


class DaskStore(Store):
    """The chunks of a dask array."""

    def __init__(self, array: Any) -> None:
        if any(np.isnan(n) for n in array.shape):
            message = "the dask array has unknown chunk sizes: call its compute_chunk_sizes() first"
            raise ValueError(message)
        self.array = array
        self.shape, self.dtype = tuple(map(int, array.shape)), array.dtype
        self.grid = Grid.from_sizes(array.chunks)
        self.name = "dask.array"
        self.source: Any = None
        """An array of dask's that has to live as long as this one."""
        self._graph: dict[Any, Any] | None = None
        self._scratch: Store | None = None
        self._lock = threading.Lock()

    @property
    def bytes_read_extra(self) -> int:
        """What computing a chunk may hold."""
        return (
            CHUNK_COPIES * int(np.prod(self.grid.chunk_shape, dtype=object)) * self.dtype.itemsize
        )

    def read(self, region: Region) -> NDArray:
        """Compute the chunks that a box meets."""
        scratch = self._prepared()
        if scratch is not None:
            return scratch.read(region)
        out = np.empty(region_shape(region), self.dtype)
        origin = [span.start for span in region]
        for cell, box in self.grid.overlapping(region):
            chunk = self._chunk(cell)
            met = tuple(
                slice(max(a.start, b.start), min(a.stop, b.stop))
                for a, b in zip(region, box, strict=True)
            )
            out[shift(met, origin)] = chunk[shift(met, [span.start for span in box])]
        return out

    def _chunk(self, cell: tuple[int, ...]) -> NDArray:
        assert self._graph is not None
        key = (self.array.name, *cell)
        needed, _ = cull(self._graph, [key])
        return np.asarray(_get(self.array)(needed, key))

    def _prepared(self) -> Store | None:
        """Look at the graph once; gives scratch with all values where chunks share tasks."""
        with self._lock:
            if self._graph is None and self._scratch is None:
                graph = dict(self.array.__dask_graph__())
                optimized = self.array
                if not any(map(_is_future, graph.values())):
                    # Of chunks that a cluster holds, dask would leave nothing.
                    (optimized,) = dask.optimize(self.array)
                    graph = dict(optimized.__dask_graph__())
                if not _shares_tasks(graph):
                    self._graph, self.array = graph, optimized
                elif _distributed():
                    # A cluster of dask's holds what its chunks share.
                    self.array = self.array.persist()
                    self._graph = dict(self.array.__dask_graph__())
                else:
                    self._scratch = _computed(self.array, self.grid)
            return self._scratch

    def __getstate__(self) -> dict[str, Any]:
        self._prepared()
        state = self.__dict__.copy()
        del state["_lock"], state["source"]
        if self._scratch is not None:
            del state["array"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.source = None
        self._lock = threading.Lock()


def _shares_tasks(graph: dict[Any, Any]) -> bool:
    """Whether a task serves several others, so that chunks by themselves would run it again."""
    readers: Counter[Any] = Counter()
    for key in graph:
        readers.update(set(get_dependencies(graph, key)))
    return any(count > 1 and get_dependencies(graph, key) for key, count in readers.items())


def _is_future(value: object) -> bool:
    """Whether a value in a graph is a chunk that a cluster of dask's holds."""
    return type(value).__module__.startswith("distributed")


def _distributed() -> bool:
    """Whether a client of `distributed` is what dask computes with."""
    chosen = get_scheduler()
    return getattr(chosen, "__module__", "").startswith("distributed")


def _get(array: Any) -> Callable[..., Any]:
    """Give what runs a small graph: dask's cluster, or this thread, of which there are enough."""
    chosen: Callable[..., Any] = get_scheduler(collections=[array]) if _distributed() else dask.get
    return chosen


class _Writer:
    """What `dask.array.store` writes chunks to."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def __setitem__(self, region: Region, values: Any) -> None:
        self.store.write(region, np.asarray(values))


def _computed(array: Any, grid: Grid) -> Store:
    """Let dask compute all chunks into scratch."""
    scratch = new_spill(grid.shape, array.dtype, grid, "dask array")
    scratch.create()
    try:
        with dask.config.set(num_workers=settings().workers):
            da.store(array, _Writer(scratch), lock=False)
    except BaseException:
        scratch.release()
        raise
    return scratch


def from_dask(array: Any) -> Array:
    """Look at a dask array: its chunks are computed by dask when they are read.

    `chunks` stay. Raises ValueError for unknown chunk sizes, TypeError for what is no dask array.
    """
    if not isinstance(array, da.Array):
        message = f"from_dask takes a dask array, not {type(array).__name__}"
        raise TypeError(message)
    store = DaskStore(array)
    return Array(Source(shape=store.shape, dtype=store.dtype, store=store))


def from_delayed(
    value: Any, shape: Any, dtype: Any = None, meta: Any = None, name: str | None = None
) -> Array:
    """Make an array of one chunk of a delayed value of dask."""
    return from_dask(da.from_delayed(value, tuple(shape), dtype, meta, name))


# -- to dask ------------------------------------------------------------------------------------


class Boxes:
    """An array of ours as dask's `from_array` reads one: by slices."""

    def __init__(self, expr: Expr) -> None:
        self.expr = expr
        self.shape, self.dtype, self.ndim = expr.shape, expr.dtype, expr.ndim
        self._ready = False
        self._filed: Store | None = None

    def __getitem__(self, key: Any) -> NDArray:
        """Compute a box."""
        # Plans are made for all of the memory limit: one at a time.
        with _planning:
            if not self._ready:
                whole = [n for n in walk((self.expr,)) if isinstance(n, PLACED)]
                missing = [n for n in whole if n.memo.store is None]
                if missing:
                    engine.persist(*missing)
                self._ready = True
            items = key if isinstance(key, tuple) else (key,)
            box: NDArray = wrap(self.expr)[(*items, ...)].compute()
            return box

    def file(self) -> Store:
        """Compute all of it into a file that other processes see."""
        with _planning:
            if self._filed is None:
                grid = engine.nominal_grid(self.expr)
                scratch = new_spill(self.shape, self.dtype, grid, "to dask")
                engine.execute([Target(self.expr, scratch)])
                self._filed = scratch
            return self._filed

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a file."""
        if self._filed is None:
            # A client that pickles a graph holds a lock without which its cluster answers nobody.
            with config(executor="threads"):
                store = self.file()
            client = current_client()
            if client is not None:
                # Its workers read when they come to it, when this array may be forgotten here.
                _sent.setdefault(client, []).append(store)
        return FiledBoxes, (self._filed,)


class FiledBoxes:
    """Values in a file, as dask's `from_array` reads them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.shape, self.dtype, self.ndim = store.shape, store.dtype, len(store.shape)

    def __getitem__(self, key: Any) -> NDArray:
        """Read a box."""
        items = key if isinstance(key, tuple) else (key,)
        rest = region_of(self.shape[len(items) :])
        region = tuple(
            slice(*item.indices(n)[:2]) for item, n in zip(items, self.shape, strict=False)
        )
        return np.array(self.store.read((*region, *rest)))


_planning = threading.RLock()
_sent: weakref.WeakKeyDictionary[Any, list[Store]] = weakref.WeakKeyDictionary()


def to_dask(x: Array, chunks: Any = None) -> Any:
    """Give a dask array with the array's chunks, which are computed here when dask wants them.

    On a cluster of dask's the values are computed when the graph is sent, into a file that its
    workers have to see.
    """
    whole = x if chunks is None else x.rechunk(chunks)
    return _dask_array(Boxes(whole.to_expr()))


def _dask_array(boxes: Boxes) -> Any:
    sizes = engine.nominal_grid(boxes.expr).sizes
    name = f"chunkarr-{secrets.token_hex(8)}"
    meta = np.empty((0,) * boxes.ndim, boxes.dtype)
    return da.from_array(boxes, chunks=sizes, name=name, asarray=False, meta=meta)


# -- the protocol of dask collections -----------------------------------------------------------


class Face(NamedTuple):
    """The dask array that an array of ours is to `dask.compute`, while it names an expression."""

    of: weakref.ref[Array]
    boxes: Boxes
    array: Any


_faces: dict[int, Face] = {}


def graph(x: Array) -> Any:
    """Give the graph that `dask.compute` runs; for a cluster, that of values in a file."""
    array = face(x)
    if _distributed():
        boxes = _faces[id(x)].boxes
        boxes.file()
        boxes.expr = x.to_expr()  # what was computed may be held now
    return array.__dask_graph__()


def face(x: Array) -> Any:
    """Give the dask array of an array: the same one as long as it names the same value."""
    expr = x.to_expr()
    found = _faces.get(id(x))
    if found is None or found.of() is not x or not _same(found.boxes.expr, expr):
        boxes = Boxes(expr)
        number = id(x)
        gone = weakref.ref(x, lambda _: _faces.pop(number, None))
        found = _faces[number] = Face(gone, boxes, _dask_array(boxes))
    return found.array


def _same(left: Expr, right: Expr) -> bool:
    """Whether two expressions are one, or look at the same buffer."""
    if left is right:
        return True
    stores = [e.store for e in (left, right) if isinstance(e, Source)]
    if len(stores) < 2 or not all(isinstance(s, MemoryStore) for s in stores):
        return False
    seen = [s.read(region_of(s.shape)).__array_interface__ for s in stores]
    return bool(seen[0] == seen[1])


def rebuilt(graph: Any, array: Any, rename: Any = None) -> Array:
    """Make an array of the chunks that `dask.persist` has computed."""
    rebuild, extra = array.__dask_postpersist__()
    made = DaskStore(rebuild(graph, *extra, **({} if rename is None else {"rename": rename})))
    made.source = array  # its file may be read later
    return Array(Source(shape=made.shape, dtype=made.dtype, store=made))


def later(function: Callable[..., Any], *args: Any) -> Any:
    """Give a delayed call of dask's."""
    return dask.delayed(function, pure=False, traverse=False)(*args)
