"""NumPy's sub-modules: every case on NumPy and on chunkarr, in every mode."""

from __future__ import annotations

import importlib
import pickle
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.arrays import Array
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.scheduler.budget import memory_in_use
from tests.numpy.support import MODES, NDArray, differences, uneven, usual

CHAPTERS = (
    *("char", "ctypeslib", "dtypes", "emath", "exceptions", "fft", "lib", "linalg", "ma"),
    *("polynomial", "random", "rec", "strings", "testing", "typing"),
)
PARTS = (
    *("lib.array_utils", "lib.format", "lib.mixins", "lib.npyio", "lib.recfunctions"),
    *("lib.scimath", "lib.stride_tricks", "ma.extras", "ma.mrecords", "polynomial.chebyshev"),
    *("polynomial.legendre", "polynomial.polynomial", "polynomial.polyutils"),
)


def given() -> dict[str, NDArray]:
    """Make stacks of matrices s (square), w (wide), h (Hermitian), vectors, texts and a signal."""
    rng = np.random.default_rng(7)
    s = rng.normal(size=(5, 3, 3)) + 3 * np.eye(3)
    return {
        "s": s,
        "m": s[0],
        "w": rng.normal(size=(4, 3, 5)),
        "h": s @ s.mT,
        "z": s[:2] + 1j * s[2:4],
        "i": rng.integers(-4, 5, (3, 3)),
        "v": rng.normal(size=3),
        "r": rng.normal(size=(5, 3)),
        "x": rng.normal(size=(6, 10)),
        "c": rng.normal(size=(4, 9)) + 1j,
        "f": rng.normal(size=(3, 8)).astype("f4"),
        "t": np.array([["ab", "C d "], ["  e", "Ee"], ["12", "x-y"]]),
        "u": np.array(["a", "xyz"]),
        "y": np.array([b"ab", b"C ", b"12"]),
    }


LINALG = """
np.linalg.inv(s) | np.linalg.inv(m) | np.linalg.inv(i) | np.linalg.inv(w) | np.linalg.inv(v)
np.linalg.inv(z) | np.linalg.inv(f) | np.linalg.inv(np.zeros((2, 2))) | np.linalg.det(s)
np.linalg.det(m) | np.linalg.det(i) | np.linalg.slogdet(s) | np.linalg.slogdet(m).sign
np.linalg.eigvalsh(h) | np.linalg.eigvalsh(h, UPLO="U") | np.linalg.eigh(h).eigenvalues
np.linalg.eigh(h)[0] | np.linalg.eigvals(s) | np.linalg.eigvals(h) | np.linalg.eigvals(z)
np.linalg.eig(h)[0] | np.linalg.eig(w) | np.linalg.eigvals(v)
np.linalg.eig(np.array([[0.0, -1.0], [1.0, 0.0]])).eigenvalues | np.abs(np.linalg.svd(w)[0])
np.linalg.svd(w, full_matrices=False)[1] | np.linalg.svd(w, False).S
np.linalg.svd(w, compute_uv=False) | np.linalg.svd(i)[2].shape | np.linalg.svdvals(s)
np.abs(np.linalg.qr(w)[1]) | np.abs(np.linalg.qr(w.mT, mode="r"))
np.linalg.qr(w, "complete").Q.shape | np.linalg.qr(w, "nonsense") | np.linalg.pinv(w)
np.linalg.pinv(i) | np.linalg.pinv(h, hermitian=True) | np.linalg.matrix_rank(s)
np.linalg.matrix_rank(m) | np.linalg.matrix_rank(i, tol=1.0) | np.linalg.cond(s)
np.linalg.cond(m, 1) | np.linalg.cond(s, "fro") | np.linalg.cholesky(h)
np.linalg.cholesky(h[0], upper=True) | np.linalg.solve(s, r[..., None]) | np.linalg.solve(m, v)
np.linalg.solve(s, v) | np.linalg.solve(a=m, b=r.T) | np.linalg.solve(w, v)
np.linalg.solve(m, v[:2]) | np.linalg.lstsq(r, r[:, 0])[0] | np.linalg.lstsq(r, r)[1]
np.linalg.lstsq(r, r[:, :2], rcond=0.5)[3] | np.linalg.matrix_power(s, 3)
np.linalg.matrix_power(s, 0) | np.linalg.matrix_power(m, -2) | np.linalg.matrix_power(i, 5)
np.linalg.matrix_power(w, 2) | np.linalg.matrix_power(s, 1.5) | np.linalg.multi_dot([r.T, r, m, m])
np.linalg.multi_dot([v, m, v]) | np.linalg.multi_dot([m]) | np.linalg.norm(x)
np.linalg.norm(x, axis=1) | np.linalg.norm(x, axis=0, keepdims=True) | np.linalg.norm(x, 1)
np.linalg.norm(x, -1) | np.linalg.norm(x, np.inf) | np.linalg.norm(x, -np.inf)
np.linalg.norm(x, 2) | np.linalg.norm(x, -2) | np.linalg.norm(x, "nuc") | np.linalg.norm(x, "fro")
np.linalg.norm(v, 3) | np.linalg.norm(v, 0) | np.linalg.norm(v, np.inf) | np.linalg.norm(v, -1.5)
np.linalg.norm(w, axis=(0, 2), ord=1) | np.linalg.norm(w, axis=(2, 1), ord="nuc", keepdims=True)
np.linalg.norm(i) | np.linalg.norm(c) | np.linalg.norm(c, axis=1) | np.linalg.norm(f, axis=0)
np.linalg.norm(v, "fro") | np.linalg.norm(x, 7) | np.linalg.norm(w, 2)
np.linalg.norm(x, axis=(0, 0)) | np.linalg.vector_norm(x)
np.linalg.vector_norm(w, axis=(0, 1), ord=1) | np.linalg.matrix_norm(s)
np.linalg.matrix_norm(s, ord=2, keepdims=True) | np.linalg.outer(v, v) | np.linalg.outer(m, v)
np.linalg.cross(r, v) | np.linalg.cross(x, x) | np.linalg.trace(s) | np.linalg.trace(w, offset=1)
np.linalg.diagonal(w, offset=-1) | np.linalg.matrix_transpose(w) | np.linalg.vecdot(r, v)
np.linalg.tensordot(x, x, axes=2) | np.linalg.matmul(s, s)
np.linalg.tensorinv(np.eye(24).reshape(4, 6, 8, 3), ind=2)
np.linalg.tensorsolve(np.eye(6).reshape(2, 3, 6), np.arange(6.0))[0:2]
"""

FFT = """
np.fft.fft(x) | np.fft.fft(x, axis=0) | np.fft.fft(x, 7) | np.fft.fft(x, 16, -1, "ortho")
np.fft.fft(c, norm="forward") | np.fft.ifft(c) | np.fft.ifft(c, axis=0, n=3) | np.fft.fft(f)
np.fft.rfft(x) | np.fft.rfft(x, axis=0, norm="ortho") | np.fft.irfft(c) | np.fft.irfft(c, 9)
np.fft.hfft(c) | np.fft.ihfft(x) | np.fft.fft(x, 0) | np.fft.fft(x, norm="nonsense")
np.fft.fft(x, axis=5) | np.fft.rfft(c) | np.fft.fft(i) | np.fft.fft(2.0) | np.fft.fft2(x)
np.fft.ifft2(c) | np.fft.rfft2(x) | np.fft.irfft2(c) | np.fft.fft2(w, axes=(0, 2)) | np.fft.fftn(w)
np.fft.fftn(w, axes=(0, 1)) | np.fft.fftn(w, (2, 8), (0, 2)) | np.fft.ifftn(w) | np.fft.rfftn(w)
np.fft.irfftn(c) | np.fft.irfftn(w, s=(4, 5), axes=(1, 2)) | np.fft.fftn(w, (2, 3), (0,))
np.fft.rfftn(w, s=(-1, 4), axes=(0, 1)) | np.fft.fftshift(x) | np.fft.ifftshift(x, axes=0)
np.fft.fftshift(x, axes=(1,)) | np.fft.fftfreq(9) | np.fft.fftfreq(8, d=0.1)
np.fft.rfftfreq(10, 0.5) | np.abs(np.fft.ifft(np.fft.fft(x)) - x).max() < 1e-12
"""

STRINGS = """
np.strings.upper(t) | np.strings.lower(y) | np.strings.swapcase(t) | np.strings.capitalize(t)
np.strings.title(t) | np.strings.strip(t) | np.strings.lstrip(t, " a") | np.strings.rstrip(y)
np.strings.strip(t, None) | np.strings.lstrip(t, chars=None)
np.strings.add(t, u) | np.strings.add(t, "!") | np.strings.find(t, "b") | np.strings.rfind(t, u)
np.strings.find(t, "e", 1) | np.strings.find(t, "e", end=1) | np.strings.count(t, "e")
np.strings.index(t, "") | np.strings.index(t, "q") | np.strings.startswith(t, "a")
np.strings.endswith(t, u) | np.strings.isalpha(t) | np.strings.isdigit(y) | np.strings.isspace(t)
np.strings.isnumeric(t) | np.strings.str_len(t) | np.strings.equal(t, "ab")
np.strings.not_equal(t, t) | np.strings.less(u, "b") | np.strings.multiply(t, 2)
np.strings.center(t, 9, "*") | np.strings.zfill(t, 5) | np.strings.ljust(u, 6)
np.strings.replace(t, "e", "EEE") | np.strings.partition(t, "-")[2] | np.strings.mod(u, u)
np.strings.encode(u) | np.strings.decode(y) | np.strings.expandtabs(t)
np.strings.translate(t, None) | np.strings.upper(x) | np.char.upper(t) | np.char.add(t, "x")
np.char.join("-", u) | np.char.split(u) | np.char.equal(t, "e ") | np.char.str_len(t)
"""

OTHERS = """
np.emath.sqrt(x) | np.emath.sqrt(x * x) | np.emath.log(x) | np.emath.log2(i) | np.emath.log10(x)
np.emath.arccos(x) | np.emath.arcsin(x / 100) | np.emath.arctanh(x) | np.emath.logn(2, x)
np.emath.power(x, 0.5) | np.emath.power(i, 2) | np.emath.power(i + 9, -2) | np.lib.scimath.sqrt(v)
np.lib.stride_tricks.sliding_window_view(x, 3, axis=1)
np.lib.stride_tricks.sliding_window_view(x, (2, 4))
np.lib.stride_tricks.sliding_window_view(x, (2, 2), (0, 0)).sum()
np.lib.stride_tricks.sliding_window_view(v, 9)
np.lib.stride_tricks.sliding_window_view(x, 3, 1).mean(axis=-1)
np.lib.stride_tricks.sliding_window_view(x, 3)
np.lib.stride_tricks.as_strided(np.arange(12.0), (3, 4), (8, 16)) | np.broadcast(x, v[0]).shape
np.polynomial.Polynomial([1, 2, 3])(x) | np.polynomial.Chebyshev([1, 2, 3], domain=[0, 4])(x)
np.polynomial.polynomial.polyval(x, [1, 2]) | np.polynomial.legendre.legval(x, [[1, 2], [3, 4]])
np.polynomial.polynomial.polyadd([1, 2], [3]) | np.polynomial.polynomial.polyfromroots(v)
np.polynomial.Polynomial.fit(np.arange(9.0), np.arange(9.0) ** 2, 2).convert().coef.round(6)
np.polynomial.hermite.hermvander(v, 3) | np.polynomial.polynomial.polyroots(v)
np.ma.filled(np.ma.masked_less(x, 0), 0.5) | np.ma.masked_invalid(x).sum() | np.ma.getmaskarray(x)
np.ma.compressed(np.ma.masked_where(x > 0, x)) | np.ma.median(np.ma.masked_less(x, 0))
np.mean(np.ma.masked_less(x, 0)) | np.ma.masked_less(i, 0).mean(axis=0).filled(7)
(x + np.ma.masked_less(x, 0)).filled(9) | (np.ma.masked_less(x, 0) * x).filled(9)
np.add(x, np.ma.masked_less(x, 0)).filled(9) | np.sqrt(np.ma.masked_less(x, 0)).filled(9)
np.rec.fromarrays([v, v], names="a,b")["a"] | np.dtypes.Int8DType()
np.exceptions.AxisError(3).axis | np.shares_memory(x, x[1:]) | np.shares_memory(x[::2], x[1::2])
np.may_share_memory(x, x.copy()) | np.isfortran(x) | np.isfortran(x.T)
np.shares_memory(x, x.reshape(-1)) | np.shares_memory(x, v) | [str(e) for e in np.nditer(v)]
[a + b for a, b in np.broadcast(v, v[:, None])] | np.broadcast(x, v)
np.format_float_positional(v[0]) | np.binary_repr(5) | np.asmatrix(x).shape
np.bmat([[m, m]]).shape
"""

CASES = [
    text.strip()
    for table in (LINALG, FFT, STRINGS, OTHERS)
    for line in table.strip().split("\n")
    for text in line.split(" | ")
]


@pytest.fixture(params=[*MODES, "uneven"])
def mode(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run small work eagerly, lazily, in very many chunks, and on uneven cuts."""
    with chunkarr.config(**MODES.get(request.param, {})):
        yield request.param


@pytest.mark.parametrize("text", CASES)
def test_a_case_agrees(text: str, mode: str) -> None:
    make = uneven if mode == "uneven" and "shares" not in text else usual
    assert differences(text, given(), make) == ""


@pytest.mark.parametrize("name", CHAPTERS)
def test_a_chapter_has_all_of_numpys_names(name: str) -> None:
    theirs = getattr(np, name)
    own = getattr(chunkarr, name)
    listed = set(getattr(theirs, "__all__", None) or [n for n in dir(theirs) if n[0] != "_"])
    assert [n for n in sorted(listed - {"test"}) if not hasattr(own, n)] == []
    assert listed - {"test"} <= set(dir(own))
    with pytest.raises(AttributeError):
        own.nonsense  # noqa: B018


@pytest.mark.parametrize("name", [*CHAPTERS, *PARTS])
def test_a_chapter_is_imported_by_its_name(name: str) -> None:
    command = f"import chunkarr.{name} as m; import chunkarr as np; print(m is np.{name})"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "True", done.stderr


def test_no_file_hides_a_name_of_numpy() -> None:
    # Python sets a module as an attribute of its package: it would take the place of the name.
    files = {module.name for module in pkgutil.iter_modules(chunkarr.__path__)}
    assert {name for name in files if hasattr(np, name)} <= set(CHAPTERS)


def test_a_star_takes_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from chunkarr.linalg import *", names)
    assert {"inv", "LinAlgError", "norm"} <= names.keys()


@pytest.mark.parametrize("name", ["fft.fft", "linalg.inv", "linalg.eig", "strings.upper", "ma.add"])
def test_functions_pickle_by_their_name(name: str) -> None:
    chapter, _, function = name.partition(".")
    found = getattr(importlib.import_module(f"chunkarr.{chapter}"), function)
    assert pickle.loads(pickle.dumps(found)) is found


@pytest.mark.parametrize(
    "text",
    [
        "np.linalg.inv(x)",
        "np.linalg.svd(x)[1]",
        "np.fft.fft(x)",
        "np.strings.upper(t)",
        "np.lib.stride_tricks.sliding_window_view(x, 2, 0)",
    ],
)
def test_numpys_own_functions_find_chunkarrs(text: str) -> None:
    x, t = chunkarr.asarray(np.eye(3) + 1)[0:], chunkarr.asarray(np.array(["a"]))
    found = eval(text, {"np": np, "x": x if "slid" not in text else x[0]} | {"t": t})
    assert isinstance(found, Array)


def test_results_are_lazy_and_of_any_length() -> None:
    with chunkarr.config(memory=memory_in_use() + (400 << 20), chunk_bytes="1MiB", workers=1):
        stack = chunkarr.ones((10**6, 3, 3)) + chunkarr.eye(3)
        assert stack.nbytes == 72 * 10**6
        total = chunkarr.linalg.det(stack).sum()
        assert round(float(total)) == 4 * 10**6
        signal = chunkarr.ones((4000, 1000))
        power = abs(chunkarr.fft.rfft(signal)).sum(axis=0)
        assert float(power[0]) == 4e6


def test_what_does_not_fit_is_refused_before_it_runs() -> None:
    with chunkarr.config(memory=memory_in_use() + (200 << 20)):
        large = chunkarr.ones((40_000, 40_000))
        with pytest.raises(MemoryBudgetError, match="masked_less"):
            chunkarr.ma.masked_less(large, 0)
        with pytest.raises(MemoryBudgetError):
            chunkarr.linalg.inv(large).sum().compute()
        with pytest.raises(MemoryBudgetError, match="nditer"):
            chunkarr.nditer(large)


def test_windows_and_strides_are_read_only_unless_asked() -> None:
    x = chunkarr.arange(5)
    for seen in (
        chunkarr.lib.stride_tricks.sliding_window_view(x, 2),
        chunkarr.lib.stride_tricks.as_strided(x, (2, 2), (8, 8), writeable=False),
    ):
        with pytest.raises(ValueError, match="read-only"):
            seen[0, 0] = 1
    with pytest.raises(ValueError, match="leave the memory"):
        chunkarr.lib.stride_tricks.as_strided(x, (6,), (8,))


def test_windows_see_what_is_written_to_the_base() -> None:
    x = chunkarr.arange(5)
    seen = chunkarr.lib.stride_tricks.sliding_window_view(x, 2)
    x[1] = 9
    assert seen.compute().tolist() == [[0, 9], [9, 2], [2, 3], [3, 4]]


@pytest.mark.parametrize("settings", MODES.values(), ids=list(MODES))
@pytest.mark.parametrize("read", [False, True])
def test_strides_write_to_the_base(settings: dict[str, Any], read: bool) -> None:
    with chunkarr.config(**settings):
        x, plain = chunkarr.arange(8), np.arange(8)
        for array, xp in ((x, chunkarr), (plain, np)):
            before = array + 1 if read else None
            windows = xp.lib.stride_tricks.sliding_window_view(array, 3, writeable=True)
            windows[1, :2] = 50
            xp.lib.stride_tricks.as_strided(array, (2, 2), (32, 8))[1] = [7, 8]
            assert before is None or before.tolist() == list(range(1, 9))
        assert x.tolist() == plain.tolist()


OVER = ["readwrite", "updateifcopy"]


@pytest.mark.parametrize("settings", MODES.values(), ids=list(MODES))
def test_an_iterator_writes_to_the_array(settings: dict[str, Any]) -> None:
    with chunkarr.config(**settings):
        x = chunkarr.arange(6).reshape(2, 3)
        double = x * 2
        with chunkarr.nditer(x, op_flags=["readwrite"]) as it:
            for value in it:
                value[...] = value + 1
        assert x.compute().tolist() == [[1, 2, 3], [4, 5, 6]]
        assert double.compute().tolist() == [[0, 2, 4], [6, 8, 10]]
        with chunkarr.nditer(x, [], [OVER], ["i2"], casting="unsafe") as it:
            it.operands[0][...] = 9  # a buffer of another dtype, written back at the end
            it.operands[0][...] = 7
        assert (x == 7).all()


@pytest.mark.parametrize("settings", MODES.values(), ids=list(MODES))
def test_numba_takes_arrays_and_names(settings: dict[str, Any]) -> None:
    numba = pytest.importorskip("numba")
    np_ = chunkarr

    @numba.njit
    def halve(a):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        out = np_.empty_like(a)
        for i in range(len(a)):
            out[i] = np_.sqrt(a[i])
        a[0] = -1
        return out, np_.sum(a)

    with chunkarr.config(**settings):
        x = chunkarr.asarray(np.array([4.0, 9.0, 16.0]))
        roots, total = halve(x)
        assert (roots.tolist(), total) == ([2.0, 3.0, 4.0], 24.0)
        assert x.compute().tolist() == [-1.0, 9.0, 16.0]


@pytest.mark.parametrize("name", ["core", "f2py", "test"])
def test_names_that_are_not_about_arrays_say_where_to_look(name: str) -> None:
    with pytest.raises(AttributeError, match=f"no attribute '{name}': it "):
        getattr(chunkarr, name)


def test_c_code_is_refused_chunked_arrays() -> None:
    with pytest.raises(NotYetError, match="compute"):
        chunkarr.ctypeslib.as_ctypes(chunkarr.ones(3))


def test_assertions_of_numpy_take_arrays() -> None:
    x = chunkarr.arange(3.0)
    chunkarr.testing.assert_allclose(x, x * (1 + 1e-12))
    chunkarr.testing.assert_array_equal(x, [0, 1, 2])
    with pytest.raises(AssertionError, match="Mismatched elements: 3 / 3"):
        chunkarr.testing.assert_array_equal(x, x + 1)
