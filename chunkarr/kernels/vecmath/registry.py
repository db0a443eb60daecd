"""All functions by name, as `compile` hands them to Numba; loads LLVM's bindings."""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from chunkarr.kernels.vecmath import (
    COMPLEX_MODULES,
    COMPLEX_SLOWER,
    EXACT_MODULES,
    MODULES,
    THOROUGH_MODULES,
)
from chunkarr.kernels.vecmath.angles import any_angle

Function = Callable[..., Any]
Tables = tuple[Mapping[str, tuple[str, ...]], ...]


def _loaded(tables: Tables) -> Iterator[tuple[str, Function]]:
    for module, names in itertools.chain.from_iterable(table.items() for table in tables):
        loaded = importlib.import_module(f"chunkarr.kernels.vecmath.{module}")
        yield from ((name, getattr(loaded, name)) for name in names)


def functions() -> dict[str, tuple[Function, int]]:
    """Give the functions of values by the name that they have in generated source; and operands."""
    tables = (MODULES, EXACT_MODULES, THOROUGH_MODULES)
    found = {name: (made, made.__code__.co_argcount) for name, made in _loaded(tables)}
    for name, made in _loaded((COMPLEX_MODULES,)):
        count = getattr(np, name).nin
        found[f"plane_{name}"] = made, count
        if name in COMPLEX_SLOWER:
            found[f"plane_any_{name}"] = functools.partial(made, reduce=any_angle), count
    return found
