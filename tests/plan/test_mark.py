"""Marks of plans: what decides about bits is told apart, and the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import engine
from chunkarr.plan.mark import find_mark
from chunkarr.plan.plan import Target
from chunkarr.plan.telling import Teller
from tests.memory.sampling import clean_environment

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

PROGRAMS = {
    "code": "def f(b): return b * VALUE",
    "a global": "K = VALUE\ndef f(b): return b * K",
    "a dict": "K = {'a': [VALUE]}\ndef f(b): return b * K['a'][0]",
    "an array of objects": "K = np.array([VALUE], object)\ndef f(b): return b * K[0]",
    "a masked array": "K = np.ma.array([1, 2], mask=[VALUE > 2, 0])\ndef f(b): return b * K.sum()",
    "a default": "def f(b, k=VALUE): return b * k",
    "a keyword's default": "def f(b, *, k=VALUE): return b * k",
    "a closure": "def make(k):\n    return lambda b: b * k\nf = make(VALUE)",
    "an attribute of a function": "def f(b): return b * f.k\nf.k = VALUE",
    "what is handled": "def f(b):\n    try:\n        return b / 0\n    except TE: return VALUE",
    "a version that stays": "__version__ = '1'\ndef f(b): return b * VALUE",
    "a function of a module": "import helper\ndef f(b): return helper.g(b)",
    "a value of a module": "import helper\ndef f(b): return helper.K * b",
    "a module within a function": "def f(b):\n    import helper\n    return helper.K * b",
    "a module in a closure": "import helper\ndef make(m): return lambda b: m.g(b)\n"
    "f = make(helper)",
    "a static method": "class M:\n    @staticmethod\n    def g(b): return b * VALUE\n"
    "def f(b): return M.g(b)",
    "an attribute of a class": "class M:\n    k = VALUE\ndef f(b): return b * M.k",
    "a base class": "class N:\n    k = VALUE\nclass M(N): pass\ndef f(b): return b * M.k",
    "a property": "class M:\n    @property\n    def k(self): return VALUE\ndef f(b): return M().k",
    "a cached property": "class M:\n    @functools.cached_property\n    def k(self): return VALUE\n"
    "def f(b): return b * M().k",
    "a class with slots": "class M:\n    __slots__ = ('k',)\nm = M()\nm.k = VALUE\n"
    "def f(b): return b * m.k",
    "a dataclass": "@dataclasses.dataclass\nclass M:\n    k: int = VALUE\ndef f(b): return M().k",
    "a class and one of it": "class M:\n    pass\nm = M()\nm.k = VALUE\ndef f(b): return M, m",
    "a named tuple": "M = collections.namedtuple('M', 'k')\nm = M(VALUE)\ndef f(b): return m.k",
    "an enumeration": "class M(enum.Enum):\n    A = VALUE\ndef f(b): return b * M.A.value",
    "an object that is called": "class M:\n    def __call__(self, b): return b * VALUE\nf = M()",
    "a bound method": "class M:\n    def g(self, b): return b * VALUE\nf = M().g",
    "its object": "class M:\n    def __init__(self): self.k = VALUE\n"
    "    def g(self, b): return b * self.k\nf = M().g",
    "a method of a generator": "f = np.random.default_rng(VALUE).normal",
    "a partial": "def g(b, k): return b * k\nf = functools.partial(g, k=VALUE)",
    "behind a cache": "@functools.lru_cache\ndef k(): return VALUE\ndef f(b): return b * k()",
    "behind a decorator": "def deco(g):\n    @functools.wraps(g)\n    def call(*a): return g(*a)\n"
    "    return call\n@deco\ndef f(b): return b * VALUE",
    "far down": "".join(f"def f{i}(b): return f{i + 1}(b)\n" for i in range(30))
    + "def f30(b): return b * VALUE\nf = f0",
    "in a circle": "def f(b): return g(b)\ndef g(b): return f(b) if b else VALUE",
    "compiled": "@numba.njit\ndef f(b): return b * VALUE",
    "how it is compiled": "f = numba.njit(fastmath=VALUE > 2)(lambda b: b * 2)",
    "below what is compiled": "@numba.njit\ndef g(b): return b * VALUE\n@numba.njit\n"
    "def f(b): return g(b)",
    "a compiled ufunc": "f = numba.vectorize(['f8(f8)'])(lambda b: b * VALUE)",
    "vectorized": "f = np.vectorize(lambda b: b * VALUE)",
    "a set": "K = {'a', 'b', 'c', 'd', VALUE}\ndef f(b): return b in K",
    "a set in the code": "def f(b): return VALUE if b in {'a', 'b', 'c', 'd'} else b",
    "a local import": "def f(b):\n    from os import path\n    return path.join(str(VALUE))",
}
UNTELLABLE = {
    "a lock": "import threading\nK = threading.Lock()\ndef f(b): return K",
    "a compiled ufunc without a name": "f = np.frompyfunc(lambda b: b * 2, 1, 1)",
    "too far down": "".join(f"def f{i}(b): return f{i + 1}(b)\n" for i in range(300))
    + "def f300(b): return b\nf = f0",
}

SCRIPT = """
import collections, dataclasses, enum, functools, json, sys, types
import numba, numpy as np
from chunkarr.plan.telling import Teller

def told(program, value):
    helper = types.ModuleType("helper")
    exec("K = VALUE\\ndef g(b): return b * K".replace("VALUE", value), vars(helper))
    sys.modules["helper"] = helper
    names = {**globals(), "__name__": "program"}
    exec(program.replace("VALUE", value), names)
    return [repr(Teller()(names["f"])) for _ in range(2)]

programs = json.load(sys.stdin)
print(json.dumps({n: [t for v in "223" for t in told(p, v)] for n, p in programs.items()}))
"""


def told_by_another_process(seed: int) -> dict[str, list[str]]:
    """Tell the function of each program twice with 2, with 2 anew, and with 3."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(PROGRAMS | UNTELLABLE),
        env={**clean_environment(), "PYTHONHASHSEED": str(seed)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def told() -> list[dict[str, list[str]]]:
    return [told_by_another_process(seed) for seed in (1, 2)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_functions_are_told_by_all_that_they_refer_to(
    name: str, told: list[dict[str, list[str]]]
) -> None:
    assert {len({run[name][n] for run in told}) for n in range(6)} == {1}  # the hash seeds differ
    assert len(set(told[0][name][:4])) == 1
    assert len(set(told[0][name][3:])) == 2


@pytest.mark.parametrize("name", UNTELLABLE)
def test_what_cannot_be_told_is_like_nothing_else(
    name: str, told: list[dict[str, list[str]]]
) -> None:
    assert len({text for run in told for text in run[name]}) == 12


def test_what_is_shared_is_told_as_what_is_equal() -> None:
    one = [1, 2]
    assert Teller()([one, one]) == Teller()([[1, 2], [1, 2]])
    assert Teller()([one, one]) != Teller()([[1, 2], [1, 3]])


# -- sources ---------------------------------------------------------------------------------------


def raw(**options: Any) -> Callable[[Path], Any]:
    return lambda folder: xp.memmap(folder / "x.raw", "f8", "r", shape=(30, 40), **options)


def changed(value: float) -> Callable[[Path], Any]:
    def make(folder: Path) -> Any:
        x = xp.open(folder / "x.npy", "c")
        x[3, 4] = value
        return x

    return make


SOURCES: dict[str, Callable[[Path], Any]] = {
    "a raw file": raw(),
    "another part of it": raw(offset=800),
    "in the other order": raw(order="F"),
    "a member": lambda folder: xp.load(folder / "x.npz")["a"],
    "another member": lambda folder: xp.load(folder / "x.npz")["b"],
    "a packed member": lambda folder: xp.load(folder / "packed.npz")["a"],
    "another packed member": lambda folder: xp.load(folder / "packed.npz")["b"],
    "a file": lambda folder: xp.open(folder / "x.npy"),
    "its copy in memory": changed(1.0),
    "another copy": changed(2.0),
    "its other shape": lambda folder: xp.open(folder / "x.npy").reshape(40, 30).T,
}


def mark_of(array: Any) -> str:
    expr = (array * 2).to_expr()
    limits, _ = engine.current_limits()
    return find_mark(engine.plan_for([Target(expr)], limits), [expr])


def test_sources_of_one_file_are_told_apart(tmp_path: Path) -> None:
    values = np.arange(1200.0).reshape(30, 40)
    np.save(tmp_path / "x.npy", values)
    np.arange(3000.0).tofile(tmp_path / "x.raw")
    np.savez(tmp_path / "x.npz", a=values, b=values + 1)
    np.savez_compressed(tmp_path / "packed.npz", a=values, b=values + 1)
    marks = {name: mark_of(make(tmp_path)) for name, make in SOURCES.items()}
    assert len(set(marks.values())) == len(SOURCES)
    assert marks == {name: mark_of(make(tmp_path)) for name, make in SOURCES.items()}


def test_a_file_that_was_changed_and_dated_back_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(1200.0))
    info, before = os.stat(path), mark_of(xp.open(path))
    with open(path, "r+b") as file:
        file.seek(-8, os.SEEK_END)
        file.write(b"another.")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
    assert mark_of(xp.open(path)) != before
