"""What `x.flags` tells and sets: the layout that NumPy would have, and whether writing is allowed.

Chunks have no layout of their own. What is told is that of the array in memory, and for all others
that of an array in C order and of its views.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from chunkarr.arrays import Array
from chunkarr.views import outline

LAYOUT = ("c_contiguous", "f_contiguous", "contiguous", "fortran", "forc", "fnc")
SHORT = {"C": "c_contiguous", "F": "f_contiguous", "O": "owndata", "W": "writeable"}
SHORT |= {"A": "aligned", "X": "writebackifcopy", "B": "behaved", "CA": "carray", "FA": "farray"}
PRINTED = ("c_contiguous", "f_contiguous", "owndata", "writeable", "aligned", "writebackifcopy")
NUMBERS = (0x1, 0x2, 0x4, 0x400, 0x100, 0x2000)
"""The bits of `num`, in the order of `PRINTED`."""


class Flags:
    """NumPy's flags of one array, by attribute and by key; only `writeable` can be set."""

    __slots__ = ("_array",)
    _array: Array

    def __init__(self, array: Array) -> None:
        object.__setattr__(self, "_array", array)

    def __getattr__(self, name: str) -> bool | int:
        array = self._array
        if name in LAYOUT:
            shown = outline(array.strides, array.shape, np.dtype(f"V{array.itemsize}"))
            return bool(getattr(shown.flags, name))
        if name == "owndata":
            return array.base is None
        if name == "writeable":
            return array.writable
        if name == "aligned":
            return True
        if name == "writebackifcopy":
            return False
        if name == "behaved":
            return array.writable
        if name in ("carray", "farray"):
            return array.writable and bool(getattr(self, f"{name[0]}_contiguous"))
        if name == "num":
            return sum(
                bit for bit, flag in zip(NUMBERS, PRINTED, strict=True) if getattr(self, flag)
            )
        message = f"'Flags' object has no attribute {name!r}"
        raise AttributeError(message)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "writeable":
            message = f"flag {name!r} cannot be set: chunks have no layout"
            raise AttributeError(message)
        self._array.set_writable(bool(value))

    def __getitem__(self, key: str) -> bool | int:
        try:
            return getattr(self, SHORT.get(key, key.lower()))  # type: ignore[no-any-return]
        except AttributeError:
            raise KeyError("Unknown flag") from None

    def __setitem__(self, key: str, value: Any) -> None:
        if SHORT.get(key, key.lower()) != "writeable":
            raise KeyError("Unknown flag")
        self.writeable = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Flags) and self.num == other.num

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "\n".join(f"  {name.upper()} : {getattr(self, name)}" for name in PRINTED) + "\n"


def setflags(
    self: Array, write: bool | None = None, align: bool | None = None, uic: bool | None = None
) -> None:
    """Allow or forbid writing, for this array and for views that are made of it later.

    Raises ValueError where what the array looks at is read-only, and for flags that chunks lack.
    """
    if uic:
        message = "cannot set WRITEBACKIFCOPY flag to True"
        raise ValueError(message)
    if align is False:
        message = "cannot set aligned flag to False: chunks are always aligned"
        raise ValueError(message)
    if write is not None:
        self.set_writable(write)
