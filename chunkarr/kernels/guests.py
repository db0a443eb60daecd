"""Chunked arrays and NumPy's names of this package inside functions that users compile with Numba.

Loaded when Numba itself asks an array or a ufunc for its type, so never before Numba is there. An
array goes in as the ndarray that holds its value, and writes go to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numba
from numba.core import types
from numba.core.registry import cpu_target
from numba.extending import models, register_model, unbox

BUFFER = "numba_buffer"
"""The method of an array that gives its ndarray."""


class GuestType(types.Array):
    """The type of an ndarray that is fetched from a chunked array."""

    def __init__(self, plain: Any) -> None:
        self.plain = plain
        super().__init__(
            plain.dtype,
            plain.ndim,
            plain.layout,
            readonly=not plain.mutable,
            name=f"chunked {plain.name}",
            aligned=plain.aligned,
        )


register_model(GuestType)(models.ArrayModel)


@unbox(GuestType)  # type: ignore[untyped-decorator]
def _unbox(guest: GuestType, array: Any, context: Any) -> Any:
    """Fetch the ndarray and take that."""
    method = context.pyapi.object_getattr_string(array, BUFFER)
    held = context.pyapi.call_function_objargs(method, ())
    native = context.unbox(guest.plain, held)
    context.pyapi.decref(held)
    context.pyapi.decref(method)
    return native


def type_of(held: Any) -> GuestType:
    """Give the type of an array whose value an ndarray holds."""
    return GuestType(numba.typeof(held))


def type_of_function(function: Any) -> Any:
    """Give the type that Numba has for a function of NumPy; None where it has none."""
    try:
        return cpu_target.typing_context.resolve_value_type(function)
    except ValueError:
        return None


def adopt(pairs: Iterable[tuple[Any, Any]]) -> None:
    """Let functions of this package stand for those of NumPy wherever Numba knows the latter."""
    context = cpu_target.typing_context
    # Numba enters the functions of NumPy when it is first asked to.
    cpu_target.target_context.refresh()
    context.refresh()
    # Several names may stand for one function, which can be entered once.
    for own, function in {id(own): (own, function) for own, function in pairs}.values():
        found = type_of_function(function)
        if found is not None:
            context.insert_global(own, found)
