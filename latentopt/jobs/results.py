"""What a reconstruction job leaves in the end: tables, pictures, tracked results."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Subset

from latentopt.jobs import pictures
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment
from latentopt.jobs.report import save_report
from latentopt.jobs.targets import Targets
from latentopt.jobs.tracker import METRICS
from latentopt.jobs.video import save_mp4

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

SHOWN = 16
"""Pictures show the first so many targets."""
CURVES = 1000
"""The plot of convergence is of the first so many targets."""
Rows = list[dict[str, Any]]
Skipped = list[tuple[str, str]]  # names and reasons


def finish(experiment: Experiment, module: Reconstructor, targets: Targets) -> tuple[Rows, Skipped, list[Path]]:
    """Write what the shards of all processes come to; return the table's rows, what was skipped, and the files."""
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
    finite = {key: [row[key] for row in rows] for key in ("mse", "psnr", "ssim", "loss")}
    best = {f"mean_{key}": sum(values) / len(values) for key, values in finite.items()}
    files = [file for file in files if file.exists()]  # no video without ffmpeg
    files += module.tracker.finish(rows, best, files)
    return rows, skipped, files


def _skipped(targets: Targets, done: list[int]) -> Skipped:
    """The targets that no process has done: those that cannot be read."""
    left = (targets[at] for at in sorted(set(range(len(targets))) - set(done)))
    return [(target.name, target.error or f"{target.name}: was not done; the same command does it") for target in left]


def _draw(experiment: Experiment, done: list[int], loss: str) -> list[Path]:
    folder = experiment.folder
    paths = [folder / "grid.png", folder / "trajectory.gif", folder / "trajectory.mp4", folder / "convergence.png"]
    if first := [at for at in done if at < SHOWN]:
        _draw_first(experiment.read_first(first), *paths[:3])
    curves = experiment.read_first(done[:CURVES], "curve")["curve"]
    pictures.save_convergence(paths[3], curves.numpy(), loss, all_of=len(done))
    return paths


def _draw_first(held: dict[str, Tensor], grid: Path, gif: Path, mp4: Path) -> None:
    shown = {key.removeprefix("show/"): images for key, images in sorted(held.items()) if key.startswith("show/")}
    titled = {key.split(" ", 1)[1]: images for key, images in shown.items()}
    if not titled:
        return
    pictures.save_png(grid, pictures.tile(list(titled.values())), list(titled))
    still = [images for title, images in titled.items() if title.startswith(("target", "measurement"))]
    moving = held["frames"]
    shots = [pictures.tile([*still, moving[:, at]]) for at in range(moving.shape[1])]
    pictures.save_gif(gif, shots)
    save_mp4(mp4, shots)
