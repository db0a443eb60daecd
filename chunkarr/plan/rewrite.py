"""The rewriting passes: smaller expressions of the same value.

One bottom-up walk, from what was computed before upward, applies the rules in `RULES` to each node
until none fires, and makes nodes of the same content one node (hash-consing). After each rule the
driver checks that shape and dtype stayed, and names the rule that broke them.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence

from chunkarr.expr.affine import Affine, Term, broadcast
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
    """Reduce in the shape before a reshape that changes none of the axes that are kept.

    The elements that are folded stay the same, and so does their order.
    """
    if not isinstance(node, Reduce) or not node.axes:
        return None
    below = node.operands[0]
    first, stop = node.axes[0], node.axes[-1] + 1
    if below.size == 0 or stop - first != len(node.axes):
        return None
    inner = _before_reshape(below, {})
    if inner is None or inner.shape == below.shape:
        return None
    lead, rest = below.shape[:first], below.shape[stop:]
    last = inner.ndim - len(rest)
    if last < first or inner.shape[:first] != lead or inner.shape[last:] != rest:
        return None
    return Reduce(
        shape=node.shape,
        dtype=node.dtype,
        line=node.line,
        operands=(inner,),
        name=node.name,
        axes=tuple(range(first, last)),
        ddof=node.ddof,
    )


def _before_reshape(node: Expr, found: dict[int, Expr | None]) -> Expr | None:
    """Give the value of a reshape, or of elementwise work on reshapes, in the shape before.

    None where there is none, or not one shape for all. `found` is what earlier calls gave.
    """
    if isinstance(node, Reshape):
        return node.operands[0]
    if not isinstance(node, Map) or len(found) > LEVELS_MAX:
        return None
    if id(node) not in found:
        found[id(node)] = None
        whole = [o for o in node.operands if o.shape != ()]
        parts = {id(o): _before_reshape(o, found) for o in whole if o.shape == node.shape}
        shapes = {part.shape for part in parts.values() if part is not None}
        if len(shapes) == 1 and all(parts.get(id(o)) is not None for o in whole):
            operands = [parts[id(o)] if o.shape != () else o for o in node.operands]
            found[id(node)] = Map(
                shape=shapes.pop(),
                dtype=node.dtype,
                line=node.line,
                operands=tuple([o for o in operands if o is not None]),
                name=node.name,
                types=node.types,
                output=node.output,
            )
    return found[id(node)]


Alone = Callable[[Expr], bool]
"""Whether a node has one user: what is taken of it by a view is all that is wanted of it."""

LEVELS_MAX = 40
"""How many elementwise operations a slice moves through; each is a level of Python's stack."""


def push_view(node: Expr, alone: Alone) -> Expr | None:
    """Take a part before a reduction, a product or a reshape rather than after it."""
    if not isinstance(node, View) or math.prod(node.shape) >= node.operands[0].size:
        return None
    below, affine = node.operands[0], node.affine
    if isinstance(below, Reshape):
        return _part_of_reshape(node, below, alone)
    if isinstance(below, Map):
        return _part_of_map(node, below, alone)
    sliced = len(affine.terms) == len(node.shape) and all(
        t.axis == i and t.stride for i, t in enumerate(affine.terms)
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
        moved = _part(operand, Affine(tuple(shape), tuple(terms)), node, alone)
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
        above = Affine((node.shape[0], depth), (rows, Term(1, 0, 1)))
        beside = Affine((depth, node.shape[1]), (Term(0, 0, 1), columns))
        return Contract(
            shape=node.shape,
            dtype=node.dtype,
            line=below.line,
            operands=(_part(left, above, node, alone), _part(right, beside, node, alone)),
        )
    return None


def _part_of_map(node: View, below: Map, alone: Alone) -> Expr | None:
    """Look at the operands of elementwise work where that spares some of what is below them."""
    if not _spares(below, alone, LEVELS_MAX):
        return None
    parts = {
        o: _part(o, broadcast(o.shape, below.shape).then(node.affine), node, alone)
        for o in dict.fromkeys(below.operands)
        if o.shape != ()
    }
    return Map(
        shape=node.shape,
        dtype=node.dtype,
        line=below.line,
        operands=tuple(parts.get(o, o) for o in below.operands),
        name=below.name,
        types=below.types,
        output=below.output,
    )


def _spares(node: Expr, alone: Alone, levels: int) -> bool:
    """Whether there is something below elementwise work of which a part can be made alone."""
    if not alone(node):
        return False
    if isinstance(node, Reduce | Contract | Reshape):
        return True
    passes = isinstance(node, Map | View) and levels > 0
    return passes and any(_spares(operand, alone, levels - 1) for operand in node.operands)


def _part_of_reshape(node: View, below: Reshape, alone: Alone) -> Expr | None:
    """Reshape those rows alone in which the elements lie that a view shows.

    Where a row of the result is more than one of the operand, or less, both begin together every
    so many rows.
    """
    operand = below.operands[0]
    if node.size == 0 or operand.size == 0:
        return None
    (at, rows, row), (place, _, wide) = _leading(operand.shape), _leading(below.shape)
    axis, offset, stride = node.affine.terms[place]
    far = offset + (stride * (node.shape[axis] - 1) if axis >= 0 else 0)
    step = wide // math.gcd(row, wide)
    start = min(offset, far) * wide // row // step * step
    stop = min(rows, -(-(max(offset, far) + 1) * wide // (row * step)) * step)
    if stop - start == rows:
        return None
    taken = [Term(n, start if n == at else 0, 1) for n in range(operand.ndim)]
    shape = tuple(stop - start if n == at else length for n, length in enumerate(operand.shape))
    part = _part(operand, Affine(shape, tuple(taken)), node, alone)
    lengths, terms = list(below.shape), list(node.affine.terms)
    lengths[place] = (stop - start) * row // wide
    terms[place] = Term(axis, offset - start * row // wide, stride)
    return _view(
        _settled(
            Reshape(shape=tuple(lengths), dtype=below.dtype, line=below.line, operands=(part,))
        ),
        Affine(node.shape, tuple(terms)),
        node,
    )


def _leading(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Give the first axis that is longer than one, its length, and the elements of its rows."""
    axis = next((axis for axis, n in enumerate(shape) if n > 1), len(shape) - 1)
    return axis, shape[axis], math.prod(shape[axis + 1 :])


def _part(operand: Expr, affine: Affine, node: Expr, alone: Alone) -> Expr:
    """Look at a part of an operand, which is moved down as far as that spares anything."""
    return _moved_down(_view(operand, affine, node), alone)


def _moved_down(node: Expr, alone: Alone) -> Expr:
    while isinstance(node, View) and alone(node.operands[0]):
        other = push_view(node, alone)
        if other is None:
            return node
        node = _settled(other)
    return node


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
        for operand in dict.fromkeys(node.operands):
            users[id(operand)] = users.get(id(operand), 0) + 1
    uses: dict[int, int] = {}

    def alone(node: Expr) -> bool:
        # Nodes that no user has made were made for one.
        return uses.get(id(node), 1) == 1

    new: dict[int, Expr] = {}
    interned: dict[tuple[object, ...], Expr] = {}
    for node in old:
        made = _computed(node)
        if made is None:
            operands = tuple([new[id(operand)] for operand in node.operands])
            changed = any(map(operator.is_not, operands, node.operands))
            made = _settled(node.with_operands(operands) if changed else node)
        made = _moved_down(made, alone)
        key = (
            type(made),
            made.shape,
            made.dtype,
            made.params,
            *map(id, made.operands),
        )
        kept = new[id(node)] = interned.setdefault(key, made)
        uses[id(kept)] = uses.get(id(kept), 0) + users[id(node)]
    return new
