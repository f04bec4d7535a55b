"""The folder of an analysis: its recipe, its tables and pictures, the figures on the way, and the W&B run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from latentopt.errors import InputError
from latentopt.io import write_atomically
from latentopt.jobs.components import describe
from latentopt.jobs.experiment import RECIPE, identity_of, is_leftover
from latentopt.jobs.lifetime import lock
from latentopt.jobs.tracker import METRICS, Tracker, check_wandb_mode
from latentopt.rehearsal import begin
from latentopt.reports import PLOT, ROWS, TABLE, Report, Written, csv_text, png_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Folder:
    """Where an analysis writes; nothing is written before `open`.

    Args:
        job: its name, as in a recipe.
        settings: its arguments, with ``out`` and ``wandb``. The folder is new, empty, or one where the same analysis
            was stopped; that begins anew in it.

    Raises:
        InputError: the folder holds something, or no such mode of W&B.
    """

    def __init__(self, job: str, settings: Mapping[str, Any]) -> None:
        check_wandb_mode(settings["wandb"])
        self.job, self.path, self.mode = job, Path(settings["out"]), settings["wandb"]
        self.recipe = {"job": job, **describe(dict(settings))}
        self.steps = 0
        self._check()

    def _check(self) -> None:
        if not self.path.exists() or (self.path.is_dir() and all(is_leftover(path) for path in self.path.iterdir())):
            return
        if not self._is_stopped():
            raise InputError("out", "a new or empty folder", str(self.path))

    def _is_stopped(self) -> bool:
        """Whether the folder is of this analysis, which did not come to its end."""
        if (self.path / TABLE).exists() or not (self.path / RECIPE).is_file():
            return False
        try:
            held = yaml.safe_load((self.path / RECIPE).read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError):
            return False
        return isinstance(held, dict) and identity_of(held) == identity_of(self.recipe)

    def open(self) -> None:
        """Make the folder, write the recipe, start tracking: once what can be wrong with the settings was tried."""
        begin()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path)
            self._check()  # again: another process may have been at work meanwhile
            write_atomically(self.path / RECIPE, yaml.safe_dump(self.recipe, sort_keys=False, width=100).encode())
        except OSError as error:
            raise InputError("out", "a folder that can be written", f"{self.path} ({error.strerror})") from error
        self.tracker = Tracker(self.path, self.mode, self.recipe, self.job, kept_lines={})

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
