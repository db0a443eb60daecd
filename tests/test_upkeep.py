"""`chunkarr doctor`, `clean` and `cluster`: what they find, what they leave alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from chunkarr import cli, doctor
from chunkarr.errors import ClusterLost, ConfigError
from chunkarr.kernels import cache
from chunkarr.settings import config
from chunkarr.storage.journal import Journal, sweep_lasting
from chunkarr.storage.leftovers import find_leftovers, remove_leftovers
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


@pytest.mark.parametrize(
    ("soft", "hard", "remedy"),
    [(20, 20, "the hard limit is 20"), (64, -1, "raise it: ulimit -n 4096"), (256, 256, "")],
)
def test_doctor_gives_a_limit_of_files_that_can_be_set(
    soft: int, hard: int, remedy: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda which: (soft, hard))  # type: ignore[attr-defined]
    (found,) = doctor._files()
    assert found.remedy.startswith(remedy)
    assert bool(found.remedy) is bool(remedy)


@pytest.mark.parametrize(
    ("memory", "state", "reason"),
    [("1KB", "problem", "this process alone holds"), ("1024TiB", "warning", "leaves")],
)
def test_doctor_weighs_a_memory_limit(memory: str, state: str, reason: str, places: Path) -> None:
    with config(memory=memory):
        (found,) = (f for f in doctor.examine() if f.name == "memory limit")
    assert found.state == state
    assert reason in found.text
    assert "CHUNKARR_MEMORY" in found.remedy


def test_doctor_tells_of_a_variable_that_cannot_be_read_once(places: Path) -> None:
    code = "from chunkarr.cli import main; main(['doctor', '--json'])"
    command = [sys.executable, "-c", code]
    environment = {**clean_environment(), "CHUNKARR_MEMORY": "nonsense"}
    done = subprocess.run(command, cwd=places, env=environment, capture_output=True, check=False)
    problems = [found for found in json.loads(done.stdout) if found["state"] == "problem"]
    assert [found["name"] for found in problems] == ["settings"]
    assert "CHUNKARR_MEMORY" in problems[0]["text"]


@pytest.mark.parametrize("name", ["threads", "processes"])
def test_doctor_says_what_is_no_cluster(name: str, places: Path) -> None:
    (problem,) = (f for f in doctor.examine(name) if f.state == "problem")
    assert "no address of a Dask cluster" in problem.text


def test_doctor_goes_on_after_a_check_that_breaks(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> Iterator[doctor.Finding]:
        raise AttributeError("no such thing")

    monkeypatch.setattr(doctor, "_limits", broken)
    found = {finding.name: finding for finding in doctor.examine()}
    assert found["settings"].text == "AttributeError: no such thing"
    assert "leftovers" in found


@pytest.mark.parametrize(
    ("resumable", "remedy"),
    [
        ([True], "chunkarr clean --resumable {}"),
        ([True, False], "chunkarr clean {}; with --resumable also those for resume=True"),
        ([False], "chunkarr clean {}"),
    ],
)
def test_doctor_gives_the_command_that_removes_what_is_left(
    resumable: list[bool], remedy: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [SimpleNamespace(bytes_size=1, resumable=kept) for kept in resumable]
    monkeypatch.setattr(doctor, "find_leftovers", lambda directory: left)
    (found,) = doctor._leftovers([str(places)])
    assert found.remedy == remedy.format(places)


@pytest.mark.parametrize(
    ("address", "start"),
    [("tls://a:1", "chunkarr cluster worker --folder DIR tls"), ("tcp://a:1", "dask worker tcp")],
)
def test_doctor_says_how_to_start_workers(
    address: str, start: str, places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = SimpleNamespace(scheduler_info=lambda n_workers: {"workers": {}})
    without = SimpleNamespace(address=address, client=client, reached_by_others=lambda: False)
    monkeypatch.setattr(doctor, "get_executor", lambda *_: without)
    found = {finding.name: finding for finding in doctor.examine(address)}
    assert f"start some: {start}" in found["cluster"].remedy


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
    (places / "out" / ".e.npy.1-aa-00000000.partial").touch()  # of another host
    (places / "out" / f".f.npy.1-aa-{host()}.partial").symlink_to(places)
    found = find_leftovers(str(places / "out"))
    assert {os.path.basename(item.path).split(".")[1] for item in found} == {"a", "b", "c"}
    leftovers = [f for f in doctor.examine(store=str(places / "out")) if f.name == "leftovers"]
    assert [finding.state for finding in leftovers][-1] == "warning"
    assert "2 of them for resume=True" in leftovers[-1].text
    assert cli.main(["clean", str(places / "out")]) == 0
    assert names(places / "out") == {"c", "d", "e", "f"}
    assert os.listdir(places / "spill") == [os.path.basename(mine.path)]
    assert ".a.npy." in capsys.readouterr().out
    assert cli.main(["clean", "--resumable", str(places / "out")]) == 0
    assert names(places / "out") == {"d", "e", "f"}
    living.end()
    assert names(places / "out") == {"e", "f"}


def test_what_another_user_may_go_on_with_is_left_alone(
    places: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = Journal("theirs")
    theirs.begin(str(places / "out"), ".d.npy.")
    theirs.close()
    before = os.listdir(places / "out")
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    assert sweep_lasting(str(places / "out"), ".d.npy.") == []
    assert remove_leftovers(str(places / "out"), resumable=True) == []
    assert os.listdir(places / "out") == before
    monkeypatch.undo()
    assert len(sweep_lasting(str(places / "out"), ".d.npy.")) == 1


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
