"""Reducers that share a visit of the same values give what each of them gives alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.kernels import evaluate
from chunkarr.kernels.evaluate import reduce_region, reduce_regions
from chunkarr.kernels.layouts import reduce_recipe
from chunkarr.kernels.reducers import reducer_of
from tests.kernels.support import Array, assert_same_bits, kernels, plain, squares

NUMBERS = ["sum", "var", "min", "max", "argmax", "argmin", "prod"]
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((1,), (0,)),
    ((1023,), (0,)),
    ((1025,), (0,)),
    ((70_001,), (0,)),
    ((5, 3000), (1,)),
    ((3000, 5), (0,)),
    ((7, 3, 130), (0, 2)),
    ((3, 40, 50), (1, 2)),
]


def values(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Array:
    x = np.random.default_rng(seed).normal(size=shape) * 100
    x.reshape(-1)[:: max(3, x.size // 5)] = 0.0
    if dtype in {"f8", "f4"} and seed % 2:
        x.reshape(-1)[x.size // 2] = np.nan
    with np.errstate(all="ignore"):
        return np.asarray(x.astype(dtype))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "bool", "c16", "f2"])
@pytest.mark.parametrize(("shape", "axes"), SHAPES)
def test_all_together_are_each_alone(
    shape: tuple[int, ...], axes: tuple[int, ...], dtype: str
) -> None:
    names = {"bool": ["any", "all"], "c16": ["sum", "any"], "f2": ["min", "max"]}.get(
        dtype, NUMBERS if dtype[0] == "f" else [n for n in NUMBERS if n != "var"]
    )
    names = [*names, names[0]]
    origin, extent = (3,) * len(shape), tuple(n + 5 for n in shape)
    for seed in (0, 1):
        x = values(shape, dtype, seed)
        for mode in ("numpy", "compiled"):
            with kernels(mode):
                alone = [
                    reduce_region(plain(dtype), n, [x], shape, axes, origin, extent) for n in names
                ]
                found = reduce_regions(plain(dtype), names, [x], shape, axes, origin, extent)
            for left, right in zip(found, alone, strict=True):
                for one, other in zip(left, right, strict=True):
                    assert_same_bits(one, other)


@pytest.mark.parametrize("names", [["sum", "var"], ["argmin", "prod", "max", "var"]])
@pytest.mark.parametrize("n", [1, 1000, 5000])
def test_any_company_leaves_the_bits_alone(names: list[str], n: int) -> None:
    arrays = [values((n,), "f8", seed)[::-1] for seed in (1, 2, 3)]
    shape = (n,)
    with kernels("compiled"):
        found = reduce_regions(squares(), names, arrays, shape, (0,))
        for name, state in zip(names, found, strict=True):
            for one, other in zip(
                state, reduce_region(squares(), name, arrays, shape, (0,)), strict=True
            ):
                assert_same_bits(one, other)


@pytest.mark.parametrize(
    ("dtype", "names", "shape", "axes", "together"),
    [
        ("f8", ["sum", "var", "min", "max", "argmax"], (5000,), (0,), True),
        ("i4", ["min", "argmax"], (4, 5000), (1,), True),
        ("f8", ["any", "all"], (5000,), (0,), True),
        ("f8", ["sum", "any"], (5000,), (0,), False),
        ("f8", ["sum", "min"], (5000, 9), (0,), False),
    ],
)
def test_who_takes_the_same_panels_shares_a_kernel(
    dtype: str, names: list[str], shape: tuple[int, ...], axes: tuple[int, ...], together: bool
) -> None:
    reducers = tuple(map(reducer_of, names))
    recipe = reduce_recipe(plain(dtype), reducers, [np.zeros(shape, dtype)], shape, axes)
    assert (recipe is not None) == together


def test_values_are_computed_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    compiled = evaluate._reduce_compiled

    def counted(*args: Any) -> Any:
        calls.append(len(args[3]))
        return compiled(*args)

    monkeypatch.setattr(evaluate, "_reduce_compiled", counted)
    x: Any = chunkarr.from_array(np.arange(6000.0))
    with kernels("compiled"), chunkarr.config(eager_bytes=0, chunk_bytes=24_000):
        y = (x - 1) * (x - 1)
        found = chunkarr.compute(y.min(), y.max(), y.std(), y.argmax())
    assert calls == [4, 4]
    plain_y = (np.arange(6000.0) - 1) ** 2
    assert [float(f) for f in found[:2]] == [plain_y.min(), plain_y.max()]
    assert float(found[2]) == pytest.approx(plain_y.std())
    assert int(found[3]) == 5999
