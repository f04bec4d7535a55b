"""Results of a reconstruction job: tables, pictures, report and tracked results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import Subset

from latentopt import pictures
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment
from latentopt.jobs.image_files import ARRAY, IMAGES, file_names, write_array, write_pngs
from latentopt.jobs.posterior_results import CALIBRATION, POSTERIOR, check_calibration
from latentopt.jobs.report import save_report
from latentopt.jobs.targets import Targets
from latentopt.jobs.tracker import METRICS
from latentopt.jobs.video import save_mp4
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.results import is_image

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

MAX_SHOWN = 16
"""Number of targets in pictures, the first ones."""
ACTIVATIONS = "activations"
"""Tensor of the activations found in the last of the layers, in shards and in a file of its own."""
MAX_CURVES = 1000
"""Number of targets in the plot of convergence, the first ones."""
Rows = list[dict[str, Any]]
Skipped = list[tuple[str, str]]  # names and reasons


def write_results(experiment: Experiment, module: Reconstructor, targets: Targets) -> tuple[Rows, Skipped, list[Path]]:
    """Write the results from the shards of all processes; return the rows, the skipped targets and the files."""
    done = sorted(experiment.done())
    skipped = _skipped(targets, done)
    also = [ACTIVATIONS] if module.search else []
    also += POSTERIOR if module.settings.posterior else []
    rows = experiment.finish(skipped, also, {"space": module.generator.space})
    files = [
        experiment.folder / RESULTS,
        experiment.tensor_file,
        experiment.folder / METRICS,
        experiment.folder / RECIPE,
        *(experiment.folder / f"{name}.safetensors" for name in also),
    ]
    files += _draw(experiment, done, [row["name"] for row in rows], type(module.settings.loss).__name__)
    calibration = check_calibration(experiment, module) if module.settings.calibration else []
    files.append(save_report(experiment, module, Subset(targets, done), rows, skipped, calibration))
    if module.settings.save_images:
        save_images(experiment, module, done, [row["name"] for row in rows])
    best = {f"mean_{key}": sum(row[key] for row in rows) / len(rows) for key in ("mse", "psnr", "ssim", "loss")}
    files = [file for file in files if file.exists()]  # no video without ffmpeg
    files += module.tracker.finish(rows, best, files)
    files += experiment.existing(IMAGES, ARRAY, CALIBRATION)
    return rows, skipped, files


@torch.no_grad()
def save_images(experiment: Experiment, module: Reconstructor, done: list[int], names: list[str]) -> None:
    """Write all reconstructions, made again from the latents, or the activations, in the folder.

    Args:
        experiment: of a finished job.
        module: whose generator makes them.
        done: positions of the targets that are done.
        names: their names.
    """
    files, generator, tensor = file_names(names), module.generator, experiment.tensor
    if module.search:
        generator, tensor = list(module.search.after.values())[-1], ACTIVATIONS

    def written() -> Iterator[Tensor]:
        with frozen(generator):
            for part, latents in experiment.batches(len(done), module.settings.batch_size, tensor):
                conditioned = generator.take(torch.tensor(done[part]))
                images = conditioned(latents.to(empty_like_parameters(generator)))
                if is_image(images):
                    write_pngs(experiment.folder / IMAGES, files[part], pictures.to_bytes(images))
                yield images

    write_array(experiment.folder / ARRAY, written(), len(done))


def _skipped(targets: Targets, done: list[int]) -> Skipped:
    """Return the targets that no process has done, with the reasons: they cannot be read."""
    remaining = [targets[i] for i in sorted(set(range(len(targets))) - set(done))]
    return [(t.name, t.error or f"{t.name}: was not done; the same command does it") for t in remaining]


def _draw(experiment: Experiment, done: list[int], names: list[str], loss: str) -> list[Path]:
    folder = experiment.folder
    paths = [folder / "grid.png", folder / "trajectory.gif", folder / "trajectory.mp4", folder / "convergence.png"]
    if first := [i for i in done if i < MAX_SHOWN]:
        _draw_first(experiment.read_first(first), names[: len(first)], *paths[:3])
    curves = experiment.read_first(done[:MAX_CURVES], "curve")["curve"]
    pictures.save_convergence(paths[3], curves.numpy(), loss, all_of=len(done))
    return paths


def _draw_first(tensors: dict[str, Tensor], names: list[str], grid: Path, gif: Path, mp4: Path) -> None:
    """Draw the first targets from the tensors ``show/NUMBER TITLE`` and ``frames`` of their shards."""
    columns = {key.split(" ", 1)[1]: tensors[key] for key in sorted(tensors) if key.startswith("show/")}
    if not columns:
        return
    captions = [list(map(pictures.short_name, names)), *[[""] * len(names)] * (len(columns) - 1)]
    named = [pictures.add_captions(*pair) for pair in zip(columns.values(), captions, strict=True)]
    pictures.save_png(grid, pictures.tile(named), list(columns))
    known = [images for title, images in columns.items() if title.startswith(("target", "measurement"))]
    frames = [pictures.tile([*known, best]) for best in tensors["frames"].unbind(1)]
    pictures.save_gif(gif, frames)
    save_mp4(mp4, frames)
