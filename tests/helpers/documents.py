"""The pages of the documentation: their Python, their commands, their links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from markdown.extensions.toc import slugify

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
EXTRAS = ("stable_baselines3", "gymnasium", "deepinv", "diffusers")
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
        if block.language != "python":
            continue
        code = compile("\n" * (block.line - 1) + block.text, str(page), "exec", dont_inherit=True)
        try:
            exec(code, names)
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] not in EXTRAS:
                raise
            pytest.skip(f"{error.name} is not installed")
        yield names


def commands(page: Path) -> list[list[str]]:
    """The words of every `latentopt` command line: in ``sh`` blocks, indented, and in the text where it has options.

    Comments are left out, and in the text what has a placeholder in capitals for an argument.
    """
    text = page.read_text(encoding="utf-8")
    prose = FENCE.sub("", text)
    lines = [line for block in blocks(page) if block.language == "sh" for line in block.text.splitlines()]
    lines += re.findall(r"^    (\S.*)$", prose, re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`(latentopt [^`]+)`", prose)]
    lines += [span for span in spans if " --" in span and not re.search(r"\b[A-Z]{2,}\b|\.\.\.", span)]
    words = [shlex.split(line, comments=True) for line in lines if "latentopt " in line]
    return [line[1:] for line in words if line and Path(line[0]).name == "latentopt"]


def links(page: Path) -> list[tuple[str, str]]:
    """Of every link or picture that stays in this repository, the file, as written, and the anchor."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    matches = re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]*))?\)", text)
    return [(file, anchor) for file, anchor in matches if file or anchor]


def anchors(page: Path) -> set[str]:
    """Of a page's headings, as Python-Markdown makes them; a code host's are the same for what we write."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slugify(re.sub(r"[`*]|<[^>]+>", "", heading), "-") for heading in headings}
