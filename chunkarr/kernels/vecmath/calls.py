"""Our functions as NumPy's tier calls them: one kernel for one operation.

That tier does an operation of ours where the whole program has no kernel: among operations that do
not compile, on operands off their boundaries, and when a piece is done again because somebody wants
to hear of floating-point events. NumPy's function is called first, for what it tells, and its
result written over.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from chunkarr.kernels import tier
from chunkarr.kernels.axes import Array
from chunkarr.kernels.layouts import map_recipe
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.users import is_users
from chunkarr.kernels.vecmath import PREFIX


@functools.cache
def _program(name: str, types: tuple[np.dtype[Any], ...], dtype: np.dtype[Any]) -> Program:
    op = Op(name, tuple(range(len(types))), types, dtype)
    return Program(types, (op,), (len(types),))


def call(name: str, *args: Array) -> Array:
    """Give the result of the operation `name` on arrays of the dtypes of its loop."""
    if is_users(name):
        function, given = args[0].item(), args[1:]
    else:
        function, given = getattr(np, name.removeprefix(PREFIX)), args
    out = np.asarray(function(*given))
    operands = [
        np.require(np.broadcast_to(arg, out.shape), requirements=["C", "A"]) for arg in given
    ]
    operands = [*args[: len(args) - len(given)], *(operand.reshape(-1) for operand in operands)]
    target = out.reshape(-1)
    types = tuple(operand.dtype for operand in operands)
    recipe = map_recipe(_program(name, types, out.dtype), operands, [target])
    assert recipe is not None
    kernel = tier.kernel_for(recipe.entry, recipe.elements)
    assert kernel is not None
    recipe.run_map(kernel, (*operands, target))
    return out
