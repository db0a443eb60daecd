"""Element by element: `nditer`, which needs arrays in memory, and `broadcast`, which does not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.dispatch import refuse
from chunkarr.streaming import block_bytes, in_order
from chunkarr.whole import check_fit

NDArray = npt.NDArray[Any]

WRITES = frozenset(("readwrite", "writeonly"))
"""Flags of an operand that is written to."""


def _buffer(name: str, operand: Any, flags: Sequence[str]) -> Any:
    """Give what NumPy iterates over: values to look at, or the memory of an array to write."""
    if not isinstance(operand, Array):
        return operand
    check_fit(name, [operand], 1.0)
    if not WRITES & set(flags):
        return np.asarray(operand) if operand.in_memory is not None else _as_it_lies(operand)
    operand.check_writable()
    root = operand if operand.base is None else operand.base
    check_fit(name, [root], 1.0)
    root.persist()
    held = operand.writable_ndarray()
    if held is None:
        raise refuse(f"{name} with {'/'.join(flags)}", "x[...] = values writes on any size")
    return held


def _as_it_lies(operand: Array) -> NDArray:
    """Compute an array into the layout that it tells, in whose order NumPy iterates."""
    whole, steps = operand.compute(), operand.strides
    if 0 in steps or whole.strides == steps:
        return whole
    order = sorted(range(whole.ndim), key=lambda axis: -abs(steps[axis]))
    turns = tuple([slice(None, None, -1 if steps[axis] < 0 else 1) for axis in order])
    laid = np.ascontiguousarray(whole.transpose(order)[turns])
    turned: NDArray = laid[turns].transpose(np.argsort(order))
    return turned


def _buffers(name: str, op: Any, op_flags: Any) -> Any:
    """Replace the arrays among operands, of which there may be one or several."""
    if not isinstance(op, list | tuple):
        flags = op_flags if op_flags is not None else ()
        single = flags[0] if flags and not isinstance(flags[0], str) else flags
        return _buffer(name, op, single)
    given = list(op_flags) if op_flags is not None else []
    each = itertools.repeat(given) if given and isinstance(given[0], str) else iter(given)
    return [_buffer(name, operand, next(each, ())) for operand in op]


class nditer:  # noqa: N801 - NumPy's name
    """`numpy.nditer` over arrays that fit the memory limit; writes go to the arrays.

    Raises MemoryBudgetError for larger ones.
    """

    def __init__(
        self, op: Any, flags: Any = None, op_flags: Any = None, *args: Any, **kw: Any
    ) -> None:
        self._given = list(op) if isinstance(op, list | tuple) else [op]
        held = _buffers("nditer", op, op_flags)
        self._held = held if isinstance(held, list) else [held]
        self._inner = np.nditer(held, flags, op_flags, *args, **kw)

    @property
    def operands(self) -> tuple[Any, ...]:
        """The arrays that are iterated over; those that were made on the way are new ones."""
        found = zip(self._inner.operands, self._given, self._held, strict=True)
        return tuple(
            given
            if isinstance(given, Array) and np.may_share_memory(seen, held)
            else Array.of(seen)
            for seen, given, held in found
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_given", "_held", "_inner"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._inner, name, value)

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._inner.__exit__(*error)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._inner)

    def __next__(self) -> Any:
        return next(self._inner)

    def __len__(self) -> int:
        return len(self._inner)

    def __getitem__(self, key: Any) -> Any:
        return self._inner[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._inner[key] = value


def nested_iters(op: Any, axes: Any, flags: Any = None, op_flags: Any = None, **kw: Any) -> Any:
    """Make `numpy.nested_iters` over arrays that fit the memory limit."""
    return np.nested_iters(_buffers("nested_iters", op, op_flags), axes, flags, op_flags, **kw)


class broadcast:  # noqa: N801 - NumPy's name
    """Arrays that are stretched to one shape, which tells it and gives tuples of elements."""

    def __init__(self, *arrays: Any) -> None:
        self._parts = [namespace.asarray(a) for a in arrays]
        # NumPy's own, of arrays without memory, checks the shapes and words the refusals.
        shown = [np.broadcast_to(np.zeros(()), part.shape) for part in self._parts]
        self.shape: tuple[int, ...] = np.broadcast(*shown).shape
        self.reset()

    def reset(self) -> None:
        """Begin again."""
        self.index = 0
        self._elements: Iterator[tuple[Any, ...]] | None = None

    @property
    def nd(self) -> int:
        """The number of axes."""
        return len(self.shape)

    ndim = nd

    @property
    def size(self) -> int:
        """The number of tuples."""
        return math.prod(self.shape)

    @property
    def numiter(self) -> int:
        """The number of arrays."""
        return len(self._parts)

    @property
    def iters(self) -> tuple[Any, ...]:
        """An iterator over the elements of each array, stretched."""
        return tuple(self._stretched(part) for part in self._parts)

    def _stretched(self, part: Array) -> Iterator[Any]:
        whole = namespace.broadcast_to(part, self.shape)
        pieces = in_order(whole, block_bytes())
        return itertools.chain.from_iterable(piece.reshape(-1) for piece in pieces)

    def __iter__(self) -> broadcast:
        return self

    def __next__(self) -> tuple[Any, ...]:
        if self._elements is None:
            self._elements = zip(*self.iters, strict=True)
        found = next(self._elements)
        self.index += 1
        return found
