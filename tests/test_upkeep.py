"""`chunkarr doctor`, `clean` and `cluster`: what they find, what they leave alone."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from chunkarr import cli, clusters, doctor
from chunkarr.errors import ClusterLost, ConfigError
from chunkarr.kernels import cache
from chunkarr.settings import config
from chunkarr.storage.journal import Journal
from chunkarr.storage.leftovers import find_leftovers
from chunkarr.storage.spill import Session
from tests.memory.sampling import clean_environment

DYING = """
import os, signal
import numpy
import chunkarr as np

np.config(spill_dir="spill", eager_bytes=0)
from chunkarr.storage.spill import Session
Session.current()
from chunkarr.storage.formats import new_npy, new_zarr
first = new_npy("out/a.npy", (10,), "f8")
first.create()
second = new_zarr("out/b.zarr", (10,), "f8", (5,))
second.create()
kept = new_npy("out/c.npy", (10,), "f8")
kept.resume_as("mark")
kept.create()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def places(tmp_path: Path) -> Iterator[Path]:
    """A spill and an output directory, which this process uses as well."""
    for name in ("spill", "out"):
        (tmp_path / name).mkdir()
    config(spill_dir=str(tmp_path / "spill"))
    yield tmp_path
    Session.close_all()


def die(places: Path) -> None:
    """Let a process leave things behind."""
    command = [sys.executable, "-c", DYING]
    done = subprocess.run(command, cwd=places, env=clean_environment(), check=False)
    assert done.returncode == -signal.SIGKILL


def host() -> str:
    """Give what names of scratch say of this machine."""
    return f"{zlib.crc32(os.fsencode(os.uname().nodename)):08x}"


def names(folder: Path) -> set[str]:
    """Give what lies in a folder, by kind."""
    return {name.split(".")[1] if name[0] == "." else "session" for name in os.listdir(folder)}


def test_doctor_tells_what_runs_depend_on(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--store", str(places / "out")]) == 0
    said = capsys.readouterr().out
    for word in ("versions", "memory limit", "spill_dir", "blas", "open files", "clock", "latency"):
        assert word in said
    assert str(places / "spill") in said
    assert list((places / "out").iterdir()) == []


def test_doctor_speaks_json(places: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"name", "state", "text", "remedy"} == set(found[0])


@pytest.mark.parametrize("error", [ConfigError("no such thing"), OSError(5, "broken")])
def test_doctor_fails_where_something_is_a_problem(
    error: Exception,
    places: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing() -> Iterator[doctor.Finding]:
        raise error

    monkeypatch.setattr(doctor, "_limits", failing)
    assert cli.main(["doctor"]) == 1
    assert "problem" in capsys.readouterr().out


def test_doctor_warns_of_a_full_disk_and_few_files(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "bytes_free", lambda directory: 1 << 20)
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (64, 4096))  # type: ignore[attr-defined]
    states = {finding.name: finding for finding in doctor.examine()}
    assert states["spill_dir"].state == "warning"
    assert states["open files"].remedy == "raise it: ulimit -n 4096"


def test_doctor_says_that_a_cluster_is_lost(places: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object) -> None:
        raise ClusterLost("connect", "tcp://x:1", "no answer", ["start it"])

    monkeypatch.setattr(doctor, "get_executor", lost)
    (problem,) = (f for f in doctor.examine("tcp://x:1") if f.state == "problem")
    assert "tcp://x:1 is lost" in problem.text
    assert "start it" in problem.remedy


@pytest.mark.slow
@pytest.mark.faults
def test_clean_removes_what_dead_sessions_left_and_nothing_else(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    die(places)
    mine = Session.current()
    living = Journal("mine")
    living.begin(str(places / "out"), ".d.npy.")
    for half in ("spill/chunkarr-0-1-aa-0bbfd16a.gone.gone", "out/.a.npy.resume-0f.records.gone"):
        (places / half.replace("-0-", f"-{os.getuid()}-").replace("0bbfd16a", host())).mkdir()
    assert names(places / "out") == {"a", "b", "c", "d"}
    found = find_leftovers(str(places / "out"))
    assert {os.path.basename(item.path).split(".")[1] for item in found} == {"a", "b", "c"}
    leftovers = [f for f in doctor.examine(store=str(places / "out")) if f.name == "leftovers"]
    assert [finding.state for finding in leftovers][-1] == "warning"
    assert "2 of them for resume=True" in leftovers[-1].text
    assert cli.main(["clean", str(places / "out")]) == 0
    assert names(places / "out") == {"c", "d"}
    assert os.listdir(places / "spill") == [os.path.basename(mine.path)]
    assert ".a.npy." in capsys.readouterr().out
    assert cli.main(["clean", "--resumable", str(places / "out")]) == 0
    assert names(places / "out") == {"d"}
    living.end()
    assert os.listdir(places / "out") == []


def test_credentials_are_their_user_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    clusters.make_credentials(str(folder))
    key = folder / "key.pem"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = key.read_bytes()
    clusters.make_credentials(str(folder))
    assert key.read_bytes() == before
    key.chmod(0o644)
    with pytest.raises(ConfigError, match="can be read by others"):
        clusters.make_credentials(str(folder))


def test_credentials_need_a_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="openssl"):
        clusters.make_credentials(str(tmp_path / "credentials"))


def test_cache_shows_and_clears_the_kernels_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CHUNKARR_CACHE_DIR", str(tmp_path / "kernels"))
    cache.write("0123456789abcdef", "processor", b"x" * 1000)
    assert cli.main(["cache"]) == 0
    out, err = capsys.readouterr()
    assert "0123456789ab" in out
    assert "0 minutes ago" in out
    assert f"{tmp_path / 'kernels'}: 1 kernel, 1" in err
    assert cli.main(["cache", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["kernels"]) == 1
    assert cli.main(["cache", "--clear"]) == 0
    assert "1 kernel removed, 1" in capsys.readouterr().err
    assert cache.kept() == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("up --workers 0", "0 is not in the range"),
        ("up --workers 2 --threads 0", "0 is not in the range"),
        ("up --port 99999", "99999 is not in the range"),
        ("up --workers 2 --memory 1", "each needs at least"),
        ("up --workers 2 --memory lots", "cannot read 'lots' as a number of bytes"),
        ("worker scheduler:8786 --memory 1GiB --workers 1", "no address with TLS"),
        ("worker tcp://10.0.0.1:8786 --memory 1GiB --workers 1", "no address with TLS"),
    ],
)
def test_a_cluster_is_not_started_with_what_makes_no_sense(
    command: str, said: str, places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = places / "cluster"
    assert cli.main(["cluster", *command.split(), "--folder", str(folder)]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


def test_clean_refuses_a_directory_that_is_not_there(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["clean", str(places / "nowhere")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_doctor_names_the_check_that_fails(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--store", str(places / "nowhere"), "--cluster", "nonsense"]) == 1
    problems = [line for line in capsys.readouterr().out.splitlines() if "problem" in line]
    assert [line.split("  ")[1].strip() for line in problems] == ["store latency", "cluster"]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_that_was_killed_is_cleared_away_and_another_one_comes_up(places: Path) -> None:
    folder = str(places / "cluster")
    up = ["cluster", "up", "--folder", folder, "--workers", "1", "--memory", "1GiB"]
    try:
        for _ in range(2):
            assert cli.main(up) == 0
            cluster = clusters.running(folder)
            assert cluster is not None
            mains = [psutil.Process(pid) for pid, _ in cluster.processes]
            family = [*mains, *(child for main in mains for child in main.children(recursive=True))]
            for process in mains:
                process.kill()
            assert not psutil.wait_procs(family, timeout=20)[1], "workers end with what starts them"
        assert cli.main(["cluster", "down", "--folder", folder]) == 0
        assert sorted(os.listdir(folder)) == ["cert.pem", "key.pem", "scheduler.log", "worker.log"]
    finally:
        assert cli.main(["cluster", "down", "--folder", folder]) == 0


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_comes_up_with_credentials_on_loopback_and_goes(
    places: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(places / "cluster")
    assert cli.main(["cluster", "down", "--folder", folder]) == 0
    assert "no cluster is running" in capsys.readouterr().err
    try:
        up = ["cluster", "up", "--folder", folder, "--workers", "2", "--memory", "1GiB"]
        assert cli.main(up) == 0
        said = capsys.readouterr().out
        cluster = clusters.running(folder)
        assert cluster is not None
        assert f"export CHUNKARR_EXECUTOR={cluster.address}" in said
        family = [
            process
            for pid, _ in cluster.processes
            for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        ]
        listening = [c for p in family for c in p.net_connections() if c.status == "LISTEN"]
        assert len(listening) >= 4
        assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}
        assert cli.main(up) == 2
        assert "is running" in capsys.readouterr().err
    finally:
        assert cli.main(["cluster", "down", "--folder", folder]) == 0
    assert not [process for process in family if process.is_running()]
    assert sorted(os.listdir(folder)) == ["cert.pem", "key.pem", "scheduler.log", "worker.log"]
