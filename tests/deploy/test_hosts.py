"""Recipes that run: two hosts, which are network namespaces here, and a Slurm job without Slurm."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.deploy.parts import DEPLOY, program, programs
from tests.memory.sampling import clean_environment
from tests.scheduler.works import soon

pytestmark = [pytest.mark.slow, pytest.mark.cluster]

ADDRESSES = ("10.231.77.1", "10.231.77.2")
CLIENT = """
import numpy, chunkarr as np
from chunkarr.scheduler.registry import get_executor
from chunkarr.settings import settings

np.config(eager_bytes=0, chunk_bytes=100_000, spill_dir={shared!r})
x = numpy.random.default_rng(0).normal(size=(400, 500))
lazy = np.from_array(x)
((lazy - lazy.mean(0)) * 2).to_zarr({shared!r} + "/y.zarr")
print(abs(np.open({shared!r} + "/y.zarr").compute() - (x - x.mean(0)) * 2).max() < 1e-12)
print(get_executor(settings().executor, 1).workers)
"""
INTRUDER = """
from distributed import Client
try:
    Client("{address}", timeout=2)
except Exception as error:
    print("refused", type(error).__name__)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Two hosts with a cable between them, and an address each."""
    names = [f"chunkarr{side}{os.getpid()}" for side in "ab"]
    cables = [f"ck{side}{os.getpid()}" for side in "ab"]
    made: list[str] = []
    try:
        for name in names:
            ip("netns", "add", name)
            made.append(name)
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, ADDRESSES, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            for device in (cable, "lo"):
                ip("-n", name, "link", "set", device, "up")
        yield names
    except (OSError, subprocess.CalledProcessError) as error:
        if len(made) == len(names) and not isinstance(error, OSError):
            raise
        pytest.skip("network namespaces are not permitted here")
    finally:
        for name in made:
            ip("netns", "delete", name)


def on(host: str, code: str, environ: dict[str, str]) -> str:
    done = subprocess.run(
        ["ip", "netns", "exec", host, sys.executable, "-c", code],
        env={**clean_environment(), **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def exported(text: str) -> dict[str, str]:
    """Read what a shell would take over from `chunkarr cluster credentials`."""
    lines = [line.removeprefix("export ") for line in text.splitlines()]
    return dict(line.split("=", 1) for line in lines)


def parts_of(folder: Path) -> list[psutil.Process]:
    """Give the processes of a cluster, by the folder in their command lines."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if any(str(folder) in word for word in process.info["cmdline"] or ()):
            found += [process, *process.children(recursive=True)]
    return found


def listening(processes: list[psutil.Process]) -> set[str]:
    """Give the addresses where processes wait to be called."""
    return {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections()
        if connection.status == "LISTEN"
    }


def test_two_hosts_and_a_shared_directory_make_a_cluster(hosts: list[str], tmp_path: Path) -> None:
    named = [f"{name}={address}" for name, address in zip(hosts, ADDRESSES, strict=True)]
    recipe = [sys.executable, str(DEPLOY / "ssh/cluster.py")]
    more = ["--shared", str(tmp_path), "--remote", "ip netns exec {host}"]
    more += ["--workers", "1", "--memory", "1GiB"]

    def recipe_does(action: str) -> str:
        done = subprocess.run(
            [*recipe, action, *more, *named],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    folder = tmp_path / "cluster"
    try:
        address = recipe_does("up")
        assert address == f"tls://{ADDRESSES[0]}:8786"
        code = "import sys; from chunkarr.cli import main; sys.exit(main())"
        shown = subprocess.run(
            [sys.executable, "-c", code, "cluster", "credentials", "--folder", folder, address],
            env=clean_environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        assert soon(lambda: log_of(folder).count("Register worker addr") == 2, 30)
        client = CLIENT.format(shared=str(tmp_path))
        # The client runs on the host that has no scheduler.
        assert on(hosts[1], client, exported(shown.stdout)) == "True\n2\n"
        for wrong in (address, address.replace("tls", "tcp")):
            assert on(hosts[1], INTRUDER.format(address=wrong), {}).startswith("refused")
        assert listening(parts_of(folder)) <= {*ADDRESSES, "127.0.0.1"}
        assert stat.S_IMODE((folder / "key.pem").stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        recipe_does("down")
    assert soon(lambda: not parts_of(folder), 10)


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("scheduler*.log"))


def on_this_host(shared: Path, action: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the recipe with this machine as the only host, without anything to reach it by."""
    command = [sys.executable, str(DEPLOY / "ssh/cluster.py"), action, "here=127.0.0.1"]
    return subprocess.run(
        [*command, "--shared", str(shared), "--remote", "env", *more],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )


def test_a_cluster_over_hosts_is_started_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        failed = on_this_host(tmp_path, "up", "--port", port)
        assert failed.returncode == 1
        assert "Address already in use" in failed.stderr
    more = ["--port", port, "--workers", "1", "--memory", "300MiB"]
    try:
        done = on_this_host(tmp_path, "up", *more)
        assert (done.returncode, done.stdout) == (0, f"tls://127.0.0.1:{port}\n"), done.stderr
        again = on_this_host(tmp_path, "up", *more)
        assert again.returncode == 1
        assert "was started before" in again.stderr
        assert (tmp_path / "cluster/scheduler.json").exists()
    finally:
        assert on_this_host(tmp_path, "down").returncode == 0
    assert soon(lambda: not parts_of(tmp_path / "cluster"), 10)


def test_a_cluster_over_hosts_whose_workers_cannot_start_is_ended(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    done = on_this_host(tmp_path, "up", "--port", port, "--workers", "4", "--memory", "300MiB")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "each needs at least 192.0 MiB" in done.stderr
    assert soon(lambda: not parts_of(tmp_path / "cluster"), 10)
    assert not list(tmp_path.glob("cluster/*.pid"))


def test_a_slurm_job_is_a_cluster_for_one_program(tmp_path: Path) -> None:
    if shutil.which("bash") is None or shutil.which("openssl") is None:
        pytest.skip("bash or openssl is not here")
    path = programs(tmp_path / "bin")
    # As Slurm's own, it gives a step one core unless it is told how many.
    run = "import os; a = sys.argv[1:]; assert '--cpus-per-task=2' in a; a = a[a.index('bash'):]"
    run += "; os.execvp(a[0], a)"
    program(tmp_path / "bin/srun", run)
    program(tmp_path / "bin/hostname", "print('127.0.0.1')")
    shared = tmp_path / "shared"
    shared.mkdir()
    waiting = "import time; from chunkarr.scheduler.registry import get_executor as g\n"
    waiting += "while g(settings().executor, 1).workers < 2 and not time.sleep(0.1):\n"
    waiting += "    g(settings().executor, 1).start([])\n"
    code = CLIENT.format(shared=str(shared)).replace("np.config", waiting + "np.config", 1)
    done = subprocess.run(
        ["bash", str(DEPLOY / "slurm/chunkarr.sbatch"), "python", "-c", code],
        cwd=tmp_path,
        env={
            **clean_environment(),
            "PATH": path,
            "SHARED": str(shared),
            "SLURM_JOB_ID": "77",
            "SLURM_SUBMIT_DIR": str(tmp_path),
            "SLURM_CPUS_PER_TASK": "2",
            "SLURM_MEM_PER_NODE": "2048",
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=90,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "True\n2\n"
    assert os.listdir(shared) == ["y.zarr"]
    assert not parts_of(shared)
