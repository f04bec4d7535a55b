"""Better actions from a critic: Q maximised around an actor's actions (arXiv 2406.00494, section 6.2)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from latentopt._deprecated import old_names, renamed_keywords
from latentopt.autodiff import outside_inference_mode
from latentopt.errors import InputError, first_line, positive, within
from latentopt.gates import OnGates
from latentopt.networks.freezing import frozen, require_eval
from latentopt.noise import Noise
from latentopt.optimizers import Optimizer
from latentopt.optimizers.registry import method
from latentopt.problem import Problem
from latentopt.results import SavedResult
from latentopt.rl.action_inputs import (
    as_array,
    check_actions,
    check_bounds,
    clip_actions,
    require_finite,
    takes_vectors,
)
from latentopt.rl.critics import (
    CriticObjective,
    Reduce,
    ScaledCritic,
    check_reduce,
    critic_of,
    is_sb3,
    like,
    stacked,
    takes_scaled,
)
from latentopt.rl.fast.action_problem import ClosedFormBatch, ClosedFormCritics
from latentopt.rl.fast.ascent import Ascent, ascend
from latentopt.rl.fast.chains import chains_of
from latentopt.rl.fast.closed_form import ClosedForm
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.normalization_files import as_normalization
from latentopt.rl.observations import map_arrays, shapes_of
from latentopt.sets import Box
from latentopt.solver.loop import solve

Array = NDArray[Any]
WORTH_FOLDING = 5
"""Steps at a single observation from which on it pays to drop first what is linear in its box."""

__getattr__ = old_names(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class RefinementResult(SavedResult):
    """Actions for B observations, in the units of the actor's, and their values."""

    action: Tensor  # (B, A) the best found; the actor's own where nothing better was
    before: Tensor  # (B,) Q of the actor's action, of the critic that counts
    after: Tensor  # (B,) Q of `action`, >= before
    forwards: Tensor  # (B,) long, evaluations of the critic, all restarts together
    backwards: Tensor  # (B,) long

    @property
    def gain(self) -> Tensor:
        """Increase of Q (B,), >= 0."""
        return self.after - self.before


@renamed_keywords(box="radius")
@dataclass(frozen=True)
class RefinementSettings:
    """Frequency and method of refining an agent's actions while it learns (arXiv 2406.00494, eq. 12).

    Args:
        epsilon: probability, in [0, 1], that an action is refined; drawn for each environment at each step.
        optimizer: as for `refine_action`.
        steps: of the optimizer, >= 1.
        radius: greatest change of an action, > 0, in units of half the range of actions.
        critic: of several critics, the one that counts.
        restarts: as for `refine_action`.

    Raises:
        InputError: a setting is not as described.
    """

    epsilon: float = 0.5
    optimizer: Optimizer | str = "gd-critic"
    steps: int = 10
    radius: float = 0.25
    critic: Reduce = "min"
    restarts: int = 1

    def __post_init__(self) -> None:
        within("epsilon", self.epsilon, 0, 1)
        positive("steps", self.steps, integer=True)
        positive("radius", self.radius)

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "box" in state:  # of an agent that was saved under the old names
            state = {**state, "radius": state["box"], "restarts": state["restarts"] or 1}
            del state["box"]
            if state["optimizer"] in ("gd", "adam", "adr-gd", "adr-gd-paper", "adr-gd-reference"):
                state["optimizer"] += "-critic"
        self.__dict__.update(state)

    @classmethod
    def paper(cls, optimizer: str = "adr-gd-paper-critic", epsilon: float = 0.5) -> RefinementSettings:
        """Return Table 2's settings for DDPG and TD3: 100 steps on the first critic, within 1 of the actor."""
        return cls(epsilon, optimizer, steps=100, radius=1.0, critic="first")

    def refiner(self, critic: Any, low: Any = None, high: Any = None) -> Refiner:
        """Return the refiner of one critic's actions in [low, high]."""
        return Refiner(critic, low, high, self.radius, self.optimizer, self.steps, self.critic, self.restarts)


@renamed_keywords(box="radius")
@dataclass(eq=False)
class Refiner:
    """`refine_action` of one critic, built once and called at every step.

    The critic's weights are read at every call, so it may go on learning. A critic that is a chain of linear layers and
    ReLUs of observation and action side by side (stable-baselines3's `MlpPolicy`, or a module that `torch.fx` can
    trace) is computed in closed form, any other by autograd.

    Args:
        q: as for `refine_action`, like all arguments.
        low: least action.
        high: greatest action.
        radius: greatest change of an action, in units of half the range.
        optimizer: a method or its name.
        steps: of the method.
        critic: of several critics, the one that counts.
        restarts: starts of each observation.
        normalization: of observations.

    Raises:
        InputError: an argument is not as described for `refine_action`.
    """

    q: Any
    low: Any = None
    high: Any = None
    radius: float = 0.25
    optimizer: Optimizer | str = "adr-gd-critic"
    steps: int = 20
    critic: Reduce = "min"
    restarts: int = 1
    normalization: Any = None

    def __post_init__(self) -> None:
        self.network = critic_of(self.q)
        space = getattr(self.q, "action_space", None)
        if self.low is None and self.high is None and space is not None:
            self.low, self.high = space.low, space.high
        self.bounds = check_bounds(self.low, self.high)
        if self.optimizer == "multi-start":
            new = "adam-critic with restarts=8"
            warnings.warn(f"multi-start is deprecated: use {new}", DeprecationWarning, stacklevel=4)
            self.optimizer, self.restarts = "adam-critic", 8
        positive("radius", self.radius)
        positive("steps", self.steps, integer=True)
        positive("restarts", self.restarts, integer=True)
        check_reduce(self.critic)
        self.method = method(self.optimizer, Box(-1.0, 1.0))
        self.chains = chains_of(self.network)
        self.normal, self.has_warned = as_normalization(self.normalization), False

    @outside_inference_mode
    def __call__(self, observations: Any, actions: Any, seed: int = 0) -> RefinementResult:
        """Refine one batch: ``observations`` (B, *obs), ``actions`` (B, A)."""
        if self.normal is not None:
            observations = self.normal(observations)
        elif not self.has_warned:
            self.has_warned = warn_if_unlike(self.q, observations)
        s, a = check_actions(_encoded(self.network, observations), actions, self._dtype())
        low, high = self._bounds_of(a)
        a = clip_actions(a, low, high)
        middle, half = (low + high) / 2, (high - low) / 2
        u = (a - middle) / half  # scaled actions, in [-1, 1]
        box = np.maximum(u - self.radius, -1), np.minimum(u + self.radius, 1)
        inner = (np.zeros_like(half), np.ones_like(half)) if takes_scaled(self.network) else (middle, half)
        if self.chains and takes_vectors(self.chains, s, a):
            ascent = self._ascend(s, u, box, *inner, seed)
            smallest_gain = 16 * np.finfo(u.dtype).eps  # by rounding
        else:
            ascent, smallest_gain = self._solve(s, u, box, *inner, seed, _device(self.network, actions)), 0.0
        device = actions.device if isinstance(actions, Tensor) else "cpu"
        return _result(ascent, a, low, high, smallest_gain, device)

    def _dtype(self) -> np.dtype[Any]:
        weight = self.chains[0][0].weight if self.chains else like(self.network)
        return np.dtype(str(weight.dtype).removeprefix("torch."))

    def _bounds_of(self, actions: Array) -> tuple[Array, Array]:
        shape = actions.shape[1:]
        if any(bound.shape not in ((), shape) for bound in self.bounds):
            raise InputError("low", f"a number, or one for each of the {shape[0]} actions", self.bounds[0].shape)
        low, high = (np.broadcast_to(bound.astype(actions.dtype), shape) for bound in self.bounds)
        return low, high

    def _network(self, observations: Any, middle: Array, half: Array, device: Any) -> ScaledCritic:
        def on_device(array: Array) -> Tensor:
            return torch.from_numpy(array).to(device)

        parts = map_arrays(on_device, observations), on_device(middle), on_device(half)
        return ScaledCritic(lambda s, a: stacked(self.network(s, a), len(a)), *parts)

    def _ascend(self, s: Array, u: Array, box: tuple[Array, Array], middle: Array, half: Array, seed: int) -> Ascent:
        """Maximise in closed form."""
        assert self.chains is not None
        form = ClosedForm.from_chains(self.chains, self.critic, s, middle, half)
        alone = len(u) == self.restarts == 1 and not callable(self.critic) and self.steps >= WORTH_FOLDING
        start = torch.from_numpy(u)
        batch = ClosedFormBatch(
            network=self._network(s, middle, half, "cpu"),
            objective=CriticObjective(self.critic),
            feasible=Box(torch.from_numpy(box[0]), torch.from_numpy(box[1])),
            shape=u.shape[1:],
            like=start.new_empty(0),
            noise=Noise(seed, torch.zeros(len(u), dtype=torch.long, device="cpu")),
            steps=self.steps,
            record=False,
            critics=ClosedFormCritics(form, (box[0][0], box[1][0]) if alone else None),
        )
        return ascend(batch, self.method, start, self.restarts)

    def _solve(
        self, s: Any, u: Array, box: tuple[Array, Array], middle: Array, half: Array, seed: int, device: Any
    ) -> Ascent:
        """Maximise by `latentopt.solve`."""
        start = torch.from_numpy(u).to(device)
        feasible = Box(*(torch.from_numpy(bound).to(device) for bound in box))
        network = self._network(s, middle, half, device)
        problem = Problem(network, CriticObjective(self.critic), u.shape[1:], len(u), feasible, like=start)
        require_eval(self.network)
        with frozen(self.network):
            chosen = self.method
            if self.optimizer == "adr-gd-critic":
                with OnGates(lambda site, h, activation, real: real(h), len(u)) as gates:
                    first = _first_value(problem, start).cpu().numpy()
                chosen = chosen if gates.sites else method("adam-critic")
            else:
                first = _first_value(problem, start).cpu().numpy()
            require_finite(first)
            result = solve(problem, chosen, steps=self.steps, restarts=self.restarts, seed=seed, start=start)
        cost = int(result.forwards.max()) + 1, int(result.backwards.max())
        return Ascent(result.x.cpu().numpy(), result.value.cpu().numpy(), first, *cost)


@renamed_keywords(box="radius")
def refine_action(
    q: Any,
    observations: Any,
    actions: Any,
    low: Any = None,
    high: Any = None,
    *,
    radius: float = 0.25,
    optimizer: Optimizer | str = "adr-gd-critic",
    steps: int = 20,
    critic: Reduce = "min",
    restarts: int = 1,
    seed: int = 0,
    normalization: Any = None,
) -> RefinementResult:
    """Maximise a critic's Q around an actor's actions, for a batch of observations.

    The search covers the actions within ``radius`` of the actor's, coordinate by coordinate, that lie in [low, high].
    Step sizes are in scaled actions, in which [low, high] is [-1, 1]. The result is never worse than the actor on the
    critic that counts. Far from the actor a critic mostly errs: with ``radius=1`` much of the gain is not real.

    Args:
        q: the critic: any function of observations (B, *obs) and actions (B, A) to (B,) or (B, 1), or to a tuple of
            these, one a critic; or a critic of stable-baselines3, or a model (SAC, TD3, DDPG, TQC).
        observations: (B, *obs), a tensor or an array, or a dictionary of such; of stable-baselines3's critics as the
            environment has them, images with colours first or last.
        actions: (B, A), the actor's, in [low, high].
        low: least action, a number or (A,); of a model of stable-baselines3 its action space is the default.
        high: greatest action, like ``low``.
        radius: greatest change of an action, > 0, in units of half the range: .25 is an eighth of the range to either
            side, 1 is +-1 in scaled actions.
        optimizer: a method of `latentopt.optimizers`, or a name. The names that end in ``-critic`` have settings for
            scaled actions. On a critic without piecewise-linear activations ``adr-gd-critic`` takes the same steps as
            ``adam-critic``; other forms of ADR-GD refuse it.
        steps: of the method, >= 1.
        critic: of several critics, the one that counts: ``min``, the least; ``first``; or a function of all values
            (n, B) to (B,), each observation by itself.
        restarts: starts, >= 1, the first at the actor's action, the others at random within ``radius``.
        seed: of every random number.
        normalization: the normalisation of observations in training: a `VecNormalize`, a file of its statistics, or a
            `latentopt.rl.normalization.Normalization`; ``observations`` are then those of the environment. None: the
            critic is given them as they are.

    Returns:
        `RefinementResult`: actions (B, A) in the units of ``actions``, Q before and after (B,), and the cost (B,).

    Raises:
        InputError: an argument is not as described or not finite, an action lies outside [low, high], actions are
            discrete, the critic takes observations or actions of other sizes, or another form of ADR-GD than the
            default meets a critic without gates, such as one of tanh layers.
    """
    refiner = Refiner(q, low, high, radius, optimizer, steps, critic, restarts, normalization)
    return refiner(observations, actions, seed)


def _encoded(network: Any, observations: Any) -> Any:
    """Observations as a critic of stable-baselines3 takes them, colours first; as they are for other critics.

    Raises:
        InputError: they do not fit its space.
    """
    if not is_sb3(network):
        return observations
    try:
        arrays = map_arrays(lambda values: as_array("observations", values), observations)
        return network.obs_to_tensor(arrays)[0]
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise InputError("observations", f"those of {network.observation_space}", shapes_of(observations)) from error


def _device(network: Any, actions: Any) -> torch.device | str:
    """The device of a module, or of a function's actions."""
    if isinstance(network, nn.Module):
        return like(network).device
    return actions.device if isinstance(actions, Tensor) else "cpu"


def _result(
    ascent: Ascent, actions: Array, low: Array, high: Array, smallest_gain: float, device: Any
) -> RefinementResult:
    """The actions found, where they gain more than ``smallest_gain`` times Q; else the actor's."""
    before, after = -ascent.first, -ascent.value
    require_finite(before)
    better = after - before > smallest_gain * (1 + np.abs(before))
    reached = np.clip((low + high) / 2 + (high - low) / 2 * ascent.x, low, high)
    action, after = np.where(better[:, None], reached, actions), np.where(better, after, before)
    cost = [torch.full((len(actions),), count, device="cpu") for count in (ascent.forwards, ascent.backwards)]
    values = [torch.from_numpy(array) for array in (action, before, after)]
    return RefinementResult(*(tensor.to(device) for tensor in (*values, *cost)))


def _first_value(problem: Problem, u: Tensor) -> Tensor:
    """The objective (B,) at ``u``, by the first call of the critic.

    Raises:
        InputError: it does not take observations and actions of these sizes.
    """
    try:
        return problem.evaluate(u).value
    except (RuntimeError, IndexError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        assert isinstance(problem.network, ScaledCritic)
        sizes = f"{shapes_of(problem.network.observations)} and actions {tuple(u.shape[1:])}"
        raise InputError("q", f"a critic of observations {sizes}", first_line(error)) from error
