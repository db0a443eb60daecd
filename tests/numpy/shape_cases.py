"""The differential table, shapes: joining, padding, repeating, inserting, grids, writing in place.

The operands are those of `support.SHAPES`: planes x and y, row r, column c, zero-dimensional z,
vectors v and w, empty e, three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.cases import texts
from tests.numpy.support import FEW

JOINING = """
np.append(v, w)
np.append(x, y)
np.append(x, y, axis=1)
np.append(x, [[1, 2, 3, 4, 5]], 0)
np.append(x, v, 0)
np.append(z, 1.5)
np.column_stack((v, w))
np.column_stack((v, np.ones((23, 2)), w))
np.column_stack([v, r])
np.dstack((x, y))
np.dstack((v, w))
np.dstack([t, t[:, :, :1]])
np.dstack((z, z))
np.block([[x, y], [y, x]])
np.block([x, y])
np.block([[x], [r]])
np.block([1, v, z])
np.block([[[t]], [[t]]])
np.block(x)
np.block([[x, c], [y]])
np.block([[x], y])
np.block([[], x])
np.block((x, y))
np.block([x, (x, y)])
np.atleast_1d(z)
np.atleast_1d(x, z, 3)
np.atleast_2d(v)
np.atleast_2d(z, t)
np.atleast_3d(x)
np.atleast_3d(v, z, t)
np.broadcast_arrays(r, c)
np.broadcast_arrays(x, r, 1)
np.broadcast_arrays(x, t)
np.hsplit(x, [1, 3])
np.hsplit(v, [5])
np.vsplit(x, 7)
np.vsplit(v, 2)
np.dsplit(t, 2)
np.dsplit(x, 2)
np.unstack(x)
np.unstack(t, axis=-1)
np.unstack(v)[3]
np.unstack(z)
np.rollaxis(t, 2)
np.rollaxis(t, 0, 3)
np.rollaxis(t, 1, -1)
np.rollaxis(t, 3)
np.rollaxis(t, 0, 5)
np.rot90(x)
np.rot90(x, 2)
np.rot90(x, -1)
np.rot90(x, 4)
np.rot90(t, 1, (1, 2))
np.rot90(t, 3, (2, 0))
np.rot90(v)
np.rot90(t, axes=(0, 0))
np.rot90(t, axes=(0, 3))
q = np.rot90(x);q[0] = 1;x
np.meshgrid(r, v)
np.meshgrid(r, v, indexing='ij')
np.meshgrid(r, v, sparse=True)
np.meshgrid(r, [1, 2], v, indexing='xy')[2]
np.meshgrid(r)
np.meshgrid(r, v, indexing='no')
np.trim_zeros(np.array([0, 0, 1, 2, 0, 3, 0]))
np.trim_zeros(np.array([0, 0, 1, 2, 0, 3, 0]), 'f')
np.trim_zeros(np.array([0, 0, 1, 2, 0, 3, 0]), trim='B')
np.trim_zeros(np.zeros(4))
np.trim_zeros(np.pad(x, 2))
np.trim_zeros(np.pad(x, 2), axis=1)
np.trim_zeros(v, 'x')
np.real_if_close(x)
np.real_if_close(x + 1e-16j)
np.real_if_close(x + 1j)
np.array_repr(x)
np.array_str(x, precision=2)
np.array_repr(v, 40, 2, True)
np.require(x, 'f8' if x.dtype.kind != 'c' else None, 'W')
np.asfortranarray(x)
np.vectorize(lambda p, q: p + 2 * q)(x, r)
np.vectorize(lambda p: p > 0)(y.real)
np.vectorize(lambda p: p > 0, otypes=[float])(y.real)
np.vectorize(lambda p: p)(e)
np.vectorize(lambda p: p + 1)(3)
[i for i, p in np.ndenumerate(x)][-1]
[p for i, p in np.ndenumerate(r)]
np.fromiter(range(5), 'i8')
"""

REPEATING = """
np.tile(v, 2)
np.tile(x, 2)
np.tile(x, (2, 3))
np.tile(v, (3, 1, 2))
np.tile(r, (4, 1))
np.tile(c, 3)
np.tile(c, (1, 70))
np.tile(z, 3)
np.tile(x, 0)
np.tile(x, ())
np.tile(e, (2, 2))
np.tile(v, 100)
np.tile([1, 2], 2)
np.repeat(v, 3)
np.repeat(x, 2)
np.repeat(x, 2, axis=0)
np.repeat(x, 3, axis=-1)
np.repeat(t, 2, 1)
np.repeat(v, 80)
np.repeat(x, 0, axis=1)
np.repeat(x, [1, 2, 0, 1, 3, 0, 1], axis=0)
np.repeat(x, [2], axis=1)
np.repeat(z, 4)
np.repeat(v, numpy.arange(23) % 3)
np.repeat(x, [1, 2], axis=0)
np.repeat(x, -1)
np.repeat(x, 1.5)
np.repeat(x, 2, axis=2)
np.repeat(3, 4)
x.repeat(2)
x.repeat(2, axis=1)
np.resize(v, 50)
np.resize(x, (3, 4))
np.resize(x, (6, 7))
np.resize(z, (2, 2))
np.resize(e, (2, 2))
np.resize(x, (0, 2))
np.resize(x, (2, -1))
np.pad(x, 2)
np.pad(x, (1, 2))
np.pad(x, ((1, 2), (0, 3)))
np.pad(x, 1, constant_values=3)
np.pad(x, ((1, 2), (3, 1)), constant_values=((1, 2), (3, 4)))
np.pad(x, {1: (2, 1)})
np.pad(x, {-1: 2})
np.pad(v, 3, 'edge')
np.pad(x, ((0, 2), (3, 1)), 'edge')
np.pad(v, 3, 'reflect')
np.pad(x, ((1, 2), (0, 3)), mode='reflect')
np.pad(x, 11, mode='reflect')
np.pad(v, 3, 'symmetric')
np.pad(x, ((9, 2), (3, 20)), mode='symmetric')
np.pad(v, 3, 'wrap')
np.pad(x, ((9, 2), (3, 20)), mode='wrap')
np.pad(c, 2, 'reflect')
np.pad(c, 2, 'wrap')
np.pad(y, 2, 'maximum')
np.pad(y, ((1, 2), (0, 3)), 'minimum')
np.pad(y, 2, 'maximum', stat_length=2)
np.pad(y, ((2, 1), (1, 1)), 'mean', stat_length=((1, 2), (2, 3)))
np.pad(v, 3, mode='mean')
np.pad(v, 3, mode='linear_ramp')
np.pad(y, ((2, 1), (1, 3)), mode='linear_ramp', end_values=((5, -4), (0, 7)))
np.pad(t, 1)
np.pad(z, ())
np.pad(v, 0)
np.pad(e, ((0, 2), (0, 0)))
np.pad(e, 1, 'edge')
np.pad(v, -1)
np.pad(v, 1.5)
np.pad(v, 2, 'nonsense')
np.pad(v, 2, 'edge', constant_values=1)
np.pad(x, ((1, 1), (1, 1), (1, 1)))
np.insert(v, 3, 9)
np.insert(v, [2, 7], [1, 2])
np.insert(v, [7, 2, 2], [1, 2, 3])
np.insert(v, -1, [1, 2, 3])
np.insert(x, 1, 5)
np.insert(x, 1, r, axis=0)
np.insert(x, 1, r[0], axis=1)
np.insert(x, [1], [[1], [2]], axis=0)
np.insert(x, [1, 4], 0, axis=1)
np.insert(x, [0, 7], y[:2], axis=0)
np.insert(x, slice(1, 4), 7, axis=1)
np.insert(v, 23, 1)
np.insert(v, 24, 1)
np.insert(v, [1, 30], 1)
np.insert(v, [], [])
np.insert(np.tile(v, 99), np.arange(2000)[::-3], np.arange(667))
np.insert(np.tile(v, 99), np.arange(2000)[::3], 5)
np.insert(np.tile(x, (1, 400)), np.arange(2000)[::3] % 1111, np.tile(x, (1, 134))[:, :667], axis=1)
np.repeat(np.tile(v, 99), np.arange(23 * 99) % 3)
np.repeat(np.tile(v, 99), (np.tile(v, 99) > 0).astype(int))
np.insert(x, numpy.array([True, False, True, False, False]), 1, axis=1)
np.insert(v, [[1]], 1)
np.delete(v, 3)
np.delete(v, -1)
np.delete(v, [2, 5])
np.delete(v, [5, -1, 2, 5])
np.delete(v, slice(2, 9))
np.delete(v, slice(2, 19, 3))
np.delete(v, slice(None, None, -2))
np.delete(v, slice(9, 2))
np.delete(x, 1, axis=0)
np.delete(x, [0, 2], axis=1)
np.delete(x, slice(0, 5, 2), axis=1)
np.delete(x, slice(None), axis=1)
np.delete(x, [0, 3])
np.delete(x, numpy.array([True, False, True, False, False]), axis=1)
np.delete(v, 23)
np.delete(v, [1, 23])
np.delete(v, [])
np.delete(v, 1.5)
np.delete(v, numpy.array([True]))
np.delete(x, 1, axis=2)
np.delete(np.arange(400), numpy.arange(1, 399, 3))
np.delete(np.tile(v, 20), numpy.arange(0, 300, 2))
np.repeat(x, [1, -1, 1, 1, 1], axis=1)
np.repeat(x, numpy.arange(5.), axis=1)
np.repeat(e, [], axis=0)
"""

MATRICES = """
np.tri(4)
np.tri(3, 5, 1)
np.tri(5, 3, -1, dtype='i2')
np.tril(x)
np.tril(x, 2)
np.tril(t, -1)
np.tril(v[:4])
np.triu(x)
np.triu(x, -2)
np.triu(t, 1)
np.triu(v[:4], 1)
np.tril(z)
np.diag(v)
np.diag(r, 2)
np.diag(r, -1)
np.diag(x)
np.diag(x, 1)
np.diag(x, -3)
np.diag(t)
np.diagflat(t)
np.diagflat(r, 1)
np.diagflat(z)
np.trace(a)
np.trace(a, 1)
np.trace(t, 0, 1, 2)
np.trace(t, dtype='f8') if t.dtype.kind != 'c' else 1
a.trace()
np.trace(v)
np.vander(r)
np.vander(r, 3)
np.vander(r, 3, increasing=True)
np.vander(r, 1)
np.vander(r, 0)
np.vander(x)
np.indices((2, 3))
np.indices((2, 3), dtype='f4')
np.indices((2, 3), sparse=True)
np.indices((4,))
np.ogrid[0:3, 0:5]
np.ogrid[0:3, 0:1:5j]
np.ogrid[2:9:2]
np.ogrid[0:1:5j]
np.mgrid[0:3, 0:5]
np.mgrid[1:3, 0:1:5j]
np.mgrid[-1:1:3j]
np.mgrid[0:3, 1:2, 0:4:2]
np.mgrid[0:3.5, 0:2]
np.r_[v, w]
np.r_[1:4, 0, v]
np.r_[0:1:3j, r]
np.r_['0,2', v, w]
np.r_['1', x, y]
np.r_[x, y]
np.r_[v[:2], True]
np.c_[v, w]
np.c_[x, y]
np.c_[v, 1:24]
np.diag_indices(3)
np.diag_indices_from(np.ones((3, 3)))
np.tril_indices(3)
np.triu_indices_from(x)
np.mask_indices(3, numpy.triu)
np.ix_([0, 1], [2, 3])
np.geomspace(1, 100, 5)
np.geomspace(1000, 1, 4)
np.geomspace(-1, -8, 4)
np.geomspace(1, 8, 3, endpoint=False)
np.geomspace(1, 256, 9, dtype=int)
np.geomspace(1, 8, 1)
np.geomspace(1, 8, 0)
np.geomspace(0, 8, 3)
np.geomspace([1, 2], [8, 16], 4)
np.geomspace([1, 2], [8, 16], 4, axis=1)
np.geomspace(1j, 8j, 4)
np.logspace(0, 2, 5)
np.logspace(0, 2, 5, base=2)
np.logspace(0, 3, 4, dtype=int)
np.logspace([0, 1], [2, 3], 4)
np.logspace([0, 1], [2, 3], 4, base=[2, 3], axis=-1)
np.bartlett(11)
np.bartlett(1)
np.bartlett(0)
np.blackman(12)
np.hamming(7)
np.hanning(8)
np.kaiser(9, 5)
np.kaiser(1, 14)
np.kaiser(0, 14)
"""

WRITING = """
np.copyto(x, 1);x
np.copyto(x, y);x
np.copyto(x, r);x
np.copyto(x, 2, where=m);x
np.copyto(x, y, where=m);x
np.copyto(x, y, where=k[:, None]);x
np.copyto(x[::2], 1);x
np.copyto(x, 1.5);x
np.copyto(x, 1.5, casting='unsafe');x
np.copyto(x, t);x
np.copyto(x, 1, where=x);x
np.place(x, m, 2);x
np.place(x, m, [1, 2, 3]);x
np.place(x, m, []);x
np.place(x, x * 0 > 1, []);x
np.place(v, n, w);v
np.place(x, n, 1);x
np.putmask(x, m, 2);x
np.putmask(x, m, y);x
np.putmask(x, m, [1, 2, 3]);x
np.putmask(v, n, [1, 2]);v
np.putmask(x, n, 1);x
np.put(x, [1, 5], [9, 8]);x
np.put(x, [1, 5, -1], 7);x
np.put(x, [[1, 5], [2, 3]], [7, 8]);x
np.put(x.T, [1, 5], 7);x
np.put(x, 99, 7);x
np.put(x, 99, 7, mode='clip');x
np.put(x, 99, 7, mode='wrap');x
np.put_along_axis(x, np.array([[1]] * 7), 5, 1);x
np.take_along_axis(x, np.argmax(y, axis=1, keepdims=True), 1)
np.take_along_axis(x, np.array([[0, 1, -1, 2, 3]]), 0)
np.take_along_axis(v, np.array([4, 4, 1]), None)
np.take_along_axis(x, np.array([0]), 0)
np.fill_diagonal(x, 7);x
np.fill_diagonal(x, 7, wrap=True);x
np.fill_diagonal(a, [1, 2, 3]);a
q = np.zeros((3, 3, 3));np.fill_diagonal(q, 2);q
np.fill_diagonal(v, 7);v
np.fill_diagonal(t, 7);t
np.extract(m, x)
np.extract(x > 0, x)
np.extract([True, False], r)
np.compress(k, x, axis=0)
np.compress(numpy.array([True, False, True]), x, axis=1)
np.compress(n, v)
np.compress([0, 1, 1], x)
np.compress(m, x)
np.compress([False] * 30 + [True], v)
np.nonzero(x)
np.nonzero(m)
np.nonzero(t)
np.nonzero(z)
x.nonzero()
np.flatnonzero(x)
np.argwhere(x)
np.argwhere(v)
np.argwhere(z)
np.where(m)
np.where(v)
np.piecewise(v, [v < 0, v >= 0], [-1, 1])
np.piecewise(v, [v < 0], [-1, 1])
np.piecewise(v, [v < 0, v >= 1], [lambda q: -q, lambda q: q * 2, 9])
np.piecewise(x, [x < 0, x > 1], [lambda q, p: q + p, 1], 3)
np.piecewise(v, v < 0, [-1, 1])
np.piecewise(v, [v < 0], [1, 2, 3])
np.take(x, [1, 3], axis=1)
np.take(x, [1, 5, 3])
np.take(v, [[1, 2], [3, -1]])
np.take(v, [1, 50])
np.take(v, [1, 50], mode='clip')
np.take(v, [1, -50], mode='wrap')
x.take([1, 2], 0)
x.compress([True, False, True], axis=1)
x.compress(m.ravel())
m.choose([y, 1]).astype('c16')
x.put([0, -1], 3);x
np.argwhere(x > 0)[:2]
np.nonzero(x > 0)[0].sum()
"""

GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "joining": (texts(JOINING), (*FEW, "c16")),
    "repeating": (texts(REPEATING), (*FEW, "u1", "f4")),
    "matrices": (texts(MATRICES), (*FEW, "c8")),
    "writing": (texts(WRITING), (*FEW, "c16")),
}
