"""The planner is always asked here: nothing is small enough to be done at once."""

from __future__ import annotations

import pytest

from chunkarr.settings import config


@pytest.fixture(autouse=True)
def _nothing_is_eager(_settings_put_back: None) -> None:
    config(eager_bytes=0, chunk_bytes=1 << 20, executor="threads", workers=2)
