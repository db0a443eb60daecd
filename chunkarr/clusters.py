"""Dask clusters with credentials: `chunkarr cluster up` on this machine, its parts on several.

Whoever reaches a Dask scheduler can have it run code, also another user of the same machine. So
scheduler, workers and clients prove to each other that they hold one key, which lies in a folder
that only its user can read, and nothing listens beyond loopback unless a host is named.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from chunkarr.errors import ClusterError, ConfigError

SECONDS_START = 30.0
SECONDS_STOP = 3.0
CERTIFICATE, KEY, STATE = "cert.pem", "key.pem", "cluster.json"
SCHEDULER, LOCK = "scheduler.json", "lock"
DAYS_VALID = 365
Parts = dict[str, subprocess.Popen[bytes]]
"""The scheduler and what starts the workers, by the names of their logs."""
_ADDRESS = re.compile(r"tls://.+:\d+")
_TELLING = re.compile(r"[\w.]*(?:Error|error|Exception)(?:: |$)")
"""How a line begins that names an error."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster: where it is, what it is made of."""

    folder: str
    host: str
    """Where its processes are; the folder may be seen from other hosts as well."""
    address: str
    workers: int
    processes: tuple[tuple[int, str], ...]
    """Process id of the scheduler and of what starts the workers, and when each was born."""

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
    if not folder.isprintable():
        raise ConfigError(f"{folder!r} cannot be named to Dask; choose a folder without line ends")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    _refuse_writable(folder)
    if not _complete(certificate, key):
        with locked(folder):
            if not _complete(certificate, key):  # who had the lock before may have made them
                _make_pair(folder, certificate, key)
    _refuse_readable(key)
    _refuse_expired(certificate)


def _complete(certificate: str, key: str) -> bool:
    return os.path.exists(certificate) and os.path.exists(key)


def _make_pair(folder: str, certificate: str, key: str) -> None:
    """Put a new pair in the place of what may be half of one.

    The certificate appears last: where there is one, its key is there as well and complete.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise ClusterError(
            f"credentials are made with the program openssl, which is not installed; put a key and "
            f"its certificate into {key} and {certificate}"
        )
    making = os.path.join(folder, "making")
    shutil.rmtree(making, ignore_errors=True)  # of one that was killed
    os.mkdir(making, mode=0o700)
    try:
        made = os.path.join(making, CERTIFICATE), os.path.join(making, KEY)
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        subject = ["-subj", "/CN=chunkarr", "-days", str(DAYS_VALID)]
        command = [openssl, "req", "-x509", *curve, *subject, "-out", made[0], "-keyout", made[1]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise ClusterError(f"openssl could not make credentials: {done.stderr.strip()}")
        for path in made:
            os.chmod(path, 0o600)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(certificate)
        os.replace(made[1], key)
        os.replace(made[0], certificate)
    finally:
        shutil.rmtree(making, ignore_errors=True)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Let one command at a time change a folder; others wait for their turn."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(os.path.join(folder, LOCK), flags, 0o600)
    try:
        # Where the file system has no locks, nobody can be waited for.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _refuse_writable(folder: str) -> None:
    info = os.stat(folder)
    if info.st_uid not in {os.getuid(), 0} or stat.S_IMODE(info.st_mode) & 0o022:
        raise ConfigError(
            f"{folder} can be written to by others, who could put a key of theirs there; "
            f"`chmod 700` it, or name a folder of your own"
        )


def _refuse_expired(certificate: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise ConfigError(f"{certificate} is no certificate: {error}") from error
    ends = [str(known["notAfter"]) for known in context.get_ca_certs()]
    if ends and max(map(ssl.cert_time_to_seconds, ends)) < time.time():
        raise ClusterError(
            f"the certificate {certificate} has expired on {ends[-1]}; end its cluster and remove "
            f"{CERTIFICATE} and {KEY}: new ones are made at the next use"
        )


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
    make_credentials(place)
    scheduler = scheduler_command(place, host, port)
    worker = worker_command(place, host, workers=workers, threads=threads, memory=memory)
    with locked(place):
        if running(place) is not None:
            raise ClusterError(f"a cluster of {place} is running; `chunkarr cluster down` ends it")
        return _start(place, scheduler, worker, workers)


def _start(place: str, scheduler: list[str], worker: list[str], workers: int) -> Cluster:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(place, SCHEDULER))
    started: Parts = {}
    try:
        cluster = Cluster(place, os.uname().nodename, "", workers, ())
        cluster = _launch(cluster, "scheduler", scheduler, started)
        cluster = replace(cluster, address=_wait_for_address(place, started))
        cluster = _launch(cluster, "worker", worker, started)
        _wait_for_workers(place, workers, started)
        for process in started.values():
            process.returncode = 0  # it outlives this one, which is nothing to warn of
    except BaseException:
        try:
            _end(_processes(started))
        finally:  # also where this is interrupted once more
            for process in started.values():
                process.poll()  # else it would be warned of as one that still runs
            _clear(place)
        raise
    return cluster


def _record(cluster: Cluster) -> None:
    """Write down what runs, so that no reader ever finds half of it."""
    path = os.path.join(cluster.folder, STATE)
    with open(f"{path}.new", "w", encoding="utf-8") as written:
        json.dump(asdict(cluster), written)
    os.replace(f"{path}.new", path)


def running(folder: str) -> Cluster | None:
    """Give the cluster of a folder while one of its processes lives.

    Processes of another host cannot be asked, and a record that cannot be read may be that of a
    living cluster: both are errors, and nothing is taken for dead.
    """
    path = os.path.join(folder, STATE)
    try:
        with open(path, encoding="utf-8") as written:
            known = json.load(written)
        known["processes"] = tuple((int(pid), str(born)) for pid, born in known["processes"])
        cluster = Cluster(**known)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ClusterError(
            f"{path} cannot be read, so it is not known whether its cluster runs; end the "
            f"processes that have {folder} in their command lines, and remove the file"
        ) from error
    if cluster.host != os.uname().nodename:
        raise ClusterError(
            f"the cluster of {folder} was started on {cluster.host}; `chunkarr cluster down` ends "
            f"it there. If that host is gone, remove {path}"
        )
    return cluster if _living(cluster) else None


def stop(folder: str | None = None) -> bool:
    """End the cluster of a folder; False where none runs. The credentials stay."""
    place = os.path.abspath(folder or default_folder())
    if not any(os.path.exists(os.path.join(place, name)) for name in (LOCK, STATE)):
        return False  # nothing was ever started
    with locked(place):
        cluster = running(place)
        if cluster is not None:
            _end(_living(cluster))
        # Without a record, what lies here may be of a scheduler of several hosts.
        if os.path.exists(os.path.join(place, STATE)):
            _clear(place)
    return cluster is not None


def _end(mains: list[psutil.Process]) -> None:
    """End processes and what they have started: kindly, then by force.

    By force at once if this is interrupted. A worker that still looks for its scheduler takes no
    notice of being asked.
    """
    family = list(mains)
    for main in mains:
        with contextlib.suppress(psutil.NoSuchProcess):
            family += main.children(recursive=True)
    try:
        # Workers go first, so that none looks for a scheduler that has gone.
        for process in reversed(mains):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        psutil.wait_procs(family, timeout=SECONDS_STOP)
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=SECONDS_STOP)


def _clear(folder: str) -> None:
    """Remove what a cluster that has ended leaves in its folder, but credentials and logs."""
    for name in (STATE, SCHEDULER):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    shutil.rmtree(os.path.join(folder, "dask-scratch-space"), ignore_errors=True)


def _living(cluster: Cluster) -> list[psutil.Process]:
    """Give the processes that still are those that were started: ids come round again."""
    found = []
    for pid, born in cluster.processes:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            if _born(pid) == born and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def _born(pid: int) -> str:
    """Tell a process from any other that has its number, also after the clock was set."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return f"{boot} {int(fields[19])}"  # ticks of the clock from the boot to its start
    except OSError:
        return str(psutil.Process(pid).create_time())


def _processes(started: Parts) -> list[psutil.Process]:
    found = []
    for process in started.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(process.pid))
    return found


def _launch(cluster: Cluster, what: str, command: list[str], started: Parts) -> Cluster:
    """Start a part and note it down, here and in the folder.

    In a thread, because signals interrupt the main one alone: between starting and noting down, a
    process would be left that nobody knows of. The pool is not left before its thread is done.
    """
    folder = cluster.folder

    def begin() -> Cluster:
        with open(os.path.join(folder, f"{what}.log"), "wb") as log:
            started[what] = subprocess.Popen(  # noqa: S603 - our own interpreter
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(folder),
                start_new_session=True,
            )
        pid = started[what].pid
        grown = replace(cluster, processes=(*cluster.processes, (pid, _born(pid))))
        _record(grown)
        return grown

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(begin).result()


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


def _wait_for_address(folder: str, started: Parts) -> str:
    """Wait until the scheduler has written where it is, to the last letter."""
    path, until = os.path.join(folder, SCHEDULER), time.monotonic() + SECONDS_START
    while True:
        unfinished = contextlib.suppress(FileNotFoundError, ValueError)
        with unfinished, open(path, encoding="utf-8") as written:
            return str(json.load(written)["address"])
        _refuse_ended(folder, started)
        if time.monotonic() > until:
            raise _failed(folder, "scheduler", f"did not start within {SECONDS_START:.0f} s")
        time.sleep(0.02)


def _wait_for_workers(folder: str, workers: int, started: Parts) -> None:
    """Wait until the scheduler has heard of all workers, as its log tells."""
    until = time.monotonic() + SECONDS_START
    path = os.path.join(folder, "scheduler.log")
    while registered(path) < workers:
        _refuse_ended(folder, started)
        if time.monotonic() > until:
            count = f"{registered(path)} of {workers}"
            raise _failed(folder, "worker", f"has started {count} in {SECONDS_START:.0f} s")
        time.sleep(0.02)


def registered(path: str) -> int:
    """Count the workers that a scheduler has heard of, by its log."""
    with open(path, encoding="utf-8", errors="replace") as log:
        return log.read().count("Register worker addr")


def _refuse_ended(folder: str, started: Parts) -> None:
    for what, process in started.items():
        if process.poll() is not None:
            raise _failed(folder, what, f"ended with code {process.returncode}")


def _failed(folder: str, what: str, how: str) -> ClusterError:
    path = os.path.join(folder, f"{what}.log")
    return ClusterError(f"the {what} {how}: {last_words(path)}; see {path}")


def last_words(path: str) -> str:
    """Give the lines of a log that tell why its program has failed.

    These are the last two that name an error, as the first may be the cause of the second.
    """
    with open(path, encoding="utf-8", errors="replace") as log:
        lines = [line.strip() for line in log if not line[0].isspace()]
    telling = [line for line in dict.fromkeys(lines) if _TELLING.match(line)]
    return "; ".join(telling[-2:] or lines[-1:]) or "it has said nothing"
