"""Sums of products: tensordot, einsum, outer, inner, kron, cross, convolve and correlate.

A product of two arrays with named axes becomes one stack of matrix products: axes are brought into
the order (shared, first's own, summed) and (shared, summed, second's own), and each group but the
shared one is folded to a single axis. Without summed axes it is an elementwise product.
"""

from __future__ import annotations

import functools
import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.build import (
    apply,
    cast_lazily,
    flatten,
    insert_axes,
    normalize_axis,
    reshape,
    view,
)
from chunkarr.expr.node import Expr
from chunkarr.functions import views
from chunkarr.functions.blocks import Operand, Slot, block_calls, lay_out
from chunkarr.functions.manipulation import stack
from chunkarr.functions.overlap import widened
from chunkarr.functions.pieces import component, known, multiply, operand, span, subtract
from chunkarr.functions.products import matmul
from chunkarr.functions.reductions import any as any_
from chunkarr.functions.reductions import sum as sum_
from chunkarr.grid import Grid
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The labels that axes may have."""


def _ordered(a: Expr, labels: str, wanted: str) -> Expr:
    order = [labels.index(label) for label in wanted]
    return view(a, views.transpose(a.shape, order)) if a.ndim else a


def _summed(a: Expr, labels: str, kept: str) -> tuple[Expr, str]:
    """Add up over the axes whose label is not kept."""
    axes = tuple(i for i, label in enumerate(labels) if label not in kept)
    if axes:
        a = any_(a, axes) if a.dtype == bool else sum_(a, axes, a.dtype)
    return a, "".join(label for label in labels if label in kept)


def product(a: Expr, first: str, b: Expr, second: str, out: str) -> tuple[Expr, str]:
    """Multiply arrays with labelled axes and add up over the labels that are not in `out`."""
    a, first = _summed(a, first, second + out)
    b, second = _summed(b, second, first + out)
    shared = "".join(label for label in first if label in second and label in out)
    inner_labels = "".join(label for label in first if label in second and label not in out)
    left = "".join(label for label in first if label not in second)
    right = "".join(label for label in second if label not in first)
    labels = shared + left + right
    if not inner_labels:
        one = _ordered(a, first, shared + left)
        other = _ordered(b, second, shared + right)
        one = insert_axes(one, range(one.ndim, one.ndim + len(right)))
        start = len(shared)
        return multiply(one, insert_axes(other, range(start, start + len(left)))), labels
    sizes = dict(zip(first + second, a.shape + b.shape, strict=True))
    batch = tuple(sizes[label] for label in shared)
    m, k, n = (math.prod(sizes[label] for label in part) for part in (left, inner_labels, right))
    one = reshape(_ordered(a, first, shared + left + inner_labels), (*batch, m, k))
    other = reshape(_ordered(b, second, shared + inner_labels + right), (*batch, k, n))
    made = matmul(one, other)
    return reshape(made, tuple(sizes[label] for label in labels)), labels


def tensordot(a: Expr, b: Any, axes: Any = 2) -> Expr:
    """Multiply and add up over pairs of axes."""
    b = operand(b)
    try:
        pairs = [[p] if np.ndim(p) == 0 else list(p) for p in axes]
        left, right = pairs
    except TypeError:
        left = list(range(-int(axes), 0))
        right = list(range(int(axes)))
    shapes_differ = len(left) != len(right) or any(
        not (-a.ndim <= i < a.ndim and -b.ndim <= j < b.ndim) or a.shape[i] != b.shape[j]
        for i, j in zip(left, right, strict=False)
    )
    if shapes_differ:
        if len(left) == len(right) and (
            any(not -a.ndim <= i < a.ndim for i in left)
            or any(not -b.ndim <= j < b.ndim for j in right)
        ):
            message = "tuple index out of range"
            raise IndexError(message)
        message = "shape-mismatch for sum"
        raise ValueError(message)
    if len({i % a.ndim for i in left}) < len(left) or len({j % b.ndim for j in right}) < len(right):
        message = "duplicate axes are not allowed in tensordot"
        raise ValueError(message)
    names = LETTERS
    first = list(names[: a.ndim])
    second = list(names[a.ndim : a.ndim + b.ndim])
    for i, j in zip(left, right, strict=True):
        second[j] = first[i]
    out = [x for x in first if x not in second] + [x for x in second if x not in first]
    kind = np.result_type(a.dtype, b.dtype)
    pair = cast_lazily(a, kind), cast_lazily(b, kind)
    made, labels = product(pair[0], "".join(first), pair[1], "".join(second), "".join(out))
    return _ordered(made, labels, "".join(out))


def inner(a: Expr, b: Any) -> Expr:
    """Multiply and add up over the last axes."""
    b = operand(b)
    if not a.ndim or not b.ndim:
        return multiply(a, b)
    if a.shape[-1] != b.shape[-1]:
        message = (
            f"shapes {a.shape} and {b.shape} not aligned: {a.shape[-1]} (dim {a.ndim - 1}) != "
            f"{b.shape[-1]} (dim {b.ndim - 1})"
        )
        raise ValueError(message)
    return tensordot(a, b, (-1, -1))


def outer(a: Expr, b: Any) -> Expr:
    """Multiply all elements of one array with all of another."""
    b = operand(b)
    left, right = flatten(a), flatten(b)
    return multiply(insert_axes(left, (1,)), insert_axes(right, (0,)))


def kron(a: Expr, b: Any) -> Expr:
    """Lay a copy of the second array, scaled, in place of each element of the first."""
    b = operand(b)
    ndim = max(a.ndim, b.ndim)
    left = insert_axes(a, range(ndim - a.ndim))
    right = insert_axes(b, range(ndim - b.ndim))
    shape = tuple(n * m for n, m in zip(left.shape, right.shape, strict=True))
    wide = insert_axes(left, range(1, 2 * ndim, 2)) if ndim else left
    tall = insert_axes(right, range(0, 2 * ndim, 2)) if ndim else right
    return reshape(multiply(wide, tall), shape)


def cross(
    a: Expr, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: int | None = None
) -> Expr:
    """Give the vector product of vectors of three components, or two."""
    if axis is not None:
        axisa = axisb = axisc = axis
    b = operand(b)
    if not a.ndim or not b.ndim:
        message = "At least one array has zero dimension"
        raise ValueError(message)
    at, place = normalize_axis(axisa, a.ndim, "axisa"), normalize_axis(axisb, b.ndim, "axisb")
    lengths = {a.shape[at], b.shape[place]}
    if not lengths <= {2, 3}:
        message = "incompatible dimensions for cross product\n(dimension must be 2 or 3)"
        raise ValueError(message)
    kind = np.promote_types(a.dtype, b.dtype)
    if 2 in lengths:
        np.cross(np.zeros(2), np.zeros(2))  # NumPy's own warning
    u = [component(cast_lazily(a, kind), at, i) for i in range(a.shape[at])]
    v = [component(cast_lazily(b, kind), place, i) for i in range(b.shape[place])]
    last = subtract(multiply(u[0], v[1]), multiply(u[1], v[0]))
    if lengths == {2}:
        return last
    if len(u) == 2:
        parts = [multiply(u[1], v[2]), apply("negative", multiply(u[0], v[2]))]
    elif len(v) == 2:
        parts = [apply("negative", multiply(u[2], v[1])), multiply(u[2], v[0])]
    else:
        parts = [subtract(multiply(u[i], v[j]), multiply(u[j], v[i])) for i, j in ((1, 2), (2, 0))]
    parts.append(last)
    return stack(parts, normalize_axis(axisc, last.ndim + 1, "axisc"))


# -- convolution -----------------------------------------------------------------------------------


def convolve(a: Expr, v: Any, mode: str = "full") -> Expr:
    """Slide a short, reversed kernel along a vector."""
    first, second = _vectors(a, operand(v), ("a", "v"))
    if second.size > first.size:
        first, second = second, first
    return _slide(first, second, mode)


def correlate(a: Expr, v: Any, mode: str = "valid") -> Expr:
    """Slide a short kernel along a vector."""
    first, second = _vectors(a, operand(v), ("first array argument", "second array argument"))
    conjugate = apply("conjugate", second) if second.dtype.kind == "c" else second
    if second.size <= first.size:
        return _slide(first, _turned(conjugate), mode)
    # NumPy slides the shorter along the longer and turns the result around.
    return _turned(_slide(conjugate, _turned(first), mode))


def _turned(a: Expr) -> Expr:
    return view(a, views.flip(a.shape, 0))


def _vectors(a: Expr, v: Expr, names: tuple[str, str]) -> tuple[Expr, Expr]:
    out = []
    for part, name in zip((a, v), names, strict=True):
        vector = insert_axes(part, (0,)) if not part.ndim else part
        if vector.ndim > 1:
            message = "object too deep for desired array"
            raise ValueError(message)
        if not vector.size:
            message = f"{name} cannot be empty"
            raise ValueError(message)
        out.append(vector)
    kind = np.result_type(a.dtype, v.dtype)
    return cast_lazily(out[0], kind), cast_lazily(out[1], kind)


def _slide(a: Expr, v: Expr, mode: str) -> Expr:
    """Convolve with a kernel that is not longer: NumPy's own, on chunks with what is before them.

    A value depends on the kernel's length before it only, so its bits are NumPy's for any cut.
    """
    if mode not in ("full", "same", "valid"):
        message = f"mode must be one of 'valid', 'same', or 'full' (got {mode!r})"
        raise ValueError(message)
    n, m = a.size, v.size
    chunk = min(n, max(m, settings().chunk_bytes // a.dtype.itemsize))
    grid, whole = Grid((n,), (chunk,)), Grid.single((m,))
    chunks = widened(a, grid, [(m - 1, 0)], ["none"])
    *sizes, last = grid.sizes[0]
    layout = lay_out([chunks.seen], [(*sizes, last + m - 1)])
    made, _ = block_calls(
        functools.partial(_convolved, last=len(sizes)),
        [chunks, Operand(v, whole, whole)],
        layout,
        a.dtype,
        name="convolve",
        args=(Slot(0), Slot(1)),
        kwargs={},
        wants=("block_id",),
    )
    if mode == "full":
        return made
    if mode == "valid":
        return span(made, 0, m - 1, n - m + 1)
    return span(made, 0, (m - 1) // 2, n)


def _convolved(part: NDArray, v: NDArray, *, last: int, block_id: tuple[int, ...]) -> NDArray:
    (number,) = block_id
    made = np.convolve(part, v)
    return made[len(v) - 1 if number else 0 : None if number == last else len(part)]


# -- einsum ----------------------------------------------------------------------------------------


OPTIMAL_MAX = 5
"""Up to so many arrays the order of products is the best there is; above, each step's cheapest."""


def einsum(
    *operands: Any,
    dtype: object = None,
    order: str = "K",  # noqa: ARG001 - chunks have no order
    casting: Any = "safe",
    optimize: Any = False,
    into: np.dtype[Any] | None = None,
) -> Expr:
    """Add up products of arrays whose axes are named by letters, two at a time, by cost."""
    terms, out, arrays = _read(operands)
    kind = np.result_type(*(a.dtype for a in arrays))
    if dtype is not None and (len(arrays) > 1 or len(set(terms[0])) > len(out)):
        # What is only looked at keeps its dtype.
        kind = np.dtype(dtype)  # type: ignore[call-overload]
    if into is not None and not np.can_cast(kind, into, casting):
        message = f"Iterator requested dtype could not be cast from {kind!r} to {into!r}"
        raise TypeError(message)
    if dtype is None and into is not None:
        kind = np.result_type(kind, into)
    for array in arrays:
        if not np.can_cast(array.dtype, kind, casting):
            message = (
                f"Iterator operand could not be cast from {array.dtype!r} to {kind!r} according to "
                f"the rule '{casting}'"
            )
            raise TypeError(message)
    sizes: dict[str, int] = {}
    for term, array in zip(terms, arrays, strict=True):
        for label, n in zip(term, array.shape, strict=True):
            if n != 1 and sizes.setdefault(label, n) not in (1, n):
                message = f"operand has a mismatch in its dimension for label {label!r}"
                raise ValueError(message)
            if sizes.get(label, 1) == 1:
                sizes[label] = n
    parts = [
        _diagonal(cast_lazily(array, kind), term, sizes)
        for term, array in zip(terms, arrays, strict=True)
    ]
    for chosen in _path(terms, out, arrays, optimize):
        group = [parts.pop(i) for i in sorted(chosen, reverse=True)][::-1]
        kept = out + "".join(labels for _, labels in parts)
        while len(group) > 1:
            (a, first), (b, second), *group = group
            needed = kept + "".join(labels for _, labels in group)
            group.insert(0, product(a, first, b, second, needed))
        parts.append(group[0])
    made = _ordered(*_summed(*parts[0], out), out)
    return made if into is None else cast_lazily(made, into)


def looking(operands: tuple[Any, ...]) -> Affine | None:
    """Give the view that `einsum` of one array is; None where it adds or multiplies."""
    try:
        (term,), out, (array,) = _read(operands)
    except ValueError:
        return None
    if set(term) != set(out):
        return None
    sizes = dict(zip(term, array.shape, strict=True))
    if any(n != sizes[label] for label, n in zip(term, array.shape, strict=True)):
        return None
    places = tuple(Term(out.index(label), 0, 1) for label in term)
    return Affine(tuple(sizes[label] for label in out), places)


def _read(operands: tuple[Any, ...]) -> tuple[list[str], str, list[Expr]]:
    """Give the labels of the operands' axes, those of the result, and the operands."""
    if not operands:
        message = "No input operands"
        raise ValueError(message)
    if isinstance(operands[0], str):
        text, given = operands[0].replace(" ", ""), list(operands[1:])
    else:
        text, given = _from_lists(operands)
    arrays = [operand(a) for a in given]
    inputs, arrow, out = text.partition("->")
    terms = inputs.split(",")
    if len(terms) != len(arrays):
        word = "more" if len(terms) < len(arrays) else "fewer"
        message = (
            f"{word} operands provided to einstein sum function than specified in the subscripts "
            "string"
        )
        raise ValueError(message)
    free = [c for c in LETTERS if c not in text]
    widest = 0
    for i, (term, array) in enumerate(zip(terms, arrays, strict=True)):
        if "..." in term:
            count = array.ndim - len(term) + 3
            widest = max(widest, count)
            terms[i] = term.replace("...", "".join(free[len(free) - count :]) if count > 0 else "")
        if len(terms[i]) != array.ndim or (terms[i] and not terms[i].isalpha()):
            message = f"einstein sum subscripts {term!r} do not fit an operand of {array.ndim} axes"
            raise ValueError(message)
    spread = "".join(free[len(free) - widest :])
    if arrow:
        out = out.replace("...", spread)
    else:
        every = "".join(terms)
        out = spread + "".join(sorted(c for c in set(every) - set(spread) if every.count(c) == 1))
    if len(set(out)) != len(out) or not set(out) <= set("".join(terms)):
        message = f"einstein sum subscripts string has a wrong output {out!r}"
        raise ValueError(message)
    return terms, out, arrays


def _from_lists(operands: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Write einsum(a, [0, 1], b, [1, 2], [0, 2]) as subscripts."""

    def letters(labels: Any) -> str:
        if isinstance(labels, Expr):
            labels = known(labels, "einsum", "a list of labels").tolist()
        if any(x is not Ellipsis and not 0 <= operator.index(x) < 52 for x in labels):
            message = "subscript is not within the valid range [0, 52)"
            raise ValueError(message)
        return "".join("..." if x is Ellipsis else LETTERS[x] for x in labels)

    count = len(operands) // 2
    text = ",".join(letters(operands[2 * i + 1]) for i in range(count))
    if len(operands) % 2:
        text += "->" + letters(operands[-1])
    return text, [operands[2 * i] for i in range(count)]


def _diagonal(a: Expr, term: str, sizes: dict[str, int]) -> tuple[Expr, str]:
    """Look along the diagonal of axes with one label; axes of length one stretch."""
    labels = "".join(dict.fromkeys(term))
    shape = tuple(sizes[label] for label in labels)
    terms = tuple(
        Term(labels.index(label), 0, 1) if n == sizes[label] else Term(-1, 0, 0)
        for label, n in zip(term, a.shape, strict=True)
    )
    return view(a, Affine(shape, terms)), labels


def _path(terms: list[str], out: str, arrays: list[Expr], optimize: Any) -> list[tuple[int, ...]]:
    """Give which arrays are multiplied in each step, chosen by NumPy from the shapes."""
    if len(arrays) == 1:
        return []
    text = ",".join(terms) + "->" + out
    shown = [np.broadcast_to(np.zeros(()), a.shape) for a in arrays]
    if optimize is False:
        optimize = "optimal" if len(arrays) <= OPTIMAL_MAX else "greedy"
    if isinstance(optimize, str):
        # No limit on what stands between: NumPy would multiply several arrays at once instead.
        optimize = (optimize, 2**62)
    steps, _ = np.einsum_path(text, *shown, optimize=optimize)
    return steps[1:]
