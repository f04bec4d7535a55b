"""The job that plays an agent's episodes with and without refined actions."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from latentopt._deprecated import renamed_keywords
from latentopt.components.trust import require_trusted_environment
from latentopt.errors import InputError, nonnegative
from latentopt.files import is_file
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Component, JobPlan, JobSettings, WandbMode, component, default_wandb

Critic = Literal["min", "first"]


@dataclass(frozen=True)
class RefineSettings(JobSettings):
    """Play an agent's episodes with every action refined, and with none, on the same seeds.

    Args:
        agent: a .safetensors file with actor and critics, or a .zip file that stable-baselines3 saved (TD3, DDPG, SAC,
            TQC). A zip file can run any code when it is loaded: trust where it comes from.
        env: name of a gymnasium environment.
        radius: largest change of an action, in units of half the range.
        optimizer: adr-gd-critic, adam-critic, gd-critic, cem, ... as for `refine_action`, or a class path.
        refine_steps: steps of the optimizer.
        critic: min or first of the critics.
        restarts: restarts of each action.
        episodes: number of episodes; their seeds count up from `seed`.
        seed: seed of the first episode.
        gif: film the first episode, plain and refined side by side.
        vecnormalize: a file with the statistics of VecNormalize that the agent was trained under (.pkl, .npz or
            .safetensors), or none; default the one beside the agent, where stable-baselines3 or its zoo puts it.
        activation: activation between the layers of a .safetensors file: relu, tanh, elu, ...; default as the file
            says, else relu.
        out: folder for the results; of a job that is done the same command shows them again.
        wandb: online, offline or disabled; everything is on disk in any case.
    """

    job: ClassVar[str] = "refine"

    agent: str
    env: str
    radius: float = 0.25
    optimizer: Component = component("refiner", "adr-gd-critic")
    refine_steps: int = 20
    critic: Critic = "min"
    restarts: int = 1
    episodes: int = 10
    seed: int = 0
    gif: bool = True
    vecnormalize: str | None = None
    activation: str | None = None
    out: str = "runs/refine"
    wandb: WandbMode = default_wandb()

    def __post_init__(self) -> None:
        if self.optimizer == "multi-start":
            new = "adam-critic with restarts=8"
            warnings.warn(f"multi-start is deprecated: use {new}", DeprecationWarning, stacklevel=3)
            object.__setattr__(self, "optimizer", "adam-critic")
            object.__setattr__(self, "restarts", 8)


@dataclass(frozen=True)
class RefineJobResult:
    """The changes that refinement made."""

    rows: list[dict[str, Any]] = field(repr=False)  # of the table of results, one an episode
    difference: float  # mean of the returns, refined minus plain
    error: float  # its standard error; NaN of a single episode
    milliseconds: float  # CPU time of refining one action
    files: list[Path]  # that were written
    seconds: float


def prepare(settings: RefineSettings) -> JobPlan[RefineSettings]:
    """Check the settings of a refinement, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the agent is not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("episodes", "refine_steps", "restarts")
    settings.check_positive("radius", integer=False)
    nonnegative("seed", settings.seed, integer=True)
    settings.check_choices(wandb=WandbMode, critic=Critic)
    settings.check_files("vecnormalize", also=["none"])
    settings.check_components()
    require_trusted_environment(settings.env)
    if not is_file(settings.agent):
        raise InputError("agent", "a file", repr(settings.agent))
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


@job
def run(plan: JobPlan[RefineSettings]) -> RefineJobResult:
    """Run a refinement, or read the results of one that is done.

    Raises:
        InputError: a setting does not fit the agent or the environment; nothing was written.
    """
    from latentopt.jobs.refined_episodes import run_refinement

    return run_refinement(plan)


@renamed_keywords(box="radius")
def refine(*args: Any, **settings: Any) -> RefineJobResult:
    """Play an agent's episodes with and without refined actions; arguments are those of `RefineSettings`."""
    return run(prepare(RefineSettings(*args, **settings)))
