"""The command line: `chunkarr calc "EXPR" name=path`, `info`, `explain`, `convert`, `demo`.

`doctor`, `clean` and `cluster` are in `upkeep`.

Results go to standard output and everything else to standard error, so that results can be piped.
An error is one clear line and what to do about it; a traceback is for us, behind `--traceback`.
Exit codes: 0 done, 1 failed, 2 the command itself is wrong, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import importlib
import json
import keyword
import os
import signal
import sys
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import click

import chunkarr
from chunkarr import demo
from chunkarr.calc import evaluate
from chunkarr.display import Tally, format_seconds, format_table, listening
from chunkarr.errors import ChunkarrError, ConfigError, ExpressionError, format_bytes
from chunkarr.scheduler.budget import memory_in_use
from chunkarr.settings import settings
from chunkarr.storage.formats import open_store
from chunkarr.upkeep import COMMANDS

EXPECTED = (
    ChunkarrError,
    ArithmeticError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OSError,
    TypeError,
    ValueError,
)
"""What data and expressions can cause; anything else is a defect and keeps its traceback."""
OUTPUTS = (".zarr", ".npy")

Command = Callable[..., Any]


def main(arguments: list[str] | None = None) -> int:
    """Run a command and give its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        with _terminated():
            done = cli.main(given, prog_name="chunkarr", standalone_mode=False)
            if sys.stdout is not None:  # closed by who has started us
                sys.stdout.flush()
            return done if isinstance(done, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted; nothing is left behind", err=True)
        return 130
    except BrokenPipeError:
        # Whoever read our output has stopped; Python must not find that out once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except EXPECTED as error:
        if "--traceback" in given:
            raise
        click.echo(describe_error(error), err=True)
        return 2 if isinstance(error, ExpressionError | ConfigError) else 1


def describe_error(error: BaseException) -> str:
    """Spell an error for a person: what, where, and the ways out that it knows."""
    text = str(error) or type(error).__name__
    if not isinstance(error, ChunkarrError | OSError):
        text = f"{type(error).__name__}: {text}"
    return "\n".join([f"Error: {text}", *(f"  {note}" for note in getattr(error, "__notes__", ()))])


@contextmanager
def _terminated() -> Iterator[None]:
    """Let SIGTERM and SIGHUP unwind as Ctrl-C does, so that nothing is left behind."""

    def leave(number: int, _: FrameType | None) -> None:
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # whoever owns that handles signals
        return
    numbers = [signal.SIGTERM, signal.SIGHUP]
    # Who was told to ignore the end of the terminal goes on behind it.
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--traceback", is_flag=True, help="Show the Python traceback of an error.")
@click.version_option(package_name="chunkarr", prog_name="chunkarr")
def cli(traceback: bool) -> None:
    """NumPy for data that does not fit."""


for _command in COMMANDS:
    cli.add_command(_command)


def _resources(command: Command) -> Command:
    """Add the options that every command which computes has."""
    options = (
        click.option("--memory", metavar="SIZE", help='Memory limit: "1GiB", "512 MB", "50%".'),
        click.option("--workers", metavar="N", help="Number of tasks that run at the same time."),
        click.option("--executor", metavar="NAME", help="threads, processes or tcp://HOST:PORT."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _expression(command: Command) -> Command:
    """Add the arguments of commands that evaluate an expression."""
    command = click.argument("datasets", metavar="[NAME=PATH]...", nargs=-1)(command)
    return click.argument("expression", metavar="EXPR")(command)


@cli.command()
@_expression
@click.option("-o", "--output", metavar="PATH", help="Write the result to a .zarr or .npy.")
@_resources
def calc(expression: str, datasets: tuple[str, ...], output: str | None, **limits: Any) -> None:
    """Evaluate a NumPy expression over datasets on disk.

    EXPR is read as Python but not run as Python: names, NumPy's functions, operators, indexing.

    \b
    chunkarr calc "a.mean(axis=0)" a=temperature.zarr
    chunkarr calc "where(a > 0, a - b, nan)" a=a.npy b=b.npy -o difference.zarr
    """  # noqa: D301 - click takes a backspace as "keep these lines"
    if output is not None:
        _check_output(output)
    with _limited(limits) as tally:
        result = evaluate(expression, _open_all(datasets))
        if output is None:
            click.echo(str(result))
        else:
            _write(result, output)
    _close(tally)


@cli.command()
@_expression
@click.option("--analyze", is_flag=True, help="Run it, and show what happened.")
@_resources
def explain(expression: str, datasets: tuple[str, ...], analyze: bool, **limits: Any) -> None:
    """Show the plan of an expression: steps, bytes, memory, estimated time."""
    with _limited(limits):
        result = evaluate(expression, _open_all(datasets))
        click.echo(str(_array(result).explain(analyze=analyze)))


@cli.command()
@click.argument("path")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def info(path: str, as_json: bool) -> None:
    """Tell the format, shape, dtype, chunks and size of a dataset; reads its header only."""
    facts = describe(path)
    if as_json:
        click.echo(json.dumps(facts))
        return
    lines = [[name, _spell(name, value)] for name, value in facts.items()]
    click.echo(format_table(lines, left=(0, 1)))


@cli.command()
@click.argument("source", metavar="IN")
@click.argument("target", metavar="OUT")
@_resources
def convert(source: str, target: str, **limits: Any) -> None:
    """Copy a dataset to a .zarr or .npy, within the memory limit."""
    _check_output(target)
    with _limited(limits) as tally:
        _write(chunkarr.open(source), target)
    _close(tally)


@cli.command("demo")
@click.option("--out", metavar="DIR", default=".", help="Where the map and its picture go.")
@click.option("--memory", metavar="SIZE", default=demo.MEMORY, show_default=True)
def run_demo(out: str, memory: str) -> None:
    """Work on the Earth's land mask, 933 MB, within 256 MiB of memory."""
    demo.run(out, memory, echo=click.echo)


def describe(path: str) -> dict[str, Any]:
    """Give what is known of a dataset without reading its data."""
    store = open_store(path)
    facts: dict[str, Any] = {
        "path": path,
        "format": "npy",
        "shape": list(store.shape),
        "dtype": str(store.dtype),
        "bytes": store.bytes_size,
    }
    if not os.path.isdir(path):
        if zipfile.is_zipfile(path):
            facts["format"] = "npz"
        return facts
    stored = importlib.import_module("zarr").open_array(path, mode="r")
    facts["format"] = f"zarr v{stored.metadata.zarr_format}"
    facts["chunks"] = list(stored.chunks)
    if stored.shards:
        facts["shards"] = list(stored.shards)
    facts["compressor"] = ", ".join(map(_codec_name, stored.compressors)) or "none"
    return facts


def _codec_name(codec: Any) -> str:
    """Give the short name of a codec of either version: "zstd"."""
    name = getattr(codec, "codec_id", "") or type(codec).__name__.removesuffix("Codec")
    return str(name).lower()


class _Meter(Tally):
    """A tally that has a clock and the limit."""

    began: float
    limit: int


@contextmanager
def _limited(limits: Mapping[str, str | None]) -> Iterator[_Meter]:
    """Put the given limits in force and measure what runs."""
    given = {name: value for name, value in limits.items() if value is not None}
    meter = _Meter()
    meter.began = time.perf_counter()
    with chunkarr.config(**given), listening(meter):
        meter.limit = settings().memory
        yield meter


def _close(meter: _Meter) -> None:
    """Tell what it took, on standard error."""
    seconds = time.perf_counter() - meter.began
    peak = max(meter.bytes_peak, memory_in_use())
    click.echo(
        f"read {format_bytes(meter.bytes_read)} in {format_seconds(seconds)} "
        f"({meter.bytes_read / max(seconds, 1e-9) / 1e6:,.0f} MB/s), "
        f"peak memory {format_bytes(peak)} of the limit of {format_bytes(meter.limit)}",
        err=True,
    )


def _open_all(datasets: tuple[str, ...]) -> dict[str, Any]:
    """Open datasets given as NAME=PATH."""
    found: dict[str, Any] = {}
    for text in datasets:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise click.UsageError(f"{text!r}: datasets are given as NAME=PATH, as in a=data.zarr")
        if not name.isidentifier() or keyword.iskeyword(name):
            raise click.UsageError(f"{name!r} cannot be a name; use letters, digits and _")
        if name in found:
            raise click.UsageError(f"{name} is given twice")
        found[name] = chunkarr.open(path)
    return found


def _check_output(path: str) -> None:
    if not path.rstrip("/").endswith(OUTPUTS):
        raise click.UsageError(f"{path}: the output must end in {' or '.join(OUTPUTS)}")


def _write(result: Any, path: str) -> None:
    if path.endswith(".npy"):
        chunkarr.save(path, _array(result))
    else:
        _array(result).to_zarr(path)


def _array(result: Any) -> Any:
    """Give a result as one array."""
    if isinstance(result, tuple | list | str | type):
        kind = type(result).__name__
        raise click.UsageError(f"the expression gives a {kind}, not one array; pick one with [0]")
    return result if hasattr(result, "explain") else chunkarr.asarray(result)


def _spell(name: str, value: object) -> str:
    if isinstance(value, list):
        return " x ".join(map(str, value)) or "scalar"
    return format_bytes(value) if name == "bytes" and isinstance(value, int) else str(value)
