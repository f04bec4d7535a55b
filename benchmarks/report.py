"""What a benchmark leaves: table.md, results.csv, plot.png and environment.json, in a folder of its own."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentopt.errors import InputError
from latentopt.io import versions, write_atomically
from latentopt.rehearsal import begin
from latentopt.reports import PLOT, ROWS, TABLE, Report, Written, csv_text, png_bytes

ENVIRONMENT = "environment.json"


@dataclass(frozen=True)
class Bench:
    """A benchmark at work: where it writes and how it was called.

    Args:
        name: of the command.
        settings: its arguments, as they were resolved.
    """

    name: str
    settings: dict[str, Any]
    begun: float = field(default_factory=time.perf_counter)
    load: tuple[float, ...] = field(default_factory=lambda: _load())

    @property
    def folder(self) -> Path:
        return Path(self.settings["out"])

    def check_folder(self) -> None:
        """Raise `InputError` where writing would replace what is there; called before any work."""
        if self.folder.exists() and not self.folder.is_dir():
            raise InputError("out", "a folder", f"the file {self.folder}")
        taken = [name for name in (TABLE, ROWS, PLOT, ENVIRONMENT) if (self.folder / name).exists()]
        if taken and not self.settings["overwrite"]:
            raise InputError("out", "a folder without a benchmark's results, or --overwrite", f"{self.folder}")
        begin()

    def write(self, report: Report) -> Written:
        """Write all four files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = {
            TABLE: report.markdown().encode(),
            ROWS: csv_text(report.rows).encode(),
            PLOT: png_bytes(report.draw),
            ENVIRONMENT: json.dumps(self.environment(), indent=2).encode() + b"\n",
        }
        for name, data in content.items():
            write_atomically(self.folder / name, data)
        return Written(report.markdown(), [self.folder / name for name in content])

    def environment(self) -> dict[str, Any]:
        """What decides the figures, and what may have disturbed the times."""
        return {
            "command": f"latentopt bench {self.name} {_options(self.settings)}",
            "settings": self.settings,
            "versions": {**versions(), "numpy": np.__version__},
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "threads": self.settings["threads"],
            "load_before": self.load,
            "load_after": _load(),
            "seconds": round(time.perf_counter() - self.begun, 2),
            "platform": platform.platform(),
            "torch_built_with": {
                "mkl": torch.backends.mkl.is_available(),
                "onednn": torch.backends.mkldnn.is_available(),
            },
        }


def _options(settings: dict[str, Any]) -> str:
    words: list[str] = []
    for name, value in settings.items():
        if value is False or value is None:
            continue
        words += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    return " ".join(words)


def _load() -> tuple[float, ...]:
    return tuple(round(load, 2) for load in os.getloadavg()) if hasattr(os, "getloadavg") else ()


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    lines: Iterable[str] = path.read_text().splitlines() if path.is_file() else ()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
