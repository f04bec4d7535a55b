"""`latentopt doctor`: is this installation in order, and what to do where it is not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from latentopt.cli import look_at
from latentopt.cli.look_at import Finding
from latentopt.errors import InputError

PARTS: tuple[Callable[[], list[Finding]], ...] = (
    look_at.python,
    look_at.packages,
    look_at.extras,
    look_at.devices,
    look_at.wandb,
    look_at.data,
    look_at.models,
    look_at.folders,
)


def doctor(words: list[str]) -> int:
    if words not in ([], ["--json"]):
        raise InputError("doctor", "--json or nothing", " ".join(words))
    found = [finding for part in PARTS for finding in part()]
    broken = [finding for finding in found if finding.state == "broken"]
    if words:
        print(json.dumps({"in_order": not broken, "findings": [asdict(finding) for finding in found]}, indent=1))
    else:
        print("".join(_line(finding) for finding in found), end="")
        print(f"\n{len(broken)} broken: see above" if broken else "\nin order")
    return 1 if broken else 0


def _line(finding: Finding) -> str:
    todo = f"\n{'':10s}{'':24s} -> {finding.todo}" if finding.todo else ""
    return f"{finding.state:10s}{finding.name:24s} {finding.said}{todo}\n"
