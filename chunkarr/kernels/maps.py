"""Elementwise evaluation of a program over arrays, compiled, with NumPy, or with both.

A program that compiles runs in one kernel over all of a box. Any other, or one whose kernel is not
ready, runs in pieces that stay in the cache: with NumPy's calls, or, where only some operations do
not compile, with kernels and calls by turns.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.axes import ALL, Array, collapse_map, fast_axes
from chunkarr.kernels.flags import settle
from chunkarr.kernels.layouts import map_recipe
from chunkarr.kernels.program import Program
from chunkarr.kernels.reducers import PANEL
from chunkarr.kernels.segments import Segment, segments_of
from chunkarr.kernels.stages import PIECE_BYTES, Pieces, is_exact
from chunkarr.kernels.users import RAISED

Box = tuple[slice, ...]


def map_into(program: Program, arrays: Sequence[Array], outs: Sequence[Array]) -> None:
    """Evaluate a program elementwise: `outs[i][...] = results[i]`.

    Each of `arrays` is zero-dimensional or has the axes of `outs`, with length 1 (or stride 0)
    where it is broadcast. The outputs may not overlap the inputs or each other.
    """
    if not outs[0].size:
        return
    again = functools.partial(map_numpy, program, arrays, outs, mixed=False)
    if tier.mode() == "numpy" or not _run_kernel(program, arrays, outs, again):
        map_numpy(program, arrays, outs, mixed=tier.mode() != "numpy")


def _run_kernel(
    program: Program,
    arrays: Sequence[Array],
    outs: Sequence[Array],
    again: Callable[[], None],
) -> bool:
    """Run a program's kernel if there is one; `again` does the same with NumPy."""
    recipe = map_recipe(program, arrays, outs)
    operands = (*arrays, *outs)
    if recipe is None or not recipe.fits(operands):
        return False
    kernel = recipe.kernel()
    if kernel is None:
        return False
    flags = recipe.run_map(kernel, operands)
    if flags & RAISED:
        again()
    elif flags:
        is_true = functools.partial(is_true_anywhere, arrays=arrays, shape=outs[0].shape)
        settle(program, None, flags, is_true, again)
    return True


def is_true_anywhere(program: Program, arrays: Sequence[Array], shape: tuple[int, ...]) -> bool:
    """Evaluate a program of truth values and tell whether any is true."""
    out = np.empty(shape, bool)
    map_into(program, arrays, [out])
    return bool(out.any())


def map_numpy(
    program: Program, arrays: Sequence[Array], outs: Sequence[Array], *, mixed: bool
) -> None:
    """Do `map_into` in pieces; `mixed` says whether compiled segments may take part."""
    operands, shape = collapse_map(arrays, outs)
    arrays, outs = operands[: len(arrays)], operands[len(arrays) :]
    lengths = _piece_lengths(operands, shape, piece_size(program))
    direct = all(map(is_exact, program.ops)) or all(o.flags.c_contiguous for o in outs)
    if len(lengths) > 1 and lengths[1:] != outs[0].shape[1:]:
        direct = all(map(is_exact, program.ops))
    pieces = pieces_of(program, arrays, math.prod(lengths), direct=direct, mixed=mixed)
    if lengths == outs[0].shape:
        pieces.run(list(arrays), list(outs))
        return
    for box in grid_boxes(outs[0].shape, lengths):
        pieces.run([cut(a, box) for a in arrays], [o[box] for o in outs])


def piece_size(program: Program) -> int:
    """Give the number of elements of a piece: the widest value fills one piece buffer."""
    width = max(d.itemsize for d in (*program.inputs, *(op.dtype for op in program.ops)))
    return max(PANEL, PIECE_BYTES // max(1, width) // PANEL * PANEL)


def cut(array: Array, box: Box) -> Array:
    """Take a box of an operand, leaving its broadcast axes alone."""
    if array.ndim == 0:
        return array
    return array[tuple(ALL if n == 1 else s for n, s in zip(array.shape, box, strict=True))]


def _piece_lengths(operands: list[Array], shape: tuple[int, ...], limit: int) -> tuple[int, ...]:
    """Choose the lengths of a piece: long where operands are contiguous, square where they differ.

    Each operand that is not broadcast over most axes votes for the axis it has the smallest stride
    along. One winner gets the whole length; several (`x + x.T`) share it.
    """
    if math.prod(shape) <= limit:
        return shape
    votes = fast_axes(operands)
    lengths = [1] * len(shape)
    if len(votes) > 1:
        side = 1 << int(math.log2(limit) / len(votes))
        for axis in votes:
            lengths[axis] = min(shape[axis], side)
    for axis in [*votes, *reversed(range(len(shape)))]:
        room = limit // (math.prod(lengths) // lengths[axis])
        lengths[axis] = min(shape[axis], max(lengths[axis], room))
    return tuple(lengths)


def grid_boxes(shape: tuple[int, ...], lengths: tuple[int, ...]) -> Iterator[Box]:
    """Cut index space into boxes of these lengths, in C order."""
    axes = [
        [slice(i, min(i + step, n)) for i in range(0, n, step)]
        for n, step in zip(shape, lengths, strict=True)
    ]
    yield from itertools.product(*axes)


class Mixed:
    """Runs a program's segments on piece after piece, reusing the buffers; see `Pieces`."""

    def __init__(
        self,
        program: Program,
        segments: Sequence[Segment],
        arrays: Sequence[Array],
        size: int,
        *,
        direct: bool,
    ) -> None:
        """Prepare for pieces of at most `size` elements; zero-dimensional `arrays` are read now."""
        self._program, self._direct, self._size = program, direct, size
        self._segments = [segment for segment in segments if not segment.once]
        self._values: list[Any] = [None] * (len(program.inputs) + len(program.ops))
        self._values[: len(arrays)] = arrays
        self._pieces: dict[int, Pieces] = {}
        for segment in segments:
            if segment.once:
                self._run_once(segment)
        self._plan()
        self._raw = [np.empty(size * width, np.uint8) for width in self._widths]

    def _run_once(self, segment: Segment) -> None:
        inputs = [self._values[arg] for arg in segment.args]
        outs = [np.empty((), segment.program.dtype_of(v)) for v in segment.program.results]
        Pieces(segment.program, inputs, 1, direct=True).run(inputs, outs)
        for value, out in zip(segment.values, outs, strict=True):
            self._values[value] = out

    def _plan(self) -> None:
        """Choose where each value that is handed over lives: in an output or in a buffer."""
        program = self._program
        last = {arg: place for place, segment in enumerate(self._segments) for arg in segment.args}
        self._outputs: dict[int, int] = {}
        self._copies: list[tuple[int, int]] = []
        made = {value for segment in self._segments for value in segment.values}
        for output, value in enumerate(program.results):
            if value in made and value not in self._outputs:
                self._outputs[value] = output
            else:
                self._copies.append((value, output))
        self._slots: dict[int, int] = {}
        self._widths: list[int] = []
        free: list[int] = []
        for place, segment in enumerate(self._segments):
            for value in segment.values:
                if value in self._outputs:
                    continue
                if not free:
                    free.append(len(self._widths))
                    self._widths.append(0)
                slot = self._slots[value] = free.pop()
                width = program.dtype_of(value).itemsize
                self._widths[slot] = max(self._widths[slot], width)
            free += [s for value, s in self._slots.items() if last.get(value, -1) == place]

    def run(self, inputs: Sequence[Array], outs: Sequence[Array]) -> None:
        """Evaluate the program on one piece; entries of `inputs` for scalars are ignored."""
        shape, values = outs[0].shape, self._values
        for place, piece in enumerate(inputs):
            if piece.ndim:
                values[place] = piece
        for place, segment in enumerate(self._segments):
            given = [values[arg] for arg in segment.args]
            made = [self._place(value, shape, outs) for value in segment.values]
            again = functools.partial(self._run_pieces, place, segment.program, given, made)
            if not (segment.compiled and _run_kernel(segment.program, given, made, again)):
                again()
            for value, array in zip(segment.values, made, strict=True):
                values[value] = array
        for value, output in self._copies:
            np.copyto(outs[output], values[value], casting="unsafe")

    def _place(self, value: int, shape: tuple[int, ...], outs: Sequence[Array]) -> Array:
        if value in self._outputs:
            return outs[self._outputs[value]]
        dtype = self._program.dtype_of(value)
        count = math.prod(shape) * dtype.itemsize
        return self._raw[self._slots[value]][:count].view(dtype).reshape(shape)

    def _run_pieces(
        self, place: int, program: Program, given: list[Array], made: list[Array]
    ) -> None:
        pieces = self._pieces.get(place)
        if pieces is None:
            pieces = Pieces(program, given, self._size, direct=self._direct)
            self._pieces[place] = pieces
        pieces.run(given, made)


def pieces_of(
    program: Program, arrays: Sequence[Array], size: int, *, direct: bool, mixed: bool
) -> Pieces | Mixed:
    """Prepare to run a program on pieces of at most `size` elements.

    `mixed` says whether compiled kernels may take part.
    """
    segments: tuple[Segment, ...] = ()
    if mixed:
        segments = segments_of(program, tuple(array.ndim == 0 for array in arrays))
    if segments:
        return Mixed(program, segments, arrays, size, direct=direct)
    return Pieces(program, list(arrays), size, direct=direct)
