"""`latentopt analyze regions`: the regions that optimisers cross in a network, as in arXiv 2406.00494's figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import JobPlan, JobSettings, WandbMode, default_wandb
from latentopt.jobs.sources import check_labelled, require_unused
from latentopt.optimizers.registry import require_name
from latentopt.reports import WrittenReport
from latentopt.zoo.card import require_classifier

RANDOM = "random-2d"
STEP, EPS = 0.05, 0.1
"""Defaults: the step of the random network, whose box is [-1, 1]^2, and a classifier's radius."""
STEP_METHODS = ("gd", "adr-gd", "adr-gd-paper", "adr-gd-reference")
"""Methods whose steps can all have one length."""


@dataclass(frozen=True)
class RegionsSettings(JobSettings):
    """Count the units that optimisers switch on their path, and draw the landscape: flips, regions and boundaries.

    Args:
        model: random-2d, a random network of two inputs; or a classifier: name of a shipped one, a folder with a card
            and weights, or torchvision/NAME.
        data: of a classifier: a data set's name (digits, mnist, cifar10, ...); or an .npz file with images and labels.
        optimizers: names, between commas; the landscape of a classifier goes through the ends of the first two.
        steps: moves of each optimiser.
        step: Euclidean length of every move, for gd and the forms of adr-gd; default .05 for random-2d; the
            optimiser's own steps for a classifier.
        eps: largest change of a pixel, for a classifier; default .1.
        widths: layers of random-2d, from 2 inputs to 1 output.
        seed: seed of the random network, and of the optimisers' own noise.
        resolution: points of the landscape along each side.
        max_crossings: boundaries after which the walk along one move stops.
        weights: file with a state dict, of a classifier of torchvision; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set that is not there.
        limit: number of images, the first ones; the first one's landscape is drawn.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
    """

    job: ClassVar[str] = "analyze-regions"

    model: str = RANDOM
    data: str | None = None
    optimizers: str = "gd,adr-gd"
    steps: int = 60
    step: float | None = None
    eps: float | None = None
    widths: str = "2-16-16-1"
    seed: int = 0
    resolution: int = 300
    max_crossings: int = 10_000
    weights: str | None = None
    root: str | None = None
    split: str = "test"
    download: bool = False
    limit: int = 4
    out: str = "runs/analyze-regions"
    wandb: WandbMode = default_wandb()

    @property
    def names(self) -> list[str]:
        """The names of the optimisers."""
        return [name.strip() for name in self.optimizers.split(",")]

    @property
    def step_length(self) -> float | None:
        """The length of every move, if there is one."""
        return STEP if self.step is None and self.model == RANDOM else self.step


def prepare(settings: RegionsSettings) -> JobPlan[RegionsSettings]:
    """Check the settings, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong or belongs to another kind of model, the model or the data are not there, or the
            folder holds something.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("steps", "resolution", "max_crossings", "limit")
    settings.check_positive("step", "eps", integer=False)
    settings.check_choices(wandb=WandbMode)
    nonnegative("seed", settings.seed, integer=True)
    if settings.resolution < 2:
        raise InputError("resolution", "an integer >= 2", settings.resolution)
    names = settings.names
    if len(set(names)) < len(names):
        raise InputError("optimizers", "names, each once", settings.optimizers)
    for name in names:
        if settings.step_length is None:
            require_name(name)
        elif name not in STEP_METHODS:
            raise InputError("optimizers", f"where there is a step some of {', '.join(STEP_METHODS)}", repr(name))
    if settings.model == RANDOM:
        for name in ("eps", "data", "weights"):
            if (value := getattr(settings, name)) is not None:
                raise InputError(name, f"none of {RANDOM}, which has no images", value)
        require_unused(settings.root, settings.split, settings.download)
        parse_widths(settings.widths)
    else:
        require_classifier(settings.model, settings.weights)
        if settings.data is None:
            raise InputError("data", "a data set's name or an .npz file, of a classifier", settings.data)
        check_labelled(settings.data, settings.root, settings.split, settings.download, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


def parse_widths(widths: str) -> list[int]:
    """Return the layers of a text such as 2-16-16-1.

    Raises:
        InputError: they are no whole numbers, or not from 2 inputs to 1 output.
    """
    try:
        sizes = [int(width) for width in widths.split("-")]
    except ValueError as error:
        raise InputError("widths", "whole numbers between dashes, such as 2-16-16-1", repr(widths)) from error
    for size in sizes:
        positive("widths", size, integer=True)
    if len(sizes) < 3 or sizes[0] != 2 or sizes[-1] != 1:
        raise InputError("widths", "2 inputs, at least one hidden layer and 1 output, such as 2-16-16-1", widths)
    return sizes


@job
def run(plan: JobPlan[RegionsSettings]) -> WrittenReport:
    """Run the analysis.

    Raises:
        InputError: a setting does not fit the model or the data; nothing was written.
    """
    from latentopt.jobs.analyze.regions_runner import run_regions

    return run_regions(plan)


def regions(*args: Any, **settings: Any) -> WrittenReport:
    """Analyse the regions that optimisers cross; arguments are those of `RegionsSettings`."""
    return run(prepare(RegionsSettings(*args, **settings)))
