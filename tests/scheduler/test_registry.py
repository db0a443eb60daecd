"""From a setting to an executor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chunkarr.errors import ConfigError
from chunkarr.scheduler.executor import ThreadExecutor
from chunkarr.scheduler.registry import get_executor

ROOT = Path(__file__).resolve().parents[2]


def test_an_executor_is_made_once() -> None:
    executor = get_executor("threads", 2)
    assert isinstance(executor, ThreadExecutor)
    assert get_executor("threads", 2) is executor
    assert get_executor("threads", 3).workers == 3


def test_an_unknown_name_raises_and_suggests() -> None:
    with pytest.raises(ConfigError, match="did you mean 'threads'"):
        get_executor("thread", 2)
    with pytest.raises(ConfigError, match="expected"):
        get_executor(3, 2)


def test_heavy_libraries_are_loaded_when_they_are_asked_for() -> None:
    code = (
        "import sys, chunkarr.scheduler.run, chunkarr.scheduler.registry; "
        "assert not {'distributed', 'dask', 'numba', 'zarr', 'rich'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
