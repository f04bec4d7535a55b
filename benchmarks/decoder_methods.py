"""Methods that find the latents of a decoder, and the trace of their progress."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from benchmarks.decoder_cases import NOISE, DecoderCase
from benchmarks.inversion_methods import GATES
from benchmarks.total_variation import deepinv_total_variation, total_variation
from benchmarks.tuned import TUNED
from benchmarks.whitening import InLatents, whitened
from latentopt.inverse.priors import GaussianPrior, Prior, Unconstrained
from latentopt.inverse.problem import Reconstruction
from latentopt.optimizers import ADRGD, LBFGS, Adam, Optimizer, SoftGates
from latentopt.solver.callbacks import Progress
from latentopt.solver.loop import solve

Size = tuple[float, float]
"""A step size (or the weight of total variation), and the weight of the prior in units of `likely_weight`."""


@dataclass(eq=False)
class DecoderTrace:
    """What a method has reached, after each evaluation.

    The image is the one of the least objective so far; the photograph itself has no part in the choice. As a callback
    of `latentopt.solve` it stops once a measurement is fitted to its noise (the discrepancy principle of Morozov).
    """

    case: DecoderCase
    seconds: list[float] = field(default_factory=list)
    psnr: list[float] = field(default_factory=list)
    best: float = float("inf")
    image: Tensor | None = None

    def __post_init__(self) -> None:
        self.begun = time.process_time() - self.case.seconds

    def __call__(self, progress: Progress) -> bool:
        return self.see(progress.output, float(progress.loss[0]))

    def see(self, image: Tensor, objective: float) -> bool:
        """Record an image (1, 3, H, W) and its objective; return whether that is the end."""
        seconds = time.process_time() - self.begun
        if objective < self.best:
            self.best, self.image = objective, image.detach().clone()
            psnr = self.case.psnr(image)
        else:
            psnr = self.psnr[-1]
        self.seconds.append(round(seconds, 3))
        self.psnr.append(psnr)
        return self.case.is_fitted(image)


Run = Callable[[DecoderCase, Size, int, DecoderTrace], None]


@dataclass(frozen=True)
class DecoderMethod:
    """A method.

    Args:
        run: from a case, a size, a number of evaluations and a trace, which it fills.
        sizes: to choose among; the first is the default.
        tasks: whether it inverts whole photographs, and whether it restores measured ones.
        extension: how many times the evaluations of the others it goes on with whole photographs, to see when it has
            what they have; what it reaches later does not count.
    """

    run: Run
    sizes: tuple[Size, ...] = ((0.0, 1.0),)
    tasks: tuple[bool, bool] = (True, True)
    extension: int = 1

    def fits(self, task: str) -> bool:
        return self.tasks[task != "inversion"]

    def sizes_of(self, task: str) -> tuple[Size, ...]:
        """Return the sizes to try; for a whole photograph, which has no prior, those of one weight."""
        return tuple(s for s in self.sizes if task != "inversion" or s[1] == self.sizes[0][1])


def likely_weight(case: DecoderCase) -> float:
    """Return the weight of the prior that gives the most probable latents; 0 for a whole photograph."""
    return 0.0 if case.task == "inversion" else NOISE**2 / case.measurement.numel()


def first(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    """Take the image made without a network."""
    trace.begun += case.seconds
    trace.see(case.plain, 0.0)


def encoder(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    """Encode and decode the first image."""
    with torch.no_grad():
        trace.see(case.generator(case.start()), 0.0)


def variation(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    """Minimise total variation."""
    trace.begun += case.seconds
    trace.see(total_variation(case.operator, case.measurement, case.plain, size[0]), 0.0)


def deepinv_variation(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    """Minimise the same by deepinv.

    Raises:
        ImportError: there is no deepinv.
    """
    trace.begun += case.seconds
    trace.see(deepinv_total_variation(case.operator, case.measurement, case.plain, size[0]), 0.0)


def hand_written(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    """Run a simple hand-written loop: Adam from the encoder's latents, no schedule."""
    _adam(case, case.start(), size, evaluations, trace)


def _adam(case: DecoderCase, z: Tensor, size: Size, evaluations: int, trace: DecoderTrace) -> None:
    z = z.requires_grad_()
    adam, weight = torch.optim.Adam([z], size[0]), size[1] * likely_weight(case)
    mean, scale = (t.to(z) for t in (case.generator.distribution.mean, case.generator.distribution.scale))
    for _ in range(evaluations):
        image = case.generator(z)
        loss = (case.operator(image) - case.measurement).square().mean()
        loss = loss + weight * ((z - mean) / scale).square().sum() if weight else loss
        if trace.see(image, loss.item()):
            return
        adam.zero_grad()
        loss.backward()
        adam.step()


def ours(optimizer: Callable[[float], Optimizer], white: bool = False) -> Run:
    """Run one of our methods, by its step size, from the encoder's latents, which are whitened if ``white``."""

    def run(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
        _descend(case, case.start(), optimizer(size[0]), size[1], white, evaluations, trace)

    return run


def _descend(
    case: DecoderCase, z: Tensor, optimizer: Optimizer, weight: float, white: bool, steps: int, trace: DecoderTrace
) -> None:
    weight, generator = weight * likely_weight(case), case.fast
    prior: Prior = GaussianPrior(weight) if weight else Unconstrained()
    if white:
        generator, back, z = whitened(generator, z)
        prior = InLatents(back, case.generator, prior)
    problem = Reconstruction(generator, case.measurement, case.operator, measured=True, prior=prior)
    solve(problem, optimizer, steps=steps, start=z[None], callbacks=[trace])


Fit = Callable[[DecoderCase, Tensor, int, DecoderTrace], None]
"""Fits from given latents."""


def mean_of_several(fit: Fit) -> Run:
    """Take the mean of the images of `SEVERAL` fits: from latents ``size[0]`` deviations away from the encoder's."""

    def run(case: DecoderCase, size: Size, evaluations: int, trace: DecoderTrace) -> None:
        images, scale = list[Tensor](), case.generator.distribution.scale.to(case.truth)
        for number in range(SEVERAL):
            noise = torch.randn(scale.shape, generator=torch.Generator().manual_seed(number))
            one = DecoderTrace(case)
            fit(case, case.start() + size[0] * scale * noise, evaluations, one)
            assert one.image is not None
            images.append(one.image)
            trace.see(torch.stack(images).mean(0), -float(number))

    return run


def _white_fit(case: DecoderCase, z: Tensor, evaluations: int, trace: DecoderTrace) -> None:
    _descend(case, z, LBFGS(64, first=0.02), 1.0, True, evaluations, trace)


def _adam_fit(case: DecoderCase, z: Tensor, evaluations: int, trace: DecoderTrace) -> None:
    """Fit with the step of the hand-written loop."""
    step, weight = TUNED["decoders"].get(case.task, {}).get(BASE, STEPS[0])
    _adam(case, z, (step, weight), evaluations, trace)


BASE = "a hand-written Adam loop"
SEVERAL, SPREADS = 4, ((0.2, 1.0), (0.4, 1.0))
SOFT = SoftGates(0.25, steps=15, share=2 / 3)


def lbfgs(length: float) -> Optimizer:
    """Return L-BFGS whose first trial has a length relative to the latents."""
    return LBFGS(64, first=length)


STEPS = ((0.05, 1.0), (0.02, 1.0), (0.1, 1.0), (0.05, 10.0))
WEIGHTS = tuple((weight, 0.0) for weight in (1e-3, 1e-4, 3e-4, 2e-3, 4e-3, 8e-3))
LENGTHS = ((0.02, 1.0), (0.2, 1.0), (0.02, 10.0))
METHODS: dict[str, DecoderMethod] = {
    "no network": DecoderMethod(first, tasks=(False, True)),
    "total variation": DecoderMethod(variation, WEIGHTS, tasks=(False, True)),
    "deepinv's total variation": DecoderMethod(deepinv_variation, WEIGHTS, tasks=(False, True)),
    "encoder": DecoderMethod(encoder),
    BASE: DecoderMethod(hand_written, STEPS, extension=3),
    "adam": DecoderMethod(ours(Adam), STEPS),
    "lbfgs": DecoderMethod(ours(lbfgs), LENGTHS),
    "lbfgs-whitened": DecoderMethod(ours(lbfgs, white=True), LENGTHS),
    "mean of 4 lbfgs-whitened": DecoderMethod(mean_of_several(_white_fit), SPREADS, tasks=(False, True)),
    "mean of 4 hand-written Adam loops": DecoderMethod(mean_of_several(_adam_fit), SPREADS, tasks=(False, True)),
    "adr-gd-soft": DecoderMethod(ours(lambda lr: ADRGD(SoftGates(), Adam(lr))), STEPS),
    "adr-gd-whitened": DecoderMethod(ours(lambda length: ADRGD(SOFT, lbfgs(length)), white=True), LENGTHS),
    "adr-gd": DecoderMethod(ours(lambda _: ADRGD(GATES[""])), tasks=(True, False)),
    "adr-gd-gates-off": DecoderMethod(ours(lambda _: ADRGD(GATES["-gates-off"])), tasks=(True, False)),
}
