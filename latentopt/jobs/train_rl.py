"""The job that trains agents with refined actions: one after the other, a seed each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from tqdm import tqdm

from latentopt._deprecated import renamed_keywords
from latentopt.errors import positive, seed_within
from latentopt.jobs.components import describe
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import METRICS, Tracker, WandbMode, check_wandb_mode, track_job
from latentopt.jobs.used import held
from latentopt.optimizers import Optimizer
from latentopt.rl.learning_curve import CurvePoint, final_return, mean_gain, mean_return, save_curves
from latentopt.rl.refine import RefinementSettings

if TYPE_CHECKING:
    from latentopt.rl.training import TrainingSettings


@dataclass(frozen=True)
class Report:
    """What a training job did."""

    rows: list[dict[str, Any]]  # of the table of results, a seed each
    files: list[Path]
    seconds: float


@renamed_keywords(box="radius")
@job
def train_rl(
    env: str,
    algorithm: Literal["td3", "ddpg"] = "td3",
    optimizer: Optimizer | str | None = None,
    epsilon: float = 0.5,
    radius: float = 0.25,
    refine_steps: int = 10,
    critic: Literal["min", "first"] = "min",
    steps: int = 20_000,
    seeds: int = 5,
    seed: int = 0,
    hidden: Sequence[int] = (400, 300),
    lr: float = 1e-3,
    batch_size: int = 256,
    learning_starts: int = 100,
    noise: float = 0.1,
    every: int = 1000,
    episodes: int = 5,
    out: str = "runs/train-rl",
    wandb: WandbMode = "offline",
) -> Report:
    """Train TD3 or DDPG agents that explore from refined actions.

    Args:
        env: a gymnasium environment's name.
        algorithm: td3 or ddpg.
        optimizer: that refines: gd-critic, adam-critic, adr-gd-critic, ... as for `refine_action`, or a class path;
            default none, the plain algorithm.
        epsilon: probability that an action is refined.
        radius: how far a refined action may move, in units of half the range.
        refine_steps: of the optimizer.
        critic: min or first of the twins.
        steps: of the environment, each seed.
        seeds: so many agents.
        seed: of the first agent; the others count on.
        hidden: widths of the hidden layers of actor and critics.
        lr: learning rate.
        batch_size: of a gradient step.
        learning_starts: steps of random actions at first.
        noise: standard deviation of exploration's noise, in units of half the range.
        every: steps between two evaluations of the actor.
        episodes: of an evaluation.
        out: folder for the results; a job that was stopped goes on with the first seed that is not done.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    recipe = {"job": "train-rl", **describe(locals())}
    begun = time.perf_counter()
    positive("seeds", seeds, integer=True)
    seed_within(seed, 0, 2**32 - 1 - seeds)
    check_wandb_mode(wandb)
    from latentopt.rl.training import TrainingSettings

    refined = RefinementSettings(
        epsilon, optimizer or "gd-critic", refine_steps, radius, critic
    )  # checks a plain agent's too
    refinement = None if optimizer is None else refined
    training = TrainingSettings(
        env, algorithm, refinement, steps, hidden, lr, batch_size, learning_starts, noise, every, episodes
    )
    training.model(seed)  # what is wrong with the settings is known before anything is written
    store = Experiment(Path(out), recipe, held(optimizer=optimizer), "curve")
    store.open()
    done = store.done()
    todo = [at for at in range(seeds) if at not in done]
    tracker = track_job(store, wandb, todo, recipe, "train-rl")
    with tqdm(total=len(todo) * steps, unit="step", desc="train-rl", disable=not todo) as bar:
        for at in todo:
            tracker.keep(store, _trained(training, at, seed + at, store.folder / "agents", tracker, bar))
    rows = store.finish([])
    files = [store.folder / name for name in (RESULTS, METRICS, RECIPE, "curve.safetensors")]
    files.append(_draw(store, f"{algorithm.upper()} on {env}, refined by {_name(optimizer)}"))
    files = [file for file in files if file.exists()]
    best = {f"mean_{key}": sum(row[key] for row in rows) / len(rows) for key in ("end", "whole", "seconds")}
    agents = [store.folder / "agents" / f"seed-{row['seed']}.zip" for row in rows]
    files += tracker.finish(rows, best, files, [agent for agent in agents if agent.is_file()])
    return Report(rows, files, time.perf_counter() - begun)


def _trained(training: TrainingSettings, at: int, seed: int, agents: Path, tracker: Tracker, bar: Any) -> Shard:
    """Train one agent and keep it; what it came to."""
    from latentopt.rl.training import train_agent

    step = int(tracker.last().get("step", -1)) + 1

    def tell(point: CurvePoint) -> None:
        nonlocal step
        figures = {"seed": seed, "train/step": point.step, "metric/return": point.mean, "cost/seconds": point.seconds}
        tracker.log(step, figures if point.gain != point.gain else {**figures, "refine/gain": point.gain})
        bar.update(point.step - tell_at[0])
        bar.set_postfix_str(f"seed {seed}, return {point.mean:.1f}")
        tell_at[0], step = point.step, step + 1

    tell_at = [0]
    model, points = train_agent(training, seed, tell)
    agents.mkdir(parents=True, exist_ok=True)
    model.save(agents / "partial.zip")
    (agents / "partial.zip").replace(agents / f"seed-{seed}.zip")
    row = {
        "seed": seed,
        "end": final_return(points),
        "whole": mean_return(points),
        "best": max(point.mean for point in points),
    }
    row |= {"gain": mean_gain(points), "seconds": points[-1].seconds}
    tensors = {"index": torch.tensor([at]), "curve": torch.tensor(points, dtype=torch.float64)[None]}
    return Shard([f"seed {seed}"], [row], tensors)


def _draw(store: Experiment, title: str) -> Path:
    """The learning curves with the spread of the seeds."""
    curves = torch.cat([shard.tensors["curve"] for shard in store.read("curve")])
    path = store.folder / "curves.png"
    save_curves(path, curves[0, :, 0].tolist(), curves[:, :, 1].tolist(), title)
    return path


def _name(optimizer: Optimizer | str | None) -> str:
    return "nothing" if optimizer is None else optimizer if isinstance(optimizer, str) else type(optimizer).__name__
