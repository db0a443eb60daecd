"""Recipes: how one box of a fused expression is made, as plain data that travels to a worker.

A `Recipe` has leaves, which bring arrays for a box of the recipe's index space, and a `Program`,
which turns those arrays into the result. Movement is already folded into the leaves as affine maps
(`expr.affine`), so a worker never sees a slice or a transpose as an operation. A leaf over memory
or a file map gives a view and costs nothing.

Each leaf answers with an array of the recipe's number of axes, of length 1 where it does not depend
on an axis, or with a zero-dimensional array for a constant; the program broadcasts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Affine, Progression
from chunkarr.grid import Region, region_shape
from chunkarr.kernels.evaluate import map_into
from chunkarr.kernels.program import Program
from chunkarr.records import dataclass
from chunkarr.storage.arena import is_private
from chunkarr.storage.pages import gathered, narrow
from chunkarr.storage.store import Box, Store

NDArray = npt.NDArray[Any]
Dtype = np.dtype[Any]


class Leaf(Protocol):
    """Brings the array for a box of a recipe's index space."""

    @property
    def dtype(self) -> Dtype:
        """The dtype of what `load` gives."""

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:
        """Give the values for a box; `earlier` holds the step's outputs so far for this box."""

    def bytes_box(self, shape: Sequence[int]) -> int:
        """Most bytes that loading a box of this shape allocates."""

    def bytes_cut(self, shape: Sequence[int]) -> int:
        """Bytes that decide about the cut: the same wherever the plan puts its scratch."""

    def stores(self) -> Iterator[Store]:
        """Give the stores that are read."""

    def boxes(self, region: Region) -> Iterator[Box]:
        """Give what is read of stores for a box."""


@dataclass(frozen=True, slots=True)
class StoreLeaf:
    """Reads a store through an affine map."""

    store: Store
    affine: Affine
    plain: bool = field(init=False, repr=False, compare=False)
    """Whether the box that is wanted is the box that is read."""
    thins: bool = field(init=False, repr=False, compare=False)
    """Whether elements are brought that lie between those that are wanted."""

    def __post_init__(self) -> None:
        same = self.affine.is_identity and self.affine.shape == self.store.shape
        object.__setattr__(self, "plain", same)
        apart = any(axis >= 0 and abs(stride) > 1 for axis, _, stride in self.affine.terms)
        object.__setattr__(self, "thins", apart and not self.store.addressable)

    @property
    def dtype(self) -> Dtype:  # noqa: D102
        return self.store.dtype

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:  # noqa: D102
        if self.plain:
            values = self.store.read(region)
        else:
            box = self.affine.bounding(region)
            values = self.affine.localized(region, box).apply(self.store.read(box))
        if self.thins:
            return values.copy()  # the elements between are let go
        return gathered(values) if self._mapped else values

    @property
    def _mapped(self) -> bool:
        return self.store.addressable and not self.store.in_memory

    def bytes_box(self, shape: Sequence[int]) -> int:  # noqa: D102
        if self.store.addressable:
            return self._bytes_gathered(shape) if self._mapped else 0
        whole = self.bytes_cut(shape)
        return whole + self._bytes_chunk(shape) if whole and not self.thins else whole

    def _bytes_chunk(self, shape: Sequence[int]) -> int:
        """Bytes of a chunk where a box takes a part of it."""
        # Part of a chunk is decoded from the whole of it.
        chunk = self.store.grid.chunk_shape
        cut = any(
            axis >= 0 and shape[axis] % c and shape[axis] < n
            for (axis, _, _), c, n in zip(self.affine.terms, chunk, self.store.shape, strict=True)
        )
        return math.prod(chunk) * self.store.dtype.itemsize if cut else 0

    def _bytes_gathered(self, shape: Sequence[int]) -> int:
        """Most bytes of a box of a map that lies in short rows, where a copy is made of it."""
        used = {term.axis for term in self.affine.terms if term.axis >= 0 and term.stride}
        rows = math.prod([shape[axis] for axis in used])
        row = 1
        if self.affine.terms:
            inner = self.affine.terms[-1 if self.store.order == "C" else 0]
            row = shape[inner.axis] if inner.axis in used and inner.stride == 1 else 1
        size = self.store.dtype.itemsize
        return rows * size if narrow(row * size, rows // max(row, 1)) else 0

    def bytes_cut(self, shape: Sequence[int]) -> int:  # noqa: D102
        if not self.store.tiled:
            return 0
        if self.thins:
            used = {term.axis for term in self.affine.terms if term.axis >= 0}
            return math.prod(shape[axis] for axis in used) * self.store.dtype.itemsize
        return self._bytes_spanned(shape)

    def bytes_passing(self, shape: Sequence[int]) -> int:
        """Bytes that are held while a box is brought, and not any more once it is there."""
        if not self.thins:
            return 0
        return self._bytes_spanned(shape) + self._bytes_chunk(shape)

    def _bytes_spanned(self, shape: Sequence[int]) -> int:
        count = 1
        for (axis, _, stride), n in zip(self.affine.terms, self.store.shape, strict=True):
            if axis >= 0:
                count *= min(n, max(abs(stride) * (shape[axis] - 1) + 1, 1))
        return count * self.store.dtype.itemsize

    def stores(self) -> Iterator[Store]:  # noqa: D102
        yield self.store

    def boxes(self, region: Region) -> Iterator[Box]:  # noqa: D102
        if 0 not in region_shape(region):
            yield self.store, region if self.plain else self.affine.bounding(region)


@dataclass(frozen=True, slots=True, eq=False)
class ConstantLeaf:
    """One value."""

    value: NDArray

    @property
    def dtype(self) -> Dtype:  # noqa: D102
        return self.value.dtype

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:  # noqa: D102
        return self.value

    def bytes_box(self, shape: Sequence[int]) -> int:  # noqa: D102
        return 0

    def bytes_cut(self, shape: Sequence[int]) -> int:  # noqa: D102
        return self.bytes_box(shape)

    def stores(self) -> Iterator[Store]:  # noqa: D102
        return iter(())

    def boxes(self, region: Region) -> Iterator[Box]:  # noqa: D102
        return iter(())


@dataclass(frozen=True, slots=True, eq=False)
class GenerateLeaf:
    """Makes values from the index; kinds as in `expr.node.Generate`."""

    kind: str
    values: tuple[Any, ...]
    shape: tuple[int, ...]
    """The generated array's own shape."""
    affine: Affine
    dtype: Dtype

    def _index(self, axis: int, region: Region) -> NDArray:
        """Give the generated array's index along one of its axes, laid along the view's axis."""
        term = self.affine.terms[axis]
        if term.axis < 0:
            return np.full((1,) * len(region), term.offset, np.int64)
        span = region[term.axis]
        index = term.offset + term.stride * np.arange(span.start, span.stop, dtype=np.int64)
        place = [1] * len(region)
        place[term.axis] = index.size
        return index.reshape(place)

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:  # noqa: D102
        if self.kind == "ramp":
            start, step, *last = self.values
            index = self._index(0, region)
            if self.dtype.kind in "mM":
                return np.asarray(start + index * step).astype(self.dtype)
            # NumPy fills in the result's own precision, halves in single precision.
            wide = np.dtype(np.float32) if self.dtype == np.float16 else self.dtype
            loop = wide if wide.kind in "fc" else np.dtype(np.int64)
            # NumPy makes a scalar of what has no axes; the last value is assigned into an array.
            ramp = np.asarray(index.astype(loop) * np.asarray(step, loop) + np.asarray(start, loop))
            ramp = ramp.astype(self.dtype, copy=False)
            if last:
                ramp[index == self.shape[0] - 1] = last[0]
            return ramp
        if self.kind == "index":
            return self._index(self.values[0], region).astype(self.dtype)
        distance = self._index(1, region) - self._index(0, region)
        return np.asarray(distance == self.values[0]).astype(self.dtype)

    def bytes_box(self, shape: Sequence[int]) -> int:  # noqa: D102
        used = {term.axis for term in self.affine.terms if term.axis >= 0}
        count = math.prod(shape[axis] for axis in used)
        return count * (self.dtype.itemsize + 16)

    def bytes_cut(self, shape: Sequence[int]) -> int:  # noqa: D102
        return self.bytes_box(shape)

    def stores(self) -> Iterator[Store]:  # noqa: D102
        return iter(())

    def boxes(self, region: Region) -> Iterator[Box]:  # noqa: D102
        return iter(())


@dataclass(frozen=True, slots=True)
class EarlierLeaf:
    """An output of the same step, still in cache."""

    position: int
    dtype: Dtype

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:  # noqa: D102
        return earlier[self.position]

    def bytes_box(self, shape: Sequence[int]) -> int:  # noqa: D102
        return 0

    def bytes_cut(self, shape: Sequence[int]) -> int:  # noqa: D102
        return self.bytes_box(shape)

    def stores(self) -> Iterator[Store]:  # noqa: D102
        return iter(())

    def boxes(self, region: Region) -> Iterator[Box]:  # noqa: D102
        return iter(())


@dataclass(frozen=True, slots=True)
class Recipe:
    """Leaves and the program that combines them into one result over `shape`."""

    shape: tuple[int, ...]
    leaves: tuple[Leaf, ...]
    program: Program

    @property
    def dtype(self) -> Dtype:
        """The dtype of the result."""
        return self.program.dtype_of(self.program.results[0])

    @property
    def trivial(self) -> bool:
        """Whether the result is a leaf as it is."""
        return not self.program.ops

    def load(
        self,
        region: Region,
        earlier: Sequence[NDArray] = (),
        loaded: dict[int, NDArray] | None = None,
    ) -> list[NDArray]:
        """Bring all leaves for a box; `loaded` holds those that were brought before, by id."""
        if loaded is None:
            return [leaf.load(region, earlier) for leaf in self.leaves]
        out = []
        for leaf in self.leaves:
            array = loaded.get(id(leaf))
            if array is None:
                array = loaded[id(leaf)] = leaf.load(region, earlier)
            out.append(array)
        return out

    def evaluate(
        self,
        region: Region,
        out: NDArray | None = None,
        earlier: Sequence[NDArray] = (),
        loaded: dict[int, NDArray] | None = None,
    ) -> NDArray:
        """Give the result for a box, written to `out` where given; otherwise perhaps a view."""
        arrays = self.load(region, earlier, loaded)
        shape = region_shape(region)
        if self.trivial:
            value = arrays[self.program.results[0]]
            if out is None:
                return value if value.shape == shape else np.broadcast_to(value, shape)
            np.copyto(out, value)
            return out
        if out is None:
            out = np.empty(shape, self.dtype)
        if out.size:
            map_into(self.program, arrays, [out])
        return out

    def bytes_pieces(self, shape: Sequence[int]) -> int:
        """Most bytes of scratch that the program itself needs for a box."""
        return min(PIECE_BYTES, 16 * math.prod(shape)) * values_alive(self.program)

    def bytes_box(self, shape: Sequence[int]) -> int:
        """Most bytes that evaluating a box holds: leaves and scratch, without its own result."""
        held = sum(leaf.bytes_box(shape) for leaf in self.leaves)
        return held + bytes_passing(self.leaves, shape) + self.bytes_pieces(shape)

    def stores(self) -> Iterator[Store]:
        """Give the stores that are read."""
        for leaf in self.leaves:
            yield from leaf.stores()

    def boxes(self, region: Region) -> Iterator[Box]:
        """Give what is read of stores for a box."""
        for leaf in self.leaves:
            yield from leaf.boxes(region)


def values_alive(program: Program) -> int:
    """Count the operations' values that are held at the same time, at most."""
    count = len(program.inputs)
    last = {arg: at for at, op in enumerate(program.ops) for arg in op.args}
    alive = most = 0
    for at, op in enumerate(program.ops):
        alive += 1
        most = max(most, alive + len(op.args))
        alive -= sum(last[arg] == at and arg >= count for arg in set(op.args))
    return min(most, 2 * len(program.ops))


PIECE_BYTES = 1 << 18
"""Scratch of one operation in the NumPy tier, which works in pieces of about 16 K elements."""


@dataclass(frozen=True, slots=True)
class Patch:
    """A recipe over its own index space, laid on the indices `places` of the leaf's space."""

    places: tuple[Progression, ...]
    recipe: Recipe

    def meet(self, region: Region) -> tuple[Region, tuple[slice, ...]] | None:
        """Give the patch's own box for a box of the leaf, and where it goes inside that box."""
        own, target = [], []
        for (first, step, count), span in zip(self.places, region, strict=True):
            low = max(0, -(-(span.start - first) // step))
            high = min(count, -(-(span.stop - first) // step))
            if low >= high:
                return None
            own.append(slice(low, high))
            at = first + step * low - span.start
            target.append(slice(at, at + step * (high - low - 1) + 1, step))
        return tuple(own), tuple(target)


@dataclass(frozen=True, slots=True)
class OverlayLeaf:
    """Patches over a base; axes that it does not depend on have length 1 in `shape`."""

    base: Recipe | None
    patches: tuple[Patch, ...]
    shape: tuple[int, ...]
    dtype: Dtype

    def _local(self, region: Region) -> Region:
        return tuple(
            slice(0, 1) if n == 1 else span for n, span in zip(self.shape, region, strict=True)
        )

    def load(self, region: Region, earlier: Sequence[NDArray]) -> NDArray:  # noqa: D102
        local = self._local(region)
        shape = region_shape(local)
        met = [(patch, where) for patch in self.patches if (where := patch.meet(local))]
        # The last patch that covers the whole box hides all that is below it.
        for position in range(len(met) - 1, -1, -1):
            patch, (own, _) = met[position]
            if region_shape(own) == shape:
                out = patch.recipe.evaluate(own)
                met = met[position + 1 :]
                break
        else:
            out = np.empty(shape, self.dtype) if self.base is None else self.base.evaluate(local)
        if met and not is_private(out):
            out = out.copy()
        for patch, (own, target) in met:
            patch.recipe.evaluate(own, out[target])
        return out

    def _boxes(self, shape: Sequence[int]) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
        """Give a box's own shape, and the largest box of each patch that it meets."""
        local = tuple(1 if n == 1 else m for n, m in zip(self.shape, shape, strict=True))
        return local, [
            tuple(min(n, place.count) for n, place in zip(local, patch.places, strict=True))
            for patch in self.patches
        ]

    def bytes_box(self, shape: Sequence[int]) -> int:  # noqa: D102
        local, boxes = self._boxes(shape)
        parts = [
            patch.recipe.bytes_box(box) for patch, box in zip(self.patches, boxes, strict=True)
        ]
        base = self.base.bytes_box(local) if self.base else 0
        return math.prod(local) * self.dtype.itemsize + max([base, *parts])

    def bytes_cut(self, shape: Sequence[int]) -> int:  # noqa: D102
        local, boxes = self._boxes(shape)
        parts = [
            sum(leaf.bytes_cut(box) for leaf in patch.recipe.leaves)
            for patch, box in zip(self.patches, boxes, strict=True)
        ]
        base = sum(leaf.bytes_cut(local) for leaf in self.base.leaves) if self.base else 0
        return math.prod(local) * self.dtype.itemsize + max([base, *parts])

    def stores(self) -> Iterator[Store]:  # noqa: D102
        if self.base:
            yield from self.base.stores()
        for patch in self.patches:
            yield from patch.recipe.stores()

    def boxes(self, region: Region) -> Iterator[Box]:  # noqa: D102
        local = self._local(region)
        if self.base:
            yield from self.base.boxes(local)
        for patch in self.patches:
            met = patch.meet(local)
            if met is not None:
                yield from patch.recipe.boxes(met[0])


def bytes_loaded(recipes: Sequence[Recipe], shape: Sequence[int]) -> int:
    """Most bytes that a box's leaves and scratch hold when recipes run one after the other."""
    leaves = {id(leaf): leaf for recipe in recipes for leaf in recipe.leaves}
    pieces = max((recipe.bytes_pieces(shape) for recipe in recipes), default=0)
    held = sum(leaf.bytes_box(shape) for leaf in leaves.values())
    return held + bytes_passing(leaves.values(), shape) + pieces


def bytes_passing(leaves: Iterable[Leaf], shape: Sequence[int]) -> int:
    """Most bytes that are held while one leaf of a box is brought, and not any more after it."""
    stored = [leaf for leaf in leaves if isinstance(leaf, StoreLeaf)]
    return max((leaf.bytes_passing(shape) for leaf in stored), default=0)


def bytes_cut(recipes: Sequence[Recipe], shape: Sequence[int]) -> int:
    """Bytes of a box that decide about the cut; see `Leaf.bytes_cut`."""
    leaves = {id(leaf): leaf for recipe in recipes for leaf in recipe.leaves}
    held = sum(leaf.bytes_cut(shape) for leaf in leaves.values())
    return held + bytes_passing(leaves.values(), shape)


def bytes_extra(recipes: Sequence[Recipe]) -> int:
    """Most bytes that decoding holds beside the results: what no smaller box would lower."""
    stores = {id(store): store for recipe in recipes for store in recipe.stores()}
    return sum(store.bytes_read_extra for store in stores.values())
