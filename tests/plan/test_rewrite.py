"""Each rewriting rule, before and after; and what must not be rewritten."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

import chunkarr
from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.build import constant, from_ndarray, view
from chunkarr.expr.node import (
    Contract,
    Expr,
    Generate,
    Map,
    Overlay,
    Reduce,
    Regrid,
    Reshape,
    Scan,
    Source,
    View,
)
from chunkarr.plan.rewrite import RULES, rewrite
from chunkarr.storage.memory import MemoryStore
from chunkarr.storage.reshaped import ReshapedStore
from tests.plan.support import CountingStore, NDArray

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


def spell(node: Expr) -> str:
    """Write an expression as text: kinds, shapes and operands."""
    inner = ", ".join(spell(operand) for operand in node.operands)
    match node:
        case Source():
            return f"{type(node.store).__name__}{list(node.shape)}"
        case Generate():
            return f"{node.kind}{list(node.shape)}"
        case Map() | Scan():
            return f"{node.label}({inner})"
        case Reduce():
            return f"{node.name}{list(node.axes)}({inner})"
        case View():
            terms = " ".join(f"{a}:{o}:{s}" if a >= 0 else f"@{o}" for a, o, s in node.affine.terms)
            return f"view<{terms}>({inner})"
        case Reshape() | Regrid() | Contract() | Overlay():
            return f"{node.label}{list(node.shape)}({inner})"
    return f"{node.label}({inner})"


@pytest.fixture
def stored() -> Any:
    return CountingStore(np.arange(24.0).reshape(4, 6), (2, 2)).as_array()


@pytest.fixture
def held() -> Any:
    return xp.from_array(np.arange(24.0).reshape(4, 6))


CASES: dict[str, tuple[Callable[[Any, Any], Any], str]] = {
    "a view of a view is one": (
        lambda s, h: s[1:][:, ::2],
        "view<0:1:1 1:0:2>(CountingStore[4, 6])",
    ),
    "a view that changes nothing goes": (lambda s, h: s[:, ::-1][:, ::-1], "CountingStore[4, 6]"),
    "a double transpose goes": (lambda s, h: s.T.T, "CountingStore[4, 6]"),
    "a view of a constant is a constant": (
        lambda s, h: xp.zeros((4, 6))[1:, 2],
        "full[3]",
    ),
    "a reshape of a constant is a constant": (
        lambda s, h: xp.full((4, 6), 2.0).reshape(3, 8),
        "full[3, 8]",
    ),
    "a reshape by unit axes is a view": (
        lambda s, h: s.reshape(4, 1, 6),
        "view<0:0:1 2:0:1>(CountingStore[4, 6])",
    ),
    "a reshape moves below elementwise work where it dissolves": (
        lambda s, h: (h * 2 + 1).reshape(24),
        "add(multiply(ReshapedStore[24], full[]), full[])",
    ),
    "a reshape stays above elementwise work where it would not dissolve": (
        lambda s, h: (s * 2).reshape(24),
        "reshape[24](multiply(CountingStore[4, 6], full[]))",
    ),
    "two reshapes are one": (
        lambda s, h: s.reshape(24).reshape(8, 3),
        "reshape[8, 3](CountingStore[4, 6])",
    ),
    "a whole reduction sees through a reshape": (
        lambda s, h: s.reshape(24).sum(),
        "sum[0, 1](CountingStore[4, 6])",
    ),
    "a whole reduction of elementwise work on reshapes does too": (
        lambda s, h: (s.reshape(24) * 2 + s.reshape(24)).sum(),
        ("sum[0, 1](add(multiply(CountingStore[4, 6], full[]), CountingStore[4, 6]))"),
    ),
    "not where it meets what has no other shape": (
        lambda s, h: (s.reshape(24) * xp.arange(24)).sum(),
        "sum[0](multiply(reshape[24](CountingStore[4, 6]), ramp[24]))",
    ),
    "a partial reduction does not": (
        lambda s, h: s.reshape(8, 3).sum(0),
        "sum[0](reshape[8, 3](CountingStore[4, 6]))",
    ),
    "the place of the maximum counts in C order, which a reshape keeps": (
        lambda s, h: s.reshape(24).argmax(),
        "argmax[0, 1](CountingStore[4, 6])",
    ),
    "a slice goes before a reduction": (
        lambda s, h: s.sum(0)[1:3],
        "sum[0](view<0:0:1 1:1:1>(CountingStore[4, 6]))",
    ),
    "a slice goes before a product": (
        lambda s, h: (s.T @ s)[:2, 1:],
        (
            "matmul[2, 5](view<1:0:1 0:0:1>(CountingStore[4, 6]), "
            "view<0:0:1 1:1:1>(CountingStore[4, 6]))"
        ),
    ),
    "a slice of a reshape takes the rows that hold it": (
        lambda s, h: s.reshape(24)[7:14],
        "view<0:1:1>(reshape[12](view<0:1:1 1:0:1>(CountingStore[4, 6])))",
    ),
    "a slice of a reshape that one row holds is a view": (
        lambda s, h: s.reshape(24)[7:11],
        "view<@1 0:1:1>(CountingStore[4, 6])",
    ),
    "a slice of rows of a reshape begins where both shapes do": (
        lambda s, h: s.reshape(3, 8)[1:, ::-2],
        "view<0:1:1 1:7:-2>(reshape[3, 8](CountingStore[4, 6]))",
    ),
    "one row of a reshape, backwards": (
        lambda s, h: s.reshape(2, 12)[1, ::-1],
        "view<@0 0:11:-1>(reshape[1, 12](view<0:2:1 1:0:1>(CountingStore[4, 6])))",
    ),
    "a slice goes through elementwise work to a reshape and a reduction": (
        lambda s, h: (s.reshape(24) * 2 + s.sum())[3:5],
        (
            "add(multiply(view<@0 0:3:1>(CountingStore[4, 6]), full[]), "
            "sum[0, 1](CountingStore[4, 6]))"
        ),
    ),
    "a slice stays above elementwise work where it would spare nothing": (
        lambda s, h: (s * 2 + 1)[3:],
        "view<0:3:1 1:0:1>(add(multiply(CountingStore[4, 6], full[]), full[]))",
    ),
    "a slice stays behind a scan": (
        lambda s, h: xp.cumsum(s, 0)[2:],
        "view<0:2:1 1:0:1>(add.accumulate(CountingStore[4, 6]))",
    ),
    "equal work is done once": (
        lambda s, h: xp.exp(s) + xp.exp(s),
        "add(exp(CountingStore[4, 6]), exp(CountingStore[4, 6]))",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rewrites_to(name: str, stored: Any, held: Any) -> None:
    make, after = CASES[name]
    before = make(stored, held).to_expr()
    new = rewrite([before])[id(before)]
    assert spell(new) == after
    assert (new.shape, new.dtype) == (before.shape, before.dtype)


@pytest.mark.parametrize("name", CASES)
def test_the_value_stays(name: str, stored: Any, held: Any) -> None:
    make, _ = CASES[name]
    plain = np.arange(24.0).reshape(4, 6)
    expected = eval_plain(name, plain)
    np.testing.assert_array_equal(make(stored, held).compute(), expected)


def eval_plain(name: str, plain: NDArray) -> NDArray:
    """Give NumPy's answer for a case, with eager arrays of chunkarr as the plain ones."""
    with xp.config(eager_bytes=1 << 20):
        array = xp.array(plain)
        return np.asarray(CASES[name][0](array, array))


def test_equal_nodes_become_one(stored: Any) -> None:
    twice = (xp.exp(stored) + xp.exp(stored)).to_expr()
    new = rewrite([twice])[id(twice)]
    assert new.operands[0] is new.operands[1]


def test_signed_zeros_and_nans_are_not_taken_for_each_other(stored: Any) -> None:
    for a, b in [(0.0, -0.0), (np.nan, -np.nan)]:
        one, two = (stored * a).to_expr(), (stored * b).to_expr()
        new = rewrite([one, two])
        assert new[id(one)] is not new[id(two)]


def test_a_slice_of_a_shared_reduction_is_not_computed_twice(stored: Any) -> None:
    total = stored.sum(0)
    both = (total[1:] - total[:-1]).to_expr()
    new = rewrite([both])[id(both)]
    assert [spell(operand) for operand in new.operands] == [
        "view<0:1:1>(sum[0](CountingStore[4, 6]))",
        "view<0:0:1>(sum[0](CountingStore[4, 6]))",
    ]
    assert new.operands[0].operands[0] is new.operands[1].operands[0]


def test_a_slice_of_a_reduction_that_is_wanted_too_reads_it(stored: Any) -> None:
    total = stored.sum(0)
    roots = [total.to_expr(), total[1:].to_expr()]
    new = rewrite(roots)
    assert spell(new[id(roots[1])]) == "view<0:1:1>(sum[0](CountingStore[4, 6]))"


def test_a_computed_value_is_read(stored: Any) -> None:
    total = stored.sum(0).to_expr()
    total.memo.store = MemoryStore(np.zeros(6))
    wide = Map(
        shape=(6,), dtype=total.dtype, operands=(total,), name="negative", types=(total.dtype,)
    )
    assert spell(rewrite([wide])[id(wide)]) == "negative(MemoryStore[6])"


def test_a_reshape_of_memory_is_looked_at_in_place() -> None:
    node = from_ndarray(np.arange(24.0).reshape(4, 6))
    flat = Reshape(shape=(24,), dtype=node.dtype, operands=(node,))
    new = rewrite([flat])[id(flat)]
    assert isinstance(new, Source)
    assert np.shares_memory(new.store.read((slice(0, 24),)), node.store.read((slice(0, 4),) * 2))


def test_a_reshape_of_a_strided_store_does_not_look_at_other_elements() -> None:
    strided = np.arange(48.0).reshape(4, 12)[:, ::2]
    node = from_ndarray(strided)
    flat = Reshape(shape=(24,), dtype=node.dtype, operands=(node,))
    new = rewrite([flat])[id(flat)]
    if isinstance(new, Source):
        assert isinstance(new.store, ReshapedStore)
        np.testing.assert_array_equal(new.store.read((slice(0, 24),)), strided.reshape(-1))
    else:
        assert spell(new) == "reshape[24](MemoryStore[4, 6])"


@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.__name__)
def test_rules_leave_alone_what_is_not_theirs(rule: Callable[[Expr], Expr | None]) -> None:
    node = from_ndarray(np.arange(6.0))
    plain = Map(shape=(6,), dtype=node.dtype, operands=(node,), name="exp", types=(node.dtype,))
    assert rule(plain) is None


def test_a_diagonal_view_is_composed_but_not_pushed(stored: Any) -> None:
    shown = xp.diagonal(stored)[1:].to_expr()
    new = rewrite([shown])[id(shown)]
    assert spell(new) == "view<0:1:1 0:1:1>(CountingStore[4, 6])"


SHAPES = [(24,), (4, 6), (6, 4), (2, 12), (1, 24), (3, 1, 8), (2, 3, 4), (24, 1), (8, 3)]


@given(st.sampled_from(SHAPES), st.sampled_from(SHAPES), st.data())
def test_any_part_of_a_reshape_is_its_values(
    shape: tuple[int, ...], other: tuple[int, ...], data: st.DataObject
) -> None:
    values = np.arange(24.0).reshape(shape)
    x = CountingStore(values, tuple(min(2, n) for n in shape)).as_array()
    index = data.draw(basic_indices(other, allow_ellipsis=False))
    whole = x.reshape(other) * 2 + 1
    if data.draw(st.booleans()):
        whole = whole - x.sum(0, keepdims=True).sum()
        values = values - values.sum() / 2
    np.testing.assert_array_equal(whole[index], (values.reshape(other) * 2 + 1)[index])


def test_a_part_of_a_reshape_reads_what_it_needs() -> None:
    store = CountingStore(np.arange(240.0).reshape(40, 6), (2, 2))
    flat = (store.as_array().reshape(-1) * 2)[100:110].compute()
    np.testing.assert_array_equal(flat, np.arange(100.0, 110) * 2)
    assert np.flatnonzero(store.reads.any(axis=1)).tolist() == [16, 17, 18]


def test_a_slice_goes_through_many_operations_without_end(stored: Any) -> None:
    flat = stored.reshape(24)
    for number in range(3000):
        flat = flat * 2 if number % 2 else flat / 2
    np.testing.assert_array_equal(flat[3:5], [3.0, 4.0])


def test_a_deep_chain_is_rewritten_without_recursion() -> None:
    node: Expr = from_ndarray(np.arange(3.0))
    one = constant(1.0)
    for _ in range(20_000):
        node = Map(
            shape=(3,), dtype=node.dtype, operands=(node, one), name="add", types=(node.dtype,) * 2
        )
    moved = view(node, Affine((2,), (Term(0, 1, 1),)))
    assert rewrite([moved])[id(moved)].shape == (2,)
