"""Functions with core axes run in the kernel of what is around them, with their ufuncs' bits."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chunkarr
from chunkarr.kernels.jit import user_function
from chunkarr.plan import cored
from tests.kernels.support import Array, kernels
from tests.kernels.test_users import told

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


@xp.guvectorize(["void(f8[:], f8[:])", "void(f4[:], f4[:])"], "(n)->(n)")  # type: ignore[untyped-decorator]
def centred(p: Any, out: Any) -> None:
    total = 0.0
    for i in range(p.size):
        total += p[i]
    for i in range(p.size):
        out[i] = p[i] - total / p.size


@xp.guvectorize(["void(f8[:], f8[:], f8[:])"], "(n),(n)->()")  # type: ignore[untyped-decorator]
def dotted(p: Any, q: Any, out: Any) -> None:
    total = 0.0
    for i in range(p.size):
        total += p[i] * q[i]
    out[0] = total


@numba.guvectorize(["void(f8[:,:], f8[:], f8[:])"], "(m,n),(n)->(m)")  # type: ignore[untyped-decorator]
def applied(matrix: Any, p: Any, out: Any) -> None:
    for i in range(matrix.shape[0]):
        out[i] = 0.0
        for j in range(matrix.shape[1]):
            out[i] += matrix[i, j] * p[j]


@xp.guvectorize(["void(f8[:], f8[:], f8[:,:])"], "(m),(n)->(m,n)")  # type: ignore[untyped-decorator]
def crossed(p: Any, q: Any, out: Any) -> None:
    for i in range(p.size):
        for j in range(q.size):
            out[i, j] = p[i] - q[j] * 2


@xp.guvectorize(["void(f8[:], f8, f8[:])"], "(n),()->(n)")  # type: ignore[untyped-decorator]
def smoothed(p: Any, weight: Any, out: Any) -> None:
    last = 0.0
    for i in range(p.size):
        last = last * weight + p[i] * (1 - weight)
        out[i] = last


@xp.guvectorize(["void(f8[:], f8, i8[:])"], "(n),()->()")  # type: ignore[untyped-decorator]
def counted(p: Any, limit: Any, out: Any) -> None:
    out[0] = 0
    for i in range(p.size):
        out[0] += p[i] > limit


@xp.guvectorize(["void(c16[:], b1[:], c16[:])"], "(n),(n)->(n)")  # type: ignore[untyped-decorator]
def turned(p: Any, chosen: Any, out: Any) -> None:
    for i in range(p.size):
        out[i] = p[i] * 1j if chosen[i] else p[p.size - 1 - i]


@xp.guvectorize(["void(i4[:], b1[:])"], "(n)->()")  # type: ignore[untyped-decorator]
def rising(p: Any, out: Any) -> None:
    out[0] = True
    for i in range(1, p.size):
        if p[i] < p[i - 1]:
            out[0] = False


@xp.guvectorize(["void(f8[:], f8[:])"], "(n)->()")  # type: ignore[untyped-decorator]
def checked(p: Any, out: Any) -> None:
    out[0] = 0.0
    for i in range(p.size):
        if p[i] > 100:
            raise ValueError("too large")
        out[0] += math.sqrt(abs(p[i]))


@xp.guvectorize(["void(f8[:], f8[:])"], "(n)->()")  # type: ignore[untyped-decorator]
def inverse(p: Any, out: Any) -> None:
    out[0] = p[0] / p[-1]


@xp.guvectorize(["void(f8[:], f8[:], f8[:])"], "(n)->(),()")  # type: ignore[untyped-decorator]
def ends(p: Any, first: Any, last: Any) -> None:
    first[0], last[0] = p[0], p[-1]


@xp.guvectorize(["void(f8[:], f8[:])"], "(n)->(n)", writable_args=(0,))  # type: ignore[untyped-decorator]
def emptied(p: Any, out: Any) -> None:
    for i in range(p.size):
        out[i] = p[i]
        p[i] = 0


def data() -> tuple[Array, Array, Array]:
    """Give floats, others with zeros and NaN among them, and small integers."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 60, 70))
    b[::5, ::7], b[3, 3] = 0, np.nan
    return a, b, rng.integers(-3, 9, (60, 70)).astype("i4")


Case = Callable[[Any, Any, Any, Any], Any]

IN_KERNELS: dict[str, Case] = {
    "alone": lambda np, a, b, n: centred(a),
    "of an expression": lambda np, a, b, n: centred(a * 2 + b[0]),
    "in an expression": lambda np, a, b, n: centred(a) * b + 1,
    "between two": lambda np, a, b, n: abs(centred(a * b - 1)) > 0.5,
    "summed rows": lambda np, a, b, n: (centred(a * 2 + 1) ** 2).max(axis=1),
    "largest of columns": lambda np, a, b, n: (centred(a + b) ** 2).max(axis=0),
    "counted truths": lambda np, a, b, n: (centred(a * 2) > 0).sum(),
    "where it is largest": lambda np, a, b, n: centred(a * 2).argmax(),
    "in single precision": lambda np, a, b, n: centred(a.astype("f4") * 3),
    "along another axis": lambda np, a, b, n: centred(a * 2, axis=0) + 1,
    "one number of two lanes": lambda np, a, b, n: dotted(a, b),
    "one number of two expressions": lambda np, a, b, n: dotted(a * 2, b[1] + 1).max() * 3,
    "one number, kept": lambda np, a, b, n: dotted(a + 1, a, keepdims=True) * 2,
    "integers converted": lambda np, a, b, n: dotted(n, n + a) - n[:, 0],
    "strides": lambda np, a, b, n: dotted(a[::-1, ::-2] + 1, b[:, ::2]) + 1,
    "strides in place": lambda np, a, b, n: centred(a[::-2, ::-3]) * 2,
    "short lanes": lambda np, a, b, n: dotted(a[:, :3] * 2, a[:, 4:7]).max(),
    "a matrix": lambda np, a, b, n: applied(a.reshape(20, 30, 7) * 2, b[:20, :7]) + 1,
    "one matrix for all": lambda np, a, b, n: applied(b[:7] + 1, a * 3).max(axis=0),
    "created axes": lambda np, a, b, n: crossed(a[:, :9] * 2, b[:, :4]) + 1,
    "created axes, reduced": lambda np, a, b, n: crossed(a[:, :9] * 2, b[0, :4]).max(axis=(1, 2)),
    "a number for each lane": lambda np, a, b, n: smoothed(a * 2, b[:, 0] * 0.1) - a,
    "a number for all": lambda np, a, b, n: smoothed(a * 2, 0.25).min(axis=0),
    "counts": lambda np, a, b, n: counted(a * b, 0.5).sum(),
    "complex numbers": lambda np, a, b, n: turned(a + 1j * b, n > 2) * 2,
    "truth": lambda np, a, b, n: rising(n[:, :4] * 2).sum(),
    "roots": lambda np, a, b, n: checked(a * 2) + 1,
    "divided": lambda np, a, b, n: inverse(b * 2) + 1,
    "of itself": lambda np, a, b, n: centred(centred(a * 2) + 1) * 3,
}

ON_BOXES: dict[str, Case] = {
    "two results": lambda np, a, b, n: ends(a * 2)[1] + 1,
    "no loop": lambda np, a, b, n: centred(a[:, :0] * 2) + 1,
    "long lanes": lambda np, a, b, n: dotted(a.reshape(1, -1) * 2, b.reshape(1, -1)),
}


@pytest.mark.parametrize("name", [*IN_KERNELS, *ON_BOXES])
def test_both_tiers_do_what_the_ufunc_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case, arrays = (IN_KERNELS | ON_BOXES)[name], data()
    expected, warned = told(lambda: np.asarray(case(np, *arrays)))
    done: list[bool] = []
    inner = cored.in_one_kernel

    def spy(*args: Any) -> bool:
        done.append(inner(*args))
        return done[-1]

    monkeypatch.setattr("chunkarr.plan.blocks.in_one_kernel", spy)
    for mode in ("numpy", "compiled"):
        done.clear()
        cut = xp.config(eager_bytes=0, chunk_bytes=1 << 22)
        with cut, kernels(mode), np.errstate(all="warn", under="ignore"):
            found, warned_here = told(case(xp, *map(xp.asarray, arrays)).compute)
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
        assert warned_here == warned
        assert all(done) == (mode == "compiled" and name in IN_KERNELS)


@pytest.mark.parametrize("mode", ["numpy", "compiled"])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: checked(x * 1),
        lambda x: checked(x) + 1,
        lambda x: checked(x * 1).max(),
    ],
)
def test_what_a_function_raises_is_raised(make: Callable[[Any], Any], mode: str) -> None:
    a = data()[0]
    a[41, 20] = 101
    with xp.config(eager_bytes=0), kernels(mode):
        made = make(xp.from_array(a, chunks=(10, 70)))
        with pytest.raises(ValueError, match="too large"):
            made.compute()


def test_a_function_that_writes_to_its_operands_is_not_taken_in() -> None:
    assert user_function(emptied.ufunc, (np.dtype(float),) * 2) is None


def test_sums_have_the_bits_of_those_of_a_whole_value() -> None:
    a = data()[0]
    found = []
    for mode in ("numpy", "compiled"):
        with xp.config(eager_bytes=0), kernels(mode):
            x = xp.from_array(a, chunks=(13, 70))
            squares = centred(x * 2 + 1) ** 2
            parts = (squares.sum(), squares.mean(axis=0), squares.std(axis=1), squares.var())
            found.append([np.asarray(part.compute()) for part in parts])
    for left, right in zip(*found, strict=True):
        np.testing.assert_array_equal(left, right)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 40),
    st.sampled_from([1, 2, -1, -3]),
    st.booleans(),
    st.sampled_from([None, 0, 1, (0, 1)]),
)
def test_any_shape_and_stride(rows: int, n: int, step: int, turned_over: bool, axes: Any) -> None:
    shape = (n * abs(step), rows) if turned_over else (rows, n * abs(step))
    a = np.random.default_rng(rows + n).normal(size=shape)

    def make(x: Any) -> Any:
        lanes = (x.T if turned_over else x)[:, ::step]
        value = centred(lanes * 2) - lanes
        return value if axes is None else value.max(axis=axes)

    with xp.config(eager_bytes=0), kernels("compiled"):
        np.testing.assert_array_equal(make(xp.asarray(a)).compute(), make(a))
