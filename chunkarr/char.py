"""`numpy.char`: what `strings` has under its older names, and arrays of class `chararray`."""

from __future__ import annotations

from chunkarr.mirror import Chapter

_chapter = Chapter("char")
__getattr__ = _chapter.find
__dir__ = _chapter.names
