"""A NumPy expression in a text, evaluated without `eval`: what `chunkarr calc` understands.

Python's own parser reads the text, and a walk over its tree does what each permitted node says.
The rejected alternative, `eval` with an emptied namespace, is a hole: every object leads to every
other through its attributes. Here an attribute must be on a list, a call must name a NumPy
function, and whatever is not mentioned is refused with a pointer at its column.

>>> evaluate("(2 + 3) * 4 > 19", {})
True
"""

from __future__ import annotations

import ast
import builtins
import difflib
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

import chunkarr
from chunkarr.errors import ExpressionError
from chunkarr.namespace import not_yet

SELF = ("np", "numpy", "chunkarr")
"""Names that stand for chunkarr's namespace."""
CHAPTERS = ("linalg", "fft")

CONSTANTS = {name: getattr(np, name) for name in ("pi", "e", "inf", "nan", "euler_gamma")}
CONSTANTS["newaxis"] = None
DTYPES = {
    name: getattr(np, name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128", "intp"),
    )
} | {"int": int, "float": float, "complex": complex}

ATTRIBUTES = frozenset(("T", "mT", "real", "imag", "shape", "dtype", "ndim", "size", "nbytes"))
METHODS = frozenset(
    (
        *("all", "any", "argmax", "argmin", "argsort", "astype", "clip", "compress", "conj"),
        *("conjugate", "copy", "cumprod", "cumsum", "diagonal", "dot", "flatten", "max", "mean"),
        *("min", "nonzero", "prod", "ravel", "repeat", "reshape", "round", "searchsorted"),
        *("squeeze", "std", "sum", "swapaxes", "take", "trace", "transpose", "var"),
    )
)
FORBIDDEN = frozenset(
    (
        *("apply_along_axis", "apply_over_axes", "asmatrix", "bmat", "copyto", "einsum_path"),
        *("fill_diagonal", "from_dlpack", "frombuffer", "fromfile", "fromfunction", "fromiter"),
        *("frompyfunc", "fromregex", "fromstring", "genfromtxt", "get_include"),
        *("get_printoptions", "getbufsize", "geterr", "geterrcall", "info", "load", "loadtxt"),
        *("mask_indices", "memmap", "nested_iters", "piecewise", "place", "printoptions", "put"),
        *("put_along_axis", "putmask", "save", "savetxt", "savez", "savez_compressed"),
        *("set_printoptions", "setbufsize", "seterr", "seterrcall", "show_config"),
        *("show_runtime", "test"),
    )
)
"""NumPy's names that touch files, change arrays or NumPy itself, or call other functions."""

BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.MatMult: operator.matmul,
    ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_,
    ast.BitXor: operator.xor,
    ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
}
COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
INSTEAD: dict[type[ast.AST], str] = {
    ast.BoolOp: "`and` and `or` are not for arrays; write (x) & (y) or (x) | (y)",
    ast.Not: "`not` is not for arrays; write ~(x)",
    ast.In: "`in` is not for arrays; write isin(x, values)",
    ast.NotIn: "`not in` is not for arrays; write ~isin(x, values)",
    ast.Is: "`is` compares objects; write x == y",
    ast.IsNot: "`is not` compares objects; write x != y",
    ast.IfExp: "`if` is not for arrays; write where(condition, x, y)",
    ast.Lambda: "functions cannot be defined here",
    ast.NamedExpr: "nothing can be assigned here",
    ast.JoinedStr: "formatted strings are not evaluated here",
    ast.Starred: "arguments cannot be unpacked here",
    ast.Dict: "dictionaries are not used here",
    ast.Set: "sets are not used here; write a list",
    ast.ListComp: "loops are not evaluated here; write an array expression",
    ast.GeneratorExp: "loops are not evaluated here; write an array expression",
    ast.SetComp: "loops are not evaluated here; write an array expression",
    ast.DictComp: "loops are not evaluated here; write an array expression",
}
SHOWN_MAX = 100
"""Characters of the text that an error shows."""
INTEGER_BITS_MAX = 4096
"""Integers longer than this are refused: 9**9**9 would be computed for hours."""


def evaluate(text: str, names: Mapping[str, Any]) -> Any:
    """Evaluate a NumPy expression over named arrays; raise `ExpressionError` for anything else.

    >>> evaluate("np.pi > 3 ", {})
    True
    """
    stripped = re.sub(r"\s*\n\s*", " ", text.strip())
    for name in names:
        if name in SELF:
            raise _pointed(stripped, 0, f"{name} stands for NumPy; name the array otherwise")
    try:
        tree = ast.parse(stripped, mode="eval")
    except SyntaxError as error:
        reason = f"not an expression: {error.msg}" if stripped else "the expression is empty"
        raise _pointed(stripped, max(0, (error.offset or 1) - 1), reason) from None
    except (RecursionError, MemoryError, ValueError) as error:
        raise _pointed(stripped, 0, f"cannot be read: {error}") from None
    try:
        return _Walk(stripped, names).value(tree.body)
    except RecursionError:
        raise _pointed(stripped, 0, "nested too deeply") from None


def _pointed(text: str, column: int, reason: str) -> ExpressionError:
    """Make an error that shows the text around a column, so that the pointer stays in sight."""
    start = max(0, column - SHOWN_MAX // 2) if len(text) > SHOWN_MAX else 0
    return ExpressionError(text[start : start + SHOWN_MAX], column - start, reason)


class _Walk:
    """One evaluation: the text for pointing at, and the arrays."""

    def __init__(self, text: str, names: Mapping[str, Any]) -> None:
        self.text = text
        self.names = names

    def value(self, node: ast.expr) -> Any:
        """Give the value of a node."""
        match node:
            case ast.Constant(value=constant) if not isinstance(constant, bytes):
                return constant
            case ast.Name(id=name):
                return self.named(node, name)
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Attribute():
                return self.attribute(node)
            case ast.Subscript(value=base, slice=index):
                return self.at(node, operator.getitem, self.value(base), self.index(index))
            case ast.Call():
                return self.call(node)
            case ast.UnaryOp(op=sign, operand=operand) if type(sign) in UNARY:
                return self.at(node, UNARY[type(sign)], self.number(operand))
            case ast.BinOp(left=left, op=sign, right=right):
                values = self.number(left), self.number(right)
                self.check_size(node, *values)
                return self.at(node, BINARY[type(sign)], *values)
            case ast.Compare(left=left, ops=[sign], comparators=[right]) if type(sign) in COMPARE:
                return self.at(node, COMPARE[type(sign)], self.number(left), self.number(right))
            case _:
                raise self.refusal_of_kind(node)

    def number(self, node: ast.expr) -> Any:
        """Give the value of an operand; text and lists have operators that are not NumPy's."""
        value = self.value(node)
        if isinstance(value, str | list | tuple | type) or value is None or value is ...:
            raise self.refusal(node, f"{type(value).__name__} cannot be calculated with")
        return value

    def named(self, node: ast.expr, name: str) -> Any:
        """Give the value of a plain name: an array, a constant or a dtype."""
        if name in self.names:
            return self.names[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        if name in DTYPES:
            return DTYPES[name]
        if name in functions():
            raise self.refusal(node, f"{name} is a function; call it: {name}(...)")
        raise self.unknown(node, "name", name, [*self.names, *CONSTANTS, *DTYPES, *functions()])

    def index(self, node: ast.expr) -> Any:
        """Give the value of what stands between brackets."""
        match node:
            case ast.Slice():
                parts = node.lower, node.upper, node.step
                return slice(*(None if part is None else self.value(part) for part in parts))
            case ast.Tuple(elts=items):
                return tuple(self.index(item) for item in items)
            case _:
                return self.value(node)

    def attribute(self, node: ast.Attribute) -> Any:
        """Give an attribute that is on the list, or a constant or dtype of `np`."""
        path = self.path(node)
        if path is not None:
            known = {**CONSTANTS, **DTYPES}
            name = ".".join(path)
            if name in known:
                return known[name]
            chapter = path[0] if len(path) > 1 else ""
            if chapter in ("", *CHAPTERS) and path[-1] in functions(chapter):
                raise self.refusal(node, f"{name} is a function; call it: {name}(...)")
            raise self.unknown(node, "name", name, [*known, *functions()])
        if node.attr in METHODS:
            raise self.refusal(node, f".{node.attr} is a method; call it: .{node.attr}(...)")
        if node.attr not in ATTRIBUTES:
            raise self.unknown(node, "attribute", node.attr, [*ATTRIBUTES, *METHODS])
        return self.at(node, getattr, self.value(node.value), node.attr)

    def call(self, node: ast.Call) -> Any:
        """Call a function of the namespace, or a method that is on the list."""
        function = self.callee(node.func)
        arguments = [self.value(argument) for argument in node.args]
        keywords = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.refusal(keyword.value, INSTEAD[ast.Starred])
            if keyword.arg == "out":
                raise self.refusal(keyword.value, "nothing can be written to here; leave out= away")
            keywords[keyword.arg] = self.value(keyword.value)
        return self.at(node, function, *arguments, **keywords)

    def callee(self, node: ast.expr) -> Callable[..., Any]:
        """Find what a call names: a function of the namespace, or a method that is on the list."""
        path = self.path(node)
        if path is not None:
            return self.function(node, path)
        if isinstance(node, ast.Name):
            raise self.refusal(node, f"{node.id} is an array and cannot be called")
        if not isinstance(node, ast.Attribute):
            raise self.refusal(node, "only functions of NumPy can be called")
        if node.attr not in METHODS:
            raise self.unknown(node, "method", node.attr, [*METHODS, *ATTRIBUTES])
        base = self.value(node.value)
        try:
            method: Callable[..., Any] = getattr(base, node.attr)
        except AttributeError:
            raise self.refusal(node, str(not_yet(node.attr))) from None
        return method

    def path(self, node: ast.expr) -> tuple[str, ...] | None:
        """Give a dotted name below `np` that no array hides, or None: ("linalg", "norm")."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.names:
            return None
        if node.id in SELF and parts:
            return tuple(parts)
        return (node.id, *parts) if not parts or node.id in CHAPTERS else None

    def scalar(self, node: ast.expr, name: str) -> Callable[..., Any]:
        """Make a dtype's name callable, as `float32(3)` is in NumPy, for numbers and arrays."""

        def convert(value: Any = 0) -> Any:
            if isinstance(value, str | list | tuple):
                raise self.refusal(node, f"{name}(...) converts numbers and arrays only")
            dtype = DTYPES[name]
            return value.astype(dtype) if hasattr(value, "astype") else dtype(value)

        return convert

    def function(self, node: ast.expr, path: tuple[str, ...]) -> Callable[..., Any]:
        """Find a function of chunkarr by NumPy's name for it."""
        name = ".".join(path)
        if name in DTYPES:
            return self.scalar(node, name)
        if name in FORBIDDEN:
            raise self.refusal(node, f"{name} is not for expressions")
        chapter = path[0] if len(path) > 1 else ""
        if len(path) > 2 or chapter not in ("", *CHAPTERS):
            raise self.unknown(node, "function", name, CHAPTERS)
        if path[-1] not in functions(chapter):
            known = [f"{chapter}.{other}" if chapter else other for other in functions(chapter)]
            raise self.unknown(node, "function", name, known)
        home = getattr(chunkarr, chapter) if chapter else chunkarr
        try:
            found: Callable[..., Any] = getattr(home, path[-1])
        except AttributeError:
            raise self.refusal(node, str(not_yet(name))) from None
        return found

    def at(self, node: ast.expr, action: Callable[..., Any], *values: Any, **keywords: Any) -> Any:
        """Act, and let an error say at which part of the expression."""
        try:
            return _called_from(self.column(node))(action, values, keywords)
        except ExpressionError:
            raise
        except Exception as error:
            if not getattr(error, "__notes__", None):
                source = ast.unparse(node)
                shown = source if len(source) <= 60 else source[:57] + "..."
                error.add_note(f"in `{shown}`, column {self.column(node) + 1} of the expression")
            raise

    def check_size(self, node: ast.BinOp, left: Any, right: Any) -> None:
        """Refuse powers of plain integers that no computer finishes."""
        if type(left) is not int or type(right) is not int or right <= 0:
            return
        bits = {
            ast.Pow: left.bit_length() * right,
            ast.LShift: left.bit_length() + right,
            ast.Mult: left.bit_length() + right.bit_length(),
        }
        if bits.get(type(node.op), 0) > INTEGER_BITS_MAX:
            raise self.refusal(node, "this integer is too long; write a float such as 2.0")

    def column(self, node: ast.AST) -> int:
        """Give the column in characters; Python counts the bytes of UTF-8."""
        return len(self.text.encode()[: getattr(node, "col_offset", 0)].decode(errors="ignore"))

    def refusal(self, node: ast.AST, reason: str) -> ExpressionError:
        """Make the error that points at a node and says why it is refused."""
        return _pointed(self.text, self.column(node), reason)

    def refusal_of_kind(self, node: ast.expr) -> ExpressionError:
        """Make the error for a kind of node that is not evaluated; name what to write instead."""
        match node:
            case ast.Compare(ops=[kind]) | ast.UnaryOp(op=kind):
                pass
            case ast.Compare():
                reason = "comparisons of arrays cannot be chained; write (x < y) & (y < z)"
                return self.refusal(node, reason)
            case kind:
                pass
        reason = f"{type(kind).__name__} is not evaluated here"
        return self.refusal(node, INSTEAD.get(type(kind), reason))

    def unknown(self, node: ast.AST, what: str, name: str, known: Iterable[str]) -> ExpressionError:
        """Make the error for a name that is not known, with the nearest one that is."""
        if any(part.startswith("_") for part in name.split(".")):
            return self.refusal(node, f"{what} {name} is private")
        close = difflib.get_close_matches(name, sorted(set(known)), n=1, cutoff=0.6)
        hint = f"; did you mean {close[0]}?" if close else ""
        if not close and what == "name" and self.names:
            hint = f"; arrays: {', '.join(self.names)}"
        return self.refusal(node, f"unknown {what} {name}{hint}")


def _called_from(column: int) -> Callable[..., Any]:
    """Make a function that calls as if from "expression:5", which is what plans and errors name."""
    code = _call.__code__.replace(co_filename="expression", co_firstlineno=column + 1)
    return FunctionType(code, {"__name__": "expression", "__builtins__": builtins})


_call: Any = lambda action, values, keywords: action(*values, **keywords)  # noqa: E731 - one line


@cache
def functions(chapter: str = "") -> frozenset[str]:
    """Give the names of functions that an expression may call, of `np` or of a chapter of it.

    NumPy says which names are functions; chunkarr answers for those that it does not have.
    """
    home = getattr(np, chapter) if chapter else np
    return frozenset(
        name
        for name in home.__all__
        if callable(getattr(home, name, None))
        and not isinstance(getattr(home, name), type)
        and (chapter or name not in FORBIDDEN)
    ) | (frozenset() if chapter else frozenset(("rechunk",)))
