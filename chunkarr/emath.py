"""`numpy.emath`: roots, logarithms and inverse functions that turn complex where they have to.

Whether they have to is a question to the values, so it is answered when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.dispatch import give, ndarray_of, small
from chunkarr.mirror import Chapter
from chunkarr.ufuncs import TABLE

Function = Callable[..., Any]


def _negative(x: Array) -> Any:
    return (x < 0).any()


def _beyond_one(x: Array) -> Any:
    return (abs(x) > 1).any()


LEAVES: dict[str, Function] = {
    "sqrt": _negative,
    "log": _negative,
    "log2": _negative,
    "log10": _negative,
    "arccos": _beyond_one,
    "arcsin": _beyond_one,
    "arctanh": _beyond_one,
}
"""Functions, and whether an array has values that lead out of the real numbers."""


def _widened(x: Array, leaves: Function) -> Any:
    if x.dtype.kind == "c" or not bool(leaves(x)):
        return x
    return x.astype(np.result_type(x.dtype, np.complex64))


def _extended(name: str) -> Function:
    numpy_function, leaves = getattr(np.emath, name), LEAVES[name]

    def public(x: Any) -> Any:
        whole = namespace.asarray(x)
        if small([whole]):
            return give(numpy_function(ndarray_of(whole)))
        return TABLE[name](_widened(whole, leaves))

    public.__name__ = public.__qualname__ = name
    public.__doc__ = f"Run `numpy.emath.{name}`, looking at the values first."
    return public


own: dict[str, Any] = {name: _extended(name) for name in LEAVES}


def logn(n: Any, x: Any) -> Any:
    """Give logarithms to a base."""
    return own["log"](x) / own["log"](n)


def power(x: Any, p: Any) -> Any:
    """Raise to powers: negative numbers as complex ones, integers to negative powers as floats."""
    base = _widened(namespace.asarray(x), _negative)
    exponent = namespace.asarray(p)
    if exponent.dtype.kind in "iu" and bool(_negative(exponent)):
        exponent = exponent.astype(float)
    return TABLE["power"](base, exponent)


_chapter = Chapter("emath", own | {"logn": logn, "power": power}, "lib.scimath")
__getattr__ = _chapter.find
__dir__ = _chapter.names
