"""Users' functions on chunks: `map_blocks` and `map_overlap`, with dask's arguments and rules.

A function gets ndarrays that are its own to change. Its dtype is declared by `dtype=` or `meta=`,
or found by calling it once on arrays of length one; declared, it is not called before the values
are wanted. Shapes are never found by calling: what is not a chunk's own is said by `chunks=`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

import numpy as np

from chunkarr import engine
from chunkarr.arrays import Array, wrap
from chunkarr.errors import NotYetError
from chunkarr.functions.blocks import (
    Operand,
    Slot,
    Trim,
    block_calls,
    function_name,
    lay_out,
    probe,
)
from chunkarr.functions.manipulation import regrid
from chunkarr.functions.overlap import (
    Depth,
    aligned,
    long_enough,
    read_boundary,
    read_depth,
    trims_for,
    widened,
)
from chunkarr.grid import Grid

Function = Callable[..., Any]


def map_blocks(
    func: Function,
    *args: Any,
    name: str | None = None,
    token: str | None = None,
    dtype: Any = None,
    chunks: Any = None,
    drop_axis: Any = None,
    new_axis: Any = None,
    enforce_ndim: bool = False,  # noqa: ARG001 - it is always enforced
    meta: Any = None,
    **kwargs: Any,
) -> Array:
    """Call a function on the chunks of arrays, as `dask.array.map_blocks` does.

    Arrays are aligned by the number of their chunks, an axis of one chunk meeting all of the
    others; other arguments are passed on. The result is cut like the arrays, with chunks of the
    same shapes unless `chunks` gives others: per axis a size, one size for each chunk, or a
    function of sizes. `drop_axis` names axes that the function removes; it gets them whole.
    `new_axis` names axes of the result that it adds. A function with a parameter `block_info` or
    `block_id` is told where it is. `dtype`, or that of `meta`, is the result's; without them the
    function is called once on arrays of length one.

    Raises ValueError where chunks do not align or the dtype cannot be found; when computed, where
    the function gives another shape, TypeError for a dtype that does not convert, and
    MemoryBudgetError before the start where a chunk does not fit.
    """
    check_function(func, "map_blocks")
    label = name or token or function_name(func)
    arrays = [a for a in args if isinstance(a, Array)]
    operands = [
        Operand(a.to_expr(), grid, grid)
        for a in arrays
        for grid in (engine.nominal_grid(a.to_expr()),)
    ]
    return _mapped(
        func, args, kwargs, operands, (), label, chunks, drop_axis, new_axis, kind_of(dtype, meta)
    )


def _mapped(
    func: Function,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    operands: Sequence[Operand],
    trims: tuple[Trim, ...],
    label: str,
    chunks: Any,
    drop_axis: Any,
    new_axis: Any,
    dtype: np.dtype[Any] | None,
) -> Array:
    numbers = iter(range(len(args) + len(kwargs)))
    slots = tuple(Slot(next(numbers)) if isinstance(a, Array) else a for a in args)
    wholes = [v.to_expr() for v in kwargs.values() if isinstance(v, Array)]
    named = {k: Slot(next(numbers)) if isinstance(v, Array) else v for k, v in kwargs.items()}
    if dtype is None:
        exprs = [*(o.expr for o in operands), *wholes]

        def shown(value: Any) -> Any:
            return exprs[value.number] if isinstance(value, Slot) else value

        found = probe(func, [*map(shown, slots)], {k: shown(v) for k, v in named.items()})
        dtype = np.asarray(found).dtype
    dropped, added = axes_of(drop_axis) or (), axes_of(new_axis)
    layout = lay_out([o.seen for o in operands], chunks, dropped, added)
    made, grid = block_calls(
        func,
        [*operands, *(Operand(e, Grid.single(e.shape), Grid.single(e.shape)) for e in wholes)],
        layout,
        dtype,
        name=label,
        args=slots,
        kwargs=named,
        wants=tuple(word for word in ("block_id", "block_info") if has_keyword(func, word)),
        trims=trims,
    )
    return wrap(regrid(made, grid))


def map_overlap(
    func: Function,
    *args: Any,
    depth: Any = None,
    boundary: Any = None,
    trim: bool = True,
    align_arrays: bool = True,
    allow_rechunk: bool = True,
    **kwargs: Any,
) -> Array:
    """Call a function on chunks that reach into their neighbours, as `dask.array.map_overlap` does.

    `depth` is how far: an integer, a tuple for all axes, a mapping of axes, in which a pair is
    (before, after), or a list of these, one per array. `boundary` is what lies beyond the ends:
    "none" (the default: nothing), "reflect", "periodic", "nearest", or a value; as a tuple or
    mapping per axis, as a list per array. With `trim` the result loses `depth` again, after the
    function has kept the shape of what it got. Arrays of equal length are cut alike unless
    `align_arrays` is false. Chunks shorter than their depth are joined with their neighbours, or
    refused with ValueError where `allow_rechunk` is false. Other keywords are those of
    `map_blocks`, or are passed on.
    """
    check_function(func, "map_overlap")
    if not args or not all(isinstance(a, Array) for a in args):
        kinds = [type(a).__name__ for a in args]
        message = f"map_overlap takes a function and arrays after it, not {kinds}"
        raise TypeError(message)
    exprs = [a.to_expr() for a in args]
    depths = [read_depth(d, e.ndim) for d, e in zip(_each(depth, args), exprs, strict=True)]
    bounds = [read_boundary(b, e.ndim) for b, e in zip(_each(boundary, args), exprs, strict=True)]
    grids = [engine.nominal_grid(e) for e in exprs]
    if align_arrays:
        grids = aligned([(e.shape, g) for e, g in zip(exprs, grids, strict=True)])
    if not any(before + after for pairs in depths for before, after in pairs):
        cut = [wrap(regrid(e, g)) for e, g in zip(exprs, grids, strict=True)]
        return map_blocks(func, *cut, **kwargs)
    grids = [_reaching(g, d, allow=allow_rechunk) for g, d in zip(grids, depths, strict=True)]
    operands = [
        widened(e, g, d, b) for e, g, d, b in zip(exprs, grids, depths, bounds, strict=True)
    ]
    options = {key: kwargs.pop(key, None) for key in OPTIONS}
    if not trim and options["chunks"] is None:
        options["chunks"] = grids[0].sizes
    trims: tuple[Trim, ...] = ()
    if trim:
        first = max(range(len(exprs)), key=lambda i: (exprs[i].ndim, -i))
        trims = _kept_trims(
            trims_for(depths[first], bounds[first]),
            axes_of(options["drop_axis"]) or (),
            axes_of(options["new_axis"]) or (),
        )
    label = options["name"] or options["token"] or function_name(func)
    return _mapped(
        func,
        args,
        kwargs,
        operands,
        trims,
        label,
        options["chunks"],
        options["drop_axis"],
        options["new_axis"],
        kind_of(options["dtype"], options["meta"]),
    )


OPTIONS = (
    "name",
    "token",
    "dtype",
    "chunks",
    "drop_axis",
    "new_axis",
    "enforce_ndim",
    "meta",
)
"""Keywords of `map_blocks` that `map_overlap` takes; all others are the function's."""


def _each(given: Any, arrays: Sequence[Any]) -> Sequence[Any]:
    """Give an argument for each array: the entries of a list, or the same for all."""
    if not isinstance(given, list):
        return [given] * len(arrays)
    if len(given) != len(arrays):
        message = f"{len(given)} entries given for {len(arrays)} arrays"
        raise ValueError(message)
    return given


def _reaching(grid: Grid, depths: Sequence[Depth], *, allow: bool) -> Grid:
    wide = long_enough(grid, depths)
    if not allow and wide != grid:
        message = (
            "Overlap depth is larger than smallest chunksize.\n"
            "Please set allow_rechunk=True to rechunk automatically.\n"
            f"Overlap depths required: {[max(d) for d in depths]}\n"
            f"Input chunks: {grid.sizes}\n"
        )
        raise ValueError(message)
    return wide


def _kept_trims(
    trims: Sequence[Trim], drop_axis: Sequence[int], new_axis: Sequence[int]
) -> tuple[Trim, ...]:
    """Give what the axes of the result lose: dropped ones nothing, new ones nothing."""
    dropped = {axis % len(trims) for axis in drop_axis}
    kept = [trim for axis, trim in enumerate(trims) if axis not in dropped]
    for axis in sorted(new_axis):
        kept.insert(axis, (0, 0, False))
    return tuple(kept)


# -- arguments ----------------------------------------------------------------------------------


def check_function(func: Any, name: str) -> None:
    """Raise TypeError where the first argument is no function."""
    if not callable(func):
        message = (
            f"First argument must be callable function, not {type(func).__name__}\n"
            f"Usage:   chunkarr.{name}(function, x)\n"
            f"   or:   chunkarr.{name}(function, x, y, z)"
        )
        raise TypeError(message)


def kind_of(dtype: Any, meta: Any) -> np.dtype[Any] | None:
    """Give the dtype that is declared by `dtype=` or `meta=`, or None."""
    if meta is not None and not isinstance(meta, np.ndarray | np.generic | Array):
        message = f"meta of type {type(meta).__name__}: chunks are ndarrays; give dtype="
        raise NotYetError(message)
    given = meta.dtype if dtype is None and meta is not None else dtype
    return None if given is None else np.dtype(given)


def axes_of(given: Any) -> Sequence[int] | None:
    """Give axes as a sequence, None for none."""
    if given is None:
        return None
    return (int(given),) if isinstance(given, Integral) else [int(axis) for axis in given]


def has_keyword(func: Function, word: str) -> bool:
    """Tell whether a function has a parameter of this name."""
    try:
        return word in inspect.signature(func).parameters
    except (ValueError, TypeError):  # a function written in C does not tell
        return False
