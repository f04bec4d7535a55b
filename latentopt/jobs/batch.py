"""One batch of a reconstruction job: a LightningModule that wraps the generator, and what is seen on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import lightning
import torch
from torch import Tensor
from tqdm import tqdm

from latentopt import metrics
from latentopt.batch_math import per_sample, take
from latentopt.inverse.initializers import FittedInitializer, Initializer, fit_cached, fit_initializer, share_cost
from latentopt.inverse.initializers.fit import Key, group_keys
from latentopt.inverse.priors import Prior
from latentopt.inverse.problem import Reconstruction
from latentopt.inverse.reconstruct import invert
from latentopt.jobs import pictures
from latentopt.jobs.store import Shard
from latentopt.jobs.targets import Target
from latentopt.jobs.track import tracked_figures
from latentopt.jobs.tracker import Tracker
from latentopt.networks.generator import Generator
from latentopt.objectives import Loss
from latentopt.operators import Identity, Operator
from latentopt.optimizers import Optimizer
from latentopt.solver.loop import Progress
from latentopt.solver.result import Result
from latentopt.zoo.paths import cache_root

SHOWN = 16
"""Pictures show the first so many targets."""


@dataclass(frozen=True)
class Settings:
    """How each batch is solved, as in `latentopt.jobs.reconstruct`."""

    operator: Operator
    loss: Loss
    prior: Prior
    noise: float
    measured: bool
    optimizer: Optimizer
    start: Initializer
    tolerance: float | None
    rounds: int
    seed: int
    picture_every: int
    loop: dict[str, Any]  # of `latentopt.solve`

    def problem(self, generator: Generator, targets: Sequence[Target]) -> Reconstruction:
        """That of some targets, which have an image, each with its own part of what is held for each target."""
        images = torch.stack([target.image for target in targets if target.image is not None])
        rows = torch.tensor([target.index for target in targets])
        operator, loss = take(self.operator, rows), take(self.loss, rows)
        return Reconstruction(
            generator, images, operator, loss, self.measured, self.tolerance, self.prior, self.noise, self.seed
        )


class Reconstructor(lightning.LightningModule):
    """Wraps a pretrained generator; `predict_step` solves a batch of targets.

    Args:
        generator: left as it is.
        settings: how each batch is solved.
        tracker: takes the figures of every step.
        batches: to come; 0: another process shows the bar.
        targets: of the whole job, which share what the start's learning costs.
    """

    def __init__(self, generator: Generator, settings: Settings, tracker: Tracker, batches: int, targets: int) -> None:
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # more processes than chunks
        self.generator, self.settings, self.tracker = generator.fused(), settings, tracker
        if self.generator is generator:
            generator.is_deterministic()
        self.steps: int = settings.loop["steps"]
        self.bar = tqdm(total=batches * self.steps, unit="step", desc="reconstruct", disable=not batches)
        self.known: dict[Key, FittedInitializer] = {}  # what the start has learnt
        self.logged = int(tracker.last().get("step", -1)) + 1
        self.targets, self.learning = targets, 0.0

    def transfer_batch_to_device(self, batch: list[Target], device: torch.device, dataloader_idx: int) -> list[Target]:
        return batch  # the problem moves what it needs

    def predict_step(self, batch: list[Target], batch_idx: int = 0) -> Shard | None:
        good = [target for target in batch if target.image is not None]
        if not good:
            return None
        s, begun = self.settings, time.perf_counter()
        problem = s.problem(self.generator, good)
        guess = self._guess(problem)
        begun = time.perf_counter() if self.alike else begun  # what all targets share is added below
        watch = _Watch(self, problem, good)
        rows = torch.arange(len(good))
        paid = share_cost(guess.forwards, *((self.targets, watch.index) if self.alike else (len(good), rows)))
        result = invert(problem, s.optimizer, guess, s.rounds - 1, s.seed, [watch], paid, **s.loop)
        self.bar.update(self.steps - len(watch.curve))  # of steps that were not needed
        seconds = (time.perf_counter() - begun) / len(good) + self.learning / self.targets
        return Shard([t.name for t in good], _rows(problem, result, good, seconds), watch.tensors(result))

    @cached_property
    def alike(self) -> bool:
        """Whether the operator is the same for all targets, which then share what the start's learning costs."""
        ends = torch.tensor([0, self.targets - 1])
        return len(set(group_keys(self.generator, take(self.settings.operator, ends), len(ends)))) == 1

    def _guess(self, problem: Reconstruction) -> FittedInitializer:
        """What the start has learnt of the generator."""
        s, begun = self.settings, time.perf_counter()
        if not self.alike:  # each image's own, which no other batch asks for
            self.known = {}
        guess = fit_initializer(
            s.start, self.generator, problem.operator, s.seed, problem.batch, self._learn, self.known
        )
        if self.alike and not self.learning:
            self.learning = time.perf_counter() - begun
        return guess

    def _learn(
        self, generator: Generator, operators: Sequence[Callable[[Tensor], Tensor]], seed: int
    ) -> Sequence[FittedInitializer]:
        start, folder = self.settings.start, cache_root() / "starts"
        if not self.alike:  # nor any other job
            return start.fit_each(generator, operators, seed)
        return [fit_cached(start, generator, operators[0], seed, folder)]

    def on_predict_end(self) -> None:
        self.bar.close()


class _Watch:
    """A callback of `solve`: moves the bar, tracks each step, keeps frames of the targets that pictures show.

    The generator's passes for pictures are not part of the counted cost.
    """

    def __init__(self, job: Reconstructor, problem: Reconstruction, good: list[Target]) -> None:
        self.job, self.problem = job, problem
        self.index = torch.tensor([target.index for target in good])
        self.shown = int((self.index < SHOWN).sum())
        self.frames: list[Tensor] = []
        self.curve: list[Tensor] = []
        self.pictured = _pictured(job.steps, job.settings.picture_every)

    def __call__(self, progress: Progress) -> None:
        if progress.t > self.job.steps:  # a later round, of some targets: no part of the curve and the pictures
            self.job.tracker.log(self.job.logged, tracked_figures(progress))
            self.job.logged += 1
            return
        self.curve.append(progress.best.float().cpu())
        seen, grid = tracked_figures(progress), None
        if progress.t in self.pictured:
            seen["metric/psnr"], grid = self._picture(progress)
        self.job.tracker.log(self.job.logged, seen, grid)
        self.job.logged += 1
        self.job.bar.set_postfix_str(f"loss {seen['loss/best']:.5f}", refresh=False)
        self.job.bar.update()

    @torch.no_grad()
    def _picture(self, progress: Progress) -> tuple[float, dict[str, Any] | None]:
        best = self.job.generator(progress.best_x)
        ours, true = compared(self.problem, best)
        low, high = metrics.value_range(true)
        psnr = metrics.psnr(ours, true, high - low).mean().item()
        if not self.shown:
            return psnr, None
        self.frames.append(pictures.as_bytes(best[: self.shown]))
        current = pictures.as_bytes(self.job.generator(progress.x[: self.shown]))
        titled = {**known(self.problem, self.shown), "current": current, "best": self.frames[-1]}
        return psnr, {"trajectory": pictures.tile(list(titled.values()))}

    def tensors(self, result: Result) -> dict[str, Tensor]:
        """What a shard keeps, without its rows."""
        kept = {"index": self.index, "latents": result.x, "curve": _stacked(self.curve, self.job.steps)}
        if self.shown:
            output = result.output[: self.shown]
            kept["frames"] = _stacked(self.frames, len(self.pictured))  # (n, frames, C, H, W) bytes
            titled = {**known(self.problem, self.shown), "reconstruction": pictures.as_bytes(output)}
            again = take(self.problem.operator, torch.arange(self.shown))(output)
            if not isinstance(self.problem.operator, Identity) and again.ndim == 4:
                titled["re-measured"] = pictures.as_bytes(again)
            kept |= {f"show/{at} {title}": images for at, (title, images) in enumerate(titled.items())}
        return kept


def _pictured(steps: int, every: int) -> set[int]:
    """The steps that pictures show: the first, the last, each ``every``-th, and more where most happens, early on."""
    early = range(1, min(3 * every, steps), max(1, every // 5))
    return {*early, *range(every, steps + 1, every), steps}


def _stacked(moments: list[Tensor], count: int) -> Tensor:
    """(n, count, ...): what was seen, the last of it repeated where all targets stopped early."""
    return torch.stack(moments + moments[-1:] * (count - len(moments)), 1)


def known(problem: Reconstruction, count: int) -> dict[str, Tensor]:
    """What is known of the first targets, as bytes by title."""
    measurement = problem.measurement[:count]
    if problem.image is None:
        return {"target = measurement": pictures.as_bytes(measurement)} if measurement.ndim == 4 else {}
    known = {"target": pictures.as_bytes(problem.image[:count])}
    return {**known, "measurement": pictures.as_bytes(measurement)} if measurement.ndim == 4 else known


def compared(problem: Reconstruction, output: Tensor) -> tuple[Tensor, Tensor]:
    """What the metrics compare: images where the true ones are known, else measurements."""
    if problem.image is not None:
        return output, problem.image
    return problem.operator(output), problem.measurement


@torch.no_grad()
def _rows(problem: Reconstruction, result: Result, good: list[Target], seconds: float) -> list[dict[str, Any]]:
    ours, true = compared(problem, result.output)
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
    return [
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
        }
        for target, status, (mse, psnr, ssim, loss, forwards, backwards) in zip(
            good, result.status, columns, strict=True
        )
    ]
