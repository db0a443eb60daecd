"""All functions by name, as `compile` hands them to Numba; loads LLVM's bindings."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from typing import Any

from chunkarr.kernels.vecmath import EXACT_MODULES, MODULES, THOROUGH_MODULES


def functions() -> dict[str, Callable[..., Any]]:
    """Give the functions of `Value`s by the name that they have in generated source."""
    tables = (MODULES, EXACT_MODULES, THOROUGH_MODULES)
    found = {}
    for module, names in itertools.chain.from_iterable(table.items() for table in tables):
        loaded = importlib.import_module(f"chunkarr.kernels.vecmath.{module}")
        found.update({name: getattr(loaded, name) for name in names})
    return found
