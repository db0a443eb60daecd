"""How a kernel calls a user's function whose code it takes in: by Numba's own convention."""

from __future__ import annotations

from typing import Any

import llvmlite.binding as llvm
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype

from chunkarr.kernels import elementary
from chunkarr.kernels.users import ENTRY, Code


def module_of(code: Code, name: str) -> Any:
    """Give the module of a function under the name that a kernel calls it by."""
    if not _is_ours(name):
        text = elementary.with_roots(code.text)
        return llvm.parse_assembly(text.replace(f"@{ENTRY}(", f"@{name}("))
    module = elementary.with_ours(code.text, thorough="_any_" in name)
    module.get_function(ENTRY).name = name
    return module


def _is_ours(name: str) -> bool:
    """Whether a function's elementary functions are ours."""
    return name.startswith("vec_")


def caller_of(code: Code, name: str) -> Any:
    """Make an intrinsic that calls a function, and returns from the kernel if that raises."""
    if code.core:
        return _core_caller_of(code, name)
    *given, result = map(from_dtype, code.loop)
    cell = [types.CPointer(types.int32), types.int64] * _is_ours(name)

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        args, more = args[: len(given)], args[len(given) :]
        if not code.boxed:
            return _call(context, builder, name, result, [*given, *cell], [*args, *more])
        nothing = context.get_constant_null(result)
        kinds, values, slot = [], [], None
        for kind, value, boxed in zip((*given, result), (*args, nothing), code.boxed, strict=True):
            slot = cgutils.alloca_once_value(
                builder, context.get_value_as_data(builder, kind, value)
            )
            kinds.append(types.Array(kind, 1, "A") if boxed else kind)
            values.append(_boxed(context, builder, kinds[-1], slot, ()) if boxed else value)
        _call(context, builder, name, types.none, [*kinds, *cell], [*values, *more])
        return context.unpack_value(builder, result, slot)

    # Numba counts the parameters of what it calls to type an intrinsic.
    names = ", ".join(f"x{place}" for place in range(len(given) + len(cell)))
    typed = eval(f"lambda context, {names}: typed", {"typed": (result(*given, *cell), generate)})  # noqa: S307
    return intrinsic(typed)


def _core_caller_of(code: Code, name: str) -> Any:
    """Make an intrinsic that calls a function with core axes.

    It gets the address of each argument, and the length and the stride of each of its core axes.
    """
    kinds = [from_dtype(kind) for kind in code.loop]

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        rest, own, values = list(args), [], []
        for kind, axes, boxed in zip(kinds, code.core, code.boxed, strict=True):
            data = builder.bitcast(rest.pop(0), context.get_data_type(kind).as_pointer())
            told = [(rest.pop(0), rest.pop(0)) for _ in range(axes)]
            own.append(types.Array(kind, max(1, axes), "A") if boxed else kind)
            values.append(
                _boxed(context, builder, own[-1], data, told)
                if boxed
                else context.unpack_value(builder, kind, data)
            )
        _call(context, builder, name, types.none, own, values)
        return context.get_dummy_value()

    names = ", ".join(f"x{place}" for place in range(len(kinds) + 2 * sum(code.core)))

    def typed(*given: Any) -> Any:
        return types.void(*given), generate

    return intrinsic(eval(f"lambda context, {names}: typed({names})", {"typed": typed}))  # noqa: S307


def _call(context: Any, builder: Any, name: str, result: Any, kinds: Any, values: Any) -> Any:
    convention = context.call_conv
    callee = cgutils.get_or_insert_function(
        builder.module, convention.get_function_type(result, kinds), name
    )
    status, value = convention.call_function(builder, callee, result, kinds, values)
    with cgutils.if_unlikely(builder, status.is_error):
        convention.return_status_propagate(builder, status)
    return value


def _boxed(context: Any, builder: Any, kind: Any, data: Any, told: Any) -> Any:
    """Make an array at an address, of lengths and strides, or else of one element."""
    array = context.make_array(kind)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(data.type.pointee))
    shape, strides = zip(*(told or [(context.get_constant(types.intp, 1), size)]), strict=True)
    populate_array(array, data, list(shape), list(strides), size, meminfo=None)
    return array._getvalue()  # noqa: SLF001 - how Numba's own code takes it
