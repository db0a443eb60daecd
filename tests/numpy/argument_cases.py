"""The differential table, arguments: every keyword of NumPy's functions, in unusual company.

The operands are those of `support.SHAPES`: planes x and y, row r, column c, zero-dimensional z,
vectors v and w, empty e, three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.cases import texts

SOME = ("?", "u8", "f4", "f8", "c16")

REDUCTIONS = """
np.{f}(t, axis=(0,2), keepdims=True)
np.{f}(t, (0,-1))
np.{f}(x, 0, None)
np.{f}(x, axis=None, keepdims=True)
np.{f}(x.T, axis=1)
np.{f}(x, axis=1, out=np.zeros(7, np.{f}(x,axis=1).dtype))
np.{f}(x, axis=0, where=[True,False,True,True,False])
np.{f}(a=x)
np.{f}(x, foo=1)
np.{f}([1,2,3])
np.{f}([x[0],x[1]])
np.{f}(3)
"""

REDUCERS = ("sum", "prod", "mean", "var", "std", "any", "all")

OTHERS = (
    "min",
    "max",
    "amin",
    "amax",
    "ptp",
    "median",
    "nanvar",
    "nansum",
    "nanmean",
    "nanmax",
    "nanmin",
    "argmin",
    "argmax",
    "count_nonzero",
)
"""Reducers that take no mask without a value to begin with."""

STATISTICS = """
np.min(x, axis=0, where=[True,False,True,True,False], initial=5)
np.max(x, initial=1, where=m)
np.max(x, initial=1, where=False)
np.max(x, 0, None, True, 1)
np.min(x, initial=numpy.nan) if x.dtype.kind=='f' else 1
np.sum(x, 0, 'f8', None, True, 3, m) if x.dtype.kind!='c' else 1
np.sum(x, initial=2.5) if x.dtype.kind in 'fc' else 1
np.sum(x, dtype='i1') if x.dtype.kind in 'biu' else 1
np.sum(x, where=False)
np.prod(x, where=m, axis=0, initial=2)
np.mean(x, dtype='f4', where=m) if x.dtype.kind!='c' else 1
np.mean(x, dtype='i4') if x.dtype.kind in 'biu' else 1
np.mean(x, where=False)
np.mean(t, axis=(), keepdims=True)
np.var(x, dtype='i1') if x.dtype.kind in 'biu' else 1
np.std(x, dtype='i1') if x.dtype.kind in 'biu' else 1
np.var(x, axis=0, mean=np.mean(x, axis=0, keepdims=True))
np.std(x, axis=1, mean=np.mean(x, axis=1, keepdims=True), ddof=1)
np.std(x, mean=np.mean(x, keepdims=True), where=m)
np.var(x, axis=(0,1), ddof=2, keepdims=True)
np.var(x, ddof=0.5)
np.var(x, correction=1, ddof=1)
np.var(x, 0, None, None, 1, True)
np.std(x, correction=1, axis=0)
np.std(x, axis=0, dtype='c16')
np.var(x, where=m, ddof=1, axis=0)
np.var(x, where=m, ddof=50)
np.var(z)
np.var(x, ddof=40)
np.any(x, axis=(0,1))
np.all(x, 0, None, True, where=m)
np.argmax(x, 0, None, keepdims=True)
np.argmin(x, axis=1, out=np.zeros(7,'i8'))
np.argmin(x, keepdims=True)
np.argmax(x, axis=1.0)
np.ptp(x, 1, None, True)
np.ptp(t, axis=(0,2))
np.ptp(x, axis=0, out=np.zeros(5,x.dtype))
np.count_nonzero(t, axis=(0,1))
np.count_nonzero(x, 0, keepdims=True)
np.cumsum(x, 0, 'f4') if x.dtype.kind!='c' else 1
np.cumsum(x, axis=1, out=np.zeros((7,5), np.cumsum(x).dtype))
np.cumprod(x, 0, 'c16')
np.cumprod(t, axis=1)
np.cumsum(e, axis=0)
np.cumsum(x, axis=5)
np.nansum(x, 0, None, None, True)
np.nansum(x, axis=0, where=m, initial=2)
np.nanmean(t, axis=(0,2), keepdims=True)
np.nanmean(x, 0, 'f4') if x.dtype.kind!='c' else 1
np.nanvar(x, axis=1, mean=np.nanmean(x, axis=1, keepdims=True))
np.nanstd(x, axis=(0,1), ddof=1, keepdims=True)
np.nanstd(x, where=m)
np.nanprod(x, axis=1, dtype='c16')
np.nanmin(x, axis=0, initial=0, where=m)
np.nanmax(x, keepdims=True, axis=(0,1))
np.nanargmax(y, 0, None, keepdims=True)
np.nanargmin(y, axis=1, out=np.zeros(7,'i8'))
np.nancumsum(x, 0, 'c16')
np.nancumprod(x, axis=1, out=np.zeros((7,5), np.nancumprod(x).dtype))
np.nancumsum(x, axis=None)
np.average(x, 0, None, True)
np.average(x, axis=(0,1), weights=abs(y)+1, keepdims=True)
np.average(t, axis=(2,0), weights=numpy.arange(1,7).reshape(2,3))
np.average(x, weights=x*0)
np.average(v, None, abs(w)+1, True)
np.cov(x, None, False, True)
np.cov(y, y[::-1], False)
np.cov(y, ddof=3)
np.cov(y, bias=True, fweights=[1,2,3,0,1])
np.cov(y, dtype='c16')
np.cov(m=y, aweights=numpy.arange(1,6), bias=True)
np.cov(y, fweights=[[1,2,3,0,1]])
np.cov(y, fweights=[1,-2,3,0,1])
np.cov(z)
np.cov(e)
np.corrcoef(y, y[::-1], False)
np.corrcoef(y, dtype='f4') if y.dtype.kind!='c' else 1
np.correlate(v, w[:4], 'same')
np.correlate(v[:4], w, mode='full')
np.correlate(v, w[:4], mode='x')
np.correlate(x, w)
np.convolve(v, w[:4], mode='valid')
np.convolve(v[:0], w)
np.diff(x, 2, 0, prepend=0, append=x[:2])
np.diff(x, axis=-3)
np.diff(v, n=30)
np.diff(v, n=1.5)
np.ediff1d(x, 1, 2)
np.ediff1d(v, to_end=w)
np.gradient(y, 2., axis=0)
np.gradient(y, axis=(0,1))
np.gradient(y, 1, 2)
np.gradient(y, numpy.arange(7)**2., axis=0, edge_order=2)
np.gradient(y, numpy.arange(7)**2., 3.)
np.gradient(y, edge_order=3)
np.gradient(y[:1])
np.gradient(y, 1, 2, 3)
np.gradient(v, w)
np.trapezoid(y, axis=0)
np.trapezoid(y, dx=0.5)
np.trapezoid(v, w)
np.trapezoid(y, x=y, axis=1)
np.trapezoid(v, x=numpy.arange(23)**2)
np.unwrap(y)
np.unwrap(y, discont=4, axis=0)
np.unwrap(y, period=3)
np.unwrap(v, period=2.5)
np.interp(y, xp=[1,2], fp=[3,4j])
np.i0(y)
np.sinc(y)
np.nan_to_num(x, nan=1, posinf=2, neginf=3)
np.nan_to_num(x, False)
np.nan_to_num(x, True, 5.)
np.clip(x, 1, 3)
np.clip(x, None, 3)
np.clip(x, 1, None)
np.clip(x, None, None)
np.clip(x)
np.clip(x, min=1)
np.clip(x, 1, max=2)
np.clip(x, 1, 3, np.zeros((7,5), x.dtype))
np.clip(x, 1, 3, dtype='f8')
np.clip(x, r, y)
np.clip(x, 3, 1)
np.clip(x, a_max=2)
np.around(x, 1)
np.round(x, -1)
np.round(x, decimals=1, out=np.zeros((7,5), np.round(x,1).dtype))
np.isclose(x, y, 0.1, 0.1)
np.isclose(x, y, equal_nan=True)
np.isclose(x, r, rtol=r)
np.isclose(x, 1)
np.allclose(x, x, equal_nan=True)
np.allclose(x, y, atol=100)
np.array_equal(x, x)
np.array_equal(x, x, equal_nan=True)
np.array_equal(x, y)
np.array_equal(x, r)
np.array_equiv(x, x[0])
np.array_equiv(r, np.stack([r,r]))
np.array_equiv(x, v)
"""

PRODUCTS = """
np.einsum('ij,jk', a, b)
np.einsum('ij,jk->ik', a, b, optimize=True)
np.einsum('ij,jk,k', a, b, b[0])
np.einsum('ij,jk,kl->il', a, b, b.T, optimize='greedy')
np.einsum('ij,jk,kl->il', a, b, b.T, optimize='optimal')
np.einsum('ij,jk,kl->il', a, b, b.T, optimize=['einsum_path',(0,1),(0,1)])
np.einsum('ij,jk,kl->il', a, b, b.T, optimize=['einsum_path',(0,1,2)])
np.einsum('ij,jk,kl,lm,mn,no->io', a, b, b.T, b, b.T, b)
np.einsum('i,j,k->ijk', r, r, r)
np.einsum('ii', x[:5])
np.einsum('ii->i', x[:5])
np.einsum('ij->ji', x)
np.einsum('...j,...j', x, y)
np.einsum('...j,j->...', t, t[0,0])
np.einsum('ij,ij->', x, y)
np.einsum('ij->', x)
np.einsum('i,i', v, w)
np.einsum(a, [0,1], b, [1,2])
np.einsum(a, [0,1], b, [1,2], [2,0])
np.einsum('ij,kj->ik', x, y, dtype='c16')
np.einsum('ij,kj->ik', x, y, dtype='i1')
np.einsum('ij,kj->ik', x, y, casting='unsafe', dtype='f4') if x.dtype.kind!='c' else 1
np.einsum('ij,jk->ik', x, y)
np.einsum('ij,j', x)
np.einsum('ij->ijj', x)
np.einsum('ijk,ikl->ijl', t, t.transpose(0,2,1))
np.einsum('ij,ij->ij', x, y)
np.einsum('ij,j->ij', x, r)
np.einsum('i,->i', v, z)
np.einsum('ij,jk->ik', a, b, out=np.zeros((4,3), a.dtype))
q = np.zeros(7);[np.einsum('ij,j->i', y, r, out=q), q]
np.einsum('ij,i1->i', x, c)
np.einsum('ij,ij->i', x, c)
np.einsum_path('ij,jk,kl->il', a, b, b.T)[0]
np.tensordot(a, b, 1)
np.tensordot(x, y, ((0,1),(0,1)))
np.tensordot(x, y, ([0],[0]))
np.tensordot(t, t, axes=([0,2],[0,2]))
np.tensordot(x, r, (1,0))
np.tensordot(x, y, 0)
np.tensordot(x, y, 3)
np.tensordot(a, b, (0,0))
np.inner(x, y)
np.inner(x, r)
np.inner(z, x)
np.inner(v, w)
np.inner(x, v)
np.outer(x, r)
np.outer(v, w, np.zeros((23,23), v.dtype))
np.vdot(x, y)
np.vdot(v, w)
np.dot(t, b[:2])
np.dot(x, r)
np.vecdot(x, y)
np.vecdot(x, r)
np.vecdot(t, t, axis=1)
np.vecdot(x, y, axis=0)
np.matvec(x, r)
np.vecmat(x[:,0], x)
np.matmul(a, b)
np.matmul(t, t.transpose(0,2,1))
np.matmul(x, z)
np.kron(r, x)
np.kron(t, x)
np.kron(z, x)
np.cross(t.reshape(8,3), t.reshape(8,3)[::-1])
np.cross(x[:3], y[:3], axis=0)
np.cross(x[:,:3], y[:3], axisb=0, axisc=0)
np.cross(x[:,:2], y[:,:2])
np.cross(x[:,:2], y[:,:3])
np.linalg.matmul(a,b)
np.trace(t, 1, 0, 1)
np.trace(x, offset=-2, dtype='c16')
np.trace(x, out=np.zeros((), np.trace(x).dtype))
np.diagonal(t, 1, 1, 2)
"""

UFUNCS = """
np.add(x, y, signature='dd->d') if x.dtype.kind!='c' else 1
np.add(x, 1, sig=(None,None,float)) if x.dtype.kind!='c' else 1
np.add(x, y, signature='ii->i')
np.add(x, y, signature='ii->i', casting='unsafe')
np.modf(x, signature='f->ff')
np.equal(x, y, signature='dd->?')
np.add.accumulate(x, axis=None)
np.add.accumulate(z)
np.add.reduceat(v, [])
np.add.reduceat(v, [0., 4.])
np.add.reduceat(v, numpy.array([0., 4.]))
np.add.reduceat(v, np.arange(0, 23, 2))
np.subtract.reduceat(x, [0, 2, 6])
np.maximum.reduceat(t, [0, 1], axis=1)
np.add.reduceat(x, [0, 2], axis=1, dtype='c8')
np.add.reduceat(v, [[0, 4]])
np.sin.outer(x, y)
np.divide(x, [1, 0, 2, 0, 1], out=x / 1, where=m[0])
np.matmul(t, t, axes=[(-2, -1), (-1, -2), (-1, -2)])
np.matmul(a, b[:, 0], axes=[(0, 1), 0, 0])
np.matmul(r, x, axes=[0, (1, 0), 0])
np.matmul(a, b, axis=0)
np.matmul(a, b, order='F')
np.matmul(a, b, dtype='i4')
np.matmul(a, b, dtype='i4', casting='unsafe')
np.vecdot(x, y, keepdims=True)
np.vecdot(x, y, axis=0, keepdims=True)
np.vecdot(x, x.T, axes=[1, 0])
np.vecdot(x, y, dtype='c16')
np.matvec(x, r, dtype='c16')
np.matvec(t, t[0], axes=[(0, 2), 1, 0])
np.dot(a, b, out=np.zeros((4, 3), 'f2'))
np.subtract.reduce(x, axis=1, keepdims=True)
np.subtract.reduce(t, axis=1)
np.divide.reduce(v)
np.subtract.reduce(v, initial=3)
np.subtract.reduce(x, axis=1, where=m)
np.subtract.reduce(x, axis=1, where=m, initial=3)
np.subtract.reduce(x, where=k[:, None], initial=3, keepdims=True)
np.subtract.reduce(v, where=n, initial=0)
np.subtract.reduce(v, where=False, initial=2)
np.subtract.reduce(x, axis=(), where=m, initial=2)
np.divide.reduce(y, axis=1, where=m, initial=1)
np.arctan2.reduce(y) if x.dtype.kind!='c' else 1
np.float_power.reduce(y * y + 1, axis=0)
np.subtract.reduceat(v, [0, 3, 4, 20])
np.modf(y, out=np.zeros((7, 5)))
q = np.ones((7, 5));[np.divide(y, y, out=q, where=m), q]
q = np.ones((7, 5), 'f4');[np.add(y, y, out=q, where=m, casting='unsafe', dtype='f8'), q]
q = np.ones((2, 7, 5));[np.divmod(y, 2, out=(q[0], q[1]), where=m), q] if x.dtype.kind!='c' else 1
q = np.array([[1, 2], [3, 4]], object);[np.add(q, 1, out=q, where=[True, False]), q]
q = np.zeros(2);[np.add.reduce(np.array([[1, 2], [3, 4]], object), out=q), q]
q = np.zeros(2, 'i4');[np.sum(np.array([[1, 2], [3, 4.5]], object), 0, out=q), q]
np.hypot.reduce(y, axis=()) if x.dtype.kind!='c' else 1
np.around(y > 1, 2, out=np.zeros((7, 5)))
np.modf(y, np.zeros((7, 5))) if x.dtype.kind!='c' else 1
"""

INTO = """
q = np.zeros(5);[np.{f}(y, axis=0, out=q), q]
q = np.zeros(5, 'f4');[np.{f}(y, axis=0, out=q), q]
q = np.zeros(5, 'i8');[np.{f}(y, 0, out=q), q]
q = np.zeros(5, 'c16');[np.{f}(y, axis=0, out=q), q]
q = np.zeros((1, 5), bool);[np.{f}(y, axis=0, out=q, keepdims=True), q]
q = np.zeros(());[np.{f}(y, out=q), q]
"""
"""What an array takes whose dtype is not the result's."""

INTO_UFUNCS = """
q = np.zeros(5);[np.add.reduce(y, out=q), q]
q = np.zeros(5);[np.add.reduce(y, out=(q,)), q]
np.sum(y, 0, out=(np.zeros(5),))
q = np.zeros(5, 'i4');[np.multiply.reduce(y, 0, None, q), q]
q = np.zeros(5, 'i2');[np.maximum.reduce(y, out=q), q]
q = np.zeros((1, 5), 'c16');[np.subtract.reduce(y, out=q, keepdims=True), q]
q = np.zeros((7, 5));[np.add.accumulate(y, out=q), q]
q = np.zeros((7, 5), 'i4');[np.subtract.accumulate(y, 1, None, q), q]
q = np.zeros((7, 5));[np.cumsum(y, 0, None, q), q]
q = np.zeros((2, 5), 'f4');[np.add.reduceat(y, [1, 2], out=q), q]
q = np.zeros((2, 5), 'f4');[np.subtract.reduceat(y, [1, 2], out=(q,)), q]
"""

PLAIN = """
[np.add.reduceat([], []), np.add.reduceat(np.ones((0, 2)), [], axis=0), np.add.reduceat([1], [])]
np.einsum('ij,j', [[1, 2]], [3, 4], out=np.empty(1, 'i1'), dtype='f8', casting='unsafe')
np.einsum('ij,j', [[1, 2]], [3, 4], out=np.empty(1, 'i1'), dtype='f8')
np.einsum('ij,j', [[1, 2]], [3, 4], out=np.empty(1, 'f4'), casting='unsafe')
np.where([True, False], 1)
q = np.arange(6).reshape(2, 3);[[int(e) for e in np.nditer(v)] for v in (q.T, q[:, ::-1].T)]
q = np.arange(24).reshape(2, 3, 4);[int(e) for e in np.nditer(q.swapaxes(0, 1)[::-1, 1:])]
q = np.nditer(np.arange(6).reshape(2, 3).T, ['multi_index']);[(int(e), q.multi_index) for e in q]
[[int(e) for e in pair] for pair in np.nditer([np.arange(6).reshape(2, 3).T, np.arange(2)])]
np.add.reduceat(np.array([]), [0])
np.vectorize(lambda s: s * 2)(np.array(['a', 'bcd', 'ef']))
np.vectorize(lambda s: s + '!', otypes=['U30'])(np.array(['a', 'bcd']))
np.take(np.ones((2, 3)), 0, axis=5)
np.take(np.ones((2, 3)), 0, axis=-3)
np.take(np.ones((2, 3)), 0, mode='what')
[np.take(5, 0), np.take(np.arange(4), 2), np.take(np.arange(4), [2]), np.arange(4).take([[1]], 0)]
np.concatenate([np.array([1.1, 2.2]), np.array([3.3])], out=np.empty(3, 'i8'), casting='unsafe')
np.concatenate([np.array([1.1, 2.2]), np.array([3.3])], out=np.empty(3, 'c8'), casting='no')
np.concatenate([np.array([1.1, 2.2]), np.array([3.3])], out=np.empty(3, 'i8'))
np.concatenate([np.array([1.1, 2.2]), np.array([3.3])], out=np.empty(3), dtype='f8')
np.concatenate([np.array([1.1, 2.2]), np.array(['a'])], dtype='S', casting='unsafe')
np.concatenate([np.array([1.1]), np.array([True])], dtype='i4', casting='unsafe')
np.stack([np.array([1.1, 2.2]), np.arange(2)], out=np.empty((2, 2), 'i4'), casting='unsafe')
q = np.array([0, 2, 4]);q.partition(np.array([], int));[q, np.argpartition(q, np.array([], int))]
[f(np.ones((2, 3)), axis=(0, 1)) for f in (np.sum, np.max, np.add.reduce)]
np.sum(np.ones((2, 3)), axis=[0, 1])
np.max(np.ones((2, 3)), axis=[0, 1])
np.tile(np.ones(2), (2, -1))
np.resize(np.arange(3), np.int32(5))
[np.isclose(v, 0.9999999999999998, 0, 0) for v in (np.float32(1), np.ones(3, 'f4'), 1., np.ones(3))]
[np.isclose(0.9999999999999998, v, 0, 0) for v in (np.float32(1), np.ones(3, 'f4'), 1., np.ones(3))]
[np.isclose(1, np.arange(3)), np.isclose(np.arange(3), 1), np.isclose(np.ones(2) * 1j, 1j)]
[np.linspace(0, numpy.nextafter(0, 1) * n, 7, end) for n in (1, 3) for end in (True, False)]
np.linspace([0, 1], [numpy.nextafter(0, 1), 2], 5)
np.einsum(np.ones((2, 3)), np.array([0, 1]), np.array([0]))
np.einsum(np.ones((2, 3)), [0, 52])
np.tensordot(np.ones((2, 2)), np.ones((2, 2)), axes=([0, -2], [0, 1]))
[np.array(['2020', '2021-01']).astype(t) for t in ('M8', 'M', 'M8[D]')]
[np.add(np.ones(3), 4., casting='equiv'), np.add(3., 4., casting='equiv')]
np.add(3., 4., dtype='f4', casting='equiv')
[np.add.reduce(q, initial=None) for q in (np.ones(3), np.ones((0, 3)))]
np.add.reduce([], initial=None)
[np.add(np.ones(3), 1, where=np.ones(s, bool)) for s in ((2, 3), (3,), ())]
np.divmod(np.ones(3), 1, where=np.ones((2, 3), bool))
np.add(np.ones(3), 1, where=np.ones((3,), int))
[np.array([1, 0]).choose([5, 6], [7, 8]), np.array([1, 0]).choose([[5, 6], [7, 8]])]
q = np.array([1., numpy.nan], object);np.array_equal(q, q, equal_nan=True)
q = np.array([1., numpy.nan], object);np.array_equal(q, q.copy(), equal_nan=True)
q = np.array([numpy.nan], np.dtypes.StringDType(na_object=numpy.nan));np.array_equal(q, q[:], True)
q = np.array(['a', 'b'], 'T');np.empty_like(q, shape=(2, 3)).shape, np.full_like(q, 'x').tolist()
q = np.ones((3, 3));q @= np.ones((3, 1));q
q = np.ones(3);q @= np.ones(3);q
q = np.ones(3);q @= np.ones((3, 3));q
q = np.ones((2, 3, 3));q @= np.ones((3, 3));q
np.matmul(np.ones((3, 3)), np.ones((3, 1)), out=np.zeros((3, 3)))
np.matmul(np.ones((3, 3)), np.ones((3, 3)), out=np.zeros((2, 3, 3)))
np.matmul(np.ones((3, 3)), np.ones(3), out=np.zeros((2, 3)))
[np.arange(6).reshape(2, 3).T.reshape(6, order=way) for way in "AfFC"]
[np.arange(6).reshape(2, 3).T.flatten(way) for way in "AKFc"]
np.arange(6).reshape(2, 3).reshape(6, order="K")
np.arange(6).reshape(2, 3).reshape(6, order="X")
np.put(np.zeros((2, 0)), 1, 1, mode="wrap")
np.arange(0, numpy.inf)
np.arange(numpy.nan)
[f((2, 3), int, 'F').flags.f_contiguous for f in (np.zeros, np.ones, np.empty)]
np.full((2, 3), 1, int, 'F').flags.f_contiguous
[f(np.ones((2, 3)), int, 'F').flags.fnc for f in (np.zeros_like, np.ones_like, np.empty_like)]
[np.zeros_like(np.ones((2, 3)), None, 'C', True, 4), np.full_like([1, 2], 3, float, 'F')]
np.zeros((2, 3), int, 'F', 'C')
[np.transpose(np.ones((2, 3)), order).shape for order in (range(2), np.array([1, 0]), [1, 0], None)]
[np.ones((2, 3)).transpose(order).shape for order in (range(2), np.array([1, 0]), [1, 0], None)]
[np.ones(3).transpose(0), np.ones(3).transpose(np.array(0)), np.ones(()).transpose(())]
np.ones((2, 3)).transpose(())
np.moveaxis(np.ones((2, 3, 4)), range(2), range(1, 3)).shape
np.moveaxis(np.ones((2, 3, 4)), np.array([0, 1]), np.array([2, 0])).shape
np.moveaxis(np.ones((2, 3)), [0, 0], [0, 1])
np.indices((), sparse=True)
np.astype([1, 2], float)
[np.arange(n, dtype=bool) for n in range(3)]
np.arange(3, dtype=bool)
np.arange(np.datetime64('2020'), np.datetime64('2021'), np.timedelta64(0))
[np.add(1, 2, out=...), np.add(1, [1, 2], out=...), np.divmod(7, 2, out=...)]
[np.add.reduce(np.arange(3), out=...), np.add.reduce(np.ones((2, 3)), axis=0, out=...)]
q = np.zeros(20000);np.put(q, np.arange(15000), np.arange(12000.));q
q = np.zeros(20000);np.put(q, np.arange(0, 30000, 2), np.arange(22000.), mode='wrap');q
q = np.zeros(20000);np.place(q, np.arange(20000) % 3 == 1, np.arange(12000.));q
q = np.zeros((2, 9999));np.putmask(q, np.arange(19998).reshape(2, -1) % 3 < 1, np.arange(12e3));q
[np.bitwise_not is np.invert, np.conj is np.conjugate, np.mod is np.remainder]
[np.real(5), np.imag(3.5), np.real(1 + 2j), np.size(np.ones((2, 3)), (0, 1))]
[np.min_scalar_type(np.arange(4.)), np.min_scalar_type(np.array(300)), np.min_scalar_type(-1)]
[np.array_equal([1], ['a']), np.array_equal(['a'], ['a']), np.array_equal([1], [[1]])]
issubclass(np.exceptions.RankWarning, RuntimeWarning)
np.trim_zeros([0, 1, 2, 0])
np.trim_zeros(np.array([0, 1, 0]))
np.setdiff1d(np.array([1., 2, 1, 3]), np.array([2.]), assume_unique=True)
[np.isreal(np.array(['2020'], 'M8[Y]')), np.iscomplex(np.array(['2020'], 'M8[Y]'))]
np.nan_to_num(np.array([numpy.nan, 1., numpy.inf]), nan=np.array([5., 6, 7]))
q = np.array([numpy.nan, 1.]);np.nan_to_num(q, copy=False);q
np.histogram(np.array([True, False, True]), bins=[0, 1, 2])
np.histogram(np.array(['2020-01-01', '2020-02-01'], 'M8[D]'), np.array(['2019', '2021'], 'M8[D]'))
[np.bincount([0., 1.]), np.bincount([], minlength=3)]
np.quantile(np.arange(10), 0.33, method='inverted_cdf', weights=np.arange(1, 11))
np.isclose(np.array(['2020-01-01'], 'M8[D]'), np.array(['2020-01-01'], 'M8[D]'))
[np.isreal(np.array(['a', 'b'])), np.isreal(np.array([1, 2j]))]
[np.ravel_multi_index(np.array([[3, 6, 6], [4, 5, 1]]), (7, 6)), np.isreal(np.array(['a'], object))]
[np.linalg.matrix_rank(np.ones(4)), np.linalg.matrix_rank(np.zeros(4))]
np.tensordot(np.array([1, 2], object), np.array([[3], [4]], object), 1)
np.linalg.outer(np.array(['a', 'b'], object), [1, 2])
np.arange('2002-10-27T04:30', 4 * 60, 60, dtype='M8[m]')
np.arange(np.datetime64('2020-01-01'), 5)
np.polyval([3, 0, 1], np.poly1d(5))
np.frompyfunc(lambda p, q: p - q, 2, 1).reduce(np.arange(12).reshape(3, 4), axis=1)
np.frompyfunc(lambda p, q: p - q, 2, 1).accumulate(np.arange(4), dtype=object)
np.frompyfunc(lambda p, q: p - q, 2, 1).reduceat(np.arange(6), [0, 3])
np.frompyfunc(lambda p, q: p - q, 2, 1).outer([1, 2], np.arange(2))
q = np.array([1, 2, 3], object);np.frompyfunc(lambda p, o: p - o, 2, 1).at(q, [0, 0, 2], 5);q
q = np.ma.masked_array(np.arange(5), mask=np.arange(5) > 3);q[1] = 9;q.filled(-1).tolist()
isinstance(np.ma.masked_array([1]), np.ma.MaskedArray)
"""
"""Programs of their own, on no operand."""

GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "reducer's arguments": (
        [text.format(f=f) for f in REDUCERS for text in texts(REDUCTIONS)],
        SOME,
    ),
    "other reducer's arguments": (
        [text.format(f=f) for f in OTHERS for text in texts(REDUCTIONS) if "where" not in text],
        SOME,
    ),
    "statistic's arguments": (texts(STATISTICS), ("i1", *SOME)),
    "arrays that take results": (
        [
            text.format(f=f)
            for f in (*REDUCERS, *OTHERS)
            if f != "count_nonzero"
            for text in texts(INTO)
        ]
        + [f"q = np.zeros(4);np.{f}(y, axis=0, out=q)" for f in (*REDUCERS, "nansum", "median")]
        + texts(INTO_UFUNCS),
        ("i1", "u8", "f4", "f8"),
    ),
    "product's arguments": (texts(PRODUCTS), SOME),
    "ufunc's arguments": (texts(UFUNCS), ("i1", *SOME)),
    "of its own": (texts(PLAIN), ("f8",)),
}
