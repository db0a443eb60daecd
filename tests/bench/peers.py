"""What a peer needs to be told for a work: numexpr its text, Blosc2 its calls, Numba its loop.

Loops are written as somebody would write them who knows Numba: one pass, `fastmath` where sums may
be taken in another order, a half of the data for each of the workers, tiles where memory asks for
them. What a peer cannot say it has no row for: numexpr and Blosc2's lazy expressions have no
positions, no histograms, no transposes and no shifted windows that are read once.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numba
import numpy as np

from tests.bench.harness import WORKERS, installed

TILE = 64
"""The side of a square of float64 that fits the first-level cache twice."""
BINS, LOW, HIGH = 100, -6.0, 6.0

_compiled = numba.njit(nogil=True, fastmath={"reassoc"})
Pool = ThreadPoolExecutor


@_compiled  # type: ignore[untyped-decorator]
def _chain(x: Any, y: Any) -> float:
    total = 0.0
    for i in range(x.size):
        total += (x[i] * 2 + y[i]) / (y[i] * y[i] + 3) - 0.5 * x[i]
    return total


@_compiled  # type: ignore[untyped-decorator]
def _waves(a: Any, b: Any) -> float:
    total = 0.0
    for i in range(a.size):
        total += math.exp(-a[i] * a[i]) * math.sin(b[i])
    return total


@_compiled  # type: ignore[untyped-decorator]
def _roots(a: Any, b: Any, out: Any) -> None:
    for i in range(a.size):
        out[i] = math.sqrt(a[i] * a[i] + b[i] * b[i]) + math.tanh(a[i])


@_compiled  # type: ignore[untyped-decorator]
def _chosen(a: Any, b: Any, out: Any) -> None:
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            value = a[i, j] * b[i, j] if a[i, j] > b[i, j] else a[i, j] / b[i, j]
            out[j] = max(out[j], value)


@_compiled  # type: ignore[untyped-decorator]
def _both_ways(x: Any, out: Any, first: int, last: int) -> None:
    for i in range(first, last, TILE):
        for j in range(0, x.shape[1], TILE):
            for k in range(i, min(i + TILE, last)):
                for m in range(j, min(j + TILE, x.shape[1])):
                    out[k, m] = x[k, m] + x[m, k]


@_compiled  # type: ignore[untyped-decorator]
def _moments(x: Any) -> tuple[float, float, float, float, int]:
    total, squares, low, high, place = 0.0, 0.0, x[0], x[0], 0
    for i in range(x.size):
        total += x[i]
        squares += x[i] * x[i]
        low = min(low, x[i])
        if x[i] > high:
            high, place = x[i], i
    return total, squares, low, high, place


@_compiled  # type: ignore[untyped-decorator]
def _counts(x: Any, counts: Any) -> None:
    for i in range(x.size):
        place = int((x[i] - LOW) * (BINS / (HIGH - LOW)))
        if LOW <= x[i] < HIGH:
            counts[place] += 1


@_compiled  # type: ignore[untyped-decorator]
def _five_points(x: Any, out: Any, first: int, last: int) -> None:
    for i in range(first, last):
        for j in range(out.shape[1]):
            around = x[i, j + 1] + x[i + 2, j + 1] + x[i + 1, j] + x[i + 1, j + 2]
            out[i, j] = 0.25 * around - x[i + 1, j + 1]


def _halves(count: int) -> list[slice]:
    part = -(-count // WORKERS)
    return [slice(i * part, min(count, (i + 1) * part)) for i in range(WORKERS)]


def chain_by_hand(pool: Pool, x: Any, y: Any) -> float:
    """Add up a chain and divide by its length."""
    return float(sum(pool.map(lambda s: _chain(x[s], y[s]), _halves(x.size))) / x.size)


def waves_by_hand(pool: Pool, a: Any, b: Any) -> float:
    """Add up a product of elementary functions."""
    return float(sum(pool.map(lambda s: _waves(a[s], b[s]), _halves(a.size))))


def roots_by_hand(pool: Pool, a: Any, b: Any) -> Any:
    """Write elementary functions to a new array."""
    out = np.empty_like(a)
    list(pool.map(lambda s: _roots(a[s], b[s], out[s]), _halves(a.size)))
    return out


def chosen_by_hand(pool: Pool, a: Any, b: Any) -> Any:
    """Take the greatest of each column of a choice."""
    out = np.full((WORKERS, a.shape[1]), -np.inf, a.dtype)
    spans = enumerate(_halves(len(a)))
    list(pool.map(lambda one: _chosen(a[one[1]], b[one[1]], out[one[0]]), spans))
    return out.max(axis=0)


def both_ways_by_hand(pool: Pool, x: Any) -> Any:
    """Add a matrix and its transpose."""
    out = np.empty_like(x)
    list(pool.map(lambda s: _both_ways(x, out, s.start, s.stop), _halves(len(x))))
    return out


def moments_by_hand(pool: Pool, x: Any) -> tuple[Any, ...]:
    """Take five reductions in one pass."""
    spans = _halves(x.size)
    found = list(pool.map(lambda s: _moments(x[s]), spans))
    mean = sum(part[0] for part in found) / x.size
    spread = sum(part[1] for part in found) / x.size - mean * mean
    _, _, _, high, place = max(found, key=lambda part: part[3])
    start = next(s.start for s, part in zip(spans, found, strict=True) if part[3] == high)
    return mean, math.sqrt(spread), min(part[2] for part in found), high, start + place


def counts_by_hand(pool: Pool, x: Any) -> Any:
    """Count values in bins of one width."""
    counts = np.zeros((WORKERS, BINS), np.int64)
    list(pool.map(lambda one: _counts(x[one[1]], counts[one[0]]), enumerate(_halves(x.size))))
    return counts.sum(axis=0)


def five_points_by_hand(pool: Pool, x: Any) -> Any:
    """Look at four neighbours."""
    out = np.empty((x.shape[0] - 2, x.shape[1] - 2))
    list(pool.map(lambda s: _five_points(x, out, s.start, s.stop), _halves(len(out))))
    return out


def with_numexpr(
    text: str, finish: Callable[[Any], Any], operands: Callable[..., dict[str, Any]], arrays: Any
) -> Callable[[], Any] | None:
    """Give numexpr's way, None where it is not installed. Its own sums run on one thread only."""
    if not installed("numexpr"):
        return None
    numexpr: Any = importlib.import_module("numexpr")
    numexpr.set_num_threads(WORKERS)
    return lambda: finish(numexpr.evaluate(text, operands(*arrays)))


def with_blosc2(run: Callable[..., Any], arrays: Sequence[Any]) -> Callable[[], Any] | None:
    """Give Blosc2's way, a lazy expression of its own arrays, None where it is not installed."""
    if not installed("blosc2"):
        return None
    blosc2: Any = importlib.import_module("blosc2")
    blosc2.set_nthreads(WORKERS)
    packed = [blosc2.asarray(x) for x in arrays]
    return functools.partial(run, blosc2, *packed)
