"""Programs of which only some operations compile, and pieces that pass through both tiers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from chunkarr.kernels.evaluate import map_into
from chunkarr.kernels.forms import compiles
from chunkarr.kernels.program import Program
from chunkarr.kernels.segments import Segment, segments_of
from tests.kernels.support import Array, Build, assert_same_bits, in_both, reduce_in_both

PROGRAMS: dict[str, Callable[[Build], int]] = {
    "a call in the middle": lambda b: b(
        "multiply", b("spacing", b("negative", b("multiply", 0, 0))), b("add", 1, 2)
    ),
    "a call at the end": lambda b: b("logaddexp2", b("add", b("square", 0), 1), 2),
    "a call at the start": lambda b: b("add", b("square", b("spacing", 0)), 1),
    "calls by turns": lambda b: b(
        "spacing", b("add", b("spacing", b("subtract", b("multiply", 0, 1), 2)), b("square", 1))
    ),
    "a value read long after": lambda b: b(
        "subtract", b("spacing", b("spacing", b("multiply", b("add", 0, 1), 2))), b("add", 0, 1)
    ),
    "constants alone": lambda b: b(
        "multiply", b("spacing", b("square", b("negative", 3))), b("add", b("add", 0, 1), 3)
    ),
    "a choice": lambda b: b(
        "where", b("less", 0, 1), b("spacing", b("add", 0, 2)), b("square", b("add", 1, 2))
    ),
    "other widths": lambda b: b(
        "logaddexp2",
        b("cast", b("add", 0, 1), dtype="f4"),
        b("cast", b("multiply", 0, 2), dtype="i4"),
    ),
}

SHAPES: dict[str, Callable[[Array], list[Array]]] = {
    "contiguous": lambda x: [x, x[::-1].copy(), x + 0.5],
    "reversed": lambda x: [x[::-1], x[:, ::-1], x],
    "broadcast": lambda x: [x, x[:1], x[:, :1]],
    "transposed": lambda x: [x, np.asfortranarray(x), x + 0.25],
}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("name", PROGRAMS)
def test_mixed_programs_give_the_bits_of_numpy(name: str, layout: str) -> None:
    build = Build("f8", "f8", "f8", "f8")
    PROGRAMS[name](build)
    program = build.program()
    assert not compiles(program)
    x = np.random.default_rng(0).uniform(0, 1, (130, 700))
    arrays = [*SHAPES[layout](x), np.array(0.5)]
    scalars = tuple(a.ndim == 0 for a in arrays)
    assert any(segment.compiled for segment in segments_of(program, scalars))

    def mapped() -> Array:
        out = np.empty(x.shape, program.dtype_of(program.results[0]))
        map_into(program, arrays, [out])
        return out

    assert_same_bits(*in_both(mapped))
    for reducer, axes in [("sum", (0, 1)), ("var", (0,)), ("max", (1,)), ("argmin", (0, 1))]:
        reduce_in_both(program, reducer, arrays, x.shape, axes)


def test_several_results_some_of_them_inputs_or_read_on() -> None:
    build = Build("f8", "f8")
    total = build("multiply", build("add", 0, 1), 1)
    angle = build("spacing", total)
    last = build("add", build("square", angle), total)
    program = build.program(total, 1, last, angle, last)
    x = np.random.default_rng(1).uniform(0, 1, (2, 50_000))

    def mapped() -> list[Array]:
        outs = [np.empty(50_000) for _ in program.results]
        map_into(program, list(x), outs)
        return outs

    for left, right in zip(*in_both(mapped), strict=True):
        assert_same_bits(left, right)


def test_what_one_tier_runs_alone_is_not_cut() -> None:
    whole = Build("f8")
    whole("square", whole("negative", 0))
    apart = Build("f8")
    apart("spacing", apart("spacing", 0))
    single = Build("f8")
    single("negative", single("spacing", 0))
    for build in (whole, apart, single):
        assert segments_of(build.program(), (False,)) == ()


def test_segments_come_in_an_order_in_which_needs_are_met() -> None:
    rng = np.random.default_rng(2)
    names = ["add", "multiply", "logaddexp2", "heaviside", "subtract", "heaviside"]
    for _ in range(200):
        build = Build("f8", "f8", "f8")
        for _ in range(int(rng.integers(2, 12))):
            count = 3 + len(build.ops)
            build(str(rng.choice(names)), *map(int, rng.integers(0, count, 2)))
        program = build.program()
        have = {0, 1, 2}
        segments = segments_of(program, (False, False, True))
        for segment in segments:
            assert have.issuperset(segment.args)
            have.update(segment.values)
        assert not segments or have.issuperset(program.results)
        _check(program, segments)


def _check(program: Program, segments: tuple[Segment, ...]) -> None:
    total = sum(len(segment.program.ops) for segment in segments)
    assert total == (len(program.ops) if segments else 0)
