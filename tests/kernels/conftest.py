"""Kernels of the tests are kept in a directory of their own, which workers of pytest-xdist share.

`CHUNKARR_CACHE_DIR` names another, where what an earlier run has compiled is found again.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from chunkarr.kernels import tier


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if "CHUNKARR_CACHE_DIR" in os.environ:
        yield
        return
    base = tmp_path_factory.getbasetemp()
    directory = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kernels"
    directory.mkdir(mode=0o700, exist_ok=True)
    os.environ["CHUNKARR_CACHE_DIR"] = str(directory)
    yield
    del os.environ["CHUNKARR_CACHE_DIR"]


@pytest.fixture(autouse=True)
def _mode_put_back() -> Iterator[None]:
    former = tier.mode()
    yield
    tier.set_mode(former)
