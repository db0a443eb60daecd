"""Movement dissolves in index maps, and the maps agree with NumPy element by element."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr.arrays import wrap
from chunkarr.expr.affine import Affine, Progression, Term
from chunkarr.expr.build import from_ndarray
from chunkarr.expr.node import View
from chunkarr.kernels.recipe import ConstantLeaf, EarlierLeaf, OverlayLeaf, StoreLeaf
from chunkarr.plan.lower import Lowering, _solve, preimage, store_leaves
from tests.plan.support import CountingStore

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NDArray = npt.NDArray[Any]

lengths = st.integers(1, 7)
strides = st.integers(-4, 4).filter(bool)


@given(st.integers(-30, 30), strides, strides, st.integers(1, 12), st.integers(1, 12))
def test_solve_agrees_with_trying_all_pairs(
    gap: int, stride: int, step: int, length: int, count: int
) -> None:
    pairs = [(i, m) for i in range(length) for m in range(count) if gap + stride * i == step * m]
    solved = _solve(gap, stride, step, length, count)
    if solved is None:
        assert not pairs
        return
    spot, m, advance = solved
    assert spot.step > 0
    assert [(spot.first + spot.step * k, m + advance * k) for k in range(spot.count)] == pairs


@st.composite
def _seen(draw: st.DrawFn) -> tuple[Affine, tuple[Progression, ...]]:
    """Give a boxed view of an array, and progressions of indices of that array."""
    ndim = draw(st.integers(1, 3))
    view_ndim = draw(st.integers(0, 3))
    free = draw(st.permutations(range(view_ndim)))
    shape = tuple(draw(lengths) for _ in range(view_ndim))
    terms, places = [], []
    for axis in range(ndim):
        if axis < len(free) and draw(st.booleans()):
            along, stride = free[axis], draw(strides)
            offset = draw(st.integers(0, 5)) + max(0, -stride * (shape[along] - 1))
            terms.append(Term(along, offset, stride))
        else:
            terms.append(Term(-1, draw(st.integers(0, 8)), 0))
        step, count = draw(st.integers(1, 4)), draw(lengths)
        if draw(st.booleans()):
            places.append(Progression(draw(st.integers(0, 5)), step, count))
        else:
            places.append(Progression(draw(st.integers(0, 5)) + step * (count - 1), -step, count))
    return Affine(shape, tuple(terms)), tuple(places)


def _at(affine: Affine, index: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(
        t.offset + t.stride * index[t.axis] if t.axis >= 0 else t.offset for t in affine.terms
    )


@given(_seen())
def test_preimage_agrees_with_looking_at_every_index(
    case: tuple[Affine, tuple[Progression, ...]],
) -> None:
    seen, places = case
    expected = {}
    for index in itertools.product(*map(range, seen.shape)):
        spots = []
        for at, (first, step, count) in zip(_at(seen, index), places, strict=True):
            m, rest = divmod(at - first, step)
            if rest or not 0 <= m < count:
                break
            spots.append(m)
        else:
            expected[index] = tuple(spots)
    met = preimage(seen, places)
    if met is None:
        assert not expected
        return
    spots_found, own = met
    found = {
        tuple(p.first + p.step * c for p, c in zip(spots_found, counter, strict=True)): _at(
            own, counter
        )
        for counter in itertools.product(*(range(p.count) for p in spots_found))
    }
    assert found == expected


def _key(draw: Any, n: int) -> Any:
    kind = draw(st.sampled_from(["slice", "slice", "index", "all"]))
    if kind == "all" or n == 0:
        return slice(None)
    if kind == "index":
        return draw(st.integers(-n, n - 1))
    bounds = st.none() | st.integers(-n - 1, n + 1)
    return slice(draw(bounds), draw(bounds), draw(strides))


@st.composite
def _moves(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Give a few movements, to be made on any array."""
    return draw(
        st.lists(
            st.tuples(
                st.sampled_from(["slice", "transpose", "newaxis", "flip", "broadcast", "roll"]),
                st.integers(0, 2**31),
            ),
            min_size=1,
            max_size=4,
        )
    )


def _move(xp: Any, x: Any, kind: str, seed: int) -> Any:
    """Make one movement; the seed decides its arguments from the array's shape."""
    rng = np.random.default_rng(seed)
    ndim = len(x.shape)
    if kind == "slice":
        keys = []
        for n in x.shape:
            step = int(rng.integers(1, 4)) * int(rng.choice([-1, 1]))
            start, stop = sorted(int(v) for v in rng.integers(0, n + 1, 2))
            keys.append(slice(start, stop, step) if step > 0 else slice(stop, start or None, step))
        return x[tuple(keys)]
    if kind == "transpose":
        return xp.transpose(x, tuple(int(i) for i in rng.permutation(ndim)))
    if kind == "newaxis" and ndim < 4:
        return xp.expand_dims(x, int(rng.integers(0, ndim + 1)))
    if kind == "flip" and ndim:
        return xp.flip(x, int(rng.integers(0, ndim)))
    if kind == "broadcast" and ndim < 4:
        return xp.broadcast_to(x, (2, *x.shape))
    if kind == "roll" and ndim:
        return xp.roll(x, int(rng.integers(-5, 6)), int(rng.integers(0, ndim)))
    return x


@given(_moves(), st.integers(0, 2**31))
def test_any_chain_of_movements_gives_numpy_s_array(
    moves: list[tuple[str, Any]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    plain = rng.integers(0, 100, tuple(rng.integers(1, 7, 2)))
    lazy: Any = CountingStore(plain, (2, 3)).as_array()
    expected: Any = plain
    with xp.config(chunk_bytes=64, eager_bytes=0):
        for kind, arguments in moves:
            expected = _move(np, expected, kind, arguments)
            lazy = _move(xp, lazy, kind, arguments)
        np.testing.assert_array_equal(lazy.compute(), expected)


@given(st.data(), st.integers(0, 2**31))
def test_assignments_show_through_any_view(data: st.DataObject, seed: int) -> None:
    rng = np.random.default_rng(seed)
    expected = rng.integers(0, 100, (5, 6))
    with xp.config(chunk_bytes=64, eager_bytes=0):
        lazy = CountingStore(expected.copy(), (2, 3)).as_array() + 0
        for turn in range(data.draw(st.integers(1, 3))):
            key = tuple(_key(data.draw, n) for n in expected.shape)
            value: Any = -1 - turn
            part = expected[key]
            if isinstance(part, np.ndarray) and data.draw(st.booleans()):
                value = rng.integers(200, 300, part.shape)
            expected[key] = value
            lazy[key] = value
        moves = data.draw(_moves())
        shown, wanted = lazy, expected
        for kind, arguments in moves:
            shown = _move(xp, shown, kind, arguments)
            wanted = _move(np, wanted, kind, arguments)
        np.testing.assert_array_equal(shown.compute(), wanted)
        np.testing.assert_array_equal(lazy.compute(), expected)


# -- what recipes look like ------------------------------------------------------------------------


@pytest.fixture
def source() -> Any:
    return CountingStore(np.arange(24.0).reshape(4, 6), (2, 2)).as_array()


def test_views_leave_no_operation(source: Any) -> None:
    shown = source.T[::-1, 1:3][None]
    recipe = Lowering(shown.shape, {}).recipe(shown.to_expr())
    assert recipe.trivial
    (leaf,) = recipe.leaves
    assert isinstance(leaf, StoreLeaf)
    assert leaf.affine.terms == (Term(2, 1, 1), Term(1, 5, -1))


def test_shifted_readings_of_one_node_are_two_values(source: Any) -> None:
    both = xp.exp(source)
    change = both[1:] - both[:-1]
    recipe = Lowering(change.shape, {}).recipe(change.to_expr())
    assert len(recipe.leaves) == 2
    assert [op.name for op in recipe.program.ops] == ["exp", "exp", "subtract"]


def test_a_node_reached_twice_in_the_same_way_is_computed_once(source: Any) -> None:
    once = xp.exp(source)
    recipe = Lowering(once.shape, {}).recipe((once * once + once).to_expr())
    assert len(recipe.leaves) == 1
    assert [op.name for op in recipe.program.ops] == ["exp", "multiply", "add"]


def test_a_constant_is_a_leaf_however_wide(source: Any) -> None:
    recipe = Lowering(source.shape, {}).recipe((source + 1).to_expr())
    assert [type(leaf) for leaf in recipe.leaves] == [StoreLeaf, ConstantLeaf]


def test_a_value_that_the_same_visit_made_is_not_read_back(source: Any) -> None:
    inner = source * 2
    recipe = Lowering(source.shape, {}, {id(inner.to_expr()): 0}).recipe((inner + 1).to_expr())
    assert [type(leaf) for leaf in recipe.leaves] == [EarlierLeaf, ConstantLeaf]


def test_patches_that_a_view_does_not_show_are_dropped(source: Any) -> None:
    joined = xp.concatenate([source, source * 2])
    part = joined[:3]
    recipe = Lowering(part.shape, {}).recipe(part.to_expr())
    (leaf,) = recipe.leaves
    assert isinstance(leaf, OverlayLeaf)
    assert len(leaf.patches) == 1
    assert len(store_leaves(recipe)) == 1


def test_an_overlay_behind_a_broadcast_is_laid_out_once() -> None:
    row: Any = wrap(from_ndarray(np.arange(5.0)))
    pieces = xp.concatenate([row + 1, row + 2])
    wide = xp.broadcast_to(pieces, (3, 10))
    recipe = Lowering(wide.shape, {}).recipe(wide.to_expr())
    (leaf,) = recipe.leaves
    assert isinstance(leaf, OverlayLeaf)
    assert leaf.shape == (1, 10)
    assert leaf.load((slice(0, 3), slice(3, 7)), ()).shape == (1, 4)


def test_a_deep_chain_of_views_is_one_map() -> None:
    node = from_ndarray(np.arange(6000))
    expr: Any = node
    for _ in range(2000):
        n = expr.shape[0]
        expr = View(
            shape=(n - 1,),
            dtype=expr.dtype,
            operands=(expr,),
            affine=Affine((n - 1,), (Term(0, 1, 1),)),
        )
    recipe = Lowering(expr.shape, {}).recipe(expr)
    (leaf,) = recipe.leaves
    assert isinstance(leaf, StoreLeaf)
    assert leaf.affine.terms == (Term(0, 2000, 1),)
