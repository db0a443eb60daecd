"""Writes that have piled up on an array in memory, carried out in its own buffer.

An assignment of a value that is still to be computed is laid over the array's expression. A loop of
them would copy the whole array each time that it is brought into memory; where nobody else reads
the old values only what was assigned is computed, and written where it belongs.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy.typing as npt

from chunkarr import engine
from chunkarr.expr.node import Expr, Overlay, Source
from chunkarr.grid import region_of
from chunkarr.settings import settings
from chunkarr.storage.memory import MemoryStore

NDArray = npt.NDArray[Any]

WRITES_MAX = 32
"""After this many assignments to an array that is not in memory yet, it is brought there."""


def piled_up(cell: Expr) -> bool:
    """Whether so much is laid over a value that it is time to bring it into memory."""
    below, count = cell, 0
    while isinstance(below, Overlay) and below.based and count < WRITES_MAX:
        count += len(below.places)
        below = below.operands[0]
    return count >= WRITES_MAX and cell.nbytes <= settings().memory // 8


def own_buffer(source: Source) -> NDArray | None:
    """Give the buffer of a node where it may be written and nobody else reads it; else None.

    One holder and one variable of the caller's may refer to the node.
    """
    store = source.store
    if type(store) is not MemoryStore or not store.owned:
        return None
    # Of the node the two, the argument and the call's own; of the store its own, ours, the call's.
    if sys.getrefcount(source) > 4 or sys.getrefcount(store) > 3:
        return None
    held = store.array
    return held if held is not None and held.flags.writeable else None


def carry_out(cell: Expr) -> Source | None:
    """Write what is laid over a buffer into it, and give the buffer's node.

    `cell` must have no reader but the name that asks. None, and nothing is done, where the buffer
    is not the array's own or something else reads it.
    """
    if not isinstance(cell, Overlay) or not cell.based or not isinstance(cell.operands[0], Source):
        return None
    base = cell.operands[0]
    buffer = own_buffer(base)
    if buffer is None:
        return None
    values = engine.persist(*cell.operands[1:])
    for places, value in zip(cell.places, values, strict=True):
        buffer[tuple(place.slice for place in places)] = value.read(region_of(value.shape))
    return base
