"""Faults of all kinds, one after the other, in a session of its own; everything from a seed.

`python -m tests.faults.storm FOLDER SEED ROUNDS SECONDS EXECUTORS KIND...` goes on for so many
rounds or seconds, whichever is over first, and reports what it met; EXECUTORS are names with commas
between them. A round that goes wrong ends it with the exception, and with the words that repeat
that round.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from chunkarr.errors import ClusterLost
from chunkarr.faults import armed
from chunkarr.plan.planner import Planner
from chunkarr.settings import config
from tests.faults.checks import SECONDS_MAX, Place, without_frames
from tests.faults.operations import OPERATIONS, Operation, check, lay_old, make_inputs, run
from tests.memory.sampling import workers_of
from tests.scheduler.test_cluster import make_client, make_cluster

SECONDS_PROMPT = 3.0
"""The promise is one second; a test machine may be busy."""
SECONDS_CLUSTER = 60.0
"""Dask starts a worker anew and finds out what it had; a stopped one is waited for."""
ERRORS = ("ENOSPC", "EIO", "EMFILE", "EACCES", "EDQUOT", "EROFS")
DEATHS = ("kill", "segfault", "exit")
DAMAGES = ("flip", "truncate", "delete")

Work = Callable[[], None]


def writing_at_most(most: int) -> Callable[[int, Any, int], int]:
    """Make a `pwrite` that writes no more than some bytes at once."""
    write = os.pwrite
    return lambda file, data, at: write(file, memoryview(data)[:most], at)


def jumping(chance: random.Random) -> Callable[[], float]:
    """Make a clock that jumps by days, ahead and back."""
    real = time.time
    return lambda: real() + chance.choice([-1, 1]) * chance.expovariate(1 / 86_400)


class Storm:
    """A session under faults."""

    def __init__(self, place: Place, seed: int, executors: Mapping[str, Any]) -> None:
        self.place, self.seed, self.executors = place, seed, executors
        if "distributed" in executors:
            place.files_more = 16  # what leaks, leaks more in hundreds of rounds
        self.chance = random.Random(seed)
        self.seconds: dict[tuple[str, str], float] = {}
        self.met: Counter[str] = Counter()
        self.slowest = 0.0
        self.lost = 0
        """How often Python has swallowed a Ctrl-C, because it fell into a finalizer."""
        sys.unraisablehook = self._unraisable

    def _unraisable(self, report: sys.UnraisableHookArgs) -> None:
        if report.exc_type is KeyboardInterrupt:
            self.lost += 1
        else:
            sys.__unraisablehook__(report)

    def warm(self) -> None:
        """Run everything once, which starts pools and tells how long it takes."""
        for name, executor in self.executors.items():
            with config(executor=executor):
                for operation in OPERATIONS:
                    lay_old(operation, self.place)
                    began = time.monotonic()
                    run(operation, self.place)
                    self.seconds[name, operation.name] = time.monotonic() - began
        self.place.settle()

    def round(self, kinds: list[str]) -> None:
        """Meet one fault and check what is left."""
        operation = self.chance.choice(OPERATIONS)
        executor = self.chance.choice(list(self.executors))
        kind = self.chance.choice(kinds)
        seconds = SECONDS_CLUSTER if executor == "distributed" else SECONDS_MAX
        with config(executor=self.executors[executor]):
            lay_old(operation, self.place)
            meet = getattr(self, f"_{kind}")
            error = meet(operation, executor, lambda: run(operation, self.place, seconds))
            try:
                check(operation, self.place, error)
            except BaseException as failed:
                failed.add_note(f"{kind} met {operation.name} on {executor}: {error!r}")
                raise
        self.met[f"{kind}, {'raised' if error is not None else 'right'}"] += 1

    def _number(self) -> int:
        return int(1.1 ** self.chance.uniform(0, 50))

    def _armed(self, text: str, work: Work, *, elsewhere: bool = False) -> BaseException | None:
        with armed(text, self.place.counts(), elsewhere=elsewhere):
            try:
                work()
            except Exception as error:  # noqa: BLE001 - `check` looks at it
                return without_frames(error)
        return None

    def _nothing(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        work()
        return None

    def _error(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        name = self.chance.choice(ERRORS)
        return self._armed(f"*:{self._number()}:{name}", work)

    def _memory(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        return self._armed(f"compute:{self._number()}:memory", work)

    def _slow(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        return self._armed(f"compute:{self._number()}:sleep=0.05", work)

    def _death(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Let a worker die; threads have none but the session itself."""
        if executor == "threads":
            return self._nothing(operation, executor, work)
        action = self.chance.choice(DEATHS)
        return self._armed(f"*:{self._number()}:{action}", work, elsewhere=True)

    def _damage(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Flip, cut or remove scratch before it is read.

        What a process has once found right it does not compare again, so a bit flips at the start.
        """
        action = self.chance.choice(DAMAGES)
        number = 1 if action == "flip" else self._number()
        return self._armed(f"spill.read:{number}:{action}", work)

    def _short(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Write no more than some bytes at once."""
        with mock.patch.object(os, "pwrite", writing_at_most(self._number())):
            work()
        return None

    def _clock(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Let the clock of this process jump by days.

        Timers of Dask's stand still after a clock has gone back, which is Tornado's way.
        """
        if executor == "distributed":
            return self._nothing(operation, executor, work)
        with mock.patch.object(time, "time", jumping(random.Random(self._number()))):
            work()
        return None

    def _stop(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Stop workers at some moment, and let them go on after a while, or never.

        Processes are replaced by others. A cluster of which nobody goes on is lost.
        """

        def stop() -> None:
            for worker in stopped:
                with suppress(psutil.Error):
                    worker.suspend()

        workers = workers_of(executor)
        stopped = self.chance.sample(workers, self.chance.randint(0, len(workers)))
        error: BaseException | None = None
        delay = self.chance.uniform(0, 1.1) * self.seconds[executor, operation.name]
        timers = [threading.Timer(delay, stop)]
        if self.chance.random() < 0.8:
            again = delay + self.chance.uniform(0, 0.5)
            timers += [threading.Timer(again, _go_on, (worker,)) for worker in workers]
        for timer in timers:
            timer.start()
        try:
            work()
        except ClusterLost as lost:
            assert executor == "distributed"
            assert len(stopped) == len(workers)
            error = without_frames(lost)
        for timer in timers:
            timer.join()
        for worker in workers:
            _go_on(worker)
        return error

    def _interrupt(self, operation: Operation, executor: str, work: Work) -> BaseException | None:
        """Press Ctrl-C at some moment of it, or shortly after."""
        sent: list[float] = []
        lost = self.lost

        def press() -> None:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        delay = self.chance.uniform(0, 1.1) * self.seconds[executor, operation.name]
        timer = threading.Timer(delay, press)
        try:
            timer.start()
            work()
            timer.join()
            time.sleep(0.01)
        except KeyboardInterrupt as error:
            took = time.monotonic() - sent[0]
            self.slowest = max(self.slowest, took)
            assert took < SECONDS_PROMPT, f"the prompt came after {took:.1f} seconds"
            timer.join()
            return without_frames(error)
        assert self.lost > lost, "Ctrl-C was pressed and nothing came of it"
        return None


def _go_on(worker: psutil.Process) -> None:
    with suppress(psutil.Error):
        worker.resume()


def main(arguments: list[str]) -> None:
    """Go on for so many rounds or seconds."""
    folder, seed, rounds, seconds, names, *kinds = arguments
    place = Place(Path(folder))
    config(spill_dir=f"{folder}/spill", eager_bytes=0, chunk_bytes=1 << 10, workers=2)
    Planner._fits = lambda *_, **__: False  # type: ignore[method-assign]  # all scratch goes to disk
    make_inputs(place.folder / "in")
    with executors_of(names.split(",")) as executors:
        rage(Storm(place, int(seed), executors), int(rounds), float(seconds), kinds)


@contextmanager
def executors_of(names: list[str]) -> Iterator[dict[str, Any]]:
    """Give executors by their names; a cluster is started and ended here."""
    made: dict[str, Any] = dict(zip(names, names, strict=True))
    if "distributed" not in made:
        yield made
        return
    with make_cluster(2) as cluster, make_client(cluster) as client:
        yield {**made, "distributed": client}


def rage(storm: Storm, rounds: int, seconds: float, kinds: list[str]) -> None:
    """Go on for so many rounds or seconds, and report."""
    storm.warm()
    end = time.monotonic() + seconds
    done = 0
    while done < rounds and time.monotonic() < end:
        try:
            storm.round(kinds)
        except BaseException as error:
            error.add_note(f"in round {done} of seed {storm.seed}; met before: {dict(storm.met)}")
            raise
        done += 1
    storm.place.check_memory_back()
    assert storm.lost <= 1 + done // 20
    report = {
        "rounds": done,
        "lost": storm.lost,
        "met": dict(sorted(storm.met.items())),
        "slowest": storm.slowest,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
