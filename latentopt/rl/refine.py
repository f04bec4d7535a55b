"""Better actions from a critic: Q maximised around what an actor does (arXiv 2406.00494, section 6.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.objectives import Objective
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.rl.ascent import Found, descend
from latentopt.rl.chains import Chain, chains
from latentopt.rl.closed_form import ClosedForm
from latentopt.rl.critics import Reduce, check_reduce, critic_of, is_sb3, stacked
from latentopt.rl.methods import method
from latentopt.rl.problem import ActionProblem, ActionValues, Worst
from latentopt.sets import Box
from latentopt.solve import solve

SLACK = 1e-6
"""How far outside [low, high] an action may be, by rounding; it is then moved onto the bound."""


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
    box: float = 0.25
    optimizer: Optimizer | str = "adam"
    steps: int = 20
    critic: Reduce = "min"
    restarts: int | None = None

    def __post_init__(self) -> None:
        self.network = critic_of(self.q)
        space = getattr(self.q, "action_space", None)
        if self.low is None or self.high is None:
            if self.low is not None or self.high is not None or space is None:
                raise InputError("low", "the bounds of the actions, low and high", f"{self.low} and {self.high}")
            self.low, self.high = space.low, space.high
        self.bounds = _tensor("low", self.low), _tensor("high", self.high)
        if not bool(((self.bounds[0] < self.bounds[1]) & torch.isfinite(self.bounds[1] - self.bounds[0])).all()):
            raise InputError("low", "finite bounds, low < high", f"{self.low} (and high {self.high})")
        positive("box", self.box)
        positive("steps", self.steps, integer=True)
        check_reduce(self.critic)
        chosen = method(self.optimizer)
        self.method, self.starts = chosen.optimizer, self.restarts or chosen.restarts
        positive("restarts", self.starts, integer=True)

    def __call__(self, observations: Any, actions: Any, seed: int = 0) -> Refined:
        """Refine one batch: ``observations`` (B, *obs), ``actions`` (B, A)."""
        layers = chains(self.network)
        dtype = layers[0][0].weight.dtype if layers else _dtype(self.network)
        s, a = _checked(observations, actions, dtype)
        low, high = self._bounds_of(a)
        middle, half = (low + high) / 2, (high - low) / 2
        a = _inside(a, low, high)
        u = (a - middle) / half
        feasible = Box((u - self.box).clamp_min(-1), (u + self.box).clamp_max(1))
        scaled = is_sb3(self.network)  # its critics know nothing of the range
        inner = (torch.zeros_like(half), torch.ones_like(half)) if scaled else (middle, half)
        network = ActionValues(self._values, s, *inner)
        if layers and _fits(layers, s, a):
            form = ClosedForm.of(layers, self.critic, s.numpy(), inner[1].numpy(), inner[0].numpy())
            found = descend(ActionProblem(form, network, feasible, u), self.method, u, self.steps, self.starts, seed)
            _require_finite(found.first)
            least = 16 * torch.finfo(u.dtype).eps * (1 + found.first.abs())  # what rounding may pretend
        else:
            found = self._solved(Problem(network, Worst(self.critic), u.shape[1:], len(u), feasible, like=u), u, seed)
            least = torch.zeros_like(found.first)
        better = found.first - found.value > least
        reached = torch.maximum(torch.minimum(middle + half * found.x, high), low)
        action = torch.where(better[:, None], reached, a)
        cost = [torch.full((len(a),), count) for count in (found.forwards, found.backwards)]
        return Refined(action, -found.first, -torch.where(better, found.value, found.first), *cost)

    def _values(self, observations: Tensor, actions: Tensor) -> Tensor:
        return stacked(self.network(observations, actions), len(actions))

    def _bounds_of(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        for bound in self.bounds:
            if bound.ndim > 1 or (bound.ndim == 1 and len(bound) != actions.shape[1]):
                raise InputError("low", f"numbers, or one for each of the {actions.shape[1]} actions", tuple(bound.shape))
        low, high = (bound.to(actions).expand(actions.shape[1]) for bound in self.bounds)
        return low, high

    def _solved(self, problem: Problem, start: Tensor, seed: int) -> Found:
        """By the loop that everything else goes through; the value of start and end by the critic as it is called."""
        first = _critic_called(problem, start)
        _require_finite(first)
        result = solve(problem, self.method, steps=self.steps, restarts=self.starts, seed=seed, start=start)
        cost = int(result.forwards.max()) + 1, int(result.backwards.max())
        return Found(result.x, result.value, first, *cost)


def refine_action(
    q: Any,
    observations: Any,
    actions: Any,
    low: Any = None,
    high: Any = None,
    *,
    box: float = 0.25,
    optimizer: Optimizer | str = "adam",
    steps: int = 20,
    critic: Reduce = "min",
    restarts: int | None = None,
    seed: int = 0,
) -> Refined:
    """Maximise a critic's Q around an actor's actions, for a batch of observations.

    Searched are the actions within ``box`` of the actor's, coordinate by coordinate, that lie in [low, high]; step
    sizes too are in scaled actions, in which [low, high] is [-1, 1]. What is returned is never worse than the actor on
    the critic that counts. Far from the actor a critic mostly errs: with ``box=1`` much of the gain is not real.

    Args:
        q: the critic: any function of observations (B, *obs) and actions (B, A) to (B,) or (B, 1), or to a tuple of
            such, one a critic; or a critic of stable-baselines3, or a model (SAC, TD3, DDPG, TQC).
        observations: (B, *obs), a tensor or an array.
        actions: (B, A), the actor's, in [low, high].
        low: least action, a number or (A,); of a model of stable-baselines3 its action space is the default.
        high: greatest.
        box: how far an action may move, > 0, in units of half the range: .25 is an eighth of it to either side, 1 is
            +-1 in scaled actions.
        optimizer: a method of `latentopt.optimizers`, or a name: those of `latentopt.rl.methods.ACTIONS` and all others.
        steps: of the method, >= 1.
        critic: of several critics, which counts: ``min``, the least; ``first``; or a function of what they say, (n, B)
            to (B,), each observation by itself.
        restarts: starts, >= 1, the first at the actor's action, the others at random in the box. None: the method's, 1
            but for ``multi-start``.
        seed: of every random number.

    Returns:
        `Refined`: the actions, in the units of ``actions``, Q before and after, and the cost.

    Raises:
        InputError: an argument is not as described or not finite, an action lies outside [low, high], actions are
            discrete, the critic takes observations or actions of other sizes, or a method that drives gates (ADR-GD)
            meets a critic without, such as one of tanh layers.
    """
    return Refiner(q, low, high, box, optimizer, steps, critic, restarts)(observations, actions, seed)


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


def _fits(layers: list[Chain], observations: Tensor, actions: Tensor) -> bool:
    """Whether the chains take such observations and actions.

    Raises:
        InputError: they take vectors of other sizes.
    """
    if observations.ndim != 2:
        return False
    sizes, came = {chain[0].in_features for chain in layers}, observations.shape[1] + actions.shape[1]
    if sizes != {came}:
        expected = f"observations and actions of {' or '.join(map(str, sorted(sizes)))} numbers together, as q takes"
        raise InputError("observations", expected, f"{observations.shape[1]} + {actions.shape[1]}")
    return len({layer.weight.dtype for chain in layers for layer in chain}) == 1


def _checked(observations: Any, actions: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    s, a = _tensor("observations", observations), _tensor("actions", actions)
    if not a.is_floating_point() or a.ndim != 2:
        came = f"shape {tuple(a.shape)} of {a.dtype}"
        raise InputError("actions", "continuous actions, floating point numbers of shape (B, A)", came)
    if len(s) != len(a) or not len(a):
        raise InputError("observations", f"one for each of the {len(a)} actions", f"shape {tuple(s.shape)}")
    for name, values in (("observations", s), ("actions", a)):
        if not bool(values.isfinite().all()):
            raise InputError(name, "finite numbers", "NaN or infinity")
    return s.to(dtype) if s.is_floating_point() else s, a.to(dtype)


def _tensor(name: str, values: Any) -> Tensor:
    try:
        return values.detach() if isinstance(values, Tensor) else torch.as_tensor(np.asarray(values))
    except (TypeError, ValueError) as error:
        raise InputError(name, "a tensor or an array of numbers", type(values).__name__) from error


def _inside(actions: Tensor, low: Tensor, high: Tensor) -> Tensor:
    inside = torch.maximum(torch.minimum(actions, high), low)
    if bool(((inside - actions).abs() > SLACK * (high - low)).any()):
        raise InputError("actions", f"within [{low.tolist()}, {high.tolist()}]", "some outside")
    return inside


def _require_finite(value: Tensor) -> None:
    if not bool(value.isfinite().all()):
        raise InputError("q", "finite values of the actor's actions", "NaN or infinity")


def _dtype(network: Callable[..., Any] | Objective) -> torch.dtype:
    from latentopt.networks import like

    return like(network).dtype if isinstance(network, torch.nn.Module) else torch.float32
