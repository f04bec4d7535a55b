"""The job that trains a policy for a game of Procgen and exports it as a model with its measured returns."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from latentopt.errors import InputError, nonnegative, positive, seed_within
from latentopt.jobs.experiment import expanded_folder, require_writable
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import JobPlan, JobSettings, WandbMode, default_wandb
from latentopt.jobs.train_folder import check_model_folder, model_partial, open_log
from latentopt.progress import ProgressLine
from latentopt.rl.games import INSTALL, Game, LevelMode, installed
from latentopt.zoo.card import check_name

NO_LEARNING = ("job", "name", "summary", "episodes", "out", "log", "wandb")
"""Settings that do not decide how a policy turns out."""


@dataclass(frozen=True)
class TrainPolicySettings(JobSettings):
    """Train a policy for a game of Procgen by PPO and write ``out/name/`` with its card and weights.

    Args:
        name: name of the model.
        summary: one line for the card.
        game: coinrun or fruitbot.
        steps: actions in all environments together.
        mode: easy or hard levels.
        backgrounds: whether there are pictures behind the game.
        repeat: frames that an action is repeated for.
        envs: environments side by side.
        rollout: steps of each environment in a round.
        epochs: passes over a round.
        batch_size: samples of a gradient step.
        lr: learning rate of Adam, falling linearly to 0.
        gamma: discount.
        entropy: weight of the policy's entropy.
        channels: channels of the two convolutions.
        hidden: width of the layer behind them.
        seed: seed of every random number.
        stop: end after this many steps, the learning rate falling as if there were ``steps``; default after all.
        episodes: levels that the card's returns are measured on.
        out: folder to which the model's own is added.
        log: folder to which one of the model's name is added (or name-2, ...), with metrics.jsonl, agents on the way
            and W&B's run. A training that was stopped begins anew.
        wandb: online, offline or disabled.
    """

    job: ClassVar[str] = "train-policy"

    name: str
    summary: str
    game: Game
    steps: int = 1_000_000
    mode: LevelMode = "easy"
    backgrounds: bool = False
    repeat: int = 2
    envs: int = 64
    rollout: int = 128
    epochs: int = 3
    batch_size: int = 1024
    lr: float = 5e-4
    gamma: float = 0.99
    entropy: float = 0.01
    channels: tuple[int, int] = (16, 32)
    hidden: int = 256
    seed: int = 0
    stop: int | None = None
    episodes: int = 200
    out: str = "models"
    log: str = "runs/train-policy"
    wandb: WandbMode = default_wandb()


def prepare(settings: TrainPolicySettings) -> JobPlan[TrainPolicySettings]:
    """Check the settings of a training, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, Procgen is not installed, or there is a model of this name.
    """
    out = expanded_folder("out", settings.out)
    log = expanded_folder("log", settings.log)
    settings.check_positive("steps", "episodes", "repeat", "envs", "rollout", "epochs", "batch_size", "hidden", "stop")
    settings.check_positive("lr", integer=False)
    nonnegative("entropy", settings.entropy)
    nonnegative("gamma", settings.gamma)
    if settings.gamma > 1:
        raise InputError("gamma", "a number in [0, 1]", settings.gamma)
    for width in settings.channels:
        positive("channels", width, integer=True)
    check_name(settings.name)
    seed_within(settings.seed, 0, 2**32 - 1)
    settings.check_choices(game=Game, mode=LevelMode, wandb=WandbMode)
    if not installed():
        raise InputError("procgen", f"an installed Procgen: {INSTALL}", "none")
    check_model_folder(out, settings.name)
    require_writable(log, "log")
    return JobPlan(settings, out / settings.name)


@job
def run(plan: JobPlan[TrainPolicySettings]) -> Path:
    """Train a policy; return the folder of the model.

    Raises:
        InputError: the folder for the log cannot be written.
    """
    import torch

    from latentopt.jobs.ppo import train_ppo
    from latentopt.jobs.tracker import Tracker
    from latentopt.rl.game_policies import save_game_policy

    settings, recipe, begun = plan.settings, plan.settings.recipe(), time.perf_counter()
    log = open_log(expanded_folder("log", settings.log), settings.name, recipe)
    tracker, rounds = Tracker(log, settings.wandb, recipe, settings.job, kept_lines={}), 0
    with ProgressLine(settings.job, settings.steps, leave=True) as line:

        def report(steps: int, figures: dict[str, float]) -> None:
            nonlocal rounds
            tracker.log(rounds, {"steps": float(steps), **{key: float(value) for key, value in figures.items()}})
            tracker.flush()
            rounds += 1
            line.update(steps - line.done, f"return {figures['episode/return']:.2f}")

        network = train_ppo(settings, log, report)
    training: dict[str, Any] = {"recipe": f"latentopt train train-{settings.name}"}
    training |= {key: value for key, value in recipe.items() if key not in NO_LEARNING}
    training |= {"seconds": round(time.perf_counter() - begun), "threads": torch.get_num_threads()}
    with model_partial(plan.folder) as partial:
        card = save_game_policy(
            partial, settings.name, settings.summary, network, settings.channels, settings.hidden, training,
            settings.episodes,
        )  # fmt: skip
    rows = [{"figure": key, "value": value} for key, value in card.quality.items() if key != "protocol"]
    tracker.finish(rows, {"return": card.quality["return"]}, [], [plan.folder])
    return plan.folder


def train_policy(*args: Any, **settings: Any) -> Path:
    """Train a policy for a game of Procgen by PPO; arguments are those of `TrainPolicySettings`."""
    return run(prepare(TrainPolicySettings(*args, **settings)))
