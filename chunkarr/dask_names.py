"""Names that programs for dask use and NumPy does not have, with dask's meaning.

Nothing here needs dask. What exchanges arrays with dask itself is in `dask_bridge`, which is loaded
when it is asked for.
"""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np

from chunkarr import engine, namespace
from chunkarr.arrays import Array, wrap
from chunkarr.blockwise import map_blocks, map_overlap
from chunkarr.dispatch import expression
from chunkarr.expr.build import cast_lazily, normalize_axis
from chunkarr.expr.node import Expr, Source, walk
from chunkarr.functions.blocks import chunks as chunks_along
from chunkarr.functions.blocks import probe
from chunkarr.functions.manipulation import regrid
from chunkarr.functions.tops import top
from chunkarr.grid import Grid, region_of
from chunkarr.storage.objects import ObjectStore

Function = Callable[..., Any]


def _map_blocks(self: Array, func: Function, *args: Any, **kwargs: Any) -> Array:
    """Call a function on the chunks; see `chunkarr.map_blocks`."""
    return map_blocks(func, self, *args, **kwargs)


def _map_overlap(
    self: Array, func: Function, depth: Any, boundary: Any = None, trim: bool = True, **kwargs: Any
) -> Array:
    """Call a function on chunks that reach into neighbours; see `chunkarr.map_overlap`."""
    return map_overlap(func, self, depth=depth, boundary=boundary, trim=trim, **kwargs)


class BlockView:
    """The chunks of an array as an array of them: `x.blocks[0, 1:]` is an array of some chunks."""

    def __init__(self, array: Array) -> None:
        self._array = array

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of chunks along each axis."""
        return self._array.numblocks

    @property
    def size(self) -> int:
        """The number of chunks."""
        return self._array.npartitions

    def __getitem__(self, index: Any) -> Array:
        """Choose chunks by integers, slices and at most one list; no axis goes."""
        items = index if isinstance(index, tuple) else (index,)
        if sum(isinstance(item, list | np.ndarray) for item in items) > 1:
            message = "Can only slice with a single list"
            raise ValueError(message)
        if any(item is None for item in items):
            message = "Slicing with np.newaxis or None is not supported"
            raise ValueError(message)
        if Ellipsis in [item for item in items if not isinstance(item, np.ndarray)]:
            at = items.index(Ellipsis)
            rest = (slice(None),) * (len(self.shape) - len(items) + 1)
            items = (*items[:at], *rest, *items[at + 1 :])
        if len(items) > len(self.shape):
            message = f"{len(items)} indices for chunks along {len(self.shape)} axes"
            raise IndexError(message)
        grid = self._array.grid
        made, sizes = self._array, list(grid.axes)
        for axis, item in enumerate(items):
            chosen = _chosen(item, chunks_along(grid, axis), axis)
            if chosen == list(range(chunks_along(grid, axis))):
                continue
            made = _pieces(made, axis, [grid.bounds(axis, i) for i in chosen])
            sizes[axis] = tuple(b - a for a, b in (grid.bounds(axis, i) for i in chosen))
        cut = Grid.from_sizes(Grid(made.shape, tuple(sizes)).sizes)
        return wrap(regrid(made.to_expr(), cut))

    def __iter__(self) -> Any:
        return (self[i] for i in range(self.shape[0]))

    def ravel(self) -> list[Array]:
        """List the chunks in C order."""
        return [self[index] for index in np.ndindex(self.shape)]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockView) and self._array is other._array

    __hash__ = None  # type: ignore[assignment]


def _chosen(item: Any, count: int, axis: int) -> list[int]:
    """Give the numbers of the chunks that an index names."""
    places = np.arange(count)
    try:
        picked = places[int(item)] if isinstance(item, Integral) else places[item]
    except IndexError:
        message = f"index {item} is out of bounds for the {count} chunks along axis {axis}"
        raise IndexError(message) from None
    return [int(i) for i in np.atleast_1d(picked)]


def _pieces(array: Array, axis: int, spans: list[tuple[int, int]]) -> Any:
    """Lay stretches of an axis one after the other; neighbours are one stretch."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], stop
        else:
            joined.append((start, stop))
    lead = (slice(None),) * axis
    parts = [array[(*lead, slice(start, stop))] for start, stop in joined]
    if not parts:
        return array[(*lead, slice(0, 0))]
    return parts[0] if len(parts) == 1 else namespace.concatenate(parts, axis)


def _blocks(self: Array) -> BlockView:
    """Give the chunks, to be chosen by their numbers."""
    return BlockView(self)


def topk(a: Any, k: int, axis: int = -1, split_every: Any = None) -> Array:  # noqa: ARG001
    """Give the k largest elements along an axis, largest first; the smallest for a negative k."""
    return _top(a, k, axis, 0)


def argtopk(a: Any, k: int, axis: int = -1, split_every: Any = None) -> Array:  # noqa: ARG001
    """Give where the k largest elements along an axis are, in the order of `topk`."""
    return _top(a, k, axis, 1)


def _top(a: Any, k: int, axis: int, output: int) -> Array:
    expr = expression(a)
    number = normalize_axis(axis, expr.ndim)
    return wrap(top(expr, engine.nominal_grid(expr), int(k), number)[output])


def coarsen(
    reduction: Function,
    x: Any,
    axes: Mapping[int, int],
    trim_excess: bool = False,
    **kwargs: Any,
) -> Array:
    """Reduce neighbourhoods of fixed size: `coarsen(np.mean, x, {0: 2})` averages pairs of rows.

    `reduction` takes an ndarray and `axis=` with a tuple. Raises ValueError where a length is no
    multiple of its size, unless `trim_excess` leaves the rest out.
    """
    whole = namespace.asarray(x)
    sizes = {normalize_axis(axis, whole.ndim): int(n) for axis, n in axes.items()}
    if not trim_excess and any(whole.shape[axis] % n for axis, n in sizes.items()):
        message = f"Coarsening factors {axes} do not align with array shape {whole.shape}."
        raise ValueError(message)
    whole = whole[tuple(slice(0, n - n % sizes.get(axis, 1)) for axis, n in enumerate(whole.shape))]
    function = getattr(np, reduction.__name__) if _own(reduction) else reduction
    grid = engine.nominal_grid(whole.to_expr())
    cut = [
        _multiples(grid.sizes[axis], sizes.get(axis, 1)) if n else (0,)
        for axis, n in enumerate(whole.shape)
    ]
    factors = tuple(sizes.get(axis, 1) for axis in range(whole.ndim))
    return map_blocks(
        _coarsened,
        wrap(regrid(whole.to_expr(), Grid.from_sizes(cut))),
        name="coarsen",
        dtype=np.asarray(probe(function, [whole.to_expr()], kwargs)).dtype,
        chunks=tuple(tuple(n // by for n in along) for along, by in zip(cut, factors, strict=True)),
        function=function,
        factors=factors,
        options=kwargs,
    )


def _own(function: Function) -> bool:
    return str(getattr(function, "__module__", "")).split(".")[0] == "chunkarr"


def _multiples(sizes: tuple[int, ...], by: int) -> tuple[int, ...]:
    """Move the ends of chunks to multiples of a length."""
    ends = sorted({int(end) // by * by for end in np.cumsum(sizes)} - {0})
    return tuple(b - a for a, b in zip([0, *ends], ends, strict=False))


def _coarsened(
    block: Any, function: Function, factors: tuple[int, ...], options: dict[str, Any]
) -> Any:
    split = [m for n, by in zip(block.shape, factors, strict=True) for m in (n // by, by)]
    return function(block.reshape(split), axis=tuple(range(1, 2 * block.ndim, 2)), **options)


def _compute_chunk_sizes(self: Array) -> Array:
    """Make sure that all lengths are known, which counts what a mask selects; gives self."""
    self.to_expr()
    return self


def _topk(self: Array, k: int, axis: int = -1, split_every: Any = None) -> Array:
    """Give the k largest elements along an axis; see `chunkarr.topk`."""
    return topk(self, k, axis, split_every)


def _argtopk(self: Array, k: int, axis: int = -1, split_every: Any = None) -> Array:
    """Give where the k largest elements are; see `chunkarr.argtopk`."""
    return argtopk(self, k, axis, split_every)


# -- storing ------------------------------------------------------------------------------------


def store(
    sources: Any,
    targets: Any,
    lock: Any = True,
    regions: Any = None,
    compute: bool = True,
    return_stored: bool = False,
    **_: Any,
) -> Any:
    """Write arrays into array-likes that take `target[region] = values`, box by box.

    All are computed in one plan. `lock` is whether writes wait for each other, or a lock to use for
    it. `regions` are tuples of slices, one for all targets or one for each. With `compute=False` it
    gives a delayed value of dask, with `return_stored` arrays that read the targets.

    Raises ValueError where the numbers or shapes of sources, targets and regions differ. Targets
    may have been written in part when an error comes.
    """
    single = isinstance(sources, Array)
    arrays = [sources] if single else list(sources)
    places = [targets] if single else list(targets)
    if not all(isinstance(a, Array) for a in arrays):
        message = "All sources must be chunkarr arrays"
        raise ValueError(message)
    if len(arrays) != len(places):
        message = f"Different number of sources [{len(arrays)}] and targets [{len(places)}]"
        raise ValueError(message)
    cuts = [regions] * len(arrays) if regions is None or isinstance(regions, tuple) else [*regions]
    if len(cuts) != len(arrays):
        message = f"Different number of sources [{len(arrays)}] and regions [{len(cuts)}]"
        raise ValueError(message)
    held = threading.Lock() if lock is True else lock or None
    stores = [
        _target(a, place, region, held)
        for a, place, region in zip(arrays, places, cuts, strict=True)
    ]
    pairs = [(cast_lazily(a.to_expr(), s.dtype), s) for a, s in zip(arrays, stores, strict=True)]
    if not compute:
        return _bridge().later(_store, pairs)
    _store(pairs)
    if not return_stored:
        return None
    return tuple(Array(Source(shape=s.shape, dtype=s.dtype, store=s)) for s in stores)


def _target(array: Array, target: Any, region: Any, lock: Any) -> ObjectStore:
    """Give the part of a target that an array goes to."""
    key = tuple(slice(None) for _ in target.shape) if region is None else tuple(region)
    spans = [span.indices(n) for span, n in zip(key, target.shape, strict=True)]
    shape = tuple(max(0, stop - start) for start, stop, _ in spans)
    if any(step != 1 for _, _, step in spans) or shape != array.shape:
        message = f"an array of shape {array.shape} does not go to a region of shape {shape}"
        raise ValueError(message)
    starts = tuple(start for start, _, _ in spans)
    return ObjectStore(target, shape=shape, starts=starts, dtype=np.dtype(target.dtype), lock=lock)


def _store(pairs: list[tuple[Expr, ObjectStore]]) -> None:
    limits, _ = engine.current_limits()
    if limits.shares_memory and not any(_reads(expr, s.source) for expr, s in pairs):
        engine.write_all(pairs)
        return
    # Targets are written by this process, and only after what they hold now has been read.
    values = engine.persist(*(expr for expr, _ in pairs))
    for value, (_, target) in zip(values, pairs, strict=True):
        for region in Grid(value.shape, value.grid.axes).regions():
            target.write(region, value.read(region))


def _reads(expr: Expr, target: Any) -> bool:
    """Whether a value may depend on what a target holds now."""
    stores = [node.store for node in walk((expr,)) if isinstance(node, Source)]
    if isinstance(target, Array):
        return True
    if isinstance(target, np.ndarray):
        held = [s.read(region_of(s.shape)) for s in stores if s.addressable]
        return any(np.may_share_memory(part, target) for part in held)
    place = _place(target)
    return any(
        _place(s.source) == place
        if isinstance(s, ObjectStore)
        else s.location is not None and s.location in place
        for s in stores
    )


def _place(value: Any) -> str:
    """Give a text that tells arrays in files apart, as far as libraries let it be known."""
    if hasattr(value, "store_path"):  # zarr
        return str(value.store_path)
    if hasattr(value, "file"):  # h5py
        return f"{os.path.realpath(value.file.filename)}:{value.name}"
    return f"id {id(value)}"


# -- dask itself --------------------------------------------------------------------------------


def _bridge() -> Any:
    return importlib.import_module("chunkarr.dask_bridge")


def _to_dask(self: Array, chunks: Any = None) -> Any:
    """Give a dask array whose chunks are computed here; see `chunkarr.to_dask`."""
    return _bridge().to_dask(self, chunks)


def _to_delayed(self: Array, optimize_graph: bool = True) -> Any:
    """Give an array of dask's delayed values, one for each chunk."""
    return _to_dask(self).to_delayed(optimize_graph)


def _store_method(self: Array, target: Any, **options: Any) -> Any:
    """Write into an array-like that takes `target[region] = values`; see `chunkarr.store`."""
    given = store([self], [target], **options)
    return given[0] if isinstance(given, tuple) else given


def _graph(self: Array) -> Any:
    return _bridge().graph(self)


def _keys(self: Array) -> Any:
    return _bridge().face(self).__dask_keys__()


def _layers(self: Array) -> Any:
    return _bridge().face(self).__dask_layers__()


def _token(self: Array) -> Any:
    return _bridge().face(self).name


def _postcompute(self: Array) -> Any:
    return _bridge().face(self).__dask_postcompute__()


def _postpersist(self: Array) -> Any:
    bridge = _bridge()
    return bridge.rebuilt, (bridge.face(self),)


class _AsDask:
    """An attribute that is that of dask's own arrays, so that both are computed together."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, instance: object, owner: type) -> Any:
        return getattr(_bridge().da.Array, self.name)


ATTACHED: dict[str, Any] = {
    "to_dask": _to_dask,
    "to_delayed": _to_delayed,
    "store": _store_method,
    "__dask_graph__": _graph,
    "__dask_keys__": _keys,
    "__dask_layers__": _layers,
    "__dask_tokenize__": _token,
    "__dask_postcompute__": _postcompute,
    "__dask_postpersist__": _postpersist,
    "__dask_optimize__": _AsDask("__dask_optimize__"),
    "__dask_scheduler__": _AsDask("__dask_scheduler__"),
    "map_blocks": _map_blocks,
    "map_overlap": _map_overlap,
    "blocks": property(_blocks),
    "partitions": property(_blocks),
    "topk": _topk,
    "argtopk": _argtopk,
    "compute_chunk_sizes": _compute_chunk_sizes,
}
"""Methods and properties of arrays."""
