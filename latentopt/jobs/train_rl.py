"""The job that trains agents with refined actions, one after the other, a seed each."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from latentopt._deprecated import renamed_keywords
from latentopt.components.trust import require_trusted_environment
from latentopt.errors import InputError, nonnegative, positive, seed_within
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard, check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.records import METRICS
from latentopt.jobs.settings import Component, JobPlan, JobSettings, WandbMode, component, default_wandb
from latentopt.progress import ProgressLine

Algorithm = Literal["td3", "ddpg"]
CriticChoice = Literal["min", "first"]


@dataclass(frozen=True)
class TrainRLSettings(JobSettings):
    """Train TD3 or DDPG agents that explore from refined actions.

    Args:
        env: name of a gymnasium environment.
        algorithm: td3 or ddpg.
        optimizer: method of refining: gd-critic, adam-critic, ... as for `refine_action`, or a class path; default
            none, the plain algorithm.
        epsilon: probability that an action is refined.
        radius: how far a refined action may move, in units of half the range.
        refine_steps: steps of the optimizer.
        critic: min or first of the twins.
        steps: steps of the environment for each agent.
        seeds: number of agents.
        seed: seed of the first agent; the others count on.
        hidden: widths of the hidden layers of actor and critics.
        lr: learning rate.
        batch_size: samples of a gradient step.
        learning_starts: steps of random actions at the beginning.
        noise: standard deviation of the noise of exploration, in units of half the range.
        every: steps between two evaluations of the actor.
        episodes: episodes of an evaluation.
        out: folder for the results; a job that was stopped goes on with the first seed that is not done.
        wandb: online, offline or disabled; everything is on disk in any case.
    """

    job: ClassVar[str] = "train-rl"

    env: str
    algorithm: Algorithm = "td3"
    optimizer: Component = component("refiner")
    epsilon: float = 0.5
    radius: float = 0.25
    refine_steps: int = 10
    critic: CriticChoice = "min"
    steps: int = 20_000
    seeds: int = 5
    seed: int = 0
    hidden: tuple[int, ...] = (400, 300)
    lr: float = 1e-3
    batch_size: int = 256
    learning_starts: int = 100
    noise: float = 0.1
    every: int = 1000
    episodes: int = 5
    out: str = "runs/train-rl"
    wandb: WandbMode = default_wandb()


@dataclass(frozen=True)
class TrainRLResult:
    """The results of a training of agents."""

    rows: list[dict[str, Any]] = field(repr=False)  # of the table of results, one a seed
    files: list[Path]
    seconds: float


def prepare(settings: TrainRLSettings) -> JobPlan[TrainRLSettings]:
    """Check the settings of a training, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("seeds", "steps", "refine_steps", "batch_size", "every", "episodes")
    settings.check_positive("lr", "radius", integer=False)
    for width in settings.hidden:
        positive("hidden", width, integer=True)
    nonnegative("learning_starts", settings.learning_starts, integer=True)
    nonnegative("noise", settings.noise)
    nonnegative("epsilon", settings.epsilon)
    if settings.epsilon > 1:
        raise InputError("epsilon", "a number in [0, 1]", settings.epsilon)
    settings.check_choices(algorithm=Algorithm, critic=CriticChoice, wandb=WandbMode)
    seed_within(settings.seed, 0, 2**32 - 1 - settings.seeds)
    settings.check_components()
    require_trusted_environment(settings.env)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


@job
def run(plan: JobPlan[TrainRLSettings]) -> TrainRLResult:
    """Train the agents, or go on with those that are not done.

    Raises:
        InputError: a setting does not fit the environment; nothing was written.
    """
    from latentopt.jobs.identity import digest_tensors
    from latentopt.jobs.tracker import track_job
    from latentopt.rl.refine import RefinementSettings
    from latentopt.rl.training import TrainingSettings

    begun, settings = time.perf_counter(), plan.settings.build()
    s = settings
    method = s.optimizer or "gd-critic"  # of the plain algorithm the other settings are checked too
    refinement = RefinementSettings(s.epsilon, method, s.refine_steps, s.radius, s.critic)
    training = TrainingSettings(
        env=s.env,
        algorithm=s.algorithm,
        refinement=None if s.optimizer is None else refinement,
        steps=s.steps,
        hidden=s.hidden,
        lr=s.lr,
        batch_size=s.batch_size,
        learning_starts=s.learning_starts,
        noise=s.noise,
        every=s.every,
        episodes=s.episodes,
    )
    training.model(s.seed)  # what does not fit is known before anything is written
    experiment = Experiment(plan.folder, s.recipe(), digest_tensors(optimizer=s.optimizer), "curve")
    experiment.open()
    done = experiment.done()
    left = [index for index in range(s.seeds) if index not in done]
    tracker = track_job(experiment, s.wandb, left, s.recipe(), s.job)
    with ProgressLine(s.job, len(left) * s.steps, leave=True) as line:
        for index in left:
            tracker.keep(experiment, _train_agent(training, index, s.seed + index, experiment.folder, tracker, line))
    rows = experiment.finish()
    name = s.optimizer if isinstance(s.optimizer, str) else type(s.optimizer).__name__
    _save_curves(experiment, f"{s.algorithm.upper()} on {s.env}, refined by {name if s.optimizer else 'nothing'}")
    files = experiment.existing(RESULTS, METRICS, RECIPE, "curve.safetensors", "curves.png")
    best = {f"mean_{key}": sum(row[key] for row in rows) / len(rows) for key in ("end", "whole", "seconds")}
    agents = experiment.existing(*(f"agents/seed-{row['seed']}.zip" for row in rows))
    files += tracker.finish(rows, best, files, agents)
    return TrainRLResult(rows, files, time.perf_counter() - begun)


def _train_agent(training: Any, index: int, seed: int, folder: Path, tracker: Any, line: ProgressLine) -> Shard:
    """Train one agent, save it, and return its curve."""
    import torch

    from latentopt.rl.learning_curve import CurvePoint, final_return, mean_gain, mean_return
    from latentopt.rl.training import train_agent

    first_step, tracked = int(tracker.last().get("step", -1)) + 1, list[CurvePoint]()

    def report(point: CurvePoint) -> None:
        figures = {"seed": seed, "train/step": point.step, "metric/return": point.mean, "cost/seconds": point.seconds}
        figures |= {} if point.gain != point.gain else {"refine/gain": point.gain}
        tracker.log(first_step + len(tracked), figures)
        line.update(point.step - (tracked[-1].step if tracked else 0), f"seed {seed}, return {point.mean:.1f}")
        tracked.append(point)

    model, points = train_agent(training, seed, report)
    path = folder / "agents" / f"seed-{seed}.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path.with_name("partial.zip"))
    path.with_name("partial.zip").replace(path)
    row = {
        "seed": seed,
        "end": final_return(points),
        "whole": mean_return(points),
        "best": max(point.mean for point in points),
        "gain": mean_gain(points),
        "seconds": points[-1].seconds,
    }
    tensors = {"index": torch.tensor([index]), "curve": torch.tensor(points, dtype=torch.float64)[None]}
    return Shard([f"seed {seed}"], [row], tensors)


def _save_curves(experiment: Experiment, title: str) -> None:
    """Draw the learning curves of all seeds."""
    import torch

    from latentopt.rl.learning_curve import save_curves

    curves = torch.cat([shard.tensors["curve"] for shard in experiment.read("curve")])
    save_curves(experiment.folder / "curves.png", curves[0, :, 0].tolist(), curves[:, :, 1].tolist(), title)


@renamed_keywords(box="radius")
def train_rl(*args: Any, **settings: Any) -> TrainRLResult:
    """Train TD3 or DDPG agents that explore from refined actions; arguments are those of `TrainRLSettings`."""
    return run(prepare(TrainRLSettings(*args, **settings)))
