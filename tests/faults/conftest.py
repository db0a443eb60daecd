"""What tests of faults share: folders with inputs, settings under which small arrays are cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkarr.settings import config
from chunkarr.storage.spill import Session
from tests.faults.checks import Place
from tests.faults.operations import make_inputs


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Folders of inputs, of outputs and of scratch."""
    place = Place(tmp_path)
    with config(spill_dir=str(tmp_path / "spill"), eager_bytes=0, chunk_bytes=1 << 10, workers=2):
        make_inputs(tmp_path / "in")
        yield place
        Session.close_all()


@pytest.fixture
def spilling(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that lies between steps goes to disk."""
    monkeypatch.setattr("chunkarr.plan.planner.Planner._fits", lambda *_: False)
