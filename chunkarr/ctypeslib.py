"""`numpy.ctypeslib`: C code is given addresses, which only arrays of NumPy's have.

`as_ctypes` refuses chunked arrays and says so; what C code has made becomes a chunked array.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.arrays import Array
from chunkarr.dispatch import refuse
from chunkarr.mirror import Chapter


def as_ctypes(obj: Any) -> Any:
    """Make an object of ctypes of an ndarray; raises NotYetError for a chunked array."""
    if isinstance(obj, Array):
        raise refuse("ctypeslib.as_ctypes", "give it x.compute(), and keep that while C uses it")
    return np.ctypeslib.as_ctypes(obj)


_chapter = Chapter("ctypeslib", {"as_ctypes": as_ctypes})
__getattr__ = _chapter.find
__dir__ = _chapter.names
