"""The job that plays an agent's episodes with and without refined actions."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from tqdm import tqdm

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError, nonnegative, positive
from latentopt.io import checksum
from latentopt.jobs.agent_warnings import printed_warnings
from latentopt.jobs.components import describe
from latentopt.jobs.episode_pictures import film
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.lifetime import job
from latentopt.jobs.pictures import save_gif
from latentopt.jobs.tracker import METRICS, WandbMode, check_wandb_mode, track_job
from latentopt.jobs.used import held, used
from latentopt.optimizers import Optimizer
from latentopt.rl.actor_critic import ActorCritic, RefinedEpisodes, load_actor_critic, play_refined
from latentopt.rl.normalization_files import statistics_file
from latentopt.rl.refine import Refiner
from latentopt.rl.rollout import make_environment


@dataclass(frozen=True)
class Report:
    """What refinement changed."""

    rows: list[dict[str, Any]]  # of the table of results, an episode each
    difference: float  # mean of the returns, refined minus plain
    error: float  # its standard error; NaN of a single episode
    milliseconds: float  # CPU time of refining one action
    files: list[Path]
    seconds: float


@renamed_keywords(box="radius")
@job
def refine(
    agent: str,
    env: str,
    radius: float = 0.25,
    optimizer: Optimizer | str = "adr-gd-critic",
    refine_steps: int = 20,
    critic: Literal["min", "first"] = "min",
    restarts: int = 1,
    episodes: int = 10,
    seed: int = 0,
    gif: bool = True,
    vecnormalize: str | None = None,
    activation: str | None = None,
    out: str = "runs/refine",
    wandb: WandbMode = "offline",
) -> Report:
    """Play an agent's episodes with every action refined, and with none, on the same seeds.

    Args:
        agent: a .safetensors file with actor and critics, or a .zip file that stable-baselines3 saved (TD3, DDPG, SAC,
            TQC). A zip file can run any code when it is loaded: trust where it comes from.
        env: a gymnasium environment's name.
        radius: how far an action may move, in units of half the range.
        optimizer: adr-gd-critic, adam-critic, gd-critic, cem, ... as for `refine_action`, or a class path.
        refine_steps: of the optimizer.
        critic: min or first of the critics.
        restarts: starts of each action.
        episodes: so many, of seeds from `seed` on.
        seed: of the first episode.
        gif: film the first episode, plain and refined side by side.
        vecnormalize: a file with the statistics of VecNormalize that the agent was trained under (.pkl, .npz or
            .safetensors), or none; default the one that lies beside the agent as stable-baselines3 or its zoo puts it.
        activation: of a .safetensors file, between its layers: relu, tanh, elu, ...; default as the file says, else
            relu.
        out: folder for the results; of a job that is done the same command shows them again.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    recipe = {"job": "refine", **describe(locals())}
    begun = time.perf_counter()
    positive("episodes", episodes, integer=True)
    nonnegative("seed", seed, integer=True)
    check_wandb_mode(wandb)
    if not Path(agent).is_file():
        raise InputError("agent", "a file", repr(agent))
    environments = [make_environment(env) for _ in range(episodes)]
    with printed_warnings():
        player = load_actor_critic(agent, environments[0], vecnormalize, activation)
    refiner = Refiner(player.critic, -1.0, 1.0, radius, optimizer, refine_steps, critic, restarts)
    _rehearse(player, environments[0], seed, refiner)
    identity = _held(agent, vecnormalize, env) | held(optimizer=optimizer)
    store = Experiment(Path(out), recipe, identity, "returns")
    store.open()
    fresh = not store.done()
    tracker = track_job(store, wandb, [0] * fresh, {**recipe, **used(agent)}, "refine")
    if fresh:
        seeds = [seed + at for at in range(episodes)]
        with tqdm(unit="step", desc="refine") as bar:
            plain, refined = (play_refined(player, environments, seeds, how, bar.update) for how in (None, refiner))
        shard = _shard(seeds, plain, refined)
        for at, row in enumerate(shard.rows):
            shown = {"metric/return": row["refined"], "metric/plain": row["plain"], "refine/gain": row["gain"]}
            tracker.log(at, {"seed": row["seed"], **shown})
        tracker.keep(store, shard)
    rows = store.finish([])
    files = [store.folder / name for name in (RESULTS, METRICS, RECIPE)]
    if gif and fresh:
        files += _filmed(store.folder / "episode.gif", player, env, seed, refiner)
    change = np.array([row["difference"] for row in rows])
    error = float(change.std(ddof=1) / len(change) ** 0.5) if len(change) > 1 else float("nan")
    best = {"difference": float(change.mean()), "error": error, "gain": float(np.mean([row["gain"] for row in rows]))}
    files = [file for file in files if file.exists()]
    files += tracker.finish(rows, best, files)
    return Report(rows, best["difference"], error, rows[0]["milliseconds"], files, time.perf_counter() - begun)


def _held(agent: str, vecnormalize: str | None, env: str) -> dict[str, str]:
    """Checksums of the agent and, where there are some, of its statistics."""
    statistics = statistics_file(agent, vecnormalize, env)
    return {"agent_held": checksum(Path(agent))} | ({"statistics": checksum(statistics)} if statistics else {})


def _rehearse(player: ActorCritic, environment: Any, seed: int, refiner: Refiner) -> None:
    """One action, so that what is wrong with the settings is known before anything is written."""
    observations = player.observe(np.asarray(environment.reset(seed=seed)[0])[None])
    refiner(observations, player.actor(observations))


def _shard(seeds: list[int], plain: RefinedEpisodes, refined: RefinedEpisodes) -> Shard:
    each = 1e3 * refined.seconds / int(refined.steps.sum())
    rows = [
        {
            "seed": seed,
            "plain": float(plain.returns[at]),
            "refined": float(refined.returns[at]),
            "difference": float(refined.returns[at] - plain.returns[at]),
            "gain": float(refined.gains[at]),
            "steps": int(plain.steps[at]),
            "refined_steps": int(refined.steps[at]),
            "milliseconds": each,
        }
        for at, seed in enumerate(seeds)
    ]
    returns = torch.from_numpy(np.stack([plain.returns, refined.returns], 1))
    return Shard([f"seed {seed}" for seed in seeds], rows, {"index": torch.arange(len(seeds)), "returns": returns})


def _filmed(path: Path, player: ActorCritic, env: str, seed: int, refiner: Refiner) -> list[Path]:
    """The GIF, where the environment can be rendered; else a line that says why not."""
    try:
        frames = film(player, env, seed, [None, refiner])
    except Exception as error:  # whatever a renderer needs: a display, a driver, a package
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        print(f"latentopt: warning: {env} cannot be rendered here ({first}); no GIF", file=sys.stderr)
        return []
    save_gif(path, frames, milliseconds=40)
    return [path]
