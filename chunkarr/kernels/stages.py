"""A program as a list of NumPy calls on one cache-sized piece, with buffers planned ahead.

Temporaries live in as few buffers as their lifetimes allow and are written in place where an
operand dies, so that a piece stays in the cache through the whole program. Values that depend on
zero-dimensional inputs only are computed once, not once per piece.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr.kernels.counting import locate, search
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.users import is_users
from chunkarr.kernels.vecmath import calls, is_ours
from chunkarr.records import dataclass

Array = np.ndarray[Any, Any]
Function = Callable[..., Any]


def _join(re: Array, im: Array) -> Array:
    """Join real and imaginary parts; `re + 1j * im` would turn infinities into NaN."""
    dtype = np.result_type(re.dtype, im.dtype, np.complex64)
    out: Array = np.empty(np.broadcast_shapes(re.shape, im.shape), dtype)
    out.real, out.imag = re, im
    return out


def _place(index: Array, count: Array) -> Array:
    """Count negative places from the end; IndexError for those that are out of bounds."""
    bad = (index < -count) | (index >= count)
    if bad.any():
        first = np.broadcast_to(index, bad.shape)[bad][0]
        message = f"index {first} is out of bounds for axis with size {int(count.flat[0])}"
        raise IndexError(message)
    placed: Array = np.where(index < 0, index + count, index)
    return placed


def _call_function(function: Array, *args: Array) -> Array:
    """Apply the elementwise function that the first operand, of Python objects, holds."""
    called: Array = function.item()(*args)
    return called


def _number(ufunc: np.ufunc, wins: np.ufunc, x: Array, y: Array) -> Array:
    """Choose between numbers and NaN; of equal operands the second, whatever the vectors are."""
    if x.dtype.kind != "f":
        chosen: Array = ufunc(x, y)
        return chosen
    return np.where(wins(x, y) | np.isnan(y), x, y)


EXTRA: dict[str, Function] = {
    "fmin": functools.partial(_number, np.fmin, np.less),
    "fmax": functools.partial(_number, np.fmax, np.greater),
    "real": np.real,
    "imag": np.imag,
    "complex": _join,
    "place": _place,
    "call": _call_function,
    "locate": locate,
    "search": search,
}
"""Elementwise functions that are not NumPy's ufuncs: by operation name, arrays in, an array out.

Which of two equal zeros NumPy's `fmin` and `fmax` take depends on where a vector register ends.
"""

PIECE_BYTES = 128 * 1024
"""The largest buffer of a piece: a few of them fit a core's second-level cache."""

EXACT = frozenset(
    [
        "add",
        "subtract",
        "multiply",
        "divide",
        "true_divide",
        "floor_divide",
        "remainder",
        "divmod",
        "negative",
        "positive",
        "absolute",
        "fabs",
        "square",
        "sqrt",
        "reciprocal",
        "sign",
        "copysign",
        "floor",
        "ceil",
        "trunc",
        "rint",
        "equal",
        "not_equal",
        "less",
        "less_equal",
        "greater",
        "greater_equal",
        "logical_and",
        "logical_or",
        "logical_xor",
        "logical_not",
        "bitwise_and",
        "bitwise_or",
        "bitwise_xor",
        "invert",
        "left_shift",
        "right_shift",
        "minimum",
        "maximum",
        "fmin",
        "fmax",
        "isnan",
        "isinf",
        "isfinite",
        "isnat",
        "signbit",
        "conjugate",
        "where",
        "cast",
        "clip",
        "nextafter",
        "spacing",
        "modf",
        "frexp",
        "ldexp",
    ]
)
"""Operations whose bits do not depend on the memory layout of their operands.

NumPy's vector loops for the others may serve contiguous operands alone and leave strided ones to
the C library, whose last bit differs. Those operands are made contiguous first.
"""


def is_exact(op: Op) -> bool:
    """Whether an operation's bits depend on its operands alone, not on how they lie in memory."""
    # NumPy fuses products of complex numbers in some of its loops and not in others.
    fuses = op.name in {"multiply", "square"} and op.types[0].kind == "c"
    return op.name in EXACT and not fuses


@dataclass(frozen=True, slots=True)
class Stage:
    """One call: which values go in, and where the result lives."""

    op: Op
    function: Function | None
    args: tuple[int, ...]
    value: int
    scalar: bool
    """Whether all operands are zero-dimensional, so that one call serves all pieces."""
    slot: int
    """The buffer of the result: >= 0 a temporary, < 0 the output -1 - slot, if it is `direct`."""


@dataclass(frozen=True, slots=True)
class Stages:
    """A program's calls in order, and the dtypes of its buffers."""

    stages: tuple[Stage, ...]
    slot_bytes: tuple[int, ...]
    copies: tuple[tuple[int, int], ...]
    """(value, output) pairs that are copied at the end because no call writes them directly."""
    values: int
    width: int
    """Bytes of the widest dtype in the program."""


def function_of(name: str) -> Function | None:
    """Find the ufunc or extra function that runs an operation."""
    if name in {"where", "cast"}:
        return None
    if is_ours(name):
        return functools.partial(calls.call, name)
    if is_users(name):
        return _call_function
    if name in EXTRA:
        return EXTRA[name]
    found = getattr(np, name, None)
    if not isinstance(found, np.ufunc):
        found = getattr(np._core.umath, name, None)  # type: ignore[attr-defined]  # noqa: SLF001
    if isinstance(found, np.ufunc):
        return found
    message = f"no elementwise operation is called {name!r}"
    raise LookupError(message)


def plan_stages(program: Program, scalars: tuple[bool, ...], *, direct: bool) -> Stages:
    """Order the calls of a program.

    `scalars` says which inputs are zero-dimensional; `direct` whether results are computed in the
    outputs themselves.
    """
    return _Planner(program, scalars, direct=direct).plan()


class _Planner:
    def __init__(self, program: Program, scalars: tuple[bool, ...], *, direct: bool) -> None:
        self.program = program
        self.direct = direct
        self.calls: list[tuple[Op, Function | None, tuple[int, ...], int]] = []
        self.dtypes = list(program.inputs)
        self.scalar = list(scalars)
        self.casts: dict[tuple[int, np.dtype[Any]], int] = {}

    def plan(self) -> Stages:
        names = list(range(len(self.program.inputs)))
        for op in self.program.ops:
            args = tuple(names[arg] for arg in op.args)
            if op.name != "cast":
                pairs = zip(args, op.types, strict=True)
                args = tuple(self._converted(arg, dtype) for arg, dtype in pairs)
            names.append(self._call(op, args))
        return self._assign([names[result] for result in self.program.results])

    def _converted(self, value: int, dtype: np.dtype[Any]) -> int:
        if self.dtypes[value] == dtype:
            return value
        if (value, dtype) not in self.casts:
            op = Op("cast", (value,), (self.dtypes[value],), dtype)
            self.casts[value, dtype] = self._call(op, (value,))
        return self.casts[value, dtype]

    def _call(self, op: Op, args: tuple[int, ...]) -> int:
        value = len(self.dtypes)
        self.calls.append((op, function_of(op.name), args, value))
        self.dtypes.append(op.dtype)
        self.scalar.append(all(self.scalar[arg] for arg in args))
        return value

    def _assign(self, results: list[int]) -> Stages:
        last = {arg: i for i, (_, _, args, _) in enumerate(self.calls) for arg in args}
        outputs: dict[int, int] = {}
        copies = []
        for output, value in enumerate(results):
            last[value] = len(self.calls)
            first = value >= len(self.program.inputs) and value not in outputs
            if first and self.direct and not self.scalar[value]:
                outputs[value] = output
            else:
                copies.append((value, output))
        held: dict[int, int] = {}
        free: list[int] = []
        slots: list[int] = []
        stages = []
        for i, (op, function, args, value) in enumerate(self.calls):
            dying = {arg for arg in args if last[arg] == i and arg in held}
            slot = -1 - outputs[value] if value in outputs else 0
            if slot == 0 and not self.scalar[value]:
                slot = self._slot(op, args, dying, held, free, slots)
                held[value] = slot
            free.extend(held[arg] for arg in dying if held[arg] != slot)
            stages.append(Stage(op, function, args, value, self.scalar[value], slot))
        width = max((dtype.itemsize for dtype in self.dtypes), default=1)
        return Stages(tuple(stages), tuple(slots), tuple(copies), len(self.dtypes), width)

    def _slot(
        self,
        op: Op,
        args: tuple[int, ...],
        dying: set[int],
        held: dict[int, int],
        free: list[int],
        slots: list[int],
    ) -> int:
        # A ufunc may overwrite an operand of its own dtype; a copy under a mask only its last one.
        overwritable = args[2:] if op.name == "where" else args
        for arg in overwritable:
            clean = op.name != "where" or arg not in args[:2]
            if arg in dying and self.dtypes[arg] == op.dtype and clean and op.name != "cast":
                return held[arg]
        size = op.dtype.itemsize
        if free:
            slot = free.pop()
            slots[slot] = max(slots[slot], size)
            return slot
        slots.append(size)
        return len(slots) - 1


class Pieces:
    """Runs a program's stages on piece after piece, reusing the buffers."""

    def __init__(self, program: Program, arrays: list[Array], size: int, *, direct: bool) -> None:
        """Prepare for pieces of at most `size` elements; zero-dimensional `arrays` are read now."""
        scalars = tuple(array.ndim == 0 for array in arrays)
        self.plan = plan_stages(program, scalars, direct=direct)
        self._raw = [np.empty(size * width, np.uint8) for width in self.plan.slot_bytes]
        self._bound: dict[tuple[int, ...], list[Array | None]] = {}
        self._values: list[Any] = [None] * self.plan.values
        for i, array in enumerate(arrays):
            if array.ndim == 0:
                self._values[i] = array
        for stage in self.plan.stages:
            if stage.scalar:
                self._values[stage.value] = _call_scalar(stage, self._values)

    def run(self, inputs: list[Array], outs: list[Array]) -> None:
        """Evaluate the program on one piece; entries of `inputs` for scalars are ignored."""
        shape = outs[0].shape
        bound = self._bound.get(shape)
        if bound is None:
            bound = self._bound[shape] = self._bind(shape)
        values = self._values
        for i, piece in enumerate(inputs):
            if piece.ndim:
                values[i] = piece
        for stage, buffer in zip(self.plan.stages, bound, strict=True):
            if stage.scalar:
                continue
            out = outs[-1 - stage.slot] if buffer is None else buffer
            _call(stage, values, out)
            values[stage.value] = out
        for value, output in self.plan.copies:
            np.copyto(outs[output], values[value], casting="unsafe")

    def _bind(self, shape: tuple[int, ...]) -> list[Array | None]:
        bound: list[Array | None] = []
        count = math.prod(shape)
        for stage in self.plan.stages:
            if stage.scalar or stage.slot < 0:
                bound.append(None)
                continue
            dtype = stage.op.dtype
            if dtype.hasobject:
                bound.append(np.empty(shape, dtype))
                continue
            raw = self._raw[stage.slot][: count * dtype.itemsize]
            bound.append(raw.view(dtype).reshape(shape))
        return bound


def _call_scalar(stage: Stage, values: list[Any]) -> Array:
    out = np.empty((), stage.op.dtype)
    _call(stage, values, out)
    return out


def _call(stage: Stage, values: list[Any], out: Array) -> None:
    op = stage.op
    args = [values[arg] for arg in stage.args]
    if op.name == "where":
        np.copyto(out, args[2], casting="unsafe")
        np.copyto(out, args[1], casting="unsafe", where=args[0])
        return
    if op.name == "cast":
        np.copyto(out, args[0], casting="unsafe")
        return
    function = stage.function
    assert function is not None
    if not is_exact(op):
        args = [arg if arg.flags.c_contiguous else np.ascontiguousarray(arg) for arg in args]
    if not isinstance(function, np.ufunc):
        np.copyto(out, function(*args), casting="unsafe")
    elif function.nout == 1:
        function(*args, out=out)
    else:
        outs: list[Array | None] = [None] * function.nout
        outs[op.output] = out
        function(*args, out=tuple(outs))
