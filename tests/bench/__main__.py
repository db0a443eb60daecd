"""All benchmarks, or the named ones: `python -m tests.bench [NAME ...] [--quick]`.

Prints the table of the README. One benchmark alone: `python -m tests.bench.bench_expression`.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path

from tests.bench.harness import Claim, absences, markdown

NAMES = sorted(
    path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py")
)


def measure(name: str, *, quick: bool) -> Claim:
    """Run one benchmark by its name."""
    claim: Claim = importlib.import_module(f"tests.bench.bench_{name}").measure(quick)
    return claim


def main() -> None:
    """Run benchmarks and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="small sizes: do they run at all?")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(NAMES))
    if unknown:
        parser.error(f"unknown benchmark {unknown[0]!r}; known: {', '.join(NAMES)}")
    claims = []
    for name in arguments.names or NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        claims.append(measure(name, quick=arguments.quick))
    print(markdown(claims), absences(), sep="\n")


if __name__ == "__main__":
    main()
