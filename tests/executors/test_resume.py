"""A run that was broken off goes on where it was; what is torn or of another run does not count."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest

import chunkarr
from chunkarr import engine
from chunkarr.errors import OutputError
from chunkarr.faults import armed
from chunkarr.storage.journal import Journal, checksum_of
from chunkarr.storage.leftovers import find_leftovers
from tests.memory.sampling import clean_environment

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

pytestmark = pytest.mark.faults

SCRIPT = """
import os, sys
import chunkarr as np

kind, executor, expression = sys.argv[1:]
np.config(memory="1GiB", workers=2, executor=executor, spill_dir=".", chunk_bytes=40_000)
np.config(eager_bytes=0)
x = np.open("x.npy")
factor = 2.0
made = eval(expression)
if kind == "zarr":
    made.to_zarr("y.zarr", chunks=(50, 60), resume=True)
elif kind == "shards":
    made.to_zarr("y.zarr", chunks=(25, 30), shards=(50, 60), compressors="zstd", resume=True)
else:
    np.save("y.npy", made, resume=True)
"""
EXPRESSION = "(x - x.mean(0)) * factor"


@pytest.fixture
def values(tmp_path: Path) -> Any:
    made = np.random.default_rng(3).normal(size=(400, 360))
    np.save(tmp_path / "x.npy", made)
    return made


def session(
    folder: Path,
    kind: str,
    fault: str = "",
    executor: str = "threads",
    expression: str = EXPRESSION,
) -> subprocess.CompletedProcess[str]:
    environ = {**clean_environment(), **({"CHUNKARR_FAULT": fault} if fault else {})}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT, kind, executor, expression],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )


def attempt(
    folder: Path, kind: str = "zarr", fault: str = "", expression: str = EXPRESSION
) -> None:
    """Run the expression here, with an error at some point if asked for."""
    with xp.config(memory="1GiB", workers=2, spill_dir=str(folder)):
        xp.config(chunk_bytes=40_000, eager_bytes=0)
        made = eval(expression, {"x": xp.open(folder / "x.npy"), "xp": xp, "factor": 2.0})
        with armed(fault) if fault else nullcontext():
            if kind == "zarr":
                made.to_zarr(folder / "y.zarr", chunks=(50, 60), resume=True)
            else:
                xp.save(folder / "y.npy", made, resume=True)


def broken_off(folder: Path, kind: str = "zarr") -> None:
    """Run the expression until a dozen chunks are written."""
    with pytest.raises(OSError):
        attempt(folder, kind, "commit.chunk:13+:EIO")
    assert len(left(folder)) == 2


def left(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith(".y"))


def chunks(folder: Path) -> dict[str, tuple[int, int]]:
    """Give the written files below a folder, with what changes when they are written again."""
    return {
        os.path.relpath(os.path.join(place, name), folder): (info.st_ino, info.st_mtime_ns)
        for place, _, names in os.walk(folder)
        for name in names
        if "c" in Path(place).relative_to(folder).parts and ".tmp" not in name
        for info in [os.stat(os.path.join(place, name))]
    }


def result(folder: Path, kind: str) -> Any:
    return xp.open(folder / ("y.npy" if kind == "npy" else "y.zarr")).compute()


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("kind", ["zarr", "shards"])
def test_a_killed_run_makes_only_what_is_missing(
    kind: str, executor: str, values: Any, tmp_path: Path
) -> None:
    # A worker that is killed is replaced, so with processes the main one dies, before its commit.
    fault = {"threads": "commit.chunk:13:kill", "processes": "commit.meta:2:kill"}[executor]
    assert session(tmp_path, kind, fault, executor).returncode == -signal.SIGKILL
    before = chunks(tmp_path / next(name for name in left(tmp_path) if name.endswith(".partial")))
    assert len(before) >= 11
    done = session(tmp_path, kind)
    assert done.returncode == 0, done.stderr
    after = chunks(tmp_path / "y.zarr")
    assert len(after) == 48
    # The last one may have lost its record with the process.
    kept = [name for name in before if after[name] == before[name]]
    assert len(kept) >= len(before) - 2
    np.testing.assert_allclose(result(tmp_path, kind), (values - values.mean(0)) * 2)
    assert left(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("signal_name", ["kill", "interrupt"])
def test_a_save_that_was_broken_off_goes_on(signal_name: str, values: Any, tmp_path: Path) -> None:
    died = session(tmp_path, "npy", f"commit.chunk:9:{signal_name}")
    assert died.returncode != 0
    assert len(left(tmp_path)) == 2
    assert len(records(tmp_path)) >= 6
    assert session(tmp_path, "npy").returncode == 0
    np.testing.assert_allclose(result(tmp_path, "npy"), (values - values.mean(0)) * 2)
    assert left(tmp_path) == []


def records(folder: Path) -> list[str]:
    """Give the lines of all records."""
    noted = next(folder.glob(".y*.records"))
    files = [path for path in noted.iterdir() if path.name != ".lock"]
    return [line for path in files for line in path.read_text().splitlines()]


def halved(block: Any) -> Any:
    return block / 2


ALL = 1.0
MERGED = 0.4
"""The merging of partial reductions takes more rows together."""
CHAINS = {
    "x * 2 + 1": 1 / 8,
    "x - x.mean(1, keepdims=True)": MERGED,
    "x - x.mean(0)": ALL,
    "xp.cumsum(x, 1)": 1 / 8,
    "xp.cumsum(x, 1) * 2 - x.max(1)[:, None]": MERGED,
    "xp.cumsum(xp.sort(x, 1), 1)": 1 / 8,
    "xp.sort(x, 1)[::-1] + x": 1 / 8,
    "xp.concatenate([xp.cumsum(x[:200], 1), x[200:] * 2])": 1 / 8,
    "xp.roll(xp.cumsum(x, 1), 50, 0)": 1 / 8,
    "xp.map_blocks(halved, x - x.min(1, keepdims=True), dtype='f8') + 1": MERGED,
    "(x[:, :60] @ x[:300, :60].T) @ x[:300]": ALL,
    "xp.map_blocks(halved, x, dtype='f8') + xp.cumsum(x, 1)": MERGED,
    "xp.maximum(x[:, :60] @ x[:60] + 1, 0)": 1 / 6,
    "x[:, :60] @ x[:60] - (x[:, :60] @ x[:60]).min(0)": ALL,
    "xp.cumsum(x, 1).reshape(720, 200).T[:, :360].T.reshape(360, 200)": ALL,
    "x[xp.asarray(np.arange(400)[::-1])] - 1": ALL,
    "xp.histogram(x, 400, (-3, 3))[0][:, None] + x": ALL,
    "xp.sort(x.reshape(-1)).reshape(400, 360)": ALL,
    "xp.linalg.cholesky(x @ x.T + 900 * xp.eye(400)) * 2": ALL,
    "xp.linalg.cholesky(x @ x.T + 900 * xp.eye(400))[::-1] + 0": 1 / 4,
    "x[x[:, 0] > -9][:400] * 2": ALL,
}
"""The part of each step's tasks that the last eighth of the rows needs, at most."""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "executor"), [("zarr", "threads"), ("npy", "processes")])
@pytest.mark.parametrize("chain", CHAINS)
def test_steps_before_the_last_make_what_missing_chunks_need(
    chain: str, kind: str, executor: str, values: Any, tmp_path: Path
) -> None:
    def write() -> dict[tuple[int, str], int]:
        names = {"x": xp.open(tmp_path / "x.npy"), "xp": xp, "np": np, "halved": halved}
        made = eval(chain, names)
        if kind == "zarr":
            made.to_zarr(tmp_path / "y.zarr", chunks=(50, 60), resume=True)
        else:
            xp.save(tmp_path / "y.npy", made, resume=True)
        trace = engine.last.trace
        assert trace is not None
        return {(n, step.name): step.tasks for n, step in enumerate(trace.steps)}

    with xp.config(memory="1GiB", workers=2, spill_dir=str(tmp_path), executor=executor):
        xp.config(chunk_bytes=1_500, eager_bytes=0)
        full = write()
        first = result(tmp_path, kind)
        for path in tmp_path.glob("y.*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with pytest.raises(OSError), armed("commit.meta:2+:EIO"):
            write()
        forget_last_rows(tmp_path, kind, len(first) - len(first) // 8)
        again = write()
    assert result(tmp_path, kind).tobytes() == first.tobytes()
    assert again.keys() == full.keys()
    share = {step: again[step] / count for step, count in full.items() if count >= 8}
    assert all(part <= CHAINS[chain] + 0.08 for part in share.values()), share
    assert 0 < list(again.values())[-1] <= list(full.values())[-1] / 2


WAYS = {
    "xp.sort(x.reshape(-1)).reshape(400, 360) + 1": 1,
    "(x - x.mean(0)) / x.std(0)": 110,
    "xp.linalg.cholesky(x @ x.T + 900 * xp.eye(400)) * 2": 1,
    "x - xp.sort(xp.cumsum(x, 0), 0).max(0)": 2,
    "xp.cumsum(x, 0).T.reshape(400, 360) + 0": 2,
    "x[x[:, 0] > -9][:400] * 2": 4,
}
"""Writes that belong together, at most: of one task, or of small cells that are visited at once."""
IN_TURN = "spill.write:100000:EIO,commit.chunk:100000:EIO"
"""No fault, but passes are counted."""


@pytest.mark.parametrize("share", [0.3, 0.7])
@pytest.mark.parametrize("point", ["spill.write", "commit.chunk"])
@pytest.mark.parametrize("way", WAYS)
def test_scratch_of_a_run_that_failed_is_used_again(
    way: str, point: str, share: float, values: Any, tmp_path: Path
) -> None:
    def write(fault: str) -> dict[str, int]:
        made = eval(way, {"x": xp.open(tmp_path / "x.npy"), "xp": xp})
        with armed(fault) as counted, pytest.raises(OSError) if "+" in fault else nullcontext():
            made.to_zarr(tmp_path / "y.zarr", chunks=(50, 60), resume=True)
        return dict(zip(("spill.write", "commit.chunk"), counted._passed, strict=False))

    with xp.config(memory="1GiB", workers=1, spill_dir=str(tmp_path), chunk_bytes=15_000):
        xp.config(eager_bytes=0)
        full = write(IN_TURN)
        first = result(tmp_path, "zarr")
        shutil.rmtree(tmp_path / "y.zarr")
        number = int(full[point] * share)
        write(f"{point}:{number}+:EIO")
        assert len(left_of_scratch(tmp_path)) == 1
        again = write(IN_TURN)
    assert result(tmp_path, "zarr").tobytes() == first.tobytes()
    assert again[point] <= full[point] - number + WAYS[way]
    if point == "commit.chunk":
        assert again["spill.write"] == 0
    assert not left(tmp_path)
    assert not left_of_scratch(tmp_path)


def left_of_scratch(folder: Path) -> list[Path]:
    return list(folder.glob("chunkarr-*.resume-*"))


def break_scratch_off(folder: Path, expression: str = "xp.sort(x, 0) * 2") -> Path:
    """Run until a sort is all written to scratch; gives its file."""
    with pytest.raises(OSError):
        attempt(folder, fault="commit.chunk:1+:EIO", expression=expression)
    (kept,) = left_of_scratch(folder)
    (file,) = (path for path in kept.iterdir() if path.name != ".lock")
    return file


@pytest.mark.parametrize("damage", ["nothing", "truncate", "flip", "delete", "another's"])
def test_scratch_that_is_damaged_is_made_again(damage: str, values: Any, tmp_path: Path) -> None:
    file = break_scratch_off(tmp_path)
    match damage:
        case "truncate":
            os.truncate(file, 5000)
        case "flip":
            content = bytearray(file.read_bytes())
            content[-1] ^= 1
            file.write_bytes(content)
        case "delete":
            file.unlink()
        case "another's":
            other = break_scratch_off(tmp_path, "xp.sort(x + 1, 0) * 2").read_bytes()
            file = break_scratch_off(tmp_path)
            file.write_bytes(other)
    attempt(tmp_path, expression="xp.sort(x, 0) * 2")
    trace = engine.last.trace
    assert trace is not None
    count = {"nothing": range(1), "flip": range(1, 2)}.get(damage, range(2, 99))
    assert trace.steps[0].tasks in count
    np.testing.assert_array_equal(result(tmp_path, "zarr"), np.sort(values, 0) * 2)
    assert not left(tmp_path)
    assert not left_of_scratch(tmp_path)


def test_scratch_goes_with_a_run_of_something_else(values: Any, tmp_path: Path) -> None:
    break_scratch_off(tmp_path)
    attempt(tmp_path, expression="xp.sort(x + 1, 0) * 2")
    np.testing.assert_array_equal(result(tmp_path, "zarr"), np.sort(values + 1, 0) * 2)
    assert not left(tmp_path)
    assert not left_of_scratch(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("action", ["EIO", "interrupt"])
@pytest.mark.parametrize("point", ["read", "compute", "spill.*", "commit.*"])
def test_a_run_that_fails_anywhere_goes_on(point: str, action: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(3).normal(size=(60, 50)))

    def write() -> None:
        x = xp.open(tmp_path / "x.npy")
        made = xp.sort((x - x.mean(0)).reshape(-1)).reshape(60, 50) + 1
        made.to_zarr(tmp_path / "y.zarr", chunks=(20, 20), resume=True)

    with xp.config(memory="1GiB", workers=2, spill_dir=str(tmp_path), chunk_bytes=6_000):
        xp.config(eager_bytes=0)
        write()
        first = result(tmp_path, "zarr").tobytes()
        for number in range(1, 99):
            shutil.rmtree(tmp_path / "y.zarr")
            text = f"{point}:{number}:{action}"
            with armed(text) as counted, suppress(OSError, KeyboardInterrupt):
                write()
            write()
            assert result(tmp_path, "zarr").tobytes() == first
            assert not left(tmp_path)
            assert not left_of_scratch(tmp_path)
            if counted._passed[0] < number:
                break
        assert 1 < number < 98


@pytest.mark.slow
def test_scratch_of_a_killed_session_is_used_again(values: Any, tmp_path: Path) -> None:
    expression = "np.sort(x.reshape(-1)).reshape(400, 360) * factor"
    died = session(tmp_path, "zarr", "commit.chunk:9:kill", expression=expression)
    assert died.returncode == -signal.SIGKILL
    assert [item.resumable for item in find_leftovers(str(tmp_path))].count(True) == 3
    fault = "spill.write:1:kill"  # nothing is written to scratch any more
    done = session(tmp_path, "zarr", fault, expression=expression)
    assert done.returncode == 0, done.stderr
    expected = np.sort(values.reshape(-1)).reshape(400, 360) * 2
    np.testing.assert_array_equal(result(tmp_path, "zarr"), expected)
    assert not left(tmp_path)
    assert not left_of_scratch(tmp_path)


@pytest.mark.slow
def test_a_worker_process_and_then_the_session_die_on_the_way(values: Any, tmp_path: Path) -> None:
    expression = "np.linalg.cholesky(x @ x.T + 900 * np.eye(400)) * factor"
    died = session(tmp_path, "zarr", "commit.meta:2:kill", "processes", expression)
    assert died.returncode == -signal.SIGKILL
    done = session(tmp_path, "zarr", "compute:5:kill", "processes", expression)
    assert done.returncode == 0, done.stderr
    expected = np.linalg.cholesky(values @ values.T + 900 * np.eye(400)) * 2
    np.testing.assert_allclose(result(tmp_path, "zarr"), expected, rtol=1e-9, atol=1e-12)
    assert not left(tmp_path)
    assert not left_of_scratch(tmp_path)


def forget_last_rows(folder: Path, kind: str, rows: int) -> None:
    """Remove what a run that was broken off has left of the last rows."""
    noted = next(folder.glob(".y*.records"))
    for path in noted.iterdir():
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(line for line in lines if not below(line, kind, rows)))


def below(line: str, kind: str, rows: int) -> bool:
    """Whether a record is of a box that reaches behind so many rows."""
    if kind == "zarr":
        return int(line.split("/")[1]) * 50 + 50 > rows
    return int(line.partition(",")[0].partition(":")[2]) > rows


@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_a_run_that_failed_makes_only_what_is_missing(
    kind: str, values: Any, tmp_path: Path
) -> None:
    broken_off(tmp_path, kind)
    done = len(records(tmp_path))
    assert done >= 10
    with armed("commit.chunk:1000:EIO") as counted:
        attempt(tmp_path, kind)
    assert 0 < sum(counted._passed) <= 49 - done  # and the metadata of Zarr
    np.testing.assert_allclose(result(tmp_path, kind), (values - values.mean(0)) * 2)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "expression",
    [
        "(x - x.mean(0)) * 3.0",
        "(x - x.mean(1)[:, None]) * factor",
        "(x + x.mean(0)) * factor",
        "((x - x.mean(0)) * factor).astype('f4')",
    ],
)
def test_leftovers_of_another_expression_are_not_trusted(
    expression: str, values: Any, tmp_path: Path
) -> None:
    broken_off(tmp_path)
    attempt(tmp_path, expression=expression)
    expected = eval(expression, {"x": values, "factor": 2.0})
    np.testing.assert_allclose(result(tmp_path, "zarr"), expected, rtol=1e-6)
    assert left(tmp_path) == []


def test_leftovers_of_a_changed_source_are_not_trusted(values: Any, tmp_path: Path) -> None:
    broken_off(tmp_path)
    np.save(tmp_path / "x.npy", values + 1000)
    attempt(tmp_path)
    np.testing.assert_allclose(result(tmp_path, "zarr"), (values - values.mean(0)) * 2, atol=1e-9)


@pytest.mark.parametrize(
    "damage",
    ["truncate", "flip", "delete", "another's", "torn record", "no records", "something else"],
)
def test_what_is_damaged_is_made_again(damage: str, values: Any, tmp_path: Path) -> None:
    broken_off(tmp_path)
    partial = next(tmp_path.glob(".y*.partial"))
    noted = next(tmp_path.glob(".y*.records"))
    file = partial / min(chunks(partial))
    notes = next(path for path in noted.iterdir() if path.name != ".lock")
    match damage:
        case "truncate":
            os.truncate(file, 100)
        case "flip":
            content = bytearray(file.read_bytes())
            content[50] ^= 1
            file.write_bytes(content)
        case "delete":
            file.unlink()
        case "another's":
            # Each chunk has its own checksum behind it, which is right.
            file.write_bytes((partial / max(chunks(partial))).read_bytes())
        case "something else":
            (partial / "c" / ".nfs0001").touch()
        case "torn record":
            os.truncate(notes, notes.stat().st_size - 5)
        case "no records":
            notes.unlink()
    attempt(tmp_path)
    np.testing.assert_allclose(result(tmp_path, "zarr"), (values - values.mean(0)) * 2)
    assert left(tmp_path) == []


def test_records_tell_chunks_apart_that_have_their_own_checksum_behind_them() -> None:
    contents = [bytes([n]) * 100 for n in range(3)]
    parts = [[data, google_crc32c.value(data).to_bytes(4, "little")] for data in contents]
    assert len({google_crc32c.value(b"".join(pair)) for pair in parts}) == 1
    assert len({checksum_of(pair) for pair in parts}) == 3


def test_the_bits_are_those_of_a_run_that_was_not_broken_off(values: Any, tmp_path: Path) -> None:
    broken_off(tmp_path)
    attempt(tmp_path)
    resumed = result(tmp_path, "zarr")
    attempt(tmp_path)
    assert resumed.tobytes() == result(tmp_path, "zarr").tobytes()


def test_a_run_that_fails_leaves_the_old_content(values: Any, tmp_path: Path) -> None:
    xp.from_array(values).to_zarr(tmp_path / "y.zarr")
    broken_off(tmp_path)
    np.testing.assert_array_equal(result(tmp_path, "zarr"), values)
    attempt(tmp_path)
    np.testing.assert_allclose(result(tmp_path, "zarr"), (values - values.mean(0)) * 2)


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    first, second = Journal("mark"), Journal("mark")
    first.begin(str(tmp_path), ".y.zarr.")
    with pytest.raises(BlockingIOError, match="another process is writing"):
        second.begin(str(tmp_path), ".y.zarr.")
    first.close()
    second.begin(str(tmp_path), ".y.zarr.")
    second.end()
    assert left(tmp_path) == []


def test_an_output_that_cannot_be_made_says_so(tmp_path: Path) -> None:
    (tmp_path / "y.zarr").write_text("in the way")
    with pytest.raises(OutputError, match="a file is in the way"):
        xp.arange(1000.0).to_zarr(tmp_path / "y.zarr", resume=True)


MARKS = """
import sys
import chunkarr as np
from chunkarr import engine
from chunkarr.plan.mark import find_mark
from chunkarr.plan.plan import Target

np.config(memory="1GiB", workers=2, executor=sys.argv[1], chunk_bytes=40_000, eager_bytes=0)
rng = np.random.default_rng(4)
x = np.open("x.npy")
x = x - x.mean(0) + np.asarray([[1.0]]) + rng.normal(size=(400, 360))
limits, _ = engine.current_limits()
print(find_mark(engine.plan_for([Target(x.to_expr())], limits), [x.to_expr()]))
"""


@pytest.mark.slow
def test_a_mark_is_the_same_in_another_process_and_on_another_executor(
    values: Any, tmp_path: Path
) -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", MARKS, executor],
            cwd=tmp_path,
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for executor in ("threads", "processes", "threads")
    }
    assert len(found) == 1
