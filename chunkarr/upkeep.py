"""Commands that look after the place where chunkarr runs: `doctor`, `clean`, `cluster`."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from chunkarr.display import format_table
from chunkarr.errors import ConfigError, format_bytes
from chunkarr.kernels import cache as kernels
from chunkarr.settings import config, settings
from chunkarr.storage.leftovers import remove_leftovers

BYTES_WORKER_MIN = 192 << 20
"""A worker of Dask's takes up to 150 MB before it has anything to do."""


@click.command()
@click.option("--cluster", metavar="ADDRESS", help="Also meet this Dask cluster, as a run would.")
@click.option("--store", metavar="DIR", default=".", help="Where outputs go; its disk is timed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(cluster: str | None, store: str, as_json: bool) -> int:
    """Check all that a run depends on: versions, memory, disks, limits, leftovers, a cluster.

    The exit code is 1 where something is a problem, not for warnings.
    """
    # It brings psutil, distributed and threadpoolctl, which no other command needs.
    examine: Any = importlib.import_module("chunkarr.doctor").examine
    found = examine(cluster, store)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found]))
    else:
        click.echo(format_table([[f.state, f.name, f.text] for f in found], left=(0, 1, 2)))
        for finding in found:
            if finding.remedy:
                click.echo(f"{finding.name}: {finding.remedy}")
    return int(any(finding.state == "problem" for finding in found))


@click.command()
@click.argument(
    "directories", metavar="[DIR]...", nargs=-1, type=click.Path(exists=True, file_okay=False)
)
@click.option("--resumable", is_flag=True, help="Also what resume=True could go on from.")
def clean(directories: tuple[str, ...], resumable: bool) -> None:
    """Remove what dead sessions have left in the spill directory and in the given ones.

    What belongs to a living session, to another user or to another host stays.
    """
    for directory in dict.fromkeys(map(os.path.abspath, (settings().spill_dir, *directories))):
        gone = remove_leftovers(directory, resumable=resumable)
        size = format_bytes(sum(item.bytes_size for item in gone))
        for item in gone:
            click.echo(item.path)
        click.echo(f"{directory}: {len(gone)} removed, {size}", err=True)


@click.command()
@click.option("--clear", is_flag=True, help="Remove all of it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def cache(clear: bool, as_json: bool) -> None:
    """Show the compiled kernels that are kept on disk, or remove them.

    They are compiled again when they are wanted. CHUNKARR_CACHE_DIR says where they are kept.
    """
    place = kernels.directory()
    found = kernels.clear() if clear else kernels.kept()
    if as_json:
        listed = [{"path": str(k.path), "bytes": k.size, "used": k.used} for k in found]
        click.echo(json.dumps({"directory": place and str(place), "kernels": listed}))
        return
    if found and not clear:
        now = time.time()
        rows = [[k.path.stem[:12], format_bytes(k.size), _age(now - k.used)] for k in found]
        click.echo(format_table([["kernel", "size", "used"], *rows], left=(0,)))
    size, verb = format_bytes(sum(k.size for k in found)), " removed" if clear else ""
    count = f"{len(found)} kernel{'' if len(found) == 1 else 's'}"
    click.echo(f"{place or 'no private directory'}: {count}{verb}, {size}", err=True)


def _age(seconds: float) -> str:
    """Spell how long ago something was.

    >>> _age(30), _age(7200), _age(200_000)
    ('0 minutes ago', '2 hours ago', '2 days ago')
    """
    units = [(86400, "day"), (3600, "hour"), (60, "minute")]
    length, name = next((unit for unit in units if seconds >= unit[0]), units[-1])
    count = int(max(0.0, seconds) // length)
    return f"{count} {name}{'' if count == 1 else 's'} ago"


@click.group()
def cluster() -> None:
    """Run a Dask cluster on this machine, with credentials."""


_COUNT = click.IntRange(min=1)
_FOLDER = click.option(
    "--folder", metavar="DIR", help="Where credentials and logs lie; a folder of the user's own."
)
_WORKERS = click.option(
    "--workers", metavar="N", type=_COUNT, help="Worker processes; by default all cores."
)
_THREADS = click.option("--threads", metavar="N", type=_COUNT, default=1, show_default=True)
_MEMORY = click.option(
    "--memory", metavar="SIZE", help='Of all workers: "4GiB", "50%"; by default the limit.'
)
_PORT = click.IntRange(0, 65535)


@cluster.command()
@_FOLDER
@_WORKERS
@_THREADS
@_MEMORY
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True)
@click.option("--port", metavar="PORT", type=_PORT, default=0, help="Of the scheduler.")
def up(
    folder: str | None,
    workers: int | None,
    threads: int,
    memory: str | None,
    host: str,
    port: int,
) -> None:
    """Start a scheduler and workers; prints what a client's environment needs.

    \b
    eval "$(chunkarr cluster up)"
    chunkarr cluster down
    """  # noqa: D301 - click takes a backspace as "keep these lines"
    count, each = _shares(workers, memory)
    started = importlib.import_module("chunkarr.clusters").start(
        count,
        folder=folder,
        host=host,
        port=port,
        threads=threads,
        memory=str(each),
    )
    _print_environment(started.environment)
    text = f"{_counted(count)} at {started.address}; credentials and logs in {started.folder}"
    click.echo(text, err=True)


@cluster.command()
@_FOLDER
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True)
@click.option("--port", metavar="PORT", type=_PORT, default=8786, show_default=True)
def scheduler(folder: str | None, host: str, port: int) -> None:
    """Be the scheduler of a cluster over several hosts, until ended."""
    clusters: Any = importlib.import_module("chunkarr.clusters")
    place = os.path.abspath(folder or clusters.default_folder())
    clusters.become(clusters.scheduler_command(place, host, port), place)


@cluster.command()
@click.argument("address", required=False)
@_FOLDER
@click.option("--host", metavar="HOST", default="127.0.0.1", show_default=True)
@_WORKERS
@_THREADS
@_MEMORY
def worker(
    address: str | None,
    folder: str | None,
    host: str,
    workers: int | None,
    threads: int,
    memory: str | None,
) -> None:
    """Be workers of the scheduler at ADDRESS, or of the one that has left its own in the folder."""
    clusters: Any = importlib.import_module("chunkarr.clusters")
    place = os.path.abspath(folder or clusters.default_folder())
    count, each = _shares(workers, memory)
    if address is None and not os.path.exists(os.path.join(place, clusters.SCHEDULER)):
        click.echo(f"waiting for a scheduler to leave its address in {place}", err=True)
    command = clusters.worker_command(
        place,
        host,
        workers=count,
        threads=threads,
        memory=str(each),
        address=address,
    )
    clusters.become(command, place)


@cluster.command()
@_FOLDER
@click.argument("address", required=False)
def credentials(folder: str | None, address: str | None) -> None:
    """Make credentials if there are none; prints what a client's environment needs."""
    clusters: Any = importlib.import_module("chunkarr.clusters")
    place = os.path.abspath(folder or clusters.default_folder())
    clusters.make_credentials(place)
    chosen = {} if address is None else {"CHUNKARR_EXECUTOR": address}
    _print_environment({**chosen, **clusters.client_environment(place)})


def _shares(workers: int | None, memory: str | None) -> tuple[int, int]:
    """Give the number of workers and the memory of each."""
    with config(**({} if memory is None else {"memory": memory})):
        now = settings()
    count, total = workers or now.workers, now.memory
    if total // count < BYTES_WORKER_MIN:
        raise ConfigError(
            f"memory: {format_bytes(total)} for {_counted(count)}; each needs at least "
            f"{format_bytes(BYTES_WORKER_MIN)}"
        )
    return count, total // count


def _counted(workers: int) -> str:
    return f"{workers} worker{'' if workers == 1 else 's'}"


def _print_environment(pairs: Mapping[str, str]) -> None:
    for name, value in pairs.items():
        click.echo(f"export {name}={shlex.quote(value)}")


@cluster.command()
@_FOLDER
def down(folder: str | None) -> None:
    """End the cluster and all its processes; credentials stay for the next one."""
    stopped = importlib.import_module("chunkarr.clusters").stop(folder)
    click.echo("the cluster has ended" if stopped else "no cluster is running", err=True)


COMMANDS = (doctor, clean, cache, cluster)
