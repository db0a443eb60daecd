"""Poor surroundings: no home, little stack, no shared memory, another host name, forks."""

from __future__ import annotations

import itertools
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.memory.sampling import ROOT, clean_environment

pytestmark = [pytest.mark.slow, pytest.mark.faults]

SCRIPT = """
import os, socket, sys
import chunkarr as np
executor = sys.argv[1]
if executor == "distributed":
    from tests.scheduler.test_cluster import make_client, make_cluster
    cluster = make_cluster(2)
    executor = make_client(cluster)
np.config(executor=executor, workers=2, memory="1GiB", eager_bytes=0, chunk_bytes=1 << 17)
x = np.arange(1e6).reshape(1000, 1000)
print(round(float((np.sin(x) - x.mean(0)).std().compute()), 6))
if "renamed" in sys.argv:
    socket.sethostname("another")
np.save("y.npy", np.sort(x.T.reshape(-1)))
print(np.open("y.npy")[5])
"""
SAID = "288.675855\n5.0\n"
"""What NumPy says as well."""

SURROUNDINGS: dict[str, tuple[str, dict[str, str | None]]] = {
    "no home": ("", {"HOME": None, "XDG_CACHE_HOME": None}),
    "a home that is not there": ("", {"HOME": "/nonexistent"}),
    "a home where nothing can be written": ("", {"HOME": "/proc"}),
    "no temporary directory of that name": ("", {"TMPDIR": "/nonexistent"}),
    "no locale": ("", {"LANG": None, "LC_ALL": "C", "PYTHONUTF8": "0"}),
    "no shared memory": ("mount -t tmpfs -o size=4k none /dev/shm", {}),
    "a read-only package": (
        "mount --bind {package} {package} && mount -o remount,ro,bind {package}",
        {},
    ),
    "a host that changes its name": ("hostname one", {}),
}
"""What is done first, in namespaces of its own, and variables of the environment."""


def ran(folder: Path, *arguments: str, first: str = "", changed: Mapping[str, str | None]) -> str:
    """Run the script where something was done first; gives what it said."""
    given = {**clean_environment(), "CHUNKARR_CACHE_DIR": None, **changed}
    command = [sys.executable, "-c", SCRIPT, *arguments]
    if first:
        unshare = shutil.which("unshare")
        if unshare is None or subprocess.run([unshare, "-mu", "true"], check=False).returncode:
            pytest.skip("namespaces are not permitted here")
        package = Path(__file__).resolve().parents[2] / "chunkarr"
        command = [
            unshare,
            "-mu",
            "sh",
            "-ec",
            f'{first}; exec "$@"'.format(package=package),
            "sh",
            *command,
        ]
    done = subprocess.run(
        command,
        cwd=folder,
        env={name: value for name, value in given.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("name", SURROUNDINGS)
def test_poor_surroundings_are_enough(name: str, executor: str, tmp_path: Path) -> None:
    first, changed = SURROUNDINGS[name]
    more = ["renamed"] if "name" in name and first else []
    assert ran(tmp_path, executor, *more, first=first, changed=changed) == SAID
    assert os.listdir(tmp_path) == ["y.npy"]


SHORT = """
import os
def short(fd, data, at, write=os.pwrite):
    with open(os.path.join(os.path.dirname(__file__), str(os.getpid())), "a"):
        return write(fd, memoryview(data).cast("B")[:7000], at)
os.pwrite = short
"""
JUMPS = """
import os, random, time
chance = random.Random(os.getpid())
def jumping(real=time.time):
    return real() + chance.choice([-1, 1]) * chance.expovariate(1 / 86_400)
time.time = jumping
open(os.path.join(os.path.dirname(__file__), str(os.getpid())), "x").close()
"""
BAD_LUCK = {"short writes": SHORT, "clocks that jump": JUMPS}
"""What every interpreter does first, those of workers too; it notes the number of its process."""


@pytest.mark.parametrize(
    ("name", "executor"),
    [
        *itertools.product(BAD_LUCK, ["threads", "processes"]),
        # Dask's own timers stand still for as long as a clock went back.
        pytest.param("short writes", "distributed", marks=pytest.mark.cluster),
    ],
)
def test_bad_luck_of_every_process_is_lived_with(name: str, executor: str, tmp_path: Path) -> None:
    first = tmp_path / "first"
    first.mkdir()
    (first / "sitecustomize.py").write_text(BAD_LUCK[name])
    paths = {"PYTHONPATH": f"{first}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    assert ran(tmp_path, executor, changed=paths) == SAID
    assert len(os.listdir(first)) > 1 + (executor != "threads")
    assert sorted(os.listdir(tmp_path)) == ["first", "y.npy"]


LIMITS: dict[str, Callable[[], None]] = {
    "little stack": lambda: resource.setrlimit(resource.RLIMIT_STACK, (256 << 10, 256 << 10)),
    "few files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (32, 32)),
    "no core files": lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
}


@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("name", LIMITS)
def test_low_limits_are_enough(name: str, executor: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, executor],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        preexec_fn=LIMITS[name],
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


FORKS = """
import multiprocessing, os, sys, threading
import chunkarr as np

def job(seed):
    x = np.arange(1e6).reshape(1000, 1000) + seed
    return float((x - x.mean(0)).std().compute())

if __name__ == "__main__":
    np.config(executor=sys.argv[1], workers=2, memory="1GiB", eager_bytes=0)
    expected = [job(seed) for seed in range(3)]
    for method in sys.argv[2:]:
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map_async(job, range(3)).get(timeout=60) == expected, method
    child = os.fork()
    if not child:
        os._exit(int(job(1) != expected[1]))
    assert os.waitpid(child, 0)[1] == 0
    found = []
    threads = [threading.Thread(target=lambda: found.append(job(2))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected[2:] * 3
    print("done")
"""


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_pools_and_forks_compute_after_their_parent_has(executor: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(FORKS)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script), executor, "fork", "forkserver", "spawn"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
