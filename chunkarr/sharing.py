"""What is told of arrays without their values: sharing of elements, layout, scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr import namespace
from chunkarr.arrays import Array
from chunkarr.views import look, outline

NDArray = npt.NDArray[Any]


def _layout(array: Array, root: NDArray) -> NDArray:
    """Give an ndarray that lies over a stand-in for its root as the array does over its root."""
    below, lens = array._base, array._lens  # noqa: SLF001 - no other question needs the chain
    return root if below is None or lens is None else look(lens, _layout(below, root))


def _pair(a: Any, b: Any) -> tuple[Any, Any]:
    """Give two arrays as NumPy may compare them; empty ones where nothing can be shared."""
    if not (isinstance(a, Array) and isinstance(b, Array)):
        held = [x.in_memory if isinstance(x, Array) else x for x in (a, b)]
        return (held[0], held[1]) if held[0] is not None and held[1] is not None else APART
    root = a if a.base is None else a.base
    if root is not (b if b.base is None else b.base):
        # Handles may name one value; the first write to either takes them apart.
        return APART
    shown = outline(root.strides, root.shape, root.dtype)
    return _layout(a, shown), _layout(b, shown)


APART = (np.empty(0), np.empty(0))


def shares_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """Tell whether two arrays have an element in common, so that a write to one is seen in both."""
    return np.shares_memory(*_pair(a, b), max_work)


def may_share_memory(a: Any, b: Any, /, max_work: Any = None) -> bool:
    """Tell whether the memory that two arrays span overlaps."""
    return np.may_share_memory(*_pair(a, b), max_work)


def isfortran(a: Any) -> bool:
    """Tell whether an array lies in Fortran order and not in C order."""
    whole = namespace.asarray(a)
    return outline(whole.strides, whole.shape, whole.dtype).flags.fnc


def isscalar(element: Any) -> bool:
    """Tell whether something is a scalar, NumPy's or Python's, and not an array without axes."""
    return element.is_scalar if isinstance(element, Array) else np.isscalar(element)
