"""A cluster over a few hosts with nothing but SSH and a directory that all of them see.

    python deploy/ssh/cluster.py up --shared /shared/me node1=10.0.0.1 node2=10.0.0.2
    eval "$(chunkarr cluster credentials --folder /shared/me/cluster tls://10.0.0.1:8786)"
    python deploy/ssh/cluster.py down --shared /shared/me node1=10.0.0.1 node2=10.0.0.2

The scheduler runs on the first host, workers on all. Each host is given by its name for SSH and the
address that the others reach. Credentials lie in a folder of the shared directory that only its
owner can read. A host's processes are known by a file with the id of their group, which lies there
until `down` has ended them; so `down` is given the same hosts as `up`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chunkarr import clusters

CHUNKARR = [sys.executable, "-c", "import sys; from chunkarr.cli import main; sys.exit(main())"]
SECONDS_START = 30.0
END = """
group=$(cat {pid})
kill -- "-$group" 2> /dev/null
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
    kill -0 -- "-$group" 2> /dev/null || break
    sleep 0.2
done
kill -KILL -- "-$group" 2> /dev/null
rm -f {pid} {ended}
"""
"""What ends a part of the cluster on its host."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line says of a cluster."""

    hosts: dict[str, str]
    folder: str
    remote: str
    port: int
    workers: int
    """Worker processes on each host, and the memory of all of one host."""
    memory: str


def run_on(plan: Plan, name: str, script: str) -> None:
    """Run a shell script on a host; it travels as input, so that no shell between reads it."""
    command = shlex.split(plan.remote.replace("{host}", name))
    subprocess.run([*command, "sh", "-s"], input=script, text=True, check=True)


def launch(plan: Plan, name: str, what: str, *options: str) -> None:
    """Start a part of the cluster on a host and leave it behind.

    Its exit code is written down where it ends by itself.
    """
    path = os.pathsep.join(path for path in sys.path if path)
    place = os.path.join(plan.folder, f"{what}-{name}")
    log, pid, ended = (shlex.quote(f"{place}.{kind}") for kind in ("log", "pid", "ended"))
    host = ["--folder", plan.folder, "--host", plan.hosts[name]]
    words = ["env", f"PYTHONPATH={path}", *CHUNKARR, "cluster", what, *host, *options]
    line = shlex.quote(f"{shlex.join(words)}; echo $? > {ended}")
    begin = f"umask 077; setsid sh -c {line} < /dev/null > {log} 2>&1 &\necho $! > {pid}\n"
    run_on(plan, name, begin)


def up(plan: Plan) -> str:
    """Start all parts and wait until all have met; gives the address of the scheduler."""
    clusters.make_credentials(plan.folder)
    with clusters.locked(plan.folder):
        if found(plan, ".pid"):
            raise SystemExit(f"a cluster of {plan.folder} was started before; `down` ends it")
        try:
            return start(plan)
        except BaseException:
            end(plan)
            raise


def start(plan: Plan) -> str:
    """Start the scheduler on the first host, then workers on all."""
    head, *_ = plan.hosts
    place = os.path.join(plan.folder, clusters.SCHEDULER)
    if os.path.exists(place):
        os.unlink(place)
    launch(plan, head, "scheduler", "--port", str(plan.port))
    wait(plan, lambda: os.path.exists(place))
    address = f"tls://{plan.hosts[head]}:{plan.port}"
    for name in plan.hosts:
        counts = ["--workers", str(plan.workers), "--memory", plan.memory]
        launch(plan, name, "worker", address, *counts)
    log = os.path.join(plan.folder, f"scheduler-{head}.log")
    wait(plan, lambda: clusters.registered(log) >= plan.workers * len(plan.hosts))
    return address


def wait(plan: Plan, condition: Callable[[], bool]) -> None:
    """Wait for what the parts are about to do, unless one of them ends."""
    until = time.monotonic() + SECONDS_START
    while not condition():
        ended = found(plan, ".ended")
        if ended or time.monotonic() > until:
            logs = [f"{place}.log" for place in ended or found(plan, ".pid")]
            said = [f"  {log}: {clusters.last_words(log)}" for log in logs]
            raise SystemExit("\n".join(["the cluster did not start; its logs say", *said]))
        time.sleep(0.05)


def found(plan: Plan, suffix: str) -> list[str]:
    """Give the parts that have a file of a kind, as paths without the suffix."""
    names = sorted(name for name in os.listdir(plan.folder) if name.endswith(suffix))
    return [os.path.join(plan.folder, name.removesuffix(suffix)) for name in names]


def down(plan: Plan) -> None:
    """End what was started on all hosts."""
    if os.path.isdir(plan.folder):
        with clusters.locked(plan.folder):
            end(plan)


def end(plan: Plan) -> None:
    """End workers, then the scheduler: kindly, then by force.

    A worker that still looks for its scheduler takes no notice of being asked.
    """
    for what, names in (("worker", list(plan.hosts)), ("scheduler", list(plan.hosts)[:1])):
        for name in names:
            place = os.path.join(plan.folder, f"{what}-{name}")
            if os.path.exists(f"{place}.pid"):
                pid, ended = shlex.quote(f"{place}.pid"), shlex.quote(f"{place}.ended")
                run_on(plan, name, END.format(pid=pid, ended=ended))


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("hosts", nargs="+", metavar="NAME=ADDRESS")
    parser.add_argument("--shared", required=True, help="a directory that all hosts see")
    parser.add_argument("--workers", type=int, default=2, help="worker processes on each host")
    parser.add_argument("--memory", default="4GiB", help="memory of the workers of one host")
    parser.add_argument("--port", type=int, default=8786, help="of the scheduler")
    parser.add_argument("--remote", default="ssh {host}", help="how to run a shell on a host")
    given = parser.parse_args(arguments)
    hosts = dict(host.split("=", 1) if "=" in host else (host, host) for host in given.hosts)
    folder = os.path.join(given.shared, "cluster")
    plan = Plan(hosts, folder, given.remote, given.port, given.workers, given.memory)
    if given.action == "down":
        down(plan)
    else:
        print(up(plan))


if __name__ == "__main__":
    main()
