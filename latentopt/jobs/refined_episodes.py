"""The refinement job at work: episodes with and without refined actions, their rows and the film."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from latentopt.errors import first_line
from latentopt.io import checksum
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.identity import describe_model, digest_tensors
from latentopt.jobs.refine import RefineJobResult, RefineSettings
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.tracker import METRICS, track_job
from latentopt.pictures import save_gif
from latentopt.progress import ProgressLine
from latentopt.rl.actor_critic import ActorCritic, RefinedActor, RefinedEpisodes, load_actor_critic, play_refined
from latentopt.rl.normalization import NormalizationWarning
from latentopt.rl.normalization_files import statistics_file
from latentopt.rl.observations import stack
from latentopt.rl.refine import Refiner
from latentopt.rl.rollout import make_environment, play_seeds

MAX_FRAMES, FRAME_HEIGHT = 120, 240
"""Most frames of a film, and about their height in pixels."""
FILM = "episode.gif"
Picture = NDArray[Any]


def run_refinement(plan: JobPlan[RefineSettings]) -> RefineJobResult:
    """Run a prepared refinement, or read the results of one that is done.

    Raises:
        InputError: a setting does not fit the agent or the environment; nothing was written.
    """
    begun = time.perf_counter()
    s = plan.settings.build()
    recipe = s.recipe()
    environments = [make_environment(s.env) for _ in range(s.episodes)]
    with printed_warnings():
        player = load_actor_critic(s.agent, environments[0], s.vecnormalize, s.activation)
    refiner = Refiner(player.critic, -1.0, 1.0, s.radius, s.optimizer, s.refine_steps, s.critic, s.restarts)
    observations = player.observe(stack([environments[0].reset(seed=s.seed)[0]]))
    refiner(observations, player.actor(observations))  # an error comes before anything is written
    statistics = statistics_file(s.agent, s.vecnormalize, s.env)
    identity = {"agent_held": checksum(Path(s.agent)), **digest_tensors(optimizer=s.optimizer)}
    identity |= {"statistics": checksum(statistics)} if statistics else {}
    experiment = Experiment(plan.folder, recipe, identity, "returns")
    experiment.open()
    is_new = not experiment.done()
    tracker = track_job(experiment, s.wandb, [0] * is_new, {**recipe, **describe_model(s.agent)}, "refine")
    if is_new:
        seeds = [s.seed + i for i in range(s.episodes)]
        with ProgressLine("refine", None, leave=True) as line:
            plain, refined = (play_refined(player, environments, seeds, how, line.update) for how in (None, refiner))
        shard = _shard(seeds, plain, refined)
        for i, row in enumerate(shard.rows):
            figures = {"metric/return": row["refined"], "metric/plain": row["plain"], "refine/gain": row["gain"]}
            tracker.log(i, {"seed": row["seed"], **figures})
        tracker.keep(experiment, shard)
    rows = experiment.finish()
    if s.gif and is_new:
        _film(plan.folder / FILM, player, s.env, s.seed, refiner)
    change = np.array([row["difference"] for row in rows])
    error = float(change.std(ddof=1) / len(change) ** 0.5) if len(change) > 1 else float("nan")
    best = {"difference": float(change.mean()), "error": error, "gain": float(np.mean([row["gain"] for row in rows]))}
    files = experiment.existing(RESULTS, METRICS, RECIPE, *[FILM] * (s.gif and is_new))
    files += tracker.finish(rows, best, files)
    milliseconds = rows[0]["milliseconds"]
    return RefineJobResult(rows, best["difference"], error, milliseconds, files, time.perf_counter() - begun)


def _shard(seeds: list[int], plain: RefinedEpisodes, refined: RefinedEpisodes) -> Shard:
    milliseconds = 1e3 * refined.seconds / int(refined.steps.sum())
    rows = [
        {
            "seed": seed,
            "plain": float(plain.returns[row]),
            "refined": float(refined.returns[row]),
            "difference": float(refined.returns[row] - plain.returns[row]),
            "gain": float(refined.gains[row]),
            "steps": int(plain.steps[row]),
            "refined_steps": int(refined.steps[row]),
            "milliseconds": milliseconds,
        }
        for row, seed in enumerate(seeds)
    ]
    returns = torch.from_numpy(np.stack([plain.returns, refined.returns], 1))
    return Shard([f"seed {seed}" for seed in seeds], rows, {"index": torch.arange(len(seeds)), "returns": returns})


def _film(path: Path, player: ActorCritic, env: str, seed: int, refiner: Refiner) -> None:
    """Write the GIF where the environment can be rendered; else a line on stderr tells why not."""
    try:
        frames = film(player, env, seed, [None, refiner])
    except Exception as error:  # whatever a renderer needs: a display, a driver, a package
        print(f"latentopt: warning: {env} cannot be rendered here ({first_line(error)}); no GIF", file=sys.stderr)
        return
    save_gif(path, frames, milliseconds=40)


def film(agent: ActorCritic, env: str, seed: int, refiners: Sequence[Refiner | None]) -> list[Picture]:
    """Film an episode of one seed with each refiner, in columns; an episode that ended stands still.

    Returns:
        Frames (H, W, 3) of bytes.
    """
    episodes = [_film_episode(agent, env, seed, refiner) for refiner in refiners]
    stride = max(1, -(-max(map(len, episodes)) // MAX_FRAMES))
    columns = [episode[::stride] for episode in episodes]
    frames = list[Picture]()
    last = [column[0] for column in columns]
    for row in zip_longest(*columns):
        last = [now if now is not None else before for now, before in zip(row, last, strict=True)]
        frames.append(np.concatenate(last, 1))
    return frames


def _film_episode(agent: ActorCritic, env: str, seed: int, refiner: Refiner | None) -> list[Picture]:
    import gymnasium

    frames, actor = list[Picture](), RefinedActor(agent, refiner)

    def act(observations: Picture, running: Picture) -> Picture:
        frames.append(_shrink(environment.render()))
        return actor(observations, running)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        environment = gymnasium.make(env, render_mode="rgb_array")
        play_seeds([environment], [seed], act)
        frames.append(_shrink(environment.render()))
        environment.close()
    return frames


def _shrink(picture: Any) -> Picture:
    """Leave out rows and columns evenly."""
    frame = np.asarray(picture, dtype=np.uint8)
    stride = max(1, round(len(frame) / FRAME_HEIGHT))
    return frame[::stride, ::stride]


@contextmanager
def printed_warnings() -> Iterator[None]:
    """Print each `NormalizationWarning` as a line on stderr; leave other warnings alone."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", NormalizationWarning)
        otherwise = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *args: Any, **kwargs: Any) -> None:
            if issubclass(category, NormalizationWarning):
                print(f"latentopt: warning: {message}", file=sys.stderr)
            else:
                otherwise(message, category, *args, **kwargs)

        warnings.showwarning = show
        yield
