"""Worker processes on this machine, for tasks that hold the interpreter lock.

Workers are started afresh (`python -c ...`), never forked: a fork copies locks that other threads
hold, and BLAS, CUDA and others do not survive it. Nor is `__main__` imported again as the standard
library does, so a script needs no `if __name__ == "__main__"`; functions defined there travel by
value. Work is pickled once per run and sent to a worker with its first range of the step; chunks
never travel, as all stores of such a run are files.

Each worker has a socket pair. Its end of file is how a death is noticed at once, in either
direction. A shared page says which run is cancelled and which task each worker is at.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe, wait

import cloudpickle

from chunkarr.errors import ConfigError, format_bytes
from chunkarr.floats import note
from chunkarr.machine import memory_kills, memory_used
from chunkarr.scheduler.budget import processes_changed
from chunkarr.scheduler.site import Modules, Site
from chunkarr.scheduler.state import Event, TaskFailed, TaskRangeDone, WorkerJoined, WorkerLost
from chunkarr.scheduler.steps import Step
from chunkarr.scheduler.worker import Board, Surroundings, warn_again
from chunkarr.settings import settings
from chunkarr.storage.spill import Session

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from chunkarr.scheduler.worker import main; main(sys.argv[2:])"
)
BYTES_WORKER = 24 << 20
"""A worker with NumPy loaded and nothing done; 17 MiB measured with Python 3.11 and NumPy 2.4."""
SECONDS_START = 60.0
"""A worker that is not ready after so long is given up."""
SECONDS_LEAVE = 0.5
"""A worker whose task does not leave a cancelled run within this time is ended."""
SECONDS_KILL = 5.0
"""A killed process is waited for so long: one that hangs in the kernel cannot be helped."""
CODE_UNKNOWN = 1 << 16
"""Stands for an exit code that nobody remembers."""
SECONDS_STOPPED = 5.0
"""A worker that somebody has stopped for so long is ended, and its range tried again."""
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(2 << 20), "MALLOC_TRIM_THRESHOLD_": str(4 << 20)}
"""The GNU C library gives larger arrays back at once; else its heap grows to half as much again."""
WALL = 1.25
"""All workers together go over the limit by so much only where a function of the user's does."""
SECONDS_COUNTED = 1.0
"""How old the kernel's count of processes killed for memory may be when a run starts."""
SECONDS_LOOK = 0.25
"""How often processes are looked at, in case something keeps a dead one's socket open."""


class ProcessExecutor:
    """A pool of worker processes that starts at its first use and stays."""

    name = "processes"
    depth = 1
    shares_memory = False
    target_seconds = 0.05
    bytes_most: int | None = None

    def __init__(self, workers: int) -> None:
        if not hasattr(os, "register_at_fork"):
            raise ConfigError(
                'executor="processes" needs a POSIX system; use "threads" or a distributed.Client'
            )
        self.workers = self._affordable = workers
        self.lock = threading.Lock()
        self._pool: dict[int, _Process] = {}
        self._run = 0
        self._steps: Sequence[Step] = ()
        self._packed: dict[int, bytes] = {}
        self._surroundings: Surroundings | None = None
        self._site = Site.here()
        self._modules = Modules()
        self._events: list[Event] = []
        self._looked = 0.0
        self._bytes_max = 0
        self._kills = memory_kills()
        self._counted = time.monotonic()
        self._board_file, self._board = _make_board()
        # Also ends the workers when the program ends.
        self._finalizer = weakref.finalize(self, _end_all, self._pool, self._board_file)
        _executors.add(self)

    def afford(self, free: int) -> tuple[int, int]:
        """Start no more workers than half of what is free is enough for, but one."""
        missing = self.workers - len(self._pool)
        affordable = max(0 if self._pool else 1, free // 2 // BYTES_WORKER)
        started = min(missing, affordable)
        self._affordable = len(self._pool) + started
        return self._affordable, started * BYTES_WORKER

    def start(self, steps: Sequence[Step]) -> None:
        """Begin a run: start the workers that are missing, as many as have use."""
        self._run += 1
        self._steps, self._packed, self._events = steps, {}, []
        self._surroundings, self._site = self._surroundings_here(), Site.here()
        self._bytes_max = settings().memory
        if time.monotonic() - self._counted > SECONDS_COUNTED:
            self._count_kills()
        useful = min(self._affordable, max((step.tasks for step in steps), default=0))
        # Workers have modules as these were when they imported them.
        again = self._modules.loaded_again()
        for worker, process in list(self._pool.items()):
            # What an interrupt has left half told, or busy, is not to be trusted.
            if again or process.busy or process.talking or process.ended():
                self._end(worker)
        for worker in range(useful):
            if worker not in self._pool:
                self._begin(worker)

    def _surroundings_here(self) -> Surroundings:
        """Give what tasks see; what they spill lies in our own scratch directory, and goes with it.

        A worker that is killed cannot remove its own.
        """
        found = Surroundings.here(self.workers)
        with suppress(OSError):  # a task that spills will tell
            return replace(found, settings={**found.settings, "spill_dir": Session.current().path})
        return found

    def ready(self) -> Sequence[int]:
        """Give the workers that have started and are not busy."""
        return [w for w, process in self._pool.items() if process.ready and not process.busy]

    def submit(self, worker: int, step: int, start: int, stop: int) -> None:
        """Send a range, with what the worker has not seen of the run yet."""
        process = self._pool[worker]
        process.busy = True
        if step not in self._packed:
            self._packed[step] = cloudpickle.dumps(self._steps[step].work)
        process.talking = True
        try:
            if process.run != self._run:
                site = None if process.site == self._site else self._site
                process.send(("begin", self._run, self._surroundings, site))
                process.run, process.steps, process.site = self._run, set(), self._site
            packed = None if step in process.steps else self._packed[step]
            process.send(("range", step, packed, start, stop))
            process.steps.add(step)
        except OSError:
            pass  # it has died; the end of its socket says so in the next round
        process.talking = False

    def next_events(self, timeout: float) -> list[Event]:
        """Wait for messages and for workers that end."""
        if self._events:
            timeout = 0.0
        by_connection = {process.connection: w for w, process in self._pool.items()}
        for connection in wait(list(by_connection), timeout):
            assert isinstance(connection, Connection)
            self._receive(by_connection[connection], connection)
        now = time.monotonic()
        if now - self._looked > SECONDS_LOOK:
            self._looked = now
            self._look(now)
        events, self._events = self._events, []
        return events

    def cancel(self, timeout: float | None) -> Callable[[], None] | None:
        """Make running tasks leave, and end the workers whose tasks do not."""
        self._board.cancelled = self._run
        for worker, process in list(self._pool.items()):
            if process.talking:
                self._end(worker)  # half a message was read or written, the rest has no beginning
        patience = SECONDS_LEAVE if timeout is None else min(timeout, SECONDS_LEAVE)
        end = time.monotonic() + patience
        busy = {w for w, process in self._pool.items() if process.busy}
        while busy and time.monotonic() < end:
            connections = {self._pool[w].connection: w for w in busy}
            for connection in wait(list(connections), max(0.0, end - time.monotonic())):
                assert isinstance(connection, Connection)
                busy.discard(connections[connection])
                try:
                    connection.recv_bytes()
                    self._pool[connections[connection]].busy = False
                except (EOFError, OSError):
                    pass
        for worker in busy:
            self._end(worker)
        return None

    def finish(self) -> None:
        """Let go of the run and so of its stores, here and in the workers."""
        self._steps, self._packed, self._events, self._surroundings = (), {}, [], None
        for process in self._pool.values():
            if process.run == self._run and not (process.busy or process.talking):
                process.talking = True
                with suppress(OSError):  # the next run will find it dead
                    process.send(("end",))
                process.talking = False

    def trim(self) -> None:
        """Let idle workers give back memory that only their C libraries keep, and wait for it."""
        if not self.lock.acquire(blocking=False):
            return  # the run that holds it has use for that memory
        try:
            for process in self._pool.values():
                process.trim(SECONDS_LEAVE)
        finally:
            self.lock.release()

    def close(self) -> None:
        """End the workers."""
        _end_workers(self._pool)

    def _begin(self, worker: int) -> None:
        self._board.set_task(worker, -1)
        with undisturbed():
            self._pool[worker] = _Process(worker, self._board_file, self._site)
        processes_changed()

    def _end(self, worker: int) -> str:
        """End a worker and tell how it ended."""
        with undisturbed():
            process = self._pool.pop(worker)
            process.connection.close()
            processes_changed()
            # A process that dies closes its socket a moment before it can be waited for.
            return process.end(0.0 if process.busy else SECONDS_LEAVE)

    def _count_kills(self) -> str | None:
        """Give where memory has run out since the last count: our innermost group, or beyond."""
        before, self._kills = self._kills, memory_kills()
        self._counted = time.monotonic()
        return next((k for k, n in self._kills.items() if n > before.get(k, n)), None)

    def _receive(self, worker: int, connection: Connection) -> None:
        process = self._pool[worker]
        process.talking = True
        try:
            message = pickle.loads(connection.recv_bytes())  # noqa: S301 - from our own worker
        except (EOFError, OSError):
            self._lost(worker)
            return
        process.busy = process.talking = False
        match message:
            case ("ready", _):
                process.ready = True
                self._events.append(WorkerJoined(worker))
            case ("done", run, start, stop, seconds, warned, noted) if run == self._run:
                self._events.append(TaskRangeDone(worker, start, stop, seconds))
                note(noted)
                warn_again(warned)
            case ("failed", run, task, packed, warned) if run == self._run:
                error = pickle.loads(packed)  # noqa: S301 - from our own worker
                self._events.append(TaskFailed(worker, task, error))
                warn_again(warned)

    def _lost(self, worker: int, why: str = "") -> None:
        """Report a worker that has ended, or is ended now and why; start another in its place."""
        process = self._pool[worker]
        task = self._board.task(worker)
        busy, process.busy = process.busy, False
        ended = self._end(worker)
        reason = why or ended
        if process.killed and (place := self._count_kills()) is not None:
            reason += f" because {place} was out of memory"
        if process.bytes_seen:
            reason += f"; it was last seen with {format_bytes(process.bytes_seen)}"
        self._events.append(WorkerLost(worker, reason, task if busy else None))
        self._begin(worker)

    def _look(self, now: float) -> None:
        for process in self._pool.values():
            # The kernel's own record counts what the parent held when it started the process.
            process.bytes_seen = memory_used(process=process.popen.pid) or process.bytes_seen
        for worker, process in list(self._pool.items()):
            late = not process.ready and now - process.began > SECONDS_START
            why = self._intolerable(process, now)
            if late or why or (process.ended() and not process.connection.poll()):
                self._lost(worker, why)

    def _intolerable(self, process: _Process, now: float) -> str:
        """Tell why a living worker has to be ended, empty where it may go on.

        Plans stay far below the limit; a function of the user's that goes over it would take the
        machine along. What the program itself holds is no reason to end a worker.
        """
        name = f"worker process {process.popen.pid} was ended"
        limit = f"the memory limit of {format_bytes(self._bytes_max)}"
        if process.bytes_seen > self._bytes_max:
            return f"{name} because it alone went over {limit}"
        held = [other.bytes_seen for other in self._pool.values()]
        if process.busy and process.bytes_seen == max(held) and sum(held) > WALL * self._bytes_max:
            together = f"all workers together held {format_bytes(sum(held))}, over {limit}"
            return f"{name} because it held most where {together}"
        waited_for = process.busy or not process.ready
        if waited_for and process.stopped and now - process.stopped > SECONDS_STOPPED:
            return f"{name} because somebody had stopped it for {SECONDS_STOPPED:.0f} seconds"
        return ""

    def _forget(self) -> None:
        """Leave the workers to the process that has started them."""
        for process in self._pool.values():
            process.connection.close()
            process.popen.returncode = 0  # it is not ours to wait for, nor to warn about
        self._pool.clear()
        self._finalizer.detach()
        os.close(self._board_file)
        self._board_file, self._board = _make_board()
        self._finalizer = weakref.finalize(self, _end_all, self._pool, self._board_file)
        self.lock = threading.Lock()


class _Process:
    """A worker process and what it has been told."""

    def __init__(self, worker: int, board_file: int, site: Site) -> None:
        self.connection, theirs = Pipe()
        from_main = threading.current_thread() is threading.main_thread()
        numbers = (theirs.fileno(), board_file, worker, os.getpid(), int(from_main))
        self.site = site
        path = json.dumps(self.site.path)
        with theirs:
            self.popen = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, "-c", BOOT, path, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), board_file),
                env={**HEAP, **self.site.environ},
                # Ctrl-C in a terminal goes to a whole group; workers are cancelled by message.
                process_group=0,
            )
        self.began = time.monotonic()
        self.bytes_seen = 0
        self.stopped = 0.0
        """When it was stopped by a signal, 0 while it runs."""
        self.ready = False
        self.busy = False
        self.talking = False
        self.run = 0
        self.steps: set[int] = set()

    def ended(self, seconds: float = 0.0) -> bool:
        """Wait at most so long for the end of the process.

        Popen's own `wait` takes a lock of Python's, and an interrupt can strike before the `try`
        that would let go of it: whoever asks next waits for ever. This was seen.
        """
        end = time.monotonic() + seconds
        while self.popen.returncode is None:
            try:
                asked = os.WNOHANG | os.WUNTRACED | os.WCONTINUED
                pid, status = os.waitpid(self.popen.pid, asked)
            except ChildProcessError:
                self.popen.returncode = CODE_UNKNOWN  # someone else has asked, and was told
                break
            if pid and (os.WIFSTOPPED(status) or os.WIFCONTINUED(status)):
                self.stopped = time.monotonic() if os.WIFSTOPPED(status) else 0.0
            elif pid:
                self.popen.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= end:
                return False
            else:
                time.sleep(0.001)
        return True

    @property
    def killed(self) -> bool:
        """Whether the process was ended as the kernel ends one for want of memory."""
        return self.popen.returncode == -signal.SIGKILL

    def end(self, seconds: float) -> str:
        """Wait for the end of the process, bring it about after so long, and tell how it ended."""
        if not self.ended(seconds):
            with suppress(ProcessLookupError):
                os.kill(self.popen.pid, signal.SIGKILL)
            self.ended(SECONDS_KILL)
        return _reason(self.popen.returncode, self.popen.pid)

    def trim(self, seconds: float) -> None:
        """Let an idle process give back what its C library keeps; waits at most so long for it."""
        if not self.ready or self.busy or self.talking:
            return
        self.talking = True  # without an answer it stays so, and the next run ends the process
        with suppress(EOFError, OSError):
            self.send(("trim",))
            if self.connection.poll(seconds):
                self.connection.recv_bytes()
                self.talking = False

    def send(self, message: tuple[object, ...]) -> None:
        self.connection.send_bytes(pickle.dumps(message))


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put off Ctrl-C for a moment: a process that nobody knows of would never be waited for.

    Blocking the signal in this thread would not do, since another thread can take it.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is None:
        yield
        return
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if pressed:
            signal.raise_signal(pressed[0])


def _make_board() -> tuple[int, Board]:
    with tempfile.TemporaryFile() as file:
        file.truncate(os.sysconf("SC_PAGE_SIZE"))
        number = os.dup(file.fileno())
    return number, Board(number)


def _reason(code: int | None, pid: int) -> str:
    """Spell an exit code."""
    if code is None or code == CODE_UNKNOWN:
        return f"worker process {pid} has ended"
    if code >= 0:
        return f"worker process {pid} has ended with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"worker process {pid} was killed by {name}"


def _end_workers(pool: dict[int, _Process]) -> None:
    """End idle workers by closing their sockets, and by force those that are busy."""
    for process in pool.values():
        process.connection.close()
    end = time.monotonic() + SECONDS_LEAVE
    for process in pool.values():
        process.end(max(0.0, end - time.monotonic()))
    pool.clear()
    processes_changed()


def _end_all(pool: dict[int, _Process], board_file: int) -> None:
    _end_workers(pool)
    os.close(board_file)


_executors: weakref.WeakSet[ProcessExecutor] = weakref.WeakSet()


def _forget_all() -> None:
    for executor in list(_executors):
        executor._forget()  # noqa: SLF001 - the same file


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
