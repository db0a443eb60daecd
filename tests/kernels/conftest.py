"""Kernels of the tests are kept in a directory of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkarr.kernels import tier


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("kernels")
    directory.chmod(0o700)
    former = os.environ.get("CHUNKARR_CACHE_DIR")
    os.environ["CHUNKARR_CACHE_DIR"] = str(directory)
    yield directory
    if former is None:
        del os.environ["CHUNKARR_CACHE_DIR"]
    else:
        os.environ["CHUNKARR_CACHE_DIR"] = former


@pytest.fixture(autouse=True)
def _mode_put_back() -> Iterator[None]:
    former = tier.mode()
    yield
    tier.set_mode(former)
