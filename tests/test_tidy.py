"""Style that a reader relies on and a machine can check; each exception is listed here.

Lists of exceptions may only shrink: an entry that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("chunkarr", "scheduler", "storage", "tests", "deploy")
FILE_LINES_MAX = 600
BODY_LINES_MAX = 70

LONG_FILES: dict[str, int] = {}
"""Files that are better whole, and how long they are at most."""

TABLES = {"tests/numpy/cases.py"}
"""Files of data, which grow by a row for each case and are not read from end to end."""

LONG_BODIES: dict[str, int] = {}
"""Functions ("file:name") that are better whole, and how long their bodies are at most."""

INNER_IMPORTS: set[tuple[str, str]] = set()
"""Imports inside functions, as (file, module): only what must not load with its file."""

TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "chunkarr",
    "deploy",
    "docs",
    "pyproject.toml",
    "scheduler",
    "storage",
    "tests",
}
"""All that may stand at the top of the repository."""

BASE = {"grid", "errors", "faults", "floats", "settings", "machine", "records", "room"}
CHAPTERS = {
    *("char", "ctypeslib", "dtypes", "emath", "exceptions", "fft", "lib", "linalg", "ma"),
    *("polynomial", "random", "rec", "strings", "testing", "typing"),
}
NAMES = {"__init__", "__main__", "cli", "calc", "demo", "mirror", "legacy", *CHAPTERS}
LAYERS = {
    "base": set[str](),
    "storage": {"base"},
    "scheduler": {"base", "storage"},
    "expr": {"base", "storage"},
    "kernels": {"base", "storage", "expr"},
    "tiled": {"base", "storage", "scheduler", "expr", "kernels"},
    "plan": {"base", "storage", "scheduler", "expr", "kernels", "tiled"},
    "functions": {"base", "expr"},
    "array": {"base", "storage", "scheduler", "expr", "kernels", "plan", "functions"},
    "names": {"base", "storage", "scheduler", "expr", "kernels", "plan", "functions", "array"},
}
"""What each layer may import beside itself: arrows point down only."""

NUMBA = {"numba", "llvmlite"}
BANNED = ("/work" + "/", "/tmp" + "/venv", "/root" + "/", "/home" + "/")
"""Paths of somebody's machine."""


@cache
def sources() -> tuple[str, ...]:
    """Give the Python files, each once: links are left out."""
    return tuple(
        sorted(
            str(path.relative_to(ROOT))
            for folder in FOLDERS
            for path in (ROOT / folder).rglob("*.py")
            if not any(parent.is_symlink() for parent in path.parents)
        )
    )


def product() -> list[str]:
    return [path for path in sources() if not path.startswith(("tests", "deploy"))]


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(), path)


def module_name(path: str) -> str:
    """Give the import name: `storage/npy.py` is `chunkarr.storage.npy`."""
    parts = list(Path(path).with_suffix("").parts)
    if parts[0] != "chunkarr":
        parts.insert(0, "chunkarr")
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer(module: str) -> str:
    """Give the layer of a module of chunkarr; the package itself holds the public names."""
    parts = module.split(".")
    if len(parts) == 1:
        return "names"
    if parts[1] in LAYERS:
        return parts[1]
    return "base" if parts[1] in BASE else "names" if parts[1] in NAMES else "array"


def imports(path: str) -> Iterator[tuple[ast.stmt, str]]:
    """Give each import statement of a file with the full name of what it imports."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield node, full if full in modules() else str(node.module)


@cache
def modules() -> frozenset[str]:
    """Give the import names of all files of the product."""
    return frozenset(map(module_name, product()))


def functions(path: str) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path}:{node.name}", node


def body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count the lines of a body without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def exceeding(found: dict[str, int], limit: int, allowed: dict[str, int]) -> list[str]:
    """Name what is longer than its limit, and exceptions that are not needed any more."""
    long = [f"{k} has {n} lines" for k, n in found.items() if n > allowed.get(k, limit)]
    return long + [f"{k}: shrink its exception" for k, n in allowed.items() if found.get(k, 0) < n]


@pytest.mark.parametrize("path", sources())
def test_a_file_opens_with_its_idea(path: str) -> None:
    assert ast.get_docstring(tree(path)), f"{path} has no module docstring"


def test_files_can_be_read_in_one_sitting() -> None:
    found = {path: len((ROOT / path).read_text().splitlines()) for path in set(sources()) - TABLES}
    assert not exceeding(found, FILE_LINES_MAX, LONG_FILES)


def test_function_bodies_fit_a_screen() -> None:
    found: dict[str, int] = {}
    for path in sources():
        for name, node in functions(path):
            found[name] = max(found.get(name, 0), body_lines(node))
    assert not exceeding(found, BODY_LINES_MAX, LONG_BODIES)


def test_imports_stand_at_the_top() -> None:
    inner = set[tuple[str, str]]()
    for path in product():
        inside = {id(node) for _, function in functions(path) for node in ast.walk(function)}
        inner |= {(path, module) for node, module in imports(path) if id(node) in inside}
    assert inner == INNER_IMPORTS


def test_layers_import_downwards_only() -> None:
    wrong = []
    for path in product():
        own = layer(module_name(path))
        for node, module in imports(path):
            if module.split(".")[0] == "chunkarr" and layer(module) not in LAYERS[own] | {own}:
                wrong.append(f"{path}:{node.lineno}: {own} imports {module}")
    assert not wrong


def test_numba_stays_in_kernels() -> None:
    users = {
        path
        for path in product()
        for _, module in imports(path)
        if module.split(".")[0] in NUMBA and layer(module_name(path)) != "kernels"
    }
    assert not users


def tracked() -> list[str]:
    """Give the files of the repository, or skip where this is not one."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def test_only_known_things_stand_at_the_top() -> None:
    assert {name.split("/")[0] for name in tracked()} <= TOP


def test_no_path_of_a_developer_s_machine_is_written_down() -> None:
    found = [
        f"{name}: {word}"
        for name in tracked()
        if (ROOT / name).is_file()
        for word in BANNED
        if word.encode() in (ROOT / name).read_bytes()
    ]
    assert not found
