"""The folder of an analysis: its recipe, its tables and pictures, the figures on the way, and the W&B run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from latentopt.errors import InputError
from latentopt.jobs.specs import describe
from latentopt.jobs.store import RECIPE
from latentopt.jobs.tracking import METRICS, Tracker, check_mode
from latentopt.rehearsal import begin
from latentopt.reports import PLOT, ROWS, TABLE, Report, Written, csv_text, png_bytes
from latentopt.result import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Folder:
    """Where an analysis writes; nothing is written before `open`.

    Args:
        job: its name, as in a recipe.
        settings: its arguments, with ``out``, a new or empty folder, and ``wandb``.

    Raises:
        InputError: the folder holds something, or no such mode of W&B.
    """

    def __init__(self, job: str, settings: Mapping[str, Any]) -> None:
        check_mode(settings["wandb"])
        self.job, self.path, self.mode = job, Path(settings["out"]), settings["wandb"]
        self.recipe = {"job": job, **describe(dict(settings))}
        self.steps = 0
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise InputError("out", "a new or empty folder", str(self.path))

    def open(self) -> None:
        """Make the folder, write the recipe, start tracking: once what can be wrong with the settings was tried."""
        begin()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError("out", "a folder that can be written", f"{self.path} ({error.strerror})") from error
        write_atomically(self.path / RECIPE, yaml.safe_dump(self.recipe, sort_keys=False, width=100).encode())
        self.tracker = Tracker(self.path, self.mode, self.recipe, self.job)

    def log(self, figures: Mapping[str, float | str]) -> None:
        """Track the figures of one more step."""
        self.tracker.log(self.steps, figures)
        self.tracker.flush()
        self.steps += 1

    def write(
        self, report: Report, best: dict[str, float], pictures: Mapping[str, Callable[[Figure], None]] | None = None
    ) -> Written:
        """Write the tables, the rows and the plot, and further pictures by file name; close the W&B run.

        Args:
            best: the figures to compare runs by.
        """
        drawn = {PLOT: report.draw, **(pictures or {})}
        content = {TABLE: report.markdown().encode(), ROWS: csv_text(report.rows).encode()}
        content |= {name: png_bytes(draw) for name, draw in drawn.items()}
        for name, data in content.items():
            write_atomically(self.path / name, data)
        files = [self.path / name for name in (*content, METRICS, RECIPE)]
        files = [file for file in files if file.exists()]
        files += self.tracker.finish(list(report.rows), best, files)
        return Written(report.markdown(), files)
