"""Programs that use the rarer parts of NumPy's library print what they print with NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import chunkarr
from tests.numpy.support import MODES
from tests.numpy.test_guide_programs import printed

PROGRAMS = {
    "masked operations": """
m, x = np.ma.array([3, 1, 2], mask=[0, 1, 0]), np.arange(3)
print(np.ma.minimum.reduce(m), np.ma.add.outer(m, x), np.ma.add.accumulate(m), np.ma.add(m, x))
print(np.ma.maximum(m, 2), np.ma.sqrt(m), np.ma.add.reduce(x), np.ma.minimum.__name__)
np.ma.put(x, [0], [9])
np.ma.putmask(x, [False, True, False], 7)
print(x, np.ma.core.masked_array(np.zeros(2)) + 1)
n = np.ma.core.masked_array(np.zeros((2, 2)))
n[0] = 1
print(n)
""",
    "fields": """
from numpy.lib.recfunctions import assign_fields_by_name, recursive_fill_fields

a = np.zeros(2, dtype=[("a", int), ("b", float)])
b = np.array([(1, 2.0), (3, 4.0)], dtype=[("b", int), ("a", float)])
assign_fields_by_name(a, b)
print(a)
c = np.zeros(3, dtype=a.dtype)
print(recursive_fill_fields(a, c) is c, c)
""",
    "seeds": """
from numpy.random import MT19937, PCG64, SFC64, Generator, Philox

print(Generator(MT19937(np.arange(10))).random(2), Philox(key=np.array([1, 2])).random_raw(2))
print(PCG64(np.uint64(3)).random_raw(), [hasattr(b(1), "jumped") for b in (SFC64, PCG64, MT19937)])
""",
    "generators": """
for draw in ("random", "standard_normal", "standard_exponential", "standard_gamma"):
    shape = () if draw != "standard_gamma" else (2.0,)
    for out in (np.zeros((2, 3), order="F"), np.zeros((3, 4))[:, ::2], np.zeros((2, 2)).T):
        try:
            print(getattr(np.random.default_rng(1), draw)(*shape, out=out))
        except ValueError as error:
            print(type(error).__name__)
""",
    "files": """
import io
import tempfile

with tempfile.NamedTemporaryFile() as file:
    file.write(b"12345678")
    mapped = np.memmap(file, dtype="u1", mode="r+")
    mapped[0] = 65
    mapped.flush()
    print(mapped, np.memmap(file.name, dtype="u1", mode="r", offset=4))
np.savez("few.npz", a=1, b=2)
np.savez("many.npz", *range(7))
print(np.load("few.npz"), np.load("many.npz"))
np.savetxt("a.csv.lzma", np.eye(2))
print(np.loadtxt("a.csv.lzma"), open("a.csv.lzma", "rb").read(5))
one, two = [("a", "i4")], [("a", "i4"), ("b", "f8")]
print(np.genfromtxt(io.StringIO("21\\n35"), dtype=one, unpack=True))
print(np.genfromtxt(io.StringIO("1"), dtype=one, unpack=True))
print(np.genfromtxt(io.StringIO("1 2\\n3 4"), dtype=two, unpack=True))
print(np.loadtxt(io.StringIO("21\\n35"), dtype=one, unpack=True))
""",
    "histograms": """
from decimal import Decimal

v, w = np.array([1.3, 2.5, 2.3]), np.array([Decimal(1), Decimal(2), Decimal(3)])
print(np.histogram(v, [1, 2, 3], weights=w), np.histogram(v, [1, 2, 3], weights=w)[0].dtype)
for bins in ([1, 0.99], [-1, 2], [1, 1.5], [1, [1, 2, -3]], [1], 0):
    try:
        print(np.histogramdd(np.arange(8).reshape(4, 2), bins))
    except (TypeError, ValueError) as error:
        print(type(error).__name__)
""",
    "elements": """
x, pair = np.arange(3), [("a", int), ("b", float)]
print(np.array([(x.sum(), 2.5), (1, x.mean())], dtype=pair), np.array((x.sum(), x[1]), dtype=pair))
print(np.array([(1, x), (2, x + 3)], dtype=[("a", int), ("b", int, (3,))])["b"])
print(np.asarray([[(x.max(), "x")]], dtype="i4, U3"), np.array([(x, x)], dtype=float))
r = np.array([(1, 2.0), (3, 4.0)], dtype=pair)
print(np.array([r, r]), np.array([r[0], r[1]]), np.array([r[1], (5, 6)], dtype=pair))
print(np.array([x.sum(), None]), np.array([np.array([1, None]), np.array([2, "a"])]))
for ragged in ("np.array([x, x[:2]])", "np.array([x, None])", "np.array([x, 5])"):
    try:
        print(eval(ragged))
    except ValueError:
        print("ragged")
print(np.array([x[:1], x[:2]], dtype=object), np.array([x, [None, 1, 2]]))
""",
    "arrangement": """
print(np.eye(2, dtype="S"), np.eye(2, 3, 1, dtype="U3"), np.identity(2, dtype="S2"))
print([np.eye(2, dtype=kind).dtype for kind in ("S", "U3", "M8[D]", object, "?")])
x, low = np.arange(12.0).reshape(3, 4), np.arange(3, 9).min()
print(np.pad(x, 1, constant_values=x.max()))
print(np.pad(x, ((0, low), (1, 0)), "linear_ramp", end_values=x.min()))
z = np.array([2 - 1j, np.nan, 1 + 1j, complex(0, np.nan), complex(1, np.nan), 2 - 1j])
print(np.unique(z, True, True, True)[1:])
wrong = (
    *("np.unique(np.arange(3), axis=0.0)", "np.pad(x, 1, 'maximum', stat_length=0)"),
    *("np.vstack(x for _ in range(2))", "np.column_stack(map(np.arange, [2, 2]))"),
    *("np.concatenate(iter([x, x]))", "np.stack(zip(x, x))", "np.hstack(r for r in x)"),
)
for text in wrong:
    try:
        print(text, eval(text))
    except (TypeError, ValueError) as error:
        print(text, type(error).__name__)
""",
    "choices": """
a = np.array([(1, b"a"), (2, b"b")], dtype=[("foo", "i4"), ("bar", "S1")])
print(np.insert(a, 1, (4, b"d")), np.insert(a, [0, 2], [(5, b"e"), (6, b"f")]))
print(np.insert(a, 0, a[1]), np.select([True], [0], default=[0]))
print(np.select([np.ones(3, bool)], [7], default=np.ones((2, 1))))
makers = (np.hanning, np.hamming, np.bartlett, np.blackman)
print([make(kind(n)).dtype for make in makers for kind in (np.float16, np.int8) for n in (0, 1)])
print(np.kaiser(np.float32(1), 2).dtype)
for order in (10, "r"):
    try:
        np.packbits(np.ones(9, bool), bitorder=order)
    except (TypeError, ValueError) as error:
        print(type(error).__name__)
""",
    "vectorize": """
@np.vectorize
def square(x):
    "Square."
    return x**2

square.cache = True
print(square(np.arange(5)), square.__doc__, square.otypes, square.pyfunc(3))
same = np.vectorize(lambda x: x)
same.otypes = "i"
print(same(np.zeros((0, 3))).dtype, same.otypes, same.signature)
try:
    np.vectorize(pyfunc=3)
except TypeError:
    print("no function")
print([window(np.uint8(5)).round(4) for window in (np.hanning, np.hamming, np.bartlett)])
""",
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.filterwarnings("error")
def test_a_program_prints_what_it_prints_with_numpy(name: str, mode: str, tmp_path: Path) -> None:
    with chunkarr.config(**MODES[mode]), np.printoptions():
        wanted = printed(PROGRAMS[name], np, tmp_path / "numpy")
        assert printed(PROGRAMS[name], chunkarr, tmp_path / "chunkarr") == wanted
