"""Errors of jsonargparse in one line."""

from __future__ import annotations

import re

from latentopt.errors import MAX_GOT


def error_line(error: Exception) -> str:
    """Return one line of an error's text: of several, those behind the first up to one that is no heading."""
    first, *others = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    others = _of_union(others)
    count = next((number for number, line in enumerate(others, 1) if not line.endswith(":")), len(others))
    key = re.match(r'Parser key "\w+\.(.+)":', first)
    return " ".join([*([f"{key[1]}:"] if key else []), *(others[:count] or [first])])[:MAX_GOT]


BARE_TYPE = re.compile(r"Expected (?:a )?<class '([\w.]+)'>")


def _of_union(lines: list[str]) -> list[str]:
    """Return what is wrong with a value of several types: what the class of one says, or the names of the types."""
    if "Errors:" not in lines:
        return lines
    begin = lines.index("Errors:") + 1
    end = next((number for number, line in enumerate(lines) if line.startswith("Given value type")), len(lines))
    reasons = [line.removeprefix("- ") for line in lines[begin:end]]
    told = [line for line in reasons if not BARE_TYPE.fullmatch(line)]
    if told:
        return told
    names = [name for line in reasons for name in BARE_TYPE.findall(line) if name != "NoneType"]
    return [f"expected {' or '.join(names)}, got {lines[-1].removeprefix('Given value: ')}"]
