"""Floating-point events are told as NumPy tells them, once, from whatever tier and executor."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest

import chunkarr
from chunkarr import floats
from chunkarr.kernels import maps, tier

xp: Any = chunkarr


def values() -> tuple[Any, Any]:
    """Two arrays with a zero divisor, NaN and infinity, and finite values elsewhere."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60, 70))
    a[5, 7] = b[5, 7] = b[6, 7] = 0
    a[3, 3], a[10, 10] = np.nan, np.inf
    return a, b


@numba.vectorize(["f8(f8, f8)"])  # type: ignore[untyped-decorator]
def quotient(p: Any, q: Any) -> Any:
    return p / q


@numba.vectorize(["f8(f8, f8)"])  # type: ignore[untyped-decorator]
def farther(p: Any, q: Any) -> Any:
    return p * p if p > q else q - p


CASES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "divide": lambda np, a, b: a / b,
    "a chain": lambda np, a, b: (a * b + 1) / b,
    "divided where it is not chosen": lambda np, a, b: np.where(b > 0, a / b, 0.0),
    "compared with NaN": lambda np, a, b: np.where(a > b, a * 2, a + b).max(axis=0),
    "least and greatest of NaN": lambda np, a, b: np.minimum(a, b).max(axis=1),
    "clipped NaN": lambda np, a, b: a.clip(0, 1).sum(),
    "complex numbers compared with NaN": lambda np, a, b: (a + 1j * b >= b).sum(),
    "greatest of complex NaN": lambda np, a, b: np.maximum(a + 1j * b, b).imag.sum(axis=0),
    "root of negatives": lambda np, a, b: np.sqrt(b).sum(),
    "sum with NaN": lambda np, a, b: a.sum() + b.sum(),
    "sum of both infinities": lambda np, a, b: np.where(b > 0, np.inf, -np.inf).sum(),
    "infinity less itself": lambda np, a, b: (a - a).sum(axis=0),
    "variance of infinity": lambda np, a, b: np.where(np.isnan(a), 0, a).var(),
    "variance of NaN": lambda np, a, b: np.where(np.isinf(a), 0, a).var(),
    "variance too great": lambda np, a, b: (b * 1e200).var(),
    "overflow": lambda np, a, b: (b * 1e308).max(),
    "logarithm": lambda np, a, b: np.log(b) * 2 + 1,
    "exponential": lambda np, a, b: (np.exp(b * 1000) * b + 1).mean(),
    "to integers": lambda np, a, b: a.astype("i8").sum(),
    "to single precision": lambda np, a, b: (b * 1e300).astype("f4").sum(),
    "integers by zero": lambda np, a, b: (a > 9).astype("i8") // (b > 9).astype("i8"),
    "least integer by minus one": lambda np, a, b: (
        np.where(a > 9, np.int64(-(2**63)), 7) // np.where(a > 9, -1, 3)
    ).max(),
    "remainders by zero": lambda np, a, b: (np.ones(b.shape, "i4") % (b > 0)).sum(),
    "remainders by zero, signed": lambda np, a, b: np.fmod(7, (b > 0).astype("i2")).sum(0),
    "both by zero": lambda np, a, b: np.divmod(np.uint8(7), (b > 0).astype("u1"))[1].sum(1),
    "durations by zero": lambda np, a, b: ((b > 0).astype("m8[s]") / (a > 9).astype("i8")).max(),
    "durations by durations": lambda np, a, b: (
        np.where(a > 9, 0, 7).astype("m8[s]") / (b > 0).astype("m8[s]")
    ).max(axis=0),
    "durations counted": lambda np, a, b: (
        np.where(a > 9, -(2**63), 7).astype("m8[s]") // (b > 0).astype("m8[s]")
    ),
    "durations scaled by NaN": lambda np, a, b: (a > 0).astype("m8[s]") * a,
    "durations scaled too far": lambda np, a, b: (
        np.where(a > 0, 7, 2**62).astype("m8[s]") * np.where(a > b, 3.0, a) > np.timedelta64(9)
    ),
    "numbers, not NaN": lambda np, a, b: np.fmax(a, b).min() + np.fmin(a, b).sum(axis=0),
    "masked": lambda np, a, b: a[a > 0.5].sum(),
    "running sum": lambda np, a, b: np.cumsum(np.where(b > 0, np.inf, -np.inf), axis=1),
    "single precision": lambda np, a, b: (a.astype("f4") / b.astype("f4")).mean(),
    "nothing": lambda np, a, b: (b * b + b).mean(),
    "greatest of NaN alone": lambda np, a, b: np.nanmax(a * np.nan, axis=0),
    "least, some of NaN alone": lambda np, a, b: np.nanmin(np.where(a[:, :1] > 0, np.nan, b), 1),
    "mean of NaN alone": lambda np, a, b: np.nanmean(a * np.nan, axis=0),
    "variance of NaN alone": lambda np, a, b: np.nanvar(a * np.nan, axis=1),
    "median of NaN alone": lambda np, a, b: np.nanmedian(a * np.nan, axis=1),
    "quantile of NaN alone": lambda np, a, b: np.nanquantile(a * np.nan, 0.3),
    "mean of no rows": lambda np, a, b: np.mean(a[:0], axis=0),
    "variance of no rows": lambda np, a, b: np.var(a[:0], axis=0),
    "variance of too few": lambda np, a, b: np.var(b[:3], axis=0, ddof=3),
    "deviation of too few": lambda np, a, b: np.std(b, axis=1, where=b < -2.5, ddof=1),
    "mean of no rows but NaN": lambda np, a, b: np.nanmean(a[:0], axis=0),
    "variance of no rows but NaN": lambda np, a, b: np.nanvar(a[:0], axis=0),
    "mean of nothing chosen": lambda np, a, b: np.mean(b, axis=1, where=b > 99),
    "a user's function": lambda np, a, b: quotient(a, b).sum(),
    "a user's function that compares": lambda np, a, b: np.maximum(farther(a, b), 1).max(axis=0),
    "a user's function where it is chosen": lambda np, a, b: np.where(b > 0, quotient(a, b), 1.0),
    "close infinities": lambda np, a, b: np.isclose(a * np.inf, a * np.inf),
}


@pytest.fixture(params=["numpy", "compiled"], autouse=True)
def _tier(request: pytest.FixtureRequest) -> Iterator[None]:
    former = tier.set_mode(request.param)
    with xp.config(eager_bytes=0, chunk_bytes=4096, workers=2):
        yield
    tier.set_mode(former)


def told(module: Any, case: Callable[[Any, Any, Any], Any], arrays: Any) -> list[str]:
    """Give the texts of all warnings, each once, and see where they point to."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        np.asarray(case(module, *arrays))
    texts = [str(w.message) for w in found if w.category is RuntimeWarning]
    if module is xp:
        assert all(w.filename == __file__ for w in found)
        assert len(texts) == len(set(texts))
    return sorted(set(texts))


@pytest.mark.parametrize("name", CASES)
def test_warnings_are_those_of_numpy(name: str) -> None:
    arrays = values()
    lazy = [xp.from_array(array) for array in arrays]
    assert told(xp, CASES[name], lazy) == told(np, CASES[name], arrays)


def raised(module: Any, case: Callable[[Any, Any, Any], Any], arrays: Any, kind: str) -> str:
    """Give the message of the error that one kind of event is raised as."""
    modes: dict[str, Any] = {"all": "ignore", kind: "raise"}
    with np.errstate(**modes):
        try:
            np.asarray(case(module, *arrays))
        except FloatingPointError as error:
            return str(error)
    return ""


@pytest.mark.parametrize("kind", floats.KINDS)
@pytest.mark.parametrize(
    "name",
    ["divide", "a chain", "compared with NaN", "logarithm", "masked", "a user's function"],
)
def test_errors_are_those_of_numpy(name: str, kind: str) -> None:
    arrays = values()
    lazy = [xp.from_array(array) for array in arrays]
    assert raised(xp, CASES[name], lazy, kind) == raised(np, CASES[name], arrays, kind)


def test_functions_and_logs_are_called() -> None:
    arrays = values()
    lazy = [xp.from_array(array) for array in arrays]
    heard: dict[str, list[Any]] = {"numpy": [], "chunkarr": []}

    class Log:
        def __init__(self, name: str) -> None:
            self.name = name

        def write(self, text: str) -> None:
            heard[self.name].append(text)

    for name, module, operands in (("numpy", np, arrays), ("chunkarr", xp, lazy)):
        with np.errstate(all="call", call=lambda *event, n=name: heard[n].append(event)):
            np.asarray(CASES["divide"](module, *operands))
        with np.errstate(all="log", call=Log(name)):
            np.asarray(CASES["divide"](module, *operands))
    assert heard["chunkarr"] == heard["numpy"]
    assert len(heard["numpy"]) == 4


def test_the_errstate_at_the_time_of_computing_counts() -> None:
    a, b = (xp.from_array(array) for array in values())
    with np.errstate(all="raise"):
        quotient = a / b
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("error")
        quotient.compute()


def test_other_processes_note_what_they_meet() -> None:
    arrays = values()
    with xp.config(executor="processes"):
        lazy = [xp.from_array(array) for array in arrays]
        for name in ("divide", "sum of both infinities", "a user's function"):
            assert told(xp, CASES[name], lazy) == told(np, CASES[name], arrays)
            assert raised(xp, CASES[name], lazy, "invalid") == (
                raised(np, CASES[name], arrays, "invalid")
            )


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give a list that grows with each piece that NumPy evaluates."""
    calls: list[int] = []
    again = maps.map_numpy

    def spied(*args: Any, **options: Any) -> None:
        calls.append(1)
        again(*args, **options)

    monkeypatch.setattr(maps, "map_numpy", spied)
    return calls


def test_data_full_of_nan_is_not_computed_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    if tier.mode() == "numpy":
        pytest.skip("NumPy computes anyway")
    calls = counted(monkeypatch)
    x = np.where(np.arange(100_000) % 3 == 0, np.nan, 1.5)
    y = xp.from_array(x)
    got = xp.where(y > 1, y * 2, y - 1).compute()
    np.testing.assert_array_equal(got, np.where(x > 1, x * 2, x - 1))
    assert not calls


def test_what_was_told_is_not_looked_into_again(monkeypatch: pytest.MonkeyPatch) -> None:
    if tier.mode() == "numpy":
        pytest.skip("NumPy computes anyway")
    calls = counted(monkeypatch)
    with pytest.warns(RuntimeWarning, match="divide by zero encountered in divide"):
        (1 / xp.from_array(np.zeros(100_000))).compute()
    assert 1 <= len(calls) <= 2
