"""The one command for everything quick: `python tests/check.py`, or with the stages to run.

Stages run in order and all of them, so that one look shows everything there is to repair; the exit
code is that of the worst. CI runs the same file. `python tests/check.py lint types` runs two.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TINY = {"CHUNKARR_EAGER_BYTES": "0", "CHUNKARR_CHUNK_BYTES": "64"}
"""Nothing is done at once and every array has many chunks: else chunked paths go untested."""

STAGES: dict[str, tuple[list[list[str]], dict[str, str]]] = {
    "format": ([["ruff", "format", "--check", "."]], {}),
    "lint": ([["ruff", "check", "."]], {}),
    "types": ([["mypy"], ["mypy", "tests"]], {}),
    "tests": ([["pytest"]], {}),
    "tiny": ([["pytest"]], TINY),
}


def run(stage: str) -> int:
    """Run one stage and give its exit code."""
    commands, extra = STAGES[stage]
    codes = []
    for command in commands:
        setting = "".join(f"{name}={value} " for name, value in extra.items())
        print(f"== {stage}: {setting}{' '.join(command)}", flush=True)
        environ = {**os.environ, **extra}
        done = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, env=environ, check=False)
        codes.append(done.returncode)
    return max(map(abs, codes))


def main(stages: list[str]) -> int:
    """Run the named stages, or all of them."""
    unknown = sorted(set(stages) - set(STAGES))
    if unknown:
        print(f"unknown stage {unknown[0]!r}; known: {' '.join(STAGES)}", file=sys.stderr)
        return 2
    return max(run(stage) for stage in stages or STAGES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
