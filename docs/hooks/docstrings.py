"""What the site makes of docstrings: doctests become code, names links, comments of fields a list; signs stay signs."""

from __future__ import annotations

import re
from typing import Any

import griffe

BLOCK = re.compile(r"^( *>>> .*(?:\n(?!\s*$).*)*)", re.MULTILINE)
"""From the first prompt to the next empty line."""
QUOTATION = re.compile(r"^(\s*(?:[\w*, ]+(?: \([^)]*\))?: +)?)>(?!>>)", re.MULTILINE)
"""A ``>`` that begins a line, or the text of a parameter: it is a sign, which Markdown would take for a quotation."""
SIGN = re.compile(r"(`+[^`]*`+)|<(?=[A-Za-z/!])|(?<![\w*\\])\*(?=\w)(?!\w+[*:])")
"""A ``<`` before a letter and a ``*`` before a name, outside code: Markdown takes them for a tag and for emphasis."""
ESCAPED = {"<": "&lt;", "*": r"\*"}
NAME = re.compile(r"`(latentopt(?:\.\w+)+)`")
ELSEWHERE = {"latentopt.solver.loop": "latentopt.solver.loop.solve"}
"""Names by which the reference does not know what they stand for."""
COMMENT = re.compile(r"  # (?!noqa|pyright)(.*?)(?:  # .*)?$")


class Docstrings(griffe.Extension):
    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring:
            parts = BLOCK.split(obj.docstring.value)  # every second one is a doctest
            obj.docstring.value = "".join(_fenced(part) if n % 2 else _prose(part) for n, part in enumerate(parts))

    def on_class_members(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        fields = [line for member in cls.members.values() if (line := _field(member))]
        if fields and not (cls.docstring and "Attributes:" in cls.docstring.value):
            text = cls.docstring.value.rstrip() if cls.docstring else ""
            section = "Attributes:\n" + "\n".join(f"    {line}" for line in fields)
            cls.docstring = griffe.Docstring(f"{text}\n\n{section}", lineno=cls.lineno, parent=cls)


def _field(member: griffe.Object | griffe.Alias) -> str:
    """A line on an annotated field that has a comment behind it and no docstring."""
    if not isinstance(member, griffe.Attribute) or member.docstring or not member.lines:
        return ""
    comment = COMMENT.search(member.lines[-1])
    if not comment or member.name.startswith("_") or not (member.annotation or member.value):
        return ""
    return f"{member.name}: {comment[1]}".replace("*", r"\*")


def _fenced(block: str) -> str:
    indent = " " * (len(block) - len(block.lstrip()))
    return f"{indent}```pycon\n{block}\n{indent}```"


def _prose(text: str) -> str:
    text = SIGN.sub(lambda match: match[1] or ESCAPED[match[0]], QUOTATION.sub(r"\1\\>", text))
    return NAME.sub(_linked, text)


def _linked(name: re.Match[str]) -> str:
    """A link to the reference; the name alone where that has no such entry."""
    return f'<autoref identifier="{ELSEWHERE.get(name[1], name[1])}" optional><code>{name[1]}</code></autoref>'
