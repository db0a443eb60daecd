"""A client and a Dask cluster in two networks of their own, whose link is cut under a run.

`unshare -rn python -m tests.faults.linkcut FOLDER`: the namespaces belong to this process and go
with it, so nothing of the machine's own network is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from distributed import Client

import chunkarr
from chunkarr.errors import ClusterLost
from chunkarr.scheduler.registry import get_executor
from chunkarr.scheduler.run import run
from chunkarr.scheduler.steps import Step
from tests.scheduler.test_cluster import Vanish
from tests.scheduler.works import FileStore

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

HERE, THERE = "10.9.0.1", "10.9.0.2"
SCHEDULER = f"tcp://{THERE}:8786"


class Networks:
    """Another network beside ours, joined by a link."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self.child("unshare", "-n", "sleep", "600")
        self.other = str(self.children[0].pid)
        time.sleep(0.3)
        ip("link set lo up")
        ip(f"link add near type veth peer name far netns {self.other}")
        ip(f"addr add {HERE}/24 dev near")
        ip("link set near up")
        for command in (f"addr add {THERE}/24 dev far", "link set far up", "link set lo up"):
            subprocess.run([*self.there(), "ip", *command.split()], check=True)

    def there(self) -> list[str]:
        """Give what runs a command in the other network."""
        return ["nsenter", "-t", self.other, "-n"]

    def child(self, *command: str) -> None:
        self.children.append(
            subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ)
            )
        )

    def close(self) -> None:
        for child in reversed(self.children):
            child.kill()
            child.wait()


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)


def main(folder: Path) -> None:
    """Cut the link under a run, and tell after how many seconds it was noticed."""
    networks = Networks()
    python = [*networks.there(), sys.executable, "-m"]
    try:
        networks.child(
            *python, "distributed.cli.dask_scheduler", "--host", THERE, "--port", "8786",
            "--no-dashboard",
        )  # fmt: skip
        networks.child(
            *python, "distributed.cli.dask_worker", SCHEDULER, "--nthreads", "2", "--no-nanny",
            "--no-dashboard", "--local-directory", str(folder),
        )  # fmt: skip
        client: Any = Client(SCHEDULER, timeout=30)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1, timeout=30)
        cut_under_a_run(client, folder)
    finally:
        networks.close()
        sys.stdout.flush()
        os._exit(0)  # a client without its scheduler takes its time


def cut_under_a_run(client: Any, folder: Path) -> None:
    work, store = Vanish(folder / "mark"), FileStore(folder / "out", (2,))
    cut: list[float] = []

    def cut_link() -> None:
        while not work.mark.exists():
            time.sleep(0.01)
        ip("link set near down")
        cut.append(time.monotonic())

    threading.Thread(target=cut_link, daemon=True).start()
    try:
        run([Step("vanish", work, 2, 8, creates=(store,))], get_executor(client, 2), 1 << 20)
    except ClusterLost:
        print("lost", time.monotonic() - cut[0])
    with xp.config(executor="threads"):
        print("after", float((xp.arange(10.0) * 2).sum()))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
