"""`numpy.lib`: its public parts, of which `stride_tricks` looks at chunked arrays in new shapes."""

from __future__ import annotations

import sys

from chunkarr import emath as scimath
from chunkarr import strided
from chunkarr.mirror import Chapter, mirrored

stride_tricks = mirrored(
    "lib.stride_tricks",
    {"as_strided": strided.as_strided, "sliding_window_view": strided.sliding_window_view},
)
array_utils, format, introspect, mixins, npyio, recfunctions, user_array = (
    mirrored(f"lib.{part}")
    for part in (
        *("array_utils", "format", "introspect", "mixins"),
        *("npyio", "recfunctions", "user_array"),
    )
)
sys.modules["chunkarr.lib.scimath"] = scimath

_chapter = Chapter("lib")
__getattr__ = _chapter.find
__dir__ = _chapter.names
