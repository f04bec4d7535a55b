"""Results of finished runs in docs/results: measurements in NAME.csv, command and environment in NAME.json."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from latentopt.errors import InputError
from latentopt.reports import read_value

FOLDER = Path(__file__).parents[1] / "results"
Cell = dict[str, Any]
USED: set[str] = set()
"""Names of the results read so far, so that a test finds unused ones."""
REST = "rest"


def load(name: str) -> list[Cell]:
    """Return the rows of a result; a packed column is a list with one value per sample."""
    USED.add(name)
    return _load(name)


def several(*names: str) -> list[Cell]:
    """Return the rows of several results, in this order."""
    return [cell for name in names for cell in load(name)]


def named(pattern: str) -> list[str]:
    """Return the names of the results that match a shell pattern."""
    return sorted(path.stem for path in FOLDER.glob(f"{pattern}.csv"))


@cache
def _load(name: str) -> list[Cell]:
    path = FOLDER / f"{name}.csv"
    if not path.is_file():
        raise InputError("name", f"a result in {FOLDER}", name)
    how = made(name)
    packed, bits = set(how.get("packed", ())), set(how.get("bits", ()))
    with path.open(newline="", encoding="utf-8") as file:
        return [{key: _value(key, text, packed, bits) for key, text in row.items()} for row in csv.DictReader(file)]


@cache
def made(name: str) -> dict[str, Any]:
    """Return a result's metadata: ``commands``, ``versions``, ``cpu``, ``threads``, ..., and its packed columns."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def _value(key: str, text: str, packed: set[str], bits: set[str]) -> Any:
    if key in bits:
        return [letter == "1" for letter in text]
    if key in packed:
        return [_number(word) for word in text.split(" ")] if text else []
    return _number(text)


def _number(text: str) -> Any:
    value = read_value(text)
    return text if value is None else value


def where(cells: Iterable[Cell], **values: Any) -> list[Cell]:
    """Return the rows whose columns have these values; a tuple allows any of its values."""
    return [
        cell
        for cell in cells
        if all(cell[key] in value if isinstance(value, tuple) else cell[key] == value for key, value in values.items())
    ]


def one(cells: Iterable[Cell], **values: Any) -> Cell:
    """Return the only matching row; raise `InputError` if there is none, or more than one."""
    matching = where(cells, **values)
    if len(matching) != 1:
        raise InputError("wanted", f"one row with {values}", len(matching))
    return matching[0]


def distinct(cells: Iterable[Cell], *columns: str) -> list[Any]:
    """Return the distinct values of a column in order of appearance; tuples for several columns."""
    keys = (tuple(cell[name] for name in columns) for cell in cells)
    return list(dict.fromkeys(key[0] if len(columns) == 1 else key for key in keys))


def commands(names: Sequence[str]) -> list[str]:
    """Return the commands that produce these results, without duplicates."""
    return list(dict.fromkeys(command for name in names for command in made(name)["commands"]))
