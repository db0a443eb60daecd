"""The differential table, arrays: texts that mean the same on NumPy and on chunkarr.

A case is one line; its last statement is what is compared. The operands are those of
`support.SHAPES`: planes x and y, row r, column c, zero-dimensional z, vectors v and w, empty e,
three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.support import DTYPES, FEW

CREATION = (
    """
np.zeros(3)
np.zeros((2, 3), int)
np.zeros((0, 3))
np.zeros(())
np.ones((3, 2), 'f4')
np.ones(4, dtype=bool)
np.empty((3, 2), 'i2').shape
np.full((2, 3), 7)
np.full(3, 2.5, 'f4')
np.full((2, 2), 1 + 2j)
np.full((2, 3), [1, 2, 3])
np.full((), True)
np.zeros_like(x)
np.zeros_like(x, 'c8', shape=(2, 2))
np.ones_like(x)
np.empty_like(x).shape
np.full_like(x, 1)
np.full_like(x, 3, dtype='f8', shape=3)
np.array([1, 2, 3])
np.array([[1.5, 2], [3, 4]])
np.array(5)
np.array([])
np.array([1, 2], dtype='f4')
np.array([1, 2], ndmin=3)
np.array(x)
np.array(x, 'f8' if x.dtype.kind != 'c' else 'c16')
np.array([x[0], x[1]])
np.array([x[0, 0], x[1, 1]])
np.asarray(x)
np.asarray([[1, 2], [3, 4]], float)
np.asarray(3.5)
np.array([True, 2, 3.5])
np.arange(5)
np.arange(2, 20, 3)
np.arange(20, 2, -3)
np.arange(5, 5)
np.arange(5, 2)
np.arange(3.5)
np.arange(0, 1, 0.1)
np.arange(0, 10, 2, dtype='f4')
np.arange(1, 50, 0.7)
np.arange(3, dtype=complex)
np.arange(250, dtype='u1')
np.arange(0)
np.arange(1, 2, 0)
np.arange(stop=4)
np.arange(1, step=2, stop=9)
np.arange(True)
np.linspace(0, 1)
np.linspace(0, 1, 7)
np.linspace(2, -3, 11)
np.linspace(0, 10, 5, endpoint=False)
np.linspace(0, 10, 5, retstep=True)
np.linspace(0, 10, 4, dtype=int)
np.linspace(1, 1, 3)
np.linspace(0, 1, 1)
np.linspace(0, 1, 0)
np.linspace(0, 1j, 5)
np.linspace(0, 1, -1)
np.linspace(0, 1, 2.5)
np.linspace([0, 1], [2, 5], 4)
np.linspace([0, 1], [2, 5], 4, axis=1)
np.linspace(np.array([0., 1.]), 3, 4)
np.linspace(np.float32(0), np.float32(1), 5)
np.eye(4)
np.eye(3, 5, 1)
np.eye(3, 5, k=-1, dtype='i2')
np.eye(4, k=9)
np.identity(3)
np.identity(3, int)
np.fromfunction(lambda i, j: i + 10 * j, (3, 4))
np.fromfunction(lambda i, j: i == j, (3, 3), dtype=int)
np.fromfunction(lambda i: i * 2, (5,), dtype='i4')
np.zeros(-1)
np.zeros((2, -1))
np.zeros(2.5)
np.zeros('a')
np.full((2, 2), 'abc')
np.ones(3, dtype='nonsense')
np.copy(x)
np.ascontiguousarray(z)
np.zeros(3, 'M8[s]')
np.ones(3, 'm8[s]')
np.array(['2020-01-01', '2021-05-06'], 'M8[D]')
np.arange('2020-01-01', '2020-01-10', dtype='M8[D]')
np.arange('2020-01', '2021-01', 2, dtype='M8[M]')
np.arange(numpy.datetime64('2020-01-01'), numpy.datetime64('2020-02-01'), numpy.timedelta64(7, 'D'))
np.array([('Ann', 25, 1.5), ('Bob', 3, 2.5)], dtype=[('name', 'U10'), ('age', 'i4'), ('w', 'f8')])
""",
    FEW,
)

OPERATORS = (
    """
x + y
x - y
x * y
x / y
x // y
x % y
x ** 2
x ** 0.5
x ** -1
x ** 3
x ** 7
2 ** x
x ** y
x & y
x | y
x ^ y
x << 1
x >> 1
-x
+x
abs(x)
~x
x == y
x != y
x < y
x <= y
x > y
x >= y
x + 1
1 + x
x - 1.5
1.5 - x
x * 2j
x / 3
3 / x
x // 2
2 // y
x % 3
5 % y
divmod(x, 3)
divmod(x, y)
x == 2
x < 3
3 > x
x + True
x & 1
x + r
c + x
c * r
x + z
z + z
z * 2
z == 1
t + 1
e + 1
e + r
e * 2
x + [1, 2, 3, 4, 5]
[1, 2, 3, 4, 5] - x
x + numpy.float32(1)
numpy.float32(1) + x
numpy.float64(2) * x
numpy.arange(5) + x
x + numpy.arange(5.)
x == None
x == 'a'
x + t
x + None
x + 'a'
x * object
x @ x.T
a @ b
a @ b[:, 0]
a[0] @ b
a[0] @ a[0]
a @ a
t @ t.transpose(0, 2, 1)
a @ 3
(x + y) * (x - y) / 2 + x
(x > 0) & (y < 1)
x[1:] - x[:-1]
x[:, ::-1] + x
x.T + c.T
x[0, 0] + x[1, 1]
-x[0, 0]
x[0, 0] ** 2
round(x[0, 0], 1)
""",
    DTYPES,
)

CASTS = (
    """
x.astype(bool)
x.astype('i1')
x.astype('u1')
x.astype('i8')
x.astype('f2')
x.astype('f4')
x.astype('f8')
x.astype('c16')
x.astype(x.dtype)
x.astype('i4', casting='safe')
x.astype('i4', casting='same_kind')
x.astype('f4', casting='same_kind')
x.astype('nonsense')
x.astype('S')
x.astype('U8')
x.astype('M8[s]')
x.astype('f8').astype('i4')
z.astype('f4')
x[0, 0].astype('f4')
x.astype('f4', copy=False)
x.astype('f4', 'C')
""",
    ("?", "i1", "u1", "i8", "f8"),
)

PROMOTION = (
    """
x + 1
x + 127
x + 200
x + 300
x + -1
x - 1
x * 2.0
x * 2j
x + 10**20
x + 2**63
x == 300
x < 300
x > -300
x != 10**30
x >= -(10**30)
10**30 > x
x == 2**63
np.equal(x, 300)
np.maximum(x, 1)
np.maximum(x, 300)
np.add(x, 1)
np.add(x, 1.5)
np.power(x, 2)
x ** 2
x ** 2.0
x ** -1
x / 2
x // 2
x // 0
x % 0
x << 8
x + numpy.int8(1)
x + numpy.uint8(255)
x + numpy.int64(1)
x + numpy.float16(1)
x + numpy.float64(1)
x + numpy.complex64(1)
x + numpy.array(1)
x + numpy.array(1.0)
x + z
x + True
np.where(m, x, 1)
np.where(m, x, 300)
np.where(m, x, 1.5)
np.clip(x, 0, 300)
np.full_like(x, 300)
x.sum() + 1
x.mean() + 1
x[0, 0] + 1
x[0, 0] + x
x[0, 0] * 1.5
x.max() * 300
np.add(x, y, dtype='f8')
np.add(x, y, dtype='f4', casting='unsafe')
np.add(x, 1.5, dtype='i8')
np.add(x, 1.5, dtype='i8', casting='unsafe')
np.add(x, y, casting='no')
np.add(x, y, casting='safe')
np.add(x, y, dtype='i1', casting='safe')
np.add(x, y, casting='bogus')
np.sqrt(x, dtype='f4')
np.hypot(x, 2)
np.arctan2(x, 1)
np.logaddexp(x, 1)
np.ldexp(x, 2)
""",
    ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8"),
)

NUMPYS_OWN = (
    """
numpy.add(x, y)
numpy.add(x, 1)
numpy.add(1, x)
numpy.add(numpy.ones((7, 5)), x)
numpy.ones((7, 5)) + x
numpy.ones(5) * r
numpy.sin(x)
numpy.add.reduce(x)
numpy.add.accumulate(x, 1)
numpy.multiply.outer(r, r)
numpy.sum(x, axis=0)
numpy.mean(x)
numpy.max(x, 1)
numpy.concatenate([x, y])
numpy.stack([x, y])
numpy.where(m, x, y)
numpy.reshape(x, (5, 7))
numpy.transpose(x)
numpy.clip(x, 0, 1)
numpy.isclose(x, y)
numpy.cumsum(x)
numpy.roll(x, 1)
numpy.matmul(a, b)
numpy.dot(a, b)
numpy.zeros_like(x)
numpy.full_like(x, 2)
numpy.ones_like(x, dtype='f4')
numpy.round(x, 1)
numpy.any(x)
numpy.argmax(x, 0)
numpy.add(x, y, where=m, out=x)
numpy.add(x, y, out=x)
numpy.shape(x), numpy.ndim(x), numpy.size(x)
numpy.allclose(x, x, equal_nan=True)
numpy.array_equal(x, y)
numpy.split(x, 7)
numpy.flip(x)
numpy.broadcast_to(r, (3, 5))
numpy.copy(x)
numpy.add(x, t)
numpy.iscomplexobj(x)
numpy.result_type(x, 1.5)
numpy.can_cast(x.dtype, 'f8')
numpy.expand_dims(x, 0)
numpy.squeeze(c)
numpy.real(x), numpy.imag(x)
numpy.diagonal(x)
numpy.count_nonzero(x)
numpy.nan_to_num(x)
numpy.vdot(v, w)
numpy.ptp(x, 0)
numpy.std(x, 0)
""",
    ("i4", "f8", "c16"),
)


def texts(table: str) -> list[str]:
    """Split a table into cases: one a line, statements of a case joined by semicolons."""
    return [line.replace(";", "\n") for line in table.strip().splitlines()]


GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "creation": (texts(CREATION[0]), CREATION[1]),
    "operators": (texts(OPERATORS[0]), OPERATORS[1]),
    "casts": (texts(CASTS[0]), CASTS[1]),
    "promotion": (texts(PROMOTION[0]), PROMOTION[1]),
    "numpys_own": (texts(NUMPYS_OWN[0]), NUMPYS_OWN[1]),
}
"""Texts by topic, and the dtypes that their operands are made of."""
