"""How a case runs: the same text on NumPy and on chunkarr, and what counts as the same answer.

A text such as `np.sum(x, axis=0)` is evaluated twice, with `np` and the arrays of `operands` from
NumPy and from chunkarr. Both have to give the same value, shape and dtype, a scalar where the other
gives one, or an exception of the same type.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

import chunkarr
from chunkarr.arrays import Array
from chunkarr.settings import settings

NDArray = npt.NDArray[Any]

DTYPES = ("?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8", "c8", "c16")
REAL = ("?", "i1", "u1", "i4", "i8", "u8", "f2", "f4", "f8")
NUMBERS = ("i1", "u1", "i8", "f2", "f4", "f8", "c16")


FEW = ("i4", "f8")

SHAPES = {
    "x": (7, 5),
    "y": (7, 5),
    "r": (5,),
    "c": (7, 1),
    "z": (),
    "v": (23,),
    "w": (23,),
    "e": (0, 5),
    "t": (3, 4, 2),
    "a": (4, 6),
    "b": (6, 3),
}
"""The arrays that cases may name; `m`, `n` and `k` are masks of the shapes of x, v and the rows."""


def distinct(modes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Leave out modes that come to the settings of a later one, as the environment sets some."""
    now = settings()
    known = {"eager_bytes": now.eager_bytes, "chunk_bytes": now.chunk_bytes}
    last = {tuple((known | changed).items()): name for name, changed in modes.items()}
    return {name: changed for name, changed in modes.items() if name in last.values()}


MODES = distinct(
    {"usual": {}, "chunks": {"eager_bytes": 0}, "tiny": {"eager_bytes": 0, "chunk_bytes": 64}}
)
"""Settings under which everything runs: small work eager, one chunk, and very many chunks."""


def values(dtype: str, shape: tuple[int, ...], seed: int) -> NDArray:
    """Give numbers with zeros, both signs, ties and, for floats, NaN and infinity among them."""
    kind = np.dtype(dtype).kind
    rng = np.random.default_rng(seed)
    if kind == "b":
        return np.asarray(rng.random(shape) < 0.5)
    if kind in "iu":
        return np.asarray(rng.integers(0 if kind == "u" else -6, 7, shape)).astype(dtype)
    made = rng.integers(-12, 13, shape) / 4
    if kind == "c":
        made = made + 1j * rng.integers(-12, 13, shape) / 4
    out = np.asarray(made).astype(dtype)
    if out.size > 20 and seed % 2 == 0:
        flat = out.reshape(-1)
        flat[[3, 17]] = np.nan
        flat[[5, 11]] = np.inf, -np.inf
    return out


@functools.cache
def operands(dtype: str, other: str | None = None) -> Mapping[str, NDArray]:
    """Give the arrays that cases name: all of one dtype, or y, r and w of another; not to write."""
    made = {
        name: values(other if other and name in "yrw" else dtype, shape, seed)
        for seed, (name, shape) in enumerate(SHAPES.items())
    }
    masks = np.random.default_rng(5).random((3, 7, 5)) < 0.4
    made["m"], made["k"] = masks[0], masks[1, :, 0]
    made["n"] = np.random.default_rng(6).random(23) < 0.5
    for array in made.values():
        array.flags.writeable = False
    return MappingProxyType(made)


def usual(array: NDArray) -> Array:
    """Hold an array as `chunkarr.array` does."""
    made: Array = chunkarr.array(array)
    return made


def uneven(array: NDArray) -> Array:
    """Hold an array that is cut unevenly and not in memory for the planner's part."""
    sizes = tuple((n // 2 - 1, 1, n - n // 2) if n > 3 else (n,) if n else -1 for n in array.shape)
    return chunkarr.from_array(array.copy(), chunks=sizes)


Outcome = tuple[str, Any]


def outcome(run: Callable[[], Any]) -> Outcome:
    """Give what a call comes to: ("value", it) or ("raises", the exception)."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return "value", settle(run())
        except Exception as error:  # noqa: BLE001 - any exception is an answer to compare
            return "raises", error


class Scalar:
    """What stands for a NumPy scalar, told from an array without axes."""

    def __init__(self, array: NDArray) -> None:
        self.array = array


def settle(value: Any) -> Any:
    """Compute what is lazy, and mark what is a scalar."""
    if isinstance(value, Array):
        shape, dtype = value.shape, value.dtype
        whole = value.compute()
        assert type(whole) is np.ndarray
        assert (whole.shape, whole.dtype) == (shape, dtype), "promised other shape or dtype"
        return Scalar(whole) if value.is_scalar else whole
    if isinstance(value, np.generic):
        return Scalar(np.asarray(value))
    if isinstance(value, tuple | list):
        return [settle(part) for part in value]
    return value


def evaluate(text: str, arrays: Mapping[str, Any], np_: Any) -> Any:
    """Run a case: one expression, or statements whose last line is an expression."""
    *lines, last = text.strip().split("\n")
    names: dict[str, Any] = {"np": np_, "numpy": np, **arrays}
    exec("\n".join(lines), names)
    return eval(last, names)


def differences(text: str, arrays: Mapping[str, NDArray], make: Callable[[NDArray], Array]) -> str:
    """Compare one case on NumPy and chunkarr; gives what differs, or the empty string."""
    own = {name: array.copy() for name, array in arrays.items()}
    wanted = outcome(lambda: evaluate(text, own, np))
    theirs = {name: make(array) for name, array in arrays.items()}
    got = outcome(lambda: evaluate(text, theirs, chunkarr))
    return compare(wanted, got)


def compare(wanted: Outcome, got: Outcome) -> str:
    """Say how two outcomes differ; the empty string if they do not."""
    if wanted[0] != got[0]:
        return f"NumPy {wanted[0]} {_show(wanted[1])}, chunkarr {got[0]} {_show(got[1])}"
    if wanted[0] == "raises":
        if isinstance(got[1], public_type(wanted[1])):
            return ""
        return f"NumPy raises {wanted[1]!r}, chunkarr {got[1]!r}"
    return "; ".join(_unlike(wanted[1], got[1]))


def public_type(error: Exception) -> type[Exception]:
    """Give the exception type a user would catch: private subclasses stand for their base."""
    for kind in type(error).__mro__:
        if kind.__module__ in ("builtins", "numpy.exceptions", "numpy.linalg"):
            return kind
    raise AssertionError


def _show(value: Any) -> str:
    return repr(value.array if isinstance(value, Scalar) else value)[:300]


def _unlike(a: Any, b: Any) -> Iterator[str]:
    if isinstance(a, list):
        if not isinstance(b, list) or len(a) != len(b):
            yield f"{_show(a)} against {_show(b)}"
            return
        for one, other in zip(a, b, strict=True):
            yield from _unlike(one, other)
        return
    if isinstance(a, Scalar) != isinstance(b, Scalar):
        yield f"scalar or not: {type(a).__name__} against {type(b).__name__}"
    one, other = (v.array if isinstance(v, Scalar) else v for v in (a, b))
    if not isinstance(one, np.ndarray) or not isinstance(other, np.ndarray):
        if type(one) is not type(other) or repr(one) != repr(other):
            yield f"{one!r} against {other!r}"
        return
    if one.shape != other.shape or one.dtype != other.dtype:
        yield f"{one.shape} {one.dtype} against {other.shape} {other.dtype}"
    elif not close(one, other):
        yield f"{one!r} against {other!r}"


def close(a: NDArray, b: NDArray) -> bool:
    """Tell whether values agree: bits, but for the last few of floats."""
    if a.dtype.hasobject:
        return repr(a) == repr(b)
    if a.dtype.kind not in "fc":
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "mM"))
    if a.dtype.kind == "c":
        # Which infinities turn into NaN in complex arithmetic depends on the order of operations.
        finite = np.isfinite(a)
        if not np.array_equal(finite, np.isfinite(b)):
            return False
        a, b = a[finite], b[finite]
    eps = float(np.finfo(a.dtype).eps)
    with np.errstate(all="ignore"):
        scale = float(np.max(np.abs(np.where(np.isfinite(a), a, 0)), initial=1.0))
        return bool(np.allclose(a, b, rtol=32 * eps, atol=8 * eps * scale, equal_nan=True))


def times() -> dict[str, NDArray]:
    """Make dates s and durations d, some of them NaT."""
    days = np.random.default_rng(3).integers(0, 20, 13)
    s = np.datetime64("2020-01-01") + days * np.timedelta64(36, "h")
    d = (days - 9).astype("m8[s]")
    s[4] = d[6] = "NaT"
    return {"s": s, "d": d}


def words() -> dict[str, NDArray]:
    """Make texts s and bytes b, each several times."""
    s = np.array(["ab", "c d", "E", "xyz", "12", "q"] * 4)[:23]
    return {"s": s, "b": np.array([b"ab", b"c d", b"E", b"xyz", b"12"] * 5)[:23]}
