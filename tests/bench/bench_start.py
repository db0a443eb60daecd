"""`import chunkarr`: NumPy's import + 0.15 s; first result of 1 MB: < 50 ms, of workers: < 1 s."""

from __future__ import annotations

import json
import statistics

from tests.bench.harness import Claim, main
from tests.memory.sampling import measured

IMPORT = "import time; t = time.perf_counter(); import {}; t = time.perf_counter() - t"
TELL = "; import json; print(json.dumps(t))"
FIRST = """
import time, json, numpy, {module}
a = numpy.arange(131_072.0)
t = time.perf_counter()
value = float({expression})
t = time.perf_counter() - t
assert abs(value - 131_071.0) < 1e-6, value
print(json.dumps(t))
"""
WORKERS = """
import time, json, numpy, chunkarr
chunkarr.config(executor="processes", workers=2, eager_bytes=0, chunk_bytes=1 << 18)
a = chunkarr.from_array(numpy.arange(131_072.0))
t = time.perf_counter()
assert float((a * 2 - a).max()) == 131_071
t = time.perf_counter() - t
print(json.dumps(t))
"""
FIRSTS = {
    "chunkarr": ("chunkarr", "((chunkarr.from_array(a) * 2) - a).max()"),
    "numpy": ("numpy", "((a * 2) - a).max()"),
    "dask.array": ("dask.array", "((dask.array.from_array(a) * 2) - a).max().compute()"),
}


def race_scripts(scripts: dict[str, str], rounds: int) -> dict[str, float]:
    """Run each script in a new process in turns; gives the median of what they print."""
    times: dict[str, list[float]] = {name: [] for name in scripts}
    for turn in range(rounds + 1):
        for name, script in scripts.items():
            value = float(json.loads(measured(["-c", script]).output.splitlines()[-1]))
            if turn:  # the first reads the files from the disk
                times[name].append(value)
    return {name: statistics.median(values) for name, values in times.items()}


def measure(quick: bool) -> Claim:
    """Time the start of a session."""
    rounds = 2 if quick else 9
    modules = {name: IMPORT.format(name) + TELL for name in ("numpy", "chunkarr", "dask.array")}
    imports = race_scripts(modules, rounds)
    firsts = race_scripts(
        {
            name: FIRST.format(module=module, expression=expression)
            for name, (module, expression) in FIRSTS.items()
        },
        rounds,
    )
    started = race_scripts({"workers": WORKERS}, rounds)["workers"]
    more = imports["chunkarr"] - imports["numpy"]
    seconds = {f"import {name}": value for name, value in imports.items()}
    seconds |= {f"first result {name}": value for name, value in firsts.items()}
    seconds["first result of two worker processes"] = started
    return Claim(
        work="`import chunkarr`; first result of 1 MB in a new process; and of two workers",
        bar="NumPy + 0.15 s; < 50 ms; < 1 s",
        holds=more <= 0.15 and firsts["chunkarr"] < 0.05 and started < 1,
        measured=f"NumPy + {more:.3f} s; {firsts['chunkarr'] * 1000:.0f} ms; {started:.2f} s",
        seconds=seconds,
    )


if __name__ == "__main__":
    main(measure)
