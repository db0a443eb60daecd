"""The n-th pass of a fault point fails, for n = 1, 2, 3 and so on until nothing fails any more."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest

from chunkarr.faults import armed
from chunkarr.settings import config
from tests.faults.checks import ON_DASK, Place, without_frames
from tests.faults.operations import OPERATIONS, Operation, check, check_output, replace_old

pytestmark = pytest.mark.faults

ERRORS = ("ENOSPC", "EIO", "EMFILE", "EACCES")
"""Which of them it is goes round with n."""
SPREAD = 3
"""The steps between the passes that are tried grow by a third; all of them take minutes."""
QUICK = {"zarr to zarr", "running sums", "selection"}
"""What is tried with processes each time."""


def numbers(spread: int | None) -> Iterator[int]:
    """Give the passes at which something fails."""
    number = 1
    while True:
        yield number
        number += 1 if spread is None else 1 + number // spread


def cases() -> list[object]:
    found: list[object] = []
    executors = ("threads", "processes", "distributed")
    for executor, operation in itertools.product(executors, OPERATIONS):
        name, marks = f"{operation.name}, {executor}", [*ON_DASK] * (executor == "distributed")
        if executor == "threads" or (executor == "processes" and operation.name in QUICK):
            found.append(pytest.param(operation, executor, SPREAD, id=name, marks=marks))
        marks = [*marks, pytest.mark.slow, pytest.mark.timeout(600)]
        found.append(pytest.param(operation, executor, None, id=f"{name}, all", marks=marks))
    return found


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize(("operation", "executor", "spread"), cases(), indirect=["executor"])
def test_an_error_at_any_point_is_told_and_leaves_nothing(
    operation: Operation, executor: Any, spread: int | None, place: Place
) -> None:
    with config(executor=executor):
        replace_old(operation, place)
        check_output(operation, place, None)
        place.settle()
        failed: BaseException | None = None
        for number in numbers(spread):
            name, failed = ERRORS[number % len(ERRORS)], None
            with armed(f"*:{number}:{name}", place.counts()) as faults:
                try:
                    replace_old(operation, place)
                except Exception as error:  # noqa: BLE001 - whatever it is, it is looked at
                    failed = without_frames(error)
                happened = faults.happened()
            check(operation, place, failed)
            if not happened:
                break
        assert failed is None
        assert number > 15
        place.check_memory_back()
