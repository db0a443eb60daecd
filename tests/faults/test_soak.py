"""Hours of bad luck: Ctrl-C at seeded moments, and all faults in a row for as long as is asked for.

`pytest -m soak --soak-minutes 60 --soak-seed 7` goes on for an hour.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.faults.sessions import ROOT

pytestmark = pytest.mark.faults

KINDS = (
    "nothing",
    "error",
    "memory",
    "slow",
    "death",
    "interrupt",
    "damage",
    "short",
    "clock",
    "stop",
)


HERE = "threads,processes"
EVERYWHERE = f"{HERE},distributed"


def storm(
    folder: Path, seed: int, rounds: int, seconds: float, kinds: Sequence[str], executors: str
) -> Any:
    """Run a storm in a session of its own; gives its report."""
    numbers = map(str, (seed, rounds, seconds))
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.storm", str(folder), *numbers, executors, *kinds],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # Python tells of semaphores that workers had which Dask has ended.
    assert [line for line in done.stderr.splitlines() if "resource_tracker" not in line] == []
    assert os.listdir(folder / "spill") == []
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("seed", "rounds"),
    [(0, 10), pytest.param(1, 100, marks=[pytest.mark.slow, pytest.mark.timeout(600)])],
)
def test_ctrl_c_at_any_moment_leaves_the_session_as_it_was(
    seed: int, rounds: int, tmp_path: Path
) -> None:
    report = storm(tmp_path, seed, rounds, 600, ["interrupt"], HERE)
    assert report["rounds"] == rounds


@pytest.mark.parametrize("seed", range(2))
def test_a_short_storm_is_weathered(seed: int, tmp_path: Path) -> None:
    report = storm(tmp_path, seed, 25, 60, KINDS, HERE)
    assert report["rounds"] > 5


@pytest.mark.slow
@pytest.mark.cluster
@pytest.mark.timeout(600)
def test_a_storm_over_a_cluster_is_weathered(tmp_path: Path) -> None:
    report = storm(tmp_path, 2, 60, 300, KINDS, "distributed")
    assert report["rounds"] > 20


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_a_long_storm_is_weathered(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    minutes = float(pytestconfig.getoption("--soak-minutes", 2.0))
    seed = int(pytestconfig.getoption("--soak-seed", 0))
    report = storm(tmp_path, seed, 1 << 30, 60 * minutes, KINDS, EVERYWHERE)
    print(json.dumps(report, indent=1))
    assert report["rounds"] > 4 * minutes
