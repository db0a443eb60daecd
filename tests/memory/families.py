"""Operations by family, beyond the usual ones: what docs/coverage.md calls out of core.

Each takes x, numbers between -0.5 and 0.5 in no order, of which no row is small, and a folder for
what it writes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from tests.memory.results import numbers, told, written

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

EXACT = np.dtype("i8")


def ufuncs(x: Any, out: Path) -> None:
    """Apply every ufunc that takes numbers, in one visit."""
    whole, made = numbers(x[: x.shape[0] // 4]), []
    for name, ufunc in sorted(vars(np).items()):
        if not isinstance(ufunc, np.ufunc) or ufunc.signature or name in {"isnat", "ldexp"}:
            continue
        floats = any("d" in kinds[: ufunc.nin] for kinds in ufunc.types)
        results = getattr(xp, name)(*[x[: x.shape[0] // 4] if floats else whole] * ufunc.nin)
        parts = results if isinstance(results, tuple) else (results,)
        made += [part.max() for part in parts]
    with np.errstate(all="ignore"):
        told(*made, xp.ldexp(x, 3).max())


def chosen(x: Any, out: Path) -> None:
    """Choose among values, and see what they are."""
    written(xp.where(x > 0, x, -x) + xp.clip(x, -0.1, 0.1), out)
    written(xp.select([x > 0.2, x < -0.2], [x, x * x], 9) + xp.nan_to_num(x), out)
    written(xp.choose(numbers(x) % 3, [x, x + 1, x[:1]]) + xp.round(x, 2), out)
    told(xp.isclose(x, 0).sum(), xp.iscomplex(x).any(), xp.isneginf(x).any())
    assert xp.allclose(x, x + 1e-12)
    assert xp.array_equal(x, x)
    assert xp.array_equiv(x, x)


def functions_of_values(x: Any, out: Path) -> None:
    """Apply what is made of ufuncs, and functions of the user's."""
    written(xp.i0(x) + xp.sinc(x) + xp.fix(x) + xp.angle(x) + xp.polyval([1, 2, 3], x), out)
    written(xp.piecewise(x, [x < 0, x >= 0], [-1, lambda t: t * 2]), out)
    written(xp.vectorize(abs, otypes="d")(x[:, :300]), out)
    written(xp.interp(x, [-0.5, 0, 0.5], [3, 1, 2]), out)


def broadcast(x: Any, out: Path) -> None:
    """Stretch operands against each other."""
    written(x * x[:1] - x[:, :1] + x[0, 0], out)
    written(x[:, 0][:, None] + x[0][None], out)
    told(xp.broadcast_to(x, (3, *x.shape)).sum())
    a, b = xp.meshgrid(x[0], x[:, 0])
    written(a + b, out)


def narrow(x: Any, out: Path) -> None:
    """Change dtypes, and look at the same bytes under another one."""
    written((x.astype("f4") * 2).astype("f2"), out)
    written((x * 99).astype("i1") // 3, out)
    written(x.view("i8") >> 3, out)
    told((x + 1j).real.sum(), (x + 1j).view("f8").sum())


def bits(x: Any, out: Path) -> None:
    """Pack and unpack bits."""
    written(xp.packbits(x > 0, axis=1), out)
    written(xp.unpackbits(numbers(x[:, :3000], 256).astype("u1"), axis=1), out)


def reduced_to_one(x: Any, out: Path) -> None:
    """Reduce everything to a number."""
    told(x.sum(), x.prod(), x.min(), x.max(), xp.ptp(x), x.var(ddof=1), x.std(), x.mean())
    told(x.any(), x.all(), xp.count_nonzero(x > 0), x.argmax(), xp.nanargmin(x), xp.trace(x))
    told(xp.average(x, weights=x + 1), xp.trapezoid(x.reshape(-1)), x.diagonal())


def reduced_along_axes(x: Any, out: Path) -> None:
    """Reduce along either axis."""
    told(x.prod(0), x.min(1), xp.ptp(x, 0), (x > 0.4).any(1), (x > -1).all(0), x.argmin(0))
    told(xp.count_nonzero(x > 0, axis=1), x.argmax(1), xp.trapezoid(x, axis=0))
    told(xp.average(x, 0, weights=xp.arange(x.shape[0])), xp.apply_over_axes(xp.sum, x, [0, 1]))


def reduced_without_nan(x: Any, out: Path) -> None:
    """Reduce what has gaps."""
    y = xp.where(x > 0.49, xp.nan, x)
    told(xp.nansum(y), xp.nanmean(y, 0), xp.nanstd(y, 1), xp.nanmin(y, 0), xp.nanmax(y))
    told(xp.nanvar(y), xp.nanprod(y, 1), xp.nanargmax(y, 0), xp.nanmedian(y, 1))
    told(xp.nanpercentile(y, 30, axis=0), xp.nanquantile(y, [0.1, 0.9]))
    written(xp.nancumsum(y, 0), out)
    written(xp.nancumprod(y, 1), out)


def ranked(x: Any, out: Path) -> None:
    """Take medians of all and of both axes."""
    told(xp.median(x), xp.percentile(x, [10, 50, 90]))
    told(xp.median(x, 0), xp.percentile(x, [10, 90], axis=1))
    told(xp.topk(x.reshape(-1), 9), xp.topk(x, 3, axis=1))


def correlated(x: Any, out: Path) -> None:
    """Correlate few of many."""
    told(xp.cov(x[:, :200], rowvar=False), xp.corrcoef(x[:200]))


def accumulated(x: Any, out: Path) -> None:
    """Accumulate along both axes."""
    written(xp.cumprod(x + 1, 0), out)
    written(xp.cumulative_sum(x, axis=1, include_initial=True), out)
    written(xp.maximum.accumulate(x, 0), out)
    written(xp.ediff1d(xp.cumulative_prod(x.reshape(-1) + 0.5)), out)


def methods_of_ufuncs(x: Any, out: Path) -> None:
    """Call reduce, reduceat, outer and at."""
    rows, columns = x.shape
    told(xp.add.reduce(x, 0), xp.maximum.reduce(x, axis=None), xp.multiply.reduce(x, 1))
    told(xp.add.reduceat(x, [0, 100, rows // 2], 0), xp.fmin.reduceat(x, [0, 5, columns - 9], 1))
    written(xp.multiply.outer(x[:, 0], x[0]), out)
    y = x + 0
    xp.add.at(y, np.arange(0, rows, 3), 1)
    written(y, out)
    counts = xp.zeros(1000)
    xp.add.at(counts, numbers(x.reshape(-1)), 1)
    assert counts.sum() == x.size


def rows_and_points(x: Any, out: Path) -> None:
    """Take rows, columns and points by arrays of integers in memory."""
    rng, (rows, columns) = np.random.default_rng(0), x.shape
    written(x[:, rng.permutation(columns)], out)
    told(x[rng.integers(0, rows, 99_999), rng.integers(0, columns, 99_999)], x.take([3, 99], 1))
    written(x[xp.ix_(rng.integers(0, rows, rows // 2), rng.integers(0, columns, columns))], out)


def lazy_places(x: Any, out: Path) -> None:
    """Take from places that are computed, of a table and of everything."""
    v = x.reshape(-1)
    written(xp.arange(1000.0)[numbers(x)], out)
    places = numbers(v[::8], v.size)
    written(v[places], out)
    y = xp.zeros(v.size)
    y[places[::8]] = 1
    written(y, out)


def written_to_places(x: Any, out: Path) -> None:
    """Write to rows, columns, points and flat places."""
    y, few = x + 0, np.arange(min(x.shape))
    y[np.arange(0, x.shape[0], 7)] = 0
    y[:, np.array([5, 9, 2000])] *= 2
    y[few, few] = 1
    y.flat[::3] = 5
    xp.put(y, [3, 99_999, x.size - 1], [1, 2, 3])
    xp.fill_diagonal(y, 3)
    written(y, out)


def along_an_axis(x: Any, out: Path) -> None:
    """Take and put at places of each row."""
    places = xp.argsort(x[:, :50], 1)
    written(xp.take_along_axis(x, places, 1), out)
    y = x + 0
    xp.put_along_axis(y, places, 1, 1)
    written(y, out)


def masked_reads(x: Any, out: Path) -> None:
    """Read where masks are true, and tell where that is."""
    written(x[x > 0.3], out)
    written(x[x[:, 0] > 0], out)
    written(xp.compress(x[0] > 0, x, axis=1), out)
    written(xp.extract(x > 0.4, x), out)
    rows, columns = xp.nonzero(x > 0.4)
    written(rows + columns, out)
    written(xp.argwhere(x > 0.4), out)
    written(xp.flatnonzero(x.reshape(-1) > 0.4), out)


def masked_writes(x: Any, out: Path) -> None:
    """Write where masks are true."""
    y = x + 0
    y[y > 0.499] = xp.arange(int((x > 0.499).sum()))
    y[x[:, 0] > 0] = 5
    xp.putmask(y, x > 0, -x)
    xp.copyto(y, x * 2, where=x < -0.3)
    xp.place(y, x > 0.4, [1, 2, 3])
    xp.add(y, 1, out=y, where=x > 0)
    written(y, out)


def sorted_values(x: Any, out: Path) -> None:
    """Sort down, and find places in what is sorted."""
    written(xp.sort(x, 0), out)
    written(xp.sort_complex(x[:, :1000] + 1j), out)
    written(xp.searchsorted(np.linspace(-0.5, 0.5, 99), x), out)
    written(xp.digitize(x, [-0.2, 0, 0.2]), out)
    written(xp.partition(x, 100, 1), out)
    written(xp.argpartition(x, 100, 1), out)


def binned(x: Any, out: Path) -> None:
    """Count in bins of one and two dimensions, with weights, and by number."""
    v = x.reshape(-1)
    told(xp.histogram(x, "auto")[0], xp.histogram(x, [-0.5, 0, 0.5], weights=x)[0])
    told(xp.histogram2d(v, v[::-1])[0], xp.histogramdd([v, v[::-1]], 4)[0])
    told(xp.histogram_bin_edges(x, 50), xp.bincount(numbers(v), weights=v, minlength=2000))


def sets(x: Any, out: Path) -> None:
    """See values as sets."""
    whole, few = numbers(x.reshape(-1)), np.arange(50)
    told(*xp.unique_counts(whole), xp.unique_values(whole), xp.union1d(whole, few))
    told(xp.intersect1d(whole, few), xp.setdiff1d(whole, few), xp.setxor1d(whole, few))
    written(xp.isin(numbers(x), [3, 5, 7]), out)
    written(xp.unique_inverse(whole)[1], out)
    told(*xp.unique_all(whole[: whole.size // 8])[:2])


def distinct(x: Any, out: Path) -> None:
    """Find those that are different where all are, and which of many are among many."""
    written(xp.unique(xp.random.default_rng(1).random(x.size)), out)
    many = numbers(x, x.size)
    written(xp.isin(many[:, : x.shape[1] // 8], many[: x.shape[0] // 8]), out)


def joined(x: Any, out: Path) -> None:
    """Lay arrays beside and upon each other, and take them apart."""
    written(xp.stack([x, x + 1], -1), out)
    written(xp.block([[x, x[::-1]], [x[:, ::-1], x]])[::2, ::2], out)
    written(xp.append(x, x[:99], 0), out)
    written(xp.insert(x, [3, 99], 7, axis=0), out)
    written(xp.delete(x, [3, 99], axis=1), out)
    written(xp.vstack([x[::2], x[1::2]]) + xp.hstack(xp.array_split(x, 3, axis=1)), out)


def turned(x: Any, out: Path) -> None:
    """Turn and move axes."""
    written(xp.rot90(x), out)
    written(xp.flip(x), out)
    cube = x.reshape(x.shape[0], -1, 100)
    written(xp.moveaxis(cube, 0, 1), out)
    written(cube.transpose(2, 0, 1), out)


def padded(x: Any, out: Path) -> None:
    """Pad in all ways, repeat, and bring to another shape."""
    for mode in ("reflect", "wrap", "edge", "mean", "linear_ramp"):
        written(xp.pad(x, 7, mode=mode), out)
    written(xp.repeat(x[: x.shape[0] // 2], np.arange(x.shape[0] // 2) % 4, axis=0), out)
    written(xp.resize(x, (x.shape[0] + 99, x.shape[1] - 50)), out)
    written(xp.tile(x.reshape(-1)[: x.size // 4], 4), out)


def triangles(x: Any, out: Path) -> None:
    """Keep triangles and diagonals."""
    written(xp.tril(x) + xp.triu(x, 3), out)
    written(xp.diag(x[:, 0]), out)
    written(xp.tri(*x.shape) + xp.eye(*x.shape), out)


def generated(x: Any, out: Path) -> None:
    """Make values from indices."""
    written(xp.linspace(0, 1, x.size), out)
    written(xp.geomspace(1, 9, x.size) + xp.hanning(x.size), out)
    written(xp.indices(x.shape)[1] + xp.fromfunction(lambda j, k: j * k, x.shape), out)
    rows, columns = xp.unravel_index(xp.arange(x.size), x.shape)
    written(xp.ravel_multi_index((rows, columns), x.shape), out)


def recut(x: Any, out: Path) -> None:
    """Compute in other chunks than the stored ones."""
    written(x.rechunk((50, x.shape[1])) + 1, out)
    written(x.rechunk((x.shape[0], 50)).cumsum(0), out)


def contracted(x: Any, out: Path) -> None:
    """Multiply and sum in all spellings."""
    told(xp.einsum("ij,ij->i", x, x), xp.tensordot(x, x, 2), xp.vdot(x, x), xp.vecdot(x, x))
    told(xp.matvec(x, x[0]), xp.vecmat(x[:, 0], x), xp.dot(x, x[0]), x.reshape(-1) @ x.reshape(-1))
    written(xp.einsum("ij,kj->ik", x, x[:100]), out)
    written(xp.inner(x, x[:64]), out)
    cube = x.reshape(x.shape[0], -1, 100)
    written(xp.tensordot(cube, x[:100, :5], ([2], [0])), out)


def spread(x: Any, out: Path) -> None:
    """Multiply everything with everything of something small."""
    written(xp.kron(x[:, : x.shape[1] // 2], [[1, 2]]), out)
    triples = x[:, : x.shape[1] // 3 * 3].reshape(-1, 3)
    written(xp.cross(triples, triples[::-1]), out)
    written(xp.vander(x.reshape(-1)[: x.size // 3], 3), out)
    written(xp.outer(x[0], x[:, 0]), out)


def neighbours(x: Any, out: Path) -> None:
    """Read what lies beside: convolve, difference, slide windows."""
    v = x.reshape(-1)
    written(xp.convolve(v, [1, 2, 3], "same"), out)
    written(xp.correlate(v, np.ones(50)), out)
    down, across = xp.gradient(x)
    written(down + across, out)
    written(xp.diff(x, n=2, axis=1), out)
    written(xp.unwrap(x, axis=1), out)
    windows = xp.lib.stride_tricks.sliding_window_view
    written(windows(x, 5, axis=0).mean(-1), out)
    written(windows(x, (3, 3)).max((-2, -1)), out)


def largest(box: Any) -> Any:
    """Give the largest of each lane."""
    return box.max(-1)


def lanes(x: Any, out: Path) -> None:
    """Apply functions of the user's to whole rows, columns and blocks."""
    told(xp.apply_along_axis(np.ptp, 1, x))
    written(xp.apply_along_axis(np.cumsum, 0, x[:, : x.shape[1] // 4]), out)
    written(xp.apply_gufunc(largest, "(i)->()", x, output_dtypes="d"), out)
    written(xp.coarsen(np.mean, x[: x.shape[0] // 2 * 2], {0: 2, 1: 2}, trim_excess=True), out)


def transforms(x: Any, out: Path) -> None:
    """Transform rows, columns and planes."""
    written(abs(xp.fft.rfft(x, axis=1)), out)
    written(abs(xp.fft.fft(x, axis=0)), out)
    written(abs(xp.fft.fft2(x[:, : x.shape[1] // 2])), out)
    written(xp.fft.irfft(xp.fft.rfft(xp.fft.fftshift(x), axis=1), axis=1), out)


def matrices(x: Any, out: Path) -> None:
    """Work on stacks of small matrices, and take norms."""
    few = x[: x.shape[0] // 4]
    stack = few[:, : x.shape[1] // 100 * 100].reshape(-1, 10, 10) + 5 * xp.eye(10)
    told(xp.linalg.det(stack).sum(), xp.linalg.svdvals(stack).max())
    written(xp.linalg.inv(stack), out)
    written(xp.linalg.solve(stack, stack[:, :, :2]), out)
    told(xp.linalg.norm(x), xp.linalg.norm(x, axis=1), xp.linalg.norm(x, 1))
    told(xp.linalg.multi_dot([x[:9], x.T, x[:, :9]]))


def families_of_draws(x: Any, out: Path) -> None:
    """Draw from many distributions."""
    rng, n = xp.random.default_rng(1), x.size // 4
    told(rng.random(n).mean(), rng.uniform(size=n).mean(), rng.integers(0, 9, n).mean())
    told(rng.exponential(size=n).mean(), rng.gamma(2, size=n).mean(), rng.choice(9, n).mean())
    told(rng.poisson(3, n).mean(), rng.binomial(9, 0.3, n).mean(), rng.beta(2, 3, n).mean())
    told(rng.dirichlet([1, 2, 3], n // 3).mean(0), rng.multinomial(9, [0.5, 0.5], n // 2).mean(0))
    told(xp.random.rand(n).mean(), xp.random.randint(0, 9, n).mean())


def shuffled(x: Any, out: Path) -> None:
    """Bring rows into another order, and choose among values."""
    rng = xp.random.default_rng(1)
    written(rng.permutation(x), out)
    y = x + 0
    rng.shuffle(y)
    written(y, out)
    written(rng.choice(x.reshape(-1), x.size // 4), out)


def texts(x: Any, out: Path) -> None:
    """Make texts of numbers, and numbers of texts."""
    made = numbers(x[: x.shape[0] // 2]).astype("U8")
    told(xp.strings.str_len(made).sum(), (xp.strings.find(made, "7") >= 0).sum())
    written(xp.strings.add(made, "x"), out)
    told(made.astype("S8").astype("i8").sum())


def dates(x: Any, out: Path) -> None:
    """Count days."""
    days = np.datetime64("2020-01-01") + numbers(x)
    told(days.max(), (days - days.min()).astype(EXACT).sum(), xp.is_busday(days).sum())
    written(xp.busday_count(days, days + 9), out)
    written(xp.busday_offset(days, 3, roll="forward").astype("M8[M]"), out)
    written(xp.datetime_as_string(days[:, : x.shape[1] // 4]), out)


def records(x: Any, out: Path) -> None:
    """Keep several values in one element."""
    made = xp.zeros(x.shape, [("a", "f8"), ("b", "i4")])
    made["a"] = x
    made["b"] = 3
    told(made["a"].sum(0), made[["b"]][::2]["b"].max())
    xp.save(out / "out.npy", made)


def raw_files(x: Any, out: Path) -> None:
    """Write and read files of other formats."""
    xp.save(out / "out.npy", x)
    written(xp.load(out / "out.npy").T + 1, out)
    x.tofile(out / "out.npy")
    told(xp.memmap(out / "out.npy", "f8", "r", shape=x.shape).sum(0))
    told(xp.fromfile(out / "out.npy").mean())
    xp.savez_compressed(out / "out.npz", a=x[:, : x.shape[1] // 4])
    told(xp.load(out / "out.npz")["a"].sum(0))


def text_files(x: Any, out: Path) -> None:
    """Write a text of several times the limit, and read it."""
    xp.savetxt(out / "out.npy", x[:, : x.shape[1] // 20], fmt="%.17g")
    told(xp.loadtxt(out / "out.npy").sum(0))


def looked_at(x: Any, out: Path) -> None:
    """Print, iterate, and read elements."""
    assert str(x)
    assert repr(x + 1)
    assert xp.array_repr(x.reshape(-1))
    total = 0.0
    for row in x[:100]:
        total += row.sum()
    for start in range(0, x.shape[0], 1000):
        total += x[start : start + 1000].sum()
    assert abs(float(total)) < x.size
    assert next(xp.ndenumerate(x))[0] == (0, 0)
    told(x.flat[5], x.flat[::1000].sum())


def other_names(x: Any, out: Path) -> None:
    """Call by their other names what is done above, and what leaves values as they are."""
    y = xp.around(xp.copy(x), 3) + xp.isposinf(x) + xp.isreal(x) + xp.full_like(x, 2)
    y = y * xp.ones_like(x) + xp.zeros_like(x) + xp.real_if_close(x)
    y = xp.asarray(xp.ascontiguousarray(xp.asfortranarray(xp.asanyarray(y))))
    y = xp.atleast_1d(xp.atleast_2d(xp.atleast_3d(xp.require(y))[..., 0]))
    written(xp.fliplr(xp.flipud(xp.squeeze(xp.expand_dims(y, 0)))), out)
    told(xp.amax(x), xp.amin(x, 0), xp.asarray_chkfinite(x).sum(1))
    written(xp.rollaxis(xp.swapaxes(xp.permute_dims(x), 0, 1), 1), out)
    written(xp.matmul(x, xp.matrix_transpose(x[:64])), out)
    a, b = xp.broadcast_arrays(x, x[:1])
    written(xp.concat([a, b], 1) + 1, out)


def pieces(x: Any, out: Path) -> None:
    """Split, and lay the pieces beside each other in all spellings."""
    even = x[: x.shape[0] // 2 * 2, : x.shape[1] // 2 * 2]
    written(xp.column_stack(xp.hsplit(even, 2)) + xp.row_stack(xp.vsplit(even, 2)), out)
    first, second = xp.dsplit(xp.dstack([x, x + 1]), 2)
    written(first[..., 0] + second[..., 0] + sum(xp.unstack(x[:3])), out)
    written(xp.r_[xp.split(even, 2)[0], xp.c_[x[:9, :5], x[:9, 5:]][:, : even.shape[1]]], out)
    written(xp.trim_zeros(xp.ravel(x)), out)


def tables(x: Any, out: Path) -> None:
    """Make tables of values and of places."""
    n, side = x.size, math.isqrt(x.size)
    windows = xp.bartlett(n) + xp.blackman(n) + xp.hamming(n) + xp.kaiser(n, 5)
    written(windows + xp.logspace(0, 1, n), out)
    written(xp.identity(side) + xp.full((side, side), 3) + xp.empty((side, side)) * 0, out)
    written(xp.empty_like(x), out)
    rows, columns = x.shape
    written(xp.mgrid[:rows, :columns][0] + sum(xp.ogrid[:rows, :columns]), out)
    written(xp.diagflat(x[0]), out)
    for places in (xp.tril_indices(side), xp.triu_indices_from(x), xp.mask_indices(side, xp.triu)):
        written(places[0] + places[1], out)
    told(x[xp.diag_indices_from(x[:columns, :rows])].sum(), xp.diag_indices(n)[0].sum())
    told(xp.tril_indices_from(x)[0].sum(), xp.triu_indices(side)[1].sum())


FAMILIES: dict[str, Callable[[Any, Path], None]] = {
    "every ufunc": ufuncs,
    "choices": chosen,
    "functions of values": functions_of_values,
    "broadcasting": broadcast,
    "other dtypes": narrow,
    "bits": bits,
    "reduced to a number": reduced_to_one,
    "reduced along axes": reduced_along_axes,
    "reduced without NaN": reduced_without_nan,
    "ranks": ranked,
    "correlation": correlated,
    "accumulation": accumulated,
    "methods of ufuncs": methods_of_ufuncs,
    "rows and points": rows_and_points,
    "places that are computed": lazy_places,
    "writes to places": written_to_places,
    "places of each row": along_an_axis,
    "reads through masks": masked_reads,
    "writes through masks": masked_writes,
    "sort, search": sorted_values,
    "bins": binned,
    "sets": sets,
    "many different values": distinct,
    "joining and splitting": joined,
    "turns": turned,
    "padding": padded,
    "triangles": triangles,
    "values from indices": generated,
    "rechunk": recut,
    "contractions": contracted,
    "products with small ones": spread,
    "neighbours": neighbours,
    "functions of lanes": lanes,
    "transforms": transforms,
    "stacks of matrices": matrices,
    "random families": families_of_draws,
    "permutations": shuffled,
    "texts": texts,
    "dates": dates,
    "records": records,
    "raw files": raw_files,
    "text files": text_files,
    "looked at": looked_at,
    "other names": other_names,
    "pieces of all kinds": pieces,
    "tables": tables,
}
