"""`numpy.ma`: masked arrays are NumPy's own, in memory.

Functions take chunked arrays whose values fit the memory limit, and give NumPy's masked arrays;
what has no mask comes back as a chunked array. Parts are `ma.extras`, `ma.mrecords` and `ma.core`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.arrays import Array
from chunkarr.dispatch import arrays_in, convert
from chunkarr.mirror import COPIES, Chapter, mirrored
from chunkarr.whole import check_fit


class _Kind(type):
    """The type of `MaskedArray`: calling it makes NumPy's masked arrays, which are its instances.

    NumPy's own class would look at a chunked array through its read-only buffer, and writing to
    what is not masked would fail.
    """

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if cls is not MaskedArray:
            return super().__call__(*args, **kwargs)
        given = arrays_in((*args, *kwargs.values()))
        if given:
            check_fit("ma.MaskedArray", given, COPIES)
        plain = [convert(a, Array.compute) for a in args]
        named = {k: convert(v, Array.compute) for k, v in kwargs.items()}
        return np.ma.MaskedArray(*plain, **named)

    def __instancecheck__(cls, instance: object) -> bool:
        if cls is MaskedArray:
            return isinstance(instance, np.ma.MaskedArray)
        return super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        if cls is MaskedArray:
            return issubclass(subclass, np.ma.MaskedArray)
        return super().__subclasscheck__(subclass)


class MaskedArray(np.ma.MaskedArray, metaclass=_Kind):
    """NumPy's class of arrays with masks, made of chunked arrays too."""


own: dict[str, Any] = {"MaskedArray": MaskedArray, "masked_array": MaskedArray}
_chapter = Chapter("ma", own)
__getattr__ = _chapter.find
__dir__ = _chapter.names

core, extras, mrecords = (mirrored(f"ma.{part}", own) for part in ("core", "extras", "mrecords"))
