"""Writes that have piled up on an array in memory, carried out in its own buffer.

An assignment of a value that is still to be computed is laid over the array's expression. A loop of
them would copy the whole array each time that it is brought into memory; where nobody else reads
the old values only what was assigned is computed, and written where it belongs.
"""

from __future__ import annotations

import sys

from chunkarr import engine
from chunkarr.expr.node import Expr, Overlay, Source
from chunkarr.grid import region_of
from chunkarr.settings import settings
from chunkarr.storage.memory import MemoryStore

WRITES_MAX = 32
"""After this many assignments to an array that is not in memory yet, it is brought there."""


def piled_up(cell: Expr) -> bool:
    """Whether so much is laid over a value that it is time to bring it into memory."""
    below, count = cell, 0
    while isinstance(below, Overlay) and below.based and count < WRITES_MAX:
        count += len(below.places)
        below = below.operands[0]
    return count >= WRITES_MAX and cell.nbytes <= settings().memory // 8


def carry_out(cell: Expr) -> Source | None:
    """Write what is laid over a buffer into it, and give the buffer's node.

    `cell` must have no reader but the name that asks. None, and nothing is done, where the buffer
    is not the array's own or something else reads it.
    """
    if not isinstance(cell, Overlay) or not cell.based or not isinstance(cell.operands[0], Source):
        return None
    base = cell.operands[0]
    # The holder's reference, this function's and the call's own; any other is a lazy reader's.
    if sys.getrefcount(base) > 3 or sys.getrefcount(base.store) > 2:
        return None
    store = base.store
    if not isinstance(store, MemoryStore) or store.array is None or not store.owned:
        return None
    if not store.array.flags.writeable:
        return None
    patches = cell.operands[1:]
    values = engine.persist(*patches)
    for place, value in zip(cell.places, values, strict=True):
        index = tuple(
            slice(first, stop if (stop := first + step * count) >= 0 else None, step)
            for first, step, count in place
        )
        store.array[index] = value.read(region_of(value.shape))
    return base
