"""Affine index maps: the one description of every NumPy view that only moves elements.

An `Affine` says, for each axis of the array that is looked at, which index it takes for an index of
the view: `offset + stride * view_index[axis]`, or just `offset`. A slice changes offset and stride,
a transpose the axis, a broadcast uses stride 0 or leaves a view axis unused, a diagonal uses one
view axis twice. Affine maps compose, so a chain of views is one map. The idea is TensorStore's
index transform (and Ramba's shard view), restricted to what needs no index arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from chunkarr.grid import Region
from chunkarr.records import dataclass

NDArray = npt.NDArray[Any]


class Term(NamedTuple):
    """How one axis of the looked-at array follows the view's index."""

    axis: int
    """The view's axis, or -1 where the index is constant."""
    offset: int
    stride: int


class Progression(NamedTuple):
    """The indices `first, first + step, ...`, `count` of them; the step may be negative."""

    first: int
    step: int
    count: int  # type: ignore[assignment] # how many, where tuples have a method

    @property
    def slice(self) -> slice:
        """The same indices as NumPy takes them."""
        stop = self.first + self.step * self.count
        return slice(self.first, stop if stop >= 0 else None, self.step)


@dataclass(frozen=True, slots=True)
class Affine:
    """A view of shape `shape`, with one term per axis of the array looked at."""

    shape: tuple[int, ...]
    terms: tuple[Term, ...]

    @classmethod
    def identity(cls, shape: Sequence[int]) -> Affine:
        """Look at everything as it is."""
        return cls(tuple(shape), tuple(Term(axis, 0, 1) for axis in range(len(shape))))

    @property
    def is_identity(self) -> bool:
        """Whether view index and array index are the same (the shapes may still differ)."""
        return len(self.terms) == len(self.shape) and all(
            term == (axis, 0, 1) for axis, term in enumerate(self.terms)
        )

    @property
    def injective(self) -> bool:
        """Whether no element is seen twice, so that writing through the view has a meaning."""
        used = {term.axis for term in self.terms if term.axis >= 0 and term.stride != 0}
        return all(n <= 1 or axis in used for axis, n in enumerate(self.shape))

    @property
    def boxed(self) -> bool:
        """Whether the seen elements are a product of progressions (no diagonal)."""
        axes = [term.axis for term in self.terms if term.axis >= 0]
        return len(axes) == len(set(axes))

    def then(self, outer: Affine) -> Affine:
        """Compose: look through `outer` at what this map shows.

        >>> Affine.identity((9,)).then(Affine((3,), (Term(0, 8, -4),))).terms
        (Term(axis=0, offset=8, stride=-4),)
        """
        terms = []
        for axis, offset, stride in self.terms:
            if axis < 0:
                terms.append(Term(-1, offset, 0))
                continue
            inner = outer.terms[axis]
            step = stride * inner.stride if inner.axis >= 0 else 0
            at = offset + stride * inner.offset
            terms.append(Term(inner.axis, at, step) if step else Term(-1, at, 0))
        return Affine(outer.shape, tuple(terms))

    def apply(self, array: NDArray) -> NDArray:
        """Look at an ndarray: a NumPy view, read-only where an element is seen twice."""
        key = self._key()
        if key is not None:
            shown: NDArray = array[key]
            return shown
        kept = [term.axis for term in self.terms if term.axis >= 0]
        if array.dtype.kind == "T" and len(set(kept)) == len(kept):
            return self._by_steps(array)
        strides = [0] * len(self.shape)
        for (axis, _, stride), step in zip(self.terms, array.strides, strict=True):
            if axis >= 0:
                strides[axis] += stride * step
        if 0 in self.shape:
            start = array.reshape(-1)[:0] if array.size == 0 else array[(slice(0, 0),) * array.ndim]
        else:
            # The Ellipsis keeps an array without axes from becoming a scalar, which is a copy.
            corner: tuple[Any, ...] = (*(slice(term.offset, None) for term in self.terms), ...)
            start = array[corner]
        seen = as_strided(start, self.shape, strides)
        if not self.injective and self.shape:
            seen.flags.writeable = False
        return seen

    def _by_steps(self, array: NDArray) -> NDArray:
        """Look at texts of any width, which NumPy's `as_strided` does not know."""
        axes = [term.axis for term in self.terms if term.axis >= 0]
        key: list[Any] = []
        for axis, offset, stride in self.terms:
            step, count = (stride, self.shape[axis]) if stride else (1, 1)
            key.append(Progression(offset, step, count).slice if axis >= 0 else offset)
        turned = array[(*key, ...)].transpose(np.argsort(axes))
        new = tuple([slice(None) if axis in axes else None for axis in range(len(self.shape))])
        seen: NDArray = turned[new]
        return seen if seen.shape == self.shape else np.broadcast_to(seen, self.shape)

    def _key(self) -> tuple[Any, ...] | None:
        """Give the slices and integers that show the same, None where they cannot."""
        key: list[Any] = []
        shown = 0
        for axis, offset, stride in self.terms:
            if axis < 0:
                key.append(offset)
            elif axis == shown and stride:
                stop = offset + stride * self.shape[axis]
                key.append(slice(offset, stop if stop >= 0 else None, stride))
                shown += 1
            else:
                return None
        key.append(...)
        return tuple(key) if shown == len(self.shape) else None

    def bounding(self, region: Region) -> Region:
        """Give the smallest box of the looked-at array that a box of the view needs."""
        box = []
        for axis, offset, stride in self.terms:
            if axis < 0:
                box.append(slice(offset, offset + 1))
                continue
            first = offset + stride * region[axis].start
            last = offset + stride * (region[axis].stop - 1)
            box.append(slice(min(first, last), max(first, last) + 1))
        return tuple(box)

    def localized(self, region: Region, box: Region) -> Affine:
        """Give the map from a box of the view to the array read for it; others get length 1."""
        terms = []
        used = set()
        for (axis, offset, stride), part in zip(self.terms, box, strict=True):
            if axis < 0:
                terms.append(Term(-1, offset - part.start, 0))
            else:
                used.add(axis)
                terms.append(Term(axis, offset + stride * region[axis].start - part.start, stride))
        shape = tuple(s.stop - s.start if i in used else 1 for i, s in enumerate(region))
        return Affine(shape, tuple(terms))


def broadcast(shape: Sequence[int], target: Sequence[int]) -> Affine:
    """Give the map that stretches `shape` to `target` as NumPy broadcasting does."""
    lead = len(target) - len(shape)
    terms = tuple(
        Term(lead + axis, 0, 1) if n != 1 or target[lead + axis] == 1 else Term(-1, 0, 0)
        for axis, n in enumerate(shape)
    )
    return Affine(tuple(target), terms)


def permute(shape: Sequence[int], order: Sequence[int]) -> Affine:
    """Give the map of `transpose(order)`."""
    terms = [Term(0, 0, 1)] * len(shape)
    for new, old in enumerate(order):
        terms[old] = Term(new, 0, 1)
    return Affine(tuple(shape[old] for old in order), tuple(terms))


def places_of(affine: Affine) -> tuple[Progression, ...]:
    """Give the progression of array indices that an injective, boxed view covers on each axis."""
    return tuple(
        Progression(offset, stride, affine.shape[axis]) if axis >= 0 else Progression(offset, 1, 1)
        for axis, offset, stride in affine.terms
    )


def diagonal(shape: Sequence[int], offset: int, axis1: int, axis2: int) -> Affine:
    """Give the map of `numpy.diagonal`: the diagonal becomes the last axis."""
    row, column = max(0, -offset), max(0, offset)
    count = max(0, min(shape[axis1] - row, shape[axis2] - column))
    kept = [axis for axis in range(len(shape)) if axis not in (axis1, axis2)]
    terms = [Term(0, 0, 1)] * len(shape)
    for new, old in enumerate(kept):
        terms[old] = Term(new, 0, 1)
    terms[axis1] = Term(len(kept), row, 1)
    terms[axis2] = Term(len(kept), column, 1)
    return Affine((*(shape[axis] for axis in kept), count), tuple(terms))
