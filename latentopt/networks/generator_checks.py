"""Checks of a generator: the shape and the range of its images, whether they repeat, and a faster copy."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from math import prod
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from latentopt.arguments import checked
from latentopt.autodiff import refuse_gradient
from latentopt.errors import InputError, warn
from latentopt.networks.checks import NetworkWarning, first_output, is_randomised, randomised_message
from latentopt.networks.freezing import frozen
from latentopt.networks.fusion import fold_batch_norm
from latentopt.networks.latents import Latents
from latentopt.networks.memory import saved_bytes
from latentopt.networks.output_range import doubt_range, likely_range, percentiles
from latentopt.networks.outputs import WrappedModule
from latentopt.networks.randomness import noise_advice

PROBE_SIDE = 8
"""Greatest height and width of the latents of `GeneratorChecks.probe`."""


class GeneratorChecks(WrappedModule):
    """The part of a `latentopt.Generator` that evaluates it to learn its properties."""

    conditions: dict[str, Tensor]
    constants: dict[str, Any]
    distribution: Latents
    output_range: tuple[float, float]
    _emitted_range: tuple[float, float] | None
    _done: set[str]  # checks and warnings that a generator and its copies do once

    latent_shape: tuple[int, ...]
    row_bytes: tuple[int, int] = (0, 0)
    """Memory of the gradient of one row, whole and with `economical`'s checkpointing; known after a first forward."""
    rows_at_once: int | None = None
    """Greatest number of rows whose gradient is computed together; None: any."""
    precision: torch.dtype | None = None
    """Of the module's own arithmetic (`torch.autocast`); None: that of the latents."""

    def latents(self, count: int, seed: int) -> Tensor:
        """Draw latents (count, *latent_shape)."""
        raise NotImplementedError

    @property
    def takes_any_size(self) -> bool:
        """Whether the module takes latents (C, h, w) of any height and width: its attribute ``any_size`` is True."""
        return bool(getattr(self.module, "any_size", False)) and len(self.latent_shape) == 3

    def probe(self) -> Self:
        """Return the generator of small images, for checks, where its module takes latents of any size; else itself."""
        channels, *sides = self.latent_shape
        if not self.takes_any_size or max(sides) <= PROBE_SIDE:
            return self
        small = copy.copy(self)
        small.latent_shape = (channels, *(min(side, PROBE_SIDE) for side in sides))
        small.distribution = self.distribution.resized(small.latent_shape)
        return small

    def take(self, rows: Tensor) -> Self:
        """Return the generator of some samples."""
        raise NotImplementedError

    @torch.no_grad()
    def emitted_range(self) -> tuple[float, float]:
        """Estimate the range of the images of 64 latents, and of those twice as far from the mean, once (128 forwards).

        Returns:
            The least and the greatest value; at least from 0 to 1.
        """
        if self._emitted_range is None:
            probe = self.probe()
            with frozen(self):
                images = [image for scale in (1.0, 2.0) for image in probe._samples(64, scale)]
            ends = [end for image in images for end in image.aminmax()]
            finite = [float(end) for end in ends if bool(end.isfinite())]
            self._emitted_range = min(0.0, *finite, 1.0), max(0.0, *finite, 1.0)
        return self._emitted_range

    def _samples(self, count: int, scale: float = 1.0) -> Iterator[Tensor]:
        """Yield batches of images of latents, ``scale`` times as far from their mean; each under another condition."""
        conditions = max(map(len, self.conditions.values()), default=1)
        for number, z in enumerate(self.latents(count, seed=0).split(8)):
            if scale != 1:
                mean = self.distribution.mean.to(z)
                z = mean + scale * (z - mean)
            yield self.take(torch.tensor([number % conditions], device="cpu"))(z)

    def output_shape(self) -> tuple[int, ...]:
        """Find the shape of one image by a forward pass.

        Returns:
            (C, H, W).

        Raises:
            InputError: the module does not take latents of `latent_shape`, or returns no image of each.

        Warns:
            NetworkWarning: (once) images suggest another `output_range`.
        """
        probe = self.probe()
        first, z = probe.take(torch.tensor([0], device="cpu")), probe.latents(1, seed=0)
        with saved_bytes(first) as saved:
            inputs = ", ".join(["latent_shape", *self.conditions, *self.constants])
            image = first_output(first, z.requires_grad_(), inputs)
        if not self.row_bytes[0]:
            ratio = prod(self.latent_shape) / prod(probe.latent_shape)
            self.row_bytes = (int(ratio * saved.whole), int(ratio * saved.checkpointed))
        if image.requires_grad:
            self._done.add("gradient")
        image = image.detach()
        if "checked" not in self._done and doubt_range(image):  # one may be an exception
            with frozen(self), torch.no_grad():
                self.check_images(torch.cat(list(probe._samples(16))))
        self._done.add("checked")
        if probe is self:
            return tuple(image.shape[1:])
        pixels = [side // count for side, count in zip(image.shape[2:], z.shape[2:], strict=True)]  # of one latent
        return (image.shape[1], *(n * count for n, count in zip(pixels, self.latent_shape[1:], strict=True)))

    def require_gradient(self) -> None:
        """Raise `InputError` unless images have a gradient."""
        if "gradient" not in self._done:
            self.output_shape()
        if "gradient" not in self._done:
            refuse_gradient(self.argument)

    def check_output_range(self) -> None:
        """Warn (`NetworkWarning`), once, if images suggest another `output_range`."""
        if "checked" not in self._done:
            self.output_shape()

    @checked
    def check_images(self, images: Tensor) -> None:
        """Warn (`NetworkWarning`), once, if given images suggest another `output_range`.

        Args:
            images: (B, C, H, W), of this generator.
        """
        doubt = "" if "range" in self._done else doubt_range(images)
        if not doubt:
            return
        low, high = self.output_range
        lowest, highest = (low + (high - low) * float(value) for value in percentiles(images))
        likely = likely_range(lowest, highest)
        if likely is not None:
            self.warn_once(
                "range",
                f"generator: it emits values from about {lowest:.3g} to {highest:.3g}, {doubt} its"
                f" output_range=({low:g}, {high:g}); is it output_range=({likely[0]:g}, {likely[1]:g})?",
            )

    @torch.no_grad()
    def is_deterministic(self) -> bool:
        """Return whether two calls give the same images (four forwards); if not, warn once (`NetworkWarning`)."""
        probe = self.probe()
        first, z = probe.take(torch.tensor([0, 0], device="cpu")), probe.latents(2, seed=0)
        with frozen(self):
            same = not is_randomised(first(z), first(z))
        if not same:
            self.warn_randomised()
        return same

    @torch.no_grad()
    def warn_randomised(self) -> None:
        """Warn (`NetworkWarning`), once, that images differ from one call to the next."""
        if "randomised" not in self._done:
            advice = noise_advice(
                self.module, lambda: self.take(torch.tensor([0], device="cpu"))(self.latents(1, seed=0))
            )
            self.warn_once("randomised", randomised_message("generator", "images") + advice)

    def warn_once(self, kind: str, message: str) -> None:
        """Warn (`NetworkWarning`), once of a kind for this generator and its copies.

        Args:
            kind: any text that tells this warning from others.
            message: what is told.
        """
        if kind not in self._done:
            self._done.add(kind)
            warn(message, NetworkWarning)

    def fused(self) -> Self:
        """Return a faster copy, equal up to rounding, for tasks with many evaluations.

        BatchNorm is folded into the layer before it, within each `nn.Sequential`; convolutions in single precision run
        with channels last. Sites of activations stay.

        Returns:
            The copy; the generator itself if the copy does not reproduce it, BatchNorm is in training mode, or its
            module is a function.

        Raises:
            InputError: the module does not take latents of `latent_shape`.
        """
        if any(isinstance(module, _BatchNorm) and module.training for module in self.modules()):
            return self
        self.output_shape()
        if not isinstance(self.module, nn.Module):
            return self
        fused, probe = self, self.probe()
        z = probe.latents(2, seed=0)
        two = torch.tensor([0, 0], device="cpu")
        with frozen(self), torch.no_grad():
            expected = probe.take(two)(z)
            try:
                fused = self.with_module(fold_batch_norm(self.module))  # the encoder is seldom evaluated
                same = torch.allclose(probe.with_module(fused.module).take(two)(z), expected, rtol=1e-4, atol=1e-5)
            except (RuntimeError, AttributeError, TypeError):  # it cannot be copied, or its owner looks into its layers
                same = False
        return fused if same else self


@torch.no_grad()
def finite_images(generator: GeneratorChecks, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return those of the latents (B, *latent_shape) whose images are finite, and the images (B, C, H, W).

    Raises:
        InputError: there is none.
    """
    with frozen(generator):
        images = generator(z)
    finite = images.flatten(1).isfinite().all(1)
    if not bool(finite.any()):
        raise InputError("generator", "finite images", f"NaN or infinity in all of {len(z)}")
    return (z, images) if bool(finite.all()) else (z[finite], images[finite])
