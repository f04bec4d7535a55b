"""The normalisation of observations that an agent was trained with (`VecNormalize` of stable-baselines3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from latentopt.errors import InputError

Array = NDArray[Any]


class NormalizationWarning(UserWarning):
    """Observations do not look like those that an agent was trained on."""


@dataclass(frozen=True, eq=False)
class Normalization:
    """The map from observations in the environment's units to those that an agent was trained on.

    Each number becomes ``(x - mean) / sqrt(var + epsilon)``, clipped to ``[-clip, clip]``, as float32.

    Args:
        mean: of the observations in training, ``(*obs)``.
        var: their variance, >= 0, of the same shape.
        epsilon: added to the variance, >= 0.
        clip: greatest size of a normalised number, > 0; infinity: none.

    Raises:
        InputError: an argument is not as described.

    >>> Normalization(np.array([100.0]), np.array([4.0]), epsilon=0)(np.array([[103.0]]))
    array([[1.5]], dtype=float32)
    """

    mean: Array
    var: Array
    epsilon: float = 1e-8
    clip: float = 10.0

    def __post_init__(self) -> None:
        for name in ("mean", "var"):
            value = np.asarray(getattr(self, name))
            if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
                raise InputError(name, "finite numbers", f"{value.dtype} of shape {value.shape}")
            object.__setattr__(self, name, value.astype(np.float64))
        if self.mean.shape != self.var.shape:
            raise InputError("var", f"the shape of mean, {self.mean.shape}", self.var.shape)
        if not (self.var >= 0).all():
            raise InputError("var", "numbers >= 0", f"{self.var.min():g}")
        if not 0 <= self.epsilon < np.inf or not (self.var + self.epsilon > 0).all():
            raise InputError("epsilon", "a number >= 0 that leaves no variance at 0", self.epsilon)
        if not self.clip > 0:
            raise InputError("clip", "a number > 0", self.clip)

    @classmethod
    def from_vecnormalize(cls, norm_obs: bool, rms: Any, epsilon: float, clip: float) -> Normalization | None:
        """Take the attributes of a ``VecNormalize``; None where it leaves observations as they are."""
        if not norm_obs:
            return None
        if isinstance(rms, dict) or not hasattr(rms, "mean"):
            expected = "statistics of observations that are arrays (a Box space)"
            raise InputError("normalization", expected, "of a dictionary")
        return cls(rms.mean, rms.var, float(epsilon), float(clip))

    @property
    def std(self) -> Array:
        return np.sqrt(self.var + self.epsilon)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise `InputError` unless the statistics are of observations of this shape."""
        if self.mean.shape != tuple(shape):
            raise InputError("normalization", f"statistics of observations of shape {tuple(shape)}", self.mean.shape)

    def __call__(self, observations: Any) -> Any:
        """Normalise observations ``(*obs)`` or ``(B, *obs)``, an array or a tensor, to float32."""
        return _clip(self._scaled(observations), self.clip)

    def scaled(self, observations: Any) -> Any:
        """Normalise observations without clipping."""
        return _clip(self._scaled(observations), np.inf)

    def unscaled(self, scaled: Any) -> Any:
        """Invert `scaled`, in float64."""
        mean, std, x = self._like(scaled)
        return x * std + mean

    def _scaled(self, observations: Any) -> Any:
        mean, std, x = self._like(observations)
        self.check(tuple(x.shape[x.ndim - mean.ndim :]))
        return (x - mean) / std

    def _like(self, x: Any) -> tuple[Any, Any, Any]:
        """Mean, standard deviation and ``x``, all arrays or all tensors, in float64."""
        if isinstance(x, Tensor):
            mean, std = (torch.from_numpy(array).to(x.device) for array in (self.mean, self.std))
            return mean, std, x.double()
        if isinstance(x, dict):
            raise InputError("observations", "an array (a Box space)", "a dictionary")
        return self.mean, self.std, np.asarray(x, np.float64)


def _clip(x: Any, clip: float) -> Any:
    return x.clamp(-clip, clip).float() if isinstance(x, Tensor) else np.clip(x, -clip, clip).astype(np.float32)
