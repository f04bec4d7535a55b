"""The job that tunes a generator's weights to targets, at latents that were found before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from latentopt.errors import nonnegative
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import (
    Component,
    Device,
    Fit,
    JobSettings,
    ModelSource,
    WandbMode,
    component,
    default_wandb,
)
from latentopt.jobs.sources import Source, check_targets, open_files
from latentopt.reports import WrittenReport
from latentopt.zoo.card import GeneratorCard, require_card


@dataclass(frozen=True)
class TuneSettings(JobSettings):
    """Tune the weights of a generator so that it makes targets of given latents (PTI, arXiv 2106.05744).

    Args:
        model: name of a shipped model; a folder with a card and weights; or in a recipe class_path, init_args, weights,
            latent_shape, output_range and start_scale.
        targets: image files and folders of images; or one array file of images or of measurements (N, ...); or the
            name of a data set.
        latents: file of latents, one for each target: latents.safetensors of a reconstruct job (by the targets' names,
            else in order), a saved result, an array.
        operator: measurement operator, e.g. downsample, hole, gaussian.
        loss: distance between measurements: mse, l1, huber, ssim, lpips.
        parameters: names of the parameters that may change, of modules that hold them, or patterns; default all.
        locality: weight of the distance of other images from what they were.
        anchors: number of these other images.
        optimizer: adam, lbfgs, ... or a class path; it moves the weights.
        steps: steps.
        seed: seed of every random number.
        seconds: wall-clock time; default unlimited. Results then depend on the machine.
        patience: the job ends once this many steps have not lowered the objective; default never.
        conditions: conditions of the generator by name: one for all targets or one for each.
        measured: the targets are measurements already; default decided by their shape.
        resize: resize targets of another size than the generator's images, keeping their aspect.
        convert: turn colour into grey or grey into colour where the generator needs it.
        fit: fit of resized targets of another aspect: crop, pad or stretch.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set that is not there.
        limit: only this many targets, the first ones.
        out: folder for the results; a job that was stopped goes on where it was.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
    """

    job: ClassVar[str] = "tune"

    model: ModelSource
    targets: list[str]
    latents: str
    operator: Component = component("operator", "identity")
    loss: Component = component("loss", "mse")
    parameters: list[str] | None = None
    locality: float = 0.1
    anchors: int = 8
    optimizer: Component = component("optimizer", "adam", lr=3e-4, schedule="constant")
    steps: int = 350
    seed: int = 0
    seconds: float | None = None
    patience: int | None = None
    conditions: dict[str, Any] | None = None
    measured: bool | None = None
    resize: bool = False
    convert: bool = False
    fit: Fit = "crop"
    root: str | None = None
    split: str = "test"
    download: bool = False
    limit: int | None = None
    out: str = "runs/tune"
    wandb: WandbMode = default_wandb()
    device: Device = "auto"


@dataclass(frozen=True)
class TunePlan:
    """A tuning job whose settings were checked."""

    settings: TuneSettings
    folder: Path
    source: Source | None  # of the targets, if they are files; data sets are opened when the job runs


def prepare(settings: TuneSettings) -> TunePlan:
    """Check the settings of a tuning job, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model, the targets or the latents are not there, or the folder holds
            something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("steps", "limit", "patience")
    settings.check_positive("seconds", integer=False)
    nonnegative("locality", settings.locality)
    nonnegative("anchors", settings.anchors, integer=True)
    settings.check_choices(wandb=WandbMode, device=Device, fit=Fit)
    settings.check_components()
    settings.check_files("latents")
    require_card(settings.model, GeneratorCard)
    check_targets(settings.targets, settings.root, settings.split, settings.download, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return TunePlan(settings, folder, open_files(settings.targets, settings.limit))


@job
def run(plan: TunePlan) -> WrittenReport:
    """Run a tuning job, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the generator, the targets or the latents; nothing was written.
    """
    from latentopt.jobs.tuner import run_tuning

    return run_tuning(plan)


def tune(*args: Any, **settings: Any) -> WrittenReport:
    """Tune the weights of a generator; arguments are those of `TuneSettings`."""
    return run(prepare(TuneSettings(*args, **settings)))
