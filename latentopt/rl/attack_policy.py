"""Attacks on policies: the change of an observation that changes what the agent does."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from latentopt.arguments import as_given
from latentopt.attacks.attack import attack, resolve_stages
from latentopt.attacks.checks import SLACK, check_inputs, check_radii
from latentopt.attacks.quantize import quantize
from latentopt.attacks.result import AttackWarning
from latentopt.attacks.stages import Portfolio
from latentopt.classification import LossName, margin
from latentopt.errors import InputError, first_line
from latentopt.networks.freezing import frozen
from latentopt.optimizers import Optimizer
from latentopt.results import SavedResult
from latentopt.rl.agents import normalization_for
from latentopt.rl.continuous_attack import maximize_distance
from latentopt.rl.normalization import Normalization
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.observations import shapes_of
from latentopt.rl.policy_network import (
    BYTES,
    Kind,
    Observations,
    PolicyNetwork,
    are_bytes,
    as_tensor,
    require_boxes,
    split,
)
from latentopt.sets import Norm, length
from latentopt.solver.callbacks import Callback

Aim = Literal["random", "least-likely"]


@dataclass(frozen=True, eq=False, repr=False)
class AttackedObservations(SavedResult):
    """Attacked observations, and the policy's outputs before and after."""

    observations: Any  # (B, *shape), type and dtype of the arguments
    before: Tensor  # (B, K) logits, or (B, *action) means, of the clean ones
    after: Tensor  # the same, of ``observations``
    success: Tensor  # (B,) bool: another action; of means: any change
    moved: Tensor  # (B,) by how much another logit exceeds the clean action's; of means: their Euclidean distance
    distance: Tensor  # (B,) of the observations from the clean ones, in the norm and the units of ``eps``
    forwards: Tensor  # (B,) long
    backwards: Tensor  # (B,) long
    discrete: bool
    branches: tuple[int, ...] | None = None  # numbers of several discrete actions, whose combinations have the logits

    @property
    def actions(self) -> tuple[Tensor, Tensor]:
        """Actions before and after: (B,) long, of several discrete actions (B, n), or the means."""
        if not self.discrete:
            return self.before, self.after
        numbers = self.before.argmax(1), self.after.argmax(1)
        if self.branches is None:
            return numbers
        first, second = (torch.stack(torch.unravel_index(number, self.branches), 1) for number in numbers)
        return first, second


def attack_policy(
    policy: Any,
    observations: Observations,
    eps: float | Tensor,
    *,
    norm: Norm = "linf",
    kind: Kind | None = None,
    input_range: tuple[float, float] | None = None,
    optimizer: Optimizer | Portfolio | str = "pgd",
    loss: LossName | None = None,
    targets: Aim | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    seed: int = 0,
    evaluations: int | None = None,
    callbacks: Sequence[Callback] = (),
    normalization: Any = None,
) -> AttackedObservations:
    """Perturb observations so that a discrete policy leaves its action, or the mean of a continuous one moves furthest.

    For a discrete policy this is `latentopt.attack` with the policy's actions as labels. For a continuous one it
    maximises the distance of the mean from the clean one, from random starts, as the distance has no gradient at the
    clean observation.

    Args:
        policy: an agent of stable-baselines3 (or its policy), an `latentopt.rl.agents.Agent`, or any module or function
            of observations that gives logits (B, K) or means (B, *action): as a tensor, a distribution of torch, or the
            first tensor of several outputs. Never changed. Several discrete actions (MultiDiscrete, MultiBinary) are
            one: its K logits are those of all combinations.
        observations: (B, *shape), uint8 or floating-point; images with colours first or last, as the policy or its
            environment has them; or a dictionary of such arrays, all of bytes or none, in one ball together.
        eps: radius of the ball, >= 0; a number, or one an observation (B,). For bytes it is a share of 255, and changes
            are of whole bytes, so under ``linf`` 3.9/255 allows no more than 3/255. With ``normalization`` it is in
            standard deviations; else in the units of ``observations``.
        norm: ``linf`` or ``l2``.
        kind: ``discrete`` or ``continuous``. None: that of an agent's action space; of modules and functions discrete.
        input_range: (low, high) of every value of an observation, in the units of ``eps``. None: [0, 1] of bytes; else
            the policy's ``input_range`` or the bounds of its space, if there are any.
        optimizer: any registered name, ``portfolio``, an `Optimizer` or a `Portfolio`.
        loss: of discrete policies: ``ce`` (the default), ``margin`` or ``dlr``.
        targets: of discrete policies: the action to aim at, ``random`` or the ``least-likely`` one; None: any other.
        steps: >= 1; default 100, of ``fgsm`` 1.
        restarts: independent starts, >= 1; default 1.
        seed: of starts and of the methods' own noise. An observation gets what it would get alone.
        evaluations: greatest number of forwards and backwards of an observation in the search. None: no limit.
        callbacks: as in `latentopt.solve`.
        normalization: the normalisation of observations in training: a `VecNormalize`, a file of its statistics, or a
            `latentopt.rl.normalization.Normalization`. ``observations`` and the attacked ones are then those of the
            environment; the policy sees them normalised and clipped. None: the policy sees them as they are.

    Returns:
        `AttackedObservations`: the best for each observation (B, *shape), and the policy's outputs there (B, ...).
        For bytes these are bytes, and all figures are those of the bytes.

    Raises:
        InputError: an argument is not as described, or the policy has neither logits nor means.

    >>> policy = lambda x: torch.stack([x[:, 0], -x[:, 0]], 1)
    >>> attack_policy(policy, torch.tensor([[0.2], [0.5]]), eps=0.3).success
    tensor([ True, False])
    """
    require_boxes(policy)
    if isinstance(observations, list | tuple):
        observations = as_given("observations", observations)
    normal = normalization_for(policy, normalization)
    x, bytes_ = as_tensor(observations), are_bytes(observations)
    shape = shapes_of(observations)
    network = PolicyNetwork(policy, bytes_, kind, input_range, shape if isinstance(shape, dict) else None, normal)
    if normal is None:
        warn_if_unlike(policy, observations)
    else:
        x = normal.scaled(x)
    if not network.fits(shape):
        expected = f"shape (B, {', '.join(map(str, network.shape or ()))})"
        expected = f"shapes {network.shape}" if isinstance(network.shape, dict) else expected
        raise InputError("observations", expected, shape if isinstance(shape, dict) else tuple(x.shape))
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    x = check_inputs(network, x, "observations")
    radius = check_radii(network, _whole(eps) if bytes_ and norm == "linf" else eps, x, norm)
    settings = {"loss": loss, "steps": steps, "restarts": restarts}
    common = {"seed": seed, "evaluations": evaluations, "callbacks": callbacks}
    with frozen(network):
        before = output_of(network, x)
        if network.discrete:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", AttackWarning)
                labels, aim = before.argmax(1), {"targets": targets, **common}
                result = attack(network, x, labels, radius, norm=norm, optimizer=optimizer, **settings, **aim)
        elif loss is not None or targets is not None:
            name, value = ("targets", targets) if loss is None else ("loss", loss)
            raise InputError(name, "None of a continuous policy, whose mean moves", repr(value))
        else:
            result = maximize_distance(network, x, radius, norm, resolve_stages(optimizer, settings), **common)
        attacked = result.x
        if bytes_:
            attacked = (quantize(attacked, x, radius, norm).to(x) / BYTES).to(x)
        restored = _restore(attacked, observations, normal)
        if normal is not None:
            assert not isinstance(restored, dict)
            attacked = normal.scaled(torch.as_tensor(restored)).to(x)  # as they are after rounding
        after = output_of(network, attacked)
    return AttackedObservations(
        observations=restored,
        before=before,
        after=after,
        success=_success(before, after, network.discrete),
        moved=_moved(before, after, network.discrete),
        distance=length(attacked - x, norm),
        forwards=result.forwards + 2,  # before and after
        backwards=result.backwards,
        discrete=network.discrete,
        branches=network.branches,
    )


def _whole(eps: float | Tensor) -> Tensor:
    """Round ``eps``, a share of 255, down to whole bytes."""
    eps = torch.as_tensor(eps, dtype=None if isinstance(eps, Tensor) else torch.float64)
    allowed = eps.double() * BYTES * (1 + max(SLACK, torch.finfo(eps.dtype).eps))
    return allowed.floor() / BYTES


@torch.no_grad()
def output_of(network: PolicyNetwork, x: Tensor) -> Tensor:
    """Evaluate logits (B, K) or means (B, *action), and check them.

    Raises:
        InputError: the output is something else.
    """
    try:
        output = network(x)
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        reason = first_line(error)
        raise InputError("observations", "what the policy takes", f"{tuple(x.shape)} ({reason})") from error
    if not isinstance(output, Tensor) or output.ndim < 2 or len(output) != len(x):
        got = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError("policy", f"logits or means (B, ...), B = {len(x)}", got)
    if network.discrete and (output.ndim != 2 or output.shape[1] < 2):
        raise InputError("policy", "logits (B, K) of K >= 2 actions (kind='continuous' for means)", tuple(output.shape))
    if not bool(output.isfinite().all()):
        raise InputError("policy", "finite logits or means", "NaN or infinity")
    return output


def _success(before: Tensor, after: Tensor, discrete: bool) -> Tensor:
    return before.argmax(1) != after.argmax(1) if discrete else (before != after).flatten(1).any(1)


def _moved(before: Tensor, after: Tensor, discrete: bool) -> Tensor:
    return margin(after, before.argmax(1)) if discrete else (after - before).flatten(1).norm(dim=1)


def _restore(x: Tensor, observations: Observations, normalization: Normalization | None) -> Any:
    """``x`` in the type, dtype and units of the observations."""
    if isinstance(observations, dict):
        parts = split(x, shapes_of(observations))
        return {name: _restore(parts[name], observations[name], None) for name in observations}
    like = torch.as_tensor(observations)
    x = x if normalization is None else normalization.unscaled(x)
    x = ((x * BYTES).round() if like.dtype == torch.uint8 else x).to(like.device, like.dtype)
    return x.numpy() if isinstance(observations, np.ndarray) else x
