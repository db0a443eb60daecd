"""A Python session in a process of its own, which writes for seconds and meets a signal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
import signal, sys, time
# Who runs the tests in the background lets children ignore what a terminal sends.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
import chunkarr as np

out, spill, executor, kind, ending = sys.argv[1:]
np.config(memory="1GiB", workers=2, spill_dir=spill, executor=executor, chunk_bytes=1 << 19)

def slow(x):
    for _ in range(60):
        x = np.sin(x) + np.cos(x)
    return x

def work():
    x = slow(np.arange(float(3000 * 2500)).reshape(3000, 2500))
    if kind == "to_zarr":
        x.to_zarr(out + "/x.zarr", chunks=(150, 500))
    elif kind == "save":
        np.save(out + "/x.npy", x)
    elif kind == "sort":
        np.config(memory="320MiB", chunk_bytes=1 << 17)
        np.save(out + "/x.npy", np.sort(np.sin(np.arange(25e6))))
    elif kind == "rows":
        np.save(out + "/x.npy", x[x[:, 0] > 0] * 2)

print("begins", flush=True)
try:
    work()
    print("finished", flush=True)
except BaseException as error:
    print("caught", type(error).__name__, time.monotonic(), flush=True)
    if ending == "raise":
        raise
np.save(out + "/again.npy", slow(np.arange(1e5)))
print("after", float((np.arange(10**6) * 2).sum()), flush=True)
"""


class Session:
    """The process, its folders, and what it said."""

    def __init__(self, folder: Path, executor: str, kind: str, ending: str = "go on") -> None:
        self.out, self.spill = folder / "out", folder / "spill"
        self.out.mkdir(exist_ok=True)
        self.spill.mkdir(exist_ok=True)
        arguments = [str(self.out), str(self.spill), executor, kind, ending]
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, *arguments],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said = self.errors = ""

    def wait_until_busy(self, seconds: float = 30.0) -> None:
        """Wait until something lies in a folder under its real name."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            assert self.process.poll() is None, self.process.communicate()
            if whole(self.left()):
                return
            time.sleep(0.01)
        raise AssertionError("never busy")

    def signal(self, number: int) -> float:
        """Send a signal and wait for the end; gives the seconds until the session was back."""
        began = time.monotonic()
        self.process.send_signal(number)
        self.end()
        ended = time.monotonic()
        caught = re.search(r"caught \w+ ([\d.]+)", self.said)
        return (float(caught[1]) if caught else ended) - began

    def end(self) -> None:
        """Wait for the end."""
        try:
            self.said, self.errors = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.said, self.errors = self.process.communicate()
            raise

    def left(self) -> list[str]:
        """List what is in the folders, whole outputs and their insides left out."""
        found = []
        for folder in (self.out, self.spill):
            for place, _, names in os.walk(folder):
                inside = os.path.relpath(place, folder.parent)
                found += [os.path.join(inside, name) for name in names]
                if inside not in {"out", "spill"}:
                    found.append(inside)
        return [name for name in found if name != "out/again.npy"]


def whole(names: list[str]) -> list[str]:
    """Leave out claims that have no lock yet; what is left of one is kept for an hour."""
    return [name for name in names if not name.endswith(".new")]
