"""Ctrl-C and full disks: the prompt is back at once, nothing is left, the session goes on."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.errors import OutputError, SpillError
from chunkarr.plan.plan import Limits, Target
from chunkarr.plan.planner import make_plan
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.storage.zarr_target import ZarrTarget
from tests.memory.sampling import ROOT, clean_environment

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

pytestmark = pytest.mark.faults

SECONDS_MAX = 1.6
"""The promise is one second; this machine may be busy."""

SCRIPT = """
import os, sys, time
import numpy
import chunkarr as np

out, spill, executor, kind, catch = sys.argv[1:]

def main():
    np.config(memory="600MiB", workers=2, spill_dir=spill, executor=executor)
    x = np.sin(np.arange(4000 * 60000).reshape(4000, 60000) * 0.37)
    work = {
        "map": lambda: (x * 2).to_zarr(out, chunks=(200, 2000)),
        "spill": lambda: (np.cumsum(x, 0).T + 1).to_zarr(out, chunks=(2000, 200)),
        "npy": lambda: np.save(out, x * 2),
    }[kind]
    if catch == "no":
        work().compute()
    try:
        work().compute()
    except KeyboardInterrupt:
        print("caught", time.monotonic(), flush=True)
    print("after", (np.arange(10**6) * 2).sum(), flush=True)

if __name__ == "__main__":
    main()
"""


class Session:
    """A Python session in a process of its own, interrupted while it writes."""

    def __init__(self, folder: Path, executor: str, kind: str, *, catch: bool) -> None:
        self.out, self.spill = folder / "out", folder / "spill"
        self.out.mkdir()
        self.spill.mkdir()
        script = folder / "session.py"
        script.write_text(textwrap.dedent(SCRIPT))
        name = "x.npy" if kind == "npy" else "x.zarr"
        arguments = [
            str(self.out / name),
            str(self.spill),
            executor,
            kind,
            "yes" if catch else "no",
        ]
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            cwd=ROOT,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_busy(self, seconds: float = 30) -> None:
        """Wait until there is work in files, and a little more."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process.poll() is not None:
                pytest.fail(f"ended early: {self.process.communicate()}")
            with contextlib.suppress(OSError):
                if sum(1 for _ in self.files()) > 3:
                    time.sleep(0.1)
                    return
            time.sleep(0.02)
        pytest.fail("never busy")

    def files(self) -> Iterator[str]:
        """Give what lies in the two folders: files, and 100 MB of one file as a file each."""
        for folder in (self.out, self.spill):
            for place, _, names in os.walk(folder):
                for name in names:
                    path = os.path.join(place, name)
                    yield path
                    with contextlib.suppress(OSError):
                        yield from [path] * int(os.stat(path).st_blocks * 512 // 100_000_000)

    def interrupt(self) -> tuple[str, str, float]:
        """Press Ctrl-C; gives what was printed, and how long it took to be caught."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            out, err = self.process.communicate(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        caught = [line.split()[1] for line in out.splitlines() if line.startswith("caught")]
        return out, err, (float(caught[0]) if caught else time.monotonic()) - began

    def left(self) -> list[str]:
        """List what is left in both folders."""
        return [
            os.path.relpath(path, self.out.parent)
            for path in self.files()
            if not os.path.basename(path).startswith(".lock")
        ] + os.listdir(self.out)


@pytest.mark.parametrize(
    ("executor", "kind"),
    [
        ("threads", "map"),
        ("threads", "spill"),
        pytest.param("threads", "npy", marks=pytest.mark.slow),
        pytest.param("processes", "map", marks=pytest.mark.slow),
        pytest.param("processes", "spill", marks=pytest.mark.slow),
    ],
)
def test_ctrl_c_gives_the_prompt_back(executor: str, kind: str, tmp_path: Path) -> None:
    session = Session(tmp_path, executor, kind, catch=True)
    session.wait_until_busy()
    out, err, seconds = session.interrupt()
    assert "caught" in out, err
    assert "after 999999000000" in out
    assert session.process.returncode == 0, err
    assert not session.left()
    assert seconds < SECONDS_MAX


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_a_script_ends_by_keyboard_interrupt(executor: str, tmp_path: Path) -> None:
    session = Session(tmp_path, executor, "map", catch=False)
    session.wait_until_busy()
    _, err, seconds = session.interrupt()
    assert session.process.returncode in (-signal.SIGINT, 130)
    assert "KeyboardInterrupt" in err
    assert not session.left()
    assert seconds < SECONDS_MAX + 1  # an interpreter has to end as well


@pytest.mark.slow
def test_sigterm_leaves_nothing_that_the_next_start_keeps(tmp_path: Path) -> None:
    session = Session(tmp_path, "threads", "spill", catch=False)
    session.wait_until_busy()
    session.process.terminate()
    session.process.communicate(timeout=20)
    with xp.config(spill_dir=str(session.spill), eager_bytes=0):
        store = (xp.arange(1000.0) + 1).to_zarr(session.out / "x.zarr")
        assert float(store.sum()) == 500_500
        run_tightly(xp.cumsum(xp.from_array(np.ones((1000, 1000))), 0).sum())
    assert os.listdir(session.out) == ["x.zarr"]
    assert not [path for path in session.left() if path.startswith("spill")]


# -- full disks ------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if mounted.returncode:
        pytest.skip("mounting needs more rights")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def run_tightly(array: Any, into: Any = None) -> None:
    """Run a plan that has to spill all but the smallest values."""
    limits = Limits(64 << 20, 4 << 20, 1 << 18, 2)
    plan = make_plan([Target(array.to_expr(), into)], [], limits)
    run(plan.steps, get_executor("threads", 2), limits.bytes_available)


def test_a_full_spill_disk_is_an_error_and_the_session_goes_on(small_disk: Path) -> None:
    with xp.config(spill_dir=str(small_disk), eager_bytes=0, workers=2):
        x = xp.from_array(np.random.default_rng(0).normal(size=(1000, 1000)))
        with pytest.raises(SpillError) as caught:
            run_tightly((xp.cumsum(x, 0) + 1).sum())
        assert caught.value.directory.startswith(str(small_disk))
        assert "CHUNKARR_SPILL_DIR" in str(caught.value)
        assert isinstance(caught.value, OSError)
        files = [name for _, _, names in os.walk(small_disk) for name in names]
        assert not [name for name in files if not name.startswith(".lock")]
        run_tightly((xp.cumsum(x[:100], 0) + 1).sum())


@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_a_full_output_disk_keeps_the_old_content(kind: str, small_disk: Path) -> None:
    big = xp.from_array(np.random.default_rng(0).normal(size=(1000, 1000))) * 1
    path = small_disk / f"x.{kind}"

    def write(y: Any) -> None:
        if kind == "npy":
            xp.save(path, y)
        else:
            y.to_zarr(path)

    write(xp.arange(1000.0))
    with pytest.raises((OutputError, OSError)):
        write(big)
    np.testing.assert_array_equal(xp.open(path).compute(), np.arange(1000.0))
    assert os.listdir(small_disk) == [path.name]
    write(xp.arange(500.0))
    np.testing.assert_array_equal(xp.open(path).compute(), np.arange(500.0))


def test_a_spill_directory_that_is_gone_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with xp.config(spill_dir=str(gone), eager_bytes=0):
        gone.rmdir()
        x = xp.from_array(np.ones((1000, 1000)))
        try:
            run_tightly((xp.cumsum(x, 0) + 1).sum())
        except SpillError as error:
            assert str(gone) in str(error)  # noqa: PT017 - making the folder again is right too


def test_a_target_that_fails_at_its_creation_frees_the_scratch(tmp_path: Path) -> None:
    (tmp_path / "x.zarr").write_text("in the way")
    x = xp.from_array(np.ones((1000, 1000)))
    spill = tmp_path / "spill"
    spill.mkdir()
    target = ZarrTarget(tmp_path / "x.zarr", (1000, 1000), "f8", (100, 100))
    with xp.config(spill_dir=str(spill), eager_bytes=0), pytest.raises(OutputError):
        run_tightly(xp.cumsum(x, 0) + 1, target)
    files = [name for _, _, names in os.walk(spill) for name in names]
    assert not [name for name in files if not name.startswith(".lock")]
    assert (tmp_path / "x.zarr").read_text() == "in the way"
