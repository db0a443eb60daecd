"""Full disks: the error says where, how much was needed and how much there is; nothing is lost."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr as xp
from chunkarr.cli import main
from chunkarr.errors import OutputError, SpillError
from chunkarr.storage.spill import Session
from tests.faults.checks import EXECUTORS

pytestmark = pytest.mark.faults


@pytest.fixture(name="disk")
def _disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, and beside it an array of 16 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting needs more rights; test_moments.py injects the same error")
    np.save(tmp_path / "big.npy", np.random.default_rng(0).normal(size=(2048, 1024)))
    yield place
    Session.close_all()
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.parametrize("executor", EXECUTORS, indirect=True)
@pytest.mark.parametrize("kind", ["zarr", "npy"])
def test_a_full_output_disk(kind: str, executor: Any, disk: Path) -> None:
    path = disk / f"x.{kind}"
    with xp.config(executor=executor, workers=2):
        small, big = xp.arange(1000.0), xp.load(disk.parent / "big.npy") * 2
        write = (lambda y: xp.save(path, y)) if kind == "npy" else (lambda y: y.to_zarr(path))
        write(small)
        with pytest.raises(OutputError, match=r"x\.\w+: No space left.*disk \(needed .*16\.0 MiB"):
            write(big)
        assert os.listdir(disk) == [path.name]
        np.testing.assert_array_equal(xp.open(path).compute(), np.arange(1000.0))
        write(small + 1)
        np.testing.assert_array_equal(xp.open(path).compute(), np.arange(1000.0) + 1)


@pytest.mark.parametrize("executor", EXECUTORS[1:], indirect=True)
def test_a_full_spill_disk(executor: Any, disk: Path) -> None:
    with xp.config(executor=executor, workers=2, spill_dir=str(disk), chunk_bytes=1 << 20):
        big = xp.load(disk.parent / "big.npy")
        with pytest.raises(SpillError, match=r"needed 16\.0 MiB, free [78]\.\d MiB") as caught:
            xp.save(disk.parent / "y.npy", xp.cumsum(big, 0).T + 1)
        assert caught.value.directory.startswith(str(disk))
        assert caught.value.bytes_needed >= 16 << 20 > caught.value.bytes_free > 0
        assert not (disk.parent / "y.npy").exists()
        assert [names for _, _, names in os.walk(disk) if set(names) - {".lock"}] == []
        xp.save(disk.parent / "y.npy", xp.cumsum(big[:200], 0).T + 1)
    found = np.load(disk.parent / "y.npy")
    expected = np.cumsum(np.load(disk.parent / "big.npy")[:200], 0).T + 1
    np.testing.assert_allclose(found, expected)


def test_the_command_line_says_it_in_a_line(
    disk: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = f"a={disk.parent / 'big.npy'}"
    assert main(["calc", "a * 2", source, "-o", str(disk / "y.npy")]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"Error: {disk}/y.npy: No space left on device in {disk} (needed 16.0")
    assert not [line for line in rest if not line.startswith("  ")]
    monkeypatch.setenv("CHUNKARR_SPILL_DIR", str(disk))
    with xp.config(spill_dir=str(disk)):
        arguments = ["-o", str(disk.parent / "y.npy"), "--executor", "processes", "--workers", "2"]
        assert main(["calc", "cumsum(a, 0).T + 1", source, *arguments]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"Error: spill directory {disk}")
    assert not [line for line in rest if not line.startswith("  ")]
    assert not (disk.parent / "y.npy").exists()
