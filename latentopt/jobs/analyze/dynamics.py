"""`latentopt analyze dynamics`: raw gradient ascent on a classifier against its formulas (arXiv 2205.15130)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Device, JobPlan, JobSettings, WandbMode, default_wandb
from latentopt.jobs.sources import check_labelled
from latentopt.reports import WrittenReport
from latentopt.zoo.card import require_classifier

GROWTHS = (0.02, 0.5)
"""``a m l_1``: one for which the eigen formula is accurate, and one for which it is not."""


@dataclass(frozen=True)
class DynamicsSettings(JobSettings):
    """Compare raw gradient ascent on a classifier's cross-entropy with formulas that predict it, in double precision.

    Args:
        model: name of a shipped classifier; a folder with a card and weights; or torchvision/NAME. Piecewise linear.
        data: a data set's name (digits, mnist, cifar10, ... any of torchvision's); or an .npz file with images and
            labels.
        step: step size a of the gradient, the same for all images. Default: for each growth a step size of each
            image's own, and one that all share, at which a m l_1 is the greatest growth at the 90th percentile.
        steps: m, steps of the ascent.
        growth: instead of step, the value of a m l_1 for each image, l_1 the largest eigenvalue of its Hessian; a list;
            default 0.02 and 0.5.
        noise: uniform noise in [0, noise] that is added to the pixels. Where a background has one value, its gates are
            all at the same distance from flipping, and flip together.
        seed: seed of the noise.
        weights: file with a state dict, of a classifier of torchvision; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set that is not there.
        limit: number of images, the first ones.
        batch_size: images at a time; results do not depend on it.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu or cuda.
    """

    job: ClassVar[str] = "analyze-dynamics"

    model: str
    data: str
    step: float | None = None
    steps: int = 10
    growth: list[float] | None = None
    noise: float = 0.0
    seed: int = 0
    weights: str | None = None
    root: str | None = None
    split: str = "test"
    download: bool = False
    limit: int | None = 200
    batch_size: int = 100
    out: str = "runs/analyze-dynamics"
    wandb: WandbMode = default_wandb()
    device: Device = "auto"


def prepare(settings: DynamicsSettings) -> JobPlan[DynamicsSettings]:
    """Check the settings, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model or the data are not there, or the folder holds something.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("steps", "batch_size", "limit")
    settings.check_positive("step", integer=False)
    settings.check_choices(wandb=WandbMode, device=Device)
    if settings.step is not None and settings.growth is not None:
        raise InputError("growth", "none where there is a step", settings.growth)
    for growth in settings.growth or []:
        positive("growth", growth)
    nonnegative("noise", settings.noise)
    if settings.device == "mps":
        raise InputError("device", "auto, cpu or cuda, for double precision", settings.device)
    require_classifier(settings.model, settings.weights)
    check_labelled(settings.data, settings.root, settings.split, settings.download, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


@job
def run(plan: JobPlan[DynamicsSettings]) -> WrittenReport:
    """Run the analysis.

    Raises:
        InputError: a setting does not fit the model or the data; nothing was written.
    """
    from latentopt.jobs.analyze.dynamics_runner import run_dynamics

    return run_dynamics(plan)


def dynamics(*args: Any, **settings: Any) -> WrittenReport:
    """Compare gradient ascent with its formulas; arguments are those of `DynamicsSettings`."""
    return run(prepare(DynamicsSettings(*args, **settings)))
