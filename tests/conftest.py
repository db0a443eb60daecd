"""What all tests share: settings put back after each, hypothesis profiles."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator

import hypothesis
import pytest

from chunkarr.room import allow_compiling
from chunkarr.settings import config

hypothesis.settings.register_profile(
    "pr",
    max_examples=50,
    derandomize=True,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.register_profile("nightly", max_examples=2000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "pr"))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options of `pytest -m soak`."""
    parser.addoption("--soak-minutes", type=float, default=2.0, help="how long a soak goes on")
    parser.addoption("--soak-seed", type=int, default=0, help="where its faults come from")


MEASURING = ("bench", "memory", "soak", "accuracy")
"""Markers of tests that are run one by one: others beside them would change what they find."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Tell how many tests run at the same time; without pytest-xdist nobody asks."""
    chosen = str(config.option.markexpr)
    alone = [name for name in MEASURING if name in chosen and f"not {name}" not in chosen]
    return 0 if alone else os.cpu_count() or 1


def pytest_collection_finish() -> None:
    """Leave the tests themselves out of what the garbage collector looks through.

    There are hundreds of thousands of objects, and tests of faults collect after each fault.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _settings_put_back() -> Iterator[None]:
    """A test that changes settings changes them for itself."""
    config.current()  # reads the environment first
    saved = dict(config._process)
    # The last plan of an earlier test may have left no room for LLVM; the next plan looks anew.
    allow_compiling(allowed=True)
    yield
    config._process = saved
    config._version += 1
