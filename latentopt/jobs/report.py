"""The report of a reconstruction job: one HTML page in the job's folder."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import Subset

from latentopt import pictures
from latentopt.io import write_atomically
from latentopt.jobs.experiment import PLACE_SETTINGS, Experiment
from latentopt.jobs.targets import Target
from latentopt.reports import Row
from latentopt.zoo.card import model_name

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

REPORT = "report.html"
EXTREMES = 8
"""Number of the worst reconstructions in the report, and of the best."""
SECONDS = "seconds an image"
"""The one row of the summary that may differ between two runs of a job."""
_METRICS = {"mse": "mean squared error", "psnr": "PSNR, dB", "ssim": "SSIM", "loss": "loss"}
_COSTS = {"forwards": "forwards an image", "backwards": "backwards an image", "seconds": SECONDS}


class ReportFigure(NamedTuple):
    """A picture of the report."""

    png: bytes
    alt: str
    caption: list[str]  # lines


def save_report(
    experiment: Experiment,
    module: Reconstructor,
    targets: Subset[Target],
    rows: list[dict[str, Any]],
    skipped: list[tuple[str, str]],
    calibration: Sequence[Row] = (),
) -> Path:
    """Write the report of a finished job.

    Args:
        experiment: folder of the job; the report includes its pictures.
        module: its generator draws the worst and the best reconstructions again, from the latents in the folder.
        targets: the targets that are done.
        rows: the table of results, one row a target.
        skipped: names and reasons.
        calibration: shares that the posterior's intervals hold, one row a level; none: there is no check.

    Returns:
        The path of the report.
    """
    recipe = {key: value for key, value in experiment.recipe.items() if key not in PLACE_SETTINGS}
    ranked = sorted(range(len(rows)), key=lambda i: (math.inf if math.isnan(rows[i]["mse"]) else rows[i]["mse"], i))
    grid, path = experiment.folder / "grid.png", experiment.folder / REPORT
    page = report_template().render(
        title=f"{len(rows)} reconstructions through {model_name(recipe['model'])}",
        summary=[("images", len(rows), ""), ("skipped", len(skipped), ""), *_means(rows)],
        varying=SECONDS,
        compared="measurements" if module.problems.measured else "images",
        recipe=yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True),
        grid=grid.read_bytes() if grid.is_file() else b"",
        worst=_draw(experiment, module, targets, rows, ranked[::-1][:EXTREMES]),
        best=_draw(experiment, module, targets, rows, ranked[:EXTREMES]),
        histogram=pictures.draw_histogram([row["mse"] for row in rows], "mean squared error"),
        convergence=(experiment.folder / "convergence.png").read_bytes(),
        skipped=skipped,
        calibration=calibration,
    )
    write_atomically(path, page.encode())
    return path


def report_template() -> Template:
    """Return the template of the report; it escapes all texts."""
    loader = PackageLoader("latentopt.jobs", "")
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
    environment.filters["base64"] = lambda content: b64encode(content).decode()
    return environment.get_template(f"{REPORT}.jinja")


def _means(rows: list[dict[str, Any]]) -> Iterable[tuple[str, str, str]]:
    """The mean of each figure and its standard error."""
    for key, title in {**_METRICS, **_COSTS}.items():
        values = torch.tensor([row[key] for row in rows], dtype=torch.float64)
        error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else math.nan
        yield title, _number(values.mean().item()), _number(error)


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _draw(
    experiment: Experiment,
    module: Reconstructor,
    targets: Subset[Target],
    rows: list[dict[str, Any]],
    positions: list[int],
) -> list[ReportFigure]:
    """Draw what is known of each of these targets, and its reconstruction."""
    figures = list[ReportFigure]()
    with safe_open(experiment.tensor_file, "pt") as file:
        latents = file.get_slice(experiment.tensor)
        for i in positions:
            images = _images(module, targets[i], latents[i : i + 1])
            png = pictures.encode_png(pictures.tile(list(images.values()), per_row=1))
            name, titles = rows[i]["name"], ", ".join(images)
            metrics = ", ".join(f"{key} {_number(rows[i][key])}" for key in _METRICS)
            figures.append(ReportFigure(png, f"{titles} of {name}", [name, metrics, titles]))
    return figures


@torch.no_grad()
def _images(module: Reconstructor, target: Target, latents: Tensor) -> dict[str, Tensor]:
    """Images (1, C, H, W) of bytes by title."""
    from latentopt.jobs.reconstruct_progress import known

    device = next(module.generator.parameters()).device
    generator = module.generator.take(torch.tensor([target.index]))
    images = {"reconstruction": pictures.to_pictures(generator(latents.to(device)))}
    if target.image is None:  # its file is gone since it was reconstructed
        return images
    return {**known(module.problems([target]), 1), **images}
