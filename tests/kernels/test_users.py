"""Users' functions in kernels give the bits, the warnings and the errors of their ufuncs."""

from __future__ import annotations

import gc
import math
import os
import pickle
import subprocess
import sys
import warnings
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numba
import numpy as np
import pytest

import chunkarr
from chunkarr.kernels import tier, users
from chunkarr.kernels.jit import user_function
from tests.kernels.support import Array, kernels

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

REPOSITORY = Path(__file__).resolve().parents[2]
F8 = np.dtype(float)
FACTOR = 2.5
TABLE = np.arange(7.0)
COUNTS = {"calls": 0}


@numba.njit  # type: ignore[untyped-decorator]
def scaled(p: Any) -> Any:
    return math.exp(-p * p) * FACTOR


@xp.vectorize(["f4(f4, f4)", "f8(f8, f8)"])  # type: ignore[untyped-decorator]
def choice(p: Any, q: Any) -> Any:
    return scaled(p) + q if p > q else p - q * FACTOR


@xp.vectorize(["f8(f8, f8)"])  # type: ignore[untyped-decorator]
def quotient(p: Any, q: Any) -> Any:
    return p / q


@xp.vectorize(["i8(f8)"])  # type: ignore[untyped-decorator]
def steps(p: Any) -> Any:
    count = 0
    while abs(p) > 1e-3 and count < 50:
        p, count = p * 0.7, count + 1
    return count


@xp.vectorize(["i8(i8, i8)"])  # type: ignore[untyped-decorator]
def shared(p: Any, q: Any) -> Any:
    while q:
        p, q = q, p % q
    return p


@xp.vectorize(["b1(f8)"])  # type: ignore[untyped-decorator]
def inside(p: Any) -> Any:
    return abs(p) < 0.5


@xp.vectorize(["c16(c16, i8)"])  # type: ignore[untyped-decorator]
def turned(p: Any, n: Any) -> Any:
    return p * 1j + n


@xp.vectorize(["f8(i8)"])  # type: ignore[untyped-decorator]
def looked_up(i: Any) -> Any:
    return TABLE[i % 7]


@numba.vectorize  # type: ignore[untyped-decorator]
def dynamic(p: Any, q: Any) -> Any:
    return p * q + 1


@xp.vectorize(["f8(f8)"])  # type: ignore[untyped-decorator]
def checked(p: Any) -> Any:
    if p > 100:
        raise ValueError("too large")
    return math.sqrt(abs(p))


@xp.guvectorize(  # type: ignore[untyped-decorator]
    ["void(f8, f8, f8[:])", "void(f4, f4, f4[:])"], "(),()->()"
)
def filled(p: Any, q: Any, out: Any) -> None:
    if p > q:
        out[0] = p * p + q
    else:
        out[0] = math.exp(p)


@xp.guvectorize(["void(f8[:], i8[:], b1[:])"], "(),()->()")  # type: ignore[untyped-decorator]
def beyond(p: Any, n: Any, out: Any) -> None:
    out[0] = p[0] * 1000 > n[0]


@xp.guvectorize(["void(c16[:], c16[:])"], "()->()")  # type: ignore[untyped-decorator]
def doubled(p: Any, out: Any) -> None:
    if p[0].real > 100:
        raise ValueError("too large")
    out[0] = p[0] * 2j


@xp.guvectorize(["void(f8[:], f8[:])"], "(n)->(n)")  # type: ignore[untyped-decorator]
def reversed_lane(p: Any, out: Any) -> None:
    out[:] = p[::-1]


@xp.vectorize(["f8(f8)"], fastmath=True)  # type: ignore[untyped-decorator]
def reordered(p: Any) -> Any:
    return p * 3 + 1 - p


@xp.vectorize(["f8(f8)"], forceobj=True)  # type: ignore[untyped-decorator]
def interpreted(p: Any) -> Any:
    return float(str(p)[:4])


@xp.vectorize(["f8(f8)"])  # type: ignore[untyped-decorator]
def allocating(p: Any) -> Any:
    held = np.empty(int(abs(p)) + 1)
    held[:] = p
    return held.sum()


def data() -> tuple[Array, Array, Array]:
    """Give floats, floats with zeros and NaN among them, and integers."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 40, 300))
    b[::5, ::7], b[3, 3] = 0, np.nan
    return a, b, np.arange(-6000, 6000).reshape(40, 300)


INLINED: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "mapped": lambda np, a, b, n: choice(a, b) + 1,
    "alone": lambda np, a, b, n: choice(a, b),
    "summed": lambda np, a, b, n: (choice(a, b[0]) * 2).max(),
    "down columns": lambda np, a, b, n: (choice(a, 0.5) * 2).max(axis=0),
    "along rows": lambda np, a, b, n: steps(a * 3).sum(axis=1),
    "in single precision": lambda np, a, b, n: choice(a.astype("f4"), n.astype("i2")) * 2,
    "converted operands": lambda np, a, b, n: choice(n, a > 0) * 2,
    "of a number": lambda np, a, b, n: choice(2, a) * 2,
    "of itself": lambda np, a, b, n: choice(choice(a, b), a * 2) - quotient(a, 2.0),
    "integers": lambda np, a, b, n: shared(n, n[::-1]) + n,
    "truth": lambda np, a, b, n: np.where(inside(a), a, b).min(axis=1),
    "truth counted": lambda np, a, b, n: inside(a).sum(),
    "complex": lambda np, a, b, n: turned(a + 1j, n) + 2,
    "a table": lambda np, a, b, n: looked_up(n) + a,
    "without a signature": lambda np, a, b, n: dynamic(a, n) * 2,
    "divided": lambda np, a, b, n: quotient(a, b) + 1,
    "divided where it is chosen": lambda np, a, b, n: np.where(b > 0, quotient(a, b), 0.0),
    "divided, then compared": lambda np, a, b, n: np.maximum(quotient(a, b), 0.0).max(axis=1),
    "no error": lambda np, a, b, n: checked(a) + 1,
    "filled in": lambda np, a, b, n: (filled(a, b[0]) * 2).max(axis=1),
    "filled in, in single precision": lambda np, a, b, n: filled(a.astype("f4"), n.astype("i2")),
    "filled in from arrays of one": lambda np, a, b, n: beyond(a, n).sum(axis=0),
    "filled in with complex numbers": lambda np, a, b, n: doubled(a) + n,
    "among calls": lambda np, a, b, n: np.spacing(choice(a, b) * 2 + 1) * choice(b, a),
    "views": lambda np, a, b, n: choice(a[::-1, ::2], b[:, 1::2].T[:, :1].T) * 2,
}

CALLED: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "fastmath": lambda np, a, b, n: reordered(a * 2) + 1,
    "in object mode": lambda np, a, b, n: interpreted(a * 2) + 1,
    "with core axes": lambda np, a, b, n: reversed_lane(a * 2) + 1,
    "with memory of its own": lambda np, a, b, n: allocating(a * 2) + 1,
}


def told(make: Callable[[], Any]) -> tuple[Array, list[str]]:
    """Compute; give the values and the warnings."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made = np.asarray(make())
    return made, sorted({str(w.message) for w in found})


@pytest.mark.parametrize("name", [*INLINED, *CALLED])
def test_both_tiers_do_what_the_ufunc_does(name: str) -> None:
    case = (INLINED | CALLED)[name]
    arrays = data()
    expected, warned = told(lambda: _plainly(case, *arrays))
    for mode in ("numpy", "compiled"):
        with xp.config(eager_bytes=0), kernels(mode), np.errstate(all="warn", under="ignore"):
            made = case(xp, *map(xp.asarray, arrays))
            found, warned_here = told(made.compute)
            ops = _operations(made)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert warned_here == warned
        assert any(map(users.is_users, ops)) == (name in INLINED)


def _plainly(case: Callable[..., Any], *arrays: Array) -> Any:
    """Run a case on ndarrays with the ufuncs of Numba."""
    return np.asarray(case(np, *arrays))


def _operations(array: Any) -> set[str]:
    stack, names = [array.to_expr()], set()
    while stack:
        node = stack.pop()
        names.add(getattr(node, "name", ""))
        stack.extend(node.operands)
    return names


def test_a_function_and_what_is_around_it_are_one_kernel() -> None:
    a, b, _ = data()
    with xp.config(eager_bytes=0), kernels("compiled"):
        before = tier.kernels_ready()
        made = (choice(xp.asarray(a) * 3, b) * 2 + 7).sum()
        assert "choice" in choice(xp.asarray(a), b).explain()
        made.compute()
        assert tier.kernels_ready() == before + 1


@pytest.mark.parametrize("mode", ["numpy", "compiled"])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: checked(x) + 1,
        lambda x: checked(x).sum(),
        lambda x: checked(x).max(axis=0),
        lambda x: doubled(x + 0j) * 2,
        lambda x: xp.where(x > 1e6, checked(x), 0),
        lambda x: xp.spacing(checked(x * 1) * 2) + 1,
    ],
)
def test_what_a_function_raises_is_raised(make: Callable[[Any], Any], mode: str) -> None:
    a = data()[0]
    a[17, 200] = 101
    with xp.config(eager_bytes=0), kernels(mode):
        made = make(xp.from_array(a, chunks=(10, 300)))
        with pytest.raises(ValueError, match="too large"):
            made.compute()
        a[17, 200] = 0
        made.compute()


def test_functions_that_do_the_same_are_one() -> None:
    def made(factor: float) -> Any:
        @numba.vectorize(["f8(f8)"])  # type: ignore[untyped-decorator]
        def function(p: Any) -> Any:
            return scaled(p) * factor

        return function

    one, same, other = (user_function(made(factor), (F8, F8)) for factor in (3.0, 3.0, 4.0))
    assert one is not None
    assert same is not None
    assert other is not None
    assert one.name == same.name != other.name


def test_a_function_travels_with_its_code() -> None:
    found = user_function(choice.ufunc, (F8, F8, F8))
    assert found is not None
    users._codes.clear()
    back = pickle.loads(cloudpickle.dumps(found))
    assert back.name == found.name
    assert users.codes_in(f"{users.symbol(back.name)}(x0, x1)")
    assert back(2.0, 1.0) == choice.ufunc(2.0, 1.0)


def test_functions_that_nobody_holds_are_let_go() -> None:
    ufunc = numba.vectorize(["f8(f8)"])(lambda p: p * 17)
    x = xp.asarray(np.ones(10))
    with xp.config(eager_bytes=0), kernels("compiled"):
        assert (ufunc(x) + 1).compute()[0] == 18
    gone = weakref.ref(user_function(ufunc, (F8, F8)))
    gc.collect()
    assert gone() is None


def test_no_more_than_so_many_functions_are_remembered() -> None:
    for number in range(users.CODES_MAX + 10):
        users.remember(users.Code(str(number), (F8, F8)))
    assert len(users._codes) == users.CODES_MAX
    with pytest.raises(LookupError):
        users.codes_in(f"user_{users.Code('3', (F8, F8)).key}(x0)")


RUN = """
import sys
import numpy as np
import chunkarr as xp
from chunkarr.kernels import tier
offset = float(sys.argv[1])
def make():
    scale = 3.0
    @xp.vectorize(["f8(f8, f8)"])
    def function(p, q):
        if q > 1e300:
            raise ValueError("large")
        return p * scale + q + offset
    return function
xp.config(eager_bytes=0)
x = xp.asarray(np.arange(1000.0))
assert float((make()(x, 1.0) * 2).sum()) == (np.arange(1000) * 3 + 1 + offset).sum() * 2
print(tier.kernels_ready(), "chunkarr.kernels.compile" in sys.modules)
"""


def test_a_second_process_takes_the_kernel_from_disk_if_nothing_differs(tmp_path: Path) -> None:
    environment = os.environ | {
        "CHUNKARR_KERNELS": "compiled",
        "CHUNKARR_CACHE_DIR": str(tmp_path / "k"),
    }
    outputs = [
        subprocess.run(
            [sys.executable, "-c", RUN, offset],
            env=environment | {"PYTHONHASHSEED": seed},
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split()
        for offset, seed in (("1", "1"), ("1", "2"), ("2", "2"))
    ]
    assert outputs == [["1", "True"], ["1", "False"], ["1", "True"]]


KEPT = """
import chunkarr as xp

@xp.vectorize(["f8(f8, f8)"], cache=True)
def function(p, q):
    return p / q + 1

xp.config(eager_bytes=0)
print(function(xp.ones((10, 10)), 2.0).to_expr().name)
"""


def test_a_function_that_numba_has_kept_has_the_same_name(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(KEPT)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    names = [
        subprocess.run(
            [sys.executable, str(program)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    ]
    assert names[0] == names[1]
    assert len([*tmp_path.rglob("*.nbc")]) == 1
