"""A cluster over a few hosts with nothing but SSH and a directory that all of them see.

    python deploy/ssh/cluster.py up --shared /shared/me node1=10.0.0.1 node2=10.0.0.2
    eval "$(chunkarr cluster credentials --folder /shared/me/cluster tls://10.0.0.1:8786)"
    python deploy/ssh/cluster.py down --shared /shared/me node1=10.0.0.1 node2=10.0.0.2

The scheduler runs on the first host, workers on all. Each host is given by its name for SSH and the
address that the others reach. Credentials lie in a folder of the shared directory that only its
owner can read. A host's processes are known by a file with the id of their group.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

from chunkarr import clusters

PORT = 8786
SECONDS_START = 30.0


def run_on(remote: str, name: str, script: str) -> None:
    """Run a shell script on a host; it travels as input, so that no shell between reads it."""
    command = shlex.split(remote.replace("{host}", name))
    subprocess.run([*command, "sh", "-s"], input=script, text=True, check=True)


def launch(what: str, command: Sequence[str], folder: str) -> str:
    """Give the script that starts a part of the cluster and leaves it behind."""
    path = os.pathsep.join(path for path in sys.path if path)
    line = shlex.join(["env", f"PYTHONPATH={path}", *command])
    place = os.path.join(folder, what)
    log, pid = shlex.quote(f"{place}.log"), shlex.quote(f"{place}.pid")
    return f"umask 077; setsid {line} < /dev/null > {log} 2>&1 &\necho $! > {pid}\n"


def up(hosts: dict[str, str], shared: str, remote: str, workers: int, memory: str) -> str:
    """Start all parts and wait for the scheduler; gives its address."""
    folder = os.path.join(shared, "cluster")
    clusters.make_credentials(folder)
    command = [sys.executable, "-c", "import sys; from chunkarr.cli import main; sys.exit(main())"]
    (head, address), *_ = hosts.items()
    place = os.path.join(folder, clusters.SCHEDULER)
    if os.path.exists(place):
        os.unlink(place)
    port = ["--host", address, "--port", str(PORT)]
    part = [*command, "cluster", "scheduler", "--folder", folder, *port]
    run_on(remote, head, launch(f"scheduler-{head}", part, folder))
    until = time.monotonic() + SECONDS_START
    while not os.path.exists(place):
        if time.monotonic() > until:
            raise SystemExit(f"the scheduler did not start; see the logs in {folder}")
        time.sleep(0.05)
    scheduler = f"tls://{address}:{PORT}"
    counts = ["--workers", str(workers), "--memory", memory]
    for name, own in hosts.items():
        part = [*command, "cluster", "worker", scheduler, "--folder", folder, "--host", own]
        run_on(remote, name, launch(f"worker-{name}", [*part, *counts], folder))
    return scheduler


def down(hosts: dict[str, str], shared: str, remote: str) -> None:
    """End what was started on all hosts, workers first."""
    folder = os.path.join(shared, "cluster")
    for what, names in (("worker", list(hosts)), ("scheduler", list(hosts)[:1])):
        for name in names:
            place = os.path.join(folder, f"{what}-{name}.pid")
            if os.path.exists(place):
                quoted = shlex.quote(place)
                run_on(remote, name, f"kill -- -$(cat {quoted}) 2> /dev/null; rm -f {quoted}\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("hosts", nargs="+", metavar="NAME=ADDRESS")
    parser.add_argument("--shared", required=True, help="a directory that all hosts see")
    parser.add_argument("--workers", type=int, default=2, help="worker processes on each host")
    parser.add_argument("--memory", default="4GiB", help="memory of the workers of one host")
    parser.add_argument("--remote", default="ssh {host}", help="how to run a shell on a host")
    given = parser.parse_args(arguments)
    hosts = dict(host.split("=", 1) if "=" in host else (host, host) for host in given.hosts)
    if given.action == "down":
        down(hosts, given.shared, given.remote)
        return
    print(up(hosts, given.shared, given.remote, given.workers, given.memory))


if __name__ == "__main__":
    main()
