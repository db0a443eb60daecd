"""Signatures of generalised ufuncs, such as `(m,n),(n)->(m)`, and calls that follow them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from chunkarr.expr.build import normalize_axis, view
from chunkarr.expr.node import Expr
from chunkarr.functions.lanes import lanes
from chunkarr.functions.views import expand_dims, transpose

NAMES = r"(?:\w+(?:,\w+)*,?)?"
ARGUMENT = rf"\({NAMES}\)"
SIGNATURE = re.compile(rf"^(?:{ARGUMENT}(?:,{ARGUMENT})*,?)?->{ARGUMENT}(?:,{ARGUMENT})*,?$")


class Signature(NamedTuple):
    """The core axes of each operand and each result, by name."""

    ins: tuple[tuple[str, ...], ...]
    outs: tuple[tuple[str, ...], ...]
    several: bool
    """Whether the function gives a tuple."""


def parse(signature: str) -> Signature:
    """Read a signature; raises ValueError for what is none.

    >>> parse("(m,n),(n)->(m)").ins
    (('m', 'n'), ('n',))
    """
    if not isinstance(signature, str):
        message = "`signature` has to be of type string"
        raise TypeError(message)
    text = re.sub(r"\s+", "", signature)
    if not SIGNATURE.match(text):
        message = f"Not a valid gufunc signature: {text}"
        raise ValueError(message)
    left, right = text.split("->")
    ins, outs = (
        tuple(tuple(re.findall(r"\w+", part)) for part in re.findall(ARGUMENT, side))
        for side in (left, right)
    )
    return Signature(ins, outs, len(outs) > 1 or right.endswith(","))


class Axes(NamedTuple):
    """Where core axes are in each operand and each result."""

    ins: tuple[tuple[int, ...], ...]
    outs: tuple[tuple[int, ...], ...]


def place_axes(
    signature: Signature, axes: Any = None, axis: Any = None, *, keepdims: bool = False
) -> Axes:
    """Read `axes=`, `axis=` and `keepdims=` as NumPy's ufuncs and dask do; ValueError if wrong."""
    ins, outs = signature.ins, signature.outs
    cored = [names for names in ins if names]
    if axes is not None and axis is not None:
        message = "Only one of `axis` or `axes` keyword arguments should be given"
        raise ValueError(message)
    if keepdims:
        if any(outs):
            message = "`keepdims` can only be used for scalar outputs"
            raise ValueError(message)
        if len(set(ins)) > 1:
            message = "To use `keepdims`, all core dimensions have to be equal"
            raise ValueError(message)
    if axis is not None:
        _check_axis(axis, cored)
        axes = [(axis,) if names else () for names in (*ins, *outs)]
    if axes is None:
        axes = [tuple(range(-len(names), 0)) for names in (*ins, *outs)]
    if not isinstance(axes, list):
        message = "`axes` has to be of type list"
        raise ValueError(message)  # noqa: TRY004 - the error of the protocol
    given = [(a,) if isinstance(a, int) else tuple(a) for a in axes]
    if len(given) == len(ins) and not any(outs):
        given += [()] * len(outs)
    if len(given) != len(ins) + len(outs):
        message = (
            "The number of `axes` entries is not equal the number of input and output arguments"
        )
        raise ValueError(message)
    placed_ins, placed_outs = given[: len(ins)], given[len(ins) :]
    if keepdims:
        placed_outs = [placed_ins[0]] * len(outs)
    wanted = (*ins, *(placed_outs if keepdims else outs))
    for number, (places, names) in enumerate(zip((*placed_ins, *placed_outs), wanted, strict=True)):
        if len(places) != len(names):
            side = "input" if number < len(ins) else "output"
            message = (
                f"The number of `axes` entries for argument #{number} is not equal the number of "
                f"respective {side} core dimensions in signature"
            )
            raise ValueError(message)
    return Axes(tuple(placed_ins), tuple(placed_outs))


def _check_axis(axis: Any, cored: Sequence[tuple[str, ...]]) -> None:
    if not isinstance(axis, int):
        message = "`axis` argument has to be an integer value"
        raise ValueError(message)  # noqa: TRY004 - the error of the protocol
    if cored and len(cored[0]) != 1:
        message = "`axis` can be used only, if one core dimension is present"
        raise ValueError(message)
    if any(names != cored[0] for names in cored):
        message = "To use `axis`, all core dimensions have to be equal"
        raise ValueError(message)


def gufunc_calls(
    function: Callable[..., Any],
    signature: Signature,
    axes: Axes,
    operands: Sequence[Expr],
    dtypes: Sequence[np.dtype[Any]],
    *,
    name: str,
    sizes: Mapping[str, int] | None = None,
    keepdims: bool = False,
    options: tuple[tuple[str, Any], ...] = (),
    owns: bool = False,
) -> tuple[Expr, ...]:
    """Apply a function along loop axes, as its signature says; gives one expression per result.

    Raises ValueError for a wrong number of operands, for core axes of different lengths, and for
    axes of results whose length neither the operands nor `sizes` tell.
    """
    if len(operands) != len(signature.ins):
        message = (
            f"According to `signature`, `func` requires {len(signature.ins)} arguments, "
            f"but {len(operands)} given"
        )
        raise ValueError(message)
    moved = [_last(o, places) for o, places in zip(operands, axes.ins, strict=True)]
    lengths = _lengths(signature, moved) | dict(sizes or {})
    unknown = {n for names in signature.outs for n in names if not n.isdigit()} - lengths.keys()
    if unknown:
        message = f"the length of {sorted(unknown)} is in no operand: give it by output_sizes="
        raise ValueError(message)
    shapes = [
        tuple(int(n) if n.isdigit() else lengths[n] for n in names) for names in signature.outs
    ]
    made = lanes(
        function,
        moved,
        [len(names) for names in signature.ins],
        shapes,
        dtypes,
        name=name,
        options=options,
        owns=owns,
    )
    return tuple(
        _kept(part, places) if keepdims else _placed(part, places)
        for part, places in zip(made, axes.outs, strict=True)
    )


def _lengths(signature: Signature, operands: Sequence[Expr]) -> dict[str, int]:
    found: dict[str, int] = {}
    for operand, names in zip(operands, signature.ins, strict=True):
        lengths = operand.shape[operand.ndim - len(names) :]
        for name, n in zip(names, lengths, strict=True):
            if found.setdefault(name, int(name) if name.isdigit() else n) != n:
                message = f"Dimension `'{name}'` with different lengths in arrays"
                raise ValueError(message)
    return found


def _last(operand: Expr, places: Sequence[int]) -> Expr:
    """Move axes to the end, in their order."""
    if operand.ndim < len(places):
        message = f"an array of {operand.ndim} axes has no {len(places)} core dimensions"
        raise ValueError(message)
    ends = [normalize_axis(p, operand.ndim) for p in places]
    order = [axis for axis in range(operand.ndim) if axis not in ends] + ends
    return operand if order == sorted(order) else view(operand, transpose(operand.shape, order))


def _placed(part: Expr, places: Sequence[int]) -> Expr:
    """Move the last axes to their places."""
    if tuple(places) == tuple(range(-len(places), 0)):
        return part
    ends = [normalize_axis(p, part.ndim) for p in places]
    rest = iter(range(part.ndim - len(places)))
    order = [
        part.ndim - len(places) + ends.index(axis) if axis in ends else next(rest)
        for axis in range(part.ndim)
    ]
    return view(part, transpose(part.shape, order))


def _kept(part: Expr, places: Sequence[int]) -> Expr:
    """Put axes of length one where the core axes were."""
    return view(part, expand_dims(part.shape, tuple(places)))
