"""Episodes of a policy that sees its observations as they are, or attacked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.freezing import frozen
from latentopt.rl.attack_policy import attack_policy, output_of
from latentopt.rl.normalization import Normalization, as_normalization
from latentopt.rl.normalization_checks import warn_if_unlike
from latentopt.rl.policy_network import PolicyNetwork, as_tensor

Seen = Callable[[int, float], None]


@dataclass(frozen=True, eq=False)
class Episodes:
    """What became of E episodes, environment by environment."""

    returns: np.ndarray  # (E,) sums of rewards
    lengths: np.ndarray  # (E,) steps
    changed: np.ndarray  # (E,) share of the steps where the attack changed the action (of a continuous one: at all)
    moved: np.ndarray  # (E,) mean of `AttackedObservations.moved` over the steps; 0 without an attack
    forwards: float  # of the attack a step, in the mean
    backwards: float
    frames: list[tuple[np.ndarray, np.ndarray]]  # of the first episode: observation (*shape) and what was seen of it


@dataclass
class _Running:
    """An environment's episode under way, and those that it has ended: return, steps, changed, moved."""

    left: int  # episodes to end
    draws: np.random.Generator
    ended: list[tuple[float, int, float, float]] = field(default_factory=list)
    reward: float = 0.0
    changed: list[bool] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)

    def step(self, reward: float, done: bool, info: dict[str, Any]) -> None:
        self.reward += reward
        if not done:
            return
        whole = info.get("episode", {}).get("r", self.reward)  # a Monitor's, of rewards as they were
        steps = len(self.changed)
        self.ended.append((float(whole), steps, sum(self.changed) / steps, sum(self.moved) / steps))
        self.left, self.reward, self.changed, self.moved = self.left - 1, 0.0, [], []


def attacked_episodes(
    policy: Any,
    env: Any,
    episodes: int,
    eps: float | None = None,
    *,
    sample: bool = False,
    horizon: int | None = None,
    seed: int = 0,
    record: bool = False,
    seen: Seen = lambda done, mean: None,
    normalization: Any = None,
    **attack: Any,
) -> Episodes:
    """Play episodes, of which the policy sees each observation as `attack_policy` leaves it.

    The episodes are shared out evenly among the environments, so that short ones do not count more often.

    Args:
        policy: as `attack_policy` takes it.
        env: a VecEnv of stable-baselines3 with observations that the policy takes. Of a `VecNormalize` the environment
            within is played, whose rewards are as they were, and its statistics, which no longer change, are the
            ``normalization``.
        episodes: number of episodes E, >= 1.
        eps: radius of the attack, in the units that `attack_policy` has; None: no attack.
        sample: draw discrete actions from the softmax of the logits instead of taking the likeliest one. The numbers
            drawn depend on the seed, the environment and its step alone, so two attacks are compared on equal terms.
        horizon: steps after which an episode is cut and counts as ended, for environments that are played once only;
            None: never.
        seed: of the attack and of those draws; the environment has its own.
        record: keep what was seen in the first environment's first episode.
        seen: called when an episode ends, with the number that have and the mean return so far.
        normalization: as `attack_policy` takes it.
        attack: further arguments of `attack_policy`.

    Raises:
        InputError: an argument is not as described, or the policy does not fit the observations.
    """
    positive("episodes", episodes, integer=True)
    if horizon is not None:
        positive("horizon", horizon, integer=True)
    if not hasattr(env, "num_envs") or not hasattr(env, "step_async"):
        raise InputError("env", "a VecEnv of stable-baselines3", type(env).__name__)
    env, normal = _without_normalization(env, as_normalization(normalization))
    observations = env.reset()
    if not isinstance(observations, np.ndarray):
        raise InputError("env", "one whose observations are arrays", type(observations).__name__)
    options = {name: attack[name] for name in ("kind", "input_range") if name in attack}
    network = PolicyNetwork(policy, observations.dtype == np.uint8, **options, normalization=normal)
    if normal is None:
        warn_if_unlike(policy, observations)
    else:
        normal.check(observations.shape[1:])
    if sample and not network.discrete:
        raise InputError("sample", "False of a continuous policy", sample)
    count = env.num_envs
    running = [_Running((episodes + count - 1 - at) // count, np.random.default_rng((seed, at))) for at in range(count)]
    frames, cost, done_so_far = list[tuple[np.ndarray, np.ndarray]](), np.zeros(3), list[float]()
    while live := [at for at, each in enumerate(running) if each.left]:
        sight = _look(network, normal, observations[live], eps, {"seed": seed, **attack})
        cost += (len(live), sight.forwards, sight.backwards)
        if record and not running[0].ended:
            frames.append((observations[0].copy(), sight.observations[0]))
        actions = network.actions(sight.output, env.action_space)
        if sample:
            actions = _drawn(sight.output, [running[at].draws.random() for at in live])
        every = np.zeros((count, *actions.shape[1:]), actions.dtype)
        every[live] = actions
        observations, rewards, dones, infos = env.step(every)
        for row, at in enumerate(live):
            running[at].changed.append(bool(sight.changed[row]))
            running[at].moved.append(float(sight.moved[row]))
            cut = len(running[at].changed) == horizon
            running[at].step(float(rewards[at]), bool(dones[at]) or cut, infos[at])
            if dones[at] or cut:
                done_so_far.append(running[at].ended[-1][0])
                seen(len(done_so_far), sum(done_so_far) / len(done_so_far))
    returns, lengths, changed, moved = (
        np.array(column) for column in zip(*(each for one in running for each in one.ended), strict=True)
    )
    forwards, backwards = cost[1:] / cost[0]
    return Episodes(returns, lengths, changed, moved, float(forwards), float(backwards), frames)


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


class _Sight(NamedTuple):
    """What the policies in the environments that are left see and decide."""

    observations: np.ndarray  # (n, *shape)
    output: Tensor  # (n, ...)
    changed: Tensor  # (n,) bool
    moved: Tensor  # (n,)
    forwards: int  # of all together, of the attack
    backwards: int


def _look(
    network: PolicyNetwork, normal: Normalization | None, clean: np.ndarray, eps: float | None, attack: dict[str, Any]
) -> _Sight:
    if eps is None:
        with frozen(network):
            output = output_of(network, as_tensor(clean, normal).to(empty_like_parameters(network)))
        none = torch.zeros(len(clean))
        return _Sight(clean, output, none.bool(), none, 0, 0)
    policy = network.policy if network.agent is None else network.agent  # which is not looked at again
    found = attack_policy(policy, clean, eps, **attack, normalization=normal)
    forwards, backwards = int(found.forwards.sum()), int(found.backwards.sum())
    return _Sight(found.observations, found.after, found.success, found.moved, forwards, backwards)


def _drawn(logits: Tensor, numbers: list[float]) -> np.ndarray:
    """Actions (n,) from the softmax of logits (n, K), by numbers in [0, 1)."""
    shares = logits.double().softmax(1).cumsum(1).cpu().numpy()
    return np.minimum((shares <= np.array(numbers)[:, None]).sum(1), shares.shape[1] - 1)
