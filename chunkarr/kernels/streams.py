"""Results written past the caches, where they are too many to be read from there.

A store to memory makes a processor read the line that it writes to. Stores that are not temporal
leave that out, a third of what passes over the bus for `x + 1`, but they have to be aligned, which
LLVM's loops of vectors cannot know. So such a loop is told that its results begin with a line: what
comes before the first whole line is computed into a block beside, and taken from there.

LLVM makes no vectors of a loop with such stores in it. Its vectors are marked when they are made.
"""

from __future__ import annotations

import re
from typing import Any

from llvmlite import ir

from chunkarr.kernels.spec import LINE_BYTES

VECTOR_BYTES_MIN = 32
"""Shorter vectors are written as ever: AArch64 has to take them apart for it."""

_I64 = ir.IntType(64)
_STORE = re.compile(
    r"^(  store <(?P<count>\d+) x (?P<kind>float|double|i\d+)> .*, align (?P<align>\d+))$",
    re.MULTILINE,
)
_MARK = "!9999"


def ahead(builder: Any, pointer: Any, width: int) -> Any:
    """Give the number of values from an address on that are in front of the next whole line."""
    offset = builder.and_(builder.neg(builder.ptrtoint(pointer, _I64)), _I64(LINE_BYTES - 1))
    return builder.udiv(offset, _I64(width))


def aligned(builder: Any, pointer: Any) -> Any:
    """Let LLVM know that a line begins at an address."""
    offset = builder.and_(builder.ptrtoint(pointer, _I64), _I64(LINE_BYTES - 1))
    builder.assume(builder.icmp_unsigned("==", offset, _I64(0)))
    return pointer


def settled(builder: Any) -> None:
    """Let other threads see what was written before they are told of it."""
    builder.fence("seq_cst")


def marked(text: str) -> str:
    """Let the vectors that LLVM's code stores be written past the caches.

    >>> marked("  store <8 x double> %a, ptr %b, align 64").splitlines()[0]
    '  store <8 x double> %a, ptr %b, align 64, !nontemporal !9999'
    """

    def mark(match: re.Match[str]) -> str:
        bits = {"float": 32, "double": 64}.get(match["kind"]) or int(match["kind"][1:])
        size = int(match["count"]) * bits // 8
        fits = size >= VECTOR_BYTES_MIN and int(match["align"]) >= min(size, LINE_BYTES)
        return f"{match[1]}, !nontemporal {_MARK}" if fits else match[1]

    return f"{_STORE.sub(mark, text)}\n{_MARK} = !{{i32 1}}\n"
