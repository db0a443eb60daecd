"""Workers of a Dask cluster that die in any phase, and a link between hosts that is cut."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chunkarr.faults import armed
from chunkarr.settings import config
from tests.faults.checks import ON_DASK, Place
from tests.faults.operations import OPERATIONS, check_output, replace_old
from tests.faults.sessions import ROOT

pytestmark = [pytest.mark.faults, *ON_DASK]

SUMS = next(operation for operation in OPERATIONS if operation.name == "running sums")
SECONDS_LOST = 20.0
"""The promise is 15; a test machine may be busy."""
SECONDS_CUT_OFF = 30.0
"""Five until a worker counts as stopped, two between looks, and six of work for the other one."""


@pytest.mark.parametrize(
    "point",
    [
        "compute",
        *(
            pytest.param(point, marks=pytest.mark.slow)
            for point in ("read", "spill.write", "spill.read", "exchange", "commit.chunk")
        ),
    ],
)
def test_a_worker_of_a_cluster_that_dies_in_any_phase_changes_nothing(
    point: str, client: Any, place: Place
) -> None:
    with config(executor=client):
        with armed(f"{point}:2:kill", place.counts(), elsewhere=True) as faults:
            replace_old(SUMS, place)
            assert faults.happened()
        check_output(SUMS, place, None)
        assert place.left() == []


def cut_link(folder: Path, what: str) -> tuple[list[str], str]:
    """Give what a program tells whose link to a scheduler or a worker was cut, and its errors."""
    tools = [shutil.which(name) for name in ("unshare", "nsenter", "ip")]
    if None in tools or subprocess.run(["unshare", "-rn", "true"], check=False).returncode:
        pytest.skip("network namespaces are not permitted here")
    done = subprocess.run(
        ["unshare", "-rn", sys.executable, "-m", "tests.faults.linkcut", str(folder), what],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout.splitlines() or [done.stderr], done.stderr


@pytest.mark.slow
def test_a_link_that_is_cut_is_an_error_in_time(tmp_path: Path) -> None:
    (first, *rest), errors = cut_link(tmp_path, "scheduler")
    assert first.startswith("lost "), errors
    assert float(first.split()[1]) < SECONDS_LOST
    assert rest == ["after 90.0"]
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_worker_that_is_cut_off_is_done_without(tmp_path: Path) -> None:
    (first, *rest), errors = cut_link(tmp_path, "worker")
    assert first.startswith("right True "), errors
    assert float(first.split()[2]) < SECONDS_CUT_OFF
    assert rest == ["after 1830.0"]
