"""Users' scalar functions compiled by Numba; loaded when somebody asks for one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba

Function = Callable[..., Any]


def elementwise(function: Function, signatures: Any, options: dict[str, Any]) -> Any:
    """Compile a function of numbers into a ufunc, one loop per signature, or one per use."""
    return (
        numba.vectorize(signatures, **options)(function)
        if signatures
        else numba.vectorize(**options)(function)
    )


def generalized(function: Function, signatures: Any, layout: str, options: dict[str, Any]) -> Any:
    """Compile a function that fills its last arguments into a generalised ufunc."""
    return numba.guvectorize(signatures, layout, **options)(function)
