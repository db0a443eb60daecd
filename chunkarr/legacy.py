"""Functions that hand the values of small things to NumPy: matrices, and numbers as text."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from chunkarr.arrays import Array
from chunkarr.mirror import on_values

asmatrix = on_values("asmatrix", np.asmatrix)
format_float_positional = on_values("format_float_positional", np.format_float_positional)
format_float_scientific = on_values("format_float_scientific", np.format_float_scientific)
info = on_values("info", np.info)
_bmat = on_values("bmat", np.bmat)


def bmat(
    obj: Any, ldict: Mapping[str, Any] | None = None, gdict: Mapping[str, Any] | None = None
) -> Any:
    """Make a matrix of blocks, given as nested lists, or as text that names variables."""
    if not isinstance(obj, str):
        return _bmat(obj)
    if gdict is None:
        frame = sys._getframe(1)  # noqa: SLF001 - the caller's variables, as in NumPy
        ldict, gdict = frame.f_locals, frame.f_globals
    names = set(obj.replace(";", " ").replace(",", " ").split())
    known = dict(gdict) | dict(ldict or {})
    values = {k: v.compute() if isinstance(v, Array) else v for k, v in known.items() if k in names}
    return _bmat(obj, values, values)
