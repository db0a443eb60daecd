"""The rewriting passes: smaller expressions of the same value.

One bottom-up walk, from what was computed before upward, applies the rules in `RULES` to each node
until none fires, and makes nodes of the same content one node (hash-consing). After each rule the
driver checks that shape and dtype stayed, and names the rule that broke them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from chunkarr.expr.affine import Affine, Term
from chunkarr.expr.node import (
    Contract,
    Expr,
    Generate,
    Map,
    Reduce,
    Regrid,
    Reshape,
    Source,
    View,
    walk,
)
from chunkarr.storage.reshaped import ReshapedStore, reshapable

Rule = Callable[[Expr], Expr | None]


def _computed(node: Expr) -> Expr | None:
    """Give what reads a value that was computed before, if it was."""
    if node.memo.store is not None:
        return Source(shape=node.shape, dtype=node.dtype, line=node.line, store=node.memo.store)
    return None


def compose_views(node: Expr) -> Expr | None:
    """View of a view is one view; a view that changes nothing goes."""
    if not isinstance(node, View):
        return None
    below = node.operands[0]
    if node.affine.is_identity and node.shape == below.shape:
        return below
    if isinstance(below, View):
        affine = below.affine.then(node.affine)
        return View(
            shape=node.shape,
            dtype=node.dtype,
            line=node.line,
            operands=below.operands,
            affine=affine,
        )
    if isinstance(below, Generate) and below.kind == "full":
        return Generate(
            shape=node.shape, dtype=node.dtype, line=node.line, kind="full", values=below.values
        )
    return None


def units_only(shape: Sequence[int], target: Sequence[int]) -> Affine | None:
    """Give the map of a reshape that only adds or drops axes of length one.

    >>> units_only((3, 1, 2), (1, 3, 2)).terms == (Term(1, 0, 1), Term(-1, 0, 0), Term(2, 0, 1))
    True
    """
    if 0 in shape or [n for n in shape if n != 1] != [n for n in target if n != 1]:
        return None
    wide = iter([axis for axis, n in enumerate(target) if n != 1])
    terms = tuple(Term(next(wide), 0, 1) if n != 1 else Term(-1, 0, 0) for n in shape)
    return Affine(tuple(target), terms)


def move_reshape(node: Expr) -> Expr | None:
    """Reshape memory in place, push a reshape below elementwise work, or make it a view."""
    if not isinstance(node, Reshape):
        return None
    below = node.operands[0]
    affine = units_only(below.shape, node.shape)
    if affine is not None:
        return View(
            shape=node.shape, dtype=node.dtype, line=node.line, operands=(below,), affine=affine
        )
    if isinstance(below, Reshape | Regrid):
        return Reshape(shape=node.shape, dtype=node.dtype, line=node.line, operands=below.operands)
    if isinstance(below, Generate) and below.kind == "full":
        return Generate(
            shape=node.shape, dtype=node.dtype, line=node.line, kind="full", values=below.values
        )
    if isinstance(below, Source) and reshapable(below.store):
        store = ReshapedStore(below.store, node.shape)
        return Source(shape=node.shape, dtype=node.dtype, line=node.line, store=store, parent=below)
    if isinstance(below, Map) and all(o.shape in (below.shape, ()) for o in below.operands):
        moved = tuple(
            o
            if o.shape == ()
            else _settled(Reshape(shape=node.shape, dtype=o.dtype, line=node.line, operands=(o,)))
            for o in below.operands
        )
        # Pushing is only worth it where the reshape dissolves in a source below.
        if not any(isinstance(o, Reshape) for o in moved):
            return Map(
                shape=node.shape,
                dtype=node.dtype,
                line=below.line,
                operands=moved,
                name=below.name,
                types=below.types,
                output=below.output,
            )
    return None


def reduce_through_reshape(node: Expr) -> Expr | None:
    """Reduce everything in the shape it had before: folding changes no element."""
    if not isinstance(node, Reduce) or len(node.axes) != node.operands[0].ndim:
        return None
    below = node.operands[0]
    if not isinstance(below, Reshape) or below.size == 0:
        return None
    inner = below.operands[0]
    return Reduce(
        shape=(),
        dtype=node.dtype,
        line=node.line,
        operands=(inner,),
        name=node.name,
        axes=tuple(range(inner.ndim)),
        ddof=node.ddof,
    )


def push_view(node: Expr) -> Expr | None:
    """Take a plain slice before a reduction or a product rather than after it."""
    if not isinstance(node, View):
        return None
    below, affine = node.operands[0], node.affine
    sliced = (
        len(affine.terms) == len(node.shape)
        and all(t.axis == i and t.stride for i, t in enumerate(affine.terms))
        and math.prod(node.shape) < below.size
    )
    if not sliced:
        return None
    if isinstance(below, Reduce):
        operand = below.operands[0]
        kept = iter(affine.terms)
        lengths = iter(node.shape)
        terms, shape = [], []
        for axis, n in enumerate(operand.shape):
            if axis in below.axes:
                terms.append(Term(axis, 0, 1))
                shape.append(n)
            else:
                _, offset, stride = next(kept)
                terms.append(Term(axis, offset, stride))
                shape.append(next(lengths))
        moved = _view(operand, Affine(tuple(shape), tuple(terms)), node)
        return Reduce(
            shape=node.shape,
            dtype=node.dtype,
            line=below.line,
            operands=(moved,),
            name=below.name,
            axes=below.axes,
            ddof=below.ddof,
        )
    if isinstance(below, Contract) and below.ndim == 2 and all(o.ndim == 2 for o in below.operands):
        left, right = below.operands
        rows, columns = affine.terms
        depth = left.shape[1]
        return Contract(
            shape=node.shape,
            dtype=node.dtype,
            line=below.line,
            operands=(
                _view(left, Affine((node.shape[0], depth), (rows, Term(1, 0, 1))), node),
                _view(right, Affine((depth, node.shape[1]), (Term(0, 0, 1), columns)), node),
            ),
        )
    return None


def _view(operand: Expr, affine: Affine, node: Expr) -> Expr:
    return _settled(
        View(
            shape=affine.shape,
            dtype=operand.dtype,
            line=node.line,
            operands=(operand,),
            affine=affine,
        )
    )


RULES: dict[type[Expr], Rule] = {
    View: compose_views,
    Reshape: move_reshape,
    Reduce: reduce_through_reshape,
}
"""The rule for each kind of node that has one."""

SHARED_RULES: tuple[Rule, ...] = (push_view,)
"""Rules that would compute something twice if their operand had another user."""


def _settled(node: Expr) -> Expr:
    """Apply rules to one node until none fires."""
    while (rule := RULES.get(type(node))) is not None and (other := rule(node)) is not None:
        same = other.shape == node.shape and other.dtype == node.dtype
        assert same, f"{rule.__name__} changed {node!r} to {other!r}"
        node = other
    return node


def rewrite(roots: Sequence[Expr]) -> dict[int, Expr]:
    """Rewrite all nodes below the roots; gives the new node for the id of each old one."""
    old = walk(roots, held=False)
    users: dict[int, int] = dict.fromkeys(map(id, roots), 1)
    for node in old:
        for operand in node.operands:
            users[id(operand)] = users.get(id(operand), 0) + 1
    new: dict[int, Expr] = {}
    interned: dict[tuple[object, ...], Expr] = {}
    for node in old:
        made = _computed(node)
        if made is None:
            operands = tuple([new[id(operand)] for operand in node.operands])
            changed = any(map(operator.is_not, operands, node.operands))
            made = _settled(node.with_operands(operands) if changed else node)
        if isinstance(made, View) and users.get(id(node.operands[0]) if node.operands else 0) == 1:
            for rule in SHARED_RULES:
                made = _settled(rule(made) or made)
        key = (
            type(made),
            made.shape,
            made.dtype,
            made.params,
            *map(id, made.operands),
        )
        new[id(node)] = interned.setdefault(key, made)
    return new
