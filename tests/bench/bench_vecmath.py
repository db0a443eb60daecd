"""Elementary functions, each alone: >= 0.9x NumPy's loop on one core; fused in `bench_kernels`.

`python -m tests.bench.bench_vecmath` prints the functions one by one, beside NumPy's loops for this
processor, over 100 MB in memory and on one core; with --write, into docs/speed.md.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from chunkarr.kernels.evaluate import map_into
from tests.bench.harness import Claim
from tests.kernels.accuracy import COMPLEX, ONE, TWO, program
from tests.kernels.support import kernels

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
    """Time each function alone, beside NumPy's loop."""
    nbytes = 1_000_000 if quick else 100_000_000
    seconds: dict[str, float] = {}
    shares: dict[str, float] = {}
    for name, dtype in itertools.product((*ONE, *TWO), ("f8", "f4")):
        theirs, ours = alone(name, dtype, nbytes)
        seconds |= {f"{name} {dtype}: numpy": theirs, f"{name} {dtype}: chunkarr": ours}
        shares[f"{name} {dtype}"] = theirs / ours
    worst = sorted(shares, key=lambda name: shares[name])[:5]
    return Claim(
        work=f"each elementary function alone, {nbytes / 1e6:.0f} MB, one core",
        bar=f">= {BAR_ALONE}x NumPy; all of them in docs/speed.md",
        holds=min(shares.values()) >= BAR_ALONE,
        measured="slowest: " + ", ".join(f"{name} {shares[name]:.2f}x" for name in worst),
        seconds=seconds,
    )


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
