"""Compiles generated source with Numba to position-independent object code.

The only file that imports Numba, and only `tier` imports this one, once the first kernel is wanted.
Numba types the function and lowers it to LLVM; the object code is then made from that, with one
symbol of C signature `void (int64 *)`. Numba's C wrappers are left out: they call the interpreter
to report exceptions, which generated code cannot raise, and object code that calls nothing outside
itself can be kept on disk. Numba loads nothing of it, because what it loads stays for ever.
"""

from __future__ import annotations

import functools
import linecache
import math
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, codegen
from numba.core.callconv import RETCODE_NONE
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu import CPUTargetOptions
from numba.core.descriptors import TargetDescriptor
from numba.core.dispatcher import Dispatcher
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from chunkarr.kernels import callees, halves, machine, panels, quotients, streams, users
from chunkarr.kernels.composites import FUNCTIONS
from chunkarr.kernels.folds import OPERATIONS
from chunkarr.kernels.spec import FLAGS
from chunkarr.kernels.unwarned import unwarned
from chunkarr.kernels.users import RAISED
from chunkarr.kernels.vecmath import registry
from chunkarr.kernels.vecmath.plane import Complex
from chunkarr.kernels.vecmath.values import Value

SIGNATURE = types.void(types.CPointer(types.int64))
_TYPES = {
    "u1": types.uint8, "u2": types.uint16, "u4": types.uint32, "u8": types.uint64,
    "i1": types.int8, "i2": types.int16, "i4": types.int32, "i8": types.int64,
    "f4": types.float32, "f8": types.float64, "c8": types.complex64, "c16": types.complex128,
}  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def load(_context: Any, pointer: Any, index: Any) -> Any:  # noqa: ARG001 - Numba's calling form
    """Read pointer[index]."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]]))

    return pointer.dtype(pointer, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store(_context: Any, pointer: Any, index: Any, value: Any) -> Any:  # noqa: ARG001
    """Write pointer[index]."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype), generate


def _shifted(builder: Any, pointer: Any, offset: Any) -> Any:
    chars = builder.bitcast(pointer, ir.IntType(8).as_pointer())
    return builder.bitcast(builder.gep(chars, [offset]), pointer.type)


@intrinsic  # type: ignore[untyped-decorator]
def load_at(_context: Any, pointer: Any, offset: Any) -> Any:  # noqa: ARG001
    """Read what lies `offset` bytes behind a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.load(_shifted(builder, args[0], args[1]))

    return pointer.dtype(pointer, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def store_at(_context: Any, pointer: Any, offset: Any, value: Any) -> Any:  # noqa: ARG001
    """Write what lies `offset` bytes behind a pointer."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        builder.store(args[2], _shifted(builder, args[0], args[1]))
        return context.get_dummy_value()

    return types.void(pointer, types.int64, pointer.dtype), generate


def _pointer_to(kind: Any) -> Any:
    @intrinsic  # type: ignore[untyped-decorator]
    def pointer(_context: Any, address: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.int64), generate

    return pointer


def _stack_of(kind: Any) -> Any:
    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def stack(_context: Any, count: Any) -> Any:
        def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
            size = ir.Constant(ir.IntType(32), count.literal_value)
            area = cgutils.alloca_once(builder, context.get_value_type(kind), size=size)
            area.align = 64
            return area

        return types.CPointer(kind)(count), generate

    return stack


def _float_function(name: str, operands: int) -> Any:
    """Make an intrinsic of an LLVM operation on floats that keeps their type."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = args[0].type
        width = "f64" if isinstance(kind, ir.DoubleType) else "f32"
        signature = ir.FunctionType(kind, [kind] * operands)
        function = cgutils.get_or_insert_function(builder.module, signature, f"llvm.{name}.{width}")
        return builder.call(function, args)

    if operands == 1:

        def typed_one(_context: Any, x: Any) -> Any:
            return x(x), generate

        return intrinsic(typed_one)

    def typed_two(_context: Any, x: Any, y: Any) -> Any:
        return x(x, y), generate

    return intrinsic(typed_two)


def _division(function: Callable[..., Any]) -> Any:
    """Make an intrinsic of a function of `chunkarr.kernels.quotients`."""

    def generate(_context: Any, builder: Any, signature: Any, args: Any) -> Any:
        wide, signed = machine.converts_long(), signature.return_type.signed
        return function(builder, *args, signed=signed, wide=wide)

    def typed(_context: Any, x: Any, y: Any) -> Any:
        return x(x, y), generate

    return intrinsic(typed)


def _bit_count(name: str) -> Any:
    """Make an intrinsic that counts bits of an integer: "ctpop" or "cttz"."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        defined = [ir.IntType(1)(1)] * (name == "cttz")
        return getattr(builder, name)(*args, *defined)

    def typed(_context: Any, x: Any) -> Any:
        return x(x), generate

    return intrinsic(typed)


def _vector_function(function: Callable[..., Any], operands: int) -> Any:
    """Make an intrinsic of a function of `chunkarr.kernels.vecmath`, on parts where complex."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        found = function(*map(functools.partial(_value, context, builder), signature.args, args))
        if isinstance(found, Value):
            return found.ir
        made = context.make_complex(builder, signature.return_type)
        made.real, made.imag = found.re.ir, found.im.ir
        return made._getvalue()  # noqa: SLF001 - how Numba's own code takes it

    if operands == 1:

        def typed_one(_context: Any, x: Any) -> Any:
            return x(x), generate

        return intrinsic(typed_one)

    def typed_two(_context: Any, x: Any, y: Any) -> Any:
        return x(x, y), generate

    return intrinsic(typed_two)


def _value(context: Any, builder: Any, kind: Any, arg: Any) -> Value | Complex:
    if not isinstance(kind, types.Complex):
        return Value(builder, arg)
    z = context.make_complex(builder, kind, value=arg)
    return Complex(Value(builder, z.real), Value(builder, z.imag))


@intrinsic  # type: ignore[untyped-decorator]
def bits(_context: Any, x: Any) -> Any:
    """Take a float's bits for an integer."""
    width = {types.float32: types.int32, types.float64: types.int64}[x]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(signature.return_type))

    return width(x), generate


@intrinsic  # type: ignore[untyped-decorator]
def fneg(_context: Any, x: Any) -> Any:
    """Flip the sign of a float."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fneg(args[0])

    return x(x), generate


@intrinsic  # type: ignore[untyped-decorator]
def cplx(_context: Any, re: Any, im: Any) -> Any:
    """Join two floats to a complex number."""
    kind = {types.float32: types.complex64, types.float64: types.complex128}[re]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = context.make_complex(builder, signature.return_type)
        made.real, made.imag = args
        return made._getvalue()  # noqa: SLF001 - how Numba's own code takes it

    return kind(re, im), generate


@intrinsic  # type: ignore[untyped-decorator]
def fused(_context: Any, x: Any, y: Any, z: Any) -> Any:
    """Give x * y + z, rounded once."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.fma(*args)

    return x(x, y, z), generate


@intrinsic  # type: ignore[untyped-decorator]
def one(_context: Any, x: Any) -> Any:
    """Give one of a float's type."""

    def generate(_context: Any, _builder: Any, _signature: Any, args: Any) -> Any:
        return ir.Constant(args[0].type, 1.0)

    return x(x), generate


@intrinsic  # type: ignore[untyped-decorator]
def from_half(_context: Any, x: Any) -> Any:
    """Give the number of a half's bits."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return halves.from_half(builder, args[0], native=machine.converts_halves())

    return types.float32(x), generate


@intrinsic  # type: ignore[untyped-decorator]
def to_half(_context: Any, x: Any) -> Any:
    """Give the bits of the half next to a number."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return halves.to_half(builder, args[0], native=machine.converts_halves())

    return types.uint16(x), generate


@intrinsic  # type: ignore[untyped-decorator]
def half(_context: Any, x: Any) -> Any:
    """Round a number to half precision."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        native = machine.converts_halves()
        return halves.from_half(
            builder, halves.to_half(builder, args[0], native=native), native=native
        )

    return types.float32(x), generate


def _parts(context: Any, kind: Any) -> tuple[Any, int]:
    """Give the type of a number's parts in a panel, and how many it has."""
    if isinstance(kind, types.Complex):
        return context.get_value_type(kind.underlying_float), 2
    return context.get_value_type(kind), 1


def _fold_of(operation: str) -> Any:
    """Make an intrinsic that folds the rows of a panel."""

    @intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
    def fold(_context: Any, values: Any, rows: Any, ahead: Any) -> Any:  # noqa: ARG001
        kind = values.dtype

        def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
            part, parts = _parts(context, kind)
            asked = ahead.literal_value
            panel = panels.Panel(builder, args[0], part, args[1], parts=parts, ahead=asked)
            found = panels.fold(panel, operation, signed=getattr(kind, "signed", True))
            if parts == 1:
                return found
            made = context.make_complex(builder, kind)
            made.real, made.imag = (
                builder.extract_element(found, ir.IntType(32)(place)) for place in range(2)
            )
            return made._getvalue()  # noqa: SLF001 - how Numba's own code takes it

        return kind(values, types.int64, ahead), generate

    return fold


@intrinsic(prefer_literal=True)  # type: ignore[untyped-decorator]
def spread(_context: Any, values: Any, rows: Any, mean: Any, ahead: Any) -> Any:  # noqa: ARG001
    """Sum the deviations of a panel's whole rows from a mean, and their squares."""
    result = types.UniTuple(mean, 2)

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind, asked = context.get_value_type(mean), ahead.literal_value
        panel = panels.Panel(builder, args[0], kind, args[1], ahead=asked)
        return context.make_tuple(builder, result, panels.spread(panel, args[2]))

    return result(values, types.int64, mean, ahead), generate


@intrinsic  # type: ignore[untyped-decorator]
def find(_context: Any, values: Any, rows: Any, value: Any) -> Any:  # noqa: ARG001
    """Give the place of the first value in a panel that equals another."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        kind = context.get_value_type(value)
        panel = panels.Panel(builder, args[0], kind, args[1], ahead=False)
        return panels.find(panel, args[2])

    return types.int64(values, types.int64, values.dtype), generate


@intrinsic  # type: ignore[untyped-decorator]
def advance(_context: Any, pointer: Any, index: Any) -> Any:  # noqa: ARG001
    """Give the address of pointer[index]."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.int64), generate


@intrinsic  # type: ignore[untyped-decorator]
def ahead(_context: Any, pointer: Any) -> Any:
    """Give the number of values from an address on in front of the next whole line."""

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        width = context.get_abi_sizeof(context.get_value_type(pointer.dtype))
        return streams.ahead(builder, args[0], width)

    return types.int64(pointer), generate


@intrinsic  # type: ignore[untyped-decorator]
def aligned(_context: Any, pointer: Any) -> Any:
    """Let LLVM know that a line begins at an address."""

    def generate(_context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        return streams.aligned(builder, args[0])

    return pointer(pointer), generate


@intrinsic  # type: ignore[untyped-decorator]
def settled(_context: Any, parameters: Any) -> Any:
    """Let other threads see what was written."""

    def generate(context: Any, builder: Any, _signature: Any, _args: Any) -> Any:
        streams.settled(builder)
        return context.get_dummy_value()

    return types.void(parameters), generate


class _Codegen(codegen.AOTCPUCodegen):  # type: ignore[misc]
    """Numba's generator of code that it does not load.

    What Numba loads it keeps until the process ends, half a megabyte for each function.
    """

    def __init__(self) -> None:
        super().__init__("chunkarr", cpu_name=machine.processor()[0])

    def _customize_tm_features(self) -> str:
        return machine.processor()[1]


class _Target(TargetDescriptor):  # type: ignore[misc]
    """This processor, to compile for and not to load on; what Numba knows, it knows as well."""

    options = CPUTargetOptions
    typing_context = cpu_target.typing_context

    @functools.cached_property
    def target_context(self) -> Any:
        return cpu_target.target_context.subtarget(_internal_codegen=_Codegen(), aot_mode=True)


class _Function(Dispatcher):
    """A function of generated source: a kernel, or what a kernel takes in where it calls it."""

    targetdescr = _Target("cpu")

    def __init__(self, function: Callable[..., Any]) -> None:
        options = {"nopython": True, "forceinline": True, "error_model": "numpy"}
        super().__init__(function, targetoptions=options)
        compiler: Any = self._compiler  # type: ignore[attr-defined]
        compiler._customize_flags = _only_compile  # noqa: SLF001 - no other way to ask

    def add_overload(self, result: Any) -> None:
        # The key under which callers find the code is its address where code is loaded.
        key = object()
        self.targetctx.insert_user_function(key, result.fndesc, [result.library])
        self.overloads[tuple(result.signature.args)] = result._replace(entry_point=key)

    def forget(self) -> None:
        """Take the code out of Numba's tables, which it would stay in for ever."""
        for result in self.overloads.values():
            self.targetctx.remove_user_function(result.entry_point)


def _only_compile(flags: Any) -> Any:
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    return flags


def _namespace() -> dict[str, Any]:
    names: dict[str, Any] = dict(_TYPES)
    for name, kind in _TYPES.items():
        names[f"pointer_{name}"] = _pointer_to(kind)
        names[f"stack_{name}"] = _stack_of(kind)
    for name in ("fabs", "sqrt", "floor", "ceil", "trunc", "rint"):
        names[name] = _float_function(name, 1)
    for name, operation in (
        ("copysign", "copysign"),
        ("fminimum", "minimum"),
        ("fmaximum", "maximum"),
    ):
        names[name] = _float_function(operation, 2)
    for function in (quotients.floor_divide, quotients.remainder, quotients.fmod):
        names[f"integer_{function.__name__}"] = _division(function)
    names |= {"load": load, "store": store, "load_at": load_at, "store_at": store_at}
    names |= {"fneg": fneg, "bits": bits, "inf": math.inf, "nan": math.nan, "b1": types.boolean}
    names |= {"cplx": cplx, "fused": fused, "one": one, "nat": -(1 << 63)}
    names |= {"count_ones": _bit_count("ctpop"), "zeros_below": _bit_count("cttz")}
    names |= {"half": half, "from_half": from_half, "to_half": to_half}
    names |= {"spread": spread, "find": find, "advance": advance}
    names |= {"ahead": ahead, "aligned": aligned, "settled": settled}
    names |= {f"fold_{operation}": _fold_of(operation) for operation in OPERATIONS}
    for name, (function, count) in registry.functions().items():
        names[f"vec_{name}"] = _vector_function(function, count)
    names["inline"] = _Function
    return names


_NAMES = _namespace()


def compile_kernel(source: str, key: str) -> bytes:
    """Compile the source of a `kernel` function to object code with the symbol `machine.SYMBOL`."""
    filename = f"<chunkarr kernel {key}>"
    lines = source.splitlines(keepends=True)
    linecache.cache[filename] = (len(source), None, lines, filename)
    names = dict(_NAMES)
    for start, text in FUNCTIONS.items():
        if start in source:
            exec(text, names)  # noqa: S102 - our own source
    codes = users.codes_in(source)
    names |= {name: callees.caller_of(code, name) for name, code in codes.items()}
    exec(compile(source, filename, "exec"), names)  # noqa: S102 - our own generated source
    names["kernel"] = _Function(names["kernel"])
    try:
        with unwarned():
            compiled = names["kernel"].get_compile_result(SIGNATURE)
        with global_compiler_lock:
            for name, taken in codes.items():
                compiled.library.add_llvm_module(callees.module_of(taken, name))
            compiled.library.finalize()
        more = machine.MATH if codes else frozenset()
        text, entry = compiled.library.get_llvm_str(), compiled.fndesc.llvm_func_name
        if "settled(p)" in source:
            text = streams.marked(text)
        return _object_code(text, entry, more)
    finally:
        linecache.cache.pop(filename, None)
        for made in names.values():
            if isinstance(made, _Function):
                made.forget()
        # Functions and the names that they see hold each other, unseen by the garbage collector.
        names.clear()


def _object_code(text: str, inner: str, more: frozenset[str]) -> bytes:
    """Turn Numba's module into object code in which only our C entry is visible.

    `more` names functions that it may call beside those that every kernel may.
    """
    # The C library's functions may read any memory, as far as LLVM knows: no value that is stored
    # is computed before the flags are cleared or after they are read.
    text += (
        "\ndeclare i32 @feclearexcept(i32)\ndeclare i32 @fetestexcept(i32)\n"
        f"define void @{machine.SYMBOL}(ptr %p) {{\n"
        "  %result = alloca ptr\n"
        "  store ptr null, ptr %result\n"
        f"  %cleared = call i32 @feclearexcept(i32 {machine.ALL_FLAGS})\n"
        f"  %status = call i32 @{inner}(ptr %result, ptr %result, ptr %p)\n"
        "  %returns = icmp eq i32 %status, 0\n"
        f"  %returns_none = icmp eq {RETCODE_NONE}, %status\n"
        "  %ended = or i1 %returns, %returns_none\n"
        f"  %raised = select i1 %ended, i64 0, i64 {RAISED}\n"
        f"  %flags = call i32 @fetestexcept(i32 {machine.ALL_FLAGS})\n"
        "  %wide = zext i32 %flags to i64\n"
        f"  %place = getelementptr i64, ptr %p, i64 {FLAGS}\n"
        "  %noticed = load i64, ptr %place\n"
        "  %told = or i64 %wide, %noticed\n"
        "  %all = or i64 %told, %raised\n"
        "  store i64 %all, ptr %place\n"
        "  ret void\n}\n"
    )
    module = llvm.parse_assembly(text)
    for function in module.functions:
        if not function.is_declaration and function.name != machine.SYMBOL:
            function.linkage = "internal"
    module.verify()
    machine.drop_unused(module)
    for function in module.functions:
        known = machine.callable_from_disk(function.name) or function.name in more
        if function.is_declaration and not known:
            message = f"a kernel calls {function.name}, which is not among the allowed functions"
            raise machine.KernelError(message)
    code: bytes = machine.target_machine().emit_object(module)
    return code
