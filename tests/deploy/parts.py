"""What the tests of recipes share: command lines are read by the programs that they are for."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import Any

import click

from chunkarr.cli import cli

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"


def parsed(words: list[str]) -> dict[str, Any]:
    """Give the options that chunkarr's command line reads in a command; raises for wrong ones."""
    command: click.Command = cli
    name, rest = "chunkarr", list(words)
    while isinstance(command, click.Group):
        name = rest.pop(0)
        found = command.get_command(click.Context(command), name)
        assert found is not None, name
        command = found
    return dict(command.make_context(name, rest).params)


def programs(folder: Path) -> str:
    """Give a PATH that begins with a folder in which `chunkarr` is the checkout's."""
    folder.mkdir(exist_ok=True)
    program(folder / "chunkarr", "from chunkarr.cli import main; sys.exit(main())")
    # A link would be another interpreter, without the packages of this one.
    program(
        folder / "python", "import os; os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def program(path: Path, code: str) -> None:
    """Write a program in Python that imports from the checkout."""
    path.write_text(f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n{code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
