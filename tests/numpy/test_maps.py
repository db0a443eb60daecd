"""Arrays in files that are mapped for writing behave as `numpy.memmap`: writes reach the file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from tests.numpy.support import MODES


@pytest.fixture(params=list(MODES), autouse=True)
def _mode(request: pytest.FixtureRequest) -> Iterator[None]:
    with chunkarr.config(**MODES[request.param]):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    place = tmp_path / "data"
    np.arange(20.0).tofile(place)
    return place


def on_disk(path: Path) -> list[float]:
    return list(np.fromfile(path))


def test_an_assignment_reaches_the_file_at_once(path: Path) -> None:
    x = chunkarr.memmap(path, "f8", "r+")
    x[2:5] = 1
    x[-1] = 7
    x[x == 10] = -10
    x[::-1][1] = 8
    x.flush()
    wanted = np.arange(20.0)
    wanted[2:5], wanted[-1], wanted[10], wanted[18] = 1, 7, -10, 8
    assert on_disk(path) == wanted.tolist() == x.tolist()


def test_in_place_operators_and_out_reach_the_file(path: Path) -> None:
    x = chunkarr.memmap(path, "f8", "r+", shape=(4, 5))
    x += 1
    x[1:] *= 2
    x[:, 0] -= x[:, 1]
    chunkarr.add(x[3], 100, out=x[0])
    wanted = np.arange(20.0).reshape(4, 5) + 1
    wanted[1:] *= 2
    wanted[:, 0] -= wanted[:, 1]
    np.add(wanted[3], 100, out=wanted[0])
    assert np.fromfile(path).reshape(4, 5).tolist() == wanted.tolist()


def test_a_lazy_value_is_computed_before_it_is_written_over_what_it_reads(path: Path) -> None:
    x = chunkarr.memmap(path, "f8", "r+")
    x[:] = (x * 2 + 1)[::-1]
    x += x * 2
    x[x > 100] += 1
    wanted = (np.arange(20.0) * 2 + 1)[::-1] * 3
    wanted[wanted > 100] += 1
    assert on_disk(path) == wanted.tolist()


@pytest.mark.parametrize(
    "make", [lambda x: x + 1, lambda x: x[:7] * 2, lambda x: x[x > 4], lambda x: x.sum()]
)
def test_writing_is_refused_while_a_lazy_expression_reads_the_file(path: Path, make: Any) -> None:
    x = chunkarr.memmap(path, "f8", "r+")
    later = make(x)
    with pytest.raises(ValueError, match="lazy expression still reads"):
        x[0] = 5
    with pytest.raises(ValueError, match="lazy expression still reads"):
        x += 1
    assert on_disk(path) == list(range(20))
    before = later.compute()
    later.persist()
    x[0] = 5
    assert later.tolist() == before.tolist()


def test_a_view_of_the_map_sees_later_writes(path: Path) -> None:
    x = chunkarr.memmap(path, "f8", "r+")
    part = x[5:8]
    assert part.tolist() == [5, 6, 7]
    x[6] = -1
    assert part.tolist() == [5, -1, 7]


def test_changes_in_mode_c_stay_in_memory(path: Path) -> None:
    x = chunkarr.memmap(path, "f8", "c")
    later = x + 0
    x[0] = 5
    assert [float(x[0]), float(later[0])] == [5, 0]
    del later
    x[1] = 6
    assert x[:2].tolist() == [5, 6]
    assert on_disk(path) == list(range(20))


def test_npy_files_are_written_through_too(tmp_path: Path) -> None:
    place = tmp_path / "a.npy"
    np.save(place, np.arange(6).reshape(2, 3))
    x = chunkarr.load(place, mmap_mode="r+")
    x[1] = x[0] * 10
    assert np.load(place).tolist() == [[0, 1, 2], [0, 10, 20]]


def test_a_loaded_array_is_changed_in_memory_only(tmp_path: Path) -> None:
    place = tmp_path / "a.npy"
    np.save(place, np.arange(6))
    x = chunkarr.load(place)
    x[0] = 9
    x += 1
    assert x.tolist() == [10, 2, 3, 4, 5, 6]
    assert np.load(place).tolist() == list(range(6))


def test_a_map_that_was_opened_to_read_is_read_only(path: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(3.0))
    for x in (
        chunkarr.memmap(path, "f8", "r"),
        chunkarr.load(tmp_path / "a.npy", mmap_mode="r"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1
        with pytest.raises(ValueError, match="read-only"):
            chunkarr.add(x, 1, out=x)
        assert (x + 1)[0] == 1
