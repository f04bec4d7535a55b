"""Progress and rows of a reconstruction job: the figures of each step, frames of the first targets, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from latentopt import metrics, pictures
from latentopt.batch_math import per_sample
from latentopt.inverse.posterior import Posterior
from latentopt.inverse.problem import Reconstruction
from latentopt.jobs.posterior_results import posterior_pictures, posterior_rows, posterior_tensors
from latentopt.jobs.reconstruct_results import ACTIVATIONS, MAX_SHOWN
from latentopt.jobs.targets import Target
from latentopt.jobs.track import tracked_figures
from latentopt.operators import BlindOperator, Identity
from latentopt.operators.complex_parts import magnitudes
from latentopt.solver.callbacks import Progress
from latentopt.solver.result import Result

if TYPE_CHECKING:
    from latentopt.jobs.reconstructor import Reconstructor


class ReconstructProgress:
    """A callback of `solve`: tracks each step, keeps frames of the targets that pictures show.

    The generator's passes for pictures are not part of the counted cost.
    """

    def __init__(self, job: Reconstructor, problem: Reconstruction, good: list[Target]) -> None:
        self.job, self.problem = job, problem
        self.index = torch.tensor([target.index for target in good])
        self.shown = int((self.index < MAX_SHOWN).sum())
        self.frames: list[Tensor] = []
        self.curve: list[Tensor] = []
        self.pictured = _pictured(job.steps, job.settings.picture_every)

    def __call__(self, progress: Progress) -> None:
        if progress.t > self.job.steps:  # a later round, of some targets: no part of the curve and the pictures
            self.job.tracker.log(self.job.logged, tracked_figures(progress))
            self.job.logged += 1
            return
        self.curve.append(progress.best.float().cpu())
        figures, grid = tracked_figures(progress), None
        if progress.t in self.pictured:
            figures["metric/psnr"], grid = self._picture(progress)
        self.job.tracker.log(self.job.logged, figures, grid)
        self.job.logged += 1

    @torch.no_grad()
    def _picture(self, progress: Progress) -> tuple[float, dict[str, Any] | None]:
        best = self.problem.generator(progress.best_x)
        ours, true = compared(self.problem, best, progress.best_x)
        low, high = metrics.value_range(true)
        psnr = metrics.psnr(ours, true, high - low).mean().item()
        if not self.shown:
            return psnr, None
        self.frames.append(pictures.to_pictures(best[: self.shown]))
        shown = self.problem.generator.take(torch.arange(self.shown))
        current = pictures.to_pictures(shown(progress.x[: self.shown]))
        titled = {**known(self.problem, self.shown), "current": current, "best": self.frames[-1]}
        return psnr, {"trajectory": pictures.tile(list(titled.values()))}

    def tensors(self, result: Result, posterior: Posterior | None = None) -> dict[str, Tensor]:
        """Return the tensors of a shard, those of the targets' posterior too."""
        content = {"index": self.index, "latents": result.x, "curve": _stacked(self.curve, self.job.steps)}
        if result.activations:
            content[ACTIVATIONS] = list(result.activations.values())[-1]
        if posterior is not None:
            content |= posterior_tensors(posterior)
        if self.shown:
            output = result.output[: self.shown]
            content["frames"] = _stacked(self.frames, len(self.pictured))  # (n, frames, C, H, W) bytes
            titled = {**known(self.problem, self.shown), "reconstruction": pictures.to_pictures(output)}
            again = self.problem.take(torch.arange(self.shown)).predict(output, result.x[: self.shown])
            if not isinstance(self.problem.operator, Identity) and again.ndim == 4:
                titled["re-measured"] = pictures.to_pictures(displayable(self.problem, again))
            titled |= {} if posterior is None else posterior_pictures(posterior, self.shown)
            content |= {f"show/{row:02d} {title}": images for row, (title, images) in enumerate(titled.items())}
        return content


def _pictured(steps: int, every: int) -> set[int]:
    """The steps that pictures show: the first, the last, each ``every``-th, and more where most happens, early on."""
    early = range(1, min(3 * every, steps), max(1, every // 5))
    return {*early, *range(every, steps + 1, every), steps}


def _stacked(moments: list[Tensor], count: int) -> Tensor:
    """(n, count, ...): what was seen, the last of it repeated where all targets stopped early."""
    return torch.stack(moments + moments[-1:] * (count - len(moments)), 1)


def known(problem: Reconstruction, count: int) -> dict[str, Tensor]:
    """Return the targets and measurements of the first images, as bytes by title."""
    measurement = displayable(problem, problem.measurement[:count])
    if problem.image is None:
        return {"target = measurement": pictures.to_pictures(measurement)} if measurement.ndim == 4 else {}
    known = {"target": pictures.to_pictures(problem.image[:count])}
    return {**known, "measurement": pictures.to_pictures(measurement)} if measurement.ndim == 4 else known


def displayable(problem: Reconstruction, values: Tensor) -> Tensor:
    """Return values like the first targets' measurements for pictures.

    Complex ones are magnitudes; where the measurement is far from [0, 1], as sums are, its range is stretched to it.
    """
    measurement = problem.measurement[: len(values)]
    if getattr(problem.operator, "is_complex", False):
        measurement, values = magnitudes(measurement), magnitudes(values)
    axes = tuple(range(1, measurement.ndim))
    low, high = measurement.amin(axes, keepdim=True), measurement.amax(axes, keepdim=True)
    is_far = (low < -1) | (high > 2)
    return torch.where(is_far, (values - low) / (high - low).clamp_min(1e-12), values)


def compared(problem: Reconstruction, output: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the metrics compare: images if the true ones are known, else measurements."""
    if problem.image is not None:
        return output, problem.image
    return problem.predict(output, x), problem.measurement


@torch.no_grad()
def result_rows(
    problem: Reconstruction, result: Result, good: list[Target], seconds: float, posterior: Posterior | None = None
) -> list[dict[str, Any]]:
    """Return the rows of the table of results of a batch of targets, with diagnostics of their posterior."""
    ours, true = compared(problem, result.output, result.x)
    low, high = metrics.value_range(true)
    ours = ours.clamp(per_sample(low, ours), per_sample(high, ours))
    nan = torch.full((len(good),), torch.nan)
    similar = metrics.ssim(ours, true, high - low) if true.ndim == 4 and min(true.shape[-2:]) >= 3 else nan
    columns = zip(
        metrics.mse(ours, true).tolist(),
        metrics.psnr(ours, true, high - low).tolist(),
        similar.tolist(),
        result.value.tolist(),
        result.forwards.tolist(),
        result.backwards.tolist(),
        strict=True,
    )
    rows = [
        {
            "name": target.name,
            "mse": mse,
            "psnr": psnr,
            "ssim": ssim,
            "loss": loss,
            "status": status.name,
            "forwards": forwards,
            "backwards": backwards,
            "seconds": round(seconds, 4),
            **parameters,
        }
        for target, status, parameters, (mse, psnr, ssim, loss, forwards, backwards) in zip(
            good, result.status, _unknowns(problem, result), columns, strict=True
        )
    ]
    return rows if posterior is None else posterior_rows(posterior, rows)


def _unknowns(problem: Reconstruction, result: Result) -> list[dict[str, float]]:
    """Return the unknown numbers of the operator found for each target, and the true ones of a known image."""
    operator, rows = problem.operator, [dict[str, float]() for _ in result.status]
    if not isinstance(operator, BlindOperator):
        return rows
    named = dict(result.unknowns)
    if problem.image is not None:
        named |= {f"true_{name}": value for name, value in operator.draw(problem.image).items()}
    for name, values in sorted(named.items(), key=lambda pair: pair[0].removeprefix("true_")):
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        titles = [name] if flat.shape[1] == 1 else [f"{name}_{number}" for number in range(flat.shape[1])]
        for row, numbers in zip(rows, flat.tolist(), strict=True):
            row |= zip(titles, numbers, strict=True)
    return rows
