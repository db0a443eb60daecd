"""Executors: cost of a task and of a chunk, 3 GiB within 800 MB, users' functions, a lost worker.

Everything is done by threads, processes, and a Dask cluster of two workers with a thread each on
this machine; where memory counts, in a process per turn, all of whose descendants are measured.
"""

from __future__ import annotations

import importlib
import math
import os
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run as run_steps
from chunkarr.scheduler.steps import Context, Step
from tests.bench.files import folder_with_source
from tests.bench.harness import (
    WARM_UPS,
    WORKERS,
    Claim,
    main,
    race_processes,
    timed,
)
from tests.memory.sampling import workers_of

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

NAMES = ("threads", "processes", "distributed")
TASK_BARS = {"threads": 5e-6, "processes": 200e-6, "distributed": 1e-3}
CHUNK_BARS = {"threads": 5e-6, "processes": 20e-6, "distributed": 50e-6}
UNBOUNDED = "threads, no limit"
LIMIT = 800_000_000
SIDE = 1024
STD, RECHUNK = "(x-x.mean(0)).std()", "rechunk"


class Nothing:
    """A task that does nothing."""

    def run(self, task: int, context: Context) -> None:
        """Do nothing."""


@contextmanager
def executor_of(name: str) -> Iterator[Any]:
    """Give what `config(executor=...)` takes."""
    if name not in {"distributed", "dask.array"}:
        yield "threads" if name == UNBOUNDED else name
        return
    distributed = importlib.import_module("distributed")
    # Workers know the limit too; what is left over for the client and the scheduler is no task's.
    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            memory_limit=LIMIT // WORKERS,
            silence_logs=50,
        ) as cluster,
        distributed.Client(cluster, set_as_default=name == "dask.array") as client,
    ):
        yield client


def median_of(work: Callable[[], Any], rounds: int) -> float:
    """Give the median seconds of some work after a few runs of it."""
    took = []
    for turn in range(WARM_UPS + rounds):
        began = time.perf_counter()
        work()
        if turn >= WARM_UPS:
            took.append(time.perf_counter() - began)
    return statistics.median(took)


def task_cost(executor: Any, tasks: int) -> float:
    """Give what a task that does nothing costs, among many."""
    steps = [Step("nothing", Nothing(), tasks, 0, weight=1e-6)]
    found = get_executor(executor, WORKERS)
    return median_of(lambda: run_steps(steps, found, 1 << 30), 3) / tasks


def chunk_cost(executor: Any, folder: str, chunks: int) -> float:
    """Give what a chunk of 10 KB costs that is read from a file, and added up."""
    path = os.path.join(folder, "chunks.npy")
    np.save(path, np.random.default_rng(0).normal(size=chunks * 1250))
    with xp.config(executor=executor, chunk_bytes=10_000, eager_bytes=0):
        x = xp.load(path)
        return median_of(lambda: float((x + 1).sum()), 3) / chunks


def python_function(box: Any) -> Any:
    """Do what holds the interpreter's lock all the time."""
    total = box.copy()
    for i in range(box.shape[0]):
        total[i] = sum(divmod(j * 37, 11)[1] for j in range(400))
    return total


def function_cost(executor: Any, boxes: int) -> float:
    """Give the seconds of a pure-Python function on boxes."""
    with xp.config(executor=executor, eager_bytes=0):
        x = xp.from_array(np.zeros((boxes * 64, 256)), chunks=(64, 256))
        # Made anew each time, because what a name holds is not computed again.
        return median_of(
            lambda: float(xp.map_blocks(python_function, x, dtype=x.dtype).sum()), rounds=1
        )


def loss_cost(executor: Any, name: str, boxes: int) -> tuple[float, float]:
    """Give the seconds of a run, and of one in which a worker is killed half-way."""
    with xp.config(executor=executor, eager_bytes=0):
        x = xp.from_array(np.random.default_rng(1).normal(size=(boxes * 64, 256)), chunks=(64, 256))

        def result() -> Any:
            return (xp.map_blocks(python_function, x, dtype=x.dtype) + x).compute()

        result()
        began = time.perf_counter()
        expected = result()
        undisturbed = time.perf_counter() - began
        killer = threading.Timer(undisturbed / 2, kill_a_worker, (name,))
        killer.start()
        began = time.perf_counter()
        got = result()
        disturbed = time.perf_counter() - began
        killer.join()
    assert got.tobytes() == expected.tobytes()
    return undisturbed, disturbed


def kill_a_worker(name: str) -> None:
    """Kill one worker of this process."""
    for worker in workers_of(name)[:1]:
        worker.kill()


def run(name: str, folder: str, what: str) -> None:
    """Do the work whose memory counts, as one contender; called in a process of its own."""
    os.chdir(folder)
    spill = Path(folder) / "spill"
    spill.mkdir(exist_ok=True)
    target = os.path.join(folder, f"{name}.zarr")
    try:
        with executor_of(name) as executor:
            if name == "dask.array":
                da = importlib.import_module("dask.array")
                x = da.from_zarr("x.zarr")
                timed(lambda: print(float((x - x.mean(0)).std().compute())))
                return
            limit = {} if name == UNBOUNDED else {"memory": LIMIT}
            with xp.config(executor=executor, workers=WORKERS, spill_dir=str(spill), **limit):
                x = xp.open("x.zarr")
                if what == STD:
                    timed(lambda: print(float((x - x.mean(0)).std())))
                else:
                    timed(lambda: x.to_zarr(target, chunks=(x.shape[0], 16)))
    finally:
        shutil.rmtree(target, ignore_errors=True)


def within_limit(folder: str, quick: bool) -> tuple[dict[str, float], dict[str, int], bool]:
    """Run what has to stay within the limit on each executor."""
    rounds = 1 if quick else 2
    peers = [UNBOUNDED, *(["dask.array"] if importlib.util.find_spec("dask.array") else [])]
    module = "tests.bench.bench_executors"
    seconds, peaks = race_processes(module, [*NAMES, *peers], [folder, STD], rounds)
    more = race_processes(module, NAMES, [folder, RECHUNK], rounds)
    seconds |= {f"{RECHUNK} {name}": value for name, value in more[0].items()}
    peaks |= {f"{RECHUNK} {name}": value for name, value in more[1].items()}
    own = {name: peak for name, peak in peaks.items() if name not in peers}
    faster = seconds.get("dask.array", math.inf) >= 3 * seconds["distributed"]
    faster &= seconds["threads"] <= 1.2 * seconds[UNBOUNDED]
    return seconds, peaks, faster and max(own.values()) <= LIMIT


def measure(quick: bool) -> Claim:
    """Measure all of it."""
    tasks, chunks, boxes = (2000, 500, 8) if quick else (40_000, 40_000, 64)
    rows = 1024 if quick else 3 * 1024
    texts, holds, functions, losses = [], True, {}, {}
    with folder_with_source((rows * (1 if quick else 128), SIDE), SIDE) as folder:
        with xp.config(workers=WORKERS, spill_dir=folder):
            for name in NAMES:
                with executor_of(name) as executor:
                    task, chunk = task_cost(executor, tasks), chunk_cost(executor, folder, chunks)
                    functions[name] = function_cost(executor, 8 * boxes)
                    if name != "threads":
                        losses[name] = loss_cost(executor, name, boxes)
                holds &= task <= TASK_BARS[name] and chunk <= CHUNK_BARS[name]
                texts.append(f"{name} {task * 1e6:.1f} us/task, {chunk * 1e6:.1f} us/chunk")
        seconds, peaks, fits = within_limit(folder, quick)
    gain = functions["threads"] / functions["processes"]
    worst = max(disturbed / undisturbed for undisturbed, disturbed in losses.values())
    texts.append(f"Python function {gain:.2f}x threads, a worker killed {worst:.2f}x the time")
    seconds |= {f"Python function {name}": value for name, value in functions.items()}
    seconds |= {f"worker killed {name}": pair[1] for name, pair in losses.items()}
    return Claim(
        work=f"executors: tasks, chunks, `{STD}` and {RECHUNK} within {spell_limit()}, loss",
        bar="5/200/1000 us/task, 5/20/50 us/chunk, >= 3x dask.array on a cluster, "
        "threads <= 1.2x those without a limit, 1.7x, <= 2x",
        holds=holds and fits and gain >= 1.7 and worst <= 2,
        measured="; ".join(texts),
        seconds=seconds,
        peaks=peaks,
    )


def spell_limit() -> str:
    """Spell the memory limit."""
    return f"{LIMIT // 1_000_000} MB"


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run(*sys.argv[2:])
    else:
        main(measure)
