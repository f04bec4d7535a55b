"""Better actions from a critic: Q maximised around what an actor does (arXiv 2406.00494, section 6.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError, positive
from latentopt.networks.freezing import frozen, require_eval
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.rl.ascent import Found, descend
from latentopt.rl.chains import chains
from latentopt.rl.checks import check_bounds, checked, fits, inside, require_finite
from latentopt.rl.closed_form import ClosedForm
from latentopt.rl.critics import Reduce, check_reduce, critic_of, is_sb3, like, stacked
from latentopt.rl.methods import method
from latentopt.rl.normalization import as_normalization
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.problem import ActionValues, Around, Worst, action_batch
from latentopt.sets import Box
from latentopt.solver.loop import solve

Array = NDArray[Any]
WORTH_FOLDING = 5
"""Looks at a single observation from which on it pays to drop what is linear in its box first."""


@dataclass(frozen=True, eq=False)
class Refined:
    """Actions for B observations, in the units of the actor's, and what the critic says of them."""

    action: Tensor  # (B, A) the best found; the actor's own where nothing better was
    before: Tensor  # (B,) Q of the actor's action, of the critic that counts
    after: Tensor  # (B,) Q of `action`, >= before
    forwards: Tensor  # (B,) long, evaluations of the critic, all restarts together
    backwards: Tensor  # (B,) long

    @property
    def gain(self) -> Tensor:
        """What Q rose by (B,), >= 0."""
        return self.after - self.before


@renamed_keywords(box="radius")
@dataclass(eq=False)
class Refiner:
    """`refine_action` of one critic, built once and called at every step; arguments as there.

    The critic's weights are read at every call, so it may go on learning. A critic that is a chain of linear layers and
    ReLUs of observation and action side by side (stable-baselines3's `MlpPolicy`, or a module that `torch.fx` can
    trace) is computed in closed form, any other by autograd.
    """

    q: Any
    low: Any = None
    high: Any = None
    radius: float = 0.25
    optimizer: Optimizer | str = "adam"
    steps: int = 20
    critic: Reduce = "min"
    restarts: int | None = None
    normalization: Any = None

    def __post_init__(self) -> None:
        self.network = critic_of(self.q)
        space = getattr(self.q, "action_space", None)
        if self.low is None and self.high is None and space is not None:
            self.low, self.high = space.low, space.high
        self.bounds = check_bounds(self.low, self.high)
        positive("radius", self.radius)
        positive("steps", self.steps, integer=True)
        check_reduce(self.critic)
        chosen = method(self.optimizer)
        self.method, self.starts = chosen.optimizer, chosen.restarts if self.restarts is None else self.restarts
        positive("restarts", self.starts, integer=True)
        self.layers = chains(self.network)
        self.normal, self.warned = as_normalization(self.normalization), False

    def __call__(self, observations: Any, actions: Any, seed: int = 0) -> Refined:
        """Refine one batch: ``observations`` (B, *obs), ``actions`` (B, A)."""
        if self.normal is not None:
            observations = self.normal(observations)
        elif not self.warned:
            self.warned = warn_if_unlike(self.q, observations)
        s, a = checked(observations, actions, self._dtype())
        low, high = self._bounds_of(a)
        a = inside(a, low, high)
        middle, half = (low + high) / 2, (high - low) / 2
        u = (a - middle) / half
        box = np.maximum(u - self.radius, -1), np.minimum(u + self.radius, 1)
        inner = (np.zeros_like(half), np.ones_like(half)) if is_sb3(self.network) else (middle, half)
        closed = bool(self.layers) and fits(self.layers, s, a)
        device = "cpu" if closed else _device(self.network, actions)
        tensors = (torch.from_numpy(each).to(device) for each in (s, *inner))
        network, start, least = ActionValues(self._values, *tensors), torch.from_numpy(u).to(device), 0.0
        if self.layers and closed:
            form = ClosedForm.of(self.layers, self.critic, s, *inner)
            batch = action_batch(form, network, Around(*box), start, seed, self.steps)
            if len(u) == self.starts == 1 and not callable(self.critic) and self.steps >= WORTH_FOLDING:
                batch = batch.fold()
            found = descend(batch, self.method, start, self.starts)
            least = 16 * np.finfo(u.dtype).eps  # what rounding may pretend
        else:
            feasible = Box(*(torch.from_numpy(bound).to(device) for bound in box))
            problem = Problem(network, Worst(self.critic), u.shape[1:], len(u), feasible, like=start)
            found = self._solved(problem, start, seed)
        return _refined(found, a, low, high, least, actions.device if isinstance(actions, Tensor) else "cpu")

    def _dtype(self) -> np.dtype[Any]:
        weight = self.layers[0][0].weight if self.layers else like(self.network)
        return np.dtype(str(weight.dtype).removeprefix("torch."))

    def _values(self, observations: Tensor, actions: Tensor) -> Tensor:
        return stacked(self.network(observations, actions), len(actions))

    def _bounds_of(self, actions: Array) -> tuple[Array, Array]:
        if any(bound.shape not in ((), actions.shape[1:]) for bound in self.bounds):
            raise InputError(
                "low", f"a number, or one for each of the {actions.shape[1]} actions", self.bounds[0].shape
            )
        low, high = (np.broadcast_to(bound.astype(actions.dtype), actions.shape[1:]) for bound in self.bounds)
        return low, high

    def _solved(self, problem: Problem, start: Tensor, seed: int) -> Found:
        """By the loop that everything else goes through."""
        require_eval(self.network)
        with frozen(self.network):
            first = _critic_called(problem, start).cpu()
            require_finite(first.numpy())
            result = solve(problem, self.method, steps=self.steps, restarts=self.starts, seed=seed, start=start)
        cost = int(result.forwards.max()) + 1, int(result.backwards.max())
        return Found(result.x.cpu(), result.value.cpu(), first, *cost)


@renamed_keywords(box="radius")
def refine_action(
    q: Any,
    observations: Any,
    actions: Any,
    low: Any = None,
    high: Any = None,
    *,
    radius: float = 0.25,
    optimizer: Optimizer | str = "adam",
    steps: int = 20,
    critic: Reduce = "min",
    restarts: int | None = None,
    seed: int = 0,
    normalization: Any = None,
) -> Refined:
    """Maximise a critic's Q around an actor's actions, for a batch of observations.

    Searched are the actions within ``radius`` of the actor's, coordinate by coordinate, that lie in [low, high]; step
    sizes too are in scaled actions, in which [low, high] is [-1, 1]. What is returned is never worse than the actor on
    the critic that counts. Far from the actor a critic mostly errs: with ``radius=1`` much of the gain is not real.

    Args:
        q: the critic: any function of observations (B, *obs) and actions (B, A) to (B,) or (B, 1), or to a tuple of
            such, one a critic; or a critic of stable-baselines3, or a model (SAC, TD3, DDPG, TQC).
        observations: (B, *obs), a tensor or an array.
        actions: (B, A), the actor's, in [low, high].
        low: least action, a number or (A,); of a model of stable-baselines3 its action space is the default.
        high: greatest.
        radius: how far an action may move, > 0, in units of half the range: .25 is an eighth of it to either side, 1 is
            +-1 in scaled actions.
        optimizer: a method of `latentopt.optimizers`, or a name, of `latentopt.rl.methods.ACTIONS` or any other.
        steps: of the method, >= 1.
        critic: of several critics, which counts: ``min``, the least; ``first``; or a function of what they say, (n, B)
            to (B,), each observation by itself.
        restarts: starts, >= 1, the first at the actor's action, the others at random in the box. None: the method's, 1
            but for ``multi-start``.
        seed: of every random number.
        normalization: what the critic's observations were normalised by in training: a `VecNormalize`, a file of its
            statistics, or a `latentopt.rl.normalization.Normalization`; ``observations`` are then those of the
            environment. None: the critic is given them as they are.

    Returns:
        `Refined`: the actions, in the units of ``actions``, Q before and after, and the cost.

    Raises:
        InputError: an argument is not as described or not finite, an action lies outside [low, high], actions are
            discrete, the critic takes observations or actions of other sizes, or a method that drives gates (ADR-GD)
            meets a critic without, such as one of tanh layers.
    """
    refiner = Refiner(q, low, high, radius, optimizer, steps, critic, restarts, normalization)
    return refiner(observations, actions, seed)


def _device(network: Any, actions: Any) -> torch.device | str:
    """Where the critic computes: a module where it is, a function where its actions are."""
    if isinstance(network, nn.Module):
        return like(network).device
    return actions.device if isinstance(actions, Tensor) else "cpu"


def _refined(found: Found, actions: Array, low: Array, high: Array, least: float, device: Any) -> Refined:
    """What was found, where it gains more than ``least`` times Q; else the actor's action."""
    before, after, u = -np.asarray(found.first), -np.asarray(found.value), np.asarray(found.x)
    require_finite(before)
    better = after - before > least * (1 + np.abs(before))
    reached = np.clip((low + high) / 2 + (high - low) / 2 * u, low, high)
    action, after = np.where(better[:, None], reached, actions), np.where(better, after, before)
    cost = [torch.full((len(u),), count) for count in (found.forwards, found.backwards)]
    values = [torch.from_numpy(each) for each in (action, before, after)]
    return Refined(*(each.to(device) for each in (*values, *cost)))


def _critic_called(problem: Problem, u: Tensor) -> Tensor:
    """The objective (B,) at ``u``, found by the first call of the critic.

    Raises:
        InputError: it does not take observations and actions of these sizes.
    """
    network = problem.network
    assert isinstance(network, ActionValues)
    try:
        return problem.evaluate(u).value
    except (RuntimeError, IndexError, TypeError) as error:
        sizes = f"{tuple(network.observations.shape[1:])} and actions {tuple(u.shape[1:])}"
        raise InputError("q", f"a critic of observations {sizes}", str(error).splitlines()[0]) from error
