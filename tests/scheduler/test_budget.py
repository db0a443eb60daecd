"""The ledger of bytes, and what the process tree really uses."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from chunkarr.scheduler.budget import (
    Budget,
    _Heap,
    memory_in_use,
    memory_in_use_within,
    processes_changed,
    trim_heap,
)


def test_what_does_not_fit_changes_nothing() -> None:
    budget = Budget(100)
    assert budget.reserve("a", 70)
    assert not budget.reserve("b", 31)
    assert budget.reserve("b", 30)
    assert (budget.available(), budget.held()) == (0, {"a": 70, "b": 30})


def test_release_gives_back_a_part_or_all_and_never_more() -> None:
    budget = Budget(100)
    budget.reserve("a", 70)
    budget.release("a", 20)
    assert budget.held() == {"a": 50}
    budget.release("a")
    budget.release("a", 5)
    assert budget.available() == 100


def test_a_message_names_the_largest_owners_and_sums_the_rest() -> None:
    budget = Budget(100)
    for owner, count in {"a": 1, "b": 4, "c": 2, "d": 3}.items():
        budget.reserve(owner, count)
    assert budget.describe(2) == "b holds 4 B, d holds 3 B, 2 others hold 3 B"


def test_threads_may_reserve_and_release_at_once() -> None:
    budget = Budget(1 << 40)

    def work() -> None:
        for _ in range(500):
            budget.reserve("a", 3)
            budget.release("a", 3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert budget.available() == 1 << 40


def test_memory_in_use_counts_what_is_touched() -> None:
    trim_heap()  # or it may be of what was freed before
    before = memory_in_use(children=False)
    held = np.ones(4 << 20)
    assert memory_in_use(children=False) - before > held.nbytes * 0.9


def test_memory_in_use_counts_children() -> None:
    code = "x = bytearray(64 << 20); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        processes_changed()
        assert memory_in_use() - memory_in_use(children=False) > 64 << 20
        child.communicate(b"\n")


def test_what_only_the_c_library_keeps_is_given_back_where_it_is_much() -> None:
    heap = _Heap()
    used = memory_in_use()
    heap._least, heap._next = used, time.monotonic() + 100
    assert not heap.trim(used + 100, 1000)  # hardly more than after the last time
    heap.trim(used + 2000, 1000)
    assert abs(memory_in_use_within(1 << 50) - memory_in_use()) < 64 << 20
    assert memory_in_use_within(1) <= memory_in_use() + (64 << 20)


@pytest.mark.skipif(sys.platform != "linux", reason="other C libraries")
def test_what_is_freed_after_much_was_in_use_is_given_back() -> None:
    heap = _Heap()
    held = [bytes(1000) for _ in range(50_000)]
    heap.trim(memory_in_use(), 1 << 20)
    last = held[-1]  # the C library gives back by itself what lies behind all others
    del held
    before = memory_in_use()
    heap._next = 0.0
    assert heap.trim(before, 1 << 20)
    assert memory_in_use() < before - (30 << 20)
    assert last
