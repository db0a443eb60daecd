"""NumPy's look for arrays of any size: only the elements that NumPy would show are computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from chunkarr.errors import format_bytes

if TYPE_CHECKING:
    from chunkarr.arrays import Array

NDArray = npt.NDArray[Any]


def array_text(array: Array, *, summary: bool) -> str:
    """Spell an array as `str` or, with `summary`, as `repr` of an ndarray would."""
    if array.is_scalar:
        value = array.compute()[()]
        return repr(value) if summary else str(value)
    options = np.get_printoptions()
    if array.size <= options["threshold"]:
        whole = array.compute()
        return repr(whole) if summary else str(whole)
    edge = options["edgeitems"]
    corner = _corners(array, edge)
    with np.printoptions(threshold=0):
        if not summary:
            return str(corner)
        text = repr(corner)
    # NumPy ends with the shape, here the corners', and the dtype where it is not implied.
    at = text.rfind("shape=")
    if at < 0:  # NumPy before 2.2, and its legacy modes, show none
        return text
    body, tail = text[:at].rstrip(), text[at:]
    tail = tail.replace(f"shape={corner.shape}", f"shape={array.shape}", 1)
    line = len(body) - (body.rfind("\n") + 1)
    space = " " if line + len(tail) + 1 <= options["linewidth"] else "\n" + " " * len("array(")
    return body + space + tail


def _corners(array: Array, edge: int) -> NDArray:
    """Compute the outermost elements along each axis; what lies between is a dummy."""
    shape = tuple(n if n <= 2 * edge else 2 * edge + 1 for n in array.shape)
    parts = []
    for n in array.shape:
        ends = [(slice(0, n), slice(0, n))]
        if n > 2 * edge:
            ends = [
                (slice(0, edge), slice(0, edge)),
                (slice(n - edge, n), slice(edge + 1, 2 * edge + 1)),
            ]
        parts.append(ends)
    out = np.zeros(shape, array.dtype)
    boxes: list[list[tuple[slice, slice]]] = [[]]
    for ends in parts:
        boxes = [[*box, end] for box in boxes for end in ends]
    for box in boxes:
        source, target = (tuple(pair[i] for pair in box) for i in (0, 1))
        out[target] = array[source].compute()
    return out


def summary_text(array: Array) -> str:
    """Describe an array in one line, without computing anything."""
    grid = array.grid
    chunk = "x".join(map(str, grid.chunk_shape))
    return (
        f"<chunkarr.Array shape={array.shape} dtype={array.dtype} {format_bytes(array.nbytes)}, "
        f"{grid.size} chunks of {chunk}, {array.to_expr().label}>"
    )
