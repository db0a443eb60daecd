"""What tests of faults share: folders with inputs, settings under which small arrays are cut."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunkarr.settings import config
from chunkarr.storage.spill import Session
from tests.faults.checks import Place
from tests.faults.operations import make_inputs
from tests.scheduler.test_cluster import make_client, make_cluster


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Folders of inputs, of outputs and of scratch."""
    place = Place(tmp_path)
    with config(spill_dir=str(tmp_path / "spill"), eager_bytes=0, chunk_bytes=1 << 10, workers=2):
        make_inputs(tmp_path / "in")
        # What earlier tests have left for good, compiled kernels above all, is not looked through
        # again after each fault.
        gc.collect()
        gc.freeze()
        yield place
        Session.close_all()


@pytest.fixture
def spilling(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that lies between steps goes to disk."""
    monkeypatch.setattr("chunkarr.plan.planner.Planner._fits", lambda *_, **__: False)


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """The client of a Dask cluster of two workers."""
    with make_cluster(2) as cluster, make_client(cluster) as made:
        yield made


@pytest.fixture
def executor(request: pytest.FixtureRequest) -> Any:
    """One of `EXECUTORS`, with a client in the place of "distributed"."""
    return request.getfixturevalue("client") if request.param == "distributed" else request.param
