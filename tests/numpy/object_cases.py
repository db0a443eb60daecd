"""The differential table, the array object: dtypes of all kinds, attributes, methods, assignment.

Beside the operands of `support.SHAPES` there are those of `extras`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tests.numpy.cases import texts


def extras() -> dict[str, npt.NDArray[Any]]:
    """Make records, objects, strings, dates and numbers in foreign byte order."""
    rec = np.zeros(9, [("a", "i4"), ("b", "f8"), ("s", "S3"), ("p", "f4", (2,))])
    rec["a"], rec["b"], rec["s"] = np.arange(9) % 4, np.linspace(0, 1, 9), b"ab"
    rec["p"] = np.arange(18).reshape(9, 2)
    nest = np.zeros(5, [("q", [("u", "i2"), ("v", "f4")]), ("w", "u1")])
    nest["q"]["u"], nest["w"] = np.arange(5), 7
    return {
        "rec": rec,
        "nest": nest,
        "i": np.arange(24, dtype="i4").reshape(6, 4),
        "c": np.arange(12).reshape(3, 4) * (1 + 2j),
        "o": np.array([1, "a", None, [1, 2]], dtype=object),
        "on": np.arange(6).astype(object),
        "S": np.array([b"foo", b"ba", b""] * 4),
        "U": np.array(["foo", "b", "zz"] * 4),
        "be": np.arange(7, dtype=">f8"),
        "bi": np.arange(12, dtype=">i2").reshape(3, 4),
        "D": np.arange("2020-01", "2020-10", dtype="M8[M]"),
    }


VIEWED = """
i.view('u1')
i.view('i8')
i.view('f4')
i.view('i2')[1:3, ::3]
i.T.view('i8')
i[:, ::2].view('i2')
i[::2].view('i8')
i.view('V3')
i.view('V12')
i.view('V6')
i.view(np.float64)[0]
i.view([('x','i4')])['x'] + 1
i.view('i2') + i.view('i2')
i[0, 0].view('f4')
i.reshape(4,6).view('c16')
v.view('i8').sum()
v.view('u1').reshape(-1, 8)[:, 0]
z.view('i8')
z.view('i4')
e.view('i8')
e.view('i4')
x.view()
y = i.copy();w_ = y.view('i2');w_[:, 0] = 9;y
y = i.copy();w_ = y.view('i8');w_[1:3, 1] = -1;w_ += 1;y
y = i.copy();y[:, 1:3].view('i8')[...] = 5;y
y = i.copy();y.view('u1')[0, :4] = [1, 2, 3, 4];y
y = i.copy();y.T.view('u4')[0] = 3;y
y = c.copy();y.view('f8')[:, 1::2] = 0;y
rec.view('u1').shape
be.view('f8')
be.view(be.dtype.newbyteorder('='))
U.view('U1')
U.view('u4')
S.view('S1')
D.view('i8')
y = x.copy();y.setflags(write=False);y.view('i8')[...] = 1;y
x.getfield('i4', 4)
x.getfield('i4', 6)
y = x.copy();y.setfield(0, 'i4', 4);y
x.strides, x.T.strides, x[::2, ::-1].strides, i.view('i2').strides, x.nbytes, x.itemsize
x.base is None, x[1:].base is x, x[1:][::2].base is x, x.T.view('i8').base is x
x.conj(), c.conjugate(), c.view('f8')
"""

RECORDS = """
y = rec.copy();y['a'] = 5;y
y = rec.copy();y['b'][2:5] = [7, 8, 9];y
y = rec.copy();y[2:5]['b'] = 3;y
y = rec.copy();y['p'][:, 1] = 3;y
y = rec.copy();y['p'] += 1;y
y = rec.copy();y[['a', 'b']] = (1, 2);y
y = rec.copy();y[['b', 'a']] = y[['b', 'a']][::-1];y
y = rec.copy();y[3] = (9, 8., b'x', (1, 2));y
y = rec.copy();y[1:3] = [(9, 8., b'x', (1, 2))] * 2;y
y = rec.copy();y[0]['a'] = 77;y
y = rec.copy();y[y['a'] > 2] = y[0];y
y = rec.copy();y['a'][y['b'] > .5] = -1;y
y = nest.copy();y['q']['u'][1:] = 3;y
y = nest.copy();y['q'] = (1, 2);y
rec['a']
rec['p']
rec['p'][1:3, 0]
rec[['a', 'b']]
rec[['b', 'a']]['a']
rec[['a', 'zz']]
rec['zz']
rec[2]
rec[2]['b']
rec[2][1]
rec[2]['p']
rec[2].item()
rec.tolist()
rec[1:4].dtype
rec[rec['a'] > 1]
rec[[3, 1]]
rec.shape
rec['a'].sum()
rec['a'] * rec['b']
rec == rec
rec != rec[::-1]
rec == rec[0]
rec == 5
rec['s']
rec['s'] == b'ab'
rec.astype([('a','f8'),('b','f4'),('s','S2'),('p','i4',(2,))])
nest['q']['v']
nest['q'][['u']]
nest[2]['q']['u']
np.sort(rec[['a', 'b']])
np.sort(rec, order='b')
np.argsort(rec, order='a')
np.concatenate([rec, rec])
np.unique(rec['a'])
len(rec[0])
list(rec[0])[0]
y = rec.copy();y.sort(order='b');y
np.shares_memory(rec['a'], rec['b']), np.shares_memory(rec, rec['b'])
import pickle;pickle.loads(pickle.dumps(rec))
"""

ORDERS = """
i.byteswap()
i.byteswap(False)
y = i.copy();y.byteswap(True);y
y = i.copy();y[1:3].byteswap(inplace=True);y
be + 1
be.sum()
be * be
be.astype('f8')
be.byteswap()
bi.mean(axis=0)
bi @ bi.T
np.sort(bi, axis=1)
bi[1, 2]
bi == 3
be.cumsum()
y = be.copy();y[2:4] = 7;y += 1;y
be.max(), be.argmax(), be.std()
np.where(be > 2, be, 0)
y = x.copy();y.setflags(write=False);y.byteswap(True);y
x.byteswap().byteswap()
"""

OBJECTS = """
y = np.array([['x', 'yy']], dtype='T');[v.tolist() for v in (y.T, y[::-1, 0], y[:, None])]
y = np.array(['x', 'yy'], dtype='T');[q for q in y.flat], y.flat[1:].tolist()
np.broadcast_to(np.array(['x', 'yy'], dtype='T'), (3, 2)).tolist()
y = o.copy();y[0] = np.eye(2);y[0].tolist(), type(y[0]) is np.ndarray
y = o.copy();y[0] = v.sum();y[1:] = [x, 2, 'a'];y[0] == v.sum(), y[1].shape
y = i.copy();y[i > 20] = np.array([7, 8, 9], object);y[0, :2] = np.array([5, 6], object);y
np.array([1 + 2j, 1], object).conj(), c.conj(np.zeros((3, 4), complex)), i.conj()
S.conj()
y = np.zeros(3, [('x', object), ('y', int)]);y[0]['x'] = [1, 2];y['x'][0]
rec[2][()]
o == None, o != None, None == o
S.view('V3') == S[::-1].view('V3'), S.view('V3') != S.view('V3')
str(S.view('V3')[0]), repr(S.view('V3')[1]), S.view('V3')[0][()]
np.array([v, 3], dtype=object).shape
np.array([v, x], object)[1]
np.array([v, v], object)
np.array([v.sum(), [1, 2]], object)
import decimal;i[0] * decimal.Decimal(2)
import fractions;fractions.Fraction(1, 2) + i[0]
import datetime;D > datetime.date(2020, 3, 1), D - datetime.date(2020, 3, 1)
o[0]
o[1:]
o.tolist()
o == o
on + 1
on * on
on.sum()
on[::2] @ on[1::2]
on.astype('i8')
on.max()
y = on.copy();y[1] = 'q';y
np.sort(on)
np.zeros(3, object)
np.full((2, 2), None)
on.reshape(2, 3).T
on > 2
np.concatenate([on, o])
on.mean()
on.cumsum()
on[on > 2]
on[[1, 1, 0]]
x.astype(object)
S == b'foo'
S < b'c'
S[::2]
S.astype('U5')
U.astype(np.dtypes.StringDType())
U.astype('S4')
y = U.copy();y[0] = 'longer';y
np.sort(S)
U == S.astype('U')
np.concatenate([U, U[:2]])
np.unique(U)
S.max()
D + np.timedelta64(1, 'M')
D.astype('M8[D]')[0]
y = x.copy();y.sort(axis=None);y
x.argsort(), x.argsort(axis=0), x.argsort(axis=None)
import pickle;pickle.loads(pickle.dumps(on))
"""

FLAGS = """
v.flags.c_contiguous
x.T.flags.f_contiguous
x[:, ::2].flags.contiguous
x[0].flags.owndata
x.copy().flags.owndata
x.flags['WRITEABLE'], x.flags['C'], x.flags.num == x.flags.num
x.T.flags.c_contiguous
x.T.flags.f_contiguous
x[1:].flags.forc
x.flags.fnc
x.flags.carray
x.flags.behaved
x.flags['NOPE']
y = x.copy();y.flags.writeable = False;y[0] = 1;y
y = x.copy();y.setflags(write=False);y[1:][0] = 1;y
y = x.copy();y.setflags(write=False);y += 1;y
y = x.copy();y.setflags(write=False);np.add(y, 1, out=y);y
y = x.copy();y.setflags(write=False);np.copyto(y, 1);y
y = x.copy();y.setflags(write=False);np.put(y, 0, 1);y
y = x.copy();y.setflags(write=False);y.fill(3);y
y = x.copy();y.setflags(write=False);y.sort();y
y = x.copy();y.setflags(write=False);y.partition(2);y
y = x.copy();y.setflags(write=False);y.flat[0] = 1;y
y = x.copy();y.setflags(write=False);y.flat = 1;y
y = x.copy();y.setflags(write=False);np.add.at(y, 0, 1);y
y = x.copy();y.setflags(write=False);np.putmask(y, y > 0, 1);y
y = x.copy();y.setflags(write=False);np.place(y, y > 0, 1);y
y = x.copy();y.setflags(write=False);np.fill_diagonal(y, 1);y
y = x.copy();y.setflags(write=False);y.T.T[...] = 1;y
y = x.copy();w_ = y[1:];y.setflags(write=False);w_[0] = 5;y
y = x.copy();y.setflags(write=False);y.setflags(write=True);y[0] = 5;y
y = x.copy();y.setflags(write=False);w_ = y[1:];w_.setflags(write=True);y
y = x.copy();y.setflags(write=False);w_ = y.copy();w_[0] = 5;w_
y = x.copy();y.setflags(write=False);np.cumsum(y, axis=0, out=y);y
y = x.copy();y.setflags(write=False);y.sum(axis=0, out=y[0]);y
y = x.copy();y.setflags(write=False);y.real = 3;y
np.broadcast_to(x, (2, 7, 5)).flags.writeable, x.diagonal().flags.writeable
"""

FLAT = """
y = x.copy();y.flat[3] = 9;y
y = x.copy();y.flat[::3] = [1, 2];y
y = x.copy();y.flat[[1, 5]] = 7;y
y = x.copy();y.flat = [1, 2, 3];y
y = x.copy();y.flat[m.ravel()] = 4;y
y = x.copy();y.T.flat[1:4] = 4;y
y = x.copy();y.T.flat = range(3);y
x.flat[7]
x.flat[-1]
x.flat[99]
x.flat[2:5]
x.flat[[1, 3, 1]]
x.flat[m.ravel()]
x.flat[...]
x.flat[1, 2]
len(x.flat)
[float(q) for q in t.T.flat]
x.flat == x.flat
x.flat.copy()
f = x.flat;next(f);next(f);f.index, f.coords
x.flat.base is x
x.flat[()]
x.flat[v[:4].astype(int).flat]
x.flat[[[1, 2], [3, 4]]]
y = x.copy();y.flat[[[1, 2], [3, 4]]] += 10;y
y = x.copy();y.flat[[[1, 2], [3, 4]]] = 5, 6;y
y = x.copy();y.flat[numpy.array([], int)] += 10;y
y = x.copy();y.flat[2] = [];y
y = x.copy();y.flat[1:4] = [];y
y = x.copy();y.flat[()] = 3;y
y = o.copy();y.flat[2] = (1, 2);y
"""

SHAPES_IN_PLACE = """
y = np.ones((1, 1));y.resize(());y
y = np.ones((2, 1));y.resize();y
y = i.copy();y.dtype = 'i2';y[0] = 5;y
y = x.copy();w_ = y[1:];y.dtype = 'i8';y[1] = 0;(y, w_)
y = x.copy();w_ = y[1:3];w_.dtype = 'i4';w_[0] = 0;(y, w_)
y = x.T;y.dtype = 'i4'
y = nest.copy();y.dtype = [('a', 'u4'), ('b', 'u2'), ('c', 'u1')];y['b'] = 3;y
y = v.copy();y.resize(30);y
y = v.copy();y.resize((2, 3));y
y = v.copy();y.resize(3, 4);y
y = x.copy();y.resize((3, 20));y
y = x.copy();y.resize(0);y
y = x.copy();y.resize(-1);y
y = x.copy();y[1:].resize(3);y
y = x.copy();y.shape = (5, 7);y
y = x.copy();y.shape = -1;y
y = x.copy();y.shape = (3, 3);y
y = x.copy();w_ = y[1:];y.shape = (5, 7);w_[0] = 1;y[0] = 2;(y, w_)
y = x.copy();w_ = y[:, :2];w_.shape = (14,);y
y = x.copy();w_ = y[:4];w_.shape = (20,);w_[3] = 7;(y, w_)
"""

SORTED = """
x.copy().partition(2, axis=3)
x.copy().partition(2, axis=None)
y = v.copy();y.sort();y
y = x.copy();y.sort(axis=0);y
y = x.copy();y[::2].sort();y
y = x.copy();y.partition(2, axis=1);np.sort(y, axis=1), y[:, 2]
v[v.argpartition(3)][3], v[v.argpartition(3)].shape
v.searchsorted(0.)
"""

SET = """
import copy;y = copy.copy(x);y[0] = 1;x
y = v.copy();y[0] = np.ones(1);y
y = v.copy();y[0] = [1];y
y = v.copy();y[0] = np.ones((1, 1));y
y = v.copy();y[0] = np.ones(2);y
y = x.copy();y[0] = np.ones((1, 5));y
y = x.copy();y[0] = [[1]];y
y = x.copy();y[0, 0] = [[1]];y
y = x.copy();y[0, 0] = 'a';y
y = x.copy();y[0, 0] = '3';y
y = x.copy();y[0] = None;y
y = i.copy();y[0, 0] = 1.7;y
y = i.copy();y[0, 0] = 2**40;y
y = i.copy();y[0, 0] = np.nan;y
y = i.copy();y[0] = 1j;y
y = x.copy();y[[0, 1]] = np.ones((1, 1, 5));y
y = x.copy();y[m] = np.ones(3);y
y = x.copy();y[m] += 1;y
y = x.copy();y[[0, 0, 1]] += 1;y
y = x.copy();y[1:3, [0, 2]] *= 2;y
y = x.copy();y[..., 1] -= y[..., 0];y
y = x.copy();y[::-1][::2][0] = 3;y
y = x[0, 0];y[...] = 3;y
y = x[0, 0];y[()];y[()]
"""

REST = """
x['a']
x[['a']]
y = c.copy();y.imag = 3;y.real[1] = 2;y
x.tobytes(), x.tobytes('F'), x.T.tobytes()
x.item(3), x.item(2, 1), x.item((1, 1)), x.item(-1)
x.item()
x.item(99)
x.item(1, 2, 3)
np.shares_memory(x, x[1:])
np.shares_memory(x[::2], x[1::2])
np.may_share_memory(x, x.T)
np.shares_memory(x, x.copy())
np.shares_memory(x[:2], x[5:])
divmod(x, 2)
divmod(7, y)
x.__contains__(0.0), 99 in x
complex(z), int(z), float(z), bool(z)
[1, 2, 3][np.asarray(2)]
format(x.sum(), '.2f'), f'{x}'
format(x, '.2f')
import copy;copy.copy(x), copy.deepcopy(x)
import pickle;pickle.loads(pickle.dumps(x))
import pickle;pickle.loads(pickle.dumps(x[0, 0]))
import pickle;pickle.loads(pickle.dumps(x.T[1:] * 2))
import pickle;pickle.loads(x.dumps())
np.logical_and(x, 2**63)
np.logical_or(i, 2**70)
np.logical_not(i)
y = x.copy();np.add.at(y, [0, 0, 1], 1);y
y = x.copy();np.add.at(y, ([0, 0], [1, 1]), [1, 2]);y
y = x.copy();np.negative.at(y, [0, 0, 1]);y
y = x.copy();np.add.at(y, [0, 9], 1);y
y = i.copy();np.add.at(y, [0, 1], 1.5);y
y = x.copy();np.multiply.at(y, numpy.tile([1, 0, -1], 9), 2);y
y = x.copy();np.subtract.at(y, [1, 0, 1], x[:3]);y
y = x.copy();np.add.at(y, (slice(None), [1, 0, 1]), x[:, :3]);y
y = x.copy();np.add.at(y, [0] * 50, 1);y
y = numpy.zeros(9);y = np.asarray(y) + 0;np.add.at(y, np.arange(900) % 9, np.arange(900.));y
y = np.zeros(9);np.add.at(y, np.arange(900) % 10, 1)
x[0][...]
x[0, 0][...]
x.take([1, 2]), x.compress([True, False, True]), x.repeat(2), x.trace(), x.diagonal(1)
x.T, t.mT, x.real, x.imag
x.device
x.to_device('cpu')
x.to_device('gpu')
x.__array_namespace__() is np
x.__array_namespace__(api_version='2024.12') is np
x.__array_namespace__(api_version='1999.01')
bytes(x)
hash(x)
iter(z)
len(z)
x.__index__()
round(x)
~i, -x, +x, abs(x)
x ** 2, 2 ** x, x // 2, x % 3, 7 // x
i << 1, i >> 1, i & 3, i | 1, i ^ 2
y = i.copy();y <<= 1;y |= 1;y //= 2;y %= 5;y ^= 1;y **= 2;y
y = a.copy();y @= np.ones((6, 6));y
x @ x.T
x.dot(x.T)
np.array(x, copy=True), np.asarray(x, dtype='f4')
x == None, x != 'a'
x > 'a'
x + 'a'
x.nope
x.tolist(), z.tolist()
x.astype('i4', casting='safe')
x.astype('S5')
x.var(ddof=1), x.all(), x.any(), x.argmin(1)
t[1, ..., None], t[None, :, -1], t[()], t[...]
x[5:2], x[::-2], x[-3:-1]
x[9], x[0, 9]
x[1.0]
x[0, 0, 0]
x[[0, 9]]
x[True], x[False], x[None, 2]
x[m, 0]
x[[True, False]]
x[numpy.zeros(0, bool)], t[numpy.zeros((3, 0), bool)], x[:, numpy.zeros(0, bool)]
x[numpy.zeros((2, 0), bool)]
x[numpy.zeros(0, bool)] = 3;x
x[k]
x[[[0, 1], [2, 3]], [0, 1]]
x[[1, 2], :, None][:, 0]
t[[0, 1], :, [0, 1]]
t[:, [0, 1], [1, 0]]
t[..., [1, 0]]
t[[0], ..., None]
x.take(99)
"""

GROUPS = {
    "views": texts(VIEWED),
    "records": texts(RECORDS),
    "byte orders": texts(ORDERS),
    "objects and strings": texts(OBJECTS),
    "flags": texts(FLAGS),
    "flat": texts(FLAT),
    "shapes in place": texts(SHAPES_IN_PLACE),
    "sorting": texts(SORTED),
    "assignment": texts(SET),
    "all the rest": texts(REST),
}
"""Texts by topic."""
