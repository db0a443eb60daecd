"""Dask clusters with credentials: `chunkarr cluster up` on this machine, its parts on several.

Whoever reaches a Dask scheduler can have it run code, also another user of the same machine. So
scheduler, workers and clients prove to each other that they hold one key, which lies in a folder
that only its user can read, and nothing listens beyond loopback unless a host is named.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from chunkarr.errors import ConfigError

SECONDS_START = 30.0
SECONDS_STOP = 3.0
CERTIFICATE, KEY, STATE, SCHEDULER = "cert.pem", "key.pem", "cluster.json", "scheduler.json"
DAYS_VALID = 365
_ADDRESS = re.compile(r"tls://.+:\d+")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: where it is, what it is made of."""

    folder: str
    address: str
    workers: int
    processes: tuple[tuple[int, float], ...]
    """Process id and start time of the scheduler and of what starts the workers."""

    @property
    def environment(self) -> dict[str, str]:
        """What a client's environment needs: the address and the credentials."""
        return {
            "CHUNKARR_EXECUTOR": self.address,
            **client_environment(self.folder),
        }


def client_environment(folder: str) -> dict[str, str]:
    """Give Dask's settings for the credentials in a folder."""
    certificate, key = os.path.join(folder, CERTIFICATE), os.path.join(folder, KEY)
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    pairs = {f"{tls}CA_FILE": certificate}
    for role in ("CLIENT", "SCHEDULER", "WORKER"):
        pairs |= {f"{tls}{role}__CERT": certificate, f"{tls}{role}__KEY": key}
    return {**pairs, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}


def default_folder() -> str:
    """Give the folder of the user's cluster."""
    base = os.environ.get("XDG_RUNTIME_DIR") or os.path.expanduser("~/.cache")
    return os.path.join(base, "chunkarr-cluster")


def make_credentials(folder: str) -> None:
    """Make a key and its certificate, readable by their user alone, unless they are there.

    One pair serves all: holding the key is what makes a member of the cluster.
    """
    certificate, key = os.path.join(folder, CERTIFICATE), os.path.join(folder, KEY)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    if os.path.exists(certificate) and os.path.exists(key):
        _refuse_readable(key)
        return
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ConfigError(
            f"credentials are made with the program openssl, which is not installed; put a key and "
            f"its certificate into {key} and {certificate}"
        )
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subject = ["-subj", "/CN=chunkarr", "-days", str(DAYS_VALID)]
    # The key is made under its own name at once, so it never has another mode than this.
    os.close(os.open(key, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    command = [openssl, "req", "-x509", *curve, *subject, "-keyout", key, "-out", certificate]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        os.unlink(key)
        raise ConfigError(f"openssl could not make credentials: {done.stderr.strip()}")
    os.chmod(certificate, 0o600)


def _refuse_readable(path: str) -> None:
    info = os.stat(path)
    if info.st_uid != os.getuid() or stat.S_IMODE(info.st_mode) & 0o077:
        raise ConfigError(f"{path} can be read by others; `chmod 600` it, or make a new one")


def scheduler_command(folder: str, host: str, port: int) -> list[str]:
    """Give the command of a scheduler, which writes its address into the folder."""
    file = ["--scheduler-file", os.path.join(folder, SCHEDULER)]
    return _command("scheduler", [*_common(host), *file, "--port", str(port)])


def worker_command(
    folder: str,
    host: str,
    *,
    workers: int,
    threads: int,
    memory: str,
    address: str | None = None,
) -> list[str]:
    """Give the command of workers; without an address they find it in the folder."""
    if address is not None and not _ADDRESS.fullmatch(address):
        raise ConfigError(f"{address!r} is no address with TLS, as tls://10.0.0.5:8786 is")
    place = ["--scheduler-file", os.path.join(folder, SCHEDULER)] if address is None else [address]
    counts = ["--nworkers", str(workers), "--nthreads", str(threads), "--memory-limit", memory]
    return _command("worker", [*place, *_common(host), *counts, "--local-directory", folder])


def _command(what: str, arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", f"distributed.cli.dask_{what}", *arguments]


def _common(host: str) -> list[str]:
    # Without a dashboard there still is an HTTP server, which knows no credentials.
    quiet = ["--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    return ["--host", host, "--protocol", "tls", *quiet]


def become(command: list[str], folder: str) -> None:
    """Let this process be a part of a cluster from now on."""
    make_credentials(folder)
    os.execve(command[0], command, environment(folder))  # noqa: S606 - our own interpreter


def start(
    workers: int,
    *,
    folder: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    threads: int = 1,
    memory: str = "auto",
) -> Cluster:
    """Start a scheduler and workers with credentials, and wait until all are there."""
    place = os.path.abspath(folder or default_folder())
    if running(place) is not None:
        raise ConfigError(f"a cluster of {place} is running; `chunkarr cluster down` ends it")
    make_credentials(place)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, SCHEDULER))
    started: list[subprocess.Popen[bytes]] = []
    try:
        started.append(_launch(place, "scheduler", scheduler_command(place, host, port)))
        _wait_for_file(os.path.join(place, SCHEDULER), started)
        command = worker_command(
            place,
            host,
            workers=workers,
            threads=threads,
            memory=memory,
        )
        started.append(_launch(place, "worker", command))
        with open(os.path.join(place, SCHEDULER), encoding="utf-8") as written:
            address = json.load(written)["address"]
        processes = tuple((p.pid, psutil.Process(p.pid).create_time()) for p in started)
        cluster = Cluster(place, address, workers, processes)
        with open(os.path.join(place, STATE), "w", encoding="utf-8") as written:
            json.dump(asdict(cluster), written)
        _wait_for_workers(place, workers, started)
    except BaseException:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(place, STATE))
        raise
    for process in started:
        process.returncode = 0  # it outlives this one, which is nothing to warn of
    return cluster


def running(folder: str) -> Cluster | None:
    """Give the cluster of a folder while one of its processes lives."""
    try:
        with open(os.path.join(folder, STATE), encoding="utf-8") as written:
            known = json.load(written)
    except (OSError, ValueError):
        return None
    known["processes"] = tuple((int(pid), float(since)) for pid, since in known["processes"])
    cluster = Cluster(**known)
    return cluster if _living(cluster) else None


def stop(folder: str | None = None) -> bool:
    """End the cluster of a folder; False where none runs. The credentials stay."""
    place = os.path.abspath(folder or default_folder())
    cluster = running(place)
    if cluster is None:
        _clear(place)  # of one that was killed
        return False
    mains = _living(cluster)
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*mains, *(child for main in mains for child in main.children(recursive=True))]
    # Workers go first, so that none looks for a scheduler that has gone.
    for process in reversed(mains):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(family, timeout=SECONDS_STOP)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=SECONDS_STOP)
    _clear(place)
    return True


def _clear(folder: str) -> None:
    """Remove what a cluster that has ended leaves in its folder, but credentials and logs."""
    if not os.path.exists(os.path.join(folder, STATE)):
        return  # it was not started here: a scheduler of several hosts may live
    for name in (STATE, SCHEDULER):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    shutil.rmtree(os.path.join(folder, "dask-scratch-space"), ignore_errors=True)


def _living(cluster: Cluster) -> list[Any]:
    """Give the processes that still are those that were started: ids come round again."""
    found = []
    for pid, since in cluster.processes:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.create_time() == since and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _launch(folder: str, what: str, command: list[str]) -> subprocess.Popen[bytes]:
    with open(os.path.join(folder, f"{what}.log"), "wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own interpreter
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(folder),
            start_new_session=True,
        )


def environment(folder: str) -> Mapping[str, str]:
    """Give the environment of scheduler and workers: they import what this process does."""
    paths = [os.path.abspath(entry or os.getcwd()) for entry in sys.path]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CHUNKARR_")}
    single = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    return {
        **kept,
        **single,
        **client_environment(folder),
        "PYTHONPATH": os.pathsep.join(paths),
    }


def _wait_for_file(path: str, started: list[subprocess.Popen[bytes]]) -> None:
    until = time.monotonic() + SECONDS_START
    while not os.path.exists(path):
        _refuse_ended(os.path.dirname(path), started)
        if time.monotonic() > until:
            raise ConfigError(f"the scheduler did not start within {SECONDS_START:.0f} s")
        time.sleep(0.02)


def _wait_for_workers(folder: str, workers: int, started: list[subprocess.Popen[bytes]]) -> None:
    """Wait until the scheduler has heard of all workers, as its log tells."""
    until = time.monotonic() + SECONDS_START
    path = os.path.join(folder, "scheduler.log")
    while True:
        with open(path, encoding="utf-8", errors="replace") as log:
            if log.read().count("Register worker addr") >= workers:
                return
        _refuse_ended(folder, started)
        if time.monotonic() > until:
            raise ConfigError(f"not all of {workers} workers started; see the logs in {folder}")
        time.sleep(0.02)


def _refuse_ended(folder: str, started: list[subprocess.Popen[bytes]]) -> None:
    for process in started:
        if process.poll() is not None:
            names = ", ".join(sorted(n for n in os.listdir(folder) if n.endswith(".log")))
            raise ConfigError(
                f"a process of the cluster ended with code {process.returncode}; "
                f"see {names} in {folder}"
            )
