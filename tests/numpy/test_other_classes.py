"""Operands of other classes: matrices, masked arrays, and classes that speak NumPy's protocols."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from tests.numpy.support import MODES
from tests.numpy.test_guide_programs import printed

PROGRAMS = {
    "matrix": """
a, v = np.arange(4).reshape(2, 2), np.array([1, 2])
m = np.matrix([[1, 2], [3, 4]])
for made in (
    *(m * a, a * m, a @ m, m @ a, m * v.reshape(2, 1), v * m, m + v, v + m, a - m, m - a, 2 * m),
    *(m / (a + 1), a**m, -m, a == m, m < a, np.add(a, m), np.dot(a, m), np.sum(m, axis=0)),
    *(np.transpose(m), np.multiply(m, a), np.vstack([m, a]), np.linalg.inv(m)),
    *(np.concatenate([a, m]), np.kron(a, m), np.average(m, axis=1), np.ediff1d(m), np.cumsum(m)),
    *(np.where(m > 2, m, a), np.add.reduce(m), np.nansum(m, axis=0), np.mean(m), m.I * a),
    *(np.asarray(m), np.sort(m, axis=0), np.zeros_like(m), np.tril(m), np.asanyarray(m), m**2),
):
    print(type(made).__name__.replace("Array", "ndarray"), made)
try:
    m * v
except ValueError as error:
    print("not aligned")
a += m
print(a, np.add(a, m, out=a) is a, a)
np.copyto(a, m)
a[0] = m[1]
print(a, type(a * 2) is np.ndarray)
""",
    "masked": """
m = np.ma.array([3, 1, 3, 2], mask=[0, 0, 0, 1])
x = np.arange(4.0)
print(np.unique(m), np.average(m), np.cumsum(m), np.diff(m), np.where(m > 1, m, 0), m * x, x - m)
print(np.copy(m, subok=True), np.sum(m), np.dot(m, x), np.clip(m, 1, 2), np.add.reduce(m), x > m)
x += m
print(x, np.multiply(x, m, out=x), x)
""",
    "arrays of themselves": """
class Diagonal:
    def __init__(self, n, value):
        self.n, self.value = n, value

    def __array__(self, dtype=None, copy=None):
        return self.value * np.eye(self.n, dtype=dtype)

d = Diagonal(2, 3)
print(np.asarray(d), np.array(d, dtype=int), np.sum(d), np.add(d, 1), np.ones(2) + d)
print(d + np.ones(2), np.unique(d), np.concatenate([d, d]), np.dot(d, d), np.median(d))
print(np.add.reduce(d))
x = np.zeros((2, 2))
x[...] = d
x[1] = Diagonal(1, 7)
print(x, np.stack([d, x]), np.linalg.det(d), np.bincount(Diagonal(1, 1).__array__(int)[0]))
""",
    "functions of their own": """
import numbers

class Diagonal:
    def __init__(self, n, value):
        self.n, self.value = n, value

    def __repr__(self):
        return f"Diagonal({self.n}, {self.value})"

    def __array__(self, dtype=None, copy=None):
        return self.value * np.eye(self.n, dtype=dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        known = all(isinstance(v, (numbers.Number, Diagonal)) for v in inputs)
        if method != "__call__" or not known or ufunc == np.hypot:
            return NotImplemented
        values = [v.value if isinstance(v, Diagonal) else v for v in inputs]
        return Diagonal(self.n, ufunc(*values, **kwargs).item())

    def __array_function__(self, func, types, args, kwargs):
        if func not in KNOWN or not all(issubclass(t, (np.ndarray, Diagonal)) for t in types):
            return NotImplemented
        return KNOWN[func](*args, **kwargs)

KNOWN = {
    np.sum: lambda d: d.n * d.value,
    np.mean: lambda d: d.value / d.n,
    np.concatenate: lambda parts: f"{len(parts)} parts",
    np.unique: lambda d: [d.value],
    np.dot: lambda a, b: "a product",
}
d = Diagonal(5, 1)
print(np.multiply(d, 2), np.sin(d), np.maximum(3, d), np.sum(d), np.mean(d), np.concatenate([d, d]))
print(np.unique(d), np.dot(d, d), np.asarray(d), np.add(d, d))
for wrong in ("np.median(d)", "np.add.reduce(d)", "np.sort(d)", "np.stack([d])", "np.hypot(d, 1)"):
    try:
        print(eval(wrong))
    except TypeError:
        print("no")
""",
    "operators of their own": """
import numbers
from numpy.lib.mixins import NDArrayOperatorsMixin

class Boxed(NDArrayOperatorsMixin):
    def __init__(self, value):
        self.value = np.asarray(value)

    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        if not all(isinstance(v, (np.ndarray, numbers.Number, Boxed)) for v in inputs):
            return NotImplemented
        plain = [v.value if isinstance(v, Boxed) else v for v in inputs]
        if "out" in kwargs:
            kwargs["out"] = tuple(v.value if isinstance(v, Boxed) else v for v in kwargs["out"])
        result = getattr(ufunc, method)(*plain, **kwargs)
        return None if method == "at" else Boxed(result)

    def __repr__(self):
        return f"Boxed({self.value})"

b, x = Boxed([1.0, 4.0]), np.array([2.0, 3.0])
print(b + 1, b + x, x + b, x - b, b * b, np.sqrt(b), x > b, np.add(x, b), np.add.reduce(b), b @ x)
np.add.at(b, np.array([0, 0]), 1)
b -= x
x += b
print(b, x, {np.add: 1}[np.add], np.add == np.add, np.add == np.subtract)
""",
}


@pytest.fixture(params=MODES)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with chunkarr.config(**MODES[request.param]), np.printoptions():
        yield


@pytest.mark.usefixtures("_mode")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_what_it_prints_with_numpy(name: str, tmp_path: Path) -> None:
    wanted = printed(PROGRAMS[name], np, tmp_path / "numpy")
    assert printed(PROGRAMS[name], chunkarr, tmp_path / "chunkarr") == wanted


@pytest.mark.usefixtures("_mode")
def test_a_ufunc_is_known_by_numpys_name() -> None:
    named: dict[Any, str] = {np.add: "numpy"}
    assert named[chunkarr.add] == "numpy"
    assert chunkarr.add == np.add
    assert np.subtract != chunkarr.add
