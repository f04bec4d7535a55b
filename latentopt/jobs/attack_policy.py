"""The job that plays episodes of a policy as they are and attacked, on the same levels or seeds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from latentopt.attacks.stages import Portfolio
from latentopt.classification import LossName
from latentopt.errors import InputError, nonnegative, positive
from latentopt.io import checksum
from latentopt.jobs.components import describe
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.lifetime import job
from latentopt.jobs.policy_pictures import save_episode, save_returns
from latentopt.jobs.tracker import METRICS, WandbMode, check_wandb_mode, track_job
from latentopt.jobs.used import card_of, held, used
from latentopt.optimizers import Optimizer
from latentopt.rl.attack_episodes import AttackedEpisodes, attack_episodes
from latentopt.rl.attack_policy import Aim
from latentopt.rl.attack_policy import attack_policy as attacked
from latentopt.rl.game_policies import game_of
from latentopt.rl.games import TEST_LEVELS
from latentopt.rl.normalization import Normalization
from latentopt.rl.normalization_checks import check_statistics, doubt
from latentopt.rl.normalization_files import NONE, normalization_of, statistics_file
from latentopt.rl.procgen import GAMES, Procgen
from latentopt.sets import Norm
from latentopt.zoo import cards

ALGORITHMS = ("PPO", "A2C", "DQN", "TD3", "DDPG", "SAC")
BATCH = 16
"""AttackedEpisodes that are played at once, and kept when all of them have ended."""
EPISODE = "episode.gif"


@dataclass(frozen=True)
class Report:
    """What an attack on a policy did."""

    rows: list[dict[str, Any]]  # an episode each
    returns: dict[str, np.ndarray]  # (E,) unattacked, attacked, and their difference
    changed: float  # mean share of an episode's steps where the action changed
    files: list[Path]  # what was written
    seconds: float


@job
def attack_policy(
    model: str,
    eps: float,
    env: str | None = None,
    algorithm: str | None = None,
    episodes: int = 20,
    norm: Norm = "linf",
    optimizer: Optimizer | Portfolio | str = "pgd",
    loss: LossName | None = None,
    targets: Aim | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    evaluations: int | None = None,
    sample: bool = False,
    seed: int = 0,
    vecnormalize: str | None = None,
    out: str = "runs/attack-policy",
    wandb: WandbMode = "offline",
) -> Report:
    """Attack what a policy observes, and compare its returns with and without.

    Args:
        model: name of a shipped policy, or a folder with its card; or a .zip that stable-baselines3 saved (it holds
            pickles: only from those you trust).
        eps: greatest change of an observation, in its norm; of images as a share of 255; of an agent that was trained
            under VecNormalize in the standard deviations of its statistics.
        env: id of a gymnasium environment; default the game of the policy's card.
        algorithm: of a .zip: PPO, A2C, DQN, TD3, DDPG or SAC.
        episodes: how many are played each way.
        norm: linf or l2.
        optimizer: pgd, apgd, adr-gd, portfolio, ... or a class path.
        loss: of discrete actions: ce, margin or dlr; default ce.
        targets: of discrete actions, the one that is aimed at: random or least-likely; default whichever is nearest.
        steps: steps of each restart; default 100.
        restarts: starts of each observation; default 1.
        evaluations: forwards and backwards that an observation may cost; default any number.
        sample: draw discrete actions from the policy instead of taking the likeliest.
        seed: of every random number.
        vecnormalize: of a .zip: a file with the statistics of VecNormalize that it was trained under (.pkl, .npz or
            .safetensors), or none; default the one that lies beside it as stable-baselines3 or its zoo puts it.
        out: folder for the results; a job that was stopped goes on, and of one that is done they are shown again.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    recipe = {"job": "attack-policy", **describe(locals())}
    begun = time.perf_counter()
    positive("episodes", episodes, integer=True)
    nonnegative("seed", seed, integer=True)
    check_wandb_mode(wandb)
    opened = partial(_opened, model, env, algorithm, seed)
    attack = {"norm": norm, "optimizer": optimizer, "loss": loss, "steps": steps, "restarts": restarts}
    attack |= {"targets": targets, "evaluations": evaluations}
    normalization = _normalization(model, env, algorithm, vecnormalize)
    _rehearse(opened, eps, {"seed": seed, "normalization": normalization, **attack})
    identity = _identity(model, env, vecnormalize) | held(optimizer=optimizer)
    store = Experiment(Path(out), recipe, identity, "returns")
    store.open()
    done = store.done()
    todo = [start for start in range(0, episodes, BATCH) if start not in done]
    tracker = track_job(store, wandb, todo, {**recipe, **used(model)}, "attack-policy")
    with tqdm(total=2 * (episodes - len(done)), unit="episode", disable=not todo) as bar:
        for start in todo:
            options = {"sample": sample, "seed": seed + start, "record": start == 0, "on_episode": partial(_show, bar)}
            options["normalization"] = normalization
            clean, changed = _played(*opened(start, min(BATCH, episodes - start)), eps, options, attack)
            if start == 0:
                save_episode(store.folder / EPISODE, clean.frames, changed.frames)
            shard = _shard(start, clean, changed)
            for row in shard.rows:
                tracker.log(row["episode"], {name: value for name, value in row.items() if name != "episode"})
            tracker.keep(store, shard)
    rows = store.finish([])
    returns = {name: np.array([row[f"{name}_return"] for row in rows]) for name in ("unattacked", "attacked")}
    picture = save_returns(store.folder / "returns.png", returns)
    returns["difference"] = returns["attacked"] - returns["unattacked"]
    files = [store.folder / name for name in (RESULTS, METRICS, RECIPE, "returns.safetensors")]
    files = [file for file in (*files, picture, store.folder / EPISODE) if file.exists()]
    files += tracker.finish(rows, {f"mean_{name}": float(values.mean()) for name, values in returns.items()}, files)
    share = float(np.mean([row["changed"] for row in rows]))
    return Report(rows, returns, share, files, time.perf_counter() - begun)


def _normalization(
    model: str, env: str | None, algorithm: str | None, vecnormalize: str | None
) -> Normalization | None:
    """How an agent's observations were normalised in training, of what lies beside it or was named.

    Raises:
        InputError: there is none, and it can be seen that there has to be one, or the other way round.
    """
    if not model.endswith(".zip"):
        if vecnormalize not in (None, NONE):
            raise InputError("vecnormalize", "None, of a policy with a card", vecnormalize)
        return None
    _check_zip(env, algorithm)
    agent, (found, certain) = _agent(model, str(algorithm)), normalization_of(model, vecnormalize, env)
    if not certain:
        check_statistics(agent, Path(model).name, found)
        games = _environments(str(env), 1, 0)
        odd = doubt(agent, games.envs[0], found)
        games.close()
        if odd is not None:
            print(f"latentopt: warning: {Path(model).name}: {odd}", file=sys.stderr)
    return found


def _identity(model: str, env: str | None, vecnormalize: str | None) -> dict[str, Any]:
    """What of the policy, and of its statistics or the game on its card, decides the results."""
    if model.endswith(".zip"):
        statistics = statistics_file(model, vecnormalize, env)
        return {"weights": checksum(Path(model))} | ({"statistics": checksum(statistics)} if statistics else {})
    game, settings = game_of(model)
    told = {f"card.training.{name}": value for name, value in {"game": game, **settings}.items()}
    return {"weights": cards.read_card(model).weights_sha256, **card_of(model), **told}


def _rehearse(opened: Callable[[int, int], tuple[Any, Any]], eps: float, attack: dict[str, Any]) -> None:
    """Attack one observation, so that what is wrong is known before anything is written."""
    policy, games = opened(0, 1)
    try:
        attacked(policy, games.reset(), eps, **attack)
    finally:
        games.close()


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


def _show(bar: Any, done: int, mean: float) -> None:
    bar.set_postfix_str(f"mean return {mean:.2f}", refresh=False)
    bar.update()


def _opened(model: str, env: str | None, algorithm: str | None, seed: int, start: int, count: int) -> tuple[Any, Any]:
    """The policy, and environments for so many episodes from one on, the same each time they are seeded and reset."""
    if not model.endswith(".zip"):
        game, settings = game_of(model)
        if env not in (None, game) or algorithm is not None:
            raise InputError("env", f"None, as {model} plays {game}", env or algorithm)
        levels = range(TEST_LEVELS + start, TEST_LEVELS + start + count)
        return cards.load_classifier(model), Procgen(game, fixed=levels, **settings)
    _check_zip(env, algorithm)
    return _agent(model, str(algorithm)).policy, _environments(str(env), count, seed + start)


def _check_zip(env: str | None, algorithm: str | None) -> None:
    """Raise `InputError` unless environment and algorithm are those of a .zip."""
    if algorithm not in ALGORITHMS:
        raise InputError("algorithm", f"one of {', '.join(ALGORITHMS)}, for a .zip", repr(algorithm))
    if env is None or env in GAMES:
        raise InputError("env", "the id of a gymnasium environment, for a .zip", repr(env))


def _agent(path: str, algorithm: str) -> Any:
    import stable_baselines3

    if not Path(path).is_file():
        raise InputError("model", "a file", f"no {path}")
    try:
        return getattr(stable_baselines3, algorithm).load(path, device="cpu")
    except Exception as error:  # pickles fail in any way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError("model", f"what stable-baselines3 saved of {algorithm}", f"{path} ({reason})") from error


def _environments(env: str, count: int, seed: int) -> Any:
    import gymnasium
    from stable_baselines3.common.env_util import make_vec_env

    try:
        return make_vec_env(env, count, seed=seed)
    except gymnasium.error.Error as error:
        raise InputError("env", "the id of a gymnasium environment", f"{env} ({error})") from error


def _shard(start: int, clean: AttackedEpisodes, changed: AttackedEpisodes) -> Shard:
    rows = _rows(start, clean, changed)
    returns = torch.from_numpy(np.stack([clean.returns, changed.returns], 1))  # (n, 2)
    index = torch.arange(start, start + len(rows))
    return Shard([f"episode {at}" for at in index.tolist()], rows, {"index": index, "returns": returns})


def _rows(start: int, clean: AttackedEpisodes, attacked: AttackedEpisodes) -> list[dict[str, Any]]:
    columns = {
        "episode": np.arange(start, start + len(clean.returns)),
        "unattacked_return": clean.returns,
        "attacked_return": attacked.returns,
        "unattacked_steps": clean.lengths,
        "attacked_steps": attacked.lengths,
        "changed": attacked.changed,
        "moved": attacked.moved,
    }
    each = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in each]
