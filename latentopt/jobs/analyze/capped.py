"""`latentopt analyze capped`: train classifiers with capped ReLUs and test their robustness (arXiv 2405.03777)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from latentopt.errors import InputError, positive
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Device, JobSettings, WandbMode, default_wandb
from latentopt.jobs.sources import check_labelled
from latentopt.reports import WrittenReport

CappedNetwork = Literal["dense", "conv"]
LAYERS: dict[str, dict[str, tuple[int, ...] | None]] = {
    "dense": {"first": (0,), "second": (1,), "all": None},
    "conv": {"first conv": (0,), "second conv": (1,), "dense": (2,), "all": None},
}
"""Capped layers by name, and their sites."""
TRAININGS = ("plain", "fgsm")


@dataclass(frozen=True)
class CappedSettings(JobSettings):
    """Train classifiers with a cap on each layer, and attack them with and without trust in their gradients.

    Args:
        data: name of a labelled data set with a test split of its own (mnist, cifar10).
        network: dense, hidden layers of 100 and 50; or conv, two strided convolutions and 100 hidden units.
        betas: the caps, between commas; a network without cap is always included.
        training: plain, fgsm (every image first goes through one step against it, at eps) or both, between commas.
        eps: radius in Linf of the attacks and of the adversarial training, in units of the pixels.
        eps_l2: radius in L2 of the attack of Carlini and Wagner.
        seeds: classifiers of each kind.
        epochs: passes over the training images.
        limit: test images that are attacked.
        steps: steps of each attack.
        queries: forwards of Square.
        root: folder of the data; default the environment variable LATENTOPT_DATA.
        download: fetch the data where torchvision can.
        out: folder for the results; the same command goes on with a job that was stopped.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: device of the training: auto, cpu, cuda or mps.
    """

    job: ClassVar[str] = "analyze-capped"

    data: str = "mnist"
    network: CappedNetwork = "dense"
    betas: str = "0.01,0.1,1,10,100"
    training: str = "plain,fgsm"
    eps: float = 0.1
    eps_l2: float = 1.0
    seeds: int = 3
    epochs: int = 4
    limit: int = 200
    steps: int = 100
    queries: int = 1000
    root: str | None = None
    download: bool = False
    out: str = "runs/analyze-capped"
    wandb: WandbMode = default_wandb()
    device: Device = "cpu"


@dataclass(frozen=True)
class CappedModel:
    """One classifier to train."""

    training: str
    layer: str  # key of `LAYERS`; "none" of a network without cap
    beta: float  # infinity without cap
    seed: int


@dataclass(frozen=True)
class CappedPlan:
    """A checked analysis."""

    settings: CappedSettings
    folder: Path
    models: list[CappedModel]


def prepare(settings: CappedSettings) -> CappedPlan:
    """Check the settings, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the data are not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("seeds", "epochs", "limit", "steps", "queries")
    settings.check_positive("eps", "eps_l2", integer=False)
    settings.check_choices(network=CappedNetwork, wandb=WandbMode, device=Device)
    models = _models(settings)
    for split in ("train", "test"):
        check_labelled(settings.data, settings.root, split, settings.download)
    check_folder(folder, settings.plain_recipe())
    return CappedPlan(settings, folder, models)


def _models(settings: CappedSettings) -> list[CappedModel]:
    trainings = settings.training.split(",")
    if not set(trainings) <= set(TRAININGS) or len(set(trainings)) < len(trainings):
        raise InputError("training", "plain, fgsm or both, between commas", repr(settings.training))
    try:
        caps = [float(beta) for beta in settings.betas.split(",")]
    except ValueError as error:
        raise InputError("betas", "numbers between commas", repr(settings.betas)) from error
    for cap in caps:
        positive("betas", cap)
    kinds = [("none", float("inf")), *itertools.product(LAYERS[settings.network], caps)]
    return [
        CappedModel(training, layer, beta, seed)
        for seed in range(settings.seeds)
        for training in trainings
        for layer, beta in kinds
    ]


@job
def run(plan: CappedPlan) -> WrittenReport:
    """Run the analysis, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the data; nothing was written.
    """
    from latentopt.jobs.analyze.capped_runner import run_capped

    return run_capped(plan)


def capped(*args: Any, **settings: Any) -> WrittenReport:
    """Train and attack classifiers with capped ReLUs; arguments are those of `CappedSettings`."""
    return run(prepare(CappedSettings(*args, **settings)))
