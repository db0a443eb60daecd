"""sinh, cosh, tanh and their inverses.

e^x = 2^n (cosh r + sinh r) and e^-x = 2^-n (cosh r - sinh r), so that sinh and cosh need one
reduction, no division, and lose nothing near zero. tanh x = e / (e + 2) with e = e^(2x) - 1 in two
parts; in float32, a polynomial or 1 - 2 / (e^(2x) + 1).

The inverses are logarithms of some t, hence k ln 2 + 2 artanh(s) with s = (m - 1) / (m + 1) and
t = 2^k m. Where k = 0, s is tanh of half the result, and known without the cancellation of m - 1:
x / (1 + sqrt(x^2 + 1)) for arcsinh, (x - 1) / sqrt(x^2 - 1) for arccosh, and x itself for arctanh
(Abramowitz and Stegun, 4.6). So all of them need one division. The coefficients are minimax (Remez'
exchange in 90 digits).
"""

from __future__ import annotations

from collections.abc import Callable

from chunkarr.kernels.vecmath.circular import quotient
from chunkarr.kernels.vecmath.exponential import (
    EXP,
    LN2,
    LOG2_E,
    biased,
    expm1_parts,
    power_of_two,
    reduce_exp,
)
from chunkarr.kernels.vecmath.logarithm import INF, SHIFT_BITS, inverse_power, split
from chunkarr.kernels.vecmath.values import (
    Coefficients,
    Value,
    any_two_sum,
    at_most,
    copysign,
    fabs,
    fma,
    parts,
    polynomial,
    select,
    sqrt,
    two_sum,
)

SINH = Coefficients(
    double=(
        0.16666666666666677, 0.008333333333321579, 0.00019841269886265882, 2.755724406228596e-06,
        2.5109090274143367e-08,
    ),
    single=(0.1666666716337204, 0.00833317544311285, 0.00019974067981820554),
)  # fmt: skip
"""(sinh(r) / r - 1) / r^2 for |r| <= ln(2) / 2; 2**-60 and 2**-34 of sinh(r)."""
COSH = Coefficients(
    double=(
        0.041666666666602736, 0.0013888888927297254, 2.4801508047981613e-05, 2.76254403593184e-07,
    ),
    single=(0.041666485369205475, 0.001393308979459107),
)  # fmt: skip
"""(cosh(r) - 1 - r^2/2) / r^4 for the same; 2**-57 and 2**-32 of cosh(r)."""
TANH_SHORT = (
    -0.3333328068256378, 0.13331441581249237, -0.05373971164226532, 0.020639080554246902,
    -0.005704979877918959,
)  # fmt: skip
"""(tanh(x) / x - 1) / x^2 for |x| <= 0.625; 2**-27.8 of tanh(x)."""
NEAR = 0.625
EXP_TWICE = (1.0, 2.0, *(c * 2.0**k for k, c in enumerate(EXP.single, 2)))
"""e^(2 r) for |r| <= ln(2) / 4."""
ARTANH = Coefficients(
    double=(
        0.6666666666666669, 0.39999999999983843, 0.2857142857559299, 0.22222221723378474,
        0.18181851116981668, 0.15383323112110386, 0.13364161213692463, 0.11328427169100683,
        0.13838259286783888,
    ),
    single=(0.6666665077209473, 0.4000278413295746, 0.28427329659461975, 0.2507050633430481),
)  # fmt: skip
"""(log((1 + s) / (1 - s)) / s - 2) / s^2 for |s| <= tanh(1/4); 2**-63 and 2**-32 of log."""
SINH_HALF = 0.5210953054937474
"""The number whose arcsinh is 1/2."""
COSH_HALF = 1.127625965206381


def _halves(x: Value) -> tuple[Value, Value, Value, Value]:
    """Give sinh(r), cosh(r) - 1, 2**(n-2) and 2**(-n-2) with |x| = n ln 2 + r."""
    shift = biased(x, -2)
    # From here on, both functions are infinite.
    highest = 89.45 if x.single else 710.48
    shifted, r, low = reduce_exp(at_most(fabs(x), highest), shift)
    z = r * r
    cosine = fma(z * z, polynomial(z, COSH), z * 0.5)
    sine = r + fma(r * z, polynomial(z, SINH), fma(low, cosine, low))
    other = 2.0 * shift - shifted
    other = select(other < shift - 98.0, shift - 98.0, other)
    return sine, cosine, power_of_two(shifted), power_of_two(other)


def sinh(x: Value) -> Value:
    """Give the hyperbolic sine."""
    sine, cosine, grows, shrinks = _halves(x)
    first, error = two_sum(grows, -shrinks)
    second = grows + shrinks
    result = 2.0 * (first + fma(second, sine, fma(first, cosine, error)))
    return select(fabs(x) < _near_itself(x), x, copysign(result, x))


def _near_itself(x: Value) -> float:
    """Give up to where sinh and arcsinh of a number are that number."""
    return 2.0 ** (-x.format.mantissa // 2 - 2)


def cosh(x: Value) -> Value:
    """Give the hyperbolic cosine."""
    sine, cosine, grows, shrinks = _halves(x)
    first = grows - shrinks
    second, error = two_sum(grows, shrinks)
    return 2.0 * (second + fma(first, sine, fma(second, cosine, error)))


def tanh(x: Value) -> Value:
    """Give the hyperbolic tangent."""
    if x.single:
        return _short_tanh(x)
    above, above_low = expm1_parts(at_most(fabs(x) * 2.0, 44.0))
    below, below_low = any_two_sum(above, above.like(2.0))
    return copysign(quotient(above, above_low, below, below_low + above_low), x)


def _short_tanh(x: Value) -> Value:
    size = fabs(x)
    far = at_most(size, 10.0)
    shifted = fma(far, 2.0 * LOG2_E, biased(x))
    r = fma(biased(x) - shifted, LN2[0] / 2, far)
    far = 1.0 - 2.0 / fma(polynomial(r, EXP_TWICE), power_of_two(shifted), 1.0)
    z = x * x
    near = fma(x * z, polynomial(z, TANH_SHORT), x)
    return copysign(select(size < NEAR, near, far), x)


def _logarithm(k: Value, s: Value, near: Value, tail: Value) -> Value:
    """Give k ln 2 + near + tail + s^3 p(s), with near + tail = 2 s and |s| <= tanh(1/4)."""
    z = s * s
    ln2, ln2_low = parts(k, *LN2)
    return fma(k, ln2, near + fma(s * z, polynomial(z, ARTANH), fma(k, ln2_low, tail)))


def _divided(above: Value, below: Value, below_low: Value, inverse: Value) -> tuple[Value, Value]:
    """Give above / (below + below_low) in two parts, for inverse = 1 / below."""
    s = above * inverse
    return s, fma(-s, below_low, fma(-s, below, above)) * inverse


def _limit(x: Value) -> float:
    """Give from where on x^2 + 1 and x^2 - 1 are x^2."""
    return 2.0 ** (x.format.mantissa // 2 + 2)


Near = tuple[Value, Value, Value, Callable[[Value], Value]]
"""Where a result is below 1/2, and tanh of half of it: a quotient of which the divisor's rounding
error comes from its inverse."""


def _log_of_sum(x: Value, terms: tuple[Value, Value], close: Near) -> Value:
    """Give the logarithm of a sum of two terms, the larger one first; that of x + x for a large x.

    Close to zero, it is known without the cancellation of that sum.
    """
    near, above, below, below_low = close
    large = x > _limit(x)
    total, low = two_sum(*terms)
    k, m, raised = split(select(large, x, total))
    k = select(near, 0.0, select(large, k + 1.0, k))
    f, low = two_sum(m - 1.0, select(large, 0.0, low * inverse_power(raised)))
    below = select(near, below, f + 2.0)
    inverse = 1.0 / below
    s, s_low = _divided(select(near, above, f), below, below_low(inverse), inverse)
    # 2 s is f - s f, of which the first part is exact.
    tail = select(near, s_low + s_low, fma(-s, f, low))
    return _logarithm(k, s, select(near, s + s, f), tail)


def arcsinh(x: Value) -> Value:
    """Give the number whose hyperbolic sine is x."""
    size = fabs(x)
    part = at_most(size, _limit(x))
    root = sqrt(fma(part, part, 1.0))
    below, low = two_sum(root, root.like(1.0))
    result = _log_of_sum(size, (root, part), (size < SINH_HALF, size, below, lambda _: low))
    regular = (size > _near_itself(x)) & (size < INF)
    return copysign(select(regular, result, size), x)


def arccosh(x: Value) -> Value:
    """Give the number x >= 0 whose hyperbolic cosine is x; NaN below 1."""
    part = at_most(x, _limit(x))
    square = select(x < 1.0, -1.0, fma(part, part, -1.0))
    root = sqrt(square)
    below = select(x.equals(1.0), 1.0, root)

    def low(inverse: Value) -> Value:
        return fma(-root, root, square) * (0.5 * inverse)

    result = _log_of_sum(x, (part, root), (x < COSH_HALF, x - 1.0, below, low))
    return select(x < INF, select(x < 1.0, root, result), x)


def arctanh(x: Value) -> Value:
    """Give the number whose hyperbolic tangent is x; NaN beyond -1 and 1.

    k is about the difference of the bits of 1 + x and of 1 - x, as if these were logarithms. Where
    there is no result, infinity times something says so.
    """
    size = fabs(x)
    up, up_low = two_sum(size.like(1.0), size)
    down, down_low = two_sum(size.like(1.0), -size)
    place, offset = x.format.mantissa, x.format.bias + 1
    raised = up.bits() - down.bits() + ((offset << place) + (1 << (place - 1)))
    k = ((raised >> place) | SHIFT_BITS[place]).floats() - (x.format.shift + offset)
    scale = inverse_power(raised & ~x.format.fraction)
    near = k.equals(0.0)
    up, up_low = up * scale, up_low * scale
    total, error = any_two_sum(up, down)
    above = select(near, size + size, (up - down) + (up_low - down_low))
    below = select(near, 2.0, total)
    below_low = select(near, 0.0, error + (up_low + down_low))
    above = select(size < 1.0, above, select(size > 1.0, 0.0, size))
    below = select(size >= 1.0, 0.0, below)
    s, low = _divided(above, below, below_low, 1.0 / below)
    return copysign(select(size < 1.0, 0.5 * _logarithm(k, s, s + s, low + low), s), x)
