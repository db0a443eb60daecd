"""Errors of the elementary functions, in units in the last place, against mpmath.

`python -m tests.kernels.accuracy` measures all of them densely and writes docs/accuracy.md. The
functions give the same bits on every processor, and the samples are seeded, so that the page does
not depend on the machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mpmath
import numpy as np

from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.vecmath import PREFIX
from tests.kernels.support import Array, evaluate, kernels

PAGE = Path(__file__).resolve().parents[2] / "docs" / "accuracy.md"
DENSE = 4000
"""Operands of each kind for the page."""
COMPLEX_SHARE = 10
"""Complex numbers take as many times longer, and are drawn less often."""
PRECISION = 250
PRECISION_ANGLES = 1300
"""Bits with which sin(2**1000) is right."""
PRECISION_COMPLEX = 2400
"""Bits with which the smaller part is right whatever the larger one."""

Draw = Callable[[np.random.Generator, int], Array]


def even(low: float, high: float) -> Draw:
    """Draw evenly between bounds."""
    return lambda rng, count: rng.uniform(low, high, count)


def wide(low: int, high: int, *, positive: bool = False) -> Draw:
    """Draw numbers of any size between powers of two, of both signs."""

    def draw(rng: np.random.Generator, count: int) -> Array:
        drawn: Array = np.ldexp(rng.uniform(1, 2, count), rng.integers(low, high, count))
        return drawn if positive else drawn * rng.choice([-1.0, 1.0], count)

    return draw


def beside(*points: float) -> Draw:
    """Draw close to points where an approximation changes or cancels: adversaries."""

    def draw(rng: np.random.Generator, count: int) -> Array:
        near = rng.choice(points, count)
        found: Array = near + near * np.ldexp(
            rng.uniform(-1, 1, count), rng.integers(-52, -2, count)
        )
        return found

    return draw


def multiples(step: float, most: int) -> Draw:
    """Draw the floats closest to multiples, and their neighbours."""

    def draw(rng: np.random.Generator, count: int) -> Array:
        near = step * rng.integers(-most, most, count)
        found: Array = near + np.spacing(near) * rng.integers(-1, 2, count)
        return found

    return draw


HALF_PI, HALF_LN2 = np.pi / 2, np.log(2) / 2
EXP = (even(-1, 1), even(-745, 709), wide(-60, 9), multiples(HALF_LN2, 2000))
LOG = (even(0.5, 2), wide(-1074, 1024, positive=True), beside(1.0, 2**0.5, 0.5**0.5))
ANGLE = (even(-2, 2), even(-1000, 1000), wide(-1074, 1024), multiples(HALF_PI / 2, 1 << 40))
UNIT = (even(-1, 1), wide(-1074, 0), beside(-1.0, -0.5, 0.5), even(0.999, 1))
HYPERBOLIC = (even(-2, 2), even(-710, 710), wide(-1074, 9), multiples(HALF_LN2, 60))

ONE: dict[str, tuple[Any, tuple[Draw, ...]]] = {
    "exp": (mpmath.exp, EXP),
    "exp2": (lambda x: mpmath.mpf(2) ** x, (even(-1, 1), even(-1074, 1023), multiples(0.5, 2000))),
    "expm1": (mpmath.expm1, EXP),
    "log": (mpmath.log, LOG),
    "log2": (lambda x: mpmath.log(x, 2), LOG),
    "log10": (mpmath.log10, LOG),
    "log1p": (mpmath.log1p, (even(-0.9, 2), wide(-1074, 1000, positive=True), wide(-60, -1))),
    "sin": (mpmath.sin, ANGLE),
    "cos": (mpmath.cos, ANGLE),
    "tan": (mpmath.tan, ANGLE),
    "arcsin": (mpmath.asin, UNIT),
    "arccos": (mpmath.acos, UNIT),
    "arctan": (mpmath.atan, (even(-3, 3), wide(-1074, 1024), beside(2**0.5 - 1, 2**0.5 + 1))),
    "sinh": (mpmath.sinh, HYPERBOLIC),
    "cosh": (mpmath.cosh, HYPERBOLIC),
    "tanh": (mpmath.tanh, (even(-2, 2), even(-22, 22), wide(-1074, 5), multiples(HALF_LN2, 60))),
    "arcsinh": (mpmath.asinh, (even(-3, 3), wide(-1074, 1024), beside(2.0**28, 0.5, 1.2))),
    "arccosh": (mpmath.acosh, (even(1, 3), wide(1, 1024, positive=True), beside(1.0, 2.0**28))),
    "arctanh": (mpmath.atanh, UNIT),
    "cbrt": (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), (even(0.1, 10), wide(-1074, 1024))),
}
"""Functions of one operand: mpmath's, and what to draw operands from."""

EVERY = (even(-3, 3), wide(-30, 30), wide(-1074, 1024), wide(-1074, -1000), wide(1000, 1024))

ComplexDraw = Callable[[np.random.Generator, int], tuple[Array, Array]]


def pair(re: Draw, im: Draw) -> ComplexDraw:
    """Draw the parts of complex numbers."""
    return lambda rng, count: (re(rng, count), im(rng, count))


def circle(centre: float = 0.0) -> ComplexDraw:
    """Draw close to the unit circle around a point, where logarithms cancel."""

    def draw(rng: np.random.Generator, count: int) -> tuple[Array, Array]:
        angle, size = rng.uniform(-np.pi, np.pi, count), beside(1.0)(rng, count)
        return centre + size * np.cos(angle), size * np.sin(angle)

    return draw


def swapped(draws: tuple[ComplexDraw, ...]) -> tuple[ComplexDraw, ...]:
    """Exchange the parts."""
    return tuple(lambda rng, count, draw=draw: draw(rng, count)[::-1] for draw in draws)


NEAR, FAR, LOW = even(-3, 3), wide(-500, 500), wide(-1074, -900)
PLANE = (pair(NEAR, NEAR), pair(FAR, FAR), pair(wide(-40, 9), wide(-40, 9)))
GROWING = (
    *PLANE[::2],
    pair(even(-700, 700), even(-700, 700)),
    pair(beside(-745.0, -709.0, 709.0, 1400.0), wide(-1074, 0)),
    pair(multiples(HALF_LN2, 60), multiples(HALF_PI / 2, 1 << 30)),
    pair(NEAR, wide(40, 300)),
    pair(LOW, NEAR),
)
LOGARITHMIC = (*PLANE, circle(), pair(LOW, LOW), pair(wide(900, 1024), wide(900, 1024)))
INVERSE = (*LOGARITHMIC, pair(beside(-1.0, 1.0), wide(-500, 0)), pair(wide(-500, 0), even(-2, 2)))


def arctanh(z: Any) -> Any:
    """Compute without the shortcuts of mpmath, which lose small parts."""
    return (mpmath.log(1 + z) - mpmath.log(1 - z)) / 2


COMPLEX: dict[str, tuple[Any, tuple[ComplexDraw | tuple[ComplexDraw, ...], ...]]] = {
    "exp": (mpmath.exp, GROWING),
    "exp2": (ONE["exp2"][0], GROWING[:-2]),
    "expm1": (lambda z: mpmath.exp(z) - 1, GROWING),
    "sin": (mpmath.sin, swapped(GROWING)),
    "cos": (mpmath.cos, swapped(GROWING)),
    "tan": (mpmath.tan, swapped(GROWING)),
    "sinh": (mpmath.sinh, GROWING),
    "cosh": (mpmath.cosh, GROWING),
    "tanh": (mpmath.tanh, GROWING),
    "sqrt": (mpmath.sqrt, LOGARITHMIC),
    "sign": (lambda z: z / abs(z), PLANE),
    "log": (mpmath.log, LOGARITHMIC),
    "log2": (ONE["log2"][0], LOGARITHMIC),
    "log10": (mpmath.log10, LOGARITHMIC),
    "log1p": (lambda z: mpmath.log(1 + z), (*LOGARITHMIC, circle(-1.0))),
    "arcsin": (mpmath.asin, INVERSE),
    "arccos": (mpmath.acos, INVERSE),
    "arctan": (lambda z: arctanh(z * 1j) / 1j, swapped(INVERSE)),
    "arcsinh": (mpmath.asinh, swapped(INVERSE)),
    "arccosh": (mpmath.acosh, INVERSE),
    "arctanh": (arctanh, INVERSE),
    "power": (
        mpmath.power,
        (
            (pair(NEAR, NEAR), pair(NEAR, NEAR)),
            (circle(), pair(even(-5, 5), even(-5, 5))),
            (pair(wide(-10, 10), wide(-10, 10)), pair(even(-1, 1), even(-1, 1))),
        ),
    ),
}
"""Functions of complex numbers."""
WHOLE = {"expm1", "power"}
"""Functions whose parts cancel where they are small beside the other: errors are of the whole."""

TWO: dict[str, tuple[Any, tuple[tuple[Draw, Draw], ...]]] = {
    "power": (
        mpmath.power,
        (
            (even(0.5, 2), even(-5, 5)),
            (wide(-1074, 1024, positive=True), even(-2, 2)),
            (beside(1.0), even(-6000, 6000)),
            (even(0.999999, 1.000001), wide(15, 29)),
            (even(0.7, 1.5), even(-2000, 2000)),
            (even(0.7, 1.5), even(-250, 250)),
        ),
    ),
    "arctan2": (mpmath.atan2, tuple((draw, draw) for draw in EVERY)),
    "hypot": (mpmath.hypot, tuple((draw, draw) for draw in EVERY)),
}
"""Functions of two operands; what is drawn for the second has the same place."""


REFERENCES: dict[str, dict[str, tuple[Any, Any]]] = {"f": {**ONE, **TWO}, "c": {**COMPLEX}}


def program(name: str, dtype: np.dtype[Any], count: int) -> Program:
    """A program of one of our functions."""
    op = Op(PREFIX + name, tuple(range(count)), (dtype,) * count, dtype)
    return Program((dtype,) * count, (op,), (count,))


def computed(name: str, operands: list[Array]) -> Array:
    """What our function gives."""
    with kernels("compiled"):
        one = program(name, operands[0].dtype, len(operands))
        found: Array = evaluate(one, operands, operands[0].shape)[0]
    return found


def errors(name: str, operands: list[Array]) -> Iterator[float]:
    """Errors in units in the last place, where the exact result is a float within the range."""
    kind = operands[0].dtype.kind
    reference, number = REFERENCES[kind][name][0], mpmath.mpc if kind == "c" else mpmath.mpf
    info = np.finfo(operands[0].dtype)
    found = computed(name, operands)
    precision = PRECISION_ANGLES if name in {"sin", "cos", "tan"} else PRECISION
    with mpmath.workprec(PRECISION_COMPLEX if kind == "c" else precision):
        for got, *given in zip(found.tolist(), *(x.tolist() for x in operands), strict=True):
            exact = reference(*map(number, given))
            if (kind == "f" and isinstance(exact, mpmath.mpc)) or abs(exact) > float(info.max):
                continue
            error = number(got) - exact
            parts = [(error, exact)]
            if kind == "c" and name not in WHOLE:
                parts = [(error.real, exact.real), (error.imag, exact.imag)]
            for wrong, right in parts:
                size = max(float(abs(right)), float(info.smallest_normal))
                unit = mpmath.ldexp(1, int(np.frexp(size)[1]) - info.nmant - 1)
                yield float(abs(wrong) / unit)


def samples(name: str, dtype: str, count: int) -> Iterator[list[Array]]:
    """Operands of every kind, finite, not zero, and seeded."""
    if np.dtype(dtype).kind == "c":
        yield from complex_samples(name, dtype, count)
        return
    draws: list[tuple[Draw, ...]]
    draws = [(draw,) for draw in ONE[name][1]] if name in ONE else list(TWO[name][1])
    for place, kind in enumerate(draws):
        rng = np.random.default_rng([place, len(name)])
        with np.errstate(all="ignore"):
            operands = [draw(rng, count).astype(dtype) for draw in kind]
        whole = np.logical_and.reduce([np.isfinite(x) & (x != 0) for x in operands])
        yield [x[whole] for x in operands]


def complex_samples(name: str, dtype: str, count: int) -> Iterator[list[Array]]:
    """Complex operands of every kind, finite, without zeros, and seeded."""
    for place, draws in enumerate(COMPLEX[name][1]):
        rng = np.random.default_rng([place, len(name)])
        operands = []
        for draw in draws if isinstance(draws, tuple) else (draws,):
            z = np.empty(count, dtype)
            with np.errstate(all="ignore"):
                z.real, z.imag = draw(rng, count)
            operands.append(z)
        whole = np.logical_and.reduce(
            [np.isfinite(z) & (z.real != 0) & (z.imag != 0) for z in operands]
        )
        yield [z[whole] for z in operands]


def worst(name: str, dtype: str, count: int) -> float:
    """Largest error over operands of every kind."""
    return max(max(errors(name, operands), default=0.0) for operands in samples(name, dtype, count))


def page(count: int) -> str:
    """The page of the documentation."""
    lines = [
        "# Accuracy of the elementary functions",
        "",
        "Arrays from 4 Mi elements on are computed with functions of chunkarr's own, smaller ones",
        "with NumPy's; see the section on kernels in [how it is built](design.md). Below is the",
        "largest error that was found, in units in the last place (ULP) of the exact result,",
        "against mpmath: 0.5 would be correctly rounded. Operands are drawn evenly, over all",
        "exponents, and close to where results cancel or a function changes its way, subnormal",
        "ones and results among them. The functions give the same bits on every processor, so",
        "the figures hold on yours. Zeros keep their signs, and poles, infinities and NaN are as",
        "in IEEE 754 and NumPy.",
        "",
        "`logaddexp` and `logaddexp2` err by up to 2 ULP of their larger operand where their parts",
        "cancel. In float16 everything is computed in float32 and rounded.",
        "",
        "`floor`, `ceil`, `rint`, `trunc`, `sqrt`, `fmod`, `remainder`, `floor_divide`, `modf`,",
        "`frexp`, `ldexp`, `nextafter`, `copysign`, `deg2rad` and `rad2deg` give NumPy's bits.",
        "",
        f"Written by `python -m tests.kernels.accuracy`, with {count} operands of each kind.",
        "",
        "| function | float64 | float32 |",
        "|---|---|---|",
    ]
    lines += [row(name, ("f8", "f4"), count) for name in (*ONE, *TWO)]
    lines += [
        "",
        "## Complex numbers",
        "",
        "Figures are the larger one of both parts' errors, each in units in the last place of that",
        "part, however small it is beside the other; those of `expm1` and `power`, whose parts may",
        "cancel, are of the whole number. complex64 is computed in float64 and rounded, but for",
        "`sign`. Powers were drawn with exponents up to 7; their error grows with the size of",
        "w log z, which multiplies the error of w as well. Infinities, NaN, signs of zeros and",
        "branch cuts are NumPy's, which are those of C's Annex G. What C leaves open or changed in",
        "2017, a sign in `arcsin(-inf+nanj)` and `arcsinh(nan-infj)` and a part of",
        "`arccosh(nanj)`, is as in NumPy 2.4, older ones differ. `exp2`, `expm1` and `log1p`",
        "are nearer to the truth than NumPy's, which composes them of other functions. `absolute`",
        "is `hypot` of the parts, `angle` their `arctan2`; products, quotients, `square`,",
        "`reciprocal` and `conjugate` give NumPy's bits. What is made of NaN is no event, though",
        "NumPy's `exp`, `sin`, `sinh` and their kin warn of some of it.",
        "",
        f"There are {count // COMPLEX_SHARE} operands of each kind.",
        "",
        "| function | complex128 | complex64 |",
        "|---|---|---|",
    ]
    lines += [row(name, ("c16", "c8"), count // COMPLEX_SHARE) for name in COMPLEX]
    return "\n".join(lines) + "\n"


def row(name: str, dtypes: tuple[str, ...], count: int) -> str:
    """A line of a table: the largest error of a function in each dtype."""
    figures = [f"{worst(name, dtype, count):.2f}" for dtype in dtypes]
    return f"| `{name}` | {' | '.join(figures)} |"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=DENSE, help="operands of each kind")
    PAGE.write_text(page(parser.parse_args().count))
