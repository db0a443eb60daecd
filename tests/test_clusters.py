"""Clusters with credentials: who may read what, one cluster for a folder, what errors tell."""

from __future__ import annotations

import os
import signal
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from chunkarr import cli, clusters
from chunkarr.errors import ClusterError, ConfigError
from tests.scheduler.works import soon

LEFT = ["cert.pem", "key.pem", "lock", "scheduler.log", "worker.log"]
"""What stays in a folder when its cluster has ended."""


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
    with pytest.raises(ClusterError, match="openssl"):
        clusters.make_credentials(str(tmp_path / "credentials"))


def test_half_made_credentials_are_replaced(tmp_path: Path) -> None:
    for half in ("key.pem", "cert.pem"):
        folder = tmp_path / half
        folder.mkdir(mode=0o700)
        (folder / half).touch(mode=0o600)
        (folder / "making").mkdir()  # of one that was killed
        clusters.make_credentials(str(folder))
        assert (folder / "key.pem").read_text().startswith("-----BEGIN")
        assert (folder / "cert.pem").read_text().startswith("-----BEGIN")
        assert not (folder / "making").exists()


def test_credentials_that_cannot_be_made_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clusters, "DAYS_VALID", "no number")
    with pytest.raises(ClusterError, match="openssl could not"):
        clusters.make_credentials(str(tmp_path))
    monkeypatch.undo()
    clusters.make_credentials(str(tmp_path))


def test_one_pair_is_made_where_many_ask_at_once(tmp_path: Path) -> None:
    folder = str(tmp_path / "credentials")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(clusters.make_credentials, [folder] * 4))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/cert.pem", f"{folder}/key.pem")  # raises unless a pair


def test_a_folder_that_others_can_write_to_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o777)
    assert cli.main(["cluster", "credentials", "--folder", str(tmp_path)]) == 2
    assert "can be written to by others" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []
    tmp_path.chmod(0o755)
    assert cli.main(["cluster", "credentials", "--folder", str(tmp_path)]) == 0


def test_a_folder_that_dask_takes_for_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="without line ends"):
        clusters.make_credentials(str(tmp_path / "a\nb"))
    assert os.listdir(tmp_path) == []


def test_a_certificate_that_has_expired_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clusters.make_credentials(str(tmp_path))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + (clusters.DAYS_VALID + 1) * 86400)
    assert cli.main(["cluster", "credentials", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path}/cert.pem has expired" in said
    assert "remove cert.pem and key.pem" in said


def test_what_is_no_certificate_is_named(tmp_path: Path) -> None:
    clusters.make_credentials(str(tmp_path))
    (tmp_path / "cert.pem").write_text("nothing")
    with pytest.raises(ConfigError, match="is no certificate"):
        clusters.make_credentials(str(tmp_path))


SCHEDULER = """
import json, time
print("Register worker addr", flush=True)
with open({folder!r} + "/scheduler.json", "x") as file:
    time.sleep(0.1)  # it is seen before it is written
    json.dump({{"address": "tls://10.0.0.1:8786"}}, file)
time.sleep(60)
"""
WORKER = "import time; time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open({folder!r} + "/begun", "x").close()
time.sleep(60)
"""
PASSING = """
import json, os, time
with open({folder!r} + "/scheduler.json", "x") as file:
    json.dump({{"address": "tls://10.0.0.1:8786"}}, file)
while not os.path.exists({folder!r} + "/begun"):
    time.sleep(0.01)
raise SystemExit(3)
"""
BROKEN = """
try:
    raise OSError("the port is taken")
except OSError as error:
    raise RuntimeError("no scheduler") from error
"""


def parts(folder: Path) -> list[psutil.Process]:
    """Give the processes that have a folder in their command lines."""
    found = psutil.process_iter(["cmdline"])
    return [p for p in found if any(str(folder) in word for word in p.info["cmdline"] or ())]


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Let programs of a few lines stand for scheduler and workers; none may be left."""

    def given(scheduler: str = SCHEDULER, worker: str = WORKER) -> None:
        for name, code in (("scheduler", scheduler), ("worker", worker)):
            command = [sys.executable, "-c", code.format(folder=str(tmp_path)), str(tmp_path)]
            monkeypatch.setattr(clusters, f"{name}_command", lambda *_, c=command, **__: c)

    monkeypatch.setattr(clusters, "SECONDS_STOP", 0.3)
    given()
    yield given
    left = parts(tmp_path)
    for process in left:
        process.kill()
    assert not left


def test_what_takes_no_notice_of_being_ended_is_killed(
    tmp_path: Path, pretend: Callable[..., None]
) -> None:
    pretend(scheduler=PASSING, worker=STUBBORN)
    with pytest.raises(ClusterError, match="scheduler ended with code 3: it has said nothing"):
        clusters.start(1, folder=str(tmp_path))
    assert clusters.running(str(tmp_path)) is None
    assert sorted(os.listdir(tmp_path)) == ["begun", *LEFT]


@pytest.mark.usefixtures("pretend")
def test_an_interrupt_right_after_a_part_is_started_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters.make_credentials(str(tmp_path))

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(*given, **named)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        clusters.start(1, folder=str(tmp_path))


def test_an_interrupt_while_parts_are_ended_leaves_nothing(
    tmp_path: Path, pretend: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(scheduler=PASSING, worker=STUBBORN)
    given = iter([KeyboardInterrupt])
    wait = psutil.wait_procs

    def interrupted(*args: Any, **named: Any) -> Any:
        for error in given:
            raise error
        return wait(*args, **named)

    monkeypatch.setattr(psutil, "wait_procs", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clusters.start(1, folder=str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == ["begun", *LEFT]


@pytest.mark.usefixtures("pretend")
def test_of_two_that_start_at_once_one_has_the_cluster(tmp_path: Path) -> None:
    def begin(_: int) -> object:
        try:
            return clusters.start(1, folder=str(tmp_path))
        except ClusterError as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool:
        given = sorted(pool.map(begin, range(2)), key=lambda it: isinstance(it, str))
    assert isinstance(given[0], clusters.Cluster)
    assert "is running" in str(given[1])
    assert clusters.stop(str(tmp_path))


@pytest.mark.usefixtures("pretend")
def test_a_clock_that_is_set_makes_no_other_cluster_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clusters.start(1, folder=str(tmp_path))
    created = psutil.Process.create_time
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: created(process) + 2)
    assert clusters.stop(str(tmp_path))


STARTING = """
import sys, time
from chunkarr import clusters
command = [sys.executable, "-c", "import time; time.sleep(60)", {folder!r}]
clusters.scheduler_command = lambda *_: command
clusters.start(1, folder={folder!r})
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_start_that_is_killed_leaves_what_can_be_ended(number: int, tmp_path: Path) -> None:
    code = STARTING.format(folder=str(tmp_path))
    starting = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert soon((tmp_path / "cluster.json").exists, 20)
    starting.send_signal(number)
    starting.wait()
    assert clusters.stop(str(tmp_path)) == (number == signal.SIGKILL)
    assert not parts(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [name for name in LEFT if name != "worker.log"]


@pytest.mark.usefixtures("pretend")
def test_a_cluster_of_another_host_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clusters.start(1, folder=str(tmp_path))
    here = os.uname()
    elsewhere = os.uname_result((here[0], "elsewhere", *here[2:]))
    monkeypatch.setattr(os, "uname", lambda: elsewhere)
    for action in ("down", "up"):
        assert cli.main(["cluster", action, "--folder", str(tmp_path)]) == 1
        assert f"was started on {here.nodename}" in capsys.readouterr().err
    monkeypatch.undo()
    assert soon(lambda: len(parts(tmp_path)) == 2, 10)
    assert clusters.stop(str(tmp_path))


@pytest.mark.usefixtures("pretend")
@pytest.mark.parametrize("damage", ["", "{", "{}", "[]", '{"processes": 1}'])
def test_a_record_that_cannot_be_read_is_not_taken_for_no_cluster(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clusters.start(1, folder=str(tmp_path))
    state = tmp_path / "cluster.json"
    before = state.read_text()
    state.write_text(damage)
    assert cli.main(["cluster", "down", "--folder", str(tmp_path)]) == 1
    said = capsys.readouterr().err
    assert f"{state} cannot be read" in said
    assert "end the processes" in said
    assert soon(lambda: len(parts(tmp_path)) == 2, 10)
    state.write_text(before)
    assert clusters.stop(str(tmp_path))


def test_an_error_tells_what_the_log_says(
    tmp_path: Path, pretend: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    pretend(scheduler=BROKEN)
    up = ["cluster", "up", "--folder", str(tmp_path), "--workers", "1", "--memory", "1GiB"]
    assert cli.main(up) == 1
    said = capsys.readouterr().err
    assert "ended with code 1: OSError: the port is taken; RuntimeError: no scheduler; see" in said
    assert str(tmp_path / "scheduler.log") in said


@pytest.mark.usefixtures("pretend")
def test_memory_of_a_cluster_is_given_as_that_of_a_program(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    up = ["cluster", "up", "--folder", str(tmp_path), "--workers", "1", "--memory"]
    assert cli.main([*up, "50%"]) == 0
    assert "1 worker at tls" in capsys.readouterr().err
    assert cli.main(["cluster", "down", "--folder", str(tmp_path)]) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("up --workers 0", "0 is not in the range"),
        ("up --workers 2 --threads 0", "0 is not in the range"),
        ("up --port 99999", "99999 is not in the range"),
        ("up --workers 1 --memory 1", "1 B for 1 worker; each needs at least"),
        ("up --workers 2 --memory lots", "cannot read 'lots' as a number of bytes"),
        ("worker scheduler:8786 --memory 1GiB --workers 1", "no address with TLS"),
        ("worker tcp://10.0.0.1:8786 --memory 1GiB --workers 1", "no address with TLS"),
    ],
)
def test_a_cluster_is_not_started_with_what_makes_no_sense(
    command: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cluster"
    assert cli.main(["cluster", *command.split(), "--folder", str(folder)]) == 2
    assert said in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_that_was_killed_is_cleared_away_and_another_one_comes_up(tmp_path: Path) -> None:
    folder = str(tmp_path / "cluster")
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
        assert sorted(os.listdir(folder)) == LEFT
    finally:
        assert cli.main(["cluster", "down", "--folder", folder]) == 0


@pytest.mark.slow
@pytest.mark.cluster
def test_a_cluster_comes_up_with_credentials_on_loopback_and_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "cluster")
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
        assert cli.main(up) == 1
        assert "is running" in capsys.readouterr().err
    finally:
        assert cli.main(["cluster", "down", "--folder", folder]) == 0
    assert not [process for process in family if process.is_running()]
    assert sorted(os.listdir(folder)) == LEFT
