"""Users' functions as operations of a program: the LLVM code that Numba has made of them.

Numba compiles a scalar function with the values of all globals and closures that it names. A kernel
takes in that very code, and its hash is the operation's name: functions that do the same share
kernels, in this process and on disk, and nothing that a function depends on is left out of the key.
Rejected: the hash of bytecode and constants, which says nothing of the functions that are called.

The operation's first operand is a constant that holds the function. NumPy's tier calls it on
pieces, and kernels never read it; on its way to a worker it carries the code along.
"""

from __future__ import annotations

import importlib
import re
import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from chunkarr.kernels.vecmath import CALLING, LIBRARY
from chunkarr.kernels.vecmath import PREFIX as OURS
from chunkarr.kernels.vecmath import USERS as PREFIX
from chunkarr.records import dataclass

Dtype = np.dtype[Any]

_ELEMENTARY = re.compile(rf"call .*@(?:llvm\.)?(?:{'|'.join(LIBRARY)})(?:f|\.f32|\.f64)?\(")

RAISED = 1 << 17
"""The flag of a kernel in which a function has raised: NumPy's tier does the piece again."""

ENTRY = "chunkarr_user"
"""The symbol of a function in its code."""

CODES_MAX = 1024
"""So many functions are remembered; kernels of others are not compiled any more."""


class Code(NamedTuple):
    """One loop of a function."""

    text: str
    """A module of LLVM that has `ENTRY`, called as Numba calls functions."""
    loop: tuple[Dtype, ...]
    """The dtypes of the operands, then that of the result."""
    boxed: tuple[bool, ...] = ()
    """For each of these, whether it is passed as an array of one element; () where none is."""
    core: tuple[int, ...] = ()
    """For each of these, the number of its core axes; () where there are none at all."""

    @property
    def key(self) -> str:
        """Name what the code does."""
        # It brings a library that takes longer to load than most first results.
        hashlib = importlib.import_module("hashlib")
        return str(hashlib.sha256(repr(self).encode()).hexdigest()[:32])


_codes: dict[str, Code] = {}
_lock = threading.Lock()


@dataclass(frozen=True, eq=False)
class UserFunction:
    """A ufunc that was made of a function of scalars, with the code of the loop that was chosen."""

    ufunc: Any
    code: Code

    def __post_init__(self) -> None:
        remember(self.code)

    @property
    def name(self) -> str:
        """The name of the operation."""
        plain = re.sub(r"[^A-Za-z0-9]", "_", self.ufunc.__name__)
        mark = CALLING if _ELEMENTARY.search(self.code.text) else "."
        return f"{PREFIX}{plain}{mark}{self.code.key}"

    def __call__(self, *args: Any) -> Any:
        """Apply the ufunc."""
        return self.ufunc(*args)

    def __reduce__(self) -> tuple[object, ...]:
        return UserFunction, (self.ufunc, self.code)


def remember(code: Code) -> None:
    """Keep code for kernels that call it, the latest longest."""
    key = code.key
    with _lock:
        _codes.pop(key, None)
        _codes[key] = code
        if len(_codes) > CODES_MAX:
            del _codes[next(iter(_codes))]


def is_users(name: str) -> bool:
    """Whether an operation is a user's function."""
    return name.removeprefix(OURS).removeprefix("any_").startswith(PREFIX)


def symbol(name: str) -> str:
    """Give the name that an operation's function has in generated source.

    >>> symbol("user.f.12"), symbol("vecmath.any_user.g.math.34")
    ('user_12', 'vec_any_user_34')
    """
    version = name.partition(PREFIX)[0].replace(OURS, "vec_")
    return f"{version}user_{name.rpartition('.')[2]}"


def codes_in(source: str) -> dict[str, Code]:
    """Give the code of each function that generated source calls, by its name there.

    Raises LookupError for one that was forgotten.
    """
    names = dict.fromkeys(re.findall(r"\b((?:vec_(?:any_)?)?user_[0-9a-f]{32})\(", source))
    with _lock:
        return {name: _codes[name.rpartition("_")[2]] for name in names}


def any_users(names: Iterable[str]) -> bool:
    """Whether any of these operations is a user's function."""
    return any(map(is_users, names))
