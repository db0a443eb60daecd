"""Two networks, a Dask cluster in one or in both, and a link that is cut under a run.

`unshare -rn python -m tests.faults.linkcut FOLDER scheduler|worker` cuts off a client's scheduler,
or one of two workers. The namespaces belong to this process and go with it, so nothing of the
machine's own network is touched.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
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
PORT = 8786


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


def main(folder: Path, what: str) -> None:
    """Cut the link under a run, and tell after how many seconds it was noticed."""
    networks = Networks()
    there = networks.there()
    try:
        alone = what == "worker"
        place = HERE if alone else THERE
        address = f"tcp://{place}:{PORT}"
        networks.child(
            *([] if alone else there), sys.executable, "-m", "distributed.cli.dask_scheduler",
            "--host", place, "--port", str(PORT), "--no-dashboard",
        )  # fmt: skip
        for prefix in [[], there] if alone else [there]:
            networks.child(
                *prefix, sys.executable, "-m", "distributed.cli.dask_worker", address,
                "--nthreads", "1" if alone else "2", "--no-nanny", "--no-dashboard",
                "--local-directory", str(folder),
            )  # fmt: skip
        client: Any = Client(address, timeout=30)  # type: ignore[no-untyped-call]
        client.wait_for_workers(1 + alone, timeout=30)
        if alone:
            cut_off_a_worker(client, folder)
        else:
            cut_under_a_run(client, folder)
    finally:
        networks.close()
        sys.stdout.flush()
        os._exit(0)  # a client without its scheduler takes its time


def slowly(mark: Path, box: Any) -> Any:
    """Take a while, and leave a mark at the first box."""
    mark.touch()
    time.sleep(0.1)
    return box * 2


def cut_off_a_worker(client: Any, folder: Path) -> None:
    """Let one of two workers lose its link for good while both are busy."""
    mark, cut = folder / "mark", list[float]()

    def cut_link() -> None:
        while not mark.exists():
            time.sleep(0.01)
        time.sleep(0.5)
        ip("link set near down")
        cut.append(time.monotonic())

    threading.Thread(target=cut_link, daemon=True).start()
    with xp.config(executor=client, spill_dir=str(folder), eager_bytes=0):
        x = xp.from_array(np.arange(60.0).reshape(60, 1), chunks=(1, 1))
        found = xp.map_blocks(partial(slowly, mark), x, dtype=x.dtype).compute()
        late = time.monotonic() - cut[0]
        print("right", np.array_equal(found, np.arange(60.0).reshape(60, 1) * 2), late)
        print("after", float((x + 1).sum()))


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
    main(Path(sys.argv[1]), sys.argv[2])
