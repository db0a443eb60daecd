"""A function on whole core axes, applied along all other axes: generalised ufuncs.

Linear algebra on stacks of matrices, transforms along an axis, medians and searches are all this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from chunkarr.expr.build import broadcast_shapes, caller, insert_axes
from chunkarr.expr.calls import WHOLE, Call, Laid, Made
from chunkarr.expr.node import Blocks, Expr, Shape
from chunkarr.grid import Grid


def lanes(
    function: Callable[..., Any],
    operands: Sequence[Expr],
    core: Sequence[int],
    shapes: Sequence[tuple[int, ...]],
    dtypes: Sequence[np.dtype[Any]],
    *,
    name: str,
    options: tuple[tuple[str, Any], ...] = (),
    scratch: float = 1.0,
    owns: bool = False,
    stretched: tuple[int, ...] = (),
) -> tuple[Expr, ...]:
    """Apply a function to whole core axes, for all indices of the loop axes before them.

    Operand i has `core[i]` trailing core axes, which every call gets as a whole; its other axes
    are loop axes, and those of all operands broadcast together (ValueError where they do not).
    Result j has the loop's shape followed by `shapes[j]`, and `dtypes[j]`.

    The loop is cut so that a call fits a task; without loop axes there is one call on the whole
    arrays, and a plan in which that does not fit raises MemoryBudgetError before it starts.

    `function(*boxes, **dict(options))` is called once for each box of the loop. Every box has all
    loop axes, of length one where its operand broadcasts, then the operand's core axes. Boxes are
    read-only, unless the function `owns` them: then it may write to them, and what would be lent is
    copied. It gives one array, or a tuple of as many as there are `shapes`, each of the box's
    loop shape followed by its core shape. What it gives for an index may not depend on the other
    indices of the box, since how the loop is cut depends on the limit. Results of one call are
    computed together where they are wanted together, and equal calls are made once: calls are
    equal where function, options, operands and shapes are.

    `function` is a function of a module, which workers in other processes import. `options` are
    pairs of a keyword and a hashable value. `name` is what people read in plans and messages.
    `scratch` is how many bytes the function holds for itself, beside boxes and results, per byte of
    these.

    Operands at the positions `stretched`, which have one core axis and no loop axes, may be longer
    than what fits a task: the function gets them as `Stretches`, of which it reads parts.

    Where the loop is empty nothing is called.
    """
    loop = broadcast_shapes(*[o.shape[: o.ndim - n] for o, n in zip(operands, core, strict=True)])
    spread = tuple(_with_loop(o, n, loop) for o, n in zip(operands, core, strict=True))
    reads = tuple(_laid(o.shape, loop) for o in spread)
    makes = tuple(
        Made(np.dtype(dtype), _laid((*loop, *shape), loop))
        for shape, dtype in zip(shapes, dtypes, strict=True)
    )
    call = Call(
        function,
        name,
        loop,
        reads,
        makes,
        options,
        joined=True,
        owns=owns,
        scratch=scratch,
        stretched=stretched,
    )
    line = caller()
    return tuple(
        Blocks(
            shape=made.laid.grid.shape,
            dtype=made.dtype,
            operands=spread,
            line=line,
            call=call,
            output=position,
        )
        for position, made in enumerate(makes)
    )


def _with_loop(operand: Expr, core: int, loop: Shape) -> Expr:
    """Give an operand the loop axes that it lacks, of length one."""
    missing = len(loop) - (operand.ndim - core)
    return insert_axes(operand, range(missing)) if missing else operand


def _laid(shape: Shape, loop: Shape) -> Laid:
    """Lay an array along the loop: element by element on the axes that have its length."""
    follows = tuple(
        axis if axis < len(loop) and n == loop[axis] else WHOLE for axis, n in enumerate(shape)
    )
    cut = tuple(max(1, n) if f == WHOLE else 1 for n, f in zip(shape, follows, strict=True))
    return Laid(Grid(shape, cut), follows)
