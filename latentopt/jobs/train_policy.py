"""The job that trains a policy for a game of Procgen and exports it as a model with its measured returns."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from latentopt.errors import InputError, positive, seed_within
from latentopt.jobs.components import describe
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import Tracker, WandbMode, check_wandb_mode
from latentopt.jobs.train_folder import opened
from latentopt.rehearsal import begin
from latentopt.rl import train_policy as training
from latentopt.rl.game_policies import save_game_policy
from latentopt.rl.procgen import INSTALL, Game, installed
from latentopt.rl.procgen import Mode as Levels
from latentopt.zoo.cards import check_name

LEARNING = (
    *("game", "steps", "mode", "backgrounds", "repeat", "envs", "rollout", "epochs", "batch_size", "lr", "gamma"),
    *("entropy", "channels", "hidden", "seed", "stop"),
)
"""What decides how a policy turns out."""


@job
def train_policy(
    name: str,
    summary: str,
    game: Game,
    steps: int = 1_000_000,
    mode: Levels = "easy",
    backgrounds: bool = False,
    repeat: int = 2,
    envs: int = 64,
    rollout: int = 128,
    epochs: int = 3,
    batch_size: int = 1024,
    lr: float = 5e-4,
    gamma: float = 0.99,
    entropy: float = 0.01,
    channels: tuple[int, int] = (16, 32),
    hidden: int = 256,
    seed: int = 0,
    stop: int | None = None,
    episodes: int = 200,
    out: str = "models",
    log: str = "runs/train-policy",
    wandb: WandbMode = "offline",
) -> Path:
    """Train a policy for a game of Procgen by PPO and write ``out/name/`` with its card and weights.

    Args:
        name: the model's name.
        summary: one line for the card.
        game: coinrun or fruitbot.
        steps: actions in all environments together.
        mode: easy or hard levels.
        backgrounds: pictures behind the game.
        repeat: frames that an action is repeated for.
        envs: environments side by side.
        rollout: steps of each environment in a round.
        epochs: passes over a round.
        batch_size: of a gradient step.
        lr: of Adam, falling linearly to 0.
        gamma: discount.
        entropy: weight of the policy's entropy.
        channels: maps of the two convolutions.
        hidden: width of the layer after them.
        seed: of every random number.
        stop: end after so many steps, the learning rate having fallen as if there were ``steps``; default after all.
        episodes: levels that the card's returns are measured on.
        out: folder to which the model's own is added.
        log: folder to which one of the model's name is added (or name-2, ...), with metrics.jsonl, agents on the way
            and W&B's run. A training that was stopped begins anew.
        wandb: online, offline or disabled.
    """
    recipe = {"job": "train-policy", **describe(locals())}
    learning = {key: recipe[key] for key in LEARNING}
    for field, value in (("steps", steps), ("episodes", episodes)):
        positive(field, value, integer=True)
    check_name(name)
    seed_within(seed, 0, 2**32 - 1)
    check_wandb_mode(wandb)
    if not installed():
        raise InputError("procgen", f"an installed Procgen: {INSTALL}", "none")
    folder = Path(out) / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError("out", "a folder without this model", f"{folder}")
    begin()
    begun = time.perf_counter()
    logs = opened(Path(log), name, recipe)
    tracker, rounds = Tracker(logs, wandb, recipe, "train-policy", kept_lines={}), 0
    with tqdm(total=steps, unit="step") as bar:

        def seen(done: int, figures: dict[str, float]) -> None:
            nonlocal rounds
            tracker.log(rounds, {"steps": float(done), **{key: float(value) for key, value in figures.items()}})
            tracker.flush()
            rounds += 1
            bar.set_postfix_str(f"return {figures['episode/return']:.2f}", refresh=False)
            bar.update(done - bar.n)

        network = training.train_policy(**learning, checkpoints=logs, on_round=seen)  # pyright: ignore[reportArgumentType]
    said: dict[str, Any] = {"recipe": f"latentopt train train-{name}", **learning}
    said |= {"seconds": round(time.perf_counter() - begun), "threads": torch.get_num_threads()}
    partial = folder.with_name(f".{folder.name}.partial")  # a model is there when all of it is
    card = save_game_policy(partial, name, summary, network, channels, hidden, said, episodes)
    partial.replace(folder)
    figures = [{"figure": key, "value": value} for key, value in card.quality.items() if key != "protocol"]
    tracker.finish(figures, {"return": card.quality["return"]}, [], [folder])
    return folder
