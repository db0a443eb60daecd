"""Programs to try, both tiers side by side, and the canonical order spelled out slowly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.evaluate import map_into, reduce_region
from chunkarr.kernels.program import Op, Program

Array = np.ndarray[Any, Any]
F8 = np.dtype(np.float64)


@contextmanager
def kernels(mode: str) -> Iterator[None]:
    """Run one tier only."""
    former = tier.set_mode(mode)
    try:
        with np.errstate(all="ignore"):
            yield
    finally:
        tier.set_mode(former)


def plain(dtype: Any) -> Program:
    """A program that gives its input back."""
    return Program((np.dtype(dtype),), (), (0,))


def of_ufunc(name: str, dtype: Any, count: int) -> Program:
    """One ufunc in the loop that NumPy chooses; "modf:1" names its second result."""
    name, _, output = name.partition(":")
    dtype, ufunc, number = np.dtype(dtype), getattr(np, name), int(output or 0)
    with np.errstate(all="ignore"):
        loop = ufunc.resolve_dtypes((dtype,) * count + (None,) * ufunc.nout)
    op = Op(name, tuple(range(count)), tuple(loop[:count]), loop[count + number], number)
    return Program((dtype,) * count, (op,), (count,))


def squares(dtype: Any = F8) -> Program:
    """(a - b)**2 * c."""
    d = np.dtype(dtype)
    ops = (
        Op("subtract", (0, 1), (d, d), d),
        Op("square", (3,), (d,), d),
        Op("multiply", (4, 2), (d, d), d),
    )
    return Program((d, d, d), ops, (5,))


def evaluate(program: Program, arrays: Sequence[Array], shape: tuple[int, ...]) -> list[Array]:
    """Map into fresh outputs."""
    outs = [np.empty(shape, program.dtype_of(result)) for result in program.results]
    map_into(program, arrays, outs)
    return outs


def in_both(function: Callable[[], Any]) -> tuple[Any, Any]:
    """Give what a function returns in the NumPy tier and in the compiled one."""
    with kernels("numpy"):
        first = function()
    with kernels("compiled"):
        second = function()
    return first, second


def assert_same_bits(left: Array, right: Array) -> None:
    """Equal shapes, dtypes and bits, but any NaN equals any other."""
    assert left.dtype == right.dtype
    assert left.shape == right.shape
    np.testing.assert_array_equal(left, right)
    if left.dtype.kind == "f":
        numbers = ~np.isnan(left)
        np.testing.assert_array_equal(np.signbit(left) & numbers, np.signbit(right) & numbers)


def reduce_in_both(
    program: Program,
    reducer: str,
    arrays: Sequence[Array],
    shape: tuple[int, ...],
    axes: tuple[int, ...],
) -> tuple[Array, ...]:
    """Reduce in both tiers, compare the states' bits, and give them."""
    first, second = in_both(lambda: reduce_region(program, reducer, arrays, shape, axes))
    for left, right in zip(first, second, strict=True):
        assert_same_bits(left, right)
    states: tuple[Array, ...] = first
    return states


def tree(values: list[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """Combine adjacent pairs until one is left; an odd last one passes up."""
    while len(values) > 1:
        pairs = [combine(values[i], values[i + 1]) for i in range(0, len(values) - 1, 2)]
        values = pairs + values[2 * len(pairs) :]
    return values[0]


def slow_row(values: Sequence[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """The order of `chunkarr.kernels.reducers` for rows, one addition at a time."""
    panels = []
    for start in range(0, len(values), 1024):
        panel = values[start : start + 1024]
        lanes = list(panel[:64])
        for i in range(64, len(panel)):
            lanes[i % 64] = combine(lanes[i % 64], panel[i])
        half = 32
        while half:
            for i in range(half, min(2 * half, len(lanes))):
                lanes[i - half] = combine(lanes[i - half], lanes[i])
            lanes = lanes[:half]
            half //= 2
        panels.append(lanes[0])
    return tree(panels, combine)


def slow_column(values: Sequence[Any], combine: Callable[[Any, Any], Any]) -> Any:
    """The order for columns: panels of 32, one value after the other."""
    panels = []
    for start in range(0, len(values), 32):
        total = values[start]
        for value in values[start + 1 : start + 32]:
            total = combine(total, value)
        panels.append(total)
    return tree(panels, combine)


class Build:
    """Writes a program as calls of ufuncs on its values, with NumPy's loops."""

    def __init__(self, *inputs: Any) -> None:
        self.inputs = tuple(np.dtype(dtype) for dtype in inputs)
        self.ops: list[Op] = []

    def dtype_of(self, value: int) -> np.dtype[Any]:
        """Give the dtype of a value."""
        count = len(self.inputs)
        return self.inputs[value] if value < count else self.ops[value - count].dtype

    def __call__(self, name: str, *args: int, dtype: Any = None) -> int:
        """Append an operation; gives its value."""
        kinds = tuple(self.dtype_of(arg) for arg in args)
        if name == "cast":
            loop: tuple[Any, ...] = (*kinds, np.dtype(dtype))
        elif name == "where":
            wide = np.result_type(*kinds[1:])
            loop = (np.dtype(bool), wide, wide, wide)
        elif name in {"real", "imag"}:
            loop = (*kinds, np.dtype(kinds[0].char.lower()))
        else:
            ufunc = getattr(np, name)
            loop = ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout))
        self.ops.append(Op(name, args, tuple(loop[: len(args)]), loop[len(args)]))
        return len(self.inputs) + len(self.ops) - 1

    def program(self, *results: int) -> Program:
        """Give the program of the operations so far; by default its result is the last."""
        last = len(self.inputs) + len(self.ops) - 1
        return Program(self.inputs, tuple(self.ops), results or (last,))
