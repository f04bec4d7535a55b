"""The job that plays episodes of a policy as they are and attacked, on the same levels or seeds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from latentopt.components.trust import require_trusted_environment
from latentopt.errors import InputError, nonnegative
from latentopt.files import is_file
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Component, JobPlan, JobSettings, Norm, WandbMode, component, default_wandb
from latentopt.rl.games import GAMES
from latentopt.rl.saved_models import SETTINGS, algorithm_of
from latentopt.zoo.card import PolicyCard, require_card

LossName = Literal["ce", "margin", "dlr"]
AimedAction = Literal["random", "least-likely"]


@dataclass(frozen=True)
class AttackPolicySettings(JobSettings):
    """Attack what a policy observes, and compare its returns with and without.

    Args:
        model: name of a shipped policy, or a folder with its card; a .safetensors file with actor and critics; or a
            .zip that stable-baselines3 or sb3-contrib saved (it holds pickles: only from those you trust).
        eps: largest change of an observation, in its norm; of images as a share of 255; of an agent that was trained
            under VecNormalize in the standard deviations of its statistics.
        env: id of a gymnasium environment; default the game of the policy's card.
        algorithm: algorithm of a .zip: PPO, A2C, DQN, QRDQN, TD3, DDPG, SAC, ...; default as its settings show.
        episodes: number of episodes that are played each way.
        norm: linf or l2.
        optimizer: pgd, apgd, adr-gd, portfolio, ... or a class path.
        loss: loss of discrete actions: ce, margin or dlr; default ce.
        targets: discrete action that is aimed at: random or least-likely; default whichever is nearest.
        steps: steps of each restart; default 100.
        restarts: restarts of each observation; default 1.
        evaluations: forwards and backwards that an observation may cost; default unlimited.
        sample: draw discrete actions from the policy instead of taking the likeliest.
        seed: seed of every random number.
        vecnormalize: of an agent in a file: the file with the statistics of VecNormalize that it was trained under
            (.pkl, .npz or .safetensors), or none; default the one beside it, as stable-baselines3 names it.
        out: folder for the results; a job that was stopped goes on, and of one that is done they are shown again.
        wandb: online, offline or disabled; everything is on disk in any case.
    """

    job: ClassVar[str] = "attack-policy"

    model: str
    eps: float
    env: str | None = None
    algorithm: str | None = None
    episodes: int = 20
    norm: Norm = "linf"
    optimizer: Component = component("attack", "pgd")
    loss: LossName | None = None
    targets: AimedAction | None = None
    steps: int | None = None
    restarts: int | None = None
    evaluations: int | None = None
    sample: bool = False
    seed: int = 0
    vecnormalize: str | None = None
    out: str = "runs/attack-policy"
    wandb: WandbMode = default_wandb()


@dataclass(frozen=True)
class AttackPolicyJobResult:
    """The results of an attack on a policy."""

    rows: list[dict[str, Any]] = field(repr=False)  # of the table of results, one an episode
    returns: dict[str, np.ndarray]  # (E,) unattacked, attacked, and their difference
    changed: float  # mean share of an episode's steps where the action changed
    files: list[Path]  # that were written
    seconds: float


def prepare(settings: AttackPolicySettings) -> JobPlan[AttackPolicySettings]:
    """Check the settings of an attack on a policy, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the policy is not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("episodes", "steps", "restarts", "evaluations")
    nonnegative("seed", settings.seed, integer=True)
    nonnegative("eps", settings.eps)
    settings.check_choices(norm=Norm, wandb=WandbMode, loss=LossName, targets=AimedAction)
    settings.check_files("vecnormalize", also=["none"])
    settings.check_components()
    require_trusted_environment(settings.env or "")
    if settings.model.endswith((".zip", ".safetensors")):
        _check_agent(settings)
    else:
        require_card(settings.model, PolicyCard)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


def _check_agent(settings: AttackPolicySettings) -> None:
    is_zip = settings.model.endswith(".zip")
    if settings.algorithm is not None and settings.algorithm not in (SETTINGS if is_zip else ()):
        expected = f"one of {', '.join(SETTINGS)}" if is_zip else "None, of a .safetensors file"
        raise InputError("algorithm", expected, repr(settings.algorithm))
    if settings.env is None or settings.env in GAMES:
        raise InputError("env", "the id of a gymnasium environment, for an agent in a file", repr(settings.env))
    if not is_file(settings.model):
        raise InputError("model", "a file", f"no {settings.model}")
    if is_zip:
        algorithm_of(settings.model)


@job
def run(plan: JobPlan[AttackPolicySettings]) -> AttackPolicyJobResult:
    """Run an attack on a policy, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the policy or the environment; nothing was written.
    """
    from latentopt.jobs.policy_attacker import run_policy_attack

    return run_policy_attack(plan)


def attack_policy(*args: Any, **settings: Any) -> AttackPolicyJobResult:
    """Attack what a policy observes; arguments are those of `AttackPolicySettings`."""
    return run(prepare(AttackPolicySettings(*args, **settings)))
