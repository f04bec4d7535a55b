"""The job that plays episodes of a policy as they are and attacked, on the same levels or seeds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from latentopt.classification import LossName
from latentopt.errors import InputError, positive
from latentopt.jobs.policy_pictures import save_episode, save_returns
from latentopt.jobs.specs import describe
from latentopt.jobs.store import RECIPE, RESULTS, write_csv
from latentopt.jobs.tracking import METRICS, Mode, Tracker, check_mode
from latentopt.jobs.used import used
from latentopt.optimizers import Optimizer
from latentopt.rehearsal import begin
from latentopt.result import write_atomically
from latentopt.rl.attack_policy import Aim
from latentopt.rl.attack_policy import attack_policy as attacked
from latentopt.rl.attacked_episodes import Episodes, attacked_episodes
from latentopt.rl.procgen import GAMES, Procgen
from latentopt.rl.shipped import game_of
from latentopt.rl.train_policy import TEST_LEVELS
from latentopt.sets import Norm
from latentopt.tasks.stages import Portfolio
from latentopt.zoo import cards

ALGORITHMS = ("PPO", "A2C", "DQN", "TD3", "DDPG", "SAC")


@dataclass(frozen=True)
class Report:
    """What an attack on a policy did."""

    rows: list[dict[str, Any]]  # an episode each
    returns: dict[str, np.ndarray]  # (E,) unattacked, attacked, and their difference
    changed: float  # mean share of an episode's steps where the action changed
    files: list[Path]  # what was written
    seconds: float


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
    out: str = "runs/attack-policy",
    wandb: Mode = "offline",
) -> Report:
    """Attack what a policy observes, and compare its returns with and without.

    Args:
        model: name of a shipped policy, or a folder with its card; or a .zip that stable-baselines3 saved (it holds
            pickles: only from those you trust).
        eps: greatest change of an observation, in its norm; of images as a share of 255.
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
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    recipe = {"job": "attack-policy", **describe(locals())}
    begun = time.perf_counter()
    positive("episodes", episodes, integer=True)
    check_mode(wandb)
    folder = Path(out)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("out", "a new or empty folder", out)
    policy, games = _opened(model, env, algorithm, episodes, seed)
    attack = {"norm": norm, "optimizer": optimizer, "loss": loss, "steps": steps, "restarts": restarts}
    attack |= {"targets": targets, "evaluations": evaluations}
    try:
        attacked(
            policy, games.reset()[:1], eps, seed=seed, **attack
        )  # what is wrong is known before anything is written
        begin()
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / RECIPE, yaml.safe_dump(recipe, sort_keys=False, width=100).encode())
        tracker = Tracker(folder, wandb, {**recipe, **used(model)}, "attack-policy")
        with tqdm(total=2 * episodes, unit="episode") as bar:
            watch = _Watch(bar, tracker)
            played = dict[str, Episodes]()
            for name, radius, options in (("unattacked", None, {}), ("attacked", eps, attack)):
                games.seed(seed)
                options |= {"sample": sample, "seed": seed, "record": True, "seen": watch.of(name)}
                played[name] = attacked_episodes(policy, games, episodes, radius, **options)
    finally:
        games.close()
    tracker.flush()
    rows = _rows(played["unattacked"], played["attacked"])
    write_csv(folder / RESULTS, list(rows[0]), [list(row.values()) for row in rows])
    files = [folder / name for name in (RESULTS, METRICS, RECIPE)]
    files.append(save_returns(folder / "returns.png", {name: one.returns for name, one in played.items()}))
    files += save_episode(folder / "episode.gif", played["unattacked"].frames, played["attacked"].frames)
    returns = {name: one.returns for name, one in played.items()}
    returns["difference"] = returns["attacked"] - returns["unattacked"]
    files += tracker.finish(rows, {f"mean_{name}": float(values.mean()) for name, values in returns.items()}, files)
    changed = float(played["attacked"].changed.mean())
    return Report(rows, returns, changed, files, time.perf_counter() - begun)


class _Watch:
    """Shows and tracks the mean return as episodes end."""

    def __init__(self, bar: Any, tracker: Tracker) -> None:
        self.bar, self.tracker, self.step = bar, tracker, 0

    def of(self, name: str) -> Any:
        def seen(done: int, mean: float) -> None:
            self.tracker.log(self.step, {f"return/{name}": mean, f"episodes/{name}": float(done)})
            self.tracker.flush()
            self.step += 1
            self.bar.set_postfix_str(f"{name}: mean return {mean:.2f}", refresh=False)
            self.bar.update()

        return seen


def _opened(model: str, env: str | None, algorithm: str | None, episodes: int, seed: int) -> tuple[Any, Any]:
    """The policy, and environments for so many episodes, the same each time they are reset."""
    if not model.endswith(".zip"):
        game, settings = game_of(model)
        if env not in (None, game) or algorithm is not None:
            raise InputError("env", f"None, as {model} plays {game}", env or algorithm)
        levels = range(TEST_LEVELS, TEST_LEVELS + episodes)
        return cards.load_classifier(model), Procgen(game, fixed=levels, **settings)
    if algorithm not in ALGORITHMS:
        raise InputError("algorithm", f"one of {', '.join(ALGORITHMS)}, for a .zip", repr(algorithm))
    if env is None or env in GAMES:
        raise InputError("env", "the id of a gymnasium environment, for a .zip", repr(env))
    return _agent(model, algorithm), _environments(env, min(episodes, 16), seed)


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


def _rows(clean: Episodes, attacked: Episodes) -> list[dict[str, Any]]:
    columns = {
        "episode": np.arange(len(clean.returns)),
        "unattacked_return": clean.returns,
        "attacked_return": attacked.returns,
        "unattacked_steps": clean.lengths,
        "attacked_steps": attacked.lengths,
        "changed": attacked.changed,
        "moved": attacked.moved,
    }
    each = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in each]
