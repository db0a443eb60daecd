"""`numpy.ma`: masked arrays are NumPy's own, in memory.

Functions take chunked arrays whose values fit the memory limit, and give NumPy's masked arrays;
what has no mask comes back as a chunked array. Parts are `ma.extras`, `ma.mrecords` and `ma.core`.
"""

from __future__ import annotations

from chunkarr.mirror import Chapter, mirrored

_chapter = Chapter("ma")
__getattr__ = _chapter.find
__dir__ = _chapter.names

core, extras, mrecords = map(mirrored, ("ma.core", "ma.extras", "ma.mrecords"))
