"""Bins are found exactly, whatever their edges, and counted exactly, in both tiers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.expr.edges import Edges, Ladder
from chunkarr.kernels.counting import add_counts, locate, search, tally
from tests.kernels.support import Array, assert_same_bits, in_both

xp: Any = chunkarr
RNG = np.random.default_rng(0)

EDGES: dict[str, Callable[[Any], Array]] = {
    "even": lambda dtype: np.linspace(-3, 3, 101).astype(dtype),
    "even but for rounding": lambda dtype: np.array([0.1 * i for i in range(7)], dtype),
    "one bin": lambda dtype: np.array([0, 1], dtype),
    "no width": lambda dtype: np.array([1, 1], dtype),
    "repeated": lambda dtype: np.array([-2, 0, 0, 1, 1, 1, 2, 2], dtype),
    "growing": lambda dtype: np.geomspace(0.01, 50, 33).astype(dtype),
    "many": lambda dtype: np.sort(RNG.normal(size=1000)).astype(dtype),
    "a power of two": lambda dtype: np.sort(RNG.normal(size=65)).astype(dtype),
    "endless": lambda dtype: np.array([-np.inf, 0, 1, np.inf], dtype),
}


def held(edges: Array) -> Array:
    found = np.empty((), object)
    found[()] = Edges(edges)
    return found


def slow(edges: Array, values: Array) -> Array:
    """The definition: the last bin whose first edge a value reaches, up to the very last edge."""
    found = np.full(values.shape, -1)
    for place, value in np.ndenumerate(values):
        if edges[0] <= value <= edges[-1]:
            found[place] = min(int((edges <= value).sum()) - 1, edges.size - 2)
    return found


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "u1"])
@pytest.mark.parametrize("name", EDGES)
def test_each_value_is_in_its_bin(name: str, dtype: str) -> None:
    edges = EDGES[name](dtype if dtype[0] == "f" else "f8")
    around = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    wide = np.concatenate([around, RNG.normal(size=2000) * 2, [np.nan, np.inf, -np.inf]])
    with np.errstate(all="ignore"):
        values = wide.astype(dtype)
    for found in in_both(lambda: locate(held(edges), values.reshape(1, -1))):
        np.testing.assert_array_equal(found[0], slow(edges, values))


@pytest.mark.parametrize("dtype", ["f8", "f4", "f2", "i8", "i4", "u8"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", [*EDGES, "no steps", "with NaN", "NaN behind infinity"])
def test_each_value_finds_its_place(name: str, side: Any, dtype: str) -> None:
    more = {
        "no steps": np.zeros(0),
        "with NaN": np.array([-1, 0, np.inf, np.nan, np.nan]),
        "NaN behind infinity": np.array([*np.linspace(-3, 3, 21), np.inf, np.nan]),
    }
    steps = EDGES[name]("f8") if name in EDGES else more[name]
    wide = np.concatenate([steps, RNG.normal(size=1000) * 2, [np.nan, np.inf, -np.inf]])
    with np.errstate(all="ignore"):
        steps, values = (np.asarray(part).astype(dtype) for part in (steps, wide))
    ladder = np.empty((), object)
    ladder[()] = Ladder(np.sort(steps), side)
    for found in in_both(lambda: search(ladder, values.reshape(1, -1))):
        np.testing.assert_array_equal(found[0], np.searchsorted(np.sort(steps), values, side))


def test_one_value_is_found_where_numpy_finds_it_in_what_is_not_sorted() -> None:
    table = RNG.permutation(np.arange(997) / 4)
    wanted = RNG.choice(table, 50)

    def places() -> list[int]:
        return [int(xp.searchsorted(table, value)) for value in wanted]

    with xp.config(eager_bytes=0):
        found = in_both(places)
    assert found == ([int(np.searchsorted(table, value)) for value in wanted],) * 2


@pytest.mark.parametrize("dtype", ["f8", "f4", "i4", "u1"])
@pytest.mark.parametrize("spread", [1, 1e-7, 1e7])
@pytest.mark.parametrize("bins", [1, 7, 100, 4097])
def test_each_value_counts_for_its_bin(bins: int, spread: float, dtype: str) -> None:
    kind = dtype if dtype[0] == "f" else "f8"
    edges = np.linspace(-3 * spread, (3 + 1 / 3) * spread, bins + 1).astype(kind)
    edges = np.unique(edges)
    around = np.concatenate([edges, np.nextafter(edges, -np.inf), np.nextafter(edges, np.inf)])
    plain = RNG.normal(size=5000) * 2 * spread
    values = np.concatenate([plain, around, [np.nan, np.inf, -np.inf]])[::-1]
    with np.errstate(all="ignore"):
        values = values.astype(dtype)
    inside = values[(values >= edges[0]) & (values <= edges[-1])]
    places = np.minimum(np.searchsorted(edges, inside, "right"), edges.size - 1) - 1

    def counted() -> Array:
        counts = np.ones(edges.size - 1, np.int64)
        tally(held(edges), values.reshape(1, -1), counts)
        return counts

    for found in in_both(counted):
        np.testing.assert_array_equal(found - 1, np.bincount(places, minlength=edges.size - 1))


def test_integers_have_integer_edges() -> None:
    edges = np.array([-5, -1, 0, 0, 3, 2**62])
    values = RNG.integers(-10, 10, 3000)
    values[:2] = 2**62, 2**62 + 1
    for found in in_both(lambda: locate(held(edges), values[::-1])):
        np.testing.assert_array_equal(found, slow(edges, values[::-1]))


def test_even_edges_are_found_by_arithmetic() -> None:
    assert Edges(np.linspace(0, 1, 1000)).scale == 999
    for edges in ([0.0, 1, 2, 30], [1.0, 1], [0.0, np.inf], [0, 1, 2]):
        assert Edges(np.array(edges)).scale == 0


@pytest.mark.parametrize("bins", [1, 3, 1000, 10_000])
def test_what_lies_in_no_bin_is_not_counted(bins: int) -> None:
    places = RNG.integers(-bins, 2 * bins, 30_001)
    weights = RNG.normal(size=places.size)
    inside = (places >= 0) & (places < bins)

    def counted() -> tuple[Array, Array]:
        counts, sums = np.ones(bins, np.int64), np.ones(bins)
        add_counts(counts, places)
        add_counts(sums, places.reshape(1, -1), weights)
        return counts, sums

    first, second = in_both(counted)
    for left, right in zip(first, second, strict=True):
        assert_same_bits(left, right)
    expected = np.bincount(places[inside], minlength=bins) + 1
    np.testing.assert_array_equal(first[0], expected)
    np.testing.assert_array_equal(first[1], np.bincount(places[inside], weights[inside], bins) + 1)
