"""The attack on a policy at work: episodes as they are and attacked, their rows and pictures."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latentopt.errors import InputError
from latentopt.io import checksum
from latentopt.jobs.attack_policy import AttackPolicyJobResult, AttackPolicySettings
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.identity import describe_card, describe_model, digest_tensors
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.tracker import METRICS, track_job
from latentopt.pictures import save_gif, tile
from latentopt.progress import ProgressLine
from latentopt.reports import new_plot
from latentopt.results import rows_of
from latentopt.rl.agents import load_agent
from latentopt.rl.attack_episodes import AttackedEpisodes, attack_episodes
from latentopt.rl.attack_policy import attack_policy as attack_observations
from latentopt.rl.game_policies import game_of
from latentopt.rl.games import TEST_LEVELS
from latentopt.rl.normalization import Normalization
from latentopt.rl.normalization_checks import check_statistics, doubt
from latentopt.rl.normalization_files import NONE, normalization_of, statistics_file
from latentopt.rl.policy_network import check_action_space
from latentopt.rl.procgen import Procgen
from latentopt.rl.rollout import make_environment
from latentopt.rl.saved_models import algorithm_of, load_model
from latentopt.zoo import cards

AGENTS = (".zip", ".safetensors")
"""Suffixes of files with agents; other models have a card."""
BATCH = 16
"""Number of episodes that are played at once, and written when all of them have ended."""
EPISODE, RETURNS = "episode.gif", "returns.png"
MAX_FRAMES = 400
"""Most frames of an animation."""
Frames = Sequence[tuple[np.ndarray, np.ndarray]]
"""Of each step the observation, and the one that the policy got."""


def run_policy_attack(plan: JobPlan[AttackPolicySettings]) -> AttackPolicyJobResult:
    """Run a prepared attack on a policy, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the policy or the environment; nothing was written.
    """
    begun = time.perf_counter()
    s = plan.settings.build()
    recipe = s.recipe()
    names = ("norm", "optimizer", "loss", "steps", "restarts", "targets", "evaluations")
    attack = {name: getattr(s, name) for name in names}
    policy, normalization = _policy(s)
    opened = partial(_environments, s)
    games = opened(0, 1)
    try:  # an error comes before anything is written
        found = attack_observations(policy, games.reset(), s.eps, seed=s.seed, normalization=normalization, **attack)
        check_action_space(found.before, found.discrete, games.action_space)
        if s.sample and not found.discrete:
            raise InputError("sample", "False of a continuous policy", s.sample)
    finally:
        games.close()
    identity = _identity(s.model, s.env, s.vecnormalize) | digest_tensors(optimizer=s.optimizer)
    experiment = Experiment(plan.folder, recipe, identity, "returns")
    experiment.open()
    done = experiment.done()
    todo = [start for start in range(0, s.episodes, BATCH) if start not in done]
    tracker = track_job(experiment, s.wandb, todo, {**recipe, **describe_model(s.model)}, "attack-policy")
    with ProgressLine("attack-policy", 2 * (s.episodes - len(done)), "episode", leave=True) as line:
        for start in todo:
            options = {"sample": s.sample, "seed": s.seed + start, "record": start == 0}
            options |= {"on_episode": lambda done, mean: line.update(), "normalization": normalization}
            clean, changed = _played(policy, opened(start, min(BATCH, s.episodes - start)), s.eps, options, attack)
            if start == 0:
                save_episode(plan.folder / EPISODE, clean.frames, changed.frames)
            shard = _shard(start, clean, changed)
            for row in shard.rows:
                tracker.log(row["episode"], {name: value for name, value in row.items() if name != "episode"})
            tracker.keep(experiment, shard)
    rows = experiment.finish()
    returns = {name: np.array([row[f"{name}_return"] for row in rows]) for name in ("unattacked", "attacked")}
    save_returns(plan.folder / RETURNS, returns)
    returns["difference"] = returns["attacked"] - returns["unattacked"]
    files = experiment.existing(RESULTS, METRICS, RECIPE, experiment.tensor_file.name, RETURNS, EPISODE)
    files += tracker.finish(rows, {f"mean_{name}": float(values.mean()) for name, values in returns.items()}, files)
    share = float(np.mean([row["changed"] for row in rows]))
    return AttackPolicyJobResult(rows, returns, share, files, time.perf_counter() - begun)


def _policy(settings: AttackPolicySettings) -> tuple[Any, Normalization | None]:
    """Return the policy, and the normalisation of its observations in training: named, or found beside a .zip.

    Raises:
        InputError: it is none, one of another environment, or the normalisation is missing or another's.
    """
    path, game = Path(settings.model), settings.env
    if path.suffix not in AGENTS:
        if settings.vecnormalize not in (None, NONE):
            raise InputError("vecnormalize", "None, of a policy with a card", settings.vecnormalize)
        own, _ = game_of(settings.model)
        if game not in (None, own) or settings.algorithm is not None:
            raise InputError("env", f"None, as {settings.model} plays {own}", game or settings.algorithm)
        return cards.load_classifier(settings.model), None
    environment = make_environment(str(game))
    if path.suffix == ".safetensors":
        model: Any = load_agent(path, environment, vecnormalize=settings.vecnormalize)
        normalization, certain = model.normalization, settings.vecnormalize is not None
    else:
        model = load_model(path, settings.algorithm or algorithm_of(path), environment, match=False)
        normalization, certain = normalization_of(path, settings.vecnormalize, game)
        if not certain:
            check_statistics(model, path.name, normalization)
    if not certain and (odd := doubt(model, environment, normalization)) is not None:
        print(f"latentopt: warning: {path.name}: {odd}", file=sys.stderr)
    return model.policy, normalization


def _identity(model: str, env: str | None, vecnormalize: str | None) -> dict[str, Any]:
    """Return what identifies the policy: its weights, its statistics, or the game on its card."""
    if Path(model).suffix in AGENTS:
        statistics = statistics_file(model, vecnormalize, env)
        return {"weights": checksum(Path(model))} | ({"statistics": checksum(statistics)} if statistics else {})
    game, settings = game_of(model)
    training = {f"card.training.{name}": value for name, value in {"game": game, **settings}.items()}
    return {"weights": cards.read_card(model).weights_sha256, **describe_card(model), **training}


def _played(
    policy: Any, games: Any, eps: float, options: dict[str, Any], attack: dict[str, Any]
) -> tuple[AttackedEpisodes, AttackedEpisodes]:
    """An episode of each environment, unattacked and attacked."""
    played = []
    try:
        for radius, how in ((None, {}), (eps, attack)):
            games.seed(options["seed"])
            played.append(attack_episodes(policy, games, games.num_envs, radius, **options, **how))
    finally:
        games.close()
    return played[0], played[1]


def _environments(settings: AttackPolicySettings, start: int, count: int) -> Any:
    """Environments for so many episodes from one on, the same each time they are seeded and reset."""
    if Path(settings.model).suffix not in AGENTS:
        game, options = game_of(settings.model)
        return Procgen(game, fixed=range(TEST_LEVELS + start, TEST_LEVELS + start + count), **options)
    from stable_baselines3.common.env_util import make_vec_env

    return make_vec_env(partial(make_environment, str(settings.env)), count, seed=settings.seed + start)


def _shard(start: int, clean: AttackedEpisodes, changed: AttackedEpisodes) -> Shard:
    rows = _rows(start, clean, changed)
    returns = torch.from_numpy(np.stack([clean.returns, changed.returns], 1))  # (n, 2)
    index = torch.arange(start, start + len(rows))
    return Shard([f"episode {number}" for number in index.tolist()], rows, {"index": index, "returns": returns})


def _rows(start: int, clean: AttackedEpisodes, attacked: AttackedEpisodes) -> list[dict[str, Any]]:
    return rows_of(
        {
            "episode": np.arange(start, start + len(clean.returns)),
            "unattacked_return": clean.returns,
            "attacked_return": attacked.returns,
            "unattacked_steps": clean.lengths,
            "attacked_steps": attacked.lengths,
            "changed": attacked.changed,
            "moved": attacked.moved,
        }
    )


def save_episode(path: Path, before: Frames, after: Frames) -> list[Path]:
    """The episode unattacked and the one attacked, side by side, with what the attack changed, enlarged 16 times.

    Nothing is written where observations are no images (H, W, C) or (C, H, W) of bytes.
    """
    if isinstance(before[0][0], dict):
        return []
    shape = before[0][0].shape
    if len(shape) != 3 or before[0][0].dtype != np.uint8 or not {1, 3} & {shape[0], shape[-1]}:
        return []
    length = min(MAX_FRAMES, max(len(before), len(after)))
    pictures = [_shown(before, after, step) for step in range(length)]
    save_gif(path, pictures)
    return [path]


def _shown(before: Frames, after: Frames, step: int) -> np.ndarray:
    clean, _ = before[min(step, len(before) - 1)]
    real, attacked = after[min(step, len(after) - 1)]
    change = (128 + 16 * (attacked.astype(int) - real)).clip(0, 255).astype(np.uint8)
    return tile([_image(frame) for frame in (clean, attacked, change)], per_row=1, side=192)


def _image(observation: np.ndarray) -> torch.Tensor:
    """(1, C, H, W) bytes."""
    first = observation if observation.shape[0] in (1, 3) else observation.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(first))[None]


def save_returns(path: Path, returns: Mapping[str, np.ndarray]) -> Path:
    """The returns of all episodes, from the least to the greatest, a line for each way of playing."""
    figure, axes = new_plot()
    for name, values in returns.items():
        axes.plot(
            np.arange(1, len(values) + 1), np.sort(values), "o-", markersize=3, label=f"{name}: {values.mean():.2f}"
        )
    axes.set(xlabel="episode, sorted", ylabel="return")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=130)
    return path
