"""Pretrained generators, from latents to images in [0, 1]."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from math import prod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from latentopt._deprecated import renamed_methods
from latentopt.arguments import Values, as_tensor, checked
from latentopt.batch_math import take
from latentopt.errors import InputError, as_shape, nonnegative, positive, seed_within
from latentopt.networks.checks import (
    empty_like_parameters,
)
from latentopt.networks.classifier import check_range
from latentopt.networks.conditions import condition_tensor, repeat_condition
from latentopt.networks.generator_memory import GeneratorMemory
from latentopt.networks.latent_sources import LatentsArgument, as_latents
from latentopt.networks.outputs import Pick
from latentopt.networks.scaling import GradientScaling


@renamed_methods(
    emitted="emitted_range",
    fast="fused",
    held_out="hold_out",
    look="check_output_range",
    look_at="check_images",
    repeats="is_deterministic",
    say_randomised="warn_randomised",
)
class Generator(GeneratorMemory):
    """A pretrained generator, from latents to images in [0, 1].

    Args:
        module: any module, or function, from latents (B, *latent_shape) to images (B, C, H, W), or to several outputs
            of which these are one.
        latent_shape: shape of one latent, 8 for (8,); or shapes of several latents by name, which the module takes as
            keyword arguments. They are optimised together, as one vector (`parts` splits it).
        output_range: (low, high) of the module's images, mapped linearly to [0, 1]. Values may lie outside.
        start_scale: standard deviation of the normal random latents that a search starts from. Other ``latents`` have
            their distance from the mean multiplied by it. Where the optimum is hard to reach, less than the training's
            1 is better (.2 on a DCGAN).
        encoder: module from images (B, C, H, W) in [0, 1] to latents (B, n), or to (B, 2 n), their means first; or to a
            tuple that begins with the means, or a `torch.distributions.Distribution` of them. None: there is none.
        latents: distribution of the latents, for starts, priors and `diagnose`. None: standard normal. A
            `torch.distributions.Distribution` of latents or of their last axes. `latentopt.MappedLatents` of a mapping
            network. A sample (N, *latent_shape), such as 10,000 rows of w. A function of a count and a
            `torch.Generator` of the CPU to latents (count, *latent_shape). An object with such a method ``draw``,
            ``mean`` and ``scale``, (*latent_shape). Of several latents by name: one of these for the joined vectors;
            or a mapping of these by name, independent of each other, where those without are standard normal.
        pick: choice among several outputs: an index, a name, or a function of all that the module returns. None: the
            first tensor.

    Raises:
        InputError: `output_range` is empty, `start_scale` or a size is not positive, `latents` are not as described.
            `output_shape`, which every task calls, checks that `latent_shape` fits the module.

    >>> Generator(nn.Bilinear(2, 3, 1), latent_shape={"input1": (2,), "input2": (3,)}).latent_shape
    (5,)
    """

    argument = "generator"
    description: ClassVar[str] = (
        "a latentopt.Generator, such as lo.Generator(module, latent_shape=(64,), output_range=(-1, 1))"
    )
    """Its name in messages of `latentopt.arguments`."""

    @checked
    def __init__(
        self,
        module: Callable[..., Any],
        *,
        latent_shape: int | Sequence[int] | Mapping[str, int | Sequence[int]],
        output_range: tuple[float | Tensor, float | Tensor] | Tensor = (0.0, 1.0),
        start_scale: float = 1.0,
        encoder: nn.Module | None = None,
        latents: LatentsArgument = None,
        pick: Pick | None = None,
    ) -> None:
        super().__init__(module, pick)
        low, high = map(float, check_range(output_range, name="output_range"))
        if not math.isfinite(high - low):
            raise InputError("output_range", "finite ends", f"({low:g}, {high:g})")
        positive("start_scale", start_scale)
        part_shapes = dict[str, tuple[int, ...]]()
        if isinstance(latent_shape, Mapping):
            part_shapes = {name: as_shape("latent_shape", sizes) for name, sizes in latent_shape.items()}
            shape = (sum(map(prod, part_shapes.values())),)
        else:
            shape = as_shape("latent_shape", latent_shape)
        self.encoder = encoder
        self.trained_encoder: Path | None = None  # file of an encoder trained on its samples (`latentopt.load`)
        self.latent_shape, self.output_range, self.start_scale = shape, (low, high), start_scale
        self.part_shapes = part_shapes
        space = getattr(module, "space", None)
        self.space = ", ".join(part_shapes) or (space if isinstance(space, str) else "latents")  # name of the latents
        self.distribution = as_latents(latents, shape, part_shapes, empty_like_parameters(module))
        self.conditions: dict[str, Tensor] = {}
        self.constants: dict[str, Any] = {}
        self._emitted_range: tuple[float, float] | None = None
        self._done = set[str]()  # checks and warnings that this generator and its copies do once

    def forward(self, z: Values) -> Tensor:
        """Generate images.

        Args:
            z: latents (B, *latent_shape).

        Returns:
            (B, C, H, W) in [0, 1], or outside as far as the module leaves its range.

        Raises:
            InputError: the shape of ``z`` is another, the number of conditions does not fit, the module lacks one, or
                its output is no tensor of numbers with a row for each latent.
        """
        if not isinstance(z, Tensor):
            z = as_tensor("latents", z, empty_like_parameters(self))
        if not z.ndim or z.shape[1:] != self.latent_shape:
            raise InputError("latents", f"shape (B, {', '.join(map(str, self.latent_shape))})", tuple(z.shape))
        given = {name: value.to(z.device) for name, value in self.conditions.items()}
        conditions = {name: repeat_condition(name, value, len(z)) for name, value in given.items()}
        own = z.clone()  # the module may change it in place
        scaling = GradientScaling() if self.precision and own.requires_grad else None
        if scaling:
            own = scaling.first(own)
        inputs, parts = ((), self.parts(own)) if self.part_shapes else ((own,), {})
        with torch.autocast(z.device.type, self.precision) if self.precision else nullcontext():
            image = self.evaluate(len(z), *inputs, **parts, **conditions, **self.constants)
        if self.precision:
            image = image.to(z.dtype)
        if scaling:
            image = scaling.last(image)
        if image.is_complex():
            raise InputError("generator", "images of real numbers", image.dtype)
        if image.ndim < 2 or 0 in image.shape[1:]:
            raise InputError("generator", f"images, shape ({len(z)}, ...)", f"shape {tuple(image.shape)}")
        if image.dtype == torch.float64 or not image.is_floating_point():
            image = image.to(z.dtype)
        low, high = self.output_range
        return (image - low) / (high - low)

    @checked
    def parts(self, z: Tensor) -> dict[str, Tensor]:
        """Split latent vectors into the parts that have names.

        Args:
            z: (B, n).

        Returns:
            Latents (B, *shape) by name.
        """
        sizes = [prod(shape) for shape in self.part_shapes.values()]
        if z.ndim != 2 or z.shape[1] != sum(sizes):
            raise InputError("latents", f"shape (B, {sum(sizes)})", f"shape {tuple(z.shape)}")
        flat = zip(self.part_shapes.items(), z.split(sizes, 1), strict=True)
        return {name: part.reshape(len(z), *shape) for (name, shape), part in flat}

    @checked
    def join(self, parts: Mapping[str, Values]) -> Tensor:
        """Join latents by name into vectors; the inverse of `parts`.

        Args:
            parts: of each name latents (..., *shape), with the same axes in front.

        Returns:
            (..., n).

        Raises:
            InputError: a name is missing or unknown, or latents have another shape.
        """
        if not self.part_shapes:
            raise InputError("latents", "one tensor, as this generator has no parts", "parts by name")
        if set(parts) != set(self.part_shapes):
            raise InputError("latents", f"the parts {', '.join(self.part_shapes)}", ", ".join(map(str, parts)))
        like, flat = empty_like_parameters(self), list[Tensor]()
        for name, shape in self.part_shapes.items():
            z = as_tensor(name, parts[name], like)
            if z.shape[z.ndim - len(shape) :] != shape:
                raise InputError(name, f"shape (..., {', '.join(map(str, shape))})", f"shape {tuple(z.shape)}")
            flat.append(z.reshape(*z.shape[: z.ndim - len(shape)], -1))
        if len({z.shape[:-1] for z in flat}) > 1:
            got = ", ".join(f"{name} {tuple(z.shape)}" for name, z in zip(self.part_shapes, flat, strict=True))
            raise InputError("latents", "parts with the same axes in front", got)
        return torch.cat(flat, -1)

    def require_space(self, name: str, space: str | None, origin: str = "a result") -> None:
        """Check that latents are of this generator's space, where the name of theirs is known.

        Args:
            name: of the argument that they are, for the message.
            space: name of their space, such as ``w``, or of their parts. None: unknown.
            origin: description of where they come from.

        Raises:
            InputError: they are of another space.
        """
        if space is not None and space != self.space:
            raise InputError(name, f"latents of the space {self.space}", f"those of {origin} in {space}")

    def given(self, **conditions: Any) -> Self:
        """Return the generator under conditions, such as classes or attributes, and with settings of its forward.

        Args:
            conditions: keyword arguments of the module. Tensors, arrays and lists are conditions, (B, ...), one for
                each sample, or (1, ...) for all. All else, such as ``truncation=0.4, noise_mode="const"``, is passed as
                it is.

        Returns:
            A generator that shares the module.

        Raises:
            InputError: a condition has no batch dimension, or no numbers.
        """
        tensors = dict[str, Tensor]()
        for name, value in conditions.items():
            if isinstance(value, Tensor | list | tuple) or getattr(value, "ndim", 0):
                tensors[name] = condition_tensor(name, value, empty_like_parameters(self))
        constants = {name: value for name, value in conditions.items() if name not in tensors}
        conditioned = copy.copy(self)
        conditioned.conditions = {n: v for n, v in self.conditions.items() if n not in constants} | tensors
        conditioned.constants = {n: v for n, v in self.constants.items() if n not in tensors} | constants
        conditioned._emitted_range = None
        return conditioned

    def take(self, rows: Tensor) -> Self:
        """Return the generator of some samples, with their conditions.

        Args:
            rows: (count,) long, indices of samples.

        Returns:
            The generator for a batch of ``count``.
        """
        own = {name: value[rows.to(value.device)] for name, value in self.conditions.items() if len(value) > 1}
        chosen, module = self.given(**own) if own else self, take(self.module, rows)
        return chosen if module is self.module else chosen.with_module(module)

    @checked
    def latents(self, count: int, seed: int) -> Tensor:
        """Draw latents from the generator's own distribution.

        Args:
            count: number of latents.
            seed: of the random numbers.

        Returns:
            (count, *latent_shape).

        Raises:
            InputError: the count is negative, or the seed no integer of 64 bits.
        """
        nonnegative("count", count, integer=True)
        seed_within(seed, most=2**64 - 1)
        return self.distribution.draw(count, torch.Generator("cpu").manual_seed(seed)).to(empty_like_parameters(self))

    @checked
    def resized(self, image_size: int | Sequence[int]) -> Self:
        """Return the generator of images of another size, where its module takes latents of any size.

        Args:
            image_size: height and width in pixels; one number for both.

        Returns:
            A generator that shares the module. Its latents (C, h, w) become (C, h', w').

        Raises:
            InputError: the size is no multiple of the pixels of one latent, the module makes images of one size alone,
                or the distribution of the latents, a sample or a function, has one size.
        """
        size = as_shape("image_size", image_size)
        size = size * 2 if len(size) == 1 else size
        image, latent = self.output_shape(), self.latent_shape
        if len(size) != 2 or len(image) != 3 or len(latent) != 3:
            got = f"{size} for latents {latent} and images {image}"
            raise InputError("image_size", "height and width, of a generator from (C, h, w) to (C, H, W)", got)
        factors = [pixels // count for pixels, count in zip(image[1:], latent[1:], strict=True)]
        if any(pixels % factor for pixels, factor in zip(size, factors, strict=True)):
            near = tuple(max(1, round(pixels / factor)) * factor for pixels, factor in zip(size, factors, strict=True))
            raise InputError(
                "image_size", f"multiples of {factors[0]} and {factors[1]} pixels, such as {near}", f"{size}"
            )
        resized = copy.copy(self)
        resized.latent_shape = (latent[0], size[0] // factors[0], size[1] // factors[1])
        resized.distribution = self.distribution.resized(resized.latent_shape)
        resized._emitted_range, resized.row_bytes = None, (0, 0)
        if resized.output_shape() != (image[0], *size):
            raise InputError("image_size", f"{image[1:]}, as the module makes no others", f"{size}")
        return resized

    @checked
    def hold_out(self, count: int, seed: int) -> tuple[Tensor, Self]:
        """Draw latents, and remove them from the sample that the distribution is, if it is one.

        Args:
            count: number of latents.
            seed: of the random numbers.

        Returns:
            Latents (count, *latent_shape), and the generator whose distribution lacks them.
        """
        nonnegative("count", count, integer=True)
        seed_within(seed)
        z, rest = self.distribution.without(count, seed)
        other = copy.copy(self)
        other.distribution = rest
        return z.to(empty_like_parameters(self)), other if rest is not self.distribution else self
