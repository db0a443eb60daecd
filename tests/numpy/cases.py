"""The differential table: texts that mean the same on NumPy and on chunkarr.

Each group is a list of texts and the dtypes that its operands are made of. The operands are those
of `support.SHAPES`: planes x and y, row r, column c, zero-dimensional z, vectors v and w, empty e,
three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.support import DTYPES, FEW, FLOATS, INTEGERS, NUMBERS, REAL

CREATION = """
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
""", FEW

OPERATORS = """
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
""", DTYPES

INPLACE = """
x += y;x
x -= 1;x
x *= 2;x
x /= 2;x
x //= 2;x
x %= 3;x
x **= 2;x
x &= y;x
x |= 1;x
x ^= y;x
x <<= 1;x
x += 1.5;x
x += 1j;x
x += r;x
x += c;x
r += x;r
x[1:] += 1;x
x[::2, 1:4] *= 2;x
x.T[1] += x[:, 0];x
x[m] += 1;x
x[k] *= 2;x
x[m] = -x[m];x
z += 1;z
s = x[0, 0];s += 1;s, x
s = x.sum();s *= 2;s
a @= numpy.ones((6, 6), a.dtype);a
d = x;d += 1;x
d = x + 0;x += 1;d, x
d = x[1:3];x += 1;d, x
v[1:] += v[:-1];v
v[:-1] += v[1:];v
v += v[::-1];v
""", DTYPES

ASSIGNMENT = """
x[0] = 1;x
x[0, 1] = 2;x
x[-1, -1] = 2;x
x[1:3] = 0;x
x[::2] = 1;x
x[::-1] = x;x
x[::-2, 1::2] = 3;x
x[:, 0] = y[:, 1];x
x[...] = y;x
x[()] = 1;x
x[:] = r;x
x[:] = c;x
x[None] = y;x
x[1:1] = 5;x
x[2] = [1, 2, 3, 4, 5];x
x[2:4, 1:3] = [[1, 0], [0, 1]];x
x[m] = 0;x
x[m] = y[m];x
x[k] = 1;x
x[k] = r;x
x[~m] = 1;x
x[x > 0] = 0;x
x[x == x] = 2;x
v[n] = 0;v
v[n] = w[n];v
v[n] = numpy.arange(n.sum());v
v[n] = w;v
v[n] = [1, 2];v
x[[True, False, True, False, False, False, True]] = 1;x
x[numpy.ones((7, 5), bool)] = 3;x
x[True] = 4;x
x[False] = 4;x
z[()] = 1;z
z[...] = 1;z
x[0] = numpy.float64(1.7);x
x[0] = 1.7;x
x[0] = 1 + 2j;x
x[0] = x[1];x
x[0] = True;x
x[1:] = x[:-1];x
x[:-1] = x[1:];x
x[0] = y;x
x[0:2] = numpy.ones((3, 5));x
x[9] = 1;x
x[0, 0, 0] = 1;x
x['a'] = 1;x
x[1.5] = 1;x
x[0] = 'a';x
x[0] = [1, 2];x
x[0] = None;x
x[m[:3]] = 1;x
x[:, :] = x.T;x
a.T[...] = 1;a
d = x[1:];d[0] = 7;x
d = x[1:][::2][:, 1];d[:] = 7;x
d = x.T;d[1] = 7;x
d = x.reshape(5, 7);d[1] = 7;x
d = x.reshape(-1);d[3:20:5] = 7;x
d = x.ravel();d[0] = 7;x
d = x.T.ravel();d[0] = 7;x
d = x.flatten();d[0] = 7;x
d = x[:, ::2].reshape(-1);d[0] = 7;x
d = x[2:4].reshape(-1);d[0] = 7;x
d = x[:, None, :];d[1] = 7;x
d = np.expand_dims(x, 1);d[1] = 7;x
d = np.squeeze(c);d[1] = 7;c
d = np.swapaxes(x, 0, 1);d[1] = 7;x
d = np.moveaxis(t, 0, 2);d[1] = 7;t
d = np.flip(x);d[0] = 7;x
d = np.flip(x, 0);d[0] = 7;x
d = np.broadcast_to(r, (3, 5));d[0] = 7;r
d = x.diagonal();d[0] = 7;x
d = np.diagonal(x);r[0] = 1;d
d = x.diagonal();x[1, 1] = 7;d
d = x[1];x[1] = 7;d
d = x[1:4];e = d[1:];x[2] = 7;e
d = x.copy();x[1] = 7;d
d = x[m];x[m] = 7;d
d = x + 1;x[1] = 7;d
d = x * 2;x[...] = 0;d
d = x.sum(0);x[1] = 7;d
d = x > 0;x[d] = 7;x
d = np.array(x);d[0] = 7;x
d = np.asarray(x);d[0] = 7;x
d = x[0, 0];x[0, 0] = 7;d
d, f = np.split(x[:6], 2);f[0] = 7;x
d = x.astype(x.dtype);d[0] = 7;x
d = x.astype(x.dtype, copy=False);d[0] = 7;x
x.fill(3);x
x.real = 1;x
x.real[1] = 3;x
x.imag = 1;x
x.imag[1] = 3;x
d = x.T[1:3].reshape(2, 7);d[0] = 7;x
d = x.real;x[0] = 7;d
x.shape = (5, 7);x
x.shape = (3, 3);x
x[1][2] = 9;x
x[:, 1][2] = 9;x
x[m][0] = 9;x
for row in x: row[0] = 4;x
d = x[2:5];d += 1;x
d = x.T;d *= 2;x
d = x[:, 1];d[...] = d[::-1];x
d = x.reshape(7, 5);d[0] = 7;x
d = x[0];d[d > 0] = 0;x
d = x[1:, 1:];d[d == d] = 0;x
x[0], x[1] = x[1].copy(), x[0].copy();x
""", ("?", "i4", "f8", "c16")

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

MORE_REDUCTIONS = """
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
""", NUMBERS

SELECTIONS = """
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
""", ("i4", "f8", "c16")

INDEXING = """
x[0]
x[-1]
x[0, 1]
x[1:3]
x[::2]
x[::-1]
x[5:1:-2]
x[100:]
x[:-100]
x[1:3, 2]
x[..., 0]
x[0, ...]
x[...]
x[None]
x[:, None, 1]
x[()]
z[()]
z[...]
z[None]
x[7]
x[0, 5]
x[0, 0, 0]
x[..., ...]
x['a']
x[1.0]
x[None, None, 2:1]
x[numpy.int64(2)]
x[np.array(2)]
x[np.array(2), 1]
x[1:2][0][1:][::2]
x[::2][::2][::-1].T[1]
t[1, :, 0]
t[:, 1:, ::-1]
t[..., None].shape
t[-1, -1, -1]
x[slice(None, None, None), slice(1, 2)]
x[1:3:0]
v[3:20:4][1:]
v[::-3][::-2]
e[0:0]
e[:, 1]
e[0]
list(r)
[row.sum() for row in x]
len(x)
len(z)
x.item(3)
x.item(1, 2)
x.item((1, 2))
x.item()
z.item()
x.tolist()
x.T.tolist()
r[0] in r
float(z)
int(z)
complex(z)
bool(z)
bool(x)
bool(e)
bool(r[:1])
float(x)
list(z)
x.T.shape
x.T[1]
t.T
t.transpose(1, 0, 2)
t.transpose((2, 0, 1))
t.transpose(0, 1)
t.transpose(0, 0, 1)
t.swapaxes(0, -1)
a.mT
t.mT
v.mT
np.iscomplexobj(x)
x.nbytes, x.itemsize, x.size, x.ndim, x.dtype, x.shape
x.T.strides
x.strides
x[::2, 1:].strides
hash(x)
hash(x[0, 0]) == hash(x[0, 0].item())
f'{x[0, 0]}'
f'{x[0, 0].real:.3f}'
str(x)
repr(x)
str(x[0, 0])
repr(x[0, 0])
str(z), repr(z)
str(e), repr(e)
repr(t)
repr(x[m])
f'{x}'
f'{x:.2f}'
""", ("?", "i4", "u1", "f4", "f8", "c16")

MOVEMENT = """
x.reshape(5, 7)
x.reshape((35,))
x.reshape(-1)
x.reshape(7, -1, 1)
x.reshape(6, 6)
x.reshape(-1, -1)
x.reshape(-1, 3)
x.reshape(5, 7, order='F')
np.reshape(x, (5, 7))
np.reshape(x, -1)
x.T.reshape(7, 5)
x.T.reshape(-1)
x[::2].reshape(-1)
x[::2, 1:].reshape(2, 8)
x[:, ::-1].reshape(5, 7)
e.reshape(5, 0)
e.reshape(0, 7)
e.reshape(-1)
z.reshape(1, 1)
z.reshape(-1)
t.reshape(4, 6)
t.reshape(2, 3, 4)[1]
t.reshape(4, 6).T.reshape(3, 8)
(x + y).reshape(5, 7) * 2
x.ravel()
x.T.ravel()
x.ravel('F')
np.ravel(t)
x.flatten()
x.flatten('F')
np.transpose(x)
np.transpose(t, (1, 2, 0))
np.moveaxis(t, 0, -1)
np.moveaxis(t, [0, 1], [-1, 0])
np.moveaxis(t, 0, 5)
np.moveaxis(t, [0, 0], [1, 2])
np.swapaxes(t, 0, 2)
np.squeeze(c)
np.squeeze(c, 1)
np.squeeze(c, 0)
c.squeeze()
np.expand_dims(x, 0)
np.expand_dims(x, (0, -1))
np.expand_dims(x, 5)
np.broadcast_to(r, (3, 5))
np.broadcast_to(c, (7, 4))
np.broadcast_to(z, (2, 2))
np.broadcast_to(r, (5, 3))
np.broadcast_to(x, 5)
np.broadcast_to(c, (7, 4)).sum(0)
np.concatenate([x, y])
np.concatenate([x, y], axis=1)
np.concatenate([x, x[:2], e])
np.concatenate([x, c], axis=-1)
np.concatenate([x, y], axis=None)
np.concatenate((v, v[::-1], r))
np.concatenate([x, y], axis=2)
np.concatenate([x, t])
np.concatenate([x, c])
np.concatenate([z, z])
np.concatenate([])
np.concatenate([x, y.astype('f8') if x.dtype.kind != 'c' else y])
np.concatenate([[1, 2], r])
np.concatenate([x, y], dtype='c16')
np.concatenate([x, y], out=np.zeros((14, 5), x.dtype))
np.concatenate([x, y])[::3, 1] + 1
np.stack([x, y])
np.stack([x, y], axis=1)
np.stack([x, y], axis=-1)
np.stack([x, c])
np.stack([z, z])
np.stack([x, y], axis=4)
np.vstack([x, r])
np.hstack([x, c])
np.hstack([r, v])
np.split(x, 7)
np.split(x, [2, 5])
np.split(x, 5, axis=1)
np.split(x, 2)
np.split(x, [3, 1])
np.array_split(x, 3)
np.array_split(v, 4)
np.split(x, 0)
np.flip(x)
np.flip(x, 0)
np.flip(x, (0, 1))
np.flip(x, 3)
np.fliplr(x)
np.flipud(v)
np.fliplr(v)
np.roll(x, 2)
np.roll(x, 2, axis=0)
np.roll(x, -3, axis=1)
np.roll(x, (1, 2), axis=(0, 1))
np.roll(x, 9, axis=(0, 0))
np.roll(v, 30)
np.roll(e, 1)
np.roll(z, 1)
np.roll(x, 1, axis=2)
np.roll(x, 1, axis=0)[2:4]
np.diagonal(x)
np.diagonal(x, 1)
np.diagonal(x, -2)
np.diagonal(x, 50)
np.diagonal(t, axis1=1, axis2=2)
np.diagonal(t, 0, 0, 1).sum(0)
np.diagonal(v)
np.diagonal(x, axis1=0, axis2=0)
x.diagonal() + 1
x.real
x.imag
np.real(x)
np.imag(x)
x.T.real
x.conj()
np.conjugate(x)
x.real + x.imag
np.shape(x)
np.size(x), np.ndim(x), np.size(x, 1)
np.permute_dims(t, (2, 1, 0))
np.matrix_transpose(a)
x.copy()
x.astype('f4')
""", ("?", "i4", "f4", "f8", "c16")

ELEMENTWISE = """
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
""", REAL + ("c16",)

CASTS = """
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
""", ("?", "i1", "u1", "i8", "f8")

PROMOTION = """
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
""", ("?", "i1", "u1", "i4", "u8", "i8", "f2", "f4", "f8")

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

OUT = """
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
np.add(x, y, where=m, out=np.zeros((7, 5), 'c16'), casting='unsafe')
np.add(x, y, out=np.zeros((7, 5), 'i1'), casting='unsafe')
np.add(x, 1, out=None)
np.clip(x, 0, 1, out=np.zeros((7, 5), x.dtype))
np.concatenate([r, r], out=np.zeros(10, r.dtype))
np.negative(x, out=x[...])
""", ("i4", "f4", "f8", "c16")

NUMPYS_OWN = """
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
""", ("i4", "f8", "c16")

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


def texts(table: str) -> list[str]:
    """Split a table into cases: one a line, statements of a case joined by semicolons."""
    out = []
    for line in table.strip().splitlines():
        parts = line.split(";")
        out.append("\n".join(part for part in parts))
    return out


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
    "creation": (texts(CREATION[0]), CREATION[1]),
    "operators": (texts(OPERATORS[0]), OPERATORS[1]),
    "inplace": (texts(INPLACE[0]), INPLACE[1]),
    "assignment": (texts(ASSIGNMENT[0]), ASSIGNMENT[1]),
    "reductions": (
        [line.format(f=f) for f in (*REDUCERS, *ARG_REDUCERS) for line in texts(REDUCTIONS)]
        + [line.format(f=f) for f in REDUCERS for line in texts(AXES)],
        NUMBERS,
    ),
    "more": (texts(MORE_REDUCTIONS[0]), MORE_REDUCTIONS[1]),
    "selections": (texts(SELECTIONS[0]), SELECTIONS[1]),
    "indexing": (texts(INDEXING[0]), INDEXING[1]),
    "movement": (texts(MOVEMENT[0]), MOVEMENT[1]),
    "elementwise": (texts(ELEMENTWISE[0]), ELEMENTWISE[1]),
    "casts": (texts(CASTS[0]), CASTS[1]),
    "promotion": (texts(PROMOTION[0]), PROMOTION[1]),
    "out": (texts(OUT[0]), OUT[1]),
    "numpys_own": (texts(NUMPYS_OWN[0]), NUMPYS_OWN[1]),
}
