"""What a worker process runs, and what travels between it and a run.

The main loop reads messages from its parent, unpickles each step once, runs ranges of tasks, and
reports. Only the loop is here, so that starting a worker loads NumPy and little else; what a step
needs is loaded by unpickling it.
"""

from __future__ import annotations

import copyreg
import ctypes
import io
import mmap
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, TextIO

import numpy as np

from chunkarr.faults import adopt, fault_point, text_armed
from chunkarr.floats import Event, Events, gathering
from chunkarr.room import allow_compiling, may_compile
from chunkarr.scheduler.budget import trim_heap
from chunkarr.scheduler.ranges import enter_worker, run_range
from chunkarr.scheduler.steps import Cancelled, Context, Work
from chunkarr.settings import config
from chunkarr.storage.arena import task_arena
from chunkarr.storage.guard import now


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task sees beside its work: settings and NumPy's handling of floating-point errors."""

    settings: Mapping[str, Any]
    errstate: Mapping[str, Any]
    faults: str = ""
    compiling: bool = True
    """Whether the memory limit leaves room for kernels in each worker."""

    @classmethod
    def here(cls, workers: int) -> Surroundings:
        """Take down those of the calling thread, for one of so many workers."""
        current = config.current()
        settings: dict[str, Any] = {
            "memory": max(1, current.memory // workers),
            "spill_dir": current.spill_dir,
            "chunk_bytes": current.chunk_bytes,
            "eager_bytes": current.eager_bytes,
            # A run inside a task has the task's core to itself and nobody else's.
            "executor": "threads",
            "workers": 1,
        }
        return cls(settings, np.geterr(), text_armed(), may_compile())

    @contextmanager
    def __call__(self) -> Iterator[Events]:
        """Make them hold for a `with` block; gives the floating-point events in it."""
        adopt(self.faults)
        allow_compiling(allowed=self.compiling)
        settings = dict(self.settings)
        if not os.path.isdir(settings["spill_dir"]):
            del settings["spill_dir"]  # another machine may have another disk
        with config(**settings), gathering(self.errstate) as events:
            yield events


Warned = tuple[str, type[Warning], str, int]
"""A warning as text, category, file and line."""


class Warnings:
    """Collects each different warning once; `warnings.showwarning` of a worker."""

    def __init__(self) -> None:
        self._found: dict[Warned, None] = {}

    def __call__(  # noqa: D102 - the signature is that of warnings.showwarning
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        self._found[str(message), category, filename, lineno] = None

    def take(self) -> list[Warned]:
        """Give what was collected and start anew."""
        found, self._found = list(self._found), {}
        return found


def warn_again(found: list[Warned]) -> None:
    """Let a worker's warnings appear here, under the filters that hold here."""
    for text, category, filename, lineno in found:
        warnings.warn_explicit(text, category, filename, lineno)


def pack_error(error: BaseException, place: str = "") -> bytes:
    """Pickle an exception with a note that tells where it was raised.

    An exception that cannot make the way is replaced by a RuntimeError that names it: many classes
    pickle and then fail to unpickle, so the way back is tried here.
    """
    lines = traceback.format_exception(error)
    note = f"in {place or f'worker process {os.getpid()}'}:\n{''.join(lines)}"
    # Dask lets pickles take traces along, and that of a deep recursion cannot be pickled.
    _drop_traces(error)
    with suppress(Exception):
        error.add_note(note)
        # A class from the user's `__main__` has come here by value and can only go back that way;
        # cloudpickle, loaded by its coming, knows it again on both sides.
        pickler = getattr(sys.modules.get("cloudpickle"), "Pickler", pickle.Pickler)
        packed = _packed(error, pickler) or _packed(error, _with_own_ways(pickler))
        if packed:
            return packed
    replaced = RuntimeError(f"{type(error).__name__}: {error}")
    replaced.add_note(note)
    return pickle.dumps(replaced)


def _packed(error: BaseException, pickler: type[pickle.Pickler]) -> bytes:
    """Pickle an exception; nothing where it would come back without its text, or not at all."""
    with suppress(Exception):  # any class may do anything
        written = io.BytesIO()
        pickler(written).dump(error)
        back = pickle.loads(written.getvalue())  # noqa: S301 - our own bytes
        if str(back) or not str(error):
            return written.getvalue()
    return b""


def _with_own_ways(pickler: type[pickle.Pickler]) -> type[pickle.Pickler]:
    """Give a pickler that takes exceptions as they say; Dask has set a way for all of them.

    On that way UnicodeDecodeError, and others that keep what they are outside of `args`, lose it.
    """
    kept = {
        kind: way
        for kind, way in getattr(pickler, "dispatch_table", copyreg.dispatch_table).items()
        if not (isinstance(kind, type) and issubclass(kind, BaseException))
    }
    return type("Pickler", (pickler,), {"dispatch_table": kept})


def _drop_traces(error: BaseException) -> None:
    found: list[BaseException | None] = [error]
    for one in found:
        if one is not None:
            one.__traceback__ = None
            found += [e for e in (one.__cause__, one.__context__) if e not in found]


# The main loop of a worker process


class Board:
    """A page of memory that the parent and its workers share.

    The first word is the last run that was cancelled; then each worker has one for the task it is
    at. So asking "was I cancelled?" costs no system call, and the parent of a dead worker knows
    which task it died of.
    """

    WORKERS_MAX = mmap.PAGESIZE // 8 - 1

    def __init__(self, file: int) -> None:
        self._words = memoryview(mmap.mmap(file, mmap.PAGESIZE)).cast("q")

    @property
    def cancelled(self) -> int:
        """The last run that was cancelled."""
        return self._words[0]

    @cancelled.setter
    def cancelled(self, run: int) -> None:
        self._words[0] = run

    def task(self, worker: int) -> int | None:
        """Give the task that a worker is at, if it is known."""
        task = self._words[1 + worker % self.WORKERS_MAX]
        return None if task < 0 else task

    def set_task(self, worker: int, task: int) -> None:
        """Note the task that a worker is at; -1 for none."""
        self._words[1 + worker % self.WORKERS_MAX] = task


class _Step:
    """The context of a range in a worker process, and its work with the task noted on the board."""

    __slots__ = ("_board", "_run", "_work", "_worker")

    def __init__(self, board: Board, run: int, work: Work, worker: int) -> None:
        self._board, self._run, self._work, self._worker = board, run, work, worker

    def check(self) -> None:
        if self._board.cancelled >= self._run:
            raise Cancelled

    def run(self, task: int, context: Context) -> None:
        self._board.set_task(self._worker, task)
        self._work.run(task, context)


class _Server:
    """A worker process: ranges in, reports out."""

    def __init__(self, connection: Connection, board: Board, worker: int) -> None:
        self._connection, self._board, self._worker = connection, board, worker
        self._works: dict[int, Work] = {}
        self._run = 0
        self._began = now()
        self._surroundings: Surroundings | None = None
        self._warned = Warnings()

    def serve(self) -> None:
        """Run ranges until the parent closes the connection, which raises an exception."""
        warnings.showwarning = self._warned
        warnings.simplefilter("always")
        enter_worker()
        self._send("ready", os.getpid())
        while True:
            message = pickle.loads(self._connection.recv_bytes())  # noqa: S301 - our parent
            match message:
                case ("begin", run, surroundings, site):
                    self._run, self._surroundings, self._began = run, surroundings, now()
                    if site is not None:
                        site.stand()
                case ("end",):
                    self._works.clear()
                case ("trim",):
                    trim_heap()
                    self._send("trimmed")
                case ("range", step, packed, start, stop):
                    self._range(step, packed, start, stop)

    def _range(self, step: int, packed: bytes | None, start: int, stop: int) -> None:
        assert self._surroundings is not None
        began = time.perf_counter()
        failed: tuple[int, BaseException] | None
        met: list[Event] = []
        try:
            with self._surroundings() as events:
                fault_point("exchange")
                if packed is not None:
                    # The steps before are done; their stores hold files open that may be gone.
                    self._works.clear()
                    self._works[step] = pickle.loads(packed)  # noqa: S301 - from our parent
                work = self._works[step]
                context = _Step(self._board, self._run, work, self._worker)
                noted: Any = work if hasattr(work, "run_range") else context
                with task_arena.serving():
                    failed = run_range(noted, start, stop, context, self._began)
                met = list(events.found)
        except BaseException as error:  # noqa: BLE001 - a step that cannot be unpickled
            failed = start, error
        self._board.set_task(self._worker, -1)
        # Nobody may come round to it later: the end of the parent is the end of this process.
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        fault_point("exchange")
        if failed is None:
            seconds = time.perf_counter() - began
            self._send("done", self._run, start, stop, seconds, self._warned.take(), met)
        else:
            packed_error = pack_error(failed[1])
            self._send("failed", self._run, failed[0], packed_error, self._warned.take())

    def _send(self, *message: object) -> None:
        self._connection.send_bytes(pickle.dumps(message))


def main(arguments: list[str]) -> None:
    """Start a worker process: its connection, its board, its number, its parent."""
    connection_file, board_file, worker, parent, from_main = map(int, arguments)
    # Processes that a task starts must not keep the connection open: its end tells of our death.
    os.set_inheritable(connection_file, False)
    os.set_inheritable(board_file, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if from_main and sys.platform == "linux":
        # Linux signals when the *thread* that started us ends, so only the main one is trusted.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # 1 is PR_SET_PDEATHSIG
    watch = threading.Thread(target=_die_with, args=(connection_file, parent), daemon=True)
    watch.start()
    with suppress(EOFError, OSError):
        _Server(Connection(connection_file), Board(board_file), worker).serve()
    # Threads that a task has left behind must not keep the process alive.
    os._exit(0)


def _die_with(file: int, parent: int) -> None:
    """End this process, busy or not, when its parent has ended."""
    poll = select.poll()
    poll.register(file, 0)  # nothing but the other end being closed
    while not poll.poll(1000) and os.getppid() == parent:
        pass
    os._exit(1)
