"""`latentopt analyze certify`: bound the maxima of small networks, and measure every optimiser's gap to the bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from latentopt.components.trust import require_trusted_environment
from latentopt.errors import InputError, nonnegative
from latentopt.files import is_file
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import JobPlan, JobSettings, WandbMode, default_wandb
from latentopt.jobs.sources import check_labelled
from latentopt.optimizers.registry import require_name
from latentopt.reports import WrittenReport
from latentopt.zoo.card import ClassifierCard, require_card

RANDOM, DIGITS = "random-", "digits"
KINDS = "ABCDE"
"""The random networks of `latentopt.zoo.random_nets.WIDTHS`."""


@dataclass(frozen=True)
class CertifySettings(JobSettings):
    """Bound the maximum of small networks, and measure every optimiser's gap to it.

    Args:
        model: random-A (10-64-64-1) to random-E; digits, a small classifier that is trained first; a shipped
            classifier's name or folder; or an agent's .safetensors file.
        seeds: seeds of the random networks, such as "0-3,7".
        data: images of a classifier: a data set's name, or an .npz file with images and labels.
        eps: largest change of each pixel, for a classifier.
        env: environment whose states an agent visits; default states from a normal distribution.
        box: largest change of an agent's action, in units of half the range.
        limit: images of a classifier, or states of an agent.
        optimizers: names, between commas; each starts 32 times. Empty: certificates alone.
        evaluations: forwards and backwards of each optimiser.
        seconds: wall-clock time for each maximum.
        tolerance: gap, relative to the value, at which a maximum counts as found.
        method: branch-and-bound, milp or auto.
        seed: seed of random starts, and of the states.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
    """

    job: ClassVar[str] = "analyze-certify"

    model: str = "random-A"
    seeds: str = "0"
    data: str = "digits"
    eps: float | None = None
    env: str | None = None
    box: float = 0.1
    limit: int = 5
    optimizers: str = "pgd,apgd,adam,adr-gd-soft,cma-es"
    evaluations: int = 12800
    seconds: float = 600.0
    tolerance: float = 1e-3
    method: Literal["auto", "branch-and-bound", "milp"] = "auto"
    seed: int = 0
    out: str = "runs/analyze-certify"
    wandb: WandbMode = default_wandb()

    @property
    def names(self) -> list[str]:
        """The names of the optimisers."""
        return [name.strip() for name in self.optimizers.split(",") if name.strip()]


def prepare(settings: CertifySettings) -> JobPlan[CertifySettings]:
    """Check the settings, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong or belongs to another kind of model, the model or the data are not there, or the
            folder holds something.
    """
    folder, model = expanded_folder("out", settings.out), settings.model
    settings.check_positive("limit", "evaluations")
    settings.check_positive("seconds", "box", integer=False)
    settings.check_choices(method=Literal["auto", "branch-and-bound", "milp"], wandb=WandbMode)
    nonnegative("tolerance", settings.tolerance)
    for name in settings.names:
        require_name(name)
    is_random, is_agent = model.startswith(RANDOM), model.endswith(".safetensors")
    if settings.eps is not None and (is_agent or is_random):
        raise InputError("eps", "none, as only the images of a classifier have balls around them", settings.eps)
    if settings.data != DIGITS and (is_agent or is_random):
        raise InputError("data", "nothing, as only a classifier has images", repr(settings.data))
    if settings.env is not None and not is_agent:
        raise InputError("env", "none, as only an agent has an environment", settings.env)
    require_trusted_environment(settings.env or "")
    if is_random:
        if model.removeprefix(RANDOM) not in tuple(KINDS):
            raise InputError("model", f"one of {', '.join(RANDOM + kind for kind in KINDS)}", repr(model))
        parse_numbers("seeds", settings.seeds)
    elif is_agent:
        if not is_file(model):
            raise InputError("model", "an agent's file", f"no file {model}")
    else:
        if settings.eps is None:
            raise InputError("eps", "the radius of the balls around a classifier's images", "None")
        nonnegative("eps", settings.eps)
        if model != DIGITS:
            require_card(model, ClassifierCard)
        check_labelled(settings.data, None, "test", False, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


def parse_numbers(name: str, text: str) -> list[int]:
    """Return the numbers of a text such as "0-3,7".

    Raises:
        InputError: the text has another form, or no number.
    """
    numbers = list[int]()
    for part in str(text).split(","):
        ends = part.split("-")
        if len(ends) > 2 or not all(end.strip().isdecimal() for end in ends):
            raise InputError(name, 'numbers and ranges between commas, such as "0-3,7"', repr(text))
        numbers += range(int(ends[0]), int(ends[-1]) + 1)
    if not numbers:
        raise InputError(name, "at least one number", repr(text))
    return numbers


@job
def run(plan: JobPlan[CertifySettings]) -> WrittenReport:
    """Run the analysis.

    Raises:
        InputError: a setting does not fit the model or the data; nothing was written.
    """
    from latentopt.jobs.analyze.certify_runner import run_certify

    return run_certify(plan)


def certify(*args: Any, **settings: Any) -> WrittenReport:
    """Certify maxima of small networks; arguments are those of `CertifySettings`."""
    return run(prepare(CertifySettings(*args, **settings)))
