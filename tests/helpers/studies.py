"""Studies of `benchmarks` run in this process."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from files import Said

from benchmarks.__main__ import main


def call_study(capsys: pytest.CaptureFixture[str], *words: object) -> Said:
    """Run `python -m benchmarks` with these words."""
    capsys.readouterr()
    try:
        code: object = main([str(word) for word in words])
    except SystemExit as stop:
        code = stop.code
    captured = capsys.readouterr()
    return Said(code, captured.out, captured.err)


def result_rows(folder: Path) -> list[dict[str, str]]:
    """Read the rows of a study's results.csv."""
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))
