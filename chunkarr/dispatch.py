"""From the user's arguments to expressions and back: where small work stays with NumPy.

`lift` makes a public function from one that takes and gives expressions. Arrays in arguments become
expressions, results become arrays. When every array argument is in memory and small, NumPy's own
function is called at once instead: exact semantics and no planning.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable
from types import BuiltinFunctionType, EllipsisType, FunctionType, NoneType
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.arrays import Array, wrap
from chunkarr.errors import MaskedOperandError, NotYetError
from chunkarr.expr.build import as_expr, itself
from chunkarr.expr.build import plain as without_subclass
from chunkarr.expr.node import Expr
from chunkarr.functions.indexing import NUMBERS
from chunkarr.functions.manipulation import stack
from chunkarr.settings import settings
from chunkarr.signatures import Told
from chunkarr.views import Selection

NDArray = npt.NDArray[Any]
Function = Callable[..., Any]

NO_VALUE: Any = np._NoValue  # noqa: SLF001 - how NumPy's own functions say "not given"

SEQUENCES = (tuple, list)
"""What arguments may hold arrays in; one object, because small calls ask for it many times."""

BROADCAST_BYTES = 1 << 10
"""Arrays up to this size give a small result however they broadcast."""


def arrays_in(values: Iterable[object]) -> list[Array]:
    """List the arrays among arguments, those in lists and tuples too."""
    found: list[Array] = []
    for value in values:
        if isinstance(value, Array):
            found.append(value)
        elif isinstance(value, SEQUENCES):
            found.extend(arrays_in(value))
    return found


def holds_arrays(values: Iterable[object]) -> bool:
    """Whether there is an array in nested lists and tuples."""
    return any(
        isinstance(v, Array) or (isinstance(v, list | tuple) and holds_arrays(v)) for v in values
    )


COMMON = frozenset(
    (
        *(Array, np.ndarray, np.memmap, bool, int, float, complex, str, bytes, list, tuple),
        *(np.poly1d, NoneType, EllipsisType, slice, range, type, FunctionType, BuiltinFunctionType),
        *(type(NO_VALUE), *np.sctypeDict.values(), *map(type, map(np.dtype, np.typecodes["All"]))),
    )
)
"""Classes of arguments that are not looked at any further."""
WRITERS = frozenset(("copyto", "fill_diagonal", "place", "put", "put_along_axis", "putmask"))
"""Functions that write to their first argument."""
OWN = (Array, np.ndarray, np.generic)
"""Classes whose protocols are those that answer here."""
OURS: Any = object()
"""Says that nobody else takes a call."""


def familiar(values: Iterable[object]) -> bool:
    """Whether none of the arguments is of another class, or has to be looked at."""
    return COMMON.issuperset(map(type, values))


def overrides(value: Any, kind: str) -> bool:
    """Whether a value of another class takes calls of NumPy's functions itself."""
    own = getattr(type(value), f"__array_{kind}__", None)
    if own is None or isinstance(value, OWN):
        return False
    return kind == "function" or not hasattr(value, "__array__")


def extends(value: Any) -> bool:
    """Whether a value is of a class derived from ndarray, which computes in its own way."""
    return isinstance(value, np.ndarray) and type(value) not in (np.ndarray, np.memmap)


def taken(value: Any) -> Any:
    """Give the array that an object makes of itself, unless NumPy knows more of the object."""
    if isinstance(value, Array) or hasattr(type(value), "__array_function__"):
        return value
    made = itself(value)
    known = hasattr(type(value), "__array_ufunc__") and not isinstance(made, Array)
    return value if known else made


def convert(value: Any, change: Callable[[Array], Any]) -> Any:
    """Replace the arrays in an argument."""
    if isinstance(value, Array):
        return change(value)
    if type(value) in (list, tuple):
        return type(value)(convert(item, change) for item in value)
    return value


def small(arrays: Iterable[Array]) -> bool:
    """Whether arrays are all in memory and together small enough for NumPy at once.

    Arrays of Python objects are left to NumPy whatever their size: they cannot leave the process.
    """
    room = settings().eager_bytes
    direct, objects = room > 0, False
    for array in arrays:
        held = array.in_memory
        if held is None:
            return False
        if held.dtype.hasobject:
            objects = True
        else:
            room -= held.nbytes
    return objects or (direct and room >= 0)


def at_hand(values: Iterable[Any], *, broadcasts: bool = True) -> list[Any] | None:
    """Give arguments as NumPy takes them, if all are in memory and the result will be small."""
    room = settings().eager_bytes
    direct, objects = room > 0, False
    plain: list[Any] = []
    bytes_most = 0
    for value in values:
        held = value
        if isinstance(value, Array):
            held = value.in_memory
            if held is None:
                return None
        elif isinstance(value, SEQUENCES):
            inner = arrays_in(value)
            if inner:
                held = np.asarray(convert(value, ndarray_of)) if small(inner) else None
                if held is None:
                    return None
        if isinstance(held, np.ndarray):
            if type(held) is not np.ndarray:
                held = without_subclass(held)
            if held.dtype.hasobject:
                objects = True
            else:
                nbytes = held.nbytes
                room -= nbytes
                if nbytes > bytes_most:  # noqa: PLR1730 - a call of max takes four times as long
                    bytes_most = nbytes
        plain.append(held)
    if objects:
        return plain
    if not direct or room < 0:
        return None
    if broadcasts and bytes_most > BROADCAST_BYTES:
        shapes = {held.shape for held in plain if isinstance(held, np.ndarray)}
        try:
            shape = np.broadcast_shapes(*shapes) if len(shapes) > 1 else ()
        except ValueError:
            return plain  # NumPy's own call words the error
        if math.prod(shape) * 16 > 2 * settings().eager_bytes:
            return None
    return plain


def mapped(values: Iterable[Any]) -> list[Any] | None:
    """Give arguments as NumPy takes them, arrays in mapped files as their maps, or None."""
    plain: list[Any] = []
    for value in values:
        held = value
        if isinstance(value, Array):
            held = value.in_memory
            held = value.map_of_file() if held is None else held
            if held is None:
                return None
        plain.append(held)
    return plain


def give(result: Any, *, scalar: bool = False, plain: bool = False) -> Any:
    """Turn results into arrays; NumPy's scalars stay as they are where operands were `plain`."""
    if type(result) is np.ndarray:
        return Array.of(result)
    if isinstance(result, Expr):
        return wrap(result, scalar=scalar and result.ndim == 0)
    if isinstance(result, np.ndarray):
        return result if extends(result) else Array.of(np.asarray(result))
    if isinstance(result, np.generic):
        return result if plain else Array.of(np.asarray(result), scalar=True)
    if isinstance(result, tuple):
        parts = [give(part, scalar=scalar, plain=plain) for part in result]
        return type(result)(*parts) if hasattr(result, "_fields") else tuple(parts)
    if isinstance(result, list):
        return [give(part, scalar=scalar, plain=plain) for part in result]
    return result


def unscaled(result: Any) -> Any:
    """Give arrays without axes for scalars, as ufuncs do with `out=...`."""
    if isinstance(result, tuple):
        return tuple([unscaled(part) for part in result])
    if isinstance(result, Array):
        return Array(result.to_expr()) if result.is_scalar else result
    return Array.of(np.asarray(result))


def ndarray_of(array: Array) -> NDArray:
    """Give the ndarray of an array in memory."""
    held = array.in_memory
    assert held is not None
    return held


def computed(array: Array, most: int) -> Any:
    """Give the values of an array of at most so many bytes, the expression of a larger one."""
    return array.compute() if array.nbytes <= most else array.to_expr()


def lift(
    function: Function,
    numpy_function: Function | None,
    *,
    scalar: bool = False,
    convert_first: int = 1,
    weak: bool = False,
    eager: bool = True,
) -> Function:
    """Make a public function of arrays from a function of expressions.

    `scalar` says that a result without axes is a NumPy scalar. The first `convert_first` positional
    arguments may be anything array-like; with `weak`, Python numbers among them stay what they are.
    """
    name = function.__name__.rstrip("_")
    told = Told(function, numpy_function)

    @functools.wraps(function)
    def public(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None and not told.takes_out:
            raise no_out(name)
        if len(args) > 1 and len(args) > told.shared:
            args, kwargs, out = by_name(name, args, kwargs, out, told)
        if kwargs:
            kwargs = {k: v for k, v in kwargs.items() if v is not NO_VALUE}
        if not (familiar(args) and (not kwargs or familiar(kwargs.values()))):
            made, args, kwargs = ask(public, numpy_function, args, kwargs, out)
            if made is not OURS:
                return made
        if isinstance(out, tuple):
            message = "return arrays must be of ArrayType"
            raise TypeError(message)
        arrays = arrays_in((*args, *kwargs.values()) if kwargs else args)
        numbers = scalar and not arrays and NUMBERS.issuperset(map(type, args))
        if eager and numpy_function is not None and (numbers or small(arrays)):
            plain = [convert(a, ndarray_of) for a in args]
            named = {k: convert(v, ndarray_of) for k, v in kwargs.items()}
            if out is not None:
                return numpy_into(numpy_function, plain, named, out)
            result = give(numpy_function(*plain, **named), plain=not arrays)
        else:
            masked = masked_call(name, args, kwargs) if arrays else None
            if masked is not None:
                result = masked
            else:
                try:
                    exprs = [
                        expression(a, weak=weak) if i < convert_first else convert(a, Array.to_expr)
                        for i, a in enumerate(args)
                    ]
                except MaskedOperandError:
                    if numpy_function is None:
                        raise
                    return on_subclass(numpy_function, args, kwargs)
                named = {k: convert(v, Array.to_expr) for k, v in kwargs.items()}
                if isinstance(out, Array | np.ndarray) and told.takes_into:
                    named["into"] = out.dtype
                result = give(function(*exprs, **named), scalar=scalar)
        return result if out is None else store_out(result, out)

    public.__name__ = public.__qualname__ = name
    public.__module__ = "chunkarr"
    told.describe(public)
    LIFTED.add(public)
    return public


LIFTED: set[Function] = set()
"""Public functions that `lift` has made."""


def no_out(name: str) -> TypeError:
    """Make the error for a function that has no `out=`."""
    return TypeError(f"{name}() got an unexpected keyword argument 'out'")


def elsewhere(public: Function, numpy_function: Function, args: Any, kwargs: dict[str, Any]) -> Any:
    """Give what operands of other classes make of a call of NumPy's function, or `OURS`.

    Classes that take such calls are asked first, with chunked arrays as they are; raises TypeError
    where none takes this one. What is derived from ndarray is left to NumPy.
    """
    whole = (*args, *kwargs.values())
    if args and hasattr(type(args[0]), "__next__"):
        return give(numpy_function(*args, **kwargs))  # NumPy says that it is no array
    flat = [v for a in whole for v in (a if isinstance(a, list | tuple) else (a,))]
    own = [value for value in flat if overrides(value, "function")]
    types = tuple({type(v): None for v in flat if hasattr(type(v), "__array_function__")})
    for value in own:
        # A program knows the functions by our names, a library by NumPy's.
        for function in (public, numpy_function):
            made = value.__array_function__(function, types, args, kwargs)
            if made is not NotImplemented:
                return made
    if own and not (arrays_in(flat) and all(hasattr(value, "__array__") for value in own)):
        message = f"no implementation found for 'numpy.{public.__name__}' on types {list(types)}"
        raise TypeError(message)
    writes = public.__name__ in WRITERS and type(args[0]) is Array
    known = writes or not any(map(extends, flat))
    return OURS if known else on_subclass(numpy_function, args, kwargs)


def ask(
    public: Function, numpy_function: Function | None, args: Any, kwargs: dict[str, Any], out: Any
) -> tuple[Any, Any, dict[str, Any]]:
    """Ask operands of other classes about a call; also gives the arguments as we take them."""
    made = OURS
    if numpy_function is not None:
        given = kwargs if out is None else kwargs | {"out": out}
        made = elsewhere(public, numpy_function, args, given)
    return made, tuple(map(taken, args)), {k: taken(v) for k, v in kwargs.items()}


def ufunc_elsewhere(call: Function, args: Any, kwargs: dict[str, Any]) -> Any:
    """Give what operands of other classes make of a ufunc or of its method, or `OURS`."""
    flat = (*args, *_outs(kwargs))
    known = any(hasattr(type(v), "__array_ufunc__") and not isinstance(v, OWN) for v in flat)
    if any(overrides(value, "ufunc") for value in flat) or (known and not arrays_in(flat)):
        return give(call(*args, **kwargs), plain=True)  # NumPy asks each of them
    writes = call.__name__ == "at" and type(args[0]) is Array
    known = writes or not any(map(extends, flat))
    return OURS if known else on_subclass(call, args, kwargs)


def _outs(kwargs: dict[str, Any]) -> tuple[Any, ...]:
    out = kwargs.get("out")
    return out if isinstance(out, tuple) else (out,)


def on_subclass(function: Function, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run NumPy's function on arrays of derived classes and the values of chunked ones.

    What it writes into chunked arrays of `out=` is written into them.
    """
    plain = [convert(a, Array.compute) for a in args]
    named = {k: convert(v, Array.compute) for k, v in kwargs.items()}
    result = function(*plain, **named)
    outs = _outs(kwargs)
    if not arrays_in(outs):
        return give(result, plain=not arrays_in((*args, *kwargs.values())))
    for out, made in zip(outs, _outs(named), strict=True):
        if isinstance(out, Array):
            out[...] = np.asarray(made)
    return outs if len(outs) > 1 else outs[0]


def asking(function: Function, numpy_function: Function) -> Function:
    """Make a public function that operands of other classes are asked about."""

    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        parts = args[0] if args and isinstance(args[0], SEQUENCES) else ()
        known = familiar(args) and (not parts or familiar(parts))
        if not (known and (not kwargs or familiar(kwargs.values()))):
            made, args, kwargs = ask(public, numpy_function, args, kwargs, None)
            if made is not OURS:
                return made
        return function(*args, **kwargs)

    return public


def sole(out: Any) -> Any:
    """Give the array of `out=`, which may be a tuple of one."""
    return out[0] if isinstance(out, tuple) and len(out) == 1 else out


def numpy_into(function: Function, plain: list[Any], named: dict[str, Any], out: Any) -> Any:
    """Let NumPy's function write into an array: into its buffer, where nobody else reads that."""
    if any(isinstance(a, np.ndarray) and a.dtype.hasobject for a in plain):
        # NumPy 2.4 counts references wrongly where objects are reduced into another dtype.
        made = np.asarray(function(*plain, **named))
        return store_out(give(made.astype(getattr(out, "dtype", made.dtype))), out)
    if not isinstance(out, Array):
        return function(*plain, out=out, **named)
    out.check_writable("output array")
    held = out.writable_ndarray()
    target = np.empty(out.shape, out.dtype) if held is None else held
    function(*plain, out=target, **named)
    if held is None:
        out[...] = target
    return out


def by_name(
    name: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    out: Any,
    told: Told,
) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
    """Name the arguments that NumPy has at other positions than the function of expressions."""
    shared, order = told.shared, told.order
    if len(args) > len(order):
        message = (
            f"{name}() takes at most {len(order)} positional arguments, {len(args)} were given"
        )
        raise TypeError(message)
    named = dict(zip(order[shared:], args[shared:], strict=False))
    twice = named.keys() & kwargs.keys()
    if twice:
        message = f"{name}() got multiple values for argument {min(twice)!r}"
        raise TypeError(message)
    out = named.pop("out", out)
    return args[:shared], kwargs | named, out


def expression(value: Any, *, weak: bool = False) -> Any:
    """Give the expression of an array-like argument."""
    if isinstance(value, Array):
        return value.to_expr()
    if isinstance(value, tuple | list) and arrays_in(value):
        return stack([expression(item) for item in value])
    if weak and type(value) in (int, float, complex):
        return value
    return as_expr(value)


def lift_sequence(function: Function, numpy_function: Function) -> Function:
    """Make a public function whose first argument is a sequence of arrays."""
    lifted = lift(function, numpy_function, convert_first=0)

    @functools.wraps(function)
    def public(arrays: Any, *args: Any, **kwargs: Any) -> Any:
        parts = list(arrays)
        if not familiar(parts):
            made = elsewhere(public, numpy_function, (parts, *args), kwargs)
            if made is not OURS:
                return made
            parts = list(map(taken, parts))
        if not all(isinstance(part, Array) for part in parts):
            parts = [
                part if isinstance(part, Array) else Array.of(np.asarray(part)) for part in parts
            ]
        return lifted(parts, *args, **kwargs)

    public.__module__ = "chunkarr"
    public.__wrapped__ = lifted.__wrapped__  # type: ignore[attr-defined]
    return public


def store_out(result: Array, out: Any) -> Any:
    """Write a result into `out=` as NumPy does."""
    target = out[0] if isinstance(out, tuple) else out
    if not isinstance(target, Array | np.ndarray):
        message = "return arrays must be of ArrayType"
        raise TypeError(message)
    if target.shape != result.shape:
        message = (
            f"non-broadcastable output operand with shape {target.shape} doesn't match the "
            f"broadcast shape {result.shape}"
        )
        raise ValueError(message)
    if not np.can_cast(result.dtype, target.dtype, "same_kind"):
        message = (
            f"Cannot cast output from {result.dtype!r} to {target.dtype!r} with casting rule "
            "'same_kind'"
        )
        raise TypeError(message)
    target[...] = result if isinstance(target, Array) else result.compute()
    return target


masked_functions: dict[str, Function] = {}
"""Reductions of a selection that need no selection: the mask becomes their `where=`.

The namespace puts expression functions here. They give None for dtypes that they are not for.
"""


def masked_call(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Reduce a selection `x[mask]` without making it; None where that is not the case."""
    if name not in masked_functions or not args or not isinstance(args[0], Array):
        return None
    selection = args[0].selection
    if selection is None or len(args) > 1 or kwargs.get("axis") is not None or "where" in kwargs:
        return None
    if kwargs.get("keepdims"):
        return None
    options = {k: v for k, v in kwargs.items() if k not in {"axis", "keepdims"}}
    made = masked_functions[name](selection.operand, where=selection.spread_mask(), **options)
    return None if made is None else give(made, scalar=True)


def shared_selection(values: Iterable[Any]) -> Selection | None:
    """Give the selection whose mask all array arguments share, if there is one."""
    found: Selection | None = None
    for value in values:
        if isinstance(value, Array):
            selection = value.selection
            if selection is None:
                if value.shape != ():
                    return None
            elif found is None:
                found = selection
            elif found.mask is not selection.mask:
                return None
        elif np.ndim(value) != 0:
            return None
    return found


def refuse(name: str, alternative: str) -> NotYetError:
    """Make the error for a NumPy name that does not run out of core yet."""
    return NotYetError(f"numpy.{name} does not run on chunked arrays yet; {alternative}")


def attach(namespace: Any) -> None:
    """Let the functions of the namespace ask operands of other classes, as lifted ones do."""
    for name, function in list(vars(namespace).items()):
        ours = isinstance(function, FunctionType) and function.__module__ in HOMES
        known = getattr(np, name, None)
        if ours and callable(known) and function not in LIFTED and name not in CONVERSIONS:
            setattr(namespace, name, asking(function, known))


HOMES = ("chunkarr", "chunkarr.namespace")
"""Where functions of the namespace say that they are from."""
CONVERSIONS = frozenset(
    (
        *("array", "asanyarray", "asarray", "asarray_chkfinite", "ascontiguousarray"),
        *("asfortranarray", "astype", "from_dlpack", "fromiter", "require"),
    )
)
"""Functions that make arrays of whatever they are given."""
