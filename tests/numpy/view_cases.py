"""The differential table, views: reading, writing and moving parts of arrays.

The operands are those of `support.SHAPES`; see `cases`.
"""

from __future__ import annotations

from tests.numpy.cases import texts
from tests.numpy.support import DTYPES

INPLACE = (
    """
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
""",
    DTYPES,
)

ASSIGNMENT = (
    """
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
""",
    ("?", "i4", "f8", "c16"),
)

INDEXING = (
    """
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
""",
    ("?", "i4", "u1", "f4", "f8", "c16"),
)

MOVEMENT = (
    """
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
""",
    ("?", "i4", "f4", "f8", "c16"),
)


GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "inplace": (texts(INPLACE[0]), INPLACE[1]),
    "assignment": (texts(ASSIGNMENT[0]), ASSIGNMENT[1]),
    "indexing": (texts(INDEXING[0]), INDEXING[1]),
    "movement": (texts(MOVEMENT[0]), MOVEMENT[1]),
}
