"""Marked places of a Markdown page, and their content.

A table, or any block, between two comments on lines of their own::

    <!-- figures: NAME -->

    ...

    <!-- end -->

and a figure within a sentence: ``<!--= NAME -->23 %<!--/-->``. Neither shows where the page is rendered. No line may
begin with a figure's mark: Markdown takes a line that begins with a comment for the end of the paragraph.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from latentopt.errors import InputError
from latentopt.reports import Table

BLOCK = re.compile(r"<!-- figures: (\S+) -->\n.*?<!-- end -->", re.DOTALL)
INLINE = re.compile(r"<!--= (\S+) -->.*?<!--/-->", re.DOTALL)
Blocks = Mapping[str, Callable[[], Table | str]]
Figures = Mapping[str, Callable[[], str]]
Made = TypeVar("Made")


def rewritten(text: str, blocks: Blocks, figures: Figures) -> str:
    """Rewrite every marked place of a page from the results.

    Raises:
        InputError: a mark has an unknown name.
    """
    text = BLOCK.sub(lambda match: block(match[1], blocks), text)
    return INLINE.sub(lambda match: f"<!--= {match[1]} -->{_of(match[1], figures)()}<!--/-->", text)


def block(name: str, blocks: Blocks) -> str:
    """Return a block with its marks."""
    content = _of(name, blocks)()
    text = plain(content) if isinstance(content, Table) else content.strip()
    return f"<!-- figures: {name} -->\n\n{text}\n\n<!-- end -->"


def plain(table: Table) -> str:
    """Render a table without title and padding, so that a changed figure changes one line only."""
    lines = [table.columns, *table.rows]
    texts = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
    return "\n".join([texts[0], "|" + "---|" * len(table.columns), *texts[1:]])


def names(text: str) -> tuple[list[str], list[str]]:
    """Return the names of a page's blocks and of its inline figures."""
    return [match[1] for match in BLOCK.finditer(text)], [match[1] for match in INLINE.finditer(text)]


def _of(name: str, known: Mapping[str, Callable[[], Made]]) -> Callable[[], Made]:
    if name not in known:
        raise InputError("mark", "a name that docs/tables has", name)
    return known[name]
