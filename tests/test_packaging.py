"""What an installed chunkarr holds, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LINKED = {"scheduler": "chunkarr.scheduler", "storage": "chunkarr.storage"}
HEAVY = (
    "click",
    "dask",
    "distributed",
    "llvmlite",
    "numba",
    "numcodecs",
    "psutil",
    "rich",
    "zarr",
)
"""What `import chunkarr` must not load: each costs more than all of chunkarr."""
UNASKED = {*HEAVY, "google_crc32c", "json", "multiprocessing", "numpy.f2py", "threadpoolctl"}
"""What one expression on memory must not load: together longer than the expression takes."""
FILES_MAX = 140
"""Modules that one expression on memory may load beside NumPy's: each costs about 0.2 ms."""
SIGNATURES_MAX = 4
"""Signatures that may be read for it; that of a function is read when it is asked for."""
BROUGHT = {"llvmlite": "numba"}
"""Modules that come with another package, whose versions they follow."""
COMMANDS = (
    'python -m pip install ".[demo]" && chunkarr demo',
    'python -m pip install ".[test]" && python -m pytest',
)


def python(code: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def folders() -> set[str]:
    """Give every package in the tree by its import name."""
    found = set()
    for top in ("chunkarr", *LINKED):
        for path in (ROOT / top).rglob("__init__.py"):
            if not any(parent.is_symlink() for parent in path.parents):
                name = ".".join(path.parent.relative_to(ROOT).parts)
                found.add(LINKED.get(name, name))
    return found


def test_the_package_list_is_the_tree() -> None:
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == folders()


def test_every_folder_with_python_files_is_a_package() -> None:
    for top in ("chunkarr", *LINKED):
        for path in (ROOT / top).rglob("*.py"):
            assert (path.parent / "__init__.py").exists(), path


@pytest.mark.parametrize("folder", LINKED)
def test_linked_folders_are_flat(folder: str) -> None:
    assert not [path for path in (ROOT / folder).iterdir() if (path / "__init__.py").exists()]


@pytest.mark.parametrize("folder", LINKED)
def test_links_show_where_a_name_comes_from(folder: str) -> None:
    link = ROOT / "chunkarr" / folder
    if not link.is_symlink():
        pytest.skip("this checkout has no links")
    assert link.resolve() == ROOT / folder


@pytest.mark.parametrize("folder", LINKED)
def test_a_linked_folder_cannot_be_imported_under_its_short_name(folder: str) -> None:
    done = python(f"import {folder}")
    assert f"ImportError: import chunkarr.{folder}, not {folder}" in done.stderr


def test_import_loads_nothing_heavy() -> None:
    loaded = f"sorted({set(HEAVY)!r} & set(sys.modules))"
    done = python(f"import sys, chunkarr; print({loaded})")
    assert done.stdout.strip() == "[]", done.stderr or done.stdout


def test_a_first_result_loads_only_what_it_needs() -> None:
    loaded = f"sorted({UNASKED!r} & set(sys.modules))"
    work = (
        "import sys, chunkarr as np; np.config(workers=1, chunk_bytes=1 << 22); "
        "print((np.ones(200_000) * 2).sum())"
    )
    done = python(f"{work}; print({loaded})")
    assert done.stdout.split() == ["400000.0", "[]"], done.stderr or done.stdout


def test_a_first_result_loads_few_files_and_reads_few_signatures() -> None:
    done = python(
        "import inspect, sys, numpy, chunkarr as np\n"
        "np.config(eager_bytes=1 << 18, chunk_bytes=1 << 22)\n"
        "before, read, calls = len(sys.modules), inspect.signature, []\n"
        "inspect.signature = lambda *a, **k: calls.append(a) or read(*a, **k)\n"
        "print(float((np.from_array(numpy.ones(200_000)) * 2 - 1).max()))\n"
        "print(len(sys.modules) - before, len(calls))"
    )
    assert not done.stderr
    value, files, signatures = map(float, done.stdout.split())
    assert value == 1
    assert files <= FILES_MAX
    assert signatures <= SIGNATURES_MAX


def test_the_collector_works_again_after_a_first_result() -> None:
    for switch, expected in (("enable", "True"), ("disable", "False")):
        done = python(
            f"import gc; gc.{switch}(); import chunkarr; chunkarr.sum; print(gc.isenabled())"
        )
        assert done.stdout.strip() == expected, done.stderr


def test_the_readme_gives_the_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text()
    assert all(command in readme for command in COMMANDS)
    assert COMMANDS[1] in (ROOT / ".ci/run").read_text()


def test_everything_that_is_imported_is_declared_with_a_least_version() -> None:
    lines = PROJECT["project"]["dependencies"]
    assert all(">=" in line for line in lines)
    declared = {line.split(">=")[0].strip().replace("-", "_") for line in lines}
    found = set()
    for top in ("chunkarr", *LINKED):
        for path in (ROOT / top).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    found.add(node.module.split(".")[0])
    foreign = found - set(sys.stdlib_module_names) - {"chunkarr"}
    assert {BROUGHT.get(name, name) for name in foreign} <= declared
