"""Planning costs <= 20 us per operation, whatever the number of chunks."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import chunkarr
from chunkarr.plan.plan import Limits, Target
from chunkarr.plan.planner import make_plan
from tests.bench.harness import Claim, main

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

LIMITS = Limits(1 << 30, 1 << 30, 4 << 20, 2)


def seconds_of(array: Any) -> float:
    """Give the least seconds of a few plans."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        make_plan([Target(array.to_expr())], [], LIMITS)
        best = min(best, time.perf_counter() - began)
    return best


def measure(quick: bool) -> Claim:
    """Time the planning of a long expression."""
    operations = 200 if quick else 5000
    with xp.config(eager_bytes=0):
        x = xp.from_array(np.zeros(1000))
        y = x
        began = time.perf_counter()
        for turn in range(operations):
            y = y * 2 if turn % 2 else y + x
        building = (time.perf_counter() - began) / operations * 1e6
        planning = seconds_of(y) / operations * 1e6
        wide = seconds_of((xp.zeros((10**6, 10**6)) + 1).sum())
    return Claim(
        work=f"planning {operations:,} operations; building them; planning 8 TB",
        bar="<= 20 us per operation",
        holds=planning <= 20,
        measured=f"{planning:.1f} us; {building:.1f} us; {wide * 1000:.1f} ms in all",
        seconds={"plan": planning * operations / 1e6, "build": building * operations / 1e6},
    )


if __name__ == "__main__":
    main(measure)
