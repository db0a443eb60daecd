"""Programs as courses and guides have them: what they print is what NumPy prints, in every mode."""

from __future__ import annotations

import builtins
import contextlib
import importlib
import io
import os
import re
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from tests.numpy.support import MODES

PROGRAMS = {
    "creation": """
a = np.array([[1, 2, 3], [4, 5, 6]])
print(a, a.shape, a.ndim, a.dtype, a.size, a.itemsize, a.nbytes)
print(np.zeros((2, 3)), np.ones(3, dtype=int), np.full((2, 2), 7.5), np.eye(3, k=1))
print(np.arange(0, 1, 0.25), np.linspace(0, 1, 5), np.logspace(0, 2, 3), np.geomspace(1, 8, 4))
print(np.fromfunction(lambda i, j: i + j, (2, 3)), np.diag([1, 2]), np.tri(3), np.identity(2))
print(np.frombuffer(b"\\x01\\x02", dtype="u1"), np.fromiter((i * i for i in range(4)), int))
print(np.meshgrid([1, 2], [3, 4]), np.mgrid[0:2, 0:2], np.empty((0, 3)), np.array(5))
""",
    "indexing": """
a = np.arange(24).reshape(4, 6)
print(a[1, 2], a[1], a[:, 1], a[1:3, ::2], a[-1, ::-1], a[..., 0], a[:, None].shape)
print(a[[0, 2]], a[[0, 1], [2, 3]], a[a > 15], a[np.ix_([0, 2], [1, 3])])
a[a % 2 == 0] = 0
a[0] += 10
a[:, 1] = [1, 2, 3, 4]
print(a, np.nonzero(a[1]), np.argwhere(a[1] > 8), np.where(a > 10, a, -1))
view = a[1:3]
view[:] = 99
print(a, view.base is a, np.shares_memory(a, view))
for row in a[:2]:
    for x in row:
        print(x, end=" ")
""",
    "broadcasting": """
x, y = np.arange(3), np.arange(4)[:, np.newaxis]
print(x + y, (x * y).shape, np.broadcast_to(x, (2, 3)), np.broadcast(x, y).shape)
try:
    np.ones((2, 3)) + np.ones(4)
except ValueError as error:
    print(error)
print(np.add.outer(x, x), np.subtract.accumulate([1, 2, 3]), np.multiply.reduce([2, 3, 4]))
""",
    "types": """
a = np.array([1.7, -2.3, 3.5])
print(a.astype(int), a.astype("f4").dtype, np.array([1, 2], dtype=np.uint8) + 1)
print(np.array([True, False]).sum(), np.result_type(np.int8, np.float32), np.iinfo(np.int8).max)
print(np.finfo(np.float32).eps, np.can_cast(np.int64, np.int32), np.float64(1) / 3, np.int8(5))
print(type(np.array([1.5])[0].item()), np.issubdtype(a.dtype, np.floating), np.dtype("i4, f8"))
with np.errstate(divide="ignore", invalid="ignore"):
    print(np.array([1.0, 0.0, -1.0]) / 0)
print(repr(np.array([1e-20, 1e20])), np.array([1 + 2j]).conj(), np.array(["a", "bcd"]).dtype)
""",
    "text": """
for value in np.array([12, 30, 7]):
    print(f"{value:5d}|{value / 7:6.2f}|", "#" * (value // 5))
print("%.3f" % np.pi, "{:>8}".format(np.array([1, 2]).sum()), str(np.float32(0.1)))
print(repr(np.int64(3)))
with np.printoptions(precision=2, suppress=True, linewidth=40):
    print(np.linspace(0, 1, 12) ** 3)
print(np.array2string(np.arange(3), separator=", "), np.array_repr(np.array([1.0])))
print(np.arange(2000))
print(np.array([[1.5, np.nan], [np.inf, -1]]), np.format_float_positional(0.1), np.base_repr(10, 3))
""",
    "statistics": """
d = np.array([[2.0, 4, 4], [4, 5, 9]])
print(d.mean(), d.std(ddof=1), d.var(axis=0), np.median(d, axis=1), np.percentile(d, [25, 75]))
print(np.cumsum(d), np.cov(d), np.corrcoef(d).round(3), np.average(d, weights=[1, 2], axis=0))
counts, edges = np.histogram([1, 2, 2, 3, 9], bins=4)
print(counts, edges, np.bincount([0, 1, 1, 3]), np.digitize([0.5, 2.5], [0, 1, 2]))
print(np.nanmean([1, np.nan, 3]), np.ptp(d), d.argmax(), np.unravel_index(d.argmax(), d.shape))
values, times = np.unique([3, 1, 3, 2], return_counts=True)
print(dict(zip(values.tolist(), times.tolist())), np.sort([3, 1, 2])[::-1], np.argsort([3, 1, 2]))
""",
    "linear algebra": """
from numpy.linalg import LinAlgError, det, inv, norm, solve
A, b = np.array([[3.0, 1], [1, 2]]), np.array([9.0, 8])
x = solve(A, b)
print(x, np.allclose(A @ x, b), det(A).round(6), inv(A), norm(b), np.trace(A), A.T)
w, v = np.linalg.eigh(A)
print(w, np.abs(v).round(4), np.linalg.matrix_rank(A), np.linalg.cond(A).round(3))
U, s, Vt = np.linalg.svd(A)
print(s, np.allclose(U @ np.diag(s) @ Vt, A), np.linalg.lstsq(A, b)[0], np.linalg.pinv(A).round(3))
Q, R = np.linalg.qr(A)
print(np.allclose(Q @ R, A), np.linalg.cholesky(A), np.linalg.matrix_power(A, 3), np.dot(b, b))
try:
    inv(np.zeros((2, 2)))
except LinAlgError as error:
    print("singular:", error)
print(np.linalg.eigvals(np.array([[0.0, -1], [1, 0]])), np.einsum("ij,j->i", A, b))
print(np.kron(A, A)[0])
""",
    "fourier": """
t = np.linspace(0, 1, 64, endpoint=False)
signal = np.sin(2 * np.pi * 5 * t) + 0.5 * np.cos(2 * np.pi * 12 * t)
spectrum, frequencies = np.fft.rfft(signal), np.fft.rfftfreq(64, 1 / 64)
print(frequencies[np.argsort(np.abs(spectrum))[-2:]], np.abs(spectrum).argmax())
spectrum[np.abs(spectrum) < 20] = 0
print(np.fft.irfft(spectrum).round(3)[:5], np.fft.fftshift(np.arange(5)), np.fft.fft([1, 0, 0]))
image = np.outer(np.hanning(4), np.ones(4))
print(np.abs(np.fft.ifft2(np.fft.fft2(image)) - image).max() < 1e-12)
print(np.convolve([1, 2], [1, 1, 1]))
""",
    "masked": """
temperatures = np.array([21.0, -999, 23, 25])
m = np.ma.masked_equal(temperatures, -999)
print(m, m.mean(), m.count(), m.filled(0), m.mask, m.compressed(), repr(m))
m[0] = np.ma.masked
print(m.sum(), m + 1, m * temperatures, np.ma.median(m), np.sqrt(m), m.max(), type(m).__name__)
n = np.ma.array([[1, 2], [3, 4]], mask=[[0, 1], [0, 0]])
print(n.mean(axis=0), n.sum(axis=1), np.ma.masked_where(n > 3, n), n.T, np.ma.is_masked(n))
print(np.ma.concatenate([m, m]), np.ma.masked_invalid([1, np.nan]), np.mean(m), np.ma.getdata(m))
""",
    "polynomials": """
from numpy.polynomial import Chebyshev, Polynomial
p = Polynomial([1, -3, 2])
print(p, p(2), p.roots(), p.deriv(), p.integ(), p * p, p.degree(), p(np.arange(3)))
fit = Polynomial.fit(np.arange(5), np.arange(5) ** 2, 2).convert()
print(fit.coef.round(6) + 0.0, np.polyfit([0, 1, 2], [1, 3, 5], 1).round(6), np.polyval([1, 2], 3))
print(np.roots([1, -3, 2]), np.poly([1, 2]), np.poly1d([1, 2, 3]), Chebyshev([1, 2])(0.5))
print(np.polyadd([1, 2], [1]), np.polymul([1, 1], [1, -1]), np.polyder([1, 2, 3]))
print(np.polyint([2, 2]))
""",
    "strings": """
s = np.array(["hello", "World", "numpy "])
print(np.strings.upper(s), np.char.capitalize(s), np.strings.add(s, "!"), np.char.strip(s))
print(np.strings.find(s, "o"), np.char.center(s, 9, "*"), np.strings.str_len(s))
print(np.char.split(s)[0])
print(s == "World", np.strings.startswith(s, "h"), np.char.replace(s, "l", "L"), np.sort(s))
print(s[1][0])
print(np.char.join("-", s), np.strings.isalpha(s), np.strings.multiply(s, 2), "World" in s)
""",
    "dates": """
d = np.array(["2024-01-15", "2024-02-29", "2023-12-31"], dtype="datetime64[D]")
print(d, d + np.timedelta64(1, "D"), np.diff(d), d.astype("datetime64[M]"), d.min())
print(d.max() - d.min())
print(np.arange("2024-01", "2024-04", dtype="datetime64[M]"), np.sort(d))
print(d > np.datetime64("2024-01-31"))
print(np.is_busday(d), np.busday_count("2024-01-01", "2024-02-01"))
print(np.busday_offset(d, 1, roll="forward"))
print(np.busdaycalendar(holidays=["2024-01-01"]).holidays, np.datetime_data(d.dtype), np.isnat(d))
print(np.datetime_as_string(d, unit="M"), (d - d[0]) / np.timedelta64(1, "D"), d.astype(int))
""",
    "records": """
r = np.array(
    [("Ann", 31, 1.7), ("Bob", 25, 1.8)], dtype=[("name", "U5"), ("age", "i4"), ("h", "f8")]
)
print(r, r["age"], r[0], r["h"].mean(), r[r["age"] > 30]["name"], r.dtype.names)
r["age"] += 1
print(np.sort(r, order="age"), r[["name", "h"]])
print(np.rec.fromarrays([[1, 2], [3.0, 4.0]], names="a,b").a)
""",
    "shapes": """
a = np.arange(6)
print(a.reshape(2, -1), a.reshape(3, 2).T, np.vstack([a, a]), np.hstack([a[:2], a[3:]]))
print(np.stack([a, a], 1))
print(np.split(a, 3), np.array_split(a, 4), np.concatenate([a, [9]]), np.tile(a[:2], 2))
print(np.repeat(a[:2], 2))
print(np.roll(a, 2), np.flip(a), np.squeeze(a[None]), np.expand_dims(a, 1).shape, np.pad(a[:2], 1))
print(np.insert(a, 1, 9), np.delete(a, [0, 1]), np.append(a, 3), np.rot90(a.reshape(2, 3)))
print(a.ravel().flags.c_contiguous)
print(np.lib.stride_tricks.sliding_window_view(a, 3), np.swapaxes(a.reshape(1, 2, 3), 0, 2).shape)
print(np.resize(a, 8))
""",
    "files": """
data = np.arange(6.0).reshape(3, 2)
np.savetxt("d.csv", data, delimiter=",", header="x,y", comments="", fmt="%.1f")
print(open("d.csv").read(), np.loadtxt("d.csv", delimiter=",", skiprows=1))
print(np.genfromtxt("d.csv", delimiter=",", names=True)["x"])
print(np.loadtxt("d.csv", delimiter=",", skiprows=1, usecols=1))
np.save("d.npy", data)
np.savez("d.npz", a=data, b=np.arange(3))
print(np.load("d.npy"), sorted(np.load("d.npz").files), np.load("d.npz")["b"])
np.savez_compressed("c.npz", data)
with np.load("c.npz") as archive:
    print(archive["arr_0"].sum(), "arr_0" in archive, list(archive))
data.tofile("d.bin")
print(np.fromfile("d.bin").reshape(3, 2))
print(np.memmap("d.bin", dtype=float, mode="r", shape=(3, 2))[1])
m = np.memmap("m.bin", dtype="i4", mode="w+", shape=(2, 2))
m[:] = [[1, 2], [3, 4]]
m.flush()
print(np.fromfile("m.bin", "i4"), np.loadtxt(["1 2", "3 4"], dtype=int).T)
print(np.fromstring("1, 2", sep=","))
import io
buffer = io.BytesIO()
np.save(buffer, data)
buffer.seek(0)
print(np.load(buffer), np.genfromtxt(io.StringIO("1,,3"), delimiter=",", filling_values=0))
""",
    "functions": """
f = np.vectorize(lambda a, b: a if a > b else b)
print(f([1, 5], [3, 2]), np.frompyfunc(lambda x: x + 1, 1, 1)(np.arange(3)))
print(np.apply_along_axis(sum, 0, np.eye(3)))
print(np.piecewise(np.arange(4.0), [np.arange(4) < 2], [0, lambda x: x * 2]))
print(np.select([np.arange(3) > 1], [7]))
print(np.clip([1, 5, 9], 2, 6), np.interp(1.5, [1, 2], [10, 20]), np.gradient([1.0, 4, 9]))
print(np.trapezoid([1, 2, 3]))
out = np.zeros(3)
np.multiply([1, 2, 3], 2, out=out, where=[True, False, True])
print(out, np.add.at(out, [0, 0], 1), out, np.hypot(3, 4), np.maximum([1, 5], 3), np.divmod(7, 3))
""",
    "sets and logic": """
a, b = np.array([1, 2, 3, 4]), np.array([3, 4, 5])
print(np.intersect1d(a, b), np.union1d(a, b), np.setdiff1d(a, b), np.isin(a, b), np.setxor1d(a, b))
print(np.any(a > 3), np.all(a > 0), (a > 1) & (a < 4), np.logical_xor(a > 2, a < 4), ~(a > 2))
print(np.array_equal(a, a.copy()), np.isclose(0.1 + 0.2, 0.3), np.count_nonzero(a % 2))
print(bool(a.any()))
try:
    bool(a > 2)
except ValueError as error:
    print(error)
""",
    "random": """
rng = np.random.default_rng(42)
print(rng.random(3), rng.integers(0, 10, 5), rng.normal(0, 1, (2, 2)), rng.choice([1, 2, 3], 2))
np.random.seed(0)
print(np.random.rand(2), np.random.randint(0, 5, 3), np.random.permutation(4), np.random.randn(1))
x = np.arange(5)
rng.shuffle(x)
print(x, rng.permutation(3), rng.standard_normal(2, dtype="f4"), rng.exponential(2.0))
""",
    "iteration": """
a = np.arange(4).reshape(2, 2)
for index, x in np.ndenumerate(a):
    print(index, x)
for x in np.nditer(a):
    print(x, end=" ")
with np.nditer(a, op_flags=["readwrite"]) as it:
    for x in it:
        x[...] = x * x
print(a, [x for x in a.flat], list(np.ndindex(1, 2)))
print([int(u + v) for u, v in np.broadcast([1, 2], 3)])
it = np.nditer(a, flags=["multi_index"])
while not it.finished:
    print(it.multi_index, it[0], end="; ")
    it.iternext()
""",
    "testing": """
np.testing.assert_allclose(np.array([1.0, 2]), [1, 2], rtol=1e-7)
np.testing.assert_array_equal(np.arange(3), [0, 1, 2])
np.testing.assert_raises(ValueError, lambda: np.ones(2) + np.ones(3))
try:
    np.testing.assert_array_equal(np.arange(3), [0, 1, 3])
except AssertionError as error:
    print(error)
try:
    np.arange(6).reshape(4, 2)
except ValueError as error:
    print(error)
try:
    np.arange(3)[5]
except IndexError as error:
    print(error)
""",
    "layout": """
a = np.zeros((3, 4), order="F")
print(a.strides, a.flags.f_contiguous, np.full((2, 2), 3, order="F").flags.fnc)
a += 1
print((a + 1).strides, np.empty_like(a).strides, np.zeros_like(a, order="C").strides)
b = np.array([[1, 2], [3, 4]], order="F")
print(b.ravel(order="K"), b.ravel("A"), b.flatten("K"), b.T.ravel(order="K"), b.copy().strides)
c = np.arange(24).reshape(2, 3, 4).transpose(1, 0, 2)
np.asarray(b).tofile("f.bin")
d = np.memmap("f.bin", b.dtype, "r", shape=(2, 2), order="F")
print(d.strides, np.array(b.T)[::-1].copy("K").strides)
print(c.ravel("K"), c[::-1].ravel("K"), b.astype(float).flags.fnc, b.astype("f4", "C").flags.fnc)
""",
    "elements": """
def double(x: np.ndarray[tuple[int], np.dtype[np.float64]]) -> np.ndarray:
    return x * 2
print(double(np.ones(2)))
print(bytes(np.argmax([0, 1, 2])), np.arange(2, 0, 2**63 - 1), np.arange(2, 5, 2**63 - 1))
a = np.array([1.5, 2.5, 3.5])
print(type(a[0]), isinstance(a[0], float), type(np.array([1])[0]), type(a[1] * 2), [*a], a[0].dtype)
print(type(np.sqrt(2.0)), np.maximum(a[0], a[1]), np.float32(1) + a[2], type(np.array(["x"])[0]))
total = 0
for i in range(len(a)):
    total += a[i]
    a[i] = total
m = np.zeros((2, 3), int)
for i in range(2):
    for j in range(3):
        m[i][j] = i * m[i, j - 1] + j
print(total, a, m, m.item(1, 2), [row.sum() for row in m])
""",
    "refusals": """
a = np.arange(6).reshape(2, 3)
a.resize(3, 2)
a.setflags(write=False)
trials = [
    lambda: a.sort(),
    lambda: np.add(a, 1, out=a),
    lambda: a.__iadd__(1),
    lambda: a.fill(1),
    lambda: a.__delitem__(0),
    lambda: np.reshape([1, 2, 3], (2, -1)),
    lambda: np.swapaxes(np.eye(2), 0, 3),
    lambda: np.arange(3) ** -1,
    lambda: np.arange(9)[np.arange(3.0)],
]
for trial in trials:
    try:
        print(trial())
    except (ValueError, IndexError) as error:
        print(error)
class Other:
    def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
        return "other " + ufunc.__name__
    def __array_function__(self, function, types, args, kwargs):
        return "other " + function.__name__
u = Other()
print(a, a + u, np.add(u, 1), np.sum(u), np.concatenate([u, u]), a < u)
r = np.array([(1, 2.0)], dtype="i4,f8").view(np.recarray)
print(r.f1, type(r).__name__)
""",
    "rarely met": """
import copy
mixed = np.array([1, "m", [2, 3]], dtype=object)
deep = copy.deepcopy(mixed)
deep[2][0] = 10
turned = np.array([[0, 1], [2, 3]], order="F")
turned.resize((2, 1))
print(mixed, turned, np.ndarray((2,), int, np.array([1, 2, 3]), 8), type(np.r_["c", [1]]).__name__)
print(np.concatenate([np.arange(2), np.ma.array([1, 2], mask=[0, 1])]))
masked = np.ma.array([1, 2, 3], mask=[0, 1, 0])
print(np.array(masked), np.asarray(masked), np.array([masked, masked]))
a = np.arange(9).reshape(3, 3)
np.einsum("ii->i", a)[:] = 0
np.einsum("ij->ji", a)[0] = 7
print(a, np.r_["0,2", [1, 2], [3, 4]], np.r_["r", [1, 2]], np.r_["1,2,0", [1, 2], [3, 4]])
x = np.eye(3)
x.setfield(3, np.int32)
x.setfield(np.eye(3), np.int32)
print(x, np.array([1.0, 2.0]).astype("i4", casting="same_value"), np.bmat("a,a;a,a"))
o = np.empty(3, dtype=object)
o.fill([1, 2])
print(o)
try:
    np.array([1.5]).astype(int, casting="same_value")
except ValueError:
    print("not the same")
""",
}


def imported(root: types.ModuleType) -> Any:
    """Make an `__import__` that gives `root` wherever a program says NumPy."""

    def own(name: str, *rest: Any) -> Any:
        # What NumPy's own code imports while it runs stays NumPy's.
        if name.partition(".")[0] != "numpy" or "._" in name:
            return builtins.__import__(name, *rest)
        return importlib.import_module(root.__name__ + name.removeprefix("numpy"))

    return own


def printed(program: str, np_: types.ModuleType, folder: Path) -> str:
    """Run a program in a folder of its own and give what it prints."""
    folder.mkdir()
    before = os.getcwd()
    names = {"np": np_, "__builtins__": {**vars(builtins), "__import__": imported(np_)}}
    with contextlib.redirect_stdout(io.StringIO()) as said, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            exec(program, names)
        finally:
            os.chdir(before)
    return re.sub(r"0x[0-9a-f]+", "0x", said.getvalue())


@pytest.fixture(params=MODES)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with chunkarr.config(**MODES[request.param]), np.printoptions():
        yield


@pytest.mark.usefixtures("_mode")
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_what_it_prints_with_numpy(name: str, tmp_path: Path) -> None:
    wanted = printed(PROGRAMS[name], np, tmp_path / "numpy")
    assert printed(PROGRAMS[name], chunkarr, tmp_path / "chunkarr") == wanted
