"""Distributions of a generator's latents, and the feasible sets made from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import ceil
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from latentopt.arguments import as_tensor
from latentopt.errors import InputError
from latentopt.noise import Noise
from latentopt.sets import Free, Sphere

Draw = Callable[[int, torch.Generator], Tensor]
"""Maps a count and a random number generator of the CPU to latents (count, *shape)."""
MOMENTS = 2048
"""Number of latents from which the mean and scale of a function are estimated."""


@runtime_checkable
class LatentDistribution(Protocol):
    """A distribution of latents whose mean and standard deviation are known."""

    def draw(self, count: int, generator: torch.Generator, /) -> Tensor:
        """Draw ``count`` latents (count, *shape)."""
        ...

    @property
    def mean(self) -> Tensor | float:
        """The mean, which broadcasts to (*shape)."""
        ...

    @property
    def scale(self) -> Tensor | float:
        """The standard deviation of each value, which broadcasts to (*shape)."""
        ...


@dataclass(frozen=True, eq=False)
class Latents:
    """The distribution of a generator's latents.

    Args:
        shape: shape of one latent.
        source: None: standard normal. A sample (N, *shape), N >= 2: rows are drawn, none twice before all. A function,
            whose mean and scale are estimated. Or an object that knows them.

    Raises:
        InputError: the sample, or what the source draws, is not as described, or not finite.
    """

    shape: tuple[int, ...]
    source: Tensor | Draw | LatentDistribution | None = None

    def __post_init__(self) -> None:
        if isinstance(self.source, Tensor):
            if self.source.ndim == 0 or len(self.source) < 2:
                raise InputError("latents", "a sample of at least 2", f"shape {tuple(self.source.shape)}")
            self._checked(self.source, len(self.source))

    @torch.no_grad()
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, *shape)."""
        if self.source is None:
            return torch.randn(count, *self.shape, generator=generator, device=generator.device)
        if not isinstance(self.source, Tensor):
            draw = cast(Draw, getattr(self.source, "draw", self.source))
            return self._checked(draw(count, generator), count)
        size, device = len(self.source), generator.device
        orders = [torch.randperm(size, generator=generator, device=device) for _ in range(ceil(count / size))]
        return self.source.detach()[torch.cat(orders)[:count].to(self.source.device)]

    def _checked(self, z: object, count: int) -> Tensor:
        if not isinstance(z, Tensor) or not z.is_floating_point() or z.shape != (count, *self.shape):
            got = f"{z.dtype} of shape {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise InputError("latents", f"floating-point numbers of shape {(count, *self.shape)}", got)
        if not bool(z.isfinite().all()):
            raise InputError("latents", "finite numbers", "NaN or infinity")
        return z

    @property
    def mean(self) -> Tensor:
        """The mean (*shape)."""
        return self._moments[0]

    @property
    def scale(self) -> Tensor:
        """The standard deviation (*shape) of each value; a little more than 0 where it is 0."""
        return self._moments[1]

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        if self.source is None:
            return torch.zeros(self.shape, device="cpu"), torch.ones(self.shape, device="cpu")
        mean, scale = self._known_moments() or self._estimated_moments()
        if not bool(scale.any()):
            raise InputError("latents", "ones that differ", "all alike")
        return mean, scale.clamp_min(1e-3 * float(scale.square().mean().sqrt()))

    def _estimated_moments(self) -> tuple[Tensor, Tensor]:
        z = (
            self.source
            if isinstance(self.source, Tensor)
            else self.draw(MOMENTS, torch.Generator("cpu").manual_seed(0))
        )
        z = z.detach().cpu().double()
        return z.mean(0), z.std(0, correction=0)

    def _known_moments(self) -> tuple[Tensor, Tensor] | None:
        """Return the mean and the scale that the source knows; None where it does not."""
        if isinstance(self.source, Tensor) or not hasattr(self.source, "draw"):
            return None
        source = cast(LatentDistribution, self.source)
        try:
            values = {"mean": source.mean, "scale": source.scale}
        except NotImplementedError:  # of some distributions of torch
            return None
        moments = list[Tensor]()
        for name, value in values.items():
            moment = as_tensor(f"latents.{name}", value, torch.empty(0, dtype=torch.float64, device="cpu"))
            try:
                moment = moment.expand(self.shape)
            except RuntimeError as error:
                raise InputError(f"latents.{name}", f"numbers of shape {self.shape}", tuple(moment.shape)) from error
            if not bool(moment.isfinite().all()) or (name == "scale" and bool((moment < 0).any())):
                raise InputError(f"latents.{name}", "finite numbers, a scale >= 0", "others")
            moments.append(moment)
        return moments[0], moments[1]

    def resized(self, shape: tuple[int, ...]) -> Latents:
        """Return the distribution of latents (C, h, w) of another height and width.

        Raises:
            InputError: it is that of a sample or a function, which have one shape, and the other one is larger.
        """
        source, larger = self.source, any(side > own for side, own in zip(shape, self.shape, strict=True))
        if source is None:
            return Latents(shape)
        if resized := getattr(source, "resized", None):
            try:
                return Latents(shape, resized(shape))
            except InputError:  # it has values for each place
                if larger:
                    raise
        if larger:
            raise InputError("latents", "None, or a distribution of torch, for larger images", type(source).__name__)
        return Latents(shape, Cropped(self, shape))

    def without(self, count: int, seed: int) -> tuple[Tensor, Latents]:
        """Draw ``count`` latents; return them and the distribution, without them if it is that of a sample."""
        generator = torch.Generator("cpu").manual_seed(seed)
        source: Any = self.source
        if hasattr(source, "without"):  # of parts
            z, rest = source.without(count, seed)
            return z, Latents(self.shape, rest)
        if not isinstance(self.source, Tensor):
            return self.draw(count, generator), self
        if count > len(self.source) - 2:
            raise InputError("samples", f"at most {len(self.source) - 2}, which leaves 2 latents", count)
        order = torch.randperm(len(self.source), generator=generator, device="cpu").to(self.source.device)
        return self.source.detach()[order[:count]], Latents(self.shape, self.source[order[count:]])


@dataclass(frozen=True, eq=False)
class Cropped:
    """The first rows and columns of latents (C, h, w).

    Args:
        latents: their distribution.
        shape: (C, h', w'), not larger.
    """

    latents: Latents
    shape: tuple[int, ...]

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw ``count`` latents (count, *shape)."""
        return self._crop(self.latents.draw(count, generator))

    @property
    def mean(self) -> Tensor:
        return self._crop(self.latents.mean)

    @property
    def scale(self) -> Tensor:
        return self._crop(self.latents.scale)

    def _crop(self, z: Tensor) -> Tensor:
        return z[..., : self.shape[-2], : self.shape[-1]]


@dataclass(frozen=True, eq=False)
class Around(Free):
    """The whole space; random points are latents, ``scale`` times as far from their mean.

    Args:
        scale: factor of the distance, >= 0.
        latents: the distribution.
    """

    latents: Latents = field(kw_only=True)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        mean = self.latents.mean.to(like)
        return mean + self.scale * (noise.custom(self.latents.draw, like, "start") - mean)

    def radius(self, like: Tensor) -> Tensor:
        return self.scale * self.latents.scale.norm().to(like)

    def jitter_scale(self, like: Tensor) -> Tensor:
        """Return the typical distance of a latent from the mean; of several rows (k, n), such as layers, of one."""
        return self.latents.scale.norm(dim=-1).mean().to(like)


@dataclass(frozen=True, eq=False)
class Spheres(Sphere):
    """The points (B, *shape) whose parts lie each on a sphere; not convex.

    Args:
        size: distance of the points from the centre, the root of the sum of the squared radii.
        parts: (number of values, radius > 0) of each part of the flattened point, in order.
        latents: distribution whose mean is the centre; random points are drawn from it and projected.
    """

    parts: Sequence[tuple[int, float]]
    latents: Latents

    @classmethod
    def around(cls, latents: Latents, sizes: Sequence[int]) -> Spheres:
        """Make spheres on which each part, of ``sizes`` values, is as far from the mean as on average (RMS)."""
        radii = [float(scale.norm()) for scale in latents.scale.flatten().split(list(sizes))]
        parts = tuple(zip(sizes, radii, strict=True))
        return cls(sum(radius**2 for radius in radii) ** 0.5, parts, latents)

    def project(self, x: Tensor) -> Tensor:
        center = self.latents.mean.to(x)
        return center + self._project_parts(x - center)

    def sample(self, like: Tensor, noise: Noise) -> Tensor:
        return self.project(noise.custom(self.latents.draw, like, "start"))

    def lmo(self, grad: Tensor) -> Tensor:
        return self.latents.mean.to(grad) - self._project_parts(grad)

    def _project_parts(self, x: Tensor) -> Tensor:
        flat = zip(x.flatten(1).split([size for size, _ in self.parts], 1), self.parts, strict=True)
        return torch.cat([Sphere(radius).project(part) for part, (_, radius) in flat], 1).reshape(x.shape)
