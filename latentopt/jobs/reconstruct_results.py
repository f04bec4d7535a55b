"""Results of a reconstruction job: tables, pictures, report and tracked results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Subset

from latentopt import pictures
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment
from latentopt.jobs.report import save_report
from latentopt.jobs.targets import Targets
from latentopt.jobs.tracker import METRICS
from latentopt.jobs.video import save_mp4

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

MAX_SHOWN = 16
"""Number of targets in pictures, the first ones."""
MAX_CURVES = 1000
"""Number of targets in the plot of convergence, the first ones."""
Rows = list[dict[str, Any]]
Skipped = list[tuple[str, str]]  # names and reasons


def write_results(experiment: Experiment, module: Reconstructor, targets: Targets) -> tuple[Rows, Skipped, list[Path]]:
    """Write the results from the shards of all processes; return the rows, the skipped targets and the files."""
    done = sorted(experiment.done())
    skipped = _skipped(targets, done)
    rows = experiment.finish(skipped)
    files = [
        experiment.folder / RESULTS,
        experiment.tensor_file,
        experiment.folder / METRICS,
        experiment.folder / RECIPE,
    ]
    files += _draw(experiment, done, type(module.settings.loss).__name__)
    files.append(save_report(experiment, module, Subset(targets, done), rows, skipped))
    best = {f"mean_{key}": sum(row[key] for row in rows) / len(rows) for key in ("mse", "psnr", "ssim", "loss")}
    files = [file for file in files if file.exists()]  # no video without ffmpeg
    files += module.tracker.finish(rows, best, files)
    return rows, skipped, files


def _skipped(targets: Targets, done: list[int]) -> Skipped:
    """Return the targets that no process has done, with the reasons: they cannot be read."""
    remaining = [targets[i] for i in sorted(set(range(len(targets))) - set(done))]
    return [(t.name, t.error or f"{t.name}: was not done; the same command does it") for t in remaining]


def _draw(experiment: Experiment, done: list[int], loss: str) -> list[Path]:
    folder = experiment.folder
    paths = [folder / "grid.png", folder / "trajectory.gif", folder / "trajectory.mp4", folder / "convergence.png"]
    if first := [i for i in done if i < MAX_SHOWN]:
        _draw_first(experiment.read_first(first), *paths[:3])
    curves = experiment.read_first(done[:MAX_CURVES], "curve")["curve"]
    pictures.save_convergence(paths[3], curves.numpy(), loss, all_of=len(done))
    return paths


def _draw_first(tensors: dict[str, Tensor], grid: Path, gif: Path, mp4: Path) -> None:
    """Draw the first targets from the tensors ``show/NUMBER TITLE`` and ``frames`` of their shards."""
    columns = {key.split(" ", 1)[1]: tensors[key] for key in sorted(tensors) if key.startswith("show/")}
    if not columns:
        return
    pictures.save_png(grid, pictures.tile(list(columns.values())), list(columns))
    known = [images for title, images in columns.items() if title.startswith(("target", "measurement"))]
    frames = [pictures.tile([*known, best]) for best in tensors["frames"].unbind(1)]
    pictures.save_gif(gif, frames)
    save_mp4(mp4, frames)
