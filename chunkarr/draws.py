"""From a call of `numpy.random` to an array: small draws now, large ones when they are read.

A large draw becomes the content of a `StreamStore`, and the generator owes the way to its end (see
`owed`). What gives other numbers in parts than at once, such as `shuffle`, is left to NumPy,
on what fits memory.
"""

from __future__ import annotations

import inspect
import math
import operator
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.random import mtrand

from chunkarr import engine
from chunkarr.arrays import Array, wrap
from chunkarr.dispatch import arrays_in, convert, give
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.expr.build import caller, normalize_axis
from chunkarr.expr.node import Source
from chunkarr.owed import MT19937, Owing
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.settings import settings
from chunkarr.storage.stream import JUMPING, Along, Draw, PartDraw, Stream, StreamStore, state_of

NDArray = npt.NDArray[Any]
Inner = np.random.Generator | np.random.RandomState

PARAMETER_BYTES = 1 << 16
"""Array parameters up to this size travel with a lazy draw."""
NOW_TIMES = 64
"""Draws of so many times `eager_bytes` are done at once, where memory is free,"""
NOW_PARTS = 64
"""if one takes at most one of so many parts of the limit."""
FREE_BYTES = 1 << 16
"""Results up to this size are not checked against the memory limit."""
PROBED_MAX = 1 << 16
"""Array parameters that give at most so many numbers are checked by drawing them."""
ROWS = {
    "choice": "a",
    "dirichlet": "alpha",
    "multinomial": "pvals",
    "multivariate_hypergeometric": "colors",
    "multivariate_normal": "mean",
}
"""Methods whose draws may be rows instead of numbers, and the parameter that tells how long."""
KNOWN = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")


def _parameters(kind: type[Any]) -> dict[str, list[str]]:
    """List the methods of NumPy's generators that take `size=`, with their parameters."""
    found = {}
    for name in dir(kind):
        method = getattr(kind, name)
        if not name.startswith("_") and callable(method):
            names = [p for p in inspect.signature(method).parameters if p != "self"]
            if "size" in names:
                found[name] = names
    return found


PARAMETERS = {
    False: _parameters(np.random.Generator),
    True: _parameters(np.random.RandomState),
}
"""Parameters of the methods that take `size=`, for generators new and old."""


PROBES: dict[bool, Any] = {
    False: np.random.Generator(np.random.PCG64(0)),
    True: np.random.RandomState(0),
}
"""Where one number is drawn to learn about all, at nobody's cost."""

SHARED: np.random.RandomState = mtrand._rand  # noqa: SLF001 - who draws beside us uses it


def _ndim(value: Any) -> int:
    """Count the axes of an argument; classes such as `float32` have none, whatever `ndim` says."""
    plain_kinds = int | float | str | type | np.dtype | None
    return 0 if isinstance(value, plain_kinds) else np.ndim(value)


class _Later(Exception):  # noqa: N818 - says that NumPy has to do a draw, and is always caught
    """A draw that does not come in parts."""


class _Call:
    """One call of a method with `size=`: its parameters by name and the shape of its draws."""

    def __init__(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], names: list[str]
    ) -> None:
        self.name = name
        self.named = dict(zip(names, args, strict=False)) | kwargs
        self.understood = (
            len(args) <= len(names)
            and self.named.keys() <= set(names)
            and not set(names[: len(args)]) & kwargs.keys()
        )
        self.size = self.named.pop("size", None)
        if self.named.get("out", ...) is None:
            del self.named["out"]
        # Rows have parameters that are arrays themselves.
        self.arrays = (
            {} if name in ROWS else {k: np.asarray(v) for k, v in self.named.items() if _ndim(v)}
        )
        self.shape = self._shape() if self.understood else None

    def _shape(self) -> tuple[int, ...] | None:
        """Give the shape of the draws; None for one scalar and for what NumPy will refuse."""
        if self.size is None:
            shapes = [array.shape for array in self.arrays.values()]
            try:
                return np.broadcast_shapes(*shapes) if shapes else None
            except ValueError:
                return None
        try:
            lengths = tuple(self.size) if _ndim(self.size) else (self.size,)
            shape = tuple(operator.index(n) for n in lengths)
            joint = np.broadcast_shapes(shape, *(array.shape for array in self.arrays.values()))
        except (TypeError, ValueError):
            return None
        return shape if joint == shape and min(shape, default=0) >= 0 else None

    @property
    def count(self) -> int:
        """How many draws there are."""
        return math.prod(self.shape or ())

    @property
    def item_bytes_most(self) -> int:
        """Bytes that one draw takes at most, without trying it."""
        if self.name not in ROWS:
            return 8
        shown = np.asarray(self.named.get(ROWS[self.name], 0))
        if self.name == "choice":
            return math.prod(shown.shape[1:]) * (shown.itemsize if shown.ndim else 8)
        return 8 * shown.shape[-1] if shown.ndim else 8

    def check_parts(self) -> None:
        """Raise `_Later` for draws that give other numbers in parts than at once."""
        named = self.named
        if self.name == "multivariate_normal":
            # The last bits of a product of matrices depend on how many rows there are.
            raise _Later
        if self.name == "choice" and not named.get("replace", True):
            raise _Later
        if self.name == "choice" and named.get("axis", 0) != 0 and _ndim(named["a"]) > 1:
            raise _Later
        if self.name == "multinomial" and (_ndim(named["n"]) or _ndim(named["pvals"]) != 1):
            raise _Later
        if self.name == "multivariate_hypergeometric" and named.get("method") == "count":
            raise _Later
        if any(np.asarray(v).nbytes > PARAMETER_BYTES for v in named.values() if _ndim(v)):
            raise _Later

    def probe(self, *, legacy: bool) -> NDArray:
        """Draw one item elsewhere: NumPy checks the parameters and shows dtype and shape."""
        source: Any = PROBES[legacy]
        method = getattr(source, self.name)
        if self.arrays and math.prod(np.broadcast_shapes(*_shapes(self.arrays))) <= PROBED_MAX:
            drawn: NDArray = np.asarray(method(**self.named)).reshape(-1)[:1]
            if len(drawn):
                return drawn
        firsts = {k: v.reshape(-1)[0] for k, v in self.arrays.items()}
        one: NDArray = method(**self.named | firsts, size=(1,))
        return one

    def draw(self, one: NDArray, bits: Any, *, legacy: bool) -> Draw:
        """Describe the draw for a store; raises `_Later` where it does not come in parts."""
        if type(bits).__name__ not in KNOWN or one.dtype.hasobject:
            raise _Later
        assert self.shape is not None
        if self.name in ("integers", "randint") and one.dtype.itemsize < 4 and one.dtype != bool:
            return self._part_draw(one, legacy)
        if self.name in ("integers", "randint") and one.dtype == bool and self.arrays:
            raise _Later
        named: dict[str, Any] = {}
        for key, value in self.named.items():
            if key in self.arrays:
                named[key] = Along(np.array(self.arrays[key]))
            else:
                # A copy, because what is drawn later must not change with the caller's array.
                named[key] = np.array(value) if _ndim(value) else value
        jumps = "" if legacy else _jumps(self.name, self.named, one.dtype, bits)
        item = one.shape[1:] if self.name in ROWS else ()
        return Draw(self.name, named, self.shape, one.dtype, item, legacy, jumps)

    def _part_draw(self, one: NDArray, legacy: bool) -> Draw:
        low, high = self.named["low"], self.named.get("high")
        if self.arrays:
            raise _Later
        low, high = (0, low) if high is None else (low, high)
        top = int(high) - (not self.named.get("endpoint", False))
        named = {"low": int(low), "span": top - int(low)}
        assert self.shape is not None
        return PartDraw(self.name, named, self.shape, one.dtype, (), legacy)


def _shapes(arrays: dict[str, NDArray]) -> list[tuple[int, ...]]:
    return [array.shape for array in arrays.values()]


def _jumps(name: str, named: dict[str, Any], dtype: np.dtype[Any], bits: Any) -> str:
    """Tell what each draw takes of a generator that can jump, if it is always the same."""
    if type(bits).__name__ not in JUMPING:
        return ""
    if name == "random":
        return "double" if dtype == np.float64 else "single"
    weighted = name == "choice" and named.get("p") is not None
    return "double" if name == "uniform" or weighted else ""


def _bits_of(inner: Inner) -> Any:
    """Give the bit generator of a generator; that of NumPy's shared one becomes ours."""
    bits = inner._bit_generator  # type: ignore[union-attr]  # noqa: SLF001 - both classes have it
    if inner is SHARED and type(bits) is np.random.MT19937:
        state = state_of(inner)
        bits = MT19937(0)
        mtrand.set_bit_generator(bits)
        SHARED.set_state(state)
    return bits


def _lazily(inner: Inner, draw: Draw) -> Array:
    """Make the array of a draw, and let the generator stand behind it."""
    bits = _bits_of(inner)
    if not isinstance(bits, Owing):
        # Somebody else's bit generator cannot be made to wait: run to the end of the draw now.
        with bits.lock:
            store = StreamStore(draw, state_of(inner))
            _stand(inner, store.stream)
    else:
        with bits.bare_lock:
            owed = bits.owed
            if owed is not None and owed[0] is not inner:
                bits.settle()
                owed = None
            store = StreamStore(draw, state_of(inner) if owed is None else owed[1])
            if store.stream.known:
                _stand(inner, store.stream)
            else:
                bits.owe(inner, store.stream)
    return wrap(Source(shape=store.shape, dtype=store.dtype, line=caller(), store=store))


def _stand(inner: Inner, stream: Stream) -> None:
    state = stream.end_state()
    if isinstance(inner, np.random.RandomState):
        inner.set_state(state)
    else:
        inner.bit_generator.state = state


def check_room(name: str, bytes_needed: int, shape: object) -> None:
    """Refuse what does not fit the memory limit, before anything is drawn."""
    if bytes_needed <= FREE_BYTES:
        return
    limits, _ = engine.current_limits()
    if bytes_needed <= limits.bytes_available:
        return
    line = caller()
    raise MemoryBudgetError(
        array=f"random numbers of shape {shape}",
        operation=f"random.{name}",
        where=f"{line[0]}:{line[1]}" if line else "",
        bytes_needed=bytes_needed,
        bytes_available=limits.bytes_available,
        remedies=(
            "raise the limit: config(memory=...) or CHUNKARR_MEMORY",
            "draw random or normal numbers, which need no memory until they are read",
        ),
    )


def plain(value: Any) -> Any:
    """Give arrays among arguments as NumPy takes them; refuses what does not fit memory."""
    return convert(value, _ndarray)


def _ndarray(array: Array) -> Any:
    held = array.in_memory
    whole = array.compute() if held is None else held
    return whole[()] if array.ndim == 0 else whole


def drawn(inner: Inner, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Draw as NumPy's method does: at once where the result is small, else when it is read."""
    if name == "choice" and _is_elsewhere(args[0] if args else kwargs.get("a")):
        return _chosen(inner, *args, **kwargs)
    chunks = kwargs.pop("chunks", None)
    out = kwargs.get("out")
    if isinstance(out, Array):
        return _draw_into(inner, name, args, kwargs)
    if arrays_in((*args, *kwargs.values())):
        args = tuple(plain(value) for value in args)
        kwargs = {key: plain(value) for key, value in kwargs.items()}
    legacy = isinstance(inner, np.random.RandomState)
    result = None
    if out is None:
        call = _Call(name, args, kwargs, PARAMETERS[legacy][name])
        if call.shape:
            result = _large(inner, call, legacy=legacy)
    if result is None:
        result = getattr(inner, name)(*args, **kwargs)
        result = result if result is out else give_drawn(result)
    return result if chunks is None or not isinstance(result, Array) else result.rechunk(chunks)


def _is_elsewhere(a: Any) -> bool:
    """Whether something is an array with axes and elements, which are not in memory."""
    return isinstance(a, Array) and a.ndim > 0 and a.size > 0 and a.in_memory is None


def _chosen(inner: Inner, a: Array, *args: Any, **kwargs: Any) -> Any:
    """Choose among elements by their places, which are drawn as elements are."""
    legacy = isinstance(inner, np.random.RandomState)
    names = PARAMETERS[legacy]["choice"][1:]
    options = dict(zip(names, args, strict=False)) | kwargs
    if legacy:
        PROBES[True].choice(np.empty((1,) * a.ndim))  # NumPy's own refusal of several axes
    axis = normalize_axis(options.pop("axis", 0), a.ndim)
    chunks = options.pop("chunks", None)
    found = a.take(drawn(inner, "choice", (a.shape[axis],), options), axis)
    return found if chunks is None else found.rechunk(chunks)


def give_drawn(result: Any) -> Any:
    """Make arrays of NumPy's; scalars stay what NumPy gives."""
    return give(result) if isinstance(result, np.ndarray) else result


def _large(inner: Inner, call: _Call, *, legacy: bool) -> Array | None:
    """Give the array of a draw that is not small, or None to let NumPy do it now."""
    bytes_needed = call.count * call.item_bytes_most
    if bytes_needed <= settings().eager_bytes:
        return None
    room = _room_now()
    if bytes_needed <= room:
        return None
    try:
        call.check_parts()
        one = call.probe(legacy=legacy)
        bytes_needed = call.count * one.nbytes
        if bytes_needed <= room:
            return None
        return _lazily(inner, call.draw(one, _bits_of(inner), legacy=legacy))
    except _Later:
        if call.arrays and bytes_needed > engine.current_limits()[0].bytes_available:
            message = (
                f"random.{call.name} with array parameters of this size does not run out of core "
                "yet; draw in parts, or with parameters that are numbers"
            )
            raise NotYetError(message) from None
        copies = 2 if call.name == "multivariate_normal" else 1
        check_room(call.name, bytes_needed * copies + _population_bytes(call), call.shape)
        return None


def _room_now() -> int:
    """Give the bytes of what is drawn at once: what is read again and again need not be lazy."""
    now = settings()
    room = min(NOW_TIMES * now.eager_bytes, now.memory // NOW_PARTS)
    spare = memory_in_use() <= now.memory // 4
    return max(room, now.eager_bytes) if spare else now.eager_bytes


def _population_bytes(call: _Call) -> int:
    """Bytes of the places that a choice without replacement shuffles."""
    a = call.named.get("a")
    if call.name != "choice" or a is None or call.named.get("replace", True):
        return 0
    return 8 * (len(a) if _ndim(a) else int(a))


def _draw_into(inner: Inner, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
    """Draw into an array that is given as `out=`."""
    out: Array = kwargs.pop("out")
    names = PARAMETERS[False][name]
    named = dict(zip(names, args, strict=False)) | kwargs
    wanted = np.dtype(named.get("dtype") or np.float64)
    if out.dtype != wanted:
        message = f"Supplied output array has wrong type. Expected {wanted}, got {out.dtype}"
        raise TypeError(message)
    size = named.pop("size", None)
    lengths = size if _ndim(size) else (size,)
    if size is not None and tuple(lengths) != out.shape:
        message = "size must match out.shape when used together"
        raise ValueError(message)
    out.check_writable()
    flags, inward = out.flags, name == "standard_gamma"
    if not flags.c_contiguous and (inward or not flags.f_contiguous):
        message = "Supplied output array must be contiguous"
        raise ValueError(message)
    # Numbers come in the order in which they lie.
    target = out if flags.c_contiguous else out.transpose()
    target[...] = drawn(inner, name, (), {**named, "size": target.shape})
    return out


def shuffled(inner: Inner, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Put into random order in place."""
    if not isinstance(x, Array):
        inner.shuffle(x, *args, **kwargs)
        return
    x.check_writable("array")
    x[...] = x.take(*_order("shuffle", inner, x, *args, **kwargs))


def permutation(inner: Inner, x: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Array:
    """Give in random order."""
    if isinstance(x, Array) and x.ndim:
        moved: Array = x.take(*_order("permutation", inner, x, *args, **kwargs))
        return moved
    if isinstance(x, int | np.integer):
        check_room("permutation", 8 * int(x), (int(x),))
    made: Array = give(inner.permutation(plain(x), *args, **kwargs))
    return made


def _order(name: str, inner: Inner, x: Array, axis: Any = 0) -> tuple[NDArray, int]:
    """Give the places in random order along an axis: what NumPy exchanges follows from the length.

    The places are in memory, the array need not be.
    """
    axis = normalize_axis(axis, x.ndim)
    check_room(name, 8 * x.shape[axis], (x.shape[axis],))
    places = np.arange(x.shape[axis])
    inner.shuffle(places)
    return places, axis


def permuted(inner: np.random.Generator, x: Any, axis: Any, out: Any) -> Any:
    """Give with each lane in its own random order."""
    if isinstance(x, Array):
        check_room("permuted", 2 * x.nbytes, x.shape)
    if isinstance(out, Array):
        out.check_writable()
        target = np.empty(out.shape, out.dtype)
        inner.permuted(plain(x), axis=axis, out=target)
        out[...] = target
        return out
    made = inner.permuted(plain(x), axis=axis, out=out)
    return made if made is out else give_drawn(made)
