"""Runs steps on a Dask cluster, through a `distributed.Client` that the user has made.

One submitted task is one range, up to a tenth of a second of work, and two ranges are under way
for each thread of the cluster, so that no thread waits for this process. Nothing is pinned: Dask
places tasks and tries again after a lost worker; only a range that it gives up (`KilledWorker`) is
cut finer here. Chunks never travel through client or scheduler, since all stores are files that
workers and client see; `handshake` finds out whether they do. How many bytes are under way is
decided here, from what steps declare, and not by the workers' own thresholds for spilling.

A range carries its step's pickled work, and workers keep the unpickled one. Work that is large is
left out until a worker says that it lacks it. Dask's own way, a scattered future that ranges depend
on, would draw all ranges to the worker that holds it, and end the run if that worker ends.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from asyncio import CancelledError
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import cloudpickle
from distributed import Client, KilledWorker

from chunkarr.errors import ClusterLost, ConfigError
from chunkarr.floats import note, warn_user
from chunkarr.machine import is_stopped
from chunkarr.scheduler.endings import Former, how_it_ended
from chunkarr.scheduler.handshake import (
    Met,
    answer,
    ask_each,
    ask_here,
    open_to_others,
    refuse_files,
    refuse_versions,
    tell_workers,
)
from chunkarr.scheduler.overheard import unpack_warned
from chunkarr.scheduler.remote import cancel, cancel_and_forget, forget, run_remote
from chunkarr.scheduler.state import Event, TaskFailed, TaskRangeDone, WorkerJoined, WorkerLost
from chunkarr.scheduler.steps import Step
from chunkarr.scheduler.underway import UnderWay
from chunkarr.scheduler.worker import Surroundings, Warned, warn_again
from chunkarr.settings import settings

SECONDS_SILENT = 12.0
"""A scheduler that was not heard of for so long is lost."""
SECONDS_ANSWER_MIN = 1.0
"""Each question is given so long, however late it is asked."""
SECONDS_LOOK = 2.0
"""How often the scheduler is asked for its workers, which may come and go."""
SECONDS_SUSPECT = 0.2
"""How often, where ranges are tried on one worker each."""
SECONDS_STOPPED = 5.0
"""A worker that the scheduler has not heard of for so long is not waited for."""
SECONDS_ALL_STOPPED = 10.0
"""Workers of this machine that somebody has stopped, all of them, are waited for so long."""
SECONDS_ALL_SILENT = 60.0
"""So long where it cannot be told: they may hold the interpreter's lock, all at the same time.

Workers that are all paused for want of memory are waited for as long, and so is somebody who runs
any of the ranges that the cluster was given.
"""
SECONDS_ALL_GONE = 120.0
"""So long where none is left. A task that ends each worker is given up by Dask only after four."""
SECONDS_IDLE = 10.0
"""How long nothing has ended before it is asked whether anything runs."""
SECONDS_GREET = 10.0
"""How long a worker may take to say who it is: it imports chunkarr for that."""
SECONDS_MUTE = 30.0
"""How long after that one who did not say it is asked again."""
SECONDS_AGAIN = 0.05
"""How long to wait before a reply that could not be fetched is asked for again."""
BYTES_INLINE = 32 << 10
"""Work up to this size travels with each range."""
THREADS_SHARE = 2
"""The memory limit for plans, in shares of one worker's thread: a task takes up to 3/16 of it."""

T = TypeVar("T")


class ClusterExecutor:
    """Ranges as tasks of a Dask cluster; the client stays the user's own."""

    name = "distributed"
    depth = 2
    shares_memory = False
    target_seconds = 0.1

    def __init__(self, client: Client) -> None:
        if client.asynchronous:
            raise ConfigError("executor: an asynchronous Client cannot be waited for; make another")
        self.client: Any = client  # distributed has no types
        self.workers = 1
        self.lock = threading.Lock()
        scheduler = self.client.scheduler
        if scheduler is None:
            raise ConfigError("executor: this distributed.Client is closed; make another one")
        self.address = str(scheduler.address)
        """Where the scheduler was reached; a client that loses it forgets that."""
        self._token = ""
        self._steps: Sequence[Step] = ()
        self._packed: dict[int, bytes] = {}
        self._surroundings: Surroundings | None = None
        self._under_way: dict[int, UnderWay] = {}
        self._done: SimpleQueue[tuple[UnderWay, str]] = SimpleQueue()
        self._fit: list[str] | None = None
        self._stuck: set[str] = set()
        self._later: list[tuple[UnderWay, str]] = []
        self._doubled = self._manned = False
        self._submitted = 0
        self._slots = 0
        self._heard = self._looked = self._ended = time.monotonic()
        self._tried = 0.0
        self._warned = self._is_lost = False
        self._told: set[Warned] = set()
        self._given_up: list[tuple[int, int, int]] = []
        self._reported: dict[str, float] = {}
        self._borne: dict[str, float] = {}
        self._greeted: dict[tuple[str, str], Met] = {}
        self._greet_next = 0.0
        self.bytes_most: int | None = None
        if self._alive():
            self._warn_of_strangers()
            self.workers = max(1, sum(self._meet().values()))

    def start(self, steps: Sequence[Step]) -> None:
        """Begin a run on the threads that the cluster has now."""
        self._token = uuid.uuid4().hex
        self._steps, self._packed, self._under_way = steps, {}, {}
        self._done = SimpleQueue()
        self._heard = self._looked = self._ended = time.monotonic()
        self._warned = self._is_lost = self._doubled = False
        self._borne, self._told, self._given_up = {}, set(), []
        while not self._alive():  # perhaps it is connecting again
            self._look()
            time.sleep(0.02)
        threads = sum(self._meet().values())
        self._manned, self.workers = threads > 0, max(1, threads)
        self._surroundings = Surroundings.here(self.workers)
        self._slots = self.workers * self.depth

    def ready(self) -> Sequence[int]:
        """Give the free places; a place is not tied to a worker of the cluster."""
        return [place for place in range(self._slots) if place not in self._under_way]

    def submit(self, worker: int, step: int, start: int, stop: int) -> None:
        """Submit a range as one task."""
        if step not in self._packed:
            self._packed[step] = cloudpickle.dumps(self._steps[step].work)
        packed = self._packed[step]
        inline = packed if len(packed) <= BYTES_INLINE else None
        given = UnderWay(worker, step, start, stop, {}, time.monotonic())
        given.suspect = any(
            step == other and first <= start and stop <= last
            for other, first, last in self._given_up
        )
        self._under_way[worker] = given
        if not given.suspect:
            self._submit(given, inline)

    def next_events(self, timeout: float) -> list[Event]:
        """Wait for ranges that end, and look after the scheduler."""
        done: list[tuple[UnderWay, str]] = []
        try:
            done.append(self._done.get(timeout=timeout))
            self._ended = time.monotonic()
            self._borne |= {"idle": 0.0, "unmanned": 0.0}
            while not self._done.empty():
                done.append(self._done.get_nowait())
        except Empty:
            pass
        events = self._look()
        finished: list[tuple[UnderWay, str]] = []
        for given, key in done:
            if key not in given.futures:
                continue  # another task of the range was faster
            if given.futures[key].status == "finished":
                (self._later if key in self._stuck else finished).append((given, key))
                continue
            future = given.futures.pop(key)
            if not given.futures:
                events += self._gone(given, future)
            future.release()
        for (given, key), reply in zip(finished, self._gather(finished), strict=False):
            if key in given.futures:
                events += self._replied(given, key, reply)
        return events

    def cancel(self, timeout: float | None) -> Callable[[], None] | None:
        """Tell all workers that the run is cancelled, and wait for the ranges under way."""
        if not self._under_way:
            return None
        if self._is_lost:
            self._under_way = {}
            return None
        futures = [f for given in self._under_way.values() for f in given.futures.values()]
        patience = SECONDS_SILENT if timeout is None else timeout
        end = time.monotonic() + patience
        tell = partial(
            self.client.run,
            cancel,
            self._token,
            workers=self._fit,
            on_error="ignore",
            asynchronous=True,
        )
        try:
            self._ask(tell, end - time.monotonic())
            while not all(future.done() for future in futures) and self._alive():
                if time.monotonic() >= end:
                    break
                time.sleep(0.005)
        except (OSError, TimeoutError, RuntimeError):
            pass  # without its scheduler a run has nobody to wait for
        # A task that could not be reached runs on, and nobody waits for its result any more.
        self._under_way = {}
        for future in futures:
            future.release()
        return None

    def finish(self) -> None:
        """Let go of the run and so of its stores and futures, here and on the workers."""
        self._steps, self._packed, self._under_way, self._surroundings = (), {}, {}, None
        self._done, self._later = SimpleQueue(), []
        if self._submitted and self._alive():
            # A worker may still be at it: one of two that had a range, or one that is stopped.
            leave = cancel_and_forget if self._doubled or self._is_lost else forget
            self.client.loop.add_callback(tell_workers, self.client, leave, self._token)
        self._submitted = 0

    def afford(self, free: int) -> tuple[int, int]:
        """Give all workers, which somebody else has started."""
        del free
        return self.workers, 0

    def trim(self) -> None:
        """Do nothing: workers see to it themselves."""

    def close(self) -> None:
        """Do nothing: cluster and client belong to the user."""

    # Ranges

    def _submit(self, given: UnderWay, packed: bytes | None, only: list[str] | None = None) -> None:
        step = self._steps[given.step]
        self._submitted += 1
        label = "".join(c if c.isalnum() else "_" for c in step.name)
        future = self.client.submit(
            run_remote,
            (self._token, given.step),
            packed,
            given.start,
            given.stop,
            self._surroundings,
            key=f"chunkarr_{label}-{self._token}-{self._submitted}",
            pure=False,
            # Elsewhere only if none of these is left.
            workers=only or self._fit,
            allow_other_workers=only is None and self._fit is not None,
        )
        key = future.key
        given.futures[key] = future
        done = self._done
        future.add_done_callback(lambda _: done.put((given, key)))

    def _gather(self, finished: list[tuple[UnderWay, str]]) -> list[Any]:
        """Fetch the small replies of all finished ranges in one go."""
        if not finished:
            return []
        futures = [given.futures[key] for given, key in finished]
        try:
            ask = partial(self.client.gather, futures, asynchronous=True)
            replies: list[Any] = self._ask(ask, SECONDS_STOPPED)
        except (Exception, CancelledError) as error:  # noqa: BLE001 - each future tells its story
            # The worker that held a reply has ended, and Dask runs the range again or gives it up.
            for pair in finished:
                self._done.put(pair)
            if isinstance(error, TimeoutError):
                self._mind_silent()
            time.sleep(SECONDS_AGAIN)
            return []
        return replies

    def _replied(self, given: UnderWay, key: str, reply: Any) -> list[Event]:
        if reply[0] == "lacking":
            given.futures.pop(key).release()
            self._submit(given, self._packed[given.step])
            return []
        self._under_way.pop(given.worker, None)
        for future in given.futures.values():
            future.release()
        given.futures.clear()
        events: list[Event]
        match reply:
            case ("done", warned, seconds, noted):
                note(noted)
                events = [TaskRangeDone(given.worker, given.start, given.stop, seconds)]
            case ("failed", warned, task, packed):
                events = [TaskFailed(given.worker, task, cloudpickle.loads(packed))]
            case _:
                raise AssertionError(reply)
        told = [found for found in unpack_warned(warned) if found not in self._told]
        self._told.update(told)
        warn_again(told)
        return events

    # Losses

    def _gone(self, given: UnderWay, future: Any) -> list[Event]:
        """Give the events of a range that has no reply."""
        error = future.exception(timeout=1) if future.status == "error" else None
        if isinstance(error, KilledWorker):
            last = error.last_worker
            former = Former(last.address, last.pid, last.nanny, last.memory_limit)
            # It has tried the range on so many workers; what is left of it is tried on one each.
            self._given_up.append((given.step, given.start, given.stop))
            return self._lost_worker(given, self._how_it_ended(former), error.allowed_failures + 1)
        if error is not None:
            # Raised on the way to our own code: its import, the unpickling of its arguments.
            self._under_way.pop(given.worker, None)
            return [TaskFailed(given.worker, given.start, error)]
        return self._lost_worker(given, f"the cluster has {future.status} it", 1)

    def _lost_worker(self, given: UnderWay, reason: str, losses: int) -> list[Event]:
        self._under_way.pop(given.worker, None)
        return [WorkerLost(given.worker, reason, None, losses), WorkerJoined(given.worker)]

    def _try(self, suspects: Sequence[UnderWay]) -> list[Event]:
        """Give each suspect to one worker, and find out which of these workers have ended.

        Dask would try each on several workers once more. A range whose only worker has ended waits
        there for ever.
        """
        scheduler, events = self.client.scheduler, list[Event]()
        told: Any = self._answer(lambda: scheduler.identity(n_workers=-1))
        workers = told["workers"]
        for given in suspects:
            if given.tried_on is not None and given.tried_on.address not in workers:
                for future in given.futures.values():
                    future.release()
                given.futures.clear()
                events += self._lost_worker(given, self._how_it_ended(given.tried_on), 1)
        self._meet()
        places = [place for place in self._fit or workers if place in workers]
        for number, given in enumerate(given for given in suspects if given.tried_on is None):
            if places:
                place = places[number % len(places)]
                found, met = workers[place], self._greeted.get((place, settings().spill_dir))
                process = met.process if met is not None else 0
                given.tried_on = Former(place, process, found["nanny"], found["memory_limit"])
                self._submit(given, self._packed[given.step], only=[place])
        return events

    def _how_it_ended(self, former: Former) -> str:
        try:
            return self._ask(partial(how_it_ended, self.client.scheduler, former), SECONDS_STOPPED)
        except (OSError, TimeoutError, RuntimeError):
            return f"the Dask worker {former.address} has ended"

    # The cluster

    def _look(self) -> list[Event]:
        """Find out whether the scheduler is there and whether the cluster has grown."""
        now = time.monotonic()
        if self._alive():
            suspects = [given for given in self._under_way.values() if given.suspect]
            if suspects and now - self._tried > SECONDS_SUSPECT:
                self._tried = now
                if gone := self._try(suspects):
                    return gone
            if now - self._looked > SECONDS_LOOK:
                self._looked = now
                events = self._grown(sum(self._meet().values()))
                late = min((g.began for g in self._under_way.values()), default=now)
                if now - late > SECONDS_LOOK or self._fit is not None:
                    self._mind_silent()
                if self._under_way and self._manned and now - self._ended > SECONDS_IDLE:
                    self._mind_idle()
                return events
        elif self.client.status == "closed" or now - self._heard > SECONDS_SILENT:
            raise self._lost(f"the client is {self.client.status}")
        return []

    def _mind_silent(self) -> None:
        """Give what workers have that were stopped, or are paused, to others as well.

        A stopped worker keeps its connections, and Dask waits minutes for it. It may as well only
        be slow, or hold the interpreter's lock: whoever is done first is believed.
        """
        scheduler = self.client.scheduler
        told: Any = self._answer(lambda: scheduler.identity(n_workers=-1))
        workers = told["workers"]
        newest = max((found["last_seen"] for found in workers.values()), default=0.0)
        self._mind_all_silent({address: found["last_seen"] for address, found in workers.items()})
        patience = SECONDS_STOPPED + len(workers) / 50  # in large clusters they report rarely
        fit = [
            address
            for address, found in workers.items()
            if found["status"] == "running" and newest - found["last_seen"] <= patience
        ]
        self._fit = fit if 0 < len(fit) < len(workers) else None
        for pair in self._later:
            self._done.put(pair)
        self._stuck, self._later = set(), []
        self._mind_all_paused({place: found["status"] for place, found in workers.items()})
        if self._fit is None:
            return
        keys = [key for given in self._under_way.values() for key in given.futures]
        busy: Any = self._answer(lambda: scheduler.processing(workers=list(workers)))
        held: Any = self._answer(lambda: scheduler.who_has(keys=keys))
        places = {key: {address} for address, found in busy.items() for key in found}
        places |= {key: set(found) for key, found in held.items() if found}
        self._stuck = {key for key, place in places.items() if place.isdisjoint(fit)}
        for given in list(self._under_way.values()):
            if (
                given.futures
                and given.futures.keys() <= self._stuck
                and given.repeatable(self._steps)
            ):
                self._doubled = True
                self._submit(given, None)

    def _mind_all_silent(self, reported: dict[str, float]) -> None:
        """Raise where no worker at all has reported for long, though ranges are under way."""
        unheard = bool(reported) and reported == self._reported
        self._reported = reported
        stopped = all(self._is_stopped(address) for address in reported)
        self._bear(
            "silent",
            unheard,
            SECONDS_ALL_STOPPED if stopped else SECONDS_ALL_SILENT,
            "all its workers are stopped" if stopped else "no worker reports",
            reported,
        )

    def _mind_all_paused(self, states: dict[str, str]) -> None:
        """Warn where Dask has paused all workers, and raise where it does not let them go on."""
        paused = bool(states) and set(states.values()) == {"paused"}
        if paused:
            self._warn_once("all workers of the Dask cluster are paused: their memory is short")
        reason = "all its workers are paused for want of memory"
        self._bear("paused", paused, SECONDS_ALL_SILENT, reason, states)

    def _mind_idle(self) -> None:
        """Give what nobody runs to Dask once more, and raise where nobody runs that either.

        A range may wait behind work of others, which runs. Where nothing runs at all, somebody has
        forgotten it.
        """
        try:
            running = self._ask(
                lambda: self.client.scheduler.call_stack(keys=None), SECONDS_STOPPED
            )
        except (OSError, TimeoutError, RuntimeError):
            return  # a worker that does not answer may be at it
        self._bear("idle", not running, SECONDS_ALL_SILENT, "no worker runs what it was given", ())
        if not running and self._borne["idle"] > SECONDS_IDLE:
            for given in list(self._under_way.values()):
                if len(given.futures) == 1 and given.repeatable(self._steps):
                    self._doubled = True
                    self._submit(given, None)

    def _bear(
        self, what: str, holds: bool, seconds: float, reason: str, places: Iterable[str]
    ) -> None:
        """Raise where something has held at each look for so long.

        Looks are counted, and not the time between them: this process may have been stopped too.
        """
        borne = self._borne[what] = self._borne.get(what, 0.0) + SECONDS_LOOK if holds else 0.0
        if borne > seconds:
            where = ": " + ", ".join(sorted(places)) if places else ""
            raise self._lost(f"{reason}, for {borne:.0f} s now{where}")

    def _is_stopped(self, address: str) -> bool:
        """Whether a worker is a process of this machine that a signal has stopped."""
        met = self._greeted.get((address, settings().spill_dir))
        return met is not None and met.is_here and is_stopped(met.process)

    def _grown(self, threads: int) -> list[Event]:
        # A run may have to queue for its first workers; those that it had should come back soon.
        self._manned = self._manned or threads > 0
        patience = SECONDS_ALL_GONE if self._manned else math.inf
        self._bear("unmanned", not threads, patience, "all its workers are gone", ())
        if self._borne["unmanned"] > SECONDS_SILENT:
            self._warn_once("the Dask cluster has no workers; waiting for some")
        old, self._slots = self._slots, max(self._slots, threads * self.depth)
        self.workers = max(1, threads)
        return [WorkerJoined(place) for place in range(old, self._slots)]

    def _warn_once(self, text: str) -> None:
        if not self._warned:
            self._warned = True
            warn_user(text, UserWarning)

    def _meet(self) -> dict[str, int]:
        """Give the threads of each worker, after asking those that are new who they are."""
        threads: dict[str, int] = self._answer(partial(self.client.nthreads, asynchronous=True))
        directory = settings().spill_dir
        new = [address for address in threads if (address, directory) not in self._greeted]
        if new and time.monotonic() >= self._greet_next:
            found = self._greet(new)
            self._greeted |= {(address, directory): met for address, met in found.items()}
            self._greeted = {key: met for key, met in self._greeted.items() if key[0] in threads}
            self._greet_next = time.monotonic() + SECONDS_MUTE if len(found) < len(new) else 0.0
            self.bytes_most = self._memory_of_threads()
        return threads

    def _greet(self, addresses: Sequence[str]) -> dict[str, Met]:
        """Compare versions, and see that files are shared; give who answers.

        A worker that is stopped, or ends just now, does not answer. That is no reason to give up
        while there are others.
        """
        question = ask_here()
        try:
            here = answer(question.path, question.number)
            ask = partial(ask_each, self.client, addresses, question, SECONDS_GREET)
            replies = self._answer(ask, SECONDS_GREET + SECONDS_ANSWER_MIN)
        finally:
            question.remove()
        there = {place: found for place, found in replies.items() if isinstance(found, dict)}
        refuse_versions(here, there)
        refuse_files(question, there)
        if not there and not self._greeted:
            told = "; ".join(f"{place}: {error!r}" for place, error in sorted(replies.items()))
            raise self._lost(f"none of its workers answers: {told}")
        return {
            place: Met(int(found["process"]), found["host"] == here["host"])
            for place, found in there.items()
        }

    def _memory_of_threads(self) -> int | None:
        """Give what a plan may count on where nobody has set a limit, from the smallest worker."""
        workers = self.client.scheduler_info(n_workers=-1)["workers"].values()
        shares = [w["memory_limit"] // max(1, w["nthreads"]) for w in workers if w["memory_limit"]]
        return THREADS_SHARE * min(shares) if shares else None

    def _warn_of_strangers(self) -> None:
        """Warn of a scheduler that takes work from whoever reaches it."""
        if self.reached_by_others():
            text = f"the Dask scheduler at {self.address} runs code for whoever reaches it; use TLS"
            warn_user(text, UserWarning)

    def reached_by_others(self) -> bool:
        """Whether others than this machine's users can have the scheduler run code.

        Who comes by loopback may have met one that listens everywhere, and says so.
        """
        scheduler = self.client.scheduler
        told: Any = self._answer(lambda: scheduler.identity(n_workers=0))
        return open_to_others(self.address) or open_to_others(told["address"])

    def _alive(self) -> bool:
        return bool(self.client.status == "running")

    def _answer(self, question: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Ask the scheduler something; ClusterLost where no answer comes."""
        try:
            return self._ask(question, seconds)
        except (OSError, TimeoutError, RuntimeError) as error:
            raise self._lost(f"it does not answer ({error!r})") from error

    def _ask(self, question: Callable[[], Awaitable[T]], seconds: float | None = None) -> T:
        """Ask something and wait, by default until the scheduler has been silent for too long."""

        async def asked() -> T:
            if self.client.scheduler is None:
                raise OSError("the client has no scheduler")
            return await question()

        left = self._heard + SECONDS_SILENT - time.monotonic() if seconds is None else seconds
        answered: T = self.client.sync(asked, callback_timeout=max(SECONDS_ANSWER_MIN, left))
        self._heard = time.monotonic()
        return answered

    def _lost(self, reason: str) -> ClusterLost:
        self._is_lost = True
        given = min(self._under_way.values(), key=lambda g: (g.step, g.start), default=None)
        step = self._steps[given.step if given else 0].name if self._steps else "run"
        kept = any(store.resumable for step in self._steps for store in step.creates)
        again = (
            "run the same again: what was written of the output is kept (resume=True)"
            if kept
            else "nothing was kept; x.to_zarr(path, resume=True) keeps what was written"
        )
        remedies = ["start a scheduler and its workers", again]
        if self.client.status == "closed":
            remedies.insert(0, "connect with another distributed.Client: this one stays closed")
        return ClusterLost(step, self.address, reason, remedies)
