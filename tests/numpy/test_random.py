"""Random numbers are NumPy's, bit for bit, and leave the generators where NumPy leaves them."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chunkarr
from chunkarr.arrays import Array
from chunkarr.errors import MemoryBudgetError, NotYetError
from chunkarr.expr.node import Source
from chunkarr.grid import region_of
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.settings import config
from chunkarr.storage.stream import (
    Along,
    Draw,
    PartDraw,
    Stream,
    StreamStore,
    jump,
    revive,
    state_of,
)
from tests.numpy.support import MODES

ours_random: Any = chunkarr.random

BITS = ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")

BOTH = """
beta(2., 3., size=S)
binomial(10, .3, size=S)
chisquare(3., size=S)
choice(50, S)
choice(np.arange(7) / 4, S)
choice(["a", "bc", "d"], S)
choice(5, S, p=[.1, .2, .3, .2, .2])
dirichlet([1., 2., 3.], S)
exponential(2., S)
f(5., 12., S)
gamma(2., 1.5, S)
geometric(.3, S)
gumbel(0., 1., S)
hypergeometric(15, 15, 10, S)
laplace(0., 1., S)
logistic(size=S)
lognormal(0., .5, S)
logseries(.6, S)
multinomial(20, [.2, .3, .5], S)
multivariate_normal([0., 1.], np.eye(2), S)
negative_binomial(5, .4, S)
noncentral_chisquare(3., 1., S)
noncentral_f(5., 12., 1., S)
normal(1., 2., S)
normal(np.arange(S[-1]), 2., S)
normal(np.arange(9.), np.arange(1, 6.)[:, None])
pareto(5., S)
permutation(23)
permutation(np.arange(24).reshape(6, 4))
poisson(4., S)
poisson(np.arange(9.), (5, 9))
power(3., S)
random(S)
rayleigh(2., S)
standard_cauchy(S)
standard_exponential(S)
standard_gamma(2., S)
standard_normal(S)
standard_t(5., S)
triangular(-1., 0., 2., S)
uniform(size=S)
uniform(-1, np.arange(9.), (5, 9))
vonmises(0., 4., S)
wald(2., 1., S)
weibull(2., S)
zipf(4., S)
choice(9, 4, replace=False)
normal()
""".strip().split("\n")

NEW = """
choice(np.arange(12).reshape(4, 3), S)
choice(np.arange(12).reshape(4, 3), 5, axis=1)
integers(10, size=S)
integers(-5, 5, S, endpoint=True)
integers(2**40, size=S)
integers(0, 10, S, np.int32)
integers(0, 10, S, dtype=np.uint8)
integers(0, 256, S, dtype=np.uint8)
integers(-3, 300, S, dtype="i2")
integers(2, size=S, dtype=bool)
integers(np.arange(1, 10), size=(5, 9))
integers(np.arange(1, 10), size=(5, 9), dtype=np.uint8)
integers(3)
multivariate_hypergeometric([5, 6, 7], 4, S)
multivariate_hypergeometric([5, 6, 7], 4, S, method="count")
permuted(np.arange(24).reshape(6, 4), axis=1)
random(S, dtype=np.float32)
standard_exponential(S, dtype="f4")
standard_exponential(S, method="inv")
standard_gamma(.5, S, np.float32)
standard_normal(S, dtype=np.float32)
""".strip().split("\n")

OLD = """
rand(4, 30)
randint(10, size=S)
randint(-5, 5, S)
randint(0, 10, S, np.int32)
randint(0, 10, S, dtype=np.uint8)
randint(0, 256, S, dtype=np.uint8)
randint(0, 2, S, dtype=bool)
randint(3)
randn(4, 30)
randn()
random_sample(S)
tomaxint(S)
""".strip().split("\n")

SHAPES: tuple[tuple[int, ...], ...] = ((130,), (5, 1, 9), (3, 67))


def same(one: Any, other: Any) -> bool:
    """Compare values, states and what holds them."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(v, other[k]) for k, v in one.items())
    if isinstance(other, Array):
        return same(np.asarray(one), other.compute())
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return type(one) is type(other) and bool(one == other)


def pair(bits: str, *, old: bool, seed: int = 3) -> tuple[Any, Any]:
    """Make a generator of NumPy and ours in the same state."""
    kind = "RandomState" if old else "Generator"
    theirs, ours = (
        getattr(module, kind)(getattr(module, bits)(seed)) for module in (np.random, ours_random)
    )
    return theirs, ours


def state(source: Any) -> Any:
    old = isinstance(source, np.random.RandomState)
    return source.get_state(legacy=False) if old else source.bit_generator.state


def call(source: Any, text: str, shape: tuple[int, ...]) -> Any:
    return eval(f"source.{text}", {"source": source, "np": np, "S": shape})


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    config(**MODES[request.param])
    return str(request.param)


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
@pytest.mark.parametrize("bits", ["PCG64", "MT19937"])
def test_each_method_gives_numpys_numbers_and_state(bits: str, old: bool, mode: str) -> None:
    for text in BOTH + (OLD if old else NEW):
        for shape in SHAPES:
            theirs, ours = pair(bits, old=old)
            wanted, got = call(theirs, text, shape), call(ours, text, shape)
            if isinstance(wanted, np.ndarray):
                assert isinstance(got, Array), text
            assert same(wanted, got), (text, shape)
            assert same(state(theirs), state(ours)), (text, shape)


@pytest.mark.parametrize("bits", BITS)
def test_draws_follow_each_other_as_in_numpy(bits: str, mode: str) -> None:
    for old in (False, True):
        theirs, ours = pair(bits, old=old)
        texts = (BOTH + (OLD if old else NEW))[::3]
        pairs = [(t, call(theirs, t, (41,)), call(ours, t, (41,))) for t in texts]
        assert same(state(theirs), state(ours))
        for text, wanted, got in reversed(pairs):
            assert same(wanted, got), text


@pytest.mark.parametrize("bits", BITS)
def test_the_next_draw_is_numpys_without_anything_being_read(bits: str) -> None:
    config(**MODES["tiny"])
    for text in ("normal(size=S)", "random(S)", "random(S, dtype='f4')", "uniform(1, 2, S)"):
        for count in (1, 2, 3, 130, 131):
            theirs, ours = pair(bits, old=False)
            assert theirs.random(dtype="f4") == ours.random(dtype="f4")
            call(theirs, text, (count,)), call(ours, text, (count,))
            assert theirs.integers(1 << 20, dtype="u4") == ours.integers(1 << 20, dtype="u4")
            assert same(state(theirs), state(ours))


def test_making_an_array_draws_nothing() -> None:
    rng = ours_random.default_rng(1)
    made = [rng.normal(size=(1 << 40, 3)), rng.poisson(3, (1 << 30, 1 << 20)), rng.random(1 << 50)]
    made += [rng.integers(7, size=1 << 44, dtype="u1"), rng.choice(5, 1 << 40)]
    for each in made:
        cell = each.to_expr()
        assert isinstance(cell, Source)
        assert isinstance(cell.store, StreamStore)
        assert cell.store.stream.windows_drawn == 0
    wanted = np.random.default_rng(1).normal(size=(5, 3))
    assert np.array_equal(made[0][:5].compute(), wanted)


def test_a_cube_that_numpy_cannot_allocate_is_sliced_and_reduced() -> None:
    with config(memory=memory_in_use() + (1 << 30)):
        cube = ours_random.default_rng(42).random((365, 100, 180, 360, 5))
        assert cube.nbytes > 80 << 30
        theirs = np.random.default_rng(42)
        theirs.bit_generator.advance((3 * 100 + 5) * 180 * 360 * 5)  # type: ignore[attr-defined]
        wanted = theirs.random((180, 360, 5))
        assert np.array_equal(cube[3, 5].compute(), wanted)
        assert np.array_equal(cube[3, 5, ::60, 7, 1:3].compute(), wanted[::60, 7, 1:3])
        assert float(cube[3, 5].mean()) == pytest.approx(wanted.mean(), rel=1e-12)


@pytest.mark.slow
def test_a_day_of_the_cube_is_reduced_within_the_limit() -> None:
    with config(memory=memory_in_use() + (1 << 30)):
        cube = ours_random.default_rng(42).random((365, 100, 180, 360, 5))
        assert float(cube[200].mean()) == pytest.approx(0.5, abs=1e-3)


def test_reductions_of_a_lazy_array_are_those_of_its_values(mode: str) -> None:
    ours, theirs = ours_random.default_rng(8), np.random.default_rng(8)
    x, wanted = ours.normal(size=(40, 31)), theirs.normal(size=(40, 31))
    y, other = ours.random((40, 31)), theirs.random((40, 31))
    assert np.allclose((x * y).sum(axis=0).compute(), (wanted * other).sum(axis=0))
    assert np.array_equal(x.T[3:5, ::2].compute(), wanted.T[3:5, ::2])
    x[3] = 0
    wanted[3] = 0
    assert np.array_equal(x.compute(), wanted)


@pytest.mark.parametrize("executor", ["threads", pytest.param("processes", marks=pytest.mark.slow)])
def test_every_executor_draws_the_same(executor: str) -> None:
    config(executor=executor, workers=2, eager_bytes=0, chunk_bytes=1000)
    for old, bits in ((False, "PCG64"), (True, "MT19937")):
        theirs, ours = pair(bits, old=old)
        for text in ("normal(size=S)", "uniform(size=S)", "multinomial(9, [.5, .5], S)"):
            wanted, got = call(theirs, text, (30, 41)), call(ours, text, (30, 41))
            assert np.array_equal((got + 1).compute(), wanted + 1)
        assert same(state(theirs), state(ours))


# -- streams -------------------------------------------------------------------------------------


def stream_of(method: str, count: int, window: int, **named: Any) -> tuple[StreamStore, Any, Any]:
    """Give a stream of one method with NumPy's answer and the state after it."""
    theirs = np.random.Generator(np.random.PCG64(11))
    start = state_of(theirs)
    wanted = getattr(theirs, method)(size=count, **named)
    draw = Draw(method, named, (count,), wanted.dtype, wanted.shape[1:])
    return StreamStore(draw, start, window=window), wanted, state_of(theirs)


@given(
    count=st.integers(1, 300),
    window=st.integers(1, 400),
    bits=st.sampled_from(BITS),
    cuts=st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=4),
    method=st.sampled_from(["standard_normal", "standard_gamma", "poisson", "integers"]),
)
def test_any_window_gives_the_same_numbers(
    count: int, window: int, bits: str, cuts: list[tuple[int, int]], method: str
) -> None:
    needed: dict[str, dict[str, Any]] = {
        "standard_gamma": {"shape": 0.3},
        "integers": {"low": 0, "high": 1000},
    }
    named = needed.get(method, {})
    theirs = np.random.Generator(getattr(np.random, bits)(5))
    start = state_of(theirs)
    wanted = getattr(theirs, method)(size=count, **named)
    store = StreamStore(Draw(method, named, (count,), wanted.dtype), start, window=window)
    for first, last in (*cuts, (0, count)):
        low, high = min(first, count), min(max(first, last), count)
        assert np.array_equal(store.read((slice(low, high),)), wanted[low:high])
    assert same(store.stream.end_state(), state_of(theirs))


@given(
    dtype=st.sampled_from(["i1", "u1", "i2", "u2"]),
    data=st.data(),
    count=st.integers(1, 200),
    window=st.integers(1, 90),
    old=st.booleans(),
)
def test_small_integers_are_numpys_in_any_window(
    dtype: str, data: Any, count: int, window: int, old: bool
) -> None:
    limits = np.iinfo(dtype)
    low = data.draw(st.integers(limits.min, limits.max))
    top = data.draw(st.integers(low, limits.max))
    bits = np.random.PCG64(2)
    theirs: Any = np.random.RandomState(bits) if old else np.random.Generator(bits)
    start = state_of(theirs)
    name = "randint" if old else "integers"
    wanted = getattr(theirs, name)(low, top + 1, count, dtype)
    named = {"low": low, "span": top - low}
    draw = PartDraw(name, named, (count,), wanted.dtype, (), old)
    store = StreamStore(draw, start, window=window)
    assert np.array_equal(store.read((slice(0, count),)), wanted)
    if top > low:
        assert same(store.stream.end_state(), state_of(theirs))


@given(
    bits=st.sampled_from(["PCG64", "PCG64DXSM", "Philox"]),
    before=st.integers(0, 9),
    count=st.integers(0, 40),
    single=st.booleans(),
)
def test_a_jump_leads_where_drawing_does(bits: str, before: int, count: int, single: bool) -> None:
    theirs = np.random.Generator(getattr(np.random, bits)(4))
    theirs.random(before, dtype=np.float32)
    start = state_of(theirs)
    theirs.random(count, dtype=np.float32 if single else np.float64)
    after = jump(start, count, single=single)
    found = revive(after, legacy=False)
    assert isinstance(found, np.random.Generator)
    assert np.array_equal(found.random(9, dtype="f4"), theirs.random(9, dtype="f4"))
    assert np.array_equal(found.random(9), theirs.random(9))


def test_parameters_along_a_stream_are_cut_with_it() -> None:
    loc, scale = np.arange(12.0).reshape(3, 1, 4), np.arange(1, 6.0).reshape(5, 1)
    theirs = np.random.default_rng(3)
    start = state_of(theirs)
    wanted = theirs.normal(loc, scale)
    named = {"loc": Along(loc), "scale": Along(scale)}
    store = StreamStore(Draw("normal", named, (3, 5, 4), wanted.dtype), start, window=7)
    assert np.array_equal(store.read(region_of((3, 5, 4))), wanted)
    assert np.array_equal(
        store.read((slice(1, 3), slice(2, 4), slice(1, 2))), wanted[1:3, 2:4, 1:2]
    )


def test_readers_side_by_side_share_one_pass() -> None:
    store, wanted, _ = stream_of("standard_normal", 64_000, 500)
    wrong: list[int] = []

    def read(first: int) -> None:
        for i in range(first, 128, 4):
            box = (slice(i * 500, (i + 1) * 500),)
            if not np.array_equal(store.read(box), wanted[box]):
                wrong.append(i)

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert store.stream.windows_drawn <= 2 * 128


def test_a_second_reading_starts_at_the_nearest_state() -> None:
    store, wanted, end = stream_of("standard_normal", 640_000, 100)
    assert same(store.stream.end_state(), end)
    assert store.stream.windows_drawn == 6400
    for i in (17, 6399, 3000):
        assert np.array_equal(store.read((slice(i * 100, (i + 1) * 100),)), wanted[i * 100 :][:100])
    assert store.stream.windows_drawn <= 6400 + 3 * 16


def test_a_pickled_stream_continues_from_what_is_known() -> None:
    store, wanted, end = stream_of("standard_normal", 10_000, 100)
    store.read((slice(0, 5000),))
    packed = pickle.dumps(store)
    assert pickle.loads(packed).stream is store.stream
    del store
    again = pickle.loads(packed)
    assert again.stream.windows_drawn == 0
    assert np.array_equal(again.read((slice(4900, 5100),)), wanted[4900:5100])
    assert again.stream.windows_drawn <= 3
    assert same(again.stream.end_state(), end)


def test_a_long_row_of_draws_is_found_without_recursion() -> None:
    config(eager_bytes=0)
    theirs, ours = np.random.default_rng(0), ours_random.default_rng(0)
    wanted = [theirs.normal(size=3) for _ in range(1500)]
    got = [ours.normal(size=3) for _ in range(1500)]
    assert np.array_equal(got[-1].compute(), wanted[-1])
    assert not isinstance(got[-1].to_expr().store.stream.start, Stream)
    assert np.array_equal(got[700].compute(), wanted[700])


# -- generators -----------------------------------------------------------------------------------


def test_whoever_uses_the_bit_generator_finds_it_behind_lazy_draws() -> None:
    config(**MODES["tiny"])
    uses: list[Callable[[Any], Any]] = [
        lambda bits: bits.state,
        lambda bits: bits.random_raw(3),
        lambda bits: bits.jumped().state,
        lambda bits: np.random.Generator(bits).normal(),
        lambda bits: np.random.RandomState(bits).normal(),
        lambda bits: pickle.loads(pickle.dumps(bits)).state,
        lambda bits: copy.deepcopy(bits).state,
        lambda bits: bits.spawn(2)[1].state,
    ]
    for use in uses:
        theirs, ours = pair("PCG64", old=False)
        theirs.normal(size=99), ours.normal(size=99)
        assert same(use(theirs.bit_generator), use(ours.bit_generator))
        assert theirs.random() == ours.random()


def test_a_bit_generator_of_numpys_own_is_never_behind() -> None:
    config(**MODES["tiny"])
    bits, other = np.random.SFC64(1), np.random.SFC64(1)
    x = ours_random.Generator(bits).normal(size=99)
    wanted = np.random.Generator(other).normal(size=99)
    assert same(bits.state, other.state)
    assert np.array_equal(x.compute(), wanted)


def test_generators_of_one_bit_generator_take_turns() -> None:
    config(**MODES["tiny"])
    outcomes = []
    for module in (np, chunkarr):
        bits = module.random.MT19937(1)
        a, b = module.random.Generator(bits), module.random.RandomState(bits)
        drawn = [a.normal(size=9), b.normal(size=9), b.normal(size=4), a.random(3), b.randn(2)]
        outcomes.append([np.asarray(each) for each in drawn])
    assert all(np.array_equal(x, y) for x, y in zip(*outcomes, strict=True))


def test_the_shared_generator_is_numpys() -> None:
    config(**MODES["tiny"])
    ours_random.seed(5)
    got = [ours_random.randn(9), np.random.randn(3), ours_random.rand(70)]
    saved = np.random.get_state(legacy=False)
    got += [np.random.normal(size=3)]
    twin = np.random.RandomState(5)
    wanted = [twin.randn(9), twin.randn(3), twin.rand(70)]
    assert same(saved, twin.get_state(legacy=False))
    wanted += [twin.normal(size=3)]
    assert all(same(x, y) for x, y in zip(wanted, got, strict=True))
    ours_random.randn(9)
    np.random.seed(5)
    assert np.array_equal(ours_random.randn(9).compute(), wanted[0])
    x = ours_random.normal(size=40)
    ours_random.set_state(saved)
    assert np.array_equal(ours_random.normal(size=3).compute(), wanted[3])
    assert x.shape == (40,)


def test_generators_are_numpys_to_libraries() -> None:
    rng = ours_random.default_rng(3)
    assert isinstance(rng, np.random.Generator)
    assert isinstance(ours_random.RandomState(3), np.random.RandomState)
    assert isinstance(rng.bit_generator, np.random.PCG64)
    assert str(rng) == "Generator(PCG64)"
    assert ours_random.default_rng(rng) is rng
    children, wanted = rng.spawn(2), np.random.default_rng(3).spawn(2)
    assert children[1].random() == wanted[1].random()
    assert type(children[0]) is ours_random.Generator
    again = pickle.loads(pickle.dumps(rng))
    assert again.random() == rng.random()
    old = ours_random.RandomState(3)
    old.randn()
    assert pickle.loads(pickle.dumps(old)).randn() == old.randn()
    assert ours_random.default_rng(np.random.RandomState(1)).random() == (
        np.random.default_rng(np.random.RandomState(1)).random()
    )


def test_every_public_name_is_there() -> None:
    assert set(np.random.__all__) <= set(ours_random.__all__)
    for name in np.random.__all__:
        assert callable(getattr(chunkarr.random, name)), name


def test_shuffling_changes_arrays_in_place(mode: str) -> None:
    theirs, ours = np.random.default_rng(2), ours_random.default_rng(2)
    for whole in (np.arange(30), np.arange(30.0).reshape(6, 5)):
        a, b = whole.copy(), chunkarr.array(whole) + 0
        theirs.shuffle(a)
        ours.shuffle(b)
        assert np.array_equal(a, b.compute())
        view = b[2:5]
        theirs.shuffle(a[2:5])
        ours.shuffle(view)
        assert np.array_equal(a, b.compute())
    some = [1, 2, 3, 4]
    ours.shuffle(some)
    other = [1, 2, 3, 4]
    theirs.shuffle(other)
    assert some == other
    x, y = whole.copy(), chunkarr.array(whole) * 1
    assert np.array_equal(theirs.permuted(x, axis=0), ours.permuted(y, axis=0).compute())
    assert np.array_equal(theirs.permutation(x), ours.permutation(y).compute())
    assert np.array_equal(theirs.choice(x, 9), ours.choice(y, 9).compute())


def test_out_is_filled(mode: str) -> None:
    theirs, ours = np.random.default_rng(2), ours_random.default_rng(2)
    wanted, out = np.empty((4, 30)), chunkarr.zeros((4, 30))
    for name in ("random", "standard_normal", "standard_exponential"):
        getattr(theirs, name)(out=wanted)
        assert getattr(ours, name)(out=out) is out
        assert np.array_equal(out.compute(), wanted)
    plain = np.empty(7)
    assert ours.random(out=plain) is plain
    assert np.array_equal(plain, theirs.random(7))
    with pytest.raises(TypeError):
        ours.random(out=chunkarr.zeros(3, dtype="f4"))
    with pytest.raises(ValueError):
        ours.random(3, out=chunkarr.zeros(4))


@pytest.mark.parametrize(
    "text",
    [
        "normal(0, -1, S)",
        "normal(0, [-1], S)",
        "poisson(-1, S)",
        "integers(5, 1, S)",
        "integers(0, 300, S, dtype='u1')",
        "choice(3, S, p=[.1, .2, .3])",
        "choice([], S)",
        "choice(3, 400, replace=False)",
        "random(S, dtype='i4')",
        "random((-1, 3))",
        "random(2.5)",
        "random(S, size=S)",
        "normal(0, 1, S, 4)",
        "normal(nonsense=3)",
        "normal(np.zeros(3), 1, (4, 5))",
        "normal(np.zeros(3), np.zeros(4))",
        "multinomial(-1, [.5, .5], S)",
        "permutation(2.5)",
        "shuffle(3)",
    ],
)
def test_bad_arguments_raise_numpys_errors_at_the_call(text: str, mode: str) -> None:
    theirs, ours = pair("PCG64", old=False)
    with pytest.raises(Exception) as wanted:
        call(theirs, text, (40, 5))
    with pytest.raises(wanted.type):
        call(ours, text, (40, 5))
    assert same(state(theirs), state(ours))


def test_what_cannot_be_drawn_in_parts_is_refused_beyond_the_limit() -> None:
    rng = ours_random.default_rng(0)
    for text in (
        "permutation(1 << 40)",
        "choice(1 << 40, 1 << 39, replace=False)",
        "multivariate_normal([0, 1], np.eye(2), 1 << 40)",
        "integers(np.arange(1, 9), size=(1 << 40, 8), dtype='u1')",
        "bytes(1 << 45)",
    ):
        before = rng.bit_generator.state
        with pytest.raises((MemoryBudgetError, NotYetError)):
            call(rng, text, ())
        assert rng.bit_generator.state == before


def test_chunks_say_how_the_result_is_cut() -> None:
    x = ours_random.default_rng(1).normal(size=(30, 20), chunks=(7, 9))
    assert x.chunksize == (7, 9)
    assert np.array_equal(x.compute(), np.random.default_rng(1).normal(size=(30, 20)))


def test_random_integers_warns_once_and_is_numpys() -> None:
    config(**MODES["tiny"])
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        got = ours_random.RandomState(3).random_integers(6, size=99)
        values = got.compute()
    assert {each.category for each in seen} == {DeprecationWarning}
    assert np.array_equal(values, np.random.RandomState(3).randint(1, 7, 99))


def test_the_module_is_found_by_every_kind_of_import() -> None:
    from chunkarr import random as one

    assert one is ours_random
    assert (one.default_rng(0).random(3) + 1).shape == (3,)
