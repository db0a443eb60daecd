"""Finding the bins of values, and counting them: two loops that NumPy has no quick form of.

Where edges are evenly spaced a multiplication finds the bin or one beside it, and a comparison with
the edges puts it right, as in NumPy's own histograms. Elsewhere, and in any sorted table, 64 values
at a time are searched for by halves, in vectors. Values outside of all bins, NaN among them, get
the number -1, which counts nowhere.

Where only the counts are wanted, the multiplication alone puts 256 values at a time into bins, in
vectors, and edges are looked up where one of the values is so near to one that it might matter.

Counts of the same bin in a row wait for each other in a processor, so numbers are counted in four
copies by turns. Sums of weights have one, because their order decides the bits.
"""

from __future__ import annotations

import ctypes
from textwrap import indent
from typing import Any

import numpy as np

from chunkarr.expr.edges import Edges, Ladder
from chunkarr.kernels import tier
from chunkarr.kernels.axes import Array
from chunkarr.kernels.program import Program
from chunkarr.kernels.spec import OPERANDS, Spec

SLACK_MAX = 1e-4
"""Where arithmetic leads further astray, in bins, the edges are looked up for too many values."""
COMPILED = frozenset(("f4", "f8", "i8"))
"""Dtypes of values that are searched for by kernels, as NumPy spells them behind the byte order."""
COPIES = 4
COPIES_BINS_MAX = 4096
"""The most bins that are counted in copies, which have to stay in the cache."""

_LOCATE = """
def kernel(p):
    count = load(p, 0)
    values = pointer_{T}(load(p, 1))
    out = pointer_i8(load(p, 2))
    edges = pointer_{T}(load(p, 3))
    bins = load(p, 4)
    first = load(edges, 0)
    last = load(edges, bins)
"""

_EXACT = """
place = place if place < bins - 1 else bins - 1
place = place - (i8(1) if value < load(edges, place) else i8(0))
beyond = (value >= load(edges, place + 1)) & (place != bins - 1)
place = place + (i8(1) if beyond else i8(0))
"""
"""Puts the number of a bin right by its edges."""

_HALVES = """
    places = stack_i8(64)
    start = 0
    while start < count:
        width = min(64, count - start)
        for i in range(width):
            store(places, i, 0)
        half = load(p, 5)
        while half:
            for i in range(width):
                place = load(places, i)
                passed = PASSED load(values, start + i)
                store(places, i, place + half if passed else place)
            half >>= 1
"""
"""Finds the places of 64 values by halves, all at a time; what is done with them follows."""

_CLIMB = (
    """
def kernel(p):
    count = load(p, 0)
    values = pointer_{T}(load(p, 1))
    out = pointer_i8(load(p, 2))
    table = pointer_{T}(load(p, 3))
    size = load(p, 4)
    lost = load(p, 6)
"""
    + _HALVES.replace("PASSED", "load(table, place + half - 1) ABOVE")
    + """
        for i in range(width):
            value = load(values, start + i)
            place = load(places, i)
            place = place if place < size else size
            store(out, start + i, place if value == value else lost)
        start += width
"""
)

SOURCES = {
    "locate": _LOCATE + """
    scale = load(edges, bins + 1)
    for i in range(count):
        value = load(values, i)
        inside = (value >= first) & (value <= last)
        place = i8((value - first) * scale) if inside else i8(0)
""" + indent(_EXACT, 8 * " ") + """
        store(out, i, place if inside else i8(-1))
""",
    "tally": """
def kernel(p):
    count = load(p, 0)
    values = pointer_{T}(load(p, 1))
    counts = pointer_i8(load(p, 2))
    edges = pointer_{T}(load(p, 3))
    bins = load(p, 4)
    copies = load(p, 5)
    first = load(edges, 0)
    last = load(edges, bins)
    scale = load(edges, bins + 1)
    slack = load(edges, bins + 2)
    places = stack_i4(256)
    start = 0
    while start < count:
        width = min(256, count - start)
        near = u1(0)
        for i in range(width):
            value = load(values, start + i)
            found = (value - first) * scale
            inside = (value >= first) & (value <= last)
            near |= u1(inside & (fabs(found - rint(found)) <= slack))
            store(places, i, i4(found) if inside else i4(bins))
        if near:
            for i in range(width):
                value = load(values, start + i)
                inside = (value >= first) & (value <= last)
                place = i8(load(places, i)) if inside else i8(0)
""" + indent(_EXACT, 16 * " ") + """
                store(places, i, i4(place) if inside else i4(bins))
        for i in range(width):
            place = i8(load(places, i)) + (i & (copies - 1)) * (bins + 1)
            store(counts, place, load(counts, place) + 1)
        start += width
""",
    "search": _LOCATE + _HALVES.replace("PASSED", "load(edges, place + half) <=") + """
        for i in range(width):
            value = load(values, start + i)
            inside = (value >= first) & (value <= last)
            place = load(places, i)
            place = place if place < bins else bins - 1
            store(out, start + i, place if inside else i8(-1))
        start += width
""",
    "below": _CLIMB.replace("ABOVE", "<"),
    "reached": _CLIMB.replace("ABOVE", "<="),
    "count": """
def kernel(p):
    count = load(p, 0)
    places = pointer_i8(load(p, 1))
    counts = pointer_i8(load(p, 2))
    bins = load(p, 4)
    copies = load(p, 5)
    for i in range(count):
        place = load(places, i)
        if (place >= 0) & (place < bins):
            place = place + (i & (copies - 1)) * bins
            store(counts, place, load(counts, place) + 1)
""",
    "weigh": """
def kernel(p):
    count = load(p, 0)
    places = pointer_i8(load(p, 1))
    counts = pointer_f8(load(p, 2))
    weights = pointer_f8(load(p, 3))
    bins = load(p, 4)
    for i in range(count):
        place = load(places, i)
        if (place >= 0) & (place < bins):
            store(counts, place, load(counts, place) + load(weights, i))
""",
}  # fmt: skip
"""The source of each kernel, by the mode of its spec; {T} is the type of values and edges."""


def locate(held: Array, values: Array) -> Array:
    """Give the number of each value's bin, -1 for none; the first operand holds the `Edges`."""
    edges: Edges = held.item()
    kind = np.result_type(values.dtype, edges.values.dtype)
    given = values.astype(kind, copy=False)
    table = edges.values.astype(kind, copy=False)
    mode = "locate" if edges.scale and kind == edges.values.dtype else "search"
    if kind.str[1:] in COMPILED and given.flags.aligned:
        given = np.ascontiguousarray(given)
        out = np.empty(given.shape, np.int64)
        half = 1 << (edges.count.bit_length() - 1)
        if mode == "search":
            # As long as all sums of halves, so that no step has to look whether it is inside.
            table = np.append(table, np.full(2 * half - table.size, _greatest(kind), kind))
        else:
            table = np.append(table, kind.type(edges.scale))
        if _call(mode, kind, given.size, given, out, table, edges.count, half):
            return out
    found = np.searchsorted(edges.values, given, "right") - 1
    # The last bin holds its end; what lies beyond it, and NaN, is found behind it.
    at_end = given == edges.values[-1]
    found[~at_end & (found >= edges.count)] = -1
    found[at_end] = edges.count - 1
    return found


def search(held: Array, values: Array) -> Array:
    """Give the place of each value in a sorted table; the first operand holds the `Ladder`."""
    ladder: Ladder = held.item()
    table, side = ladder.values, ladder.side
    kind = np.result_type(values.dtype, table.dtype)
    if kind.str[1:] in COMPILED and table.size and values.flags.aligned:
        given = np.ascontiguousarray(values, kind)
        out = np.empty(given.shape, np.int64)
        half = 1 << (table.size.bit_length() - 1)
        # As long as all sums of halves, so that no step has to look whether it is inside, with
        # what is sorted last: NaN, as the table may end in NaN itself.
        last = np.nan if kind.kind == "f" else _greatest(kind)
        steps = np.full(2 * half - 1, last, kind)
        steps[: table.size] = table
        lost = int(np.searchsorted(steps[: table.size], np.full(1, last, kind), side)[0])
        mode = "below" if side == "left" else "reached"
        if _call(mode, kind, given.size, given, out, steps, table.size, half, lost):
            return out
    return np.asarray(np.searchsorted(table, values, side))


def tally(held: Array, values: Array, counts: Array) -> None:
    """Add to `counts` how many values each bin holds; the first operand holds the `Edges`."""
    edges: Edges = held.item()
    kind = edges.values.dtype
    quick = kind.char in "fd" and edges.scale > 0 and edges.slack < SLACK_MAX
    if quick and edges.count <= COPIES_BINS_MAX and np.result_type(values.dtype, kind) == kind:
        given = np.ascontiguousarray(values, kind)
        table = np.append(edges.values, np.asarray([edges.scale, edges.slack], kind))
        part = np.zeros((COPIES, edges.count + 1), np.int64)  # the last counts what is outside
        if _call("tally", kind, given.size, given, part, table, edges.count, COPIES):
            counts += part.sum(0)[:-1]
            return
    add_counts(counts, locate(held, values))


def _greatest(kind: np.dtype[Any]) -> Any:
    return np.inf if kind.kind == "f" else np.iinfo(kind).max


def add_counts(counts: Array, places: Array, weights: Array | None = None) -> None:
    """Add how often each place from 0 to the length of `counts` occurs, or their weights."""
    places = np.ascontiguousarray(places, np.int64).reshape(-1)
    if weights is not None:
        weights = np.ascontiguousarray(weights, np.float64).reshape(-1)
    copies = COPIES if weights is None and counts.size <= COPIES_BINS_MAX else 1
    part = np.zeros((copies, counts.size), counts.dtype)
    mode = "count" if weights is None else "weigh"
    operands = (places, part, places if weights is None else weights)
    if not _call(mode, np.dtype(np.int64), places.size, *operands, counts.size, copies):
        inside = (places >= 0) & (places < counts.size)
        if not inside.all():
            places, weights = places[inside], None if weights is None else weights[inside]
        part[0] = np.bincount(places, weights, counts.size)
    for copy in part:
        counts += copy


def _call(mode: str, kind: np.dtype[Any], count: int, *operands: Array | int) -> bool:
    """Run a kernel if it is ready; False leaves the work to NumPy."""
    if tier.mode() == "numpy" or not count:
        return False
    entry = tier.entry_for(Spec(Program((kind,), (), (0,)), None, mode, ""))
    kernel = entry.kernel or tier.kernel_for(entry, count)
    if kernel is None:
        return False
    params = (ctypes.c_int64 * OPERANDS)(count)
    for place, operand in enumerate(operands, 1):
        params[place] = operand if isinstance(operand, int) else operand.ctypes.data
    kernel(params)
    return True
