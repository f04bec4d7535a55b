"""What is printed once a job is done; the exit code, where it is not 0."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from latentopt.cli.reports import (
    print_attack,
    print_report,
    print_skipped,
)
from latentopt.cli.said import one_line
from latentopt.reports import Written

SKIPPED_SOME = 3


def reconstructed(report: Any) -> int:
    if report.rank:
        return 0
    print_report(report)
    return SKIPPED_SOME if report.skipped else 0


def diagnosed(report: Any) -> int:
    print(report.diagnosis)
    print_skipped(report.skipped)
    for file in report.files:
        print(f"  {file}")
    return SKIPPED_SOME if report.skipped else 0


def attacked(report: Any) -> int:
    if report.rank:
        return 0
    for warning in report.warnings:
        print(f"latentopt: warning: {one_line(warning)}", file=sys.stderr)
    print_attack(report)
    return 0


def model(folder: Path) -> None:
    print(f"{folder}: {json.dumps(yaml.safe_load((folder / 'card.yaml').read_text())['quality'])}")


def written(report: Written) -> None:
    print(report.markdown)
    for file in report.files:
        print(file)
