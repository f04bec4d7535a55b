"""The comparison job: any methods on the problem of a reconstruction or an attack recipe, at equal cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

from latentopt import components
from latentopt.components.numbers import parse_as
from latentopt.errors import InputError, with_nearest
from latentopt.jobs.attack import AttackSettings
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.reconstruct import ReconstructSettings
from latentopt.jobs.settings import Device, JobSettings, WandbMode, default_wandb
from latentopt.jobs.sources import check_labelled, check_targets
from latentopt.zoo.card import GeneratorCard, require_card, require_classifier

if TYPE_CHECKING:
    from latentopt.reports import WrittenReport


@dataclass(frozen=True)
class CompareSettings(JobSettings):
    """Compare methods on the problem of a recipe at equal cost, paired by seed and target.

    Args:
        problem: fields of a reconstruct or attack recipe; on the command line the recipe comes first. Its optimizer,
            steps, restarts and budgets are not used.
        methods: names, between commas; the first that can run is the reference.
        evaluations: forwards and backwards that each target may cost, all its restarts together. One of evaluations and
            seconds is required.
        seconds: wall-clock time of each solve of all targets.
        seeds: number of seeds, from 0 on; all methods have the same starts at the same seed.
        restarts: starts of each target.
        steps: steps of each restart, where schedules run down; default as many as the budget pays for.
        limit: number of targets, the first ones, in one batch.
        out: folder for the results; a job that was stopped goes on where it was.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
    """

    job: ClassVar[str] = "compare"

    problem: dict[str, Any]
    methods: list[str]
    evaluations: int | None = None
    seconds: float | None = None
    seeds: int = 3
    restarts: int = 1
    steps: int | None = None
    limit: int = 16
    out: str = "runs/compare"
    wandb: WandbMode = default_wandb()
    device: Device = "auto"

    @property
    def names(self) -> list[str]:
        """Names of the methods, one by one."""
        return [name.strip() for word in self.methods for name in word.split(",")]

    def problem_settings(self) -> ReconstructSettings | AttackSettings:
        """Return the settings of the job whose problem is solved.

        Raises:
            InputError: the recipe is of another job, or has unknown or missing fields.
        """
        kinds = {cls.job: cls for cls in (ReconstructSettings, AttackSettings)}
        if self.problem.get("job") not in kinds:
            raise InputError("problem: job", f"one of {', '.join(kinds)}", repr(self.problem.get("job")))
        return _settings(kinds[self.problem["job"]], {**self.problem, "limit": self.limit})


def _settings(cls: type[Any], recipe: Mapping[str, Any]) -> Any:
    hints = get_type_hints(cls)
    values = {key: parse_as(value, hints.get(key)) for key, value in recipe.items() if key != "job"}
    known = [field.name for field in fields(cls)]
    if unknown := [key for key in values if key not in known]:
        raise InputError(f"problem: {unknown[0]}", f"one of {', '.join(known)}", with_nearest(unknown[0], known))
    try:
        return cls(**values)
    except TypeError as error:  # a required field is missing
        raise InputError("problem", f"a whole recipe of {cls.job}", str(error).partition("() ")[2]) from error


@dataclass(frozen=True)
class ComparePlan:
    """A comparison whose settings were checked."""

    settings: CompareSettings
    problem: ReconstructSettings | AttackSettings
    folder: Path


def prepare(settings: CompareSettings) -> ComparePlan:
    """Check the settings of a comparison, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model or the targets are not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("evaluations", "seeds", "restarts", "steps", "limit")
    settings.check_positive("seconds", integer=False)
    settings.check_choices(wandb=WandbMode, device=Device)
    if settings.evaluations is None and settings.seconds is None:
        raise InputError("evaluations", "a budget: evaluations, seconds or both", "neither")
    for name in settings.names:
        components.check("methods", "optimizer", name)
    if len(set(settings.names)) < len(settings.names):
        raise InputError("methods", "each method once", ", ".join(settings.names))
    problem = settings.problem_settings()
    problem.check_components()
    if isinstance(problem, ReconstructSettings):
        require_card(problem.model, GeneratorCard)
        check_targets(problem.targets, problem.root, problem.split, problem.download, problem.limit)
    else:
        if problem.targets is not None:
            raise InputError("problem: targets", "none: a comparison has one goal", repr(problem.targets))
        require_classifier(problem.model, problem.weights)
        check_labelled(problem.data, problem.root, problem.split, problem.download, problem.limit)
    check_folder(folder, settings.plain_recipe())
    return ComparePlan(settings, problem, folder)


@job
def run(plan: ComparePlan) -> WrittenReport:
    """Run a comparison, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the model or the targets; nothing was written.
    """
    from latentopt.jobs.comparer import run_comparison

    return run_comparison(plan)


def compare(*args: Any, **settings: Any) -> WrittenReport:
    """Compare methods on the problem of a recipe; arguments are those of `CompareSettings`."""
    return run(prepare(CompareSettings(*args, **settings)))
