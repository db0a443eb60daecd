"""The differential table, functions: texts that mean the same on NumPy and on chunkarr.

The operands are those of `support.SHAPES`: planes x and y, row r, column c, zero-dimensional z,
vectors v and w, empty e, three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.cases import texts
from tests.numpy.support import NUMBERS, REAL

REDUCTIONS = """
np.{f}(x)
np.{f}(x, axis=0)
np.{f}(x, axis=1)
np.{f}(x, axis=-1, keepdims=True)
np.{f}(x, keepdims=True)
np.{f}(v)
np.{f}(z)
np.{f}(t, axis=1)
x.{f}()
x.{f}(0)
x.T.{f}(axis=0)
x[::2, 1:].{f}(1)
np.{f}(x, axis=2)
np.{f}(x, axis=1.5)
np.{f}(x + 1, axis=0)
"""

AXES = """
np.{f}(t, axis=(0, 2))
np.{f}(t, axis=(-1, 0), keepdims=True)
np.{f}(t, axis=())
np.{f}(t, axis=(0, 0))
np.{f}(t, axis=(0, 1, 2))
np.{f}(e, axis=0)
np.{f}(e, axis=1)
np.{f}(e)
np.{f}(x, where=m)
np.{f}(x, axis=0, where=m)
np.{f}(x, axis=1, where=k[:, None])
"""

REDUCERS = ("sum", "prod", "mean", "var", "std", "min", "max", "any", "all")

ARG_REDUCERS = ("argmin", "argmax")

MORE_REDUCTIONS = (
    """
np.sum(x, dtype='f4')
np.sum(x, dtype='i8')
np.sum(x, initial=10)
np.sum(x, out=np.zeros((), x.dtype))
np.sum(z, axis=0)
np.max(z, axis=-1)
np.argmax(z, axis=0)
np.mean(z, axis=0)
np.cumsum(z, axis=0)
np.sum(z, axis=1)
np.sum(z, axis=(0,))
x.max().sum(axis=0)
np.prod(x, axis=0, out=np.zeros(5, x.dtype))
np.sum(x, axis=0, initial=10, where=m)
np.prod(x, dtype='f8')
np.prod(x, initial=2)
np.mean(x, dtype='f4')
np.var(x, ddof=1)
np.var(x, axis=0, ddof=1)
np.std(x, axis=1, ddof=2)
np.std(x, axis=1, ddof=7)
np.var(x, correction=1)
np.std(x, dtype='f4')
np.max(x, initial=100)
np.min(x, axis=0, initial=0, where=m)
np.max(x, where=m)
np.max(e, initial=3)
np.max(e, axis=0, initial=3)
np.amin(x)
np.amax(x, 1)
np.ptp(x)
np.ptp(x, axis=0)
np.ptp(x, axis=(0, 1), keepdims=True)
np.count_nonzero(x)
np.count_nonzero(x, axis=0)
np.count_nonzero(x, axis=1, keepdims=True)
np.count_nonzero(x, axis=(0, 1))
np.count_nonzero(z)
np.cumsum(x)
np.cumsum(x, axis=0)
np.cumsum(x, axis=1)
x.cumsum(-1)
np.cumsum(v)
np.cumsum(e, axis=0)
np.cumsum(z)
np.cumsum(x, axis=1, dtype='f8')
np.cumsum(x, axis=2)
np.cumprod(x)
np.cumprod(x, axis=0)
np.cumprod(x, axis=1)
np.add.reduce(x)
np.add.reduce(x, axis=None)
np.add.reduce(x, axis=(0, 1), keepdims=True)
np.multiply.reduce(x, 1)
np.maximum.reduce(x, axis=1)
np.minimum.reduce(x)
np.logical_or.reduce(x)
np.logical_and.reduce(x, axis=1)
np.bitwise_or.reduce(x)
np.bitwise_and.reduce(x, axis=1)
np.bitwise_xor.reduce(x)
np.add.accumulate(x)
np.add.accumulate(x, axis=1)
np.multiply.accumulate(x)
np.maximum.accumulate(x)
np.minimum.accumulate(x, axis=1)
np.add.outer(r, v)
np.multiply.outer(r, r)
np.mean(x[m])
np.any(x[m])
(x - x.mean(0)) / x.std(0)
x.sum() + x.mean()
x.sum(0) / x.sum()
np.max(x.sum(axis=0))
np.sum([x, y])
np.sum([x, y], axis=0)
np.sum([[1, 2], [3, 4]], axis=1)
np.max([x[0, 0], x[1, 1]])
np.sum(x, 0, 'f8')
np.sum(x, 0, None, None, True)
np.mean(x, (0, 1))
np.vdot(a, a)
np.vdot(v, w)
np.argmax(x, axis=(0, 1))
np.sum(x, axis='a')
np.mean(x, foo=1)
""",
    NUMBERS,
)

SELECTIONS = (
    """
x[m]
x[m].shape
len(x[m])
x[k]
x[k].shape
x[~m]
x[x > 0]
x[m].sum()
x[m].mean()
x[m].max()
x[m].min()
x[m].max(initial=5)
x[m].min(axis=None, keepdims=False)
np.amax(x[x > x[0, 0]]) if x.dtype.kind != 'c' else 1
np.ptp(x[m]) if x.dtype.kind != 'b' else 1
x[m & ~m].max()
x[m & ~m].min(initial=1)
x[k].max()
x[m].std()
x[m].prod()
x[m].any()
x[m].argmax()
(x[m] * 2).sum()
x[m] * 2
x[m] + y[m]
x[m] + 1 > 2
x[m] + x[k].ravel()[:1]
np.count_nonzero(x[m])
x[k].sum(0)
x[k].sum(1)
x[k] + r
x[k].T
x[m][2:5]
x[m][-1]
x[m][::-1]
x[m].reshape(-1, 1)
np.concatenate([x[m], y[m]])
np.cumsum(v[n])
v[n][n[n]]
x[np.zeros((7, 5), bool)]
x[np.zeros((7, 5), bool)].sum()
x[np.ones((7, 5), bool)]
x[m].size
x[m].ndim
x[m].dtype
x[m][100]
e[np.zeros((0, 5), bool)]
e[np.zeros(0, bool)]
x[m[:3]]
x[True]
x[False].shape
x[[True] * 7]
np.where(m, x, y)
np.where(m, x, 0)
np.where(m, 1, 0)
np.where(m, x, 2.5)
np.where(x, 1, 2)
np.where(m, r, c)
np.where(True, x, y)
np.where(k[:, None], x, y)
np.where(m, x)
np.where(z, 1, 2)
np.where(m, x, t)
""",
    ("i4", "f8", "c16"),
)

ELEMENTWISE = (
    """
np.clip(x, 0, 2)
np.clip(x, -1.5, 2.5)
np.clip(x, 1, None)
np.clip(x, None, 1)
np.clip(x, y, 3)
x.clip(0, 1)
x.clip(min=1)
x.clip(max=1)
np.clip(x, 3, 0)
np.clip(x, r, c)
np.clip(x)
np.clip(x, 0, 300)
np.clip(x, min=0, max=1)
np.clip(x, 0, 2, out=x)
np.clip(z, 0, 1)
x.round()
x.round(1)
np.round(x, -1)
np.around(x, 2)
np.round(z)
np.isclose(x, y)
np.isclose(x, x + 1e-9)
np.isclose(x, 1)
np.isclose(x, y, rtol=0.5)
np.isclose(x, x, equal_nan=True)
np.isclose(x, y, atol=1, rtol=0)
np.isclose(r, c)
np.isclose(1, 1)
np.isclose(z, z)
np.allclose(x, x)
np.allclose(x, y)
np.allclose(x, x, equal_nan=True)
np.allclose(v, 0, atol=1e9)
np.array_equal(x, x)
np.array_equal(x, y)
np.array_equal(x, r)
np.array_equal(x, x, equal_nan=True)
np.nan_to_num(x)
np.nan_to_num(x, nan=1, posinf=2, neginf=3)
np.angle(x)
np.angle(x, deg=True)
np.isreal(x)
np.iscomplex(x)
np.astype(x, 'f8')
np.dot(a, b)
np.dot(v, w)
np.dot(a, b[:, 0])
np.dot(x, 2)
np.dot(2, 3)
np.dot(a, a)
np.dot(z, x)
a.dot(b)
np.dot(a[None], b)
np.matmul(a, b)
np.matmul(a, b, dtype='f8' if a.dtype.kind != 'c' else 'c16')
np.matmul(t.transpose(0, 2, 1), t)
np.matmul(a, v)
np.matmul(a, z)
np.matmul(a, b, out=np.zeros((4, 3), a.dtype))
np.vecdot(x, y)
np.matvec(a, b[:, 0])
np.vecmat(b[:, 0], b)
np.sort(v)
np.sort(x)
np.sort(x, axis=0)
np.sort(x, axis=None)
np.sort(v[::-1])
""",
    (*REAL, "c16"),
)

OUT = (
    """
np.add(x, y, out=x)
np.add(x, y, x)
np.add(x, y, out=(x,))
np.add(x, y, out=np.zeros((7, 5), 'f8'))
np.add(x, y, out=np.zeros((7, 5), 'c16'))
np.add(x, y, out=np.zeros((7, 5), 'i1'))
np.add(x, r, out=np.zeros((2, 7, 5), 'c16'))
np.add(x, y, out=np.zeros((5, 7), 'c16'))
np.add(x, y, out=np.zeros(5, 'c16'))
np.add(x, y, out=[1, 2])
np.add(x, y, where=m, out=np.zeros((7, 5), 'c16'))
np.add(x, y, where=k[:, None], out=np.ones((7, 5), 'c16'))
np.add(x, y, where=False, out=np.ones((7, 5), 'c16'))
np.sqrt(x, where=x > 0, out=np.zeros((7, 5), 'c16'))
np.add(x, y, out=x[::-1])
np.add(x[1:], 1, out=x[:-1])
np.sum(x, out=np.zeros((), 'c16'))
np.sum(x, axis=0, out=np.zeros(5, 'c16'))
np.sum(x, axis=0, out=np.zeros(4, 'c16'))
x.sum(1, out=np.zeros(7, 'c16'))
np.mean(x, axis=1, out=np.zeros(7, 'c16' if x.dtype.kind == 'c' else 'f8'))
np.cumsum(x, axis=1, out=np.zeros((7, 5), 'c16'))
np.max(x, axis=0, out=np.zeros(5, x.dtype))
np.modf(x, out=(np.zeros((7, 5)), np.ones((7, 5))))
np.modf(x, out=(np.zeros((7, 5)), None))
np.divmod(x, 3, out=(None, np.zeros((7, 5))))
np.add.reduce(x, 0, out=np.zeros(5, 'c16'))
np.add.accumulate(x, 0, out=np.zeros((7, 5), 'c16'))
np.add(1, 2)
np.add([1, 2], 3)
np.add(1)
np.add(1, 2, 3, 4)
np.add(x, y, foo=1)
np.sin(x, y, x)
np.subtract(x, y, out=np.zeros((7, 5), 'c16'))[1]
np.matmul(a, b, np.zeros((4, 3), 'c16'))
np.dot(a, b, np.zeros((4, 3), a.dtype))
np.where(m, x, 0) + np.add(x, 1, where=m, out=np.zeros((7, 5), 'c16'))
np.add(x, y, where='a')
np.add(x, y, out=np.zeros((7, 5), 'c16'), where=[2, 0, 1, 0, 1])
np.add(x, y, out=np.zeros((7, 5), 'c16'), where=None)
np.add(x, y, out=np.zeros((7, 5), 'c16'), where=np.arange(5))
np.add(x, y, out=np.zeros((7, 5), 'c16'), where=np.int64(1))
np.add(x, y, out=np.zeros((7, 5), 'c16'), where=m.any())
np.add(x, y, where=m, out=np.zeros((7, 5), 'c16'), casting='unsafe')
np.add(x, y, out=np.zeros((7, 5), 'i1'), casting='unsafe')
np.add(x, 1, out=None)
np.clip(x, 0, 1, out=np.zeros((7, 5), x.dtype))
np.concatenate([r, r], out=np.zeros(10, r.dtype))
np.negative(x, out=x[...])
""",
    ("i4", "f4", "f8", "c16"),
)

PAIRS = """
x + y
x * y
x / y
x // y
x ** y
x > y
x == y
np.maximum(x, y)
np.arctan2(x, y)
np.where(m, x, y)
x & y
np.concatenate([x, y])
np.result_type(x, y)
np.hypot(x, r)
np.copysign(x, y)
a @ w[:6]
np.isclose(x, y)
"""
"""Two operands of each pair of dtypes."""

DATES = """
s
s + d
d + s
s - s
s - d
d + d
d * 2
2 * d
d / 2
d / d
d // d
d // 2
d % d
-d
abs(d)
d + 5
s + 5
s == s[::-1]
s < s[::-1]
s > numpy.datetime64('2020-01-05')
np.maximum(s, s[::-1])
s.min()
s.max()
d.sum()
d.mean()
d.std()
d.min()
s.argmax()
s - s[0]
s[1:] - s[:-1]
s.astype('M8[D]')
s.astype('i8')
d.astype('m8[m]')
d.astype('f8')
np.isnat(s)
np.isnan(d)
np.where(d > numpy.timedelta64(0), d, -d)
np.sort(s)
np.cumsum(d)
s + s
s * 2
s + 1.5
d * 1.5
d ** 2
np.sqrt(d)
s[s > s[3]]
s[2] - s[1]
s.sum()
repr(s)
str(d)
s[0]
s[0].item()
np.isclose(d, d)
np.sign(d)
d == 0
s + numpy.timedelta64(1, 'D')
np.concatenate([s, s])
np.clip(d, numpy.timedelta64(0), numpy.timedelta64(3, 's'))
d.prod()
"""

LATER = """
np.subtract.reduce(x)
x[m, 0]
x[:, [True, False, True, False, False]]
x[[0, 2]]
x[[0, 2], [1, 1]]
x[numpy.array([0, 2])]
x[[]]
x[[0, 2]] = 1;x
x.astype(object)
x + numpy.array([None] * 5)
np.median(x)
np.unique(x)
numpy.median(x)
numpy.unique(x)
numpy.gradient(x)
numpy.fft.fft(x)
numpy.einsum('ij->j', x)
numpy.linalg.inv(x @ x.T)
numpy.put(x, [1], 2);x
numpy.copyto(x, 1);x
numpy.add.at(x, 0, 1);x
numpy.add.reduceat(v, [0, 2])
numpy.interp(v, v, w)
numpy.rot90(x)[0]
numpy.atleast_2d(v)
numpy.apply_along_axis(lambda q: q.sum(), 0, x)
numpy.savetxt('/dev/null', x)
x.flat[0]
x.tobytes()
x.argsort()
np.sort(x, order='a')
np.array(['b', 'a']) == 'b'
"""
"""What is not there for large arrays: the right answer, or NotYetError or AttributeError."""

UFUNC_CALLS = {
    1: """
np.UFUNC(x)
np.UFUNC(z)
np.UFUNC(e)
np.UFUNC(x[0, 0])
np.UFUNC(x[::2, ::-1])
np.UFUNC(2)
np.UFUNC(x, where=m, out=np.UFUNC(y)) if np.UFUNC.nout == 1 else None
numpy.UFUNC(x)
""",
    2: """
np.UFUNC(x, y)
np.UFUNC(x, r)
np.UFUNC(c, r)
np.UFUNC(x, 2)
np.UFUNC(3, x)
np.UFUNC(x, 1.5)
np.UFUNC(e, e)
np.UFUNC(z, z)
np.UFUNC(x, [1, 2, 3, 4, 5])
np.UFUNC(x, t)
numpy.UFUNC(x, y)
np.UFUNC(x, y, out=np.UFUNC(y, x)) if np.UFUNC.nout == 1 else None
""",
}
"""How each ufunc of one or two arguments is called."""

ENTRIES = ("np.zeros((3, 4))", "np.arange(5)", "np.eye(3)", "np.ones((2, 0))", "np.zeros(())")


GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "reductions": (
        [line.format(f=f) for f in (*REDUCERS, *ARG_REDUCERS) for line in texts(REDUCTIONS)]
        + [line.format(f=f) for f in REDUCERS for line in texts(AXES)],
        NUMBERS,
    ),
    "more": (texts(MORE_REDUCTIONS[0]), MORE_REDUCTIONS[1]),
    "selections": (texts(SELECTIONS[0]), SELECTIONS[1]),
    "elementwise": (texts(ELEMENTWISE[0]), ELEMENTWISE[1]),
    "out": (texts(OUT[0]), OUT[1]),
}
"""Texts by topic, and the dtypes that their operands are made of."""
