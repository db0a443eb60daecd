"""Kernels appear while work goes on, and never hold up the process."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from chunkarr.kernels import build, tier
from chunkarr.kernels.evaluate import REDUCERS, reduce_region
from chunkarr.kernels.program import Op, Program
from chunkarr.kernels.spec import Spec
from tests.kernels.support import F8, kernels, plain

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _nothing_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHUNKARR_CACHE_DIR", str(tmp_path / "kernels"))


def program_of(constant: int) -> Program:
    """A program no other test uses, for each number another."""
    ops = [Op("add", (0, 0), (F8, F8), F8)]
    ops += [Op("multiply", (i + 1, 0), (F8, F8), F8) for i in range(constant)]
    return Program((F8,), tuple(ops), (len(ops),))


def test_little_work_is_not_compiled() -> None:
    tier.set_mode("auto")
    program, x = program_of(1), np.ones(1000)
    for _ in range(10):
        reduce_region(program, "sum", [x], x.shape, (0,))
    spec = Spec(program, REDUCERS["sum"], "row", "u")
    entry = tier.entry_for(spec)
    assert not entry.queued
    assert entry.kernel is None


def test_announced_work_is_compiled_meanwhile_with_the_same_bits() -> None:
    tier.set_mode("auto")
    program, x = program_of(2), np.random.default_rng(0).standard_normal(100_000)
    tier.request(program, 10**10)
    totals = {reduce_region(program, "sum", [x], x.shape, (0,))[0].tobytes()}
    entry = tier.entry_for(Spec(program, REDUCERS["sum"], "row", "u"))
    assert entry.queued
    deadline = time.monotonic() + 60
    while entry.kernel is None and time.monotonic() < deadline:
        totals.add(reduce_region(program, "sum", [x], x.shape, (0,))[0].tobytes())
    assert entry.kernel is not None
    totals.add(reduce_region(program, "sum", [x], x.shape, (0,))[0].tobytes())
    assert len(totals) == 1


def test_a_kernel_that_fails_to_compile_leaves_the_work_to_numpy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tier.set_mode("auto")
    program, x = program_of(3), np.ones(100)
    monkeypatch.setattr(build, "source_of", lambda spec: "def kernel(p):\n    nonsense(p)\n")
    tier.request(program, 10**10)
    spec = Spec(program, REDUCERS["sum"], "row", "u")
    deadline = time.monotonic() + 60
    while not tier.entry_for(spec).failed and time.monotonic() < deadline:
        [total] = reduce_region(program, "sum", [x], x.shape, (0,))
        assert total == 200
    assert tier.entry_for(spec).failed
    with kernels("numpy"):
        assert reduce_region(program, "sum", [x], x.shape, (0,))[0] == 200


def test_kernels_that_are_too_many_go_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "KERNELS_MAX", 2)
    x = np.arange(5000.0)
    with kernels("compiled"):
        programs = [program_of(constant) for constant in (4, 5, 6)]
        expected = [reduce_region(program, "sum", [x], x.shape, (0,))[0] for program in programs]
        entries = [tier.entry_for(Spec(p, REDUCERS["sum"], "row", "u")) for p in programs]
        assert [entry.kernel is None for entry in entries] == [True, False, False]
        code = weakref.ref(entries[1].kernel)
        again = [reduce_region(program, "sum", [x], x.shape, (0,))[0] for program in programs]
        assert [entry.kernel is None for entry in entries] == [True, False, False]
    np.testing.assert_array_equal(again, expected)
    gc.collect()
    assert code() is None


def test_wishes_that_are_too_many_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tier, "ENTRIES_MAX", 8)
    specs = [Spec(program_of(n), REDUCERS["sum"], "row", "u") for n in range(40, 70)]
    for spec in specs:
        tier.entry_for(spec)
    assert sum(tier.entry_for(spec).kernel is None for spec in specs[-3:]) == 3
    assert len([s for s in tier._entries if s in set(specs)]) <= 8


def test_modes_have_three_names() -> None:
    with pytest.raises(ValueError, match="numpy"):
        tier.set_mode("fast")


def test_threads_share_a_kernel() -> None:
    x = np.random.default_rng(1).standard_normal((64, 5000))
    with kernels("compiled"):
        reduce_region(plain(F8), "var", [x], x.shape, (0,))
        expected = [
            reduce_region(plain(F8), "var", [row[:, None] + [0, 1]], (5000, 2), (0,)) for row in x
        ]
        found: list[object] = [None] * 64

        def work(start: int) -> None:
            for i in range(start, 64, 4):
                values = x[i][:, None] + [0, 1]
                found[i] = reduce_region(plain(F8), "var", [values], (5000, 2), (0,))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal(found, expected)


def test_a_kernel_that_one_thread_reads_is_not_compiled_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tier.set_mode("auto")
    program = program_of(11)
    spec = Spec(program, REDUCERS["sum"], "row", "u")
    tier.request(program, 10**10)
    entry = tier.entry_for(spec)
    reading, read = threading.Event(), threading.Event()

    def slow(_: tier.Entry) -> None:
        reading.set()
        assert read.wait(30)

    monkeypatch.setattr(build, "load", slow)
    monkeypatch.setattr(build, "build", lambda _: None)
    reader = threading.Thread(target=tier.kernel_for, args=(entry, 1000))
    reader.start()
    assert reading.wait(30)
    assert tier.kernel_for(entry, 1000) is None
    assert not entry.queued
    read.set()
    reader.join()
    assert entry.queued  # it was not there


def test_a_call_releases_the_interpreter() -> None:
    x = np.broadcast_to(np.ones(1_000_000), (2000, 1_000_000))
    with kernels("compiled"):
        reduce_region(plain(F8), "var", [x[:2]], (2, 1_000_000), (0, 1))
        done = threading.Event()

        def work() -> None:
            reduce_region(plain(F8), "var", [x], x.shape, (0, 1))
            done.set()

        thread = threading.Thread(target=work)
        seen = [time.monotonic()]
        thread.start()
        while not done.is_set():
            seen.append(time.monotonic())
        thread.join()
    # A call that kept the interpreter would be one long gap.
    assert max(np.diff(seen)) < (seen[-1] - seen[0]) / 2


EXIT = """
import sys
import numpy as np
from chunkarr.kernels import tier
from chunkarr.kernels.evaluate import reduce_region
from chunkarr.kernels.program import Op, Program
d = np.dtype(float)
for n in range(1, 6):
    p = Program((d,), tuple(Op("add", (i, 0), (d, d), d) for i in range(n)), (n,))
    tier.request(p, 10**10)
    reduce_region(p, "var", [np.ones(10)], (10,), (0,))
{how}
"""


@pytest.mark.parametrize(
    ("how", "code"), [("", 0), ("sys.exit(3)", 3), ("raise KeyboardInterrupt", None)]
)
def test_leaving_during_a_compile_neither_hangs_nor_crashes(
    how: str, code: int | None, tmp_path: Path
) -> None:
    environment = os.environ | {
        "CHUNKARR_KERNELS": "auto",
        "CHUNKARR_CACHE_DIR": str(tmp_path / "k"),
    }
    result = subprocess.run(
        [sys.executable, "-c", EXIT.format(how=how)],
        env=environment, cwd=REPOSITORY, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    if code is None:
        assert result.stderr.rstrip().endswith("KeyboardInterrupt")
    else:
        assert (result.returncode, result.stderr) == (code, "")


def test_a_fork_during_a_compile_works_on(tmp_path: Path) -> None:
    how = """
import os, warnings
warnings.simplefilter("ignore")
pid = os.fork()
[total] = reduce_region(p, "sum", [np.ones(1000)], (1000,), (0,))
assert total == 6000, total
if pid == 0:
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
"""
    environment = os.environ | {
        "CHUNKARR_KERNELS": "auto",
        "CHUNKARR_CACHE_DIR": str(tmp_path / "k"),
    }
    subprocess.run(
        [sys.executable, "-c", EXIT.format(how=how)],
        env=environment, cwd=REPOSITORY, timeout=100, check=True,
    )  # fmt: skip
