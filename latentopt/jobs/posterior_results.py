"""What a reconstruction job keeps of the posterior of its targets: tensors, columns of the table, pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from torch import Tensor

from latentopt.inverse.calibrate import calibrate
from latentopt.inverse.posterior import Posterior
from latentopt.io import write_atomically
from latentopt.jobs.experiment import Experiment
from latentopt.objectives import NoiseModel
from latentopt.pictures import to_pictures
from latentopt.reports import Row, csv_text

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor

POSTERIOR = ["samples", "mean", "std", "image_mean", "image_std"]
"""Tensors of the shards, each written to a file of its own, one row a target."""
CALIBRATION = "calibration.csv"
"""File of the shares that the posterior's intervals hold, one row a level."""
STRIP = 4
"""Samples of a target in pictures."""


def posterior_tensors(posterior: Posterior) -> dict[str, Tensor]:
    """Return the tensors of `POSTERIOR`, (n, ...) each; samples are (n, S, *latent_shape)."""
    tensors = {name: getattr(posterior, name).cpu() for name in POSTERIOR}
    return tensors | {"samples": tensors["samples"].transpose(0, 1).contiguous()}


def posterior_rows(posterior: Posterior, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add to each row the mean standard deviation of a pixel, the modes' number, diagnostics, and the cost."""
    deviation = posterior.image_std.flatten(1).mean(1).tolist()
    modes = posterior.modes.sample.bincount(minlength=len(rows)).tolist()
    columns = zip(rows, deviation, modes, posterior.r_hat.tolist(), posterior.effective_samples.tolist(), strict=True)
    cost = zip(posterior.forwards.tolist(), posterior.backwards.tolist(), strict=True)
    return [
        {
            **row,
            "forwards": row["forwards"] + forwards,
            "backwards": row["backwards"] + backwards,
            "pixel_std": std,
            "modes": count,
            "r_hat": r_hat,
            "effective_samples": effective,
        }
        for (row, std, count, r_hat, effective), (forwards, backwards) in zip(columns, cost, strict=True)
    ]


def posterior_pictures(posterior: Posterior, count: int) -> dict[str, Tensor]:
    """Return pictures of the first targets as bytes by title: mean, standard deviation to its greatest, samples."""
    std = posterior.image_std[:count]
    greatest = std.flatten(1).amax(1).clamp_min(1e-12).reshape(-1, *[1] * (std.ndim - 1))
    titled = {"mean": posterior.image_mean[:count], "std": std / greatest}
    titled |= {f"sample {i + 1}": images[:count] for i, images in enumerate(posterior.images[:STRIP])}
    return {title: to_pictures(images) for title, images in titled.items()}


def check_calibration(experiment: Experiment, module: Reconstructor) -> list[Row]:
    """Check the posterior's intervals on images of the generator, and write the shares that they hold into the folder.

    Returns:
        One row for each level, as of `latentopt.Calibration`.
    """
    s = module.settings
    noise = cast(NoiseModel, s.noise if s.loss is None else s.loss)
    settings = {"operator": s.operator, "samples": s.calibration, "steps": s.posterior_steps, "seed": s.seed}
    rows = calibrate(module.generator, noise, **settings).rows
    write_atomically(experiment.folder / CALIBRATION, csv_text(rows).encode())
    return rows
