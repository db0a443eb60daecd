"""Compiled forms of values that are more than one number of the processor: complex, half, times.

Complex numbers follow NumPy's loops to the bit. A product is two products and a sum for each part,
and whether the second product is fused with the sum depends on the processor and on NumPy's build;
it is found out by multiplying. Quotients are Smith's. Halves are held in single precision and
rounded after each operation, which is what NumPy does. Times are 64-bit integers of which the least
is NaT.
"""

from __future__ import annotations

import functools

import numpy as np

COMPARE = {
    "equal": "==", "not_equal": "!=", "less": "<", "less_equal": "<=",
    "greater": ">", "greater_equal": ">=",
}  # fmt: skip

_NO_NAT = "({0} != nat) & ({1} != nat)"

TIMES = {
    "add": "(nat if ({0} == nat) | ({1} == nat) else {0} + {1})",
    "subtract": "(nat if ({0} == nat) | ({1} == nat) else {0} - {1})",
    "multiply by i": "(nat if {0} == nat else {0} * {1})",
    "multiply by f": "(nat if {0} == nat else duration_of({0} * {1}))",
    "divide by m": f"(f8({{0}}) / f8({{1}}) if {_NO_NAT} else nan)",
    **dict.fromkeys(
        ("divide by i", "floor_divide by i"),
        "(nat if ({0} == nat) | ({1} == 0) else duration_cut({0}, {1}))",
    ),
    **dict.fromkeys(
        ("divide by f", "floor_divide by f"), "(nat if {0} == nat else duration_of({0} / {1}))"
    ),
    **dict.fromkeys(
        ("floor_divide by m", "divmod by m"),
        f"(integer_floor_divide({{0}}, {{1}}) if {_NO_NAT} else 0)",
    ),
    **dict.fromkeys(
        ("remainder by m", "divmod:1 by m"),
        f"(integer_remainder({{0}}, {{1}}) if {_NO_NAT} & ({{1}} != 0) else nat)",
    ),
    "negative": "i8(0) - {0}",
    "positive": "{0}",
    "absolute": "({0} if {0} >= 0 else i8(0) - {0})",
    "minimum": "({0} if {0} < {1} else {1})",
    "maximum": "({0} if ({0} == nat) | (({1} != nat) & ({0} > {1})) else {1})",
    "fmin": "({1} if {0} == nat else ({0} if ({1} == nat) | ({0} < {1}) else {1}))",
    "fmax": "({0} if {0} > {1} else {1})",
    "isnat": "{0} == nat",
    "isnan": "{0} == nat",
    "isinf": "{0} != {0}",
    "isfinite": "{0} != nat",
    "sign": "(i8(1) if {0} > 0 else (i8(-1) if {0} < 0 else i8(0)))",
    **{name: f"({{0}} {sign} {{1}}) & {_NO_NAT}" for name, sign in COMPARE.items()},
    "not_equal": "({0} != {1}) | ({0} == nat)",
}

_TRUE = "(({{{0}}}.real != 0) | ({{{0}}}.imag != 0))"
_NAN = "(({{{0}}}.real != {{{0}}}.real) | ({{{0}}}.imag != {{{0}}}.imag))"

COMPLEX = {
    "add": "cplx({0}.real + {1}.real, {0}.imag + {1}.imag)",
    "subtract": "cplx({0}.real - {1}.real, {0}.imag - {1}.imag)",
    "multiply": "complex_product_{how}({0}, {1})",
    "square": "complex_product_{how}({0}, {0})",
    "divide": "complex_quotient({0}, {1})",
    "true_divide": "complex_quotient({0}, {1})",
    "reciprocal": "complex_reciprocal({0})",
    "negative": "cplx(fneg({0}.real), fneg({0}.imag))",
    "positive": "{0}",
    "conjugate": "cplx({0}.real, fneg({0}.imag))",
    "real": "{0}.real",
    "imag": "{0}.imag",
    "equal": "({0}.real == {1}.real) & ({0}.imag == {1}.imag)",
    "not_equal": "({0}.real != {1}.real) | ({0}.imag != {1}.imag)",
    "isnan": "({0}.real != {0}.real) | ({0}.imag != {0}.imag)",
    "isinf": "(fabs({0}.real) == inf) | (fabs({0}.imag) == inf)",
    "isfinite": "(fabs({0}.real) < inf) & (fabs({0}.imag) < inf)",
    "logical_not": "({0}.real == 0) & ({0}.imag == 0)",
    "logical_and": f"{_TRUE.format(0)} & {_TRUE.format(1)}",
    "logical_or": f"{_TRUE.format(0)} | {_TRUE.format(1)}",
    "logical_xor": f"{_TRUE.format(0)} != {_TRUE.format(1)}",
    "rint": "cplx(rint({0}.real), rint({0}.imag))",
    "less": "complex_less({0}, {1})",
    "less_equal": "complex_less_equal({0}, {1})",
    "greater": "complex_less({1}, {0})",
    "greater_equal": "complex_less_equal({1}, {0})",
    "minimum": f"({{0}} if {_NAN.format(0)} | complex_less_equal({{0}}, {{1}}) else {{1}})",
    "maximum": f"({{0}} if {_NAN.format(0)} | complex_less_equal({{1}}, {{0}}) else {{1}})",
    "fmin": f"({{0}} if {_NAN.format(1)} | complex_less_equal({{0}}, {{1}}) else {{1}})",
    "fmax": f"({{0}} if {_NAN.format(1)} | complex_less_equal({{1}}, {{0}}) else {{1}})",
}

FUNCTIONS = {
    "complex_": """
@inline
def complex_product_plain(x, y):
    return cplx(x.real * y.real - x.imag * y.imag, x.real * y.imag + x.imag * y.real)
@inline
def complex_product_fused(x, y):
    return cplx(fused(x.real, y.real, fneg(x.imag * y.imag)),
                fused(x.real, y.imag, x.imag * y.real))
@inline
def complex_quotient(x, y):
    wide = fabs(y.real) >= fabs(y.imag)
    above = y.imag if wide else y.real
    below = y.real if wide else y.imag
    zero = (y.real == 0) & (y.imag == 0)
    ratio = above / below
    scale = one(y.real) / (below + above * ratio)
    re = (x.real + x.imag * ratio) * scale if wide else (x.real * ratio + x.imag) * scale
    im = (x.imag - x.real * ratio) * scale if wide else (x.imag * ratio - x.real) * scale
    return cplx(x.real / fabs(y.real) if zero else re, x.imag / fabs(y.real) if zero else im)
@inline
def complex_less(x, y):
    numbers = (x.imag == x.imag) & (y.imag == y.imag)
    return ((x.real < y.real) & numbers) | ((x.real == y.real) & (x.imag < y.imag))
@inline
def complex_less_equal(x, y):
    numbers = (x.imag == x.imag) & (y.imag == y.imag)
    return ((x.real < y.real) & numbers) | ((x.real == y.real) & (x.imag <= y.imag))
@inline
def complex_reciprocal(x):
    wide = fabs(x.imag) <= fabs(x.real)
    ratio = x.imag / x.real if wide else x.real / x.imag
    below = x.real + x.imag * ratio if wide else x.real * ratio + x.imag
    re = one(x.real) / below if wide else ratio / below
    im = fneg(ratio) / below if wide else fneg(one(x.real)) / below
    return cplx(re, im)
""",
    "duration_": """
@inline
def duration_of(number):
    inside = (number >= -9223372036854775808.0) & (number < 9223372036854775808.0)
    return i8(number) if inside else nat
@inline
def duration_cut(time, number):
    above = u8(time if time >= 0 else i8(0) - time)
    below = u8(number if number >= 0 else i8(0) - number)
    quotient = i8(integer_floor_divide(above, below))
    return i8(0) - quotient if (time < 0) != (number < 0) else quotient
""",
    "common_": """
@inline
def common_gcd(x, y):
    low, high = x | y, max(x, y)
    x, y = min(x, y), high
    if x != 0:
        x >>= zeros_below(x)
        while y != 0:
            y >>= zeros_below(y)
            x, y = min(x, y), max(x, y) - min(x, y)
        y = x << zeros_below(low)
    return y
@inline
def common_lcm(x, y):
    divisor = common_gcd(x, y)
    return x // divisor * y if divisor != 0 else divisor
""",
}
"""Functions that generated source may call, by how their names begin, defined in front of it.

The greatest common divisor is Stein's binary algorithm (J. Comput. Phys. 1, 1967): no divisions.
"""


@functools.cache
def product() -> str | None:
    """Tell how NumPy rounds products of complex numbers: "plain", "fused", or None for neither."""
    near = 1 + 2.0**-30
    # The product of `near` with itself is 1 + 2**-29 + 2**-60, of which only a fused one keeps all.
    ways, rest = {0.0: "plain", 2.0**-60: "fused"}, 1 + 2.0**-29
    re = (np.full(64, complex(near, rest)) * np.full(64, complex(near, 1))).real[0]
    im = (np.full(64, complex(near, -rest)) * np.full(64, complex(1, near))).imag[0]
    return ways.get(float(re)) if re == im else None
