"""Kernels for AArch64, compiled wherever the tests run: vectors, and nothing of another processor.

That they give the right numbers shows on such a machine, where the other tests run as well; that
they give the same bits follows from what they consist of, correctly rounded operations in an order
that nothing is allowed to change.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chunkarr import floats
from tests.kernels import cross
from tests.kernels.accuracy import COMPLEX, ONE, TWO

REPOSITORY = Path(__file__).resolve().parents[2]
ELF_AARCH64 = 183
FUNCTIONS = (*ONE, *TWO, "logaddexp", "logaddexp2")
ARITHMETIC = frozenset(["fmla", "fmls", "fmul", "fadd", "fsub", "fdiv"])
CALLED = frozenset(["feclearexcept", "fetestexcept", "memset", "memcpy"])

KERNELS = {
    "fused f8": "fdiv 2d",
    "fused f4": "fdiv 4s",
    "streamed f4": "fmul 4s",
    "converted i4 f8": "scvtf 2d",
    "converted f2 f4": "fcvtl 4s",
    "converted c8 c16": "fcvtl 2d",
    "reduction row sum f8": "fadd 2d",
    "reduction row sum i4": "add 4s",
    "reduction row max f4": "fcmgt 4s",
    "reduction row argmin f8": "fcmgt 2d",
    "reduction row var f4": "fsub 4s",
    "reduction row any i1": "orr 16b",
    "reduction column sum f4": "fadd 4s",
    "reduction column min f8": "fmin 2d",
    "reduction column var f8": "fadd 2d",
    "counting tally f8": "fmul 2d",
}
"""Kernels, and one instruction each that their inner loop consists of."""


def compiled(processor: str, *kernels: str) -> dict[str, dict[str, Any]]:
    """Compile kernels in a process of their own."""
    result = subprocess.run(
        [sys.executable, "-c", cross.START, processor, *kernels],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110, check=True,
    )  # fmt: skip
    found: dict[str, dict[str, Any]] = json.loads(result.stdout)
    return found


def assert_is_portable(kernel: dict[str, Any]) -> None:
    """Object code for AArch64 that calls what every processor has, without assembler in it."""
    assert kernel["elf"] == ELF_AARCH64
    libraries = {name for name in kernel["calls"] if not name.startswith("llvm.")}
    assert libraries <= CALLED
    assert not [name for name in kernel["calls"] if "x86" in name]
    assert set(kernel["inline"]) <= {""}


def test_fused_loops_reductions_and_counts_are_vectors() -> None:
    for text, kernel in compiled("neoverse-n1", *KERNELS).items():
        assert_is_portable(kernel)
        assert KERNELS[text] in kernel["vectors"], (text, kernel["vectors"])


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["neoverse-n1", "neoverse-v1"])
@pytest.mark.parametrize("dtype", ["f8", "f4", "c16", "c8"])
def test_elementary_functions_are_vectors(processor: str, dtype: str) -> None:
    names = FUNCTIONS if dtype.startswith("f") else COMPLEX
    kernels = compiled(processor, *(f"vecmath {name} {dtype}" for name in names))
    for text, kernel in kernels.items():
        assert_is_portable(kernel)
        found = {tuple(entry.split()) for entry in kernel["vectors"]}
        wide = "hypot" in text or dtype != "f4"
        shapes = {"2d", "d"} if wide else {"4s", "s"}
        assert len({name for name, shape in found if shape in shapes} & ARITHMETIC) > 1, text


FLAGS = """
import platform
platform.machine = lambda: "{0}"
from chunkarr.kernels.flags import kinds_of
print([kinds_of(1 << bit) for bit in range(6)])
"""
INVALID, DIVIDE, OVER, UNDER = (floats.KINDS[k] for k in ("invalid", "divide", "over", "under"))


@pytest.mark.parametrize(
    ("machine", "kinds"),
    [
        ("aarch64", [INVALID, DIVIDE, OVER, UNDER, 0, 0]),
        ("arm64", [INVALID, DIVIDE, OVER, UNDER, 0, 0]),
        ("x86_64", [INVALID, 0, DIVIDE, OVER, UNDER, 0]),
        ("AMD64", [INVALID, 0, DIVIDE, OVER, UNDER, 0]),
    ],
)
def test_floating_point_flags_mean_what_the_processor_s_c_library_says(
    machine: str, kinds: list[int]
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", FLAGS.format(machine)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert json.loads(found.stdout) == kinds


CASTS = """
import platform
platform.machine = lambda: "{0}"
import numpy as np
from chunkarr.kernels.forms import cast_form
print(cast_form("x", np.dtype("f8"), np.dtype("i8")) is not None)
"""


@pytest.mark.parametrize(("machine", "compiles"), [("aarch64", "False"), ("x86_64", "True")])
def test_floats_become_integers_in_kernels_only_where_it_is_certain_what_numpy_gives(
    machine: str, compiles: str
) -> None:
    found = subprocess.run(
        [sys.executable, "-c", CASTS.format(machine)],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert found.stdout.strip() == compiles
