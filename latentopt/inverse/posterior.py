"""`latentopt.posterior`: samples of latents given measurements, from Laplace's approximation and tempered chains."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError, positive, seed_within, within
from latentopt.inverse.convergence import effective_sample_size, split_r_hat
from latentopt.inverse.initializers import default_initializer, fit_initializer, share_cost
from latentopt.inverse.laplace import LaplaceMixture, Likelihood
from latentopt.inverse.priors import SquaredNorm, latent_space
from latentopt.inverse.problem import Reconstruction
from latentopt.inverse.reconstruct import HALVING, invert
from latentopt.inverse.tempering import TemperedChains
from latentopt.networks.freezing import frozen
from latentopt.noise import Noise
from latentopt.objectives import Fit, NoiseModel
from latentopt.operators import BlindOperator
from latentopt.optimizers import LBFGS
from latentopt.pictures import tile, to_pictures
from latentopt.progress import ProgressLine
from latentopt.results import MAX_SHOWN, SavedResult
from latentopt.sets import Free
from latentopt.solver.loop import solve
from latentopt.solver.modes import Modes
from latentopt.solver.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESTARTS = 16
"""Restarts of the search. Of 200 images of ``mnist-vae``, m = 25, 14 lacked the truth's mode with 8, 7 with 16."""
MODES, POLISH = 4, 60
"""Restarts of a target that may become modes, and steps of L-BFGS to the most probable latents nearby."""
MAX_LATENTS = 1024
"""Most numbers of a latent whose covariance is computed."""
ROWS = 1024
"""Samples whose images are made at once, at least those of one target."""
STRIP = 6
"""Samples of a target in a picture."""


@dataclass(frozen=True, eq=False, repr=False)
class Posterior(SavedResult):
    """Samples of the latents of B targets given their measurements, with means, standard deviations and modes."""

    mean: Tensor  # (B, *latent_shape), of all draws of the chains
    std: Tensor  # (B, *latent_shape), of all draws of the chains
    image_mean: Tensor  # (B, C, H, W), of the samples
    image_std: Tensor  # (B, C, H, W), of the samples
    samples: Tensor  # (S, B, *latent_shape), draws at equal distances, the chains beside each other
    images: Tensor  # (S, B, C, H, W), of the samples
    modes: Modes  # distinct explanations; weights are shares of the draws, labels (S, B) those of the samples
    acceptance: Tensor  # (B,), of proposals at temperature 1
    r_hat: Tensor  # (B,), greatest of all latents; the chains have not converged where it is far above 1
    effective_samples: Tensor  # (B,), least of all latents
    forwards: Tensor  # (B,) long
    backwards: Tensor  # (B,) long
    meta: dict[str, Any]  # settings, seconds

    def summary(self) -> dict[str, Any]:
        """Return the number of targets, and the means of acceptance, diagnostics and costs, by name."""
        columns = ("acceptance", "r_hat", "effective_samples", "forwards", "backwards")
        means = {name: float(getattr(self, name).double().mean()) for name in columns}
        return {"targets": len(self.mean), **means, "seconds": self.meta.get("seconds", float("nan"))}

    @checked
    def interval(self, level: float = 0.9, of: Literal["latents", "images"] = "latents") -> tuple[Tensor, Tensor]:
        """Return the central interval of each latent or pixel, which holds it with a probability.

        Ends are order statistics of as many independent samples as the chains' are worth, so that few samples make the
        interval wider instead of overconfident.

        Args:
            level: the probability, in (0, 1).
            of: latents or images.

        Returns:
            The lower and the upper ends, (B, *latent_shape) or (B, C, H, W) each.

        Raises:
            InputError: the level lies outside.
        """
        within("level", level, 0, 1, "()")
        draws = (self.samples if of == "latents" else self.images).unflatten(0, (-1, self.meta["chains"]))
        effective = effective_sample_size(draws) if len(draws) >= 4 else draws.new_tensor(float(draws[:, :, 0].numel()))
        ordered = draws.flatten(0, 1).sort(0).values
        count = len(ordered)
        effective = effective.to(ordered).clamp(2, count).expand_as(ordered[0])
        ends = list[Tensor]()
        for q in ((1 - level) / 2, (1 + level) / 2):
            place = ((effective + 1) * q - 1) / (effective - 1)  # a new draw lies below with probability q
            place = (place.clamp(0, 1) * (count - 1)).clamp(0, count - 1)
            below = place.floor().long().clamp_max(max(count - 2, 0))
            low, high = (ordered.gather(0, index[None])[0] for index in (below, (below + 1).clamp_max(count - 1)))
            ends.append(low + (place - below) * (high - low))
        return ends[0], ends[1]

    def _draw(self, figure: Figure) -> None:
        count, strip = min(MAX_SHOWN, len(self.image_mean)), self.images[:STRIP]
        greatest = self.image_std.flatten(1).amax(1).clamp_min(1e-12)
        scaled = self.image_std / greatest.reshape(-1, *[1] * (self.image_std.ndim - 1))
        columns = [to_pictures(part[:count]) for part in (self.image_mean, scaled, *strip)]
        picture = tile(columns, per_row=1)
        figure.set_size_inches(8, 8 * picture.shape[0] / picture.shape[1] + 0.3)
        axes = figure.subplots()
        axes.imshow(picture)
        axes.set_axis_off()
        axes.set_title("mean | standard deviation, each to its greatest | samples", fontsize=9)


@outside_inference_mode
@checked
def posterior(
    problem: Reconstruction,
    found: Result | None = None,
    *,
    samples: int = 168,
    steps: int = 112,
    leapfrogs: int = 5,
    chains: int = 2,
    temperatures: int = 4,
    hottest: float = 5.0,
    seed: int = 0,
) -> Posterior:
    """Draw samples of the latents given measurements, to tell how sure a reconstruction is.

    The prior is the generator's own distribution of latents: standard normal, or normal with the mean and the standard
    deviations of its ``latents``. The restarts of a search give modes; at each, Laplace's approximation has the inverse
    of prior precision plus Gauss-Newton curvature as covariance, exact within an activation region of a
    piecewise-linear generator with a linear operator and Gaussian noise, and an evidence. Chains start from this
    mixture, and are preconditioned by it; they sample the exact posterior, by Hamiltonian or
    Langevin proposals that are accepted or rejected, and exchanges between temperatures, to get from mode to mode.

    Args:
        problem: whose loss is a noise model, such as ``latentopt.objectives.GaussianNoise(0.1)``; latents of at most
            1024 numbers, and no prior but that.
        found: result of `latentopt.reconstruct` of the same targets, whose restarts are taken for the modes; its cost
            is not counted again. None: the most probable latents are searched for, as `latentopt.reconstruct` does,
            from 16 starts.
        samples: greatest number of samples S kept of each target, >= 1; at least one of each chain.
        steps: steps of each chain, >= 16; the first quarter adapts step sizes and is dropped.
        leapfrogs: leapfrog steps of a proposal, >= 1; one is the Metropolis-adjusted Langevin algorithm.
        chains: independent chains at each temperature, >= 1.
        temperatures: number of temperatures, >= 1, in a geometric row.
        hottest: the highest temperature of the likelihood, >= 1. With one temperature alone it is 1.
        seed: seed of every random number. Targets share the random numbers of a chain, so a batch gives what its
            targets give alone, to rounding.

    Returns:
        A `Posterior`. Each leapfrog step of a chain costs a forward and a backward.

    Raises:
        InputError: an argument is not as described.
    """
    counts = {"samples": samples, "leapfrogs": leapfrogs, "chains": chains, "temperatures": temperatures}
    for name, value in counts.items():
        positive(name, value, integer=True)
    if isinstance(steps, bool) or steps < 16:
        raise InputError("steps", "an integer >= 16", steps)
    within("hottest", hottest, 1, float("inf"), "[)")
    seed_within(seed)
    begun = time.perf_counter()
    target = PosteriorProblem(problem)
    if found is None:
        found, forwards, backwards = target.search(seed)
    else:
        target.require(found)
        forwards, backwards = torch.zeros_like(found.forwards), torch.zeros_like(found.backwards)
    with frozen(target.likelihood.network), ProgressLine("posterior", steps) as line:
        polished, mixture = target.laplace(found, seed)
        modes, n = len(mixture.u), mixture.u.shape[2]
        forwards, backwards = forwards + polished.forwards + modes, backwards + polished.backwards + modes * (n + 1)
        levels = temperatures if hottest > 1 else 1
        betas = [hottest ** -(level / max(1, levels - 1)) for level in range(levels)]
        tempered, state = TemperedChains.around(
            target.rows(levels * chains, seed), mixture, betas, chains, leapfrogs, warmup := steps // 4
        )
        draws, acceptance = list[Tensor](), list[Tensor]()
        for t in range(steps):
            state, accepted = tempered.step(t, state)
            if t >= warmup:
                draws.append(tempered.cold(state))
                acceptance.append(accepted[0])
            line.update()
        u = torch.stack(draws)  # (T, chains, B, n)
        cost = levels * chains * (steps * leapfrogs + 1)
        settings = counts | {"temperatures": levels, "steps": steps, "hottest": hottest}
        result = target.summarise(u, mixture, samples)
    return Posterior(
        **result,
        acceptance=torch.stack(acceptance).mean(0),
        forwards=forwards + cost + len(result["samples"]) + modes,
        backwards=backwards + cost,
        meta={**settings, "seed": seed, "seconds": time.perf_counter() - begun},
    )


class PosteriorProblem:
    """The likelihood and the prior of a reconstruction, in nats.

    Args:
        problem: the reconstruction.

    Raises:
        InputError: its loss is no likelihood, its operator has unknown parameters, it has another prior, or too many
            latents.
    """

    def __init__(self, problem: Reconstruction) -> None:
        if isinstance(problem.operator, BlindOperator):
            known = "no unknowns, such as operator.at(**found.unknowns); a posterior samples the latents alone"
            got = f"{type(problem.operator).__name__} of {', '.join(problem.operator.priors)}"
            raise InputError("operator", known, got)
        if not isinstance(problem.objective, Fit) or not isinstance(problem.objective.loss, NoiseModel):
            got = type(getattr(problem.objective, "loss", problem.objective)).__name__
            raise InputError("loss", "a noise model, such as latentopt.objectives.GaussianNoise(0.1)", got)
        if not isinstance(problem.feasible, Free):
            raise InputError("prior", "none but the generator's own latents", type(problem.feasible).__name__)
        if prod(problem.shape) > MAX_LATENTS:
            raise InputError("generator", f"latents of at most {MAX_LATENTS} numbers", prod(problem.shape))
        generator = problem.generator.fused().within_memory()
        generator.require_gradient()
        own = generator.distribution
        self.mean, self.scale = (cpu_tensor(t).to(problem.like).expand(problem.shape) for t in (own.mean, own.scale))
        self.likelihood = copy.copy(problem)
        self.likelihood.network = self.likelihood.generator = generator
        self.likelihood.penalty = None
        self.density = copy.copy(self.likelihood)
        self.density.feasible = latent_space(generator, generator.start_scale)
        self.density.penalty = SquaredNorm(0.5, self.mean, self.scale)
        self.density.success = None

    def search(self, seed: int) -> tuple[Result, Tensor, Tensor]:
        """Return the most probable latents, and the cost of their search."""
        problem = self.density
        start = default_initializer(problem.generator, problem.operator)
        fitted = fit_initializer(start, problem.generator, problem.operator, seed, problem.batch)
        paid = share_cost(fitted.forwards, problem.batch, torch.arange(problem.batch, device="cpu"))
        settings = {"steps": 400, "restarts": RESTARTS, "halving": HALVING}
        found = invert(problem, LBFGS(memory=64), fitted, 0, seed, (), paid, None, **settings)
        return found, found.forwards, found.backwards

    def require(self, found: Result) -> None:
        """Raise `InputError` unless a result is of as many latents of this shape."""
        if found.all_x.shape[1:] != (self.density.batch, *self.density.shape):
            expected = f"a result of latents {(self.density.batch, *self.density.shape)}"
            raise InputError("found", expected, f"{tuple(found.all_x.shape[1:])}")

    def rows(self, copies: int, seed: int) -> Likelihood:
        """Return the likelihood of ``copies`` rows of each target, copy by copy, with noise of their own."""
        sample = torch.arange(self.likelihood.batch, device=self.likelihood.like.device)
        noise = Noise(seed, torch.arange(copies, device=sample.device).repeat_interleave(len(sample)))
        return Likelihood(self.likelihood.rows(sample.repeat(copies), noise), self.mean, self.scale)

    def laplace(self, found: Result, seed: int) -> tuple[Result, LaplaceMixture]:
        """Return the mixture at the best restarts, once they were led to the most probable latents nearby."""
        value = found.all_value.nan_to_num(torch.inf)
        order = value.argsort(0)[:MODES]
        sample = torch.arange(value.shape[1], device=value.device)
        start = found.all_x[order, sample].to(self.density.like)
        start = torch.where(start.isfinite(), start, found.x.to(start))
        polished = solve(self.density, LBFGS(memory=64), start=start, steps=POLISH, restarts=len(start), seed=seed)
        rows = self.rows(1, seed)
        u = rows.standard(polished.all_x.flatten(0, 1)).unflatten(0, (len(start), -1))
        return polished, LaplaceMixture.at(rows, u)

    @torch.no_grad()
    def summarise(self, u: Tensor, mixture: LaplaceMixture, samples: int) -> dict[str, Any]:
        """Return what a `Posterior` tells of draws (T, chains, B, n)."""
        rows, flat = self.rows(1, 0), u.flatten(0, 1)
        times = min(max(1, samples // u.shape[1]), len(u))  # of each chain
        kept = u[torch.linspace(0, len(u) - 1, times, device="cpu").round().long()].flatten(0, 1)
        images = self.images(rows.latents(kept.flatten(0, 1)).unflatten(0, kept.shape[:2]))
        return {
            "mean": rows.latents(flat.double().mean(0).to(u)),
            "std": self.scale * flat.double().std(0).to(u).reshape(-1, *self.scale.shape),
            "image_mean": images.mean(0),
            "image_std": images.std(0) if len(images) > 1 else torch.zeros_like(images[0]),
            "samples": rows.latents(kept.flatten(0, 1)).unflatten(0, kept.shape[:2]),
            "images": images,
            "modes": self._modes(mixture, flat, kept),
            "r_hat": split_r_hat(u).amax(1),
            "effective_samples": effective_sample_size(u).amin(1),
        }

    def _modes(self, mixture: LaplaceMixture, draws: Tensor, kept: Tensor) -> Modes:
        """Return the modes, with the shares of the draws (T, B, n) that each explains best."""
        count, batch = mixture.distinct.shape
        sample, k = mixture.distinct.T.nonzero(as_tuple=True)  # by sample, and by rising value
        share = torch.stack([(mixture.nearest(draws) == mode).double().mean(0) for mode in range(count)])
        place = torch.full((count, batch), -1, device=k.device)
        place[k, sample] = torch.arange(len(k), device=k.device)
        rows = self.rows(1, 0)
        z = rows.latents(mixture.u.flatten(0, 1).to(kept)).unflatten(0, (count, batch))
        value = mixture.value + mixture.u.square().sum(2) / 2
        images = self.images(z)
        label = place.gather(0, mixture.nearest(kept))
        return Modes(
            sample, value[k, sample].to(kept), share[k, sample].to(kept), z[k, sample], images[k, sample], label
        )

    @torch.no_grad()
    def images(self, z: Tensor) -> Tensor:
        """Return the images (S, B, C, H, W) of latents (S, B, *shape)."""
        parts = list[Tensor]()
        for chunk in z.split(max(1, ROWS // z.shape[1])):
            rows = self.rows(len(chunk), 0)
            parts.append(rows.batch.evaluate(chunk.flatten(0, 1)).output.unflatten(0, chunk.shape[:2]))
        return torch.cat(parts)
