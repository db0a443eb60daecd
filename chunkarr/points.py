"""One element or a small slice of stored data, read at once.

A plan is made for the whole of what is asked, and costs more than reading a few elements does. So
`x[i, j]` and `x[i, a:b]` of a file or Zarr array go past it: the box that the view needs is read,
and looked at through the view. Nothing is kept: a file that others write to is read anew each time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Affine
from chunkarr.expr.node import Expr, Regrid, View
from chunkarr.grid import region_of, region_shape
from chunkarr.settings import settings
from chunkarr.storage.guard import watched
from chunkarr.storage.store import Store

NDArray = npt.NDArray[Any]

ELEMENTS_MAX = 1 << 13
"""The largest box, counted with what lies between the elements of a slice with a step."""
CHUNKS_MAX = 4


def read_box(expr: Expr) -> NDArray | None:
    """Read a view of stored data where that is little work; None for everything else."""
    if expr.size > ELEMENTS_MAX:
        return None
    node, affine = expr, Affine.identity(expr.shape)
    while isinstance(node, View | Regrid) and node.memo.store is None:
        affine = node.affine.then(affine) if isinstance(node, View) else affine
        node = node.operands[0]
    store = node.held
    if store is None:
        return None
    if not expr.size:
        return np.empty(expr.shape, expr.dtype)
    whole = region_of(expr.shape)
    box = affine.bounding(whole)
    if math.prod(region_shape(box)) > ELEMENTS_MAX or not _cheap(store, box):
        return None
    with watched():
        found = affine.localized(whole, box).apply(store.read(box))
        return np.array(np.broadcast_to(found, expr.shape))


def _cheap(store: Store, box: tuple[slice, ...]) -> bool:
    """Whether a box lies in few chunks, and decoding one takes a small part of the limit."""
    if store.addressable:
        return True
    spans = [store.grid.span(axis, part.start, part.stop) for axis, part in enumerate(box)]
    chunk = math.prod(store.grid.chunk_shape) * store.dtype.itemsize
    few = math.prod(map(len, spans)) <= CHUNKS_MAX
    return few and chunk + store.bytes_read_extra <= settings().memory // 64
