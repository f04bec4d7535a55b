"""What the site makes of docstrings: doctests become code, and a field's comment stands for its docstring."""

from __future__ import annotations

import re
from typing import Any

import griffe

BLOCK = re.compile(r"^( *)>>> .*(?:\n(?!\s*$).*)*", re.MULTILINE)
"""From the first prompt to the next empty line."""
COMMENT = re.compile(r"  # (?!noqa|pyright)(.*?)(?:  # .*)?$")


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = BLOCK.sub(_fenced, obj.docstring.value)

    def on_attribute(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        if attr.docstring or not (attr.parent and attr.parent.is_class) or not attr.annotation or not attr.lines:
            return
        if comment := COMMENT.search(attr.lines[-1]):
            attr.docstring = griffe.Docstring(comment[1].replace("*", r"\*"), lineno=attr.lineno, parent=attr)


def _fenced(block: re.Match[str]) -> str:
    indent = block[1]
    return f"{indent}```pycon\n{block[0]}\n{indent}```"
