"""Checks that observations resemble those of an agent's training, as far as its file shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from latentopt.errors import InputError, warn
from latentopt.rl.normalization import Normalization, NormalizationWarning

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[Any]
CLIP = 10.0
"""Default bound of the numbers that `VecNormalize` returns."""
NORMAL = (0.1, 5.0)
"""Range of the root mean squares of normalised numbers, as estimated from a network's training."""
TIMES = 10.0
"""Ratio to the observations of training that gives a warning."""
LARGE = 100.0
"""Root mean square that gives a warning where nothing is known of training."""
SAMPLES = 64
"""Observations that are drawn for the checks."""
STEPS, RESETS = 512, 32
"""Steps and first observations of an environment to compare an observation of training with."""


def trained_normalized(model: Any) -> bool | None:
    """Return whether a model of stable-baselines3 learned under `VecNormalize`; None: unknown.

    An on-policy algorithm keeps the environment's own observation only then. An off-policy one always keeps one, which
    may differ from the network's observation in type or lie in the space where that does not.
    """
    last, original = getattr(model, "_last_obs", None), getattr(model, "_last_original_obs", None)
    if isinstance(last, dict) or isinstance(original, dict):
        return None
    if hasattr(model, "rollout_buffer_class"):
        return True if original is not None else None if last is None else False
    if last is None or original is None:
        return None
    return True if last.dtype != original.dtype or _leaves(model.observation_space, last, original) else None


def _leaves(space: Any, last: Array, original: Array) -> bool:
    """Return whether the last observation lies clearly outside the space, and the environment's own does not."""
    if getattr(space, "low", None) is None or space.dtype == np.uint8:
        return False
    slack = 1e-6 * (1 + np.where(np.isfinite(space.high - space.low), space.high - space.low, 0))  # of rounding
    outside = [((x < space.low - slack) | (x > space.high + slack)).any() for x in (last, original)]
    return bool(outside[0] and not outside[1])


def check_statistics(model: Any, name: str, normalization: Normalization | None) -> None:
    """Raise `InputError` where a model shows that it learned with a normalisation and there is none, or the reverse.

    Args:
        model: of stable-baselines3.
        name: of its file.
        normalization: of its observations; None: there is none.
    """
    learned = trained_normalized(model)
    if normalization is None and learned:
        expected = f"statistics of the VecNormalize that {name} was trained under: a file, or none if of rewards alone"
        raise InputError("vecnormalize", expected, "none beside it")
    if normalization is not None and (learned is False or _contradicts(model, normalization)):
        expected = f"none, or the file that is {name}'s, which does not look trained with the statistics beside it"
        raise InputError("vecnormalize", expected, "nothing")


def _contradicts(model: Any, normalization: Normalization) -> bool:
    """Return whether an off-policy model's last observation is nearer the environment's than the normalised one."""
    last, original = getattr(model, "_last_obs", None), getattr(model, "_last_original_obs", None)
    if last is None or original is None or isinstance(last, dict) or hasattr(model, "rollout_buffer_class"):
        return False
    if last.shape[1:] != normalization.mean.shape:
        return False
    now = normalization(original)
    return bool(np.abs(last - now).max() > np.abs(normalization(last) - now).max())


def unlike_training(model: Any, observations: Array) -> str | None:
    """Return one line on how a network's observations (B, S) differ from those of its training; None: no sign of it.

    Args:
        model: of stable-baselines3, or any other object, of which nothing is known.
        observations: the network's inputs, after normalisation if there is one.
    """
    x = np.asarray(observations)
    if x.ndim != 2 or x.dtype.kind != "f":
        return None
    rms, largest = np.sqrt((x.astype(np.float64) ** 2).mean(0)), float(np.abs(x).max())
    if not _has_trained(model):
        sizes = f"observations reach {largest:.3g}"
        return f"{sizes}; was the agent trained on normalised ones (vecnormalize)?" if rms.max() > LARGE else None
    if trained_normalized(model) and largest > 1.5 * CLIP:
        return (
            f"observations reach {largest:.3g}, but the agent was trained under VecNormalize, which clips at {CLIP:g}"
        )
    trained = _trained_rms(model, x.shape[1])
    if trained is None:
        return None
    if trained.max() > NORMAL[1] or np.median(trained) < NORMAL[0]:
        return None  # it saw other numbers than normalised ones
    large = (rms > CLIP) & (rms > TIMES * trained)
    small = len(x) >= SAMPLES and bool((rms * TIMES < trained).all())
    if not (large.any() or small):
        return None
    index = int((rms / np.maximum(trained, 1)).argmax()) if large.any() else int(trained.argmax())
    return (
        f"observations are unlike those of training: number {index} is about {rms[index]:.2g} in size, and was about "
        f"{trained[index]:.2g}; was the agent trained on normalised ones (vecnormalize)?"
    )


def warn_if_unlike(model: Any, observations: Any) -> bool:
    """Warn (`NormalizationWarning`) where a model's observations are unlike those of training; return whether.

    Only models of stable-baselines3 are checked.
    """
    if not _has_trained(model) or isinstance(observations, dict):
        return False
    x = observations.detach().cpu().numpy() if isinstance(observations, Tensor) else np.asarray(observations)
    odd = unlike_training(model, x[None] if x.ndim == 1 else x) if x.size else None
    if odd is not None:
        warn(odd, NormalizationWarning)
    return odd is not None


def _has_trained(model: Any) -> bool:
    """Return whether an object is a model of stable-baselines3, which keeps traces of its training."""
    return hasattr(model, "observation_space") and getattr(model, "policy", model) is not model


def _trained_rms(model: Any, size: int) -> Array | None:
    """Root mean square of each number of the latest observations in training (S,), from Adam's state.

    The gradient of a first-layer weight is the gradient of its bias times the number that it multiplies; Adam keeps
    the mean squares of both.
    """
    policy = getattr(model.policy, "actor", None) or model.policy
    state = getattr(getattr(policy, "optimizer", None), "state", {})
    for layer in policy.modules():
        if isinstance(layer, nn.Linear) and layer.in_features == size and layer.bias is not None:
            states = [state[p] for p in (layer.weight, layer.bias) if "exp_avg_sq" in state.get(p, {})]
            if len(states) == 2:
                weight, bias = (moments["exp_avg_sq"].double().cpu() for moments in states)
                return (weight.sum(0) / bias.sum()).sqrt().numpy() if bias.sum() > 0 else None
    return None


def doubt(model: Any, environment: gymnasium.Env[Any, Any], normalization: Normalization | None) -> str | None:
    """Return one line on why an agent's observations seem unlike those of its training; None: no sign of it.

    Args:
        model: of stable-baselines3, or an `Agent`.
        environment: where it acts.
        normalization: of the environment's observations; None: there is none.

    Raises:
        InputError: the statistics are of other observations.
    """
    x = sample_observations(environment, 0)
    if x.dtype == object:  # dictionaries
        return None
    if normalization is not None:
        return unlike_training(model, normalization(x))
    return unlike_training(model, x) or ended_normalized(model, environment)


def ended_normalized(model: Any, environment: gymnasium.Env[Any, Any]) -> str | None:
    """Return one line if an off-policy algorithm ended its training on a normalised observation; None: no sign of it.

    It keeps the network's last observation, and either the one before it or, under `VecNormalize`, the environment's
    own at that time. In the first case the two are a step apart, or the last one begins an episode. In the second they
    are farther apart, and the last one is nearer to the normalised observation.
    """
    last, original = getattr(model, "_last_obs", None), getattr(model, "_last_original_obs", None)
    if not isinstance(last, np.ndarray) or not isinstance(original, np.ndarray) or hasattr(model, "gae_lambda"):
        return None
    x = sample_observations(environment, 0, STEPS)
    if last.ndim != 2 or x.ndim != 2 or last.shape != original.shape or last.shape[1] != x.shape[1]:
        return None
    first = np.stack([environment.reset(seed=seed)[0] for seed in range(RESETS)])
    mean, std, slack = x.mean(0), x.std(0) + 1e-8, 0.1 * np.ptp(first, axis=0) + 1e-6
    step = np.quantile(np.abs(np.diff(x, axis=0)), 0.97, axis=0)
    jumps = (np.abs(last - original) > 2 * step + 1e-6).any(1)
    begins = ((last >= first.min(0) - slack) & (last <= first.max(0) + slack)).all(1)
    now = np.clip((original - mean) / std, -CLIP, CLIP)
    nearer = (((last - now) / std) ** 2).sum(1) < (((last - original) / std) ** 2).sum(1)
    if (jumps & ~begins & nearer).mean() <= 0.5:
        return None
    return (
        "its last observation in training does not look like the environment's own; was it normalised (vecnormalize)?"
    )


def sample_observations(environment: gymnasium.Env[Any, Any], seed: int, count: int = SAMPLES) -> Array:
    """Collect observations (count, *obs) of an environment under random actions."""
    space = environment.action_space
    space.seed(seed)
    observations, is_over = [environment.reset(seed=seed)[0]], False
    while len(observations) < count:
        if is_over:
            observations.append(environment.reset()[0])
        observation, _, terminated, truncated, _ = environment.step(space.sample())
        observations.append(observation)
        is_over = terminated or truncated
    return np.stack([np.asarray(observation) for observation in observations])
