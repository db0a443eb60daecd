"""Fair races: the same work under chunkarr and its peers, interleaved, with a bar to hold.

Contenders of a race take turns in one process after a few warm-ups each, so that a noisy minute
hits all of them; each result is compared with the first contender's. What chunkarr's very first run
took, before its kernel was compiled, is told beside it. Work whose memory counts runs in a process
per turn. Everybody has two workers. A peer that is not installed is left out, and named.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.memory.sampling import measured

WORKERS = 2
ROUNDS = 5
WARM_UPS = 3
"""Kernels are compiled beside the first runs."""
MIB = 1 << 20

PEERS = ("numexpr", "dask.array", "dask_array", "blosc2")
"""Modules of others that take part where they are installed: `pip install chunkarr[bench]`."""

Contenders = Mapping[str, Callable[[], Any]]


@dataclass(slots=True)
class Claim:
    """A piece of work, the bar for it, and what was measured."""

    work: str
    bar: str
    holds: bool
    measured: str
    """The number that the bar is about."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """Median seconds by contender."""
    peaks: Mapping[str, int] = field(default_factory=dict)
    """Peak bytes by contender."""


def installed(*modules: str) -> bool:
    """Whether all modules can be imported."""
    packages = [module.partition(".")[0] for module in modules]
    return all(importlib.util.find_spec(package) is not None for package in packages)


@contextmanager
def dask_threads() -> Iterator[None]:
    """Give dask's arrays two threads."""
    dask = importlib.import_module("dask")
    with dask.config.set(scheduler="threads", num_workers=WORKERS):
        yield


def race(contenders: Contenders, rounds: int = ROUNDS, rtol: float = 1e-9) -> dict[str, float]:
    """Run contenders in turns; gives the median seconds of each."""
    names = list(contenders)
    expected: Any = None
    first = {}
    for name in names:
        first[name], got = _timed(contenders[name])
        expected = got if expected is None else expected
        _compare(name, got, expected, rtol)
        for _ in range(WARM_UPS):
            contenders[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        # Who follows whom changes, because what one leaves in the cache helps or harms the next.
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            times[name].append(_timed(contenders[name])[0])
    found = {name: statistics.median(values) for name, values in times.items()}
    return found | {f"{name}, first run": first[name] for name in names if name == "chunkarr"}


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    got = work()
    return time.perf_counter() - began, got


def _compare(name: str, got: Any, expected: Any, rtol: float) -> None:
    if expected is None or got is None:
        return
    if isinstance(expected, tuple):
        for one, other in zip(got, expected, strict=True):
            np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=rtol, err_msg=name)
        return
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=rtol, err_msg=name)


def race_processes(
    module: str, names: Sequence[str], arguments: Sequence[str], rounds: int = 3
) -> tuple[dict[str, float], dict[str, int]]:
    """Run `python -m module run NAME ARGUMENTS` in turns; gives median seconds and highest peaks.

    The process prints `{"seconds": ...}` as its last line: of the work alone, imports left out.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    peaks: dict[str, int] = dict.fromkeys(names, 0)
    for turn in range(rounds + 1):
        for name in names:
            # What the one before left in the system's write-back would be waited for by this one.
            os.sync()
            done = measured(["-m", module, "run", name, *arguments])
            if turn:  # the first is for the disk's cache and the kernels'
                times[name].append(json.loads(done.output.splitlines()[-1])["seconds"])
                peaks[name] = max(peaks[name], done.bytes_peak)
    return {name: statistics.median(values) for name, values in times.items()}, peaks


def timed(work: Callable[[], Any]) -> None:
    """Run work and print the line that `race_processes` reads."""
    print(json.dumps({"seconds": _timed(work)[0]}))


def against(seconds: Mapping[str, float], *peers: str) -> str:
    """Spell how many times faster chunkarr is than each peer that took part."""
    return ", ".join(
        f"{seconds[peer] / seconds['chunkarr']:.1f}x {peer}" for peer in peers if peer in seconds
    )


def at_least(seconds: Mapping[str, float], **bars: float) -> bool:
    """Whether chunkarr is that many times faster than each peer; `_` stands for a dot."""
    return all(
        seconds[peer.replace("_", ".")] >= bar * seconds["chunkarr"]
        for peer, bar in bars.items()
        if peer.replace("_", ".") in seconds
    )


def spell_seconds(seconds: float) -> str:
    """Spell a duration with three digits.

    >>> spell_seconds(0.01234), spell_seconds(2.5)
    ('12.3 ms', '2.50 s')
    """
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def markdown(claims: Sequence[Claim]) -> str:
    """Lay claims out as a table for the README."""
    lines = ["| work | bar | measured | seconds |", "|---|---|---|---|"]
    for claim in claims:
        parts = []
        for name, seconds in claim.seconds.items():
            peak = f" ({claim.peaks[name] / MIB:.0f} MiB)" if name in claim.peaks else ""
            parts.append(f"{name} {spell_seconds(seconds)}{peak}")
        mark = "" if claim.holds else " **missed**"
        row = [claim.work, claim.bar, claim.measured + mark, ", ".join(parts)]
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def absences() -> str:
    """Name the peers that are not installed, for a line under a table."""
    absent = [name for name in PEERS if not installed(name)]
    return f"Not installed, and so not measured: {', '.join(absent)}." if absent else ""


def main(measure: Callable[[bool], Claim]) -> None:
    """Run one benchmark from the command line."""
    parser = argparse.ArgumentParser(description=measure.__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes: does it run at all?")
    claim = measure(parser.parse_args().quick)
    print(markdown([claim]), absences(), sep="\n")
