"""`numpy.rec`: records with attributes, which are arrays of NumPy's in memory."""

from __future__ import annotations

from chunkarr.mirror import Chapter

_chapter = Chapter("rec")
__getattr__ = _chapter.find
__dir__ = _chapter.names
