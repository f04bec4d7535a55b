"""Unknown parameters of operators: their priors, and how they are read from latents."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.arguments import checked
from latentopt.batch_math import cpu_tensor
from latentopt.errors import InputError, as_shape, first_line, positive
from latentopt.noise import normal_by_value
from latentopt.operators.base import Operator


class ParameterPrior(ABC):
    """The prior of an unknown parameter: a map from independent standard normal numbers to its values."""

    shape: tuple[int, ...]
    step: float

    @abstractmethod
    def __call__(self, u: Tensor) -> Tensor:
        """Map standard normal numbers (B, *shape) to values (B, *shape)."""

    def _check(self, *numbers: float) -> None:
        name = type(self).__name__
        if not all(map(math.isfinite, numbers)):
            raise InputError(name, "finite bounds, without which a parameter has no prior", numbers)
        object.__setattr__(self, "shape", as_shape(f"{name}.shape", self.shape) if self.shape else ())
        positive(f"{name}.step", self.step)


@checked
@dataclass(frozen=True)
class Uniform(ParameterPrior):
    """A parameter that is uniform between two bounds.

    Args:
        low: lower bound.
        high: upper bound, above ``low``.
        shape: shape of the parameter of one image; (): a number.
        step: factor of its step sizes, > 0: the search runs in u / step, where u is a standard normal number.
    """

    low: float
    high: float
    shape: tuple[int, ...] = ()
    step: float = 1.0

    def __post_init__(self) -> None:
        self._check(self.low, self.high)
        if self.low >= self.high:
            raise InputError("Uniform.low", "below high", f"{self.low}, {self.high}")

    def __call__(self, u: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.special.ndtr(u)


@checked
@dataclass(frozen=True)
class LogUniform(ParameterPrior):
    """A parameter > 0 whose logarithm is uniform between two bounds.

    Args:
        low: lower bound, > 0.
        high: upper bound, above ``low``.
        shape, step: as of `Uniform`.
    """

    low: float
    high: float
    shape: tuple[int, ...] = ()
    step: float = 1.0

    def __post_init__(self) -> None:
        self._check(self.low, self.high)
        if not 0 < self.low < self.high:
            raise InputError("LogUniform.low", "above 0 and below high", f"{self.low}, {self.high}")

    def __call__(self, u: Tensor) -> Tensor:
        return self.low * (self.high / self.low) ** torch.special.ndtr(u)


@checked
@dataclass(frozen=True)
class Normal(ParameterPrior):
    """A normal parameter.

    Args:
        mean: the mean.
        std: standard deviation, > 0.
        shape, step: as of `Uniform`.
    """

    mean: float
    std: float
    shape: tuple[int, ...] = ()
    step: float = 1.0

    def __post_init__(self) -> None:
        self._check(self.mean, self.std)
        positive("Normal.std", self.std)

    def __call__(self, u: Tensor) -> Tensor:
        return self.mean + self.std * u


@checked
@dataclass(frozen=True)
class Simplex(ParameterPrior):
    """Weights >= 0 that sum to 1: the softmax of normal numbers.

    Args:
        shape: shape of the weights of one image.
        spread: standard deviation of the normal numbers, > 0; the larger, the fewer weights count.
        step: as of `Uniform`.
    """

    shape: tuple[int, ...]
    spread: float = 2.0
    step: float = 1.0

    def __post_init__(self) -> None:
        self._check(self.spread)
        positive("Simplex.spread", self.spread)

    def __call__(self, u: Tensor) -> Tensor:
        return (self.spread * u).flatten(1).softmax(1).reshape(u.shape)


class BlindOperator(Operator):
    """An operator with unknown parameters, which `latentopt.reconstruct` finds with the latents.

    Each parameter is a part of the latents, as many standard normal numbers as it has values, which its prior maps to
    the values. So every start, prior of latents and method finds them as it finds the latents. Called without
    parameters, it measures images by ones drawn from their priors, for each image by its own values.
    """

    seed: int = 0

    @property
    @abstractmethod
    def priors(self) -> Mapping[str, ParameterPrior]:
        """The priors by parameter."""

    @abstractmethod
    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        """Measure images (B, C, H, W) by parameters (B, *shape)."""

    @property
    def size(self) -> int:
        """The number of values of all parameters of one image."""
        return sum(prod(prior.shape) for prior in self.priors.values())

    def values(self, z: Tensor) -> dict[str, Tensor]:
        """Read the parameters from latents, such as `Result.x`.

        Args:
            z: (B, n), whose last `size` values are those of the parameters.

        Returns:
            Values (B, *shape) by name.

        Raises:
            InputError: the latents are fewer than the parameters.
        """
        if z.ndim < 2 or z[0].numel() < self.size:
            raise InputError("z", f"latents (B, n), n >= {self.size}, such as found.x", tuple(z.shape))
        flat = z.flatten(1)[:, z[0].numel() - self.size :]
        parts = flat.split([prod(prior.shape) for prior in self.priors.values()], 1)
        named = zip(self.priors.items(), parts, strict=True)
        return {name: prior(prior.step * part.reshape(-1, *prior.shape)) for (name, prior), part in named}

    def at(self, **values: Any) -> Operator:
        """Return the operator with known parameters.

        Args:
            values: of each parameter a value for all images, or (B, *shape).

        Raises:
            InputError: a parameter is missing, unknown, not finite or of another shape.
        """
        if set(values) != set(self.priors):
            raise InputError("values", f"the parameters {', '.join(self.priors)}", ", ".join(values) or "none")
        tensors = {name: _as_values(name, value) for name, value in values.items()}
        for name, value in tensors.items():
            shape = self.priors[name].shape
            if value.shape not in (shape, (len(value) if value.ndim else 0, *shape)):
                raise InputError(name, f"shape {shape} or (B, *{shape})", tuple(value.shape))
        return KnownParameters(self, tensors)

    def draw(self, image: Tensor) -> dict[str, Tensor]:
        """Draw the parameters by which images (B, C, H, W) are measured: from the seed and each image's own values."""
        noise = normal_by_value(image.detach().flatten(1).repeat(1, -(-self.size // image[0].numel())), self.seed)
        steps = [torch.full((prod(prior.shape),), prior.step) for prior in self.priors.values()]
        return self.values(noise[:, : self.size] / torch.cat(steps).to(noise))

    def __call__(self, image: Tensor) -> Tensor:
        return self.measure(image, **self.draw(image))


@dataclass(frozen=True, eq=False)
class KnownParameters(Operator):
    """A `BlindOperator` at known parameters."""

    operator: BlindOperator
    known: Mapping[str, Tensor]  # (*shape) or (B, *shape)

    def __call__(self, image: Tensor) -> Tensor:
        values = dict[str, Tensor]()
        for name, prior in self.operator.priors.items():
            value = self.known[name].to(image)
            if value.ndim > len(prior.shape) and len(value) not in (1, len(image)):
                raise InputError(name, f"values of {len(image)} images", f"of {len(value)}")
            values[name] = value.expand(len(image), *prior.shape)
        return self.operator.measure(image, **values)

    def take(self, rows: Tensor) -> KnownParameters:
        shapes = {name: prior.shape for name, prior in self.operator.priors.items()}
        chosen = {
            name: value[rows.to(value.device)] if value.ndim > len(shapes[name]) and len(value) > 1 else value
            for name, value in self.known.items()
        }
        return KnownParameters(self.operator, chosen)


def bind(operator: Callable[[Tensor], Tensor], z: Tensor) -> Callable[[Tensor], Tensor]:
    """Return an operator with the parameters that latents (B, n) hold; itself where all are known."""
    return operator.at(**operator.values(z)) if isinstance(operator, BlindOperator) else operator


@checked
def unknown(operator: Callable[..., Tensor], **priors: Any) -> BlindOperator:
    """Declare parameters of an operator as unknown, to be found with the latents.

    Args:
        operator: a module, from images (B, C, H, W) to measurements, whose parameters of these names are unknown; or a
            function of images (1, C, H, W) and of the parameters of one image, by name. It is mapped over the images
            by `torch.func.vmap`.
        priors: `latentopt.operators.Uniform`, ``LogUniform``, ``Normal``, ``Simplex``, or another ``ParameterPrior``,
            by parameter; (low, high) stands for a uniform one. Names with a dot are given as ``**{"0.weight": prior}``.
            A prior of a module's parameter takes its shape.

    Returns:
        The operator for `latentopt.reconstruct`. `BlindOperator.values` reads the parameters from latents.

    Raises:
        InputError: there is no prior, one has no bounds, or the module has no such parameter.

    >>> from latentopt.operators import LogUniform
    >>> dim = unknown(lambda image, factor: factor * image, factor=LogUniform(0.5, 2))
    >>> dim.at(factor=2.0)(torch.ones(1, 1, 1, 2)).tolist()
    [[[[2.0, 2.0]]]]
    """
    if not priors:
        raise InputError("priors", "one of each unknown parameter, such as width=LogUniform(0.5, 3)", "none")
    own = dict(operator.named_parameters()) if isinstance(operator, nn.Module) else None
    built = {name: as_prior(name, prior) for name, prior in priors.items()}
    for name, prior in list(built.items()):
        if own is not None:
            if name not in own:
                raise InputError(name, f"one of the operator's parameters {', '.join(own)}", "unknown name")
            built[name] = copy.copy(prior)
            object.__setattr__(built[name], "shape", tuple(own[name].shape))
    return _Mapped(operator, built)


def _as_values(name: str, value: Any) -> Tensor:
    """Return finite values as a tensor."""
    try:
        tensor = cpu_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(name, "numbers", repr(value)[:60]) from None
    if not tensor.isfinite().all():
        raise InputError(name, "finite values", "NaN or infinity")
    return tensor


def require_known(name: str, operator: object) -> None:
    """Check that an operator within another has no unknown parameters, which would not be sought there.

    Raises:
        InputError: it has.
    """
    if isinstance(operator, BlindOperator):
        known = "operators of known parameters (.at(...)); latentopt.unknown declares those of a whole operator"
        raise InputError(name, known, type(operator).__name__)


def as_prior(name: str, prior: Any, kind: type[Uniform] | type[LogUniform] = Uniform) -> ParameterPrior:
    """Return a prior; (low, high) is one of the ``kind``.

    Raises:
        InputError: it is neither.
    """
    if isinstance(prior, ParameterPrior):
        return prior
    if isinstance(prior, list | tuple) and len(prior) == 2 and all(isinstance(end, int | float) for end in prior):
        return kind(float(prior[0]), float(prior[1]))
    raise InputError(name, "bounds (low, high) or a prior, as it is unknown", repr(prior)[:60])


@dataclass(frozen=True, eq=False)
class _Mapped(BlindOperator):
    """A module or a function of one image, mapped over images and parameters."""

    operator: Callable[..., Tensor]
    own_priors: Mapping[str, ParameterPrior]

    @property
    def priors(self) -> Mapping[str, ParameterPrior]:
        return self.own_priors

    def measure(self, image: Tensor, **values: Tensor) -> Tensor:
        def one(x: Tensor, parameters: dict[str, Tensor]) -> Tensor:
            if isinstance(self.operator, nn.Module):
                return torch.func.functional_call(self.operator, parameters, (x[None],))[0]
            return self.operator(x[None], **parameters)[0]

        try:
            return torch.func.vmap(one, randomness="different")(image, values)
        except InputError:
            raise
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            expected = "one that torch.func.vmap maps over images and parameters"
            raise InputError("operator", expected, first_line(error)) from error
