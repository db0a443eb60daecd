"""The plans of many expressions, as text that is compared with `plans.txt`.

A change of the planner shows as a readable difference there. To accept it, run the test with
`WRITE_PLANS=1` and look at the difference before committing.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr.display import explain_table
from chunkarr.plan.plan import Plan, Target
from chunkarr.plan.planner import make_plan
from tests.plan.support import MIB, CountingStore, FakeStore, FakeTarget, limits

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers

GOLDEN = Path(__file__).with_name("plans.txt")

N = 20_000


def squares(dtype: str = "f8", name: str = "x.zarr") -> Any:
    """Give 3 GB in square chunks of 8 MB."""
    return FakeStore((N, N), (1000, 1000), dtype, name).as_array()


def rows(name: str = "rows.zarr") -> Any:
    """Give 3 GB in rows."""
    return FakeStore((N, N), (50, N), name=name).as_array()


def line(name: str = "line.npy") -> Any:
    """Give 800 MB on one axis."""
    return FakeStore((10**8,), (10**6,), name=name).as_array()


def written(shape: tuple[int, ...], chunks: tuple[int, ...]) -> FakeTarget:
    """Give a target of whole chunks."""
    return FakeTarget(shape, chunks, name="out.zarr")


def changed(x: Any) -> Any:
    """Give an array with a few assignments on it."""
    y = x + 0
    y[10:20] = 0
    y[:, ::2] *= -1
    return y


Case = Callable[[], Any]
"""Gives an array, a list of arrays to plan together, or an array and where it goes."""

CASES: dict[str, Case] = {
    "x + 1, kept": lambda: squares() + 1,
    "x + 1 to zarr": lambda: (squares() + 1, written((N, N), (1000, 1000))),
    "x + 1 to misaligned zarr": lambda: (squares() + 1, written((N, N), (700, 900))),
    "x + y of unlike chunks": lambda: (squares() + rows(), written((N, N), (1000, 1000))),
    "x + row of it": lambda: ((x := squares()) + x[0], written((N, N), (1000, 1000))),
    "exp(-x * x).sum()": lambda: xp.exp(-(x := squares()) * x).sum(),
    "x.sum()": lambda: squares().sum(),
    "x.sum(0)": lambda: squares().sum(0),
    "x.sum(1)": lambda: squares().sum(1),
    "x.sum(1) of rows": lambda: rows().sum(1),
    "mean(0), std(1), var()": lambda: [(x := squares()).mean(0), x.std(1), x.var()],
    "argmin(1)": lambda: squares().argmin(1),
    "(x > 0).any()": lambda: (squares() > 0).any(),  # noqa: PLW0108
    "x.max(0) - x.min(0)": lambda: xp.ptp(squares(), 0),
    "standardised to zarr": lambda: (
        ((x := squares()) - x.mean(0)) / x.std(0),
        written((N, N), (1000, 1000)),
    ),
    "standardised over rows": lambda: (
        ((x := rows()) - x.mean(1, keepdims=True)) / x.std(1, keepdims=True),
        written((N, N), (50, N)),
    ),
    "x.T to zarr": lambda: (squares().T, written((N, N), (1000, 1000))),
    "rows.T to rows": lambda: (rows().T, written((N, N), (50, N))),
    "x + x.T": lambda: ((x := squares()) + x.T, written((N, N), (1000, 1000))),
    "x[::-1, ::2].sum(0)": lambda: squares()[::-1, ::2].sum(0),
    "x[5:10].sum(0)": lambda: squares()[5:10].sum(0),
    "x.sum(0)[5:10]": lambda: squares().sum(0)[5:10],
    "shifted comparison": lambda: ((x := squares())[1:] != x[:-1]).sum(),
    "reshape to blocks": lambda: (
        squares("?").reshape(N // 10, 10, N // 10, 10).mean((1, 3)),
        written((N // 10, N // 10), (1000, 1000)),
    ),
    "reshape of elementwise": lambda: (squares() * 2).reshape(-1).sum(),
    "reshape to a line": lambda: (squares().reshape(-1), written((N * N,), (10**6,))),
    "concatenate": lambda: (
        xp.concatenate([squares(), rows()], 1),
        written((N, 2 * N), (1000, 1000)),
    ),
    "roll": lambda: (xp.roll(squares(), (17, 33), (0, 1)), written((N, N), (1000, 1000))),
    "assignments": lambda: (changed(squares()), written((N, N), (1000, 1000))),
    "where and clip": lambda: xp.clip(xp.where((x := squares()) > 0, x, 0), 0, 1).sum(),
    "cumsum(0)": lambda: (xp.cumsum(squares(), 0), written((N, N), (1000, 1000))),
    "cumsum(0) then mean": lambda: xp.cumsum(squares(), 0).mean(),
    "cumsum of a line": lambda: (xp.cumsum(line()), written((10**8,), (10**6,))),
    "x[x > 0].sum()": lambda: (x := squares())[x > 0].sum(),
    "x[x > 0].max()": lambda: (x := squares())[x > 0].max(),
    "rows to zarr": lambda: (rows().max(1), written((N,), (50,))),
    "rows to other chunks": lambda: (rows().max(1), written((N,), (70,))),
    "x @ x.T": lambda: ((x := squares()) @ x.T, written((N, N), (1000, 1000))),
    "x @ v": lambda: squares() @ line()[:N],
    "relu of a product": lambda: (
        xp.maximum(squares() @ rows() + squares(name="c.zarr"), 0),
        written((N, N), (1000, 1000)),
    ),
    "relu of a product to rows": lambda: (
        xp.maximum(squares() @ rows() + 1, 0),
        written((N, N), (4, N)),
    ),
    "sum of a product": lambda: ((squares() + 1) @ (rows() * 2)).sum(0),
    "dear operand": lambda: xp.exp(squares()[:, :50]) @ squares()[:50],
    "dear operand, no room": lambda: xp.exp(squares()) @ squares(),
    "blocks, their mean": lambda: xp.map_blocks(np.sort, squares(), dtype="f8").mean(),
    "blocks, and more to zarr": lambda: (
        xp.map_blocks(np.sort, squares(), dtype="f8") * 2 + 1,
        written((N, N), (1000, 1000)),
    ),
    "blocks, and more to other chunks": lambda: (
        xp.map_blocks(np.sort, squares(), dtype="f8") + 1,
        written((N, N), (1500, 1000)),
    ),
    "neighbours, their mean": lambda: xp.map_overlap(np.sort, squares(), depth=1, dtype="f8").mean(
        0
    ),
    "transforms, their mean": lambda: abs(xp.fft.fft(rows(), axis=1)).mean(0),
    "batched product": lambda: (
        FakeStore((8, 900, 700), (1, 900, 700)).as_array()
        @ FakeStore((700, 500), (700, 500), name="w.zarr").as_array()
    ),
    "sort": lambda: (xp.sort(line()), written((10**8,), (10**6,))),
    "sort along rows": lambda: (xp.sort(rows(), 1), written((N, N), (50, N))),
    "cholesky": lambda: (xp.linalg.cholesky(squares()), written((N, N), (1000, 1000))),
    "arange and ones": lambda: (xp.arange(10**9) * 2 + xp.ones(10**9)).sum(),  # noqa: PLW0108
    "eye": lambda: (xp.eye(N) * 3, written((N, N), (1000, 1000))),
    "empty": lambda: squares()[:, 5:5].sum(1),
    "casts": lambda: squares("i2").astype("f4").mean(0),
    "trace of a product": lambda: xp.diagonal(squares() * 2).sum(),
}


def plan_for(case: Case) -> Plan:
    """Plan a case as on a machine with two workers and a limit of 256 MiB."""
    made = case()
    at = limits(memory=256 * MIB, chunk_bytes=4 * MIB)
    if isinstance(made, tuple):
        array, target = made
        return make_plan([Target(array.to_expr(), target)], [], at)
    arrays = made if isinstance(made, list) else [made]
    return make_plan([Target(array.to_expr()) for array in arrays], [], at)


def text_of(plan: Plan) -> str:
    """Give the text that `explain` shows, without paths and lines of this file."""
    rows = [replace(row, where="*" if row.where else "") for row in plan.rows]
    return explain_table(rows, bytes_limit=256 * MIB, bytes_spilled=plan.bytes_spilled)


def test_plans_are_as_committed() -> None:
    found = "\n\n".join(f"== {name}\n{text_of(plan_for(case))}" for name, case in CASES.items())
    if os.environ.get("WRITE_PLANS"):
        GOLDEN.write_text(found + "\n")
    assert found + "\n" == GOLDEN.read_text()


@pytest.mark.parametrize("name", CASES)
def test_each_plan_stays_within_its_limit(name: str) -> None:
    plan = plan_for(CASES[name])
    assert plan.bytes_peak <= 256 * MIB
    assert len(plan.rows) == len(plan.steps)


def test_explain_names_the_line_of_the_user_s_code() -> None:
    x = CountingStore(np.ones((40, 40)), (10, 10)).as_array()
    text = (x * 2).sum().explain()
    assert re.search(rf"{re.escape(os.path.basename(__file__))}:\d+", text)
    for word in ("operation", "where", "tasks", "read", "written", "peak", "passes", "time"):
        assert word in text.splitlines()[0]
    assert "of the limit of" in text


def test_explain_computes_nothing() -> None:
    store = CountingStore(np.ones((40, 40)), (10, 10))
    x = store.as_array()
    (x * 2).sum().explain()
    assert not store.calls


def test_explain_with_analyze_adds_what_happened() -> None:
    store = CountingStore(np.ones((40, 40)), (10, 10))
    x = store.as_array()
    text = ((x - x.mean(0)) ** 2).sum().explain(analyze=True)
    head, *lines = text.splitlines()
    assert "actual time" in head
    assert "actual peak" in head
    assert store.calls["read"]
    steps = [row for row in lines if re.match(r"\d+ ", row)]
    assert len(steps) >= 2
    assert all(row.count(" ms") + row.count(" s") >= 2 for row in steps)


def test_explain_of_a_computed_array_has_no_steps() -> None:
    x = CountingStore(np.ones((40, 40)), (10, 10)).as_array()
    y = (x * 2).persist()
    assert "multiply" not in y.explain()
    y.explain(analyze=True)


def test_explain_several_together() -> None:
    x = CountingStore(np.ones((40, 40)), (10, 10)).as_array()
    assert "sum, max" in xp.explain([x.sum(), x.max(0)])
    assert xp.explain(x.sum(), x.max(0)) == xp.explain([x.sum(), x.max(0)])
    assert xp.explain(x) == x.explain()  # and not the plan of its rows
