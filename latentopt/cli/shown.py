"""What is printed once a job is done; each function returns the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

from latentopt.cli.reports import (
    print_attack,
    print_policy,
    print_refined,
    print_report,
    print_skipped,
    print_trained,
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


def policy(report: Any) -> int:
    print_policy(report)
    return 0


def refined(report: Any) -> int:
    print_refined(report)
    return 0


def agents(report: Any) -> int:
    print_trained(report)
    return 0


def model(folder: Path) -> int:
    print(f"{folder}: {json.dumps(yaml.safe_load((folder / 'card.yaml').read_text())['quality'])}")
    return 0


def written(report: Written) -> int:
    print(report.markdown)
    for file in report.files:
        print(file)
    return 0
