"""A call of each function of NumPy's namespace, on arrays that exceed the memory limit.

The operands are on disk: a plane `x` and a vector `v` of floats, integers `i` below a thousand,
dates `d`; `y` and `w` are more of x and v. All of them are larger than the limit that the calls
run under.
"""

from __future__ import annotations

import numpy as np

SAME = """
all any amax amin argmax argmin around average ceil copy count_nonzero cumprod cumsum diagonal
fliplr flipud iscomplex isreal max mean min nanmax nanmean nanmin nanprod nanstd nansum nanvar
nan_to_num prod ptp ravel real imag round std sum transpose trapezoid var angle fix flip asarray
asanyarray array ascontiguousarray asfortranarray asarray_chkfinite atleast_1d atleast_2d
atleast_3d zeros_like ones_like empty_like require real_if_close squeeze permute_dims rot90 diff
ediff1d gradient i0 sinc unwrap tril triu isposinf isneginf median nanmedian nanargmax nanargmin
nancumsum nancumprod sort_complex matrix_transpose argwhere nonzero flatnonzero array_repr
array_str array2string unique unique_values unique_counts unique_inverse unique_all histogram
histogram_bin_edges corrcoef cumulative_sum cumulative_prod trim_zeros lexsort argsort sort
"""
"""Functions that are called with nothing but an array: x, or v for those below."""

VECTORS = """
cumulative_sum cumulative_prod unwrap ediff1d trapezoid sort_complex trim_zeros argsort sort median
unique unique_values unique_counts unique_inverse unique_all histogram histogram_bin_edges gradient
array2string
"""

CALLS = """
allclose | np.allclose(x, y)
append | np.append(v, w)
apply_along_axis | np.apply_along_axis(numpy.ptp, 1, x)
apply_over_axes | np.apply_over_axes(np.sum, x, [0, 1])
arange | np.arange(4_500_000)
argpartition | np.argpartition(v, 9)
array_equal | np.array_equal(x, y)
array_equiv | np.array_equiv(x, y)
array_split | np.array_split(v, 3)
asmatrix | np.asmatrix(x)
astype | np.astype(x, 'f4')
bartlett | np.bartlett(4_500_000)
bincount | np.bincount(i)
blackman | np.blackman(4_500_000)
block | np.block([[x, y], [y, x]])
bmat | np.bmat([[x, y]])
broadcast | np.broadcast(x, x[0]).shape
broadcast_arrays | np.broadcast_arrays(x, x[0])
broadcast_to | np.broadcast_to(v, (2, v.size))
busday_count | np.busday_count(d, d + 9)
busday_offset | np.busday_offset(d, 3, roll='forward')
c_ | np.c_[v, w]
can_cast | np.can_cast(x.dtype, 'f4')
choose | np.choose(i % 2, [v, w])
clip | np.clip(x, 0, 1)
column_stack | np.column_stack([v, w])
common_type | np.common_type(x, y)
compress | np.compress(v > 0, v)
concat | np.concat([x, y])
concatenate | np.concatenate([x, y], axis=1)
convolve | np.convolve(v, [1, 2, 3])
copyto | c = np.zeros(x.shape); np.copyto(c, x, where=x > 0); c
correlate | np.correlate(v, [1, 2, 3])
cov | np.cov(x.reshape(-1, 8), rowvar=False)
cross | np.cross(x.reshape(-1, 4)[:, :3], y.reshape(-1, 4)[:, 1:])
datetime_as_string | np.datetime_as_string(d)
delete | np.delete(v, [3, 99999])
diag | np.diag(x)
diag_indices | np.diag_indices(9)
diag_indices_from | np.diag_indices_from(x)
diagflat | np.diagflat(v[:2100])
digitize | np.digitize(v, [-1, 0, 1])
dot | np.dot(x, y.T)
dsplit | np.dsplit(x.reshape(64, 32, 2048), 2)
dstack | np.dstack([x, y])
einsum | np.einsum('ij,ij->i', x, y)
einsum_path | np.einsum_path('ij,kj->ik', x, y)[0]
empty | np.empty((2048, 2048)).shape
expand_dims | np.expand_dims(x, 1)
extract | np.extract(v > 1, v)
eye | np.eye(2100)
fill_diagonal | c = np.zeros((2100, 2100)); np.fill_diagonal(c, 3); c
from_dlpack | np.from_dlpack(numpy.arange(9.))
frombuffer | np.frombuffer(b'12345678')
fromfunction | np.fromfunction(lambda j, k: j + k, (2048, 2048))
fromiter | np.fromiter(range(9), float)
format_float_positional | np.format_float_positional(1.5)
format_float_scientific | np.format_float_scientific(1.5)
frompyfunc | np.frompyfunc(abs, 1, 1)(v) | np.frompyfunc(abs, 1, 1)(v[:99])
fromstring | np.fromstring('1 2 3', sep=' ')
full | np.full((2048, 2048), 3.0)
full_like | np.full_like(x, 3)
geomspace | np.geomspace(1, 9, 4_500_000)
hamming | np.hamming(4_500_000)
hanning | np.hanning(4_500_000)
histogram2d | np.histogram2d(v, w)
histogramdd | np.histogramdd([v, w], 4)
hsplit | np.hsplit(x, 2)
hstack | np.hstack([x, y])
identity | np.identity(2100)
indices | np.indices((2048, 2048))
info | np.info(3)
inner | np.inner(x, y)
insert | np.insert(v, [3, 99999], 7)
interp | np.interp(v, [-1, 0, 1], [3, 1, 2])
intersect1d | np.intersect1d(v, w)
is_busday | np.is_busday(d)
isclose | np.isclose(x, y)
iscomplexobj | np.iscomplexobj(x)
isfortran | np.isfortran(x)
isin | np.isin(i, [3, 5])
isrealobj | np.isrealobj(x)
isscalar | np.isscalar(x)
ix_ | np.ix_([0, 1], [2, 3])
kaiser | np.kaiser(4_500_000, 3.0)
kron | np.kron(x, [[1, 2]])
lexsort | np.lexsort((v, w))
linspace | np.linspace(0, 1, 4_500_000)
logspace | np.logspace(0, 1, 4_500_000)
mask_indices | np.mask_indices(9, np.triu)
may_share_memory | np.may_share_memory(x, v)
meshgrid | np.meshgrid(v[:2100], w[:2100])
min_scalar_type | np.min_scalar_type(x)
mgrid | np.mgrid[0:2048, 0:2048]
moveaxis | np.moveaxis(x, 0, 1)
nanpercentile | np.nanpercentile(x, 30, axis=0)
nanquantile | np.nanquantile(x, [0.1, 0.9])
ndenumerate | next(np.ndenumerate(x))
ndim | np.ndim(x)
nditer | next(iter(np.nditer(x))).item()
nested_iters | len(np.nested_iters(x[:2, :2], [[0], [1]]))
ogrid | np.ogrid[0:2048, 0:2048]
ones | np.ones((2048, 2048))
outer | np.outer(v[:2100], w[:2100])
packbits | np.packbits(x > 0, axis=1)
pad | np.pad(x, 3, mode='reflect')
partition | np.partition(v, 9)
percentile | np.percentile(v, [10, 90])
piecewise | np.piecewise(v, [v < 0, v >= 0], [-1, 1])
place | c = np.zeros(v.shape); np.place(c, v > 0, [1, 2, 3]); c
poly | np.poly(v) | np.poly(v[:9])
polyadd | np.polyadd(v, w)
polyder | np.polyder(v) | np.polyder(v[:999])
polydiv | np.polydiv(v, w[:9]) | np.polydiv(v[:999], w[:9])
polyfit | np.polyfit(v, w, 2)
polyint | np.polyint(v) | np.polyint(v[:999])
polymul | np.polymul(v, w[:9]) | np.polymul(v[:999], w[:9])
polysub | np.polysub(v, w)
polyval | np.polyval([1, 2, 3], v)
put | c = np.zeros(v.shape); np.put(c, [3, 99999], [1, 2]); c
put_along_axis | c = np.zeros(x.shape); np.put_along_axis(c, np.argsort(x[:, :9], 1), 1, 1); c
putmask | c = np.zeros(v.shape); np.putmask(c, v > 0, w); c
quantile | np.quantile(v, 0.3, method='median_unbiased')
r_ | np.r_[v, w]
ravel_multi_index | np.ravel_multi_index((i, i), (1000, 1000))
repeat | np.repeat(v, 2)
reshape | np.reshape(x, (4096, 1024))
resize | np.resize(v, (3, v.size))
result_type | np.result_type(x, 'f4')
roll | np.roll(x, 3, axis=0)
rollaxis | np.rollaxis(x, 1)
roots | np.roots(v) | np.roots(v[:99])
row_stack | np.vstack([x, y])
searchsorted | np.searchsorted(numpy.arange(-3.0, 3), v)
select | np.select([v > 1, v < 0], [v, w], 9)
setdiff1d | np.setdiff1d(v, w)
setxor1d | np.setxor1d(v, w)
shape | np.shape(x)
shares_memory | np.shares_memory(x, v)
size | np.size(x)
split | np.split(x, 4)
stack | np.stack([x, y])
swapaxes | np.swapaxes(x, 0, 1)
take | np.take(v, [3, 99999])
take_along_axis | np.take_along_axis(x, np.argsort(x[:, :9], 1), 1)
tensordot | np.tensordot(x, y, 2)
tile | np.tile(v, 2)
trace | np.trace(x)
tri | np.tri(2100)
tril_indices | np.tril_indices(9)
tril_indices_from | np.tril_indices_from(x[:9, :9])
triu_indices | np.triu_indices(9)
triu_indices_from | np.triu_indices_from(x[:9, :9])
union1d | np.union1d(v, w)
unpackbits | np.unpackbits(i.astype('u1'))
unravel_index | np.unravel_index(i, (100, 10))
unstack | np.unstack(x[:4])
vander | np.vander(v, 2)
vdot | np.vdot(v, w)
vectorize | np.vectorize(abs, otypes='d')(v)
vsplit | np.vsplit(x, 2)
vstack | np.vstack([x, y])
where | np.where(x > 0, x, y)
zeros | np.zeros((2048, 2048))
matmul | np.matmul(x, y.T)
matvec | np.matvec(x, x[0])
vecmat | np.vecmat(x[:, 0], x)
vecdot | np.vecdot(x, y)
isnat | np.isnat(d)
ldexp | np.ldexp(v, i % 9)
frexp | np.frexp(v)
modf | np.modf(v)
divmod | np.divmod(v, w)
"""

INTEGERS = """
bitwise_and bitwise_or bitwise_xor bitwise_not bitwise_invert bitwise_count bitwise_left_shift
bitwise_right_shift invert left_shift right_shift gcd lcm
"""
"""Ufuncs of integers."""

FILES = """
fromfile fromregex genfromtxt load loadtxt memmap save savetxt savez savez_compressed
"""
"""Functions of files, which have tests of their own."""


def calls() -> dict[str, str]:
    """Give the text of a call for each name."""
    vectors = frozenset(VECTORS.split())
    made = {name: f"np.{name}({'v' if name in vectors else 'x'})" for name in SAME.split()}
    for name, value in vars(np).items():
        if isinstance(value, np.ufunc) and value.signature is None:
            operand = "i" if name in INTEGERS.split() else "v"
            made[name] = f"np.{name}({', '.join([operand] * value.nin)})"
    rows = [line.split(" | ") for line in CALLS.strip().splitlines()]
    return made | {name: text for name, text, *_ in rows}


def smaller_calls() -> dict[str, str]:
    """Give the text of another call for names whose work grows faster than their arguments."""
    rows = [line.split(" | ") for line in CALLS.strip().splitlines()]
    return {name: text for name, _, *small in rows for text in small}
