"""Episodes of a policy that sees its observations as they are, or attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latentopt._deprecated import old_names
from latentopt.errors import InputError, positive
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.progress import ProgressLine
from latentopt.results import ResultDisplay, draw_sorted
from latentopt.rl.agents import normalization_for
from latentopt.rl.attack_policy import attack_policy, output_of
from latentopt.rl.normalization import Normalization
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.normalization_files import as_normalization
from latentopt.rl.observations import check_space, map_arrays, shapes_of
from latentopt.rl.policy_network import PolicyNetwork, are_bytes, as_tensor, check_action_space
from latentopt.rl.rollout import rollout

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = np.ndarray


__getattr__ = old_names(__name__)


@dataclass(frozen=True, eq=False, repr=False)
class AttackedEpisodes(ResultDisplay):
    """Figures of E episodes, environment by environment."""

    returns: Array  # (E,) sums of rewards
    lengths: Array  # (E,) steps
    changed: Array  # (E,) share of the steps where the attack changed the action (of a continuous one: at all)
    moved: Array  # (E,) mean of `AttackedObservations.moved` over the steps; 0 without an attack
    forwards: float  # mean of the attack a step
    backwards: float
    frames: list[tuple[Any, Any]]  # of the first episode: observation (*shape), and the one that the policy saw

    def _draw(self, figure: Figure) -> None:
        draw_sorted(figure.subplots(), {"returns": torch.as_tensor(self.returns)}, "return of an episode")


def attack_episodes(
    policy: Any,
    env: Any,
    episodes: int,
    eps: float | None = None,
    *,
    sample: bool = False,
    horizon: int | None = None,
    seed: int = 0,
    record: bool = False,
    on_episode: Callable[[int, float], None] = lambda done, mean: None,
    normalization: Any = None,
    **attack: Any,
) -> AttackedEpisodes:
    """Play episodes in which the policy sees each observation as `attack_policy` leaves it.

    The episodes are shared out evenly among the environments, so that short ones do not count more often.

    Args:
        policy: as `attack_policy` takes it.
        env: an environment of gymnasium or a VecEnv of stable-baselines3, with observations that the policy takes. Of a
            `VecNormalize` the environment within is played, with its own rewards; the statistics are the
            ``normalization`` and no longer change.
        episodes: number of episodes E, >= 1.
        eps: radius of the attack, in the units of `attack_policy`; None: no attack.
        sample: draw discrete actions from the softmax of the logits instead of taking the likeliest one. The numbers
            drawn depend on the seed, the environment and its step alone, so two attacks are compared on equal terms.
        horizon: steps after which an episode is cut and counts as ended, for environments that are played once only;
            None: any number.
        seed: of the attack and of those draws; the environment has its own.
        record: keep the frames of the first environment's first episode.
        on_episode: called when an episode ends, with the number of ended episodes and their mean return.
        normalization: as `attack_policy` takes it.
        **attack: further arguments of `attack_policy`.

    Returns:
        `AttackedEpisodes`: returns, lengths and what the attack changed, (E,) each.

    Raises:
        InputError: an argument is not as described, or the policy does not fit the observations.
    """
    positive("episodes", episodes, integer=True)
    if horizon is not None:
        positive("horizon", horizon, integer=True)
    env = _as_vec_env(env)
    env, normal = _without_normalization(env, normalization_for(policy, normalization))
    check_space("env", env.observation_space)
    observations = env.reset()
    options = {name: attack[name] for name in ("kind", "input_range") if name in attack}
    options["parts"] = shapes_of(observations) if isinstance(observations, dict) else None
    network = PolicyNetwork(policy, are_bytes(observations), **options, normalization=normal)
    if normal is None:
        warn_if_unlike(policy, observations)
    else:
        normal.check(shapes_of(observations))
    if sample and not network.discrete:
        raise InputError("sample", "False of a continuous policy", sample)
    count = env.num_envs
    draws = [np.random.default_rng((seed, number)) for number in range(count)] if sample else None
    actor = _AttackedActor(network, normal, eps, {"seed": seed, **attack}, env.action_space, draws)
    shares = [(episodes + count - 1 - number) // count for number in range(count)]
    with ProgressLine("attack_episodes", episodes, "episode") as line:

        def ended(done: int, mean: float) -> None:
            line.update(done - line.done, f"mean return {mean:.2f}")
            on_episode(done, mean)

        return _play(env, observations, actor, shares, horizon, record, ended)


def _play(
    env: Any,
    observations: Any,
    actor: _AttackedActor,
    episodes: list[int],
    horizon: int | None,
    record: bool,
    on_episode: Callable[[int, float], None],
) -> AttackedEpisodes:
    sums = np.zeros((len(episodes), 4))  # of the episodes that run: reward, steps, changed actions, moves
    ended = [list[Array]() for _ in episodes]
    frames, returns = list[tuple[Any, Any]](), list[float]()
    for step in rollout(env, observations, actor, episodes, horizon):
        if record and not ended[0]:
            frames.append(tuple(map_arrays(lambda x: x[0], value) for value in (actor.clean, actor.seen)))
        sums[step.envs] += np.stack([step.rewards, np.ones(len(step.envs)), actor.changed, actor.moved], 1)
        for row in step.ended.nonzero()[0]:
            number = step.envs[row]
            total, length, changed, moved = sums[number]
            total = step.infos[row].get("episode", {}).get("r", total)  # a Monitor's, of rewards as they were
            ended[number].append(np.array([total, length, changed / length, moved / length]))
            sums[number] = 0
            returns.append(float(total))
            on_episode(len(returns), sum(returns) / len(returns))
    totals, lengths, changed, moved = np.array([value for own in ended for value in own]).T
    forwards, backwards = actor.cost[1:] / actor.cost[0]
    return AttackedEpisodes(totals, lengths.astype(np.int64), changed, moved, float(forwards), float(backwards), frames)


def _as_vec_env(env: Any) -> Any:
    """Return a VecEnv of stable-baselines3, of a single environment one of that alone.

    Raises:
        InputError: it is neither.
    """
    if hasattr(env, "env_method"):
        return env
    if hasattr(env, "num_envs") or not (hasattr(env, "observation_space") and hasattr(env, "step")):
        raise InputError("env", "an environment of gymnasium or a VecEnv of stable-baselines3", type(env).__name__)
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: env])


def _without_normalization(env: Any, normalization: Normalization | None) -> tuple[Any, Normalization | None]:
    """The environment within a `VecNormalize`, and how observations are normalised.

    Raises:
        InputError: there is a `VecNormalize` below other wrappers that changes rewards, or goes on learning.
    """
    if type(env).__name__ == "VecNormalize":
        return env.venv, normalization or as_normalization(env)
    below = getattr(env, "venv", None)
    while below is not None:
        if type(below).__name__ == "VecNormalize" and (below.training or below.norm_reward):
            expected = "a VecNormalize outside of all other wrappers, or one with training and norm_reward False"
            raise InputError("env", expected, f"one within {type(env).__name__}")
        below = getattr(below, "venv", None)
    return env, normalization


@dataclass
class _AttackedActor:
    """An action rule for `rollout`, with the figures (n,) of the latest step and the cost of all."""

    network: PolicyNetwork
    normalization: Normalization | None
    eps: float | None
    attack: dict[str, Any]
    space: Any  # of actions
    draws: list[np.random.Generator] | None  # of each environment, where actions are drawn

    def __post_init__(self) -> None:
        self.cost = np.zeros(3)  # observations, and forwards and backwards of the attack

    def __call__(self, observations: Any, running: Array) -> Array:
        self.clean = self.seen = observations
        self.changed = self.moved = np.zeros(len(running))
        self.cost[0] += len(running)
        output = self._plain() if self.eps is None else self._attacked(self.eps)
        if self.cost[0] == len(running):  # the first step
            check_action_space(output, self.network.discrete, self.space)
        if self.draws is None:
            return self.network.actions(output, self.space)
        numbers = _draw_actions(output, [self.draws[number].random() for number in running])
        return self.network.chosen(numbers, self.space)

    def _plain(self) -> Tensor:
        with frozen(self.network):
            x = as_tensor(self.clean, self.normalization).to(empty_like_parameters(self.network))
            return output_of(self.network, x)

    def _attacked(self, eps: float) -> Tensor:
        # The agent's own policy: `attack_policy` then does not compare observations with those of training again.
        policy = self.network.policy if self.network.agent is None else self.network.agent
        result = attack_policy(policy, self.clean, eps, **self.attack, normalization=self.normalization)
        self.seen = result.observations
        self.changed, self.moved = result.success.cpu().numpy(), result.moved.cpu().numpy()
        self.cost[1:] += int(result.forwards.sum()), int(result.backwards.sum())
        return result.after


def _draw_actions(logits: Tensor, numbers: list[float]) -> Array:
    """Numbers (n,) of actions from the softmax of logits (n, K), by numbers in [0, 1)."""
    shares = logits.double().softmax(1).cumsum(1).cpu().numpy()
    return np.minimum((shares <= np.array(numbers)[:, None]).sum(1), shares.shape[1] - 1)
