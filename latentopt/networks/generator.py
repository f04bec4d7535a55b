"""Generators: latents in, images in [0, 1] out; and their form for many evaluations."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from math import prod
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from torch.nn.utils.parametrize import is_parametrized

from latentopt.batch_math import take
from latentopt.errors import InputError, positive, seed_within
from latentopt.networks.checks import empty_like_parameters, first_output, is_randomised, randomised_message, warn
from latentopt.networks.classifier import with_module
from latentopt.networks.freezing import frozen
from latentopt.networks.latents import Draw, Latents


class Generator(nn.Module):
    """A pretrained generator: latents in, images in [0, 1] out, or as far outside as the module leaves its range.

    Args:
        module: any module from latents (B, *latent_shape) to images (B, C, H, W).
        latent_shape: shape of one latent; or of several by name, which the module takes as keyword arguments: they
            are optimised together, as one vector (`parts` separates them).
        output_range: the (low, high) the module emits, mapped linearly to [0, 1].
        start_scale: standard deviation of the normal random latents that a search starts from; of other ``latents``,
            what their distance from their mean is multiplied by. Where the optimum is hard to reach, smaller than the
            training's 1 is better (.2 on a DCGAN).
        encoder: module from images (B, C, H, W) in [0, 1] to latents, (B, n), or (B, 2 n), their means first; None:
            there is none.
        latents: where latents come from, which starts, priors and `diagnose` go by: None, standard normal numbers; a
            sample of them, (N, *latent_shape), such as 10,000 rows of w; or a function of a count and a
            `torch.Generator` of the CPU to latents (count, *latent_shape), such as a mapping network of normal numbers.
            Several latents by name are one vector here too, in their order.

    Raises:
        InputError: `output_range` is empty, `start_scale` or a size is not positive, `latents` are not as described.
            `output_shape`, which every task calls, checks that `latent_shape` fits the module.

    >>> Generator(nn.Bilinear(2, 3, 1), latent_shape={"input1": (2,), "input2": (3,)}).latent_shape
    (5,)
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        latent_shape: Sequence[int] | Mapping[str, Sequence[int]],
        output_range: tuple[float, float] = (0.0, 1.0),
        start_scale: float = 1.0,
        encoder: nn.Module | None = None,
        latents: Tensor | Draw | None = None,
    ) -> None:
        super().__init__()
        low, high = output_range
        if not low < high:
            raise InputError("output_range", "(low, high) with low < high", output_range)
        positive("start_scale", start_scale)
        named, shape = dict[str, tuple[int, ...]](), tuple[int, ...]()
        if isinstance(latent_shape, Mapping):
            named = {name: tuple(sizes) for name, sizes in latent_shape.items()}
            shape = (sum(map(prod, named.values())),)
        else:
            shape = tuple(latent_shape)
        for size in [*shape, *(size for each in named.values() for size in each)]:
            positive("latent_shape", size, integer=True)
        self.module, self.encoder = module, encoder
        self.latent_shape, self.output_range, self.start_scale = shape, (low, high), start_scale
        self.part_shapes, self.distribution = named, Latents(shape, latents)
        self.conditions: dict[str, Tensor] = {}
        self._emitted: tuple[float, float] | None = None
        self._said = set[str]()  # of this generator and its copies: what was looked at and warned of

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, C, H, W) in [0, 1] of latents ``z`` (B, *latent_shape)."""
        if z.shape[1:] != self.latent_shape:
            raise InputError("latents", f"shape (B, {', '.join(map(str, self.latent_shape))})", tuple(z.shape))
        given = {name: _as_many(name, value.to(z.device), len(z)) for name, value in self.conditions.items()}
        image = self.module(**self.parts(z), **given) if self.part_shapes else self.module(z, **given)
        low, high = self.output_range
        return (image - low) / (high - low)

    def parts(self, z: Tensor) -> dict[str, Tensor]:
        """The latents (B, *shape) by name of ``z`` (B, n)."""
        sizes = [prod(shape) for shape in self.part_shapes.values()]
        flat = zip(self.part_shapes.items(), z.split(sizes, 1), strict=True)
        return {name: part.reshape(len(z), *shape) for (name, shape), part in flat}

    def given(self, **conditions: Tensor) -> Self:
        """The same generator under conditions: keyword arguments of the module, one (B, ...) for each sample.

        Every sample of a batch has its own class or attributes. One condition (1, ...) holds for all samples.
        """
        for name, value in conditions.items():
            if not isinstance(value, Tensor) or not value.ndim or not len(value):
                raise InputError(name, "a tensor (B, ...)", getattr(value, "shape", type(value).__name__))
        conditioned = copy.copy(self)
        conditioned.conditions, conditioned._emitted = {**self.conditions, **conditions}, None
        return conditioned

    def take(self, rows: Tensor) -> Self:
        """The generator of the samples ``rows`` (long)."""
        own = {name: value[rows.to(value.device)] for name, value in self.conditions.items() if len(value) > 1}
        taken, module = self.given(**own) if own else self, take(self.module, rows)
        return taken if module is self.module else with_module(taken, module)

    def latents(self, count: int, seed: int) -> Tensor:
        """``count`` latents (count, *latent_shape) of the generator's own distribution, standard normal by default.

        Raises:
            InputError: the seed is no integer of 64 bits.
        """
        seed_within(seed, most=2**64 - 1)
        return self.distribution.draw(count, torch.Generator().manual_seed(seed)).to(empty_like_parameters(self))

    def held_out(self, count: int, seed: int) -> tuple[Tensor, Self]:
        """``count`` latents, and the generator without them, where its latents are those of a sample."""
        z, rest = self.distribution.without(count, seed)
        other = copy.copy(self)
        other.distribution = rest
        return z.to(empty_like_parameters(self)), other if rest is not self.distribution else self

    @torch.no_grad()
    def emitted(self) -> tuple[float, float]:
        """The least and the greatest value of images of 64 latents and of twice these; at least from 0 to 1.

        64 + 64 forwards, once.
        """
        if self._emitted is None:
            with frozen(self):
                images = [image for scale in (1.0, 2.0) for image in self._samples(64, scale)]
            low, high = min(float(image.min()) for image in images), max(float(image.max()) for image in images)
            self._emitted = min(low, 0.0), max(high, 1.0)
        return self._emitted

    def _samples(self, count: int, scale: float = 1.0) -> Iterator[Tensor]:
        """Images of ``count`` latents, times ``scale``, a few at a time; under the first conditions in turn."""
        conditions = max(map(len, self.conditions.values()), default=1)
        for number, z in enumerate(self.latents(count, seed=0).split(8)):
            yield self.take(torch.tensor([number % conditions]))(scale * z)

    def output_shape(self) -> tuple[int, ...]:
        """Shape of one image, found by a forward pass."""
        first = self.take(torch.tensor([0]))
        image = first_output(first, self.latents(1, seed=0), "latent_shape")
        if "looked" not in self._said and _share_outside(image) > WRONG:  # one may be an exception
            with frozen(self), torch.no_grad():
                self.look_at(torch.cat(list(self._samples(16))))
        self._said.add("looked")
        return tuple(image.shape[1:])

    def look(self) -> None:
        """Warn (`NetworkWarning`), once, where a look at images shows that the `output_range` is another."""
        if "looked" not in self._said:
            self.output_shape()

    def look_at(self, images: Tensor) -> None:
        """`look`, at images (B, C, H, W) that are there."""
        share = _share_outside(images)
        if "range" in self._said or not share > WRONG:
            return
        low, high = self.output_range
        least, most = (low + (high - low) * float(end) for end in _ends(images))
        likely = _likely(least, most)
        if likely is not None:
            words = (
                f"generator: it emits values from about {least:.3g} to {most:.3g}, {share:.0%} of them far outside its"
            )
            words += f" output_range=({low:g}, {high:g}); is it output_range=({likely[0]:g}, {likely[1]:g})?"
            self._say("range", words)

    @torch.no_grad()
    def repeats(self) -> bool:
        """Whether two calls give the same images; else it warns (`NetworkWarning`), once. Four forwards."""
        first, z = self.take(torch.tensor([0, 0])), self.latents(2, seed=0)
        with frozen(self):
            same = not is_randomised(first(z), first(z))
        if not same:
            self.say_randomised()
        return same

    def say_randomised(self) -> None:
        """Warn, once, that images differ from one call to the next."""
        self._say("randomised", randomised_message("generator", "images"))

    def _say(self, kind: str, words: str) -> None:
        if kind not in self._said:
            self._said.add(kind)
            warn(words)

    def fast(self) -> Self:
        """A copy that computes the same up to rounding, sooner: for tasks that evaluate it many times.

        BatchNorm is folded into the layer before it, within each `nn.Sequential`; convolutions in single precision run
        with channels last. Sites of activations stay where they were. Where the copy does not reproduce the module, or
        BatchNorm is in training mode, the generator itself.

        Raises:
            InputError: the module does not take latents of `latent_shape`.
        """
        if any(isinstance(module, _BatchNorm) and module.training for module in self.modules()):
            return self
        self.output_shape()
        swift, z = copy.copy(self), self.latents(2, seed=0)
        two = torch.tensor([0, 0])
        with frozen(self), torch.no_grad():
            expected = self.take(two)(z)
            try:
                swift._modules = {**self._modules, "module": _folded(self.module)}  # the encoder is seldom evaluated
                same = torch.allclose(swift.take(two)(z), expected, rtol=1e-4, atol=1e-5)
            except (RuntimeError, AttributeError, TypeError):  # it cannot be copied, or its owner looks into its layers
                same = False
        return swift if same else self


WRONG = 0.2
"""Of the values that a generator emits: a greater share far outside its range is a range that is another's."""
RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (-127.5, 127.5))
"""Those that generators usually have."""


def _share_outside(images: Tensor) -> float:
    """Of values further outside [0, 1] than a tenth of it, as a last layer without bounds may go."""
    return ((images < -0.1) | (images > 1.1)).double().mean().item()


def _ends(images: Tensor) -> tuple[Tensor, Tensor]:
    """Between which all but a hundredth at each end of the values lie."""
    values = images.flatten()
    values = values[:: 1 + len(values) // 1_000_000].sort().values
    few = len(values) // 100
    return values[few], values[len(values) - 1 - few]


def _likely(low: float, high: float) -> tuple[float, float] | None:
    """The usual range that values from ``low`` to ``high`` fill; None: they look like no range at all."""
    for least, most in RANGES:
        slack = (most - least) / 10
        if least - slack <= low and high <= most + slack and high - low > 4 * slack:
            return least, most
    return None


def _as_many(name: str, condition: Tensor, count: int) -> Tensor:
    """A condition for each of ``count`` rows, which are copies of its samples."""
    copies, rest = divmod(count, len(condition))
    if rest:
        raise InputError(name, f"1 or {count} conditions, one a sample", len(condition))
    return condition.repeat(copies, *[1] * (condition.ndim - 1))


def _folded(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module).requires_grad_(False)
    for sequence in [m for m in module.modules() if isinstance(m, nn.Sequential)]:
        for (before, layer), (name, norm) in pairwise(list(sequence._modules.items())):
            merged = _merged(layer, norm) if layer is not None and isinstance(norm, _BatchNorm) else None
            if merged is not None:  # each layer keeps its name, by which the module's owner may call it
                sequence._modules |= {before: merged, name: nn.Identity()}
    if all(p.dtype == torch.float32 for p in module.parameters()):
        module = module.to(memory_format=torch.channels_last)
    return module


def _merged(layer: nn.Module, norm: _BatchNorm) -> nn.Module | None:
    """The layer that does the work of both; None where there is none."""
    if norm.running_mean is None or layer._forward_hooks or norm._forward_hooks or is_parametrized(layer):
        return None
    if isinstance(layer, nn.Linear):
        return fuse_linear_bn_eval(layer, norm)
    if isinstance(layer, nn.modules.conv._ConvNd) and not (layer.transposed and layer.groups > 1):  # torch cannot
        return fuse_conv_bn_eval(layer, norm, transpose=layer.transposed)
    return None
