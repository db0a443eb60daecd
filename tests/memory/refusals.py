"""What cannot be done within the limit says so, with the bytes, before it takes any.

`python -m tests.memory.refusals FOLDER LIMIT EXECUTOR` tries all of it and tells what came of each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import chunkarr
from chunkarr.errors import MemoryBudgetError
from tests.memory.operations import cluster
from tests.memory.results import numbers

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


def square(x: Any) -> Any:
    """Give a matrix that no task has room for."""
    n = min(x.shape)
    return x[:n, :n]


REFUSALS: dict[str, Callable[[Any, Path], Any]] = {
    "compute": lambda x, out: x.compute(),
    "a value of NumPy's": lambda x, out: np.asarray(x * 2),
    "a copy of NumPy's": lambda x, out: np.array(x),
    "lists": lambda x, out: x.tolist(),
    "bytes": lambda x, out: x.tobytes(),
    "NumPy's vectorize": lambda x, out: np.vectorize(abs)(x),
    "objects": lambda x, out: xp.frompyfunc(abs, 1, 1)(x).compute(),
    "values of objects": lambda x, out: x.astype(object).compute(),
    "a larger value": lambda x, out: xp.kron(x, x).compute(),
    "order of all": lambda x, out: xp.argsort(x.reshape(-1)).sum().compute(),
    "order by keys": lambda x, out: xp.lexsort((x.reshape(-1), x.reshape(-1))).sum().compute(),
    "parts of all": lambda x, out: xp.partition(x.reshape(-1), 9).sum().compute(),
    "places of parts of all": lambda x, out: xp.argpartition(x.reshape(-1), 9).sum().compute(),
    "matrix": lambda x, out: xp.asmatrix(x),
    "joined matrices": lambda x, out: xp.bmat([[x, x]]),
    "iterator": lambda x, out: xp.nditer(x),
    "polynomial of roots": lambda x, out: xp.poly(x.reshape(-1)),
    "fit": lambda x, out: xp.polyfit(x.reshape(-1), x.reshape(-1), 2),
    "sum of polynomials": lambda x, out: xp.polyadd(x.reshape(-1), x.reshape(-1)),
    "division of polynomials": lambda x, out: xp.polydiv(x.reshape(-1), x[0, :9]),
    "roots": lambda x, out: xp.roots(x.reshape(-1)),
    "all elements as text": lambda x, out: xp.array2string(x, threshold=x.size + 1),
    "transform of all": lambda x, out: xp.fft.fft(x.reshape(-1))[:9].compute(),
    "inverse": lambda x, out: xp.linalg.inv(square(x))[:3].compute(),
    "singular vectors": lambda x, out: xp.linalg.svd(x)[0][:3].compute(),
    "singular values": lambda x, out: xp.linalg.svdvals(x).compute(),
    "eigenvalues": lambda x, out: xp.linalg.eigvalsh(square(x)).compute(),
    "least squares": lambda x, out: xp.linalg.lstsq(x, x[:, 0]),
    "orthogonal columns": lambda x, out: xp.linalg.qr(x)[0][:3].compute(),
    "solution": lambda x, out: xp.linalg.solve(square(x), square(x)[:, 0]).compute(),
    "determinant": lambda x, out: xp.linalg.det(square(x)).compute(),
    "one chunk": lambda x, out: x.to_zarr(out / "out.zarr", chunks=x.shape),
    "one block": lambda x, out: xp.map_blocks(np.sort, x.rechunk(x.shape)).sum().compute(),
    "one lane": lambda x, out: xp.apply_along_axis(np.ptp, 0, x.reshape(-1)).compute(),
    "choice without repeats": lambda x, out: xp.random.default_rng(1).choice(
        x.reshape(-1), x.size, replace=False
    ),
    "two long ones convolved": lambda x, out: xp.convolve(x.reshape(-1), x.reshape(-1))[
        0
    ].compute(),
    "a table to look up": lambda x, out: xp.interp(x[0], x.reshape(-1), x.reshape(-1)).compute(),
    "different rows": lambda x, out: xp.unique(x, axis=0),
    "masked": lambda x, out: xp.ma.masked_greater(x, 0.4),
    "old functions of texts": lambda x, out: xp.char.multiply(numbers(x).astype("U8"), 3).compute(),
    "fields joined": lambda x, out: xp.lib.recfunctions.merge_arrays((x[0], x.reshape(-1))),
}


def outcome(refused: Callable[[Any, Path], Any], x: Any, out: Path) -> str:
    """Tell what came of it, empty where that is the refusal that is wanted."""
    try:
        refused(x, out)
    except MemoryBudgetError as error:
        if error.bytes_needed > error.bytes_available:
            return ""
        return f"{error.bytes_needed} bytes needed of {error.bytes_available}"
    except Exception as error:  # noqa: BLE001 - the test shows it
        return repr(error)
    return "done"


def main(folder: str, limit: str, executor: str) -> None:
    """Try all of it and print what came of each."""
    place = Path(folder)
    xp.config(memory=limit, workers=2, spill_dir=folder)
    with cluster(limit) if executor == "distributed" else nullcontext(executor) as chosen:
        xp.config(executor=chosen)
        x = xp.open(place / "x.zarr")
        print(json.dumps({name: outcome(refused, x, place) for name, refused in REFUSALS.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
