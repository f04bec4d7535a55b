"""Sources of latents that are not standard normal: mapping networks, distributions of torch, and parts with names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from latentopt.arguments import Values, as_tensor, checked
from latentopt.errors import InputError, as_shape, positive
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.networks.latents import Draw, LatentDistribution, Latents
from latentopt.networks.outputs import evaluate

MAPPED, CHUNK = 10_000, 1000
"""Number of latents from which the mean and scale of mapped ones are estimated, and of those mapped together."""


@checked
@dataclass(frozen=True, eq=False)
class MappedLatents:
    """Latents ``w = mapping(z)`` of normal numbers z, as of StyleGAN (arXiv 1812.04948).

    Args:
        mapping: mapping network, or a function, from z (B, *latent_shape) to w (B, ...); of several outputs the first
            tensor counts.
        latent_shape: shape of one z, 512 for (512,).
        copies: number of copies of w in one latent, of shape (copies, ...): the w+ of StyleGAN, one w for each layer.
            None: a latent is w.
        truncation: factor of the distance from the mean, > 0. Below 1 latents are more typical (the truncation trick).

    Raises:
        InputError: an argument is not as described.

    >>> w = MappedLatents(nn.Linear(8, 4), latent_shape=8, copies=3)
    >>> w.draw(2, torch.Generator().manual_seed(0)).shape
    torch.Size([2, 3, 4])
    """

    mapping: Callable[[Tensor], Any]
    latent_shape: int | Sequence[int]
    copies: int | None = None
    truncation: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "latent_shape", as_shape("MappedLatents.latent_shape", self.latent_shape))
        positive("MappedLatents.truncation", self.truncation)
        if self.copies is not None:
            positive("MappedLatents.copies", self.copies, integer=True)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw latents.

        Args:
            count: number of latents.
            generator: random numbers, of the CPU.

        Returns:
            (count, ...), or (count, copies, ...).
        """
        w = self._map(count, generator)
        if self.truncation != 1:
            mean = self._moments[0].to(w)
            w = mean + self.truncation * (w - mean)
        return w if self.copies is None else w[:, None].repeat_interleave(self.copies, 1)

    @property
    def mean(self) -> Tensor:
        """The mean, double, which truncation does not change; estimated once, from 10,000 latents."""
        return self._copied(self._moments[0])

    @property
    def scale(self) -> Tensor:
        """The standard deviation of each value, double."""
        return self._copied(self.truncation * self._moments[1])

    def _copied(self, w: Tensor) -> Tensor:
        return w if self.copies is None else w.expand(self.copies, *w.shape)

    @torch.no_grad()
    def _map(self, count: int, generator: torch.Generator) -> Tensor:
        """Return w (count, ...) of normal numbers, not truncated."""
        like = empty_like_parameters(self.mapping)
        z = torch.randn(count, *as_shape("latent_shape", self.latent_shape), generator=generator, device="cpu")
        with frozen(self.mapping):
            try:
                return evaluate(self.mapping, count, "mapping", None, z.to(like))
            except (RuntimeError, IndexError, ValueError) as error:
                if isinstance(error, InputError | torch.OutOfMemoryError):
                    raise
                expected = f"a network that takes latents of shape {tuple(z.shape)}"
                raise InputError("mapping", expected, str(error).splitlines()[0]) from error

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        """The mean and the standard deviation of w, not truncated."""
        generator = torch.Generator("cpu").manual_seed(0)
        chunks = (self._map(CHUNK, generator).cpu().double() for _ in range(MAPPED // CHUNK))
        first = next(chunks)
        origin, total, squares = first.mean(0), first.new_zeros(()), (first - first.mean(0)).square().sum(0)
        for w in chunks:
            total, squares = total + (w - origin).sum(0), squares + (w - origin).square().sum(0)
        shift = total / MAPPED
        return origin + shift, (squares / MAPPED - shift.square()).clamp_min(0).sqrt()


LatentsArgument = Values | Draw | Distribution | Mapping[str, Any] | MappedLatents | LatentDistribution | None
"""Distributions of latents that `latentopt.Generator` takes."""


@dataclass(frozen=True, eq=False)
class TorchLatents:
    """Latents of a distribution of torch.

    Args:
        distribution: its samples have the last axes of ``shape``; along the others they are independent. Axes of size 1
            of independent distributions stand for any size, as (C, 1, 1) for channels.
        shape: shape of one latent.
    """

    distribution: Distribution
    shape: tuple[int, ...]
    _expanded: Distribution = field(init=False)

    def __post_init__(self) -> None:
        own = (*self.distribution.batch_shape, *self.distribution.event_shape)
        tail = self.shape[len(self.shape) - len(own) :]
        fits = len(own) == len(tail) and all(size in (1, side) for size, side in zip(own, tail, strict=True))
        if own != tail and fits and not self.distribution.event_shape:
            object.__setattr__(self, "_expanded", self.distribution.expand(torch.Size(tail)))
            return
        object.__setattr__(self, "_expanded", self.distribution)
        if own != tail:
            expected = f"a distribution of latents of shape {self.shape}, or of their last axes"
            raise InputError("latents", expected, f"{type(self.distribution).__name__} of shape {own}")

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, *shape); torch's own random numbers stay as they are."""
        own = len(self._expanded.batch_shape) + len(self._expanded.event_shape)
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            try:
                return self._expanded.sample(torch.Size((count, *self.shape[: len(self.shape) - own])))
            except NotImplementedError as error:
                raise InputError("latents", "a distribution with samples", type(self.distribution).__name__) from error

    @property
    def mean(self) -> Tensor:
        return self._expanded.mean

    @property
    def scale(self) -> Tensor:
        return self._expanded.stddev

    def resized(self, shape: tuple[int, ...]) -> TorchLatents:
        """Return the distribution of latents of another shape."""
        return TorchLatents(self.distribution, shape)


@dataclass(frozen=True, eq=False)
class PartLatents:
    """Latents of several parts, independent of each other and joined to one vector.

    Args:
        parts: distribution of each part, in order.
    """

    parts: Mapping[str, Latents]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, n)."""
        return _join(part.draw(count, generator) for part in self.parts.values())

    @property
    def mean(self) -> Tensor:
        return _join(part.mean[None] for part in self.parts.values())[0]

    @property
    def scale(self) -> Tensor:
        return _join(part.scale[None] for part in self.parts.values())[0]

    def without(self, count: int, seed: int) -> tuple[Tensor, PartLatents]:
        """Draw ``count`` latents; return them and the distribution, without them where parts are samples."""
        drawn = {name: part.without(count, seed + index) for index, (name, part) in enumerate(self.parts.items())}
        rest = PartLatents({name: other for name, (_, other) in drawn.items()})
        return _join(z for z, _ in drawn.values()), rest


def _join(parts: Any) -> Tensor:
    return torch.cat([part.flatten(1).cpu() for part in parts], 1)


def as_latents(
    latents: LatentsArgument,
    shape: tuple[int, ...],
    part_shapes: Mapping[str, tuple[int, ...]],
    like: Tensor,
) -> Latents:
    """Return the distribution of latents that a `latentopt.Generator` is given.

    Args:
        latents: as the generator takes them.
        shape: shape of one latent.
        part_shapes: shapes of its parts by name; empty: it has none.
        like: tensor of the dtype and the device of samples in lists and arrays.

    Raises:
        InputError: they are not as described.
    """
    if isinstance(latents, Mapping):
        unknown = sorted(set(map(str, latents)) - set(part_shapes))
        if not part_shapes or unknown:
            expected = (
                f"distributions of the parts {', '.join(part_shapes)}"
                if part_shapes
                else "one, as the generator has no parts"
            )
            raise InputError("latents", expected, ", ".join(unknown) or "a mapping")
        parts = {name: as_latents(latents.get(name), own, {}, like) for name, own in part_shapes.items()}
        return Latents(shape, PartLatents(parts))
    if isinstance(latents, type):
        raise InputError("latents", "an object, not its class", latents.__name__)
    if isinstance(latents, nn.Module):
        expected = "latentopt.MappedLatents(mapping, latent_shape=...) of a mapping network"
        raise InputError("latents", expected, "a module")
    if isinstance(latents, Distribution):
        latents = TorchLatents(latents, shape)
    elif not (latents is None or isinstance(latents, Tensor) or callable(latents) or hasattr(latents, "draw")):
        latents = as_tensor("latents", cast(Values, latents), like)
    return Latents(shape, cast(Tensor | Draw | LatentDistribution | None, latents))
