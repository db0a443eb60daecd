"""Every kind of operation stays under the limit, on arrays several times as large.

Each runs in a fresh process; anonymous and shared memory of its whole process tree is sampled from
outside every five milliseconds. `pytest -m memory tests/memory` takes arrays of ten times the
limit, on each executor; the quick form in every test run takes a few operations and twice the
limit. Where control groups may be made, a wall of 1.25 times the limit stands around it, at which
the kernel kills. The limit holds for all processes together, their interpreters included: 40 MiB
for each worker process, 110 MiB for each worker of Dask's, which also pauses at four fifths of its
share.
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import chunkarr
from tests.coverage_page import PAGE
from tests.memory.operations import OPERATIONS
from tests.memory.sampling import ROOT, clean_environment, measured
from tests.memory.walls import walled

MIB = 1 << 20
MODULE = ("-m", "tests.memory.operations")

FULL = (12_000, 21_000)
LIMIT = 192
WIDE = (12_000, 44_000)
LIMIT_DISTRIBUTED = 400
RATIO = 10

QUICK = (6_000, 8_000)
LIMIT_QUICK = 192


def check(name: str, folder: Path, limit: int, executor: str, source: str = "x.zarr") -> None:
    """Run an operation and compare its peak with the limit."""
    try:
        with walled(limit * MIB * 5 // 4) as wall:
            done = measured([*MODULE, name, str(folder), f"{limit}MiB", executor, source], wall)
    finally:
        for made in ("out.zarr", "out.npy", "out.npz"):
            path = folder / made
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(
                missing_ok=True
            )
    print(
        f"{name} on {executor}: {done.bytes_peak / MIB:.0f} of {limit} MiB, {done.seconds:.1f} s, "
        f"on {ratio_of(folder, limit):.1f} times the limit, "
        f"{'without a' if done.kills is None else 'within the'} wall"
    )
    assert not done.kills
    assert done.bytes_peak <= limit * MIB, f"{name}: {done.bytes_peak / MIB:.0f} of {limit} MiB"
    files = [name for _, _, names in os.walk(folder) for name in names if "chunkarr-" in name]
    assert not files


def ratio_of(folder: Path, limit: int) -> float:
    """Give the size of the source in limits."""
    return chunkarr.open(folder / "x.zarr").nbytes / (limit * MIB)


def made(folder: Path, shape: tuple[int, int]) -> Path:
    """Write the sources in a process of its own: this one's memory does not matter."""
    measured([*MODULE, "make", str(folder), *map(str, shape)])
    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made(tmp_path_factory.mktemp("large"), FULL)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made(tmp_path_factory.mktemp("wide"), WIDE)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = made(tmp_path_factory.mktemp("small"), QUICK)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["standardise", "transpose", "sort"])
def test_twice_the_limit(name: str, small: Path) -> None:
    check(name, small, LIMIT_QUICK, "threads")


NOT_MEASURED = {
    "is told by shapes and dtypes, or by places in memory; no value is read": [
        *("can_cast", "common_type", "einsum_path", "info", "iscomplexobj", "isfortran"),
        *("isrealobj", "isscalar", "may_share_memory", "min_scalar_type", "ndim", "result_type"),
        "shares_memory",
    ],
    "gives one element or one line at a time, or the text of a few": [
        *("array_str", "broadcast", "format_float_positional", "format_float_scientific"),
        "nested_iters",
    ],
    "takes what the program holds in memory already": [
        *("from_dlpack", "frombuffer", "fromiter", "fromstring"),
    ],
}
"""Names that the page of coverage calls out of core and that have no family, and why."""


def called(file: str) -> set[str]:
    """Give the names of attributes in a file beside this one."""
    text = (Path(__file__).parent / file).read_text()
    return {node.attr for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Attribute)}


def test_what_is_called_out_of_core_is_measured_or_needs_no_memory() -> None:
    page = PAGE.read_text().split("## Works out of core")[1].split("## ")[0]
    claimed = set(re.findall(r"`(\w+)`", page))
    assert len(claimed) > 300
    found = called("families.py") | called("operations.py")
    for name, value in vars(np).items():
        if isinstance(value, np.ufunc) and value.signature is None:
            found.add(name)
    left_out = {name for names in NOT_MEASURED.values() for name in names}
    assert claimed - found == left_out


def refuse(folder: Path, limit: int, executor: str) -> None:
    """Try what does not fit: each says so, and the peak shows that nothing was taken."""
    arguments = (str(folder), f"{limit}MiB", executor)
    done = measured(["-m", "tests.memory.refusals", *arguments])
    came = json.loads(done.output.splitlines()[-1])
    assert {name: what for name, what in came.items() if what} == {}
    assert done.bytes_peak <= limit * MIB
    assert not (folder / "out.zarr").exists()


def test_what_does_not_fit_is_refused_with_its_bytes(small: Path) -> None:
    refuse(small, LIMIT_QUICK, "threads")


@pytest.mark.memory
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_what_is_ten_times_the_limit_is_refused_with_its_bytes(executor: str, large: Path) -> None:
    refuse(large, LIMIT, executor)


@pytest.mark.memory
@pytest.mark.cluster
@pytest.mark.timeout(1200)
def test_what_is_ten_times_the_limit_is_refused_on_a_cluster(wide: Path) -> None:
    refuse(wide, LIMIT_DISTRIBUTED, "distributed")


@pytest.mark.memory
def test_sources_are_ten_times_the_limit(large: Path, wide: Path) -> None:
    assert ratio_of(large, LIMIT) >= RATIO
    assert ratio_of(wide, LIMIT_DISTRIBUTED) >= RATIO


@pytest.mark.memory
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("executor", ["threads", "processes"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_times_the_limit(name: str, executor: str, large: Path) -> None:
    check(name, large, LIMIT, executor)


@pytest.mark.memory
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "name",
    ["elementwise", "standardise", "transpose", "cumsum down", "reshape", "save", "selection"],
)
def test_ten_times_the_limit_from_rows(name: str, large: Path) -> None:
    check(name, large, LIMIT, "threads", "rows.zarr")


@pytest.mark.memory
@pytest.mark.cluster
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", OPERATIONS)
def test_ten_times_the_limit_on_a_cluster_that_never_pauses_nor_spills(
    name: str, wide: Path
) -> None:
    check(name, wide, LIMIT_DISTRIBUTED, "distributed")


TENANT = """
import sys
import chunkarr as xp
x = xp.open(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
kept = [(x[i : i + 50] + i).persist() for i in range(0, x.shape[0], 50)]
print(float(sum(part.sum() for part in kept)), flush=True)
sys.stdin.readline()
"""


def test_programs_that_set_no_limit_leave_room_for_each_other(small: Path) -> None:
    with walled(700 * MIB) as wall:
        if wall is None:
            pytest.skip("this process may not make control groups")
        command = [*wall.command, sys.executable, "-c", TENANT, str(small / "x.zarr")]
        with ExitStack() as stack:
            tenants = [
                stack.enter_context(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env={**clean_environment(), "CHUNKARR_SPILL_DIR": str(small)},
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        text=True,
                    )
                )
                for _ in range(2)
            ]
            told = []
            for _ in range(2):
                told = [tenant.stdout.readline() for tenant in tenants if tenant.stdout]
                for tenant in tenants:
                    if tenant.stdin:
                        tenant.stdin.write("go on\n")
                        tenant.stdin.flush()
        assert wall.kills == 0
        rows, columns = QUICK
        expected = sum(range(0, rows, 50)) * 50 * columns  # beside what is between -0.5 and 0.5
        assert [float(text) for text in told] == pytest.approx([expected] * 2, rel=1e-6)


def test_a_wall_kills_what_takes_more() -> None:
    with walled(64 * MIB) as wall:
        if wall is None:
            pytest.skip("this process may not make control groups")
        with pytest.raises(RuntimeError, match="-9"):
            measured(["-c", "bytearray(200_000_000)"], wall)
        assert wall.kills == 1
