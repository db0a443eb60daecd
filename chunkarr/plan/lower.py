"""Expressions to recipes: every movement is folded into the leaves' affine maps.

The walk goes down from a root with the map from the root's index to each node's index. A view
composes its own map and vanishes; an elementwise node hands its map to its operands, broadcast; a
node whose value stands in a store becomes a leaf. A node reached under two maps (`x[1:] - x[:-1]`)
is two values, because it is evaluated on two boxes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import field
from typing import Any

import numpy as np

from chunkarr.expr.affine import Affine, Progression, Term, broadcast
from chunkarr.expr.node import Expr, Generate, Map, Overlay, Regrid, Source, View
from chunkarr.kernels import tier, vecmath
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.recipe import (
    ConstantLeaf,
    EarlierLeaf,
    GenerateLeaf,
    Leaf,
    OverlayLeaf,
    Patch,
    Recipe,
    StoreLeaf,
)
from chunkarr.records import dataclass
from chunkarr.storage.store import Store

Key = tuple[int, Affine]


@dataclass(slots=True)
class Lowering:
    """Makes recipes over one index space.

    `placed` maps the id of a node to the store that holds or will hold its value; `earlier` maps
    the id of a node to the position of the output that makes it in the same step.
    """

    shape: tuple[int, ...]
    placed: Mapping[int, Store]
    earlier: Mapping[int, int] = field(default_factory=dict)
    swapped: Mapping[int, Store] = field(default_factory=dict)
    """Maps the id of a store to the copy that is read instead of it."""
    recut: Mapping[StoreLeaf, StoreLeaf] = field(default_factory=dict)
    """Maps a leaf to the one that reads the same from a copy cut for it."""
    interned: dict[StoreLeaf, StoreLeaf] = field(default_factory=dict)
    """Equal leaves are one object, so that a step brings them once."""

    def recipe(self, root: Expr, affine: Affine | None = None) -> Recipe:
        """Give the recipe of a node seen through a map, by default as it is."""
        leaves: list[Leaf] = []
        ops: list[tuple[Map, tuple[Key, ...]]] = []
        done: dict[Key, int] = {}  # leaf number, or -1 - operation number
        top: Key = (id(root), affine or Affine.identity(self.shape))
        stack: list[tuple[Expr, Affine, tuple[Key, ...] | None]] = [(root, top[1], None)]
        while stack:
            node, seen, keys = stack.pop()
            key = (id(node), seen)
            if keys is not None:  # its operands are done
                if isinstance(node, Map):
                    done[key] = -1 - len(ops)
                    ops.append((node, keys))
                else:
                    done[key] = done[keys[0]]
            elif key not in done:
                leaf = self._leaf(node, seen)
                if leaf is None:
                    below = self._operands(node, seen)
                    keys = tuple([(id(operand), through) for operand, through in below])
                    stack.append((node, seen, keys))
                    stack += [(o, a, None) for o, a in reversed(below)]
                else:
                    done[key] = len(leaves)
                    leaves.append(leaf)
        return self._assemble(leaves, ops, done, top)

    def _assemble(
        self,
        leaves: list[Leaf],
        ops: list[tuple[Map, tuple[Key, ...]]],
        done: dict[Key, int],
        top: Key,
    ) -> Recipe:
        def number(key: Key) -> int:
            at = done[key]
            return at if at >= 0 else len(leaves) - 1 - at

        program = Program(
            tuple(leaf.dtype for leaf in leaves),
            tuple(
                Op(_name(node), tuple(map(number, keys)), node.types, node.dtype, node.output)
                for node, keys in ops
            ),
            (number(top),),
        )
        return Recipe(self.shape, tuple(leaves), program)

    def _operands(self, node: Expr, seen: Affine) -> list[tuple[Expr, Affine]]:
        """Give a node's operands with the maps that the node sees them through."""
        if isinstance(node, View):
            return [(node.operands[0], node.affine.then(seen))]
        if isinstance(node, Regrid):
            return [(node.operands[0], seen)]
        assert isinstance(node, Map), f"{node.label} has no store"
        return [
            (
                operand,
                seen
                if operand.shape == node.shape
                else _stretched(operand.shape, node.shape, seen),
            )
            for operand in node.operands
        ]

    def _leaf(self, node: Expr, seen: Affine) -> Leaf | None:
        """Give the leaf for a node that is read rather than computed, else None."""
        position = self.earlier.get(id(node))
        if position is not None and seen.is_identity:
            return EarlierLeaf(position, node.dtype)
        store = self.placed.get(id(node))
        if store is None and isinstance(node, Source):
            store = node.store
        if store is not None:
            leaf = StoreLeaf(self.swapped.get(id(store), store), seen)
            leaf = self.recut.get(leaf, leaf)
            return self.interned.setdefault(leaf, leaf)
        if isinstance(node, Generate):
            if node.kind == "full":
                return ConstantLeaf(np.asarray(node.values[0], node.dtype))
            return GenerateLeaf(node.kind, node.values, node.shape, seen, node.dtype)
        if isinstance(node, Overlay):
            return self._overlay(node, seen)
        return None

    def _overlay(self, node: Overlay, seen: Affine) -> OverlayLeaf:
        """Lay the patches out in this recipe's index space."""
        used = {term.axis for term in seen.terms if term.axis >= 0}
        shape = tuple(n if axis in used else 1 for axis, n in enumerate(self.shape))
        local = Affine(shape, seen.terms)
        inside = Lowering(shape, self.placed, swapped=self.swapped, recut=self.recut)
        base = inside.recipe(node.operands[0], local) if node.based else None
        patches = []
        values = node.operands[1:] if node.based else node.operands
        for value, places in zip(values, node.places, strict=True):
            met = preimage(local, places)
            if met is not None:
                spots, through = met
                own = Lowering(through.shape, self.placed, swapped=self.swapped, recut=self.recut)
                patches.append(Patch(spots, own.recipe(value, through)))
        return OverlayLeaf(base, tuple(patches), shape, node.dtype)


@functools.lru_cache(1 << 8)
def _stretched(shape: tuple[int, ...], target: tuple[int, ...], seen: Affine) -> Affine:
    """Give the map of an operand that is broadcast to the shape of its reader."""
    return broadcast(shape, target).then(seen)


def _name(node: Map) -> str:
    """Give the name of a node's operation: NumPy's, or that of a function that is compiled."""
    if not tier.may_wait():
        return node.name
    return vecmath.chosen(node.name, node.types, node.shape)


def preimage(
    seen: Affine, places: tuple[Progression, ...]
) -> tuple[tuple[Progression, ...], Affine] | None:
    """Find where the indices `places` of an array show up in a view of it.

    Gives, for each view axis, the progression of view indices that show a patched element, and the
    map from that progression's counter to the patch's own index; None where nothing shows. Along an
    axis the array index is `offset + stride * i` and the patch covers `first + step * m`: equal
    where i and m both advance by fixed steps (a linear Diophantine equation in two unknowns).
    """
    spots = [Progression(0, 1, n) for n in seen.shape]
    terms = []
    for (axis, offset, stride), (first, step, count) in zip(seen.terms, places, strict=True):
        if axis < 0 or seen.shape[axis] == 1:
            # The view shows one index of this axis: is it one of the patch's?
            m, rest = divmod(offset - first, step)
            if rest or not 0 <= m < count:
                return None
            terms.append(Term(-1, m, 0))
            continue
        solved = _solve(offset - first, stride, step, seen.shape[axis], count)
        if solved is None:
            return None
        spot, at, advance = solved
        spots[axis] = spot
        terms.append(Term(axis, at, advance))
    return tuple(spots), Affine(tuple(spot.count for spot in spots), tuple(terms))


def _solve(
    gap: int, stride: int, step: int, length: int, count: int
) -> tuple[Progression, int, int] | None:
    """Solve `gap + stride * i == step * m` for 0 <= i < length, 0 <= m < count.

    Gives the progression of i, the first m, and how m advances.
    """
    common = math.gcd(stride, step)
    if gap % common:
        return None
    period = abs(step) // common
    # stride * i == -gap (mod step): the inverse exists after dividing by the common factor.
    inverse = pow(stride // common % period, -1, period) if period > 1 else 0
    i = (-gap // common) * inverse % period if period > 1 else 0
    advance = stride * period // step
    m = (gap + stride * i) // step
    # Skip to the first i whose m is inside, and count how many follow.
    if advance > 0:
        skip = max(0, -(m // advance))
        last = (count - 1 - m) // advance
    else:
        skip = max(0, -((count - 1 - m) // -advance))
        last = m // -advance
    last = min(last, (length - 1 - i) // period)
    if last < skip:
        return None
    return Progression(i + period * skip, period, last - skip + 1), m + advance * skip, advance


def store_leaves(recipe: Recipe) -> list[StoreLeaf]:
    """List the leaves that read stores, those inside overlays too, in their own index spaces."""
    found: list[StoreLeaf] = []
    stack: list[Any] = list(recipe.leaves)
    while stack:
        leaf = stack.pop()
        if isinstance(leaf, StoreLeaf):
            found.append(leaf)
        elif isinstance(leaf, OverlayLeaf):
            if leaf.base:
                stack.extend(leaf.base.leaves)
            for patch in leaf.patches:
                stack.extend(patch.recipe.leaves)
    return found
