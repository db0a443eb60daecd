"""`numpy.testing`: NumPy's own assertions, which take chunked arrays as they take any array-like.

They compare values in memory, so what they are given has to fit the limit.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import numpy as np
import numpy.testing
from numpy.testing import overrides

from chunkarr.arrays import Array
from chunkarr.dispatch import convert
from chunkarr.mirror import Chapter

CALLING = (
    *("assert_no_gc_cycles", "assert_no_warnings"),
    *("assert_raises", "assert_raises_regex", "assert_warns"),
)
"""Assertions about a call, whose arguments stay what they are."""


def _plain(value: Any) -> Any:
    """Give NumPy's arrays and scalars for chunked ones, in containers too."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return convert(value, _values)


def _values(array: Array) -> Any:
    return array.compute()[()] if array.is_scalar else np.asarray(array)


def _asserting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def public(*args: Any, **kwargs: Any) -> Any:
        return function(*map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})

    return public


own: dict[str, Any] = {name: getattr(numpy.testing, name) for name in numpy.testing.__all__}
for name, value in own.items():
    if name.startswith("assert_") and isinstance(value, FunctionType) and name not in CALLING:
        own[name] = _asserting(value)

_chapter = Chapter("testing", own | {"overrides": overrides})
__getattr__ = _chapter.find
__dir__ = _chapter.names
