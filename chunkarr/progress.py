"""The drawing of progress on a terminal, the one file that needs rich; loaded when first drawn.

Rich is asked to redraw by us and runs no thread of its own: nothing is left behind when a run is
interrupted, and nothing is drawn while the run's thread is busy.
"""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from chunkarr.display import Standing, format_seconds
from chunkarr.errors import format_bytes
from chunkarr.scheduler.budget import memory_in_use


class Painter:
    """One line that shows the step, its share, the speed, the time left and the memory."""

    def __init__(self, bytes_limit: int, console: Console | None = None) -> None:
        self._bytes_limit = bytes_limit
        name = Column(max_width=22, no_wrap=True, overflow="ellipsis")
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(bar_width=10),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[facts]}", markup=False, table_column=Column(no_wrap=True)),
            console=console or Console(file=sys.stderr),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task("", total=1.0, facts="")

    def draw(self, standing: Standing) -> None:
        """Redraw the line."""
        left = standing.seconds_left
        used, limit = format_bytes(memory_in_use()), format_bytes(self._bytes_limit)
        # "20 of 256 MiB" says it once and lets the line fit 80 columns.
        if used.split()[-1] == limit.split()[-1]:
            used = used.split()[0]
        facts = [
            f"{format_bytes(standing.bytes_second)}/s",
            "" if left is None else f"{format_seconds(left)} left",
            f"{used} of {limit}",
        ]
        self._progress.update(
            self._task,
            description=f"{standing.step}/{standing.steps} {standing.operation}",
            completed=standing.share,
            facts=", ".join(filter(None, facts)),
        )
        self._progress.start()
        self._progress.refresh()

    def close(self) -> None:
        """Take the line away."""
        self._progress.stop()
