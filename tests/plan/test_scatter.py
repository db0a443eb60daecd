"""Values laid over named places: in order, piece by piece, whatever the number of places."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.plan import gather
from chunkarr.settings import config
from tests.plan.support import MIB, FakeStore, limits, plan_of

xp: Any = chunkarr
rng = np.random.default_rng(0)


@pytest.mark.parametrize("together", [1, 7, 1 << 18])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("values", ["scalar", "array"])
def test_the_last_value_for_a_place_stays(
    together: int, axis: int, values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "PLACES_LAID", together)
    wanted = rng.normal(size=(23, 31))
    places = rng.integers(0, 20, 200)
    shape = (200, 31) if axis == 0 else (23, 200)
    given: Any = 5.0 if values == "scalar" else rng.normal(size=shape)
    key = (slice(None),) * axis + (places,)
    with config(eager_bytes=0, chunk_bytes=512):
        made = xp.from_array(wanted.copy()) + 0
        made[(*key[:-1], xp.from_array(places))] = given
        wanted[key] = given
        assert np.array_equal(made.compute(), wanted)


def test_places_take_no_more_memory_however_many_there_are() -> None:
    places = FakeStore((1 << 30,), (1 << 20,)).as_array()
    target = xp.zeros(1 << 28)
    target[(places * 0).astype(int)] = 1
    plan = plan_of(target, at=limits(128 * MIB))
    assert all(step.bytes_task <= 128 * MIB for step in plan.steps)
