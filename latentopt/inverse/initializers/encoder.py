"""Starts predicted by an encoder: the generator's own, or one trained on its samples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from latentopt.arguments import checked
from latentopt.errors import InputError, nonnegative
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer, scatter
from latentopt.inverse.initializers.pools import Regression
from latentopt.inverse.initializers.trained_encoder import PROBES, TrainedEncoder
from latentopt.inverse.problem import Reconstruction, measurement_shapes
from latentopt.networks.checks import first_output
from latentopt.networks.freezing import frozen
from latentopt.networks.generator import Generator
from latentopt.networks.generator_checks import finite_images
from latentopt.networks.outputs import TensorNetwork

CHECKED = 32
"""Samples of a generator on which its encoder is checked."""


@checked
@dataclass(frozen=True)
class Encoder(Initializer):
    """Latents that an encoder predicts from the measurement, and points around them.

    The encoder is that of a file of ``latentopt train train-encoder``: ``path``, or else the one beside the generator's
    card. Where there is none, it is the generator's own, ``Generator(encoder=)``, which takes whole images.

    Args:
        noise: standard deviation around the prediction, of all restarts but the first, >= 0, as a multiple of the
            latents' own.
        path: file of a trained encoder; None: the one beside the generator's card, if there is one.

    Raises:
        InputError: the noise is negative or not finite.
    """

    noise: float = 0.3
    path: str | Path | None = None

    def __post_init__(self) -> None:
        nonnegative("Encoder.noise", self.noise)

    def fit(self, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> FittedInitializer:
        if (path := self.path or generator.trained_encoder) is not None:
            trained = _require_match(Path(path), generator, operator)
            return FittedTrainedEncoder(trained.to(generator.latents(1, 0).device), self.noise, PROBES)
        self._check_own(generator, operator)
        return FittedEncoder(self.noise, 2 * CHECKED)

    def check(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:
        if (path := self.path or generator.trained_encoder) is not None:
            _require_match(Path(path), generator, operator)
        else:
            self._check_own(generator, operator)

    def _check_own(self, generator: Generator, operator: Callable[[Tensor], Tensor]) -> None:
        if generator.encoder is None:
            raise InputError("start", "a generator with an encoder", "one without")
        probe = generator.probe()
        _, images = finite_images(probe, probe.latents(CHECKED, POOL_SEED))
        with torch.no_grad(), frozen(generator):
            whole = images if probe is generator else images.new_zeros(1, *generator.output_shape())
            if operator(whole).shape != whole.shape:
                raise InputError("start", "an operator whose measurements are whole images, for an encoder", operator)
            error = (probe(encode(probe, images)) - images).square().mean()
            chance = (images.roll(1, 0) - images).square().mean()
        if not error < 0.5 * chance:
            raise InputError("encoder", "this generator's", "one that does not find the generator's own images")


def _require_match(path: Path, generator: Generator, operator: Callable[[Tensor], Tensor]) -> TrainedEncoder:
    trained = TrainedEncoder.load(path)
    if not trained.probe.matches(generator, operator):
        got = f"one for {trained.about.get('model', 'another')} and {trained.about.get('operator', 'another operator')}"
        raise InputError(str(path), "an encoder trained for these weights, conditions and this operator", got)
    return trained


def default_initializer(generator: Generator, operator: Callable[[Tensor], Tensor]) -> Initializer:
    """Return the start ``auto``: the encoder beside a generator's card if it was trained for this operator.

    Of a decoder of any size it is the decoder's own encoder where images are whole. Else it is `Regression`, also where
    the encoder belongs to other weights, other conditions or another operator.

    Args:
        generator: the generator.
        operator: maps images to measurements.

    Returns:
        The initializer, not fitted yet.

    Warns:
        NetworkWarning: the encoder beside the card is not used, and why; once for a generator.
    """
    if generator.takes_any_size and generator.encoder is not None:
        image, measurement = measurement_shapes(generator, operator)
        return Encoder() if image == measurement else Regression()
    path = generator.trained_encoder
    if path is None:
        return Regression()
    trained = TrainedEncoder.load(path)
    if not hasattr(operator, "take") and trained.probe.matches(generator, operator):
        return Encoder()
    generator.warn_once("encoder", f"start: regression, as {path} was trained {_difference(trained, operator)}")
    return Regression()


def _difference(trained: TrainedEncoder, operator: Callable[[Tensor], Tensor]) -> str:
    """Return what an encoder was trained for that is not at hand, in words."""
    known = trained.about.get("operator")
    if known is not None and known != repr(operator):
        return f"for the operator {known}, not {operator!r}"
    return "for other weights or other conditions (latentopt train train-encoder makes a new one)"


@dataclass(frozen=True)
class FittedTrainedEncoder(FittedInitializer):
    """An encoder of a file, for one generator and operator."""

    encoder: TrainedEncoder
    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        with torch.no_grad():
            centre = self.encoder(problem.measurement).to(problem.like)[None]
        return _around(centre, self.noise, problem, restarts, seed, spread)


@dataclass(frozen=True)
class FittedEncoder(FittedInitializer):
    """An encoder that was checked on its generator."""

    noise: float
    forwards: int

    def __call__(self, problem: Reconstruction, restarts: int, seed: int, spread: float = 1.0) -> Tensor:
        with torch.no_grad(), frozen(problem.generator):
            centre = encode(problem.generator, problem.measurement)[None]
        return _around(centre, self.noise, problem, restarts, seed, spread)


def _around(centre: Tensor, noise: float, problem: Reconstruction, restarts: int, seed: int, spread: float) -> Tensor:
    deviation = noise * spread * problem.generator.distribution.scale.to(centre)
    return scatter(centre.expand(restarts, *centre.shape[1:]), deviation, seed, keep_first=spread == 1.0)


def encode(generator: Generator, images: Tensor) -> Tensor:
    """Return the latents (B, *latent_shape) that the generator's encoder predicts for images (B, C, H, W).

    Raises:
        InputError: the encoder belongs to another generator.
    """
    assert generator.encoder is not None
    shape, size = generator.latent_shape, prod(generator.latent_shape)
    z = first_output(TensorNetwork(generator.encoder, "encoder"), images, "encoder").flatten(1)
    if z.shape[1] not in (size, 2 * size):
        raise InputError("encoder", f"{size} latents, or {2 * size} with their variances", f"{z.shape[1]}")
    return z[:, :size].reshape(-1, *shape)
