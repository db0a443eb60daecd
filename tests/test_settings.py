"""Settings: what is accepted, which layer wins, and where a value is said to come from."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import chunkarr
from chunkarr import engine
from chunkarr.errors import ConfigError
from chunkarr.machine import Share
from chunkarr.settings import Config, memory_source, parse_bytes, settings
from chunkarr.settings import config as process_config
from chunkarr.storage.arena import arena

xp: Any = chunkarr  # operators are attached when it runs, unseen by type checkers


@pytest.fixture
def config() -> Config:
    """Settings of a process whose environment says nothing."""
    return Config({})


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4GiB", 4 << 30),
        ("512 MB", 512_000_000),
        ("1.5 KiB", 1536),
        (".5k", 500),
        ("64", 64),
        ("2 tib", 2 << 40),
        ("7B", 7),
        (123, 123),
        (1e9, 1_000_000_000),
        (str(2**60 + 1), 2**60 + 1),
    ],
)
def test_sizes_are_read(text: object, count: int) -> None:
    assert parse_bytes("memory", text) == count


@pytest.mark.parametrize(
    "given",
    [
        {"memory": "4 Gigs"},
        {"memory": ""},
        {"memory": "-1"},
        {"memory": -1},
        {"memory": 0},
        {"memory": 1.5},
        {"memory": True},
        {"memory": [1]},
        {"memory": "0%"},
        {"memory": "101%"},
        {"memory": "x%"},
        {"memory": "nan"},
        {"workers": 0},
        {"workers": "two"},
        {"workers": 1.5},
        {"executor": "thread"},
        {"executor": 3},
        {"spill_dir": "/there/is/no/such/directory"},
        {"spill_dir": 3},
        {"chunk_bytes": 0},
        {"eager_bytes": -1},
        {"memery": 1},
    ],
)
def test_a_wrong_setting_is_refused_and_changes_nothing(
    config: Config, given: dict[str, object]
) -> None:
    before = config.current()
    with pytest.raises(ConfigError, match=next(iter(given))):
        config(workers=7, **given) if "workers" not in given else config(**given)  # type: ignore[arg-type]
    assert config.current() == before


@pytest.mark.parametrize(
    ("given", "hint"),
    [({"memery": 1}, "'memory'"), ({"executor": "thread"}, "'threads'"), ({"zzz": 1}, "workers")],
)
def test_a_misspelling_is_answered_with_the_nearest_name(
    config: Config, given: dict[str, object], hint: str
) -> None:
    with pytest.raises(ConfigError, match=hint):
        config(**given)  # type: ignore[arg-type]


def test_a_plain_call_holds_from_then_on(config: Config) -> None:
    config(memory="1GiB", workers=3)
    assert (config.current().memory, config.current().workers) == (1 << 30, 3)


def test_a_block_holds_inside_only_and_blocks_nest(config: Config) -> None:
    config(workers=3)
    with config(workers=4, memory=1000) as inside:
        assert inside == config.current()
        with config(workers=5):
            assert (config.current().workers, config.current().memory) == (5, 1000)
        assert config.current().workers == 4
    assert config.current().workers == 3
    assert config.source("memory") != "config(memory=1000)"


def test_a_block_ends_with_an_exception(config: Config) -> None:
    before = config.current()
    with pytest.raises(ZeroDivisionError), config(workers=9):
        _ = 1 // 0
    assert config.current() == before


def test_a_plain_call_inside_a_block_takes_effect_at_once_and_stays(config: Config) -> None:
    with config(workers=4, chunk_bytes=10):
        config(workers=5)
        assert config.current().workers == 5
        assert config.current().chunk_bytes == 10
    assert config.current().workers == 5


def test_one_change_can_be_entered_twice(config: Config) -> None:
    change = config(workers=4)
    for _ in range(2):
        with change, change:
            assert config.current().workers == 4
    assert config.source("workers") != "config(workers=4)"


def test_entering_takes_back_only_its_own_call(config: Config) -> None:
    change = config(workers=4)
    config(workers=6)
    with change:
        assert config.current().workers == 4
    assert config.current().workers == 6


def test_none_gives_the_default_back(config: Config) -> None:
    default = config.current().chunk_bytes
    config(chunk_bytes=64)
    config(chunk_bytes=None)
    assert config.current().chunk_bytes == default


def test_a_block_is_not_seen_by_other_threads_and_a_plain_call_is(config: Config) -> None:
    seen: list[int] = []

    def look() -> None:
        seen.append(config.current().workers)

    config(workers=3)
    with config(workers=4):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [3]


def test_the_environment_is_read_and_calls_win_over_it(tmp_path: Path) -> None:
    config = Config(
        {
            "CHUNKARR_MEMORY": "1GiB",
            "CHUNKARR_WORKERS": "3",
            "CHUNKARR_EXECUTOR": "tcp://127.0.0.1:8786",
            "CHUNKARR_SPILL_DIR": str(tmp_path),
            "CHUNKARR_CHUNK_BYTES": "64",
            "CHUNKARR_EAGER_BYTES": "0",
            "CHUNKARR_CACHE_DIR": "belongs to the kernels",
            "CHUNKARR_KERNELS": "numpy",
            "HOME": "elsewhere",
        }
    )
    current = config.current()
    assert (current.memory, current.workers) == (1 << 30, 3)
    assert (current.executor, current.spill_dir) == ("tcp://127.0.0.1:8786", str(tmp_path))
    assert (current.chunk_bytes, current.eager_bytes) == (64, 0)
    assert config.source("memory") == "environment variable CHUNKARR_MEMORY"
    config(workers=2)
    assert config.current().workers == 2


@pytest.mark.parametrize(
    ("environ", "hint"),
    [
        ({"CHUNKARR_MEMROY": "1GiB"}, "CHUNKARR_MEMORY"),
        ({"CHUNKARR_WORKERS": "many"}, "CHUNKARR_WORKERS"),
    ],
)
def test_a_wrong_environment_is_refused_at_each_use(environ: dict[str, str], hint: str) -> None:
    config = Config(environ)
    for _ in range(2):
        with pytest.raises(ConfigError, match=hint):
            config.current()


def test_an_empty_environment_variable_says_nothing() -> None:
    expected = Config({}).current().workers
    assert Config({"CHUNKARR_WORKERS": ""}).current().workers == expected


def test_a_client_is_an_executor_and_so_is_its_address(config: Config) -> None:
    class Client:
        def submit(self) -> None: ...
        def scheduler_info(self) -> None: ...

    client = Client()
    config(executor=client)
    assert config.current().executor is client
    config(executor="tls://host:1")
    assert config.current().executor == "tls://host:1"


def test_the_default_limit_says_where_it_comes_from(config: Config) -> None:
    config(memory=None)
    assert "60 % of the" in config.source("memory")
    with config(memory="50%"):
        assert config.source("memory") == "config(memory='50%')"
        assert config.current().memory > 0


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """What others leave of the machine, asked for at each plan; the limit was found before."""
    amount = [0]
    with process_config(memory=None, executor="threads"):
        assert settings().memory > 0
        monkeypatch.setattr("chunkarr.settings.memory_free", lambda _: Share(amount[0], "a test"))
        monkeypatch.setattr("chunkarr.settings.SECONDS_SPARE", 0.0)
        monkeypatch.setattr(process_config, "_spare_until", 0.0)
        yield amount
    monkeypatch.undo()
    process_config._spare_until = 0.0


def test_what_others_take_is_no_room_for_values_where_nobody_has_set_a_limit(
    free: list[int],
) -> None:
    before = engine.current_limits()[0].bytes_available
    for free[0] in (1 << 30, 1 << 20):
        limits, _ = engine.current_limits()
        assert limits.bytes_spare == free[0] * 6 // 10 + arena.bytes_kept
        assert limits.bytes_available > before // 2
    with process_config(memory="1GiB"):
        assert engine.current_limits()[0].bytes_spare is None


def test_what_others_take_refuses_no_plan(free: list[int], tmp_path: Path) -> None:
    assert free == [0]
    values = np.random.default_rng(0).normal(size=(60, 40))
    with process_config(spill_dir=tmp_path, eager_bytes=0, chunk_bytes=4000):
        arena.resize(0)
        x = xp.from_array(values)
        kept = (x + 1).persist()
        assert list(tmp_path.rglob("*"))  # on disk
        for found, expected in (
            (kept, values + 1),
            (x @ x.T, values @ values.T),
            (xp.median(x, 0), np.median(values, 0)),
            (x[x > 0], values[values > 0]),
            (xp.sort(x.reshape(-1)), np.sort(values.reshape(-1))),
        ):
            np.testing.assert_allclose(found.compute(), expected)
        del kept, x, found


def test_the_text_of_the_settings_shows_values_and_their_sources(config: Config) -> None:
    config(memory="1GiB")
    text = repr(config)
    assert "memory       1.0 GiB" in text
    assert "config(memory='1GiB')" in text
    assert repr(config(workers=2)) == repr(config)


def test_an_unknown_name_has_no_source(config: Config) -> None:
    with pytest.raises(ConfigError, match="workers"):
        config.source("worker")


def test_the_process_has_one_set_of_settings() -> None:
    with process_config(memory=12345):
        assert settings().memory == 12345
        assert memory_source() == "config(memory=12345)"
