"""`numpy.strings` on arrays of any size: functions whose result's width follows from dtypes.

Others, such as `replace`, give strings as wide as the values need. They run on values that together
fit the memory limit.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from chunkarr.dispatch import lift
from chunkarr.functions.cores import Function
from chunkarr.functions.texts import on_texts
from chunkarr.mirror import Chapter

ELEMENTWISE = (
    *("add", "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha"),
    *("isdecimal", "isdigit", "islower", "isnumeric", "isspace", "istitle", "isupper", "lower"),
    *("lstrip", "rfind", "rindex", "rstrip", "startswith", "str_len", "strip", "swapcase"),
    *("title", "upper"),
)
"""Functions of strings, string by string, that know the width of what they give."""


def _elementwise(name: str) -> Function:
    numpy_function: Function = getattr(np.strings, name)

    def made(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            given = inspect.signature(numpy_function).bind(*args, **kwargs)
            given.apply_defaults()
            args = given.args
        return on_texts(name, args)

    made.__name__ = made.__qualname__ = name
    made.__doc__ = f"Run `numpy.strings.{name}` string by string."
    return lift(made, numpy_function, scalar=True)


_chapter = Chapter("strings", {name: _elementwise(name) for name in ELEMENTWISE})
__getattr__ = _chapter.find
__dir__ = _chapter.names
