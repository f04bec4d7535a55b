"""The pages of the documentation: their Python, their commands, their links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
EXTRAS = ("stable_baselines3", "gymnasium", "deepinv")
"""What a block may need that need not be there."""
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    language: str
    text: str
    line: int  # of the page, where its text begins


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [Block(m[2], m[3], text[: m.start(3)].count("\n") + 1) for m in FENCE.finditer(text)]


def run(page: Path) -> Iterator[dict[str, Any]]:
    """Run the page's Python, block after block in one namespace, which is told after each; skip for want of an extra.

    Tracebacks and warnings name the page and its line.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python":
            code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
            try:
                exec(code, names)
            except ModuleNotFoundError as error:
                if (error.name or "").split(".")[0] not in EXTRAS:
                    raise
                pytest.skip(f"{error.name} is not installed")
            yield names


def commands(page: Path) -> list[list[str]]:
    """The words of every `latentopt` command line, in ``sh`` blocks and indented ones; comments are left out."""
    text = page.read_text(encoding="utf-8")
    indented = re.findall(r"^    (\S.*)$", FENCE.sub("", text), re.MULTILINE)
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    words = [shlex.split(line, comments=True) for line in [*lines, *indented] if "latentopt " in line]
    return [line[1:] for line in words if line and Path(line[0]).name == "latentopt"]
