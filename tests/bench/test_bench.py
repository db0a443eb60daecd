"""Each claim of the README's table holds on this machine: `pytest -m bench tests/bench`."""

from __future__ import annotations

import pytest

from tests.bench import harness
from tests.bench.__main__ import NAMES, measure
from tests.bench.harness import Claim, absences, markdown, race


@pytest.mark.bench
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NAMES)
def test_the_claim_holds(name: str) -> None:
    claim = measure(name, quick=False)
    print(markdown([claim]))
    assert claim.holds, f"{claim.bar}: {claim.measured}"


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", NAMES)
def test_the_benchmark_runs(name: str) -> None:
    claim = measure(name, quick=True)
    assert claim.seconds
    assert all(value > 0 for value in claim.seconds.values())


def test_contenders_must_agree() -> None:
    with pytest.raises(AssertionError):
        race({"one": lambda: 1.0, "two": lambda: 2.0}, rounds=1)


def test_absent_peers_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "installed", lambda *modules: "numexpr" not in modules)
    assert absences() == "Not installed, and so not measured: numexpr."


def test_the_table_is_markdown() -> None:
    claim = Claim("w", "b", holds=False, measured="m", seconds={"x": 0.5}, peaks={"x": 1 << 20})
    assert markdown([claim]).splitlines()[2] == "| w | b | m **missed** | x 500.0 ms (1 MiB) |"
