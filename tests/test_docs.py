"""What the pages say is run: every Python block, and every `chunkarr` command with its output.

The blocks of a page run in order, in one process and one empty directory, so that a page reads as a
session. A text block right below a Python block is what that block prints, the lines below a
command are what the command prints. Both are compared with all numbers masked but results of many
decimals, because times, sizes and speeds differ from machine to machine.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").glob("*.md"))))
NOT_RUN = {"demo"}
"""Commands that take long and have tests of their own."""
COMMANDS = (
    'python -m pip install ".[demo]" && chunkarr demo',
    'python -m pip install ".[test]" && python -m pytest',
)

RUNNER = """
import contextlib, io, json, sys, traceback
from chunkarr.cli import main

space, said = {"__name__": "__main__"}, []
for language, content in json.load(sys.stdin):
    code, out = 0, io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            if language == "python":
                exec(compile(content, "example.py", "exec"), space)
            else:
                code = main(content)
        except Exception:
            code = 1
            traceback.print_exc()
    said.append((code, out.getvalue()))
json.dump(said, sys.stdout)
"""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    line: int
    text: str


@dataclass(frozen=True)
class Example:
    """Something to run, and what it prints, None where the page does not tell."""

    language: str
    line: int
    content: str | list[str]
    printed: str | None


def blocks(page: str) -> list[Block]:
    """Give the fenced blocks of a page in order."""
    found: list[Block] = []
    inside: list[str] | None = None
    language, start = "", 0
    for number, line in enumerate((ROOT / page).read_text().splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence and inside is None:
            inside, language, start = [], fence[1], number
        elif fence and inside is not None:
            found.append(Block(language, start, "\n".join(inside)))
            inside = None
        elif inside is not None:
            inside.append(line)
    assert inside is None, f"{page}:{start}: a block without an end"
    return found


def examples(page: str) -> list[Example]:
    """Give what is to be run on a page."""
    found: list[Example] = []
    parts = blocks(page)
    for block, below in itertools.zip_longest(parts, parts[1:]):
        if block.language == "python":
            end = block.line + block.text.count("\n") + 2
            follows = below is not None and below.language == "text" and below.line <= end + 2
            printed = below.text if below is not None and follows else None
            found.append(Example("python", block.line, block.text, printed))
        elif block.language == "console":
            found += commands(page, block)
    return found


def commands(page: str, block: Block) -> list[Example]:
    """Give the commands of a console block with the lines below each."""
    found = []
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, _, printed = part.partition("\n")
        program, *arguments = shlex.split(line)
        assert program == "chunkarr", f"{page}:{block.line}: only chunkarr's commands are run"
        if arguments[0] not in NOT_RUN:
            found.append(Example("command", block.line, arguments, printed))
    return found


def masked(text: str) -> str:
    """Give a text with all numbers, with their units, and all spacing made the same.

    Numbers of many decimals are results, not measurements, and stay: all but their last digits.
    """
    number = r"-?\d[\d.,]*(?:e[+-]?\d+)?(?: ?(?:[KMGT]iB|MB|B|ms|min|s|%)(?!\w))?"

    def mask(found: re.Match[str]) -> str:
        return f"{float(found[0]):.8g}" if re.fullmatch(r"-?\d+\.\d{6,}", found[0]) else "#"

    return " ".join(re.sub(number, mask, text).split())


def test_numbers_are_masked_with_their_units_and_words_are_not() -> None:
    assert masked("16 sum  in 0.5 s, 3.1 MiB at a.py:3") == "# sum in #, # at a.py:#"
    assert masked("288674.9902572095") == masked("288674.9902572091") == "288674.99"


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)])
def test_a_page_tells_what_happens(page: str, tmp_path: Path) -> None:
    given = examples(page)
    environ = {k: v for k, v in os.environ.items() if not k.startswith("CHUNKARR_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUNNER],
        input=json.dumps([(example.language, example.content) for example in given]),
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for example, (code, said) in zip(given, json.loads(done.stdout), strict=True):
        place = f"{page}:{example.line}"
        assert code == 0, f"{place}: {example.content}\n{said}"
        if example.printed is not None:
            assert masked(said) == masked(example.printed), f"{place} printed\n{said}"


def test_the_readme_tells_how_to_begin() -> None:
    found = [block.text for block in blocks("README.md")]
    assert [command for command in COMMANDS if command not in found] == []


def test_the_files_that_pages_name_exist() -> None:
    missing = [
        f"{page}: {name}"
        for page in PAGES
        for name in re.findall(r"`([a-z_]+/[\w/]+\.(?:py|txt|md))`", (ROOT / page).read_text())
        if not (ROOT / name).exists()
    ]
    assert not missing


def test_links_between_pages_lead_somewhere() -> None:
    broken = [
        f"{page}: {target}"
        for page in (*PAGES, "CHANGELOG.md")
        for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text())
        if not (ROOT / page).parent.joinpath(target).exists()
    ]
    assert not broken


def test_the_changelog_tells_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"\n## {version}" in (ROOT / "CHANGELOG.md").read_text()
