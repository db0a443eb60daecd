"""Writing through to mapped files, as `numpy.memmap` does, and to the memory of other objects.

A file has no old value to keep: once it is written, an expression that still has to read it would
give another answer. So a write waits for no one, but is refused while a name has yet to be computed
from the file. What the write itself reads is computed first.
"""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from chunkarr import engine
from chunkarr.expr.node import Expr, Source
from chunkarr.grid import region_of
from chunkarr.storage.mapped import MappedStore
from chunkarr.storage.memory import BufferStore
from chunkarr.views import reads

NDArray = npt.NDArray[Any]


def store_of(cell: Expr | None) -> MappedStore | BufferStore | None:
    """Give the mapped file, or the memory of others, that an expression is the content of."""
    store = cell.store if isinstance(cell, Source) else None
    return store if isinstance(store, MappedStore | BufferStore) else None


def whole(cell: Expr | None) -> NDArray | None:
    """Give the map of the file that an expression is the content of."""
    store = store_of(cell)
    return None if store is None else store.read(region_of(store.shape))


def buffer_to_write(cell: Expr, holder: object, *, shared: bool) -> NDArray | None:
    """Give the map to write into; None where the change has to stay in memory.

    `shared` says that others than the holder refer to the expression. Raises ValueError if one of
    them is an expression that would change with the file.
    """
    store = store_of(cell)
    if store is None or store.mode == "r":
        return None
    if shared and _has_reader(cell, holder):
        if store.mode != "r+":
            return None
        message = (
            f"{store.name}: a lazy expression still reads this, and writing to it now would "
            "change the expression's value; compute or persist() the expression first"
        )
        raise ValueError(message)
    return whole(cell)


def _has_reader(cell: Expr, holder: object) -> bool:
    """Whether a name other than the holder has yet to be computed from an expression."""
    for other in list(engine.live.values()):
        pending = other.selection
        roots = (other.expr_or_none,) if pending is None else (pending.operand, pending.mask)
        if other is not holder and any(root is not None and reads(root, cell) for root in roots):
            return True
    return False


def settle(*values: Any) -> None:
    """Compute what is lazy in values, before a file that they may read is written to."""
    for value in values:
        if isinstance(value, tuple):
            settle(*value)
        elif hasattr(value, "to_expr"):
            root = value if value.base is None else value.base
            if not isinstance(root.to_expr(), Source):
                root.persist()


def flush(cell: Expr | None) -> None:
    """Bring changed pages to disk."""
    store = store_of(cell)
    if store is not None:
        store.flush()


def renamed(cell: Source) -> Source:
    """Give the same content under a new name: what was computed from the old name is old."""
    return Source(shape=cell.shape, dtype=cell.dtype, store=cell.store)
