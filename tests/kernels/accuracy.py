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
PRECISION = 250
PRECISION_ANGLES = 1300
"""Bits with which sin(2**1000) is right."""

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
    reference = (ONE | TWO)[name][0]
    info = np.finfo(operands[0].dtype)
    found = computed(name, operands)
    with mpmath.workprec(PRECISION_ANGLES if name in {"sin", "cos", "tan"} else PRECISION):
        for got, *given in zip(found.tolist(), *(x.tolist() for x in operands), strict=True):
            exact = reference(*map(mpmath.mpf, given))
            if isinstance(exact, mpmath.mpc) or abs(exact) > float(info.max):
                continue
            size = max(abs(float(exact)), float(info.smallest_normal))
            unit = mpmath.ldexp(1, int(np.frexp(size)[1]) - info.nmant - 1)
            yield float(abs(mpmath.mpf(got) - exact) / unit)


def samples(name: str, dtype: str, count: int) -> Iterator[list[Array]]:
    """Operands of every kind, finite, not zero, and seeded."""
    draws: list[tuple[Draw, ...]]
    draws = [(draw,) for draw in ONE[name][1]] if name in ONE else list(TWO[name][1])
    for place, kind in enumerate(draws):
        rng = np.random.default_rng([place, len(name)])
        with np.errstate(all="ignore"):
            operands = [draw(rng, count).astype(dtype) for draw in kind]
        whole = np.logical_and.reduce([np.isfinite(x) & (x != 0) for x in operands])
        yield [x[whole] for x in operands]


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
    for name in (*ONE, *TWO):
        figures = [f"{worst(name, dtype, count):.2f}" for dtype in ("f8", "f4")]
        lines.append(f"| `{name}` | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=DENSE, help="operands of each kind")
    PAGE.write_text(page(parser.parse_args().count))
