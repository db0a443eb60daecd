"""The differential table, order: quantiles, sorts, sets, searches and histograms.

The operands are those of `support.SHAPES`: planes x and y, row r, column c, zero-dimensional z,
vectors v and w, empty e, three-dimensional t, matrices a and b, masks m, n and k.
"""

from __future__ import annotations

from tests.numpy.cases import texts

KINDS = ("?", "i1", "u8", "i8", "f2", "f4", "f8", "c16")

METHODS = (
    "inverted_cdf",
    "averaged_inverted_cdf",
    "closest_observation",
    "interpolated_inverted_cdf",
    "hazen",
    "weibull",
    "linear",
    "median_unbiased",
    "normal_unbiased",
    "lower",
    "higher",
    "midpoint",
    "nearest",
)

BY_METHOD = """
np.{f}(x, [0, 0.1, 0.37, 0.5, 0.9, 1], axis=0, method={m!r})
np.{f}(v, 0.3, method={m!r})
np.{f}(v, numpy.float64(0.61), method={m!r})
"""

QUANTILES = """
np.median(x)
np.median(x,axis=0)
np.median(x,axis=1,keepdims=True)
np.median(t,axis=(0,2))
np.median(t,axis=(0,2),keepdims=True)
np.median(v)
np.median(e)
np.median(e,axis=0)
np.median(e,axis=1)
np.nanmedian(x)
np.nanmedian(x,axis=0)
np.nanmedian(x,axis=1,keepdims=True)
np.nanmedian(t,axis=(0,2))
np.nanmedian(v)
np.nanmedian(x*numpy.nan if x.dtype.kind in 'fc' else x)
np.percentile(x,30)
np.percentile(x,[[1,2],[3,99]],axis=1)
np.percentile(x,[10,90],axis=1,keepdims=True)
np.percentile(x,130)
np.quantile(x,1.3)
np.quantile(x,0.5,method='foo')
np.quantile(y,0,axis=0)
np.quantile(y,1)
np.quantile(y,[0,1])
np.quantile(e,0.5)
np.quantile(e,0.5,axis=0)
np.nanpercentile(x,[10,90],axis=(0,1),keepdims=True)
np.nanpercentile(x,30,axis=0)
np.quantile(t,0.5,axis=(0,1))
np.quantile(x,0.3,0,np.zeros(5,np.quantile(x,.3,axis=0).dtype))
np.median(x,0,np.zeros(5,np.median(x,axis=0).dtype),True,False)
np.quantile(w, 0.3, weights=abs(v) + 1, method='linear')
"""

WEIGHTED = """
np.quantile(y, 0.3, axis=0, weights=numpy.arange(7), method='inverted_cdf')
np.quantile(w, [0.1, 0.5], weights=abs(w) + 1, method='inverted_cdf')
np.percentile(y, [30, 60], axis=(0, 1), weights=y * y, method='inverted_cdf', keepdims=True)
np.nanquantile(y, 0.3, axis=1, weights=abs(r) + y * y, method='inverted_cdf')
np.quantile(y, 0.3, weights=[1, 2], method='inverted_cdf')
np.quantile(y, 0.3, axis=0, weights=[1, 2], method='inverted_cdf')
np.quantile(w, 0.3, weights=-abs(w) - 1, method='inverted_cdf')
"""

ORDERS = """
np.argsort(x)
np.argsort(x,axis=0,kind='stable')
np.argsort(x,None)
np.argsort(z)
np.argsort(t,1,stable=True)
np.argsort(x,axis=3)
np.argsort(x,kind='foo')
np.argsort(e)
np.argsort(e,axis=0)
v[np.argsort(v)]
np.lexsort((v,w))
np.lexsort((x,y),axis=0)
np.lexsort(x)
np.lexsort((v,v[1:]))
np.lexsort((z,))
np.lexsort(())
np.partition(x,2)
np.partition(x,[1,3],axis=0)
np.partition(v,11)
np.partition(v,30)
np.partition(v,1.5)
np.partition(v,-3)
np.partition(x,2,axis=None)
np.argpartition(x,2)
np.argpartition(v,[3,11])
np.argpartition(z,0)
np.partition(z,0)
np.sort(x,axis=0,kind='stable')
np.sort(x,0,'heapsort')
np.sort(x,kind='stable',stable=True)
np.sort(t,axis=1)
np.sort(x,stable=True)
np.sort(x,order='a')
np.sort(z)
np.sort(x,None)
x.argsort()
x.argsort(0)
np.argsort(x,-1,None,None)
"""

SETS = """
np.unique(x)
np.unique(v)
np.unique(x,return_counts=True)
np.unique(x,return_inverse=True)
np.unique(x,return_index=True)
np.unique(x,equal_nan=False)
np.unique(x,return_counts=True,equal_nan=False)
np.unique(x,True,True,True,equal_nan=False)
np.unique(x,axis=0)
np.unique(v,axis=0)
np.unique(e)
np.unique(z)
np.unique(v[:1])
tuple(np.unique_all(y))
tuple(np.unique_counts(y))
tuple(np.unique_inverse(y))
np.sort(np.unique_values(y))
np.union1d(x,y)
np.union1d(v,w)
np.intersect1d(v,w)
np.intersect1d(x,y)
np.intersect1d(v,w,return_indices=True)
np.intersect1d(v[:1],w[:0])
np.setdiff1d(v,w)
np.setdiff1d(x,y)
np.setxor1d(x,y)
np.setxor1d(v,w[:0])
np.setxor1d(v[:0],w[:0])
np.setdiff1d(v[:1],w[:0])
np.unique(v).size
np.unique(v)[::2]
np.unique(v).sum()
"""

SEARCHES = """
np.searchsorted(np.sort(v),w)
np.searchsorted(np.sort(v),x,'right')
np.searchsorted(v,w,sorter=np.argsort(v))
np.searchsorted(v,w,'left',v)
np.searchsorted(v,w,sorter=np.argsort(v)[1:])
np.searchsorted(np.sort(v),2)
np.searchsorted(x,2)
np.searchsorted(np.sort(v),2,side='x')
np.digitize(y,[1,2,3])
np.digitize(y,np.sort(w))
np.digitize(y,np.sort(w)[::-1],right=True)
np.digitize(y,[1,3,2])
np.interp(y,np.sort(w),v)
np.interp(y,[1,2,3],[4,5,6],left=-1,right=9)
np.interp(y,[1,2,3],[4,5])
np.interp(y,[1,2,3],[4,5,6],period=2.5)
np.interp(y,np.arange(5),r,period=3)
np.isin(x,y)
np.isin(x,v,invert=True)
np.isin(x,[1,2],kind='table')
np.isin(x,[1,2],kind='sort')
np.isin(x,[1,2],kind='no')
np.isin(x,[])
np.isin(z,x)
"""

HISTOGRAMS = """
np.histogram(v)
np.histogram(y)
np.histogram(y,5)
np.histogram(y,numpy.float64(5))
np.histogram(y,0)
np.histogram(y,[1,2,3,5])
np.histogram(y,[3,2])
np.histogram(y,[[3,2]])
np.histogram(y,5,range=(-2,2))
np.histogram(y,5,range=(2,-2))
np.histogram(y,5,range=(0,numpy.inf))
np.histogram(y,5,density=True)
np.histogram(y,5,range=(-2,2),density=True,weights=abs(x[::-1]) if x.dtype.kind not in 'fc' else y)
np.histogram(y,[0,1,2,4],weights=y+1)
np.histogram(y,4,weights=y)
np.histogram(y,4,weights=v)
np.histogram(y,[-2,0,1,2],density=True)
np.histogram(y,np.sort(r))
np.histogram(y,'foo')
np.histogram(y,'auto',weights=y)
np.histogram(m)
np.histogram(e)
np.histogram(e,3)
np.histogram(y[:1]*0)
np.histogram(w+0,bins=3,range=(-3,2))
np.histogram2d(v[:9],w[:9])
np.histogram2d(w,w[::-1],bins=3)
np.histogram2d(w,w[::-1],bins=[3,[0,1,2]],density=True)
np.histogram2d(w,w[::-1],bins=[[0,1,2],[0,1,2]],weights=w)
np.histogram2d(w,w[::-1],bins=[0,1,2],range=[[0,1],[1,2]])
np.histogram2d(w,w[::-1],range=[[0,1],[1,2]])
np.histogram2d(w,w[1:])
np.histogramdd(y)
np.histogramdd(y[:,:2],bins=3)
np.histogramdd([w,w[::-1]],bins=(2,3))
np.histogramdd([w,w[::-1]],bins=(2,3,4))
np.histogramdd(y[:,:2],bins=3,range=[(0,1)])
np.histogramdd(y[:,:2],bins=3,range=[(0,1),None])
np.histogramdd(y[:,:2],bins=[[0,1],[2,1]])
np.histogramdd(y[:,:2],bins=3,weights=numpy.arange(7))
np.histogramdd(w,bins=3)
np.histogram_bin_edges(y)
np.histogram_bin_edges(y,7)
np.histogram_bin_edges(y,[1,2,3])
np.bincount(abs(w) if w.dtype.kind in 'iu' else w)
np.bincount(abs(w) if w.dtype.kind in 'iu' else w, minlength=20)
np.bincount(abs(w) if w.dtype.kind in 'iu' else w, minlength=-1)
np.bincount(abs(w) if w.dtype.kind in 'iu' else w, weights=w)
np.bincount(numpy.arange(7),weights=x[:,0])
np.bincount(w[:0].astype(int))
np.bincount(w[:0].astype(int),minlength=3)
np.bincount(x.astype(int) if x.dtype.kind!='c' else x)
np.bincount(numpy.arange(3),weights=[1,2])
np.bincount(w.astype('i8') if w.dtype.kind!='c' else w)
"""

RULES = """
np.histogram(v, {b!r})
np.histogram_bin_edges(y, {b!r}, range=(-1, 2))
np.histogram(w[:0], {b!r})
np.histogram(w[:1], {b!r})
np.histogram(w[:2], {b!r})
"""

STAMPS = """
np.unique(s)
np.unique(s,return_counts=True)
np.unique(s,True,True,True)
np.unique(d,equal_nan=False)
np.setdiff1d(s,s[:2])
np.median(d)
np.median(s)
np.quantile(d,0.3)
np.quantile(s,0.3)
np.quantile(s,0.3,method='lower')
np.argmax(s)
"""
"""Cases of dates s and durations d."""


WORDS = """
np.sort(s)
np.sort(b)
np.unique(s)
np.unique(s,True,True,True)
np.unique(b,return_counts=True)
np.union1d(s,s[:3])
np.intersect1d(s,s[3:5])
np.setdiff1d(s,s[3:5])
np.isin(s,s[:2])
np.searchsorted(np.sort(s),s)
np.max(s)
"""
"""Cases of texts s and bytes b."""

ESTIMATORS = ("auto", "fd", "doane", "scott", "rice", "sturges", "sqrt", "stone")

GROUPS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "quantile": (
        [
            text.format(f=f, m=m)
            for f in ("quantile", "nanquantile")
            for m in METHODS
            for text in texts(BY_METHOD)
        ],
        ("i8", "f2", "f8"),
    ),
    "order statistic": (texts(QUANTILES), KINDS),
    "weighted quantile": (texts(WEIGHTED), ("f4", "f8")),
    "order": (texts(ORDERS), KINDS),
    "set": (texts(SETS), KINDS),
    "search": (texts(SEARCHES), KINDS),
    "histogram": (texts(HISTOGRAMS), ("?", "i1", "u8", "i8", "f2", "f8", "c16")),
    "bin width": (
        [text.format(b=b) for b in ESTIMATORS for text in texts(RULES)],
        ("?", "i8", "f2", "f8"),
    ),
}
