"""Chunks that were flipped, cut or removed: an error names them, or the answer is right."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunkarr.errors import ChunkarrError, CorruptChunkError, FormatError, OutputError
from chunkarr.faults import armed
from chunkarr.settings import config
from tests.faults.checks import EXECUTORS, Place, content, without_frames, xp
from tests.faults.operations import (
    OPERATIONS,
    Operation,
    check,
    check_output,
    replace_old,
    values,
)

pytestmark = pytest.mark.faults

BY_NAME = {operation.name: operation for operation in OPERATIONS}


def flipped(at: float) -> Callable[[Path], object]:
    """Give a function that flips a bit at some part of a file."""

    def flip(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(at * (len(data) - 1))] ^= 4
        path.write_bytes(data)

    return flip


DAMAGES: dict[str, Callable[[Path], object]] = {
    "first bit": flipped(0),
    "middle": flipped(0.5),
    "last bit": flipped(1),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "emptied": lambda path: os.truncate(path, 0),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "removed": lambda path: path.unlink(),
}
SOURCES = {"zarr to zarr": "a.zarr", "shards to shards": "sharded.zarr"}
SCRATCH = ("running sums", "other chunks", "other shape", "sort", "product", "persist")
"""Operations with scratch in tiles, in C order, or both."""


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_input_is_named(damage: str, name: str, executor: Any, place: Place) -> None:
    operation, source = BY_NAME[name], place.folder / "in" / SOURCES[name]
    with config(executor=executor):
        replace_old(operation, place)
        place.settle()
        DAMAGES[damage](source / "c" / "2" / "0")
        with pytest.raises(CorruptChunkError) as caught:
            replace_old(operation, place)
        assert caught.value.path == str(source)
        assert caught.value.cell[0] >= (2 if name == "zarr to zarr" else 4)
        check(operation, place, without_frames(caught.value))
    whole = xp.open(source)[:12].compute()
    np.testing.assert_array_equal(whole, values()[:12])


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("kind", ["stored", "compressed"])
@pytest.mark.parametrize("part", ["x", "x + 1", "x.T.sum(0)", "x[:, 3]", "x[-1, -1]", "x @ x.T"])
def test_a_damaged_archive_is_named(part: str, kind: str, executor: Any, place: Place) -> None:
    path = place.folder / "damaged.npz"
    (np.savez if kind == "stored" else np.savez_compressed)(path, x=values())
    DAMAGES["middle"](path)
    with config(executor=executor), pytest.raises(CorruptChunkError, match=r"damaged\.npz"):
        xp.asarray(eval(part, {"x": xp.open(path)})).compute()


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
@pytest.mark.parametrize("part", ["x", "x + 1", "x.T.sum(0)", "x[:, 3]", "x[-1, -1]", "x @ x.T"])
def test_a_file_that_was_cut_short_is_named(
    part: str, mode: str, executor: Any, place: Place
) -> None:
    path = place.folder / "short.npy"
    np.save(path, values())
    x = xp.open(path, mode)
    with config(executor="threads" if mode == "c" else executor):
        x.sum().compute()
        DAMAGES["cut in half"](path)
        with pytest.raises(FormatError, match=r"short\.npy.*cut short"):
            xp.asarray(eval(part, {"x": x})).compute()


def failure_under(
    fault: str, operation: Operation, place: Place, allowed: tuple[type[BaseException], ...]
) -> BaseException | None:
    """Run with a fault that has to happen; give the error of an allowed kind it led to, if any."""
    failed: BaseException | None = None
    with armed(fault, place.counts()) as faults:
        try:
            replace_old(operation, place)
        except allowed as error:
            failed = without_frames(error)
        assert faults.happened()
    return failed


@pytest.mark.usefixtures("spilling")
@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("name", SCRATCH)
@pytest.mark.parametrize("damage", ["flip", "truncate", "delete"])
def test_damaged_scratch_is_told_or_makes_no_difference(
    damage: str, name: str, executor: Any, place: Place
) -> None:
    operation = BY_NAME[name]
    with config(executor=executor):
        replace_old(operation, place)
        place.settle()
        failed = failure_under(f"spill.read:1:{damage}", operation, place, (CorruptChunkError,))
        path = getattr(failed, "path", "")
        assert failed is None or path.startswith(str(place.folder / "spill"))
        # A file that is held open can be read after its removal.
        assert failed is not None or damage == "delete"
        check(operation, place, failed)
        replace_old(operation, place)
        check_output(operation, place, None)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("name", ["zarr to zarr", "shards to shards", "npy"])
@pytest.mark.parametrize("point", ["commit.chunk", "commit.meta"])
@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_an_output_damaged_while_it_is_written_is_never_read_as_right(
    damage: str, point: str, name: str, executor: Any, place: Place
) -> None:
    operation = BY_NAME[name]
    with config(executor=executor):
        replace_old(operation, place)
        place.settle()
        failed = failure_under(f"{point}:2:{damage}", operation, place, (ChunkarrError, OSError))
        place.check_nothing_left(cleaned=failed is not None)
        try:
            check_output(operation, place, failed)
        except (CorruptChunkError, FormatError) as error:
            assert str(operation.path(place.out)) in str(error)  # noqa: PT017 - told is right too


def test_an_output_that_loses_a_chunk_before_its_commit_is_not_published(place: Place) -> None:
    operation = BY_NAME["zarr to zarr"]
    replace_old(operation, place)
    with armed("commit.chunk:2:delete"), pytest.raises(OutputError, match=r"x\.zarr"):
        replace_old(operation, place)
    assert content(operation.path(place.out)).size == 6
