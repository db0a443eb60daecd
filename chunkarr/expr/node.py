"""The closed set of expression nodes.

An `Expr` is immutable and knows its shape and dtype when it is made. Everything that only moves
elements (basic slices, transposes, broadcasts, flips, new axes, diagonals) is one kind, `View`, an
affine map of indices; everything that puts pieces side by side or over each other (concatenate,
roll, assignment) is one kind, `Overlay`. That leaves about a dozen kinds for the planner to know.
Rejected: a node per NumPy function, because every pass would then have a case for each of them.

`memo` is the one mutable part: the store that holds a node's value once it was computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from chunkarr.expr.affine import Affine, Progression
from chunkarr.expr.calls import Call
from chunkarr.grid import Grid
from chunkarr.records import dataclass
from chunkarr.storage.store import Store

Dtype = np.dtype[Any]
Shape = tuple[int, ...]
NDArray = npt.NDArray[Any]
Line = tuple[str, int] | None


class Memo:
    """Holds the store with a node's computed value, or None."""

    store: Store | None = None  # of the class, since every node makes one of these


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Expr:
    """One array-valued operation."""

    shape: Shape
    dtype: Dtype
    operands: tuple[Expr, ...] = ()
    line: Line = None
    """The user's file and line, for messages."""
    memo: Memo = field(default_factory=Memo, repr=False)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the value."""
        return self.size * self.dtype.itemsize

    @property
    def held(self) -> Store | None:
        """The store that has the value, if one has."""
        return self.memo.store

    @property
    def label(self) -> str:
        """The operation's name for people."""
        return type(self).__name__.lower()

    @property
    def params(self) -> tuple[object, ...]:
        """What beside operands, shape and dtype tells this node from its like; hashable."""
        return ()

    def with_operands(self, operands: tuple[Expr, ...]) -> Expr:
        """Give the same operation on other operands of the same shapes and dtypes."""
        fields = {name: getattr(self, name) for name in self._own_fields()}
        return type(self)(
            shape=self.shape, dtype=self.dtype, operands=operands, line=self.line, **fields
        )

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ()

    @property
    def where(self) -> str:
        """The user's file:line, or the empty string."""
        return f"{self.line[0]}:{self.line[1]}" if self.line else ""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Source(Expr):
    """The content of a store."""

    store: Store
    parent: Source | None = None
    """The source whose buffer this one looks into: keeps count of who still reads it."""
    cut: Grid | None = None
    """The nominal cut where it is not the store's: that of what was computed into it."""

    @property
    def held(self) -> Store:  # noqa: D102
        return self.memo.store or self.store

    @property
    def stands(self) -> bool:
        """Whether the values are there to be read, and need not be made."""
        return not self.held.drawn

    @property
    def label(self) -> str:  # noqa: D102
        return self.store.name

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (id(self.store),)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Generate(Expr):
    """A value computed from the index: `kind` is "full", "ramp", "eye" or "index".

    full: `values[0]` everywhere. ramp: `values[0] + i * values[1]`, the last element replaced by
    `values[2]` where given (arange, linspace). eye: one where `j - i == values[0]`.
    index: the position along axis `values[0]`.
    """

    kind: str
    values: tuple[Any, ...]

    @property
    def label(self) -> str:  # noqa: D102
        return self.kind

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        # The bytes tell 0.0 from -0.0 and one NaN from another, which == does not.
        return self.kind, tuple(
            (np.asarray(v).dtype.str, np.asarray(v).tobytes())
            if not np.asarray(v).dtype.hasobject
            else id(v)
            for v in self.values
        )

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("kind", "values")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Map(Expr):
    """An elementwise operation with broadcasting; `name` as in `kernels.program.Op`."""

    name: str
    types: tuple[Dtype, ...]
    output: int = 0

    @property
    def label(self) -> str:  # noqa: D102
        # Of a user's function, whose name ends with the hash of its code, the name proper.
        return self.name.removeprefix("user.").partition(".")[0]

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.name, self.types, self.output

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("name", "types", "output")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Reduce(Expr):
    """A reduction over `axes` (sorted); the result lacks those axes.

    `name` is a reducer of `kernels.reducers`. "var" gives the population variance times the count
    divided by `count - ddof`.
    """

    name: str
    axes: tuple[int, ...]
    ddof: float = 0

    @property
    def label(self) -> str:  # noqa: D102
        return self.name

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.name, self.axes, self.ddof

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("name", "axes", "ddof")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Scan(Expr):
    """A cumulative ufunc along one axis, in NumPy's own order and so with its bits."""

    name: str
    axis: int

    @property
    def label(self) -> str:  # noqa: D102
        return f"{self.name}.accumulate"

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.name, self.axis

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("name", "axis")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class View(Expr):
    """An affine reading of the operand; see `expr.affine`."""

    affine: Affine

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (self.affine,)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("affine",)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Reshape(Expr):
    """The operand's elements in C order under another shape."""


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Overlay(Expr):
    """Patches laid over a base, later ones on top; without a base they cover everything.

    Operands are the base, if any, then the patches' values. `places[p]` says for each axis which
    indices patch p covers, as an arithmetic progression.
    """

    places: tuple[tuple[Progression, ...], ...]
    based: bool
    verb: str = "assign"

    @property
    def label(self) -> str:  # noqa: D102
        return self.verb

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.places, self.based

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("places", "based", "verb")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Compress(Expr):
    """The rows of the first operand where the mask, the second, is true, in C order.

    The mask covers the leading axes; `bands` cuts its flattened index space and `offsets[b]` is the
    number of true values before band b, so the result's shape and every band's place are known.
    """

    bands: Grid
    offsets: tuple[int, ...]

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (self.offsets,)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("bands", "offsets")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Gather(Expr):
    """Elements of the first operand at the places the second names, along one axis.

    The second operand is one-dimensional, of dtype int64, its values within the axis.
    """

    axis: int

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (self.axis,)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("axis",)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Scatter(Expr):
    """The first operand with the third laid over the places the second names, along one axis.

    Operands are the base, one-dimensional places as in `Gather`, and values whose axis is as long
    as there are places. A place that is named again takes the last of its values.
    """

    axis: int

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (self.axis,)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("axis",)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Contract(Expr):
    """`numpy.matmul` of two operands of at least two axes."""

    @property
    def label(self) -> str:  # noqa: D102
        return "matmul"


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Algorithm(Expr):
    """A tiled algorithm that emits its own steps: "sort" or "cholesky"."""

    name: str
    options: tuple[tuple[str, Any], ...] = ()

    @property
    def label(self) -> str:  # noqa: D102
        return self.name

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.name, self.options

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("name", "options")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Blocks(Expr):
    """One result of a function that is called on whole boxes of the operands; see `expr.calls`.

    Nodes that differ in `output` only are made by the same calls.
    """

    call: Call
    output: int = 0

    @property
    def label(self) -> str:  # noqa: D102
        return self.call.name

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return self.call.key, self.output

    @property
    def calls(self) -> tuple[object, ...]:
        """What nodes that are made by the same calls have in common."""
        return self.call.key, *map(id, self.operands)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("call", "output")


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True, kw_only=True)
class Regrid(Expr):
    """The operand with another nominal cut; moves nothing until it is stored."""

    grid: Grid

    @property
    def params(self) -> tuple[object, ...]:  # noqa: D102
        return (self.grid.shape, self.grid.axes)

    @classmethod
    def _own_fields(cls) -> tuple[str, ...]:
        return ("grid",)


def walk(roots: Sequence[Expr], *, held: bool = True) -> list[Expr]:
    """List all nodes below the roots, operands before their users, each once, without recursion.

    Without `held`, what is below a value that was computed before is left out.
    """
    order: list[Expr] = []
    seen: set[int] = set()
    stack: list[Expr | None] = [*reversed(roots)]
    while stack:
        node = stack.pop()
        if node is None:  # the operands of the node under it are listed
            order.append(cast("Expr", stack.pop()))
        elif id(node) not in seen:
            seen.add(id(node))
            if not held and node.memo.store is not None:
                order.append(node)
                continue
            stack += (node, None)
            stack += [operand for operand in reversed(node.operands) if id(operand) not in seen]
    return order
