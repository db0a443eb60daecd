"""Elementary functions: fused ones >= 6x and >= 4x NumPy on two cores, each alone >= 0.9x on one.

`python -m tests.bench.bench_vecmath` prints the functions one by one, beside NumPy's loops for this
processor, over 100 MB in memory and on one core; with --write, into docs/speed.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from chunkarr.kernels.evaluate import map_into
from tests.bench.harness import WORKERS, Claim, race
from tests.kernels.accuracy import COMPLEX, ONE, TWO, program
from tests.kernels.support import kernels

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

PAGE = Path(__file__).resolve().parents[2] / "docs" / "speed.md"
HEAD = """# Speed of the elementary functions

Each function alone, over 100 MB in memory, on one core: NumPy's loops beside those of chunkarr, and
how many times as fast ours are; 0.9 is the bar. The processor has AVX-512 (AMD Zen 5), for which
NumPy has vectorised loops of most functions. Fused with others a function costs less: what goes
over memory here stays in registers there. Errors are in [accuracy.md](accuracy.md).

Written by `python -m tests.bench.bench_vecmath --write`.

"""
HEAD_COMPLEX = """
## Complex numbers

The same over a fifth as many bytes. NumPy calls the C library for one number after the other.
`absolute` is no faster alone than NumPy's, which has a vectorised loop; `angle` is `arctan2`.

"""
SHARE_COMPLEX = 5
BAR_ALONE = 0.9
ROUNDS = 7


def _expressions(a: Any, b: Any) -> dict[str, tuple[float, Callable[[], Any], Callable[[], Any]]]:
    """Give fused expressions: the bar, NumPy's way and ours."""
    x, y = xp.from_array(a), xp.from_array(b)
    return {
        "sum(exp(-a*a)*sin(b))": (
            6,
            lambda: float((np.exp(-a * a) * np.sin(b)).sum()),
            lambda: float((xp.exp(-x * x) * xp.sin(y)).sum()),
        ),
        "sqrt(a*a+b*b)+tanh(a)": (
            4,
            lambda: np.sqrt(a * a + b * b) + np.tanh(a),
            lambda: (xp.sqrt(x * x + y * y) + xp.tanh(x)).compute(),  # noqa: PLW0108 - it is work
        ),
    }


def _best(work: Callable[[], Any]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


def alone(name: str, dtype: str, nbytes: int) -> tuple[float, float]:
    """Give the seconds of NumPy and of our function on one core, taking turns; the best of each."""
    rng = np.random.default_rng(0)
    size = nbytes // np.dtype(dtype).itemsize
    low, turn = (0.0, 1j) if np.dtype(dtype).kind == "c" else (float(name == "arccosh"), 0.0)
    operands = [
        (low + rng.uniform(0.1, 0.9, size) + turn * rng.uniform(0.1, 0.9, size)).astype(dtype)
        for _ in range(getattr(np, name).nin)
    ]
    out = np.empty(size, dtype)
    one = program(name, out.dtype, len(operands))
    works = (
        lambda: getattr(np, name)(*operands, out=out),
        lambda: map_into(one, operands, [out]),
    )
    with kernels("compiled"):
        times = [[_best(work) for work in works] for _ in range(ROUNDS)]
    return min(t[0] for t in times[1:]), min(t[1] for t in times[1:])


def table(nbytes: int, names: list[str], dtypes: tuple[str, ...]) -> str:
    """Lay out every function's speed in two dtypes."""
    heads = " | ".join(f"{np.dtype(dtype).name}: NumPy, ours |" for dtype in dtypes)
    lines = [f"| function | {heads} |", "|---|---|---|---|---|"]
    for name in names:
        cells = []
        for dtype in dtypes:
            theirs, ours = alone(name, dtype, nbytes)
            mark = "" if theirs >= BAR_ALONE * ours else " **missed**"
            cells.append(f"{theirs * 1e3:.1f}, {ours * 1e3:.1f} ms | {theirs / ours:.2f}x{mark}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def measure(quick: bool) -> Claim:
    """Race fused elementary functions in memory."""
    n = vecmath_size(quick)
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=n), rng.normal(size=n)
    seconds, ratios, holds = {}, [], True
    with xp.config(workers=WORKERS, executor="threads"):
        for name, (bar, theirs, ours) in _expressions(a, b).items():
            raced = race({"numpy": theirs, "chunkarr": ours})
            seconds[f"numpy `{name}`"] = raced["numpy"]
            seconds[f"chunkarr `{name}`"] = raced["chunkarr"]
            ratios.append(f"{raced['numpy'] / raced['chunkarr']:.1f}x")
            holds &= raced["numpy"] >= bar * raced["chunkarr"]
    names = " and ".join(f"`{name}`" for name in _expressions(a, b))
    return Claim(
        work=f"{names}, 2 x {a.nbytes / 1e6:.0f} MB float64 in memory",
        bar=">= 6x and >= 4x NumPy",
        holds=holds,
        measured=", ".join(ratios),
        seconds=seconds,
    )


def vecmath_size(quick: bool) -> int:
    """Give the number of elements: beyond what NumPy would still do."""
    return 5_000_000 if quick else 50_000_000


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="functions; all of them by default")
    parser.add_argument("--mb", type=int, default=100, help="megabytes of each operand")
    parser.add_argument("--write", action="store_true", help="write the documentation's page")
    arguments = parser.parse_args()
    nbytes = arguments.mb * 1_000_000
    wanted = set(arguments.names) or {*ONE, *TWO, *COMPLEX}
    lines = table(nbytes, [name for name in (*ONE, *TWO) if name in wanted], ("f8", "f4"))
    plane = [name for name in COMPLEX if name in wanted]
    lines += f"\n{HEAD_COMPLEX}" + table(nbytes // SHARE_COMPLEX, plane, ("c16", "c8"))
    if arguments.write:
        PAGE.write_text(f"{HEAD}{lines}\n")
    print(lines)
