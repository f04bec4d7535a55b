"""The report of a reconstruction job: one page for people, in the job's folder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from safetensors import safe_open
from torch import Tensor
from torch.utils.data import Subset

from latentopt.io import write_atomically
from latentopt.jobs import html, pictures
from latentopt.jobs.experiment import PLACE_SETTINGS, Experiment
from latentopt.jobs.targets import Target

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

REPORT = "report.html"
EACH = 8
"""So many of the worst reconstructions are shown, and of the best."""
SECONDS = "seconds an image"
"""The one row of the summary that two runs of a job may have different."""
_FIGURES = {"mse": "mean squared error", "psnr": "PSNR, dB", "ssim": "SSIM", "loss": "loss"}
_COSTS = {"forwards": "forwards an image", "backwards": "backwards an image", "seconds": SECONDS}


def save_report(
    experiment: Experiment,
    module: Reconstructor,
    targets: Subset[Target],
    rows: list[dict[str, Any]],
    skipped: list[tuple[str, str]],
) -> Path:
    """Write the page; the pictures in the job's folder are part of it.

    Args:
        experiment: of the finished job.
        module: whose generator draws the worst and the best again, from the latents that are kept.
        targets: those that are done.
        rows: of the table of results, one a target.
        skipped: names and reasons.
    """
    recipe = {key: value for key, value in experiment.recipe.items() if key not in PLACE_SETTINGS}
    ranked = sorted(range(len(rows)), key=lambda at: (_orderly(rows[at]["mse"]), at))
    shown = _Shown(experiment, module, targets, rows)
    histogram = pictures.histogram([row["mse"] for row in rows], "mean squared error")
    title = f"{len(rows)} reconstructions through {recipe['model']}"
    sections = [
        html.section("Summary", _summary(rows, skipped, module.problems.measured)),
        html.section("Recipe", html.folded("what ran", yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True))),
        html.section("First images", _picture(experiment.folder / "grid.png", "the first images, as the titles say")),
        html.section("Worst", html.side_by_side(shown.figures(ranked[::-1][:EACH]))),
        html.section("Best", html.side_by_side(shown.figures(ranked[:EACH]))),
        html.section("Errors", html.figure(histogram, "histogram of the mean squared errors")),
        html.section("Convergence", _picture(experiment.folder / "convergence.png", "best loss so far by step")),
        html.section("Skipped", html.table(["image", "reason"], skipped) if skipped else html.paragraph("none")),
    ]
    write_atomically(experiment.folder / REPORT, html.page(title, sections).encode())
    return experiment.folder / REPORT


def _orderly(value: float) -> float:
    return math.inf if math.isnan(value) else value


def _summary(rows: list[dict[str, Any]], skipped: list[tuple[str, str]], measured: bool) -> str:
    lines = [["images", str(len(rows)), ""], ["skipped", str(len(skipped)), ""]]
    for key, title in {**_FIGURES, **_COSTS}.items():
        values = torch.tensor([row[key] for row in rows], dtype=torch.float64)
        error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else math.nan
        lines.append([title, _number(values.mean().item()), _number(error)])
    what = "the measurements" if measured else "the images"
    note = html.paragraph(f"Errors, PSNR and SSIM compare {what}; an image's seconds are its share of its batch's.")
    return html.table(["", "mean", "standard error"], lines, marked=SECONDS) + note


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _picture(path: Path, alt: str) -> str:
    return html.figure(path.read_bytes(), alt) if path.is_file() else ""


class _Shown:
    """Draws single targets of a finished job."""

    def __init__(
        self, experiment: Experiment, module: Reconstructor, targets: Subset[Target], rows: list[dict[str, Any]]
    ) -> None:
        self.experiment, self.module, self.targets, self.rows = experiment, module, targets, rows

    def figures(self, wanted: list[int]) -> list[str]:
        """Of each of these rows its images and figures."""
        with safe_open(self.experiment.tensor_file, "pt") as file:
            kept = file.get_slice(self.experiment.tensor)
            return [self._figure(at, kept[at : at + 1]) for at in wanted]

    def _figure(self, at: int, latents: Tensor) -> str:
        row = self.rows[at]
        figures = ", ".join(f"{key} {_number(row[key])}" for key in _FIGURES)
        images = self._images(self.targets[at], latents)
        picture = pictures.png(pictures.tile(list(images.values()), per_row=1))
        name = row["name"]
        return html.figure(picture, f"{', '.join(images)} of {name}", f"{name}\n{figures}\n{', '.join(images)}")

    @torch.no_grad()
    def _images(self, target: Target, latents: Tensor) -> dict[str, Tensor]:
        """By title (1, C, H, W) bytes: what is known of a target, and its reconstruction."""
        from latentopt.jobs.reconstructor import known

        generator = self.module.generator
        found = {"reconstruction": pictures.as_bytes(generator(latents.to(next(generator.parameters()).device)))}
        if target.image is None:  # it was there when it was reconstructed
            return found
        return {**known(self.module.problems([target]), 1), **found}
