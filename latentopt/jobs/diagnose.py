"""The job that tells why images are not reconstructed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from latentopt.errors import InputError
from latentopt.jobs.experiment import expanded_folder, require_writable
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import Component, Device, Fit, JobSettings, ModelSource, component
from latentopt.jobs.sources import Source, check_targets, open_files, require_unused
from latentopt.zoo.card import GeneratorCard, require_card

JSON, GRID = "diagnosis.json", "grid.png"


@dataclass(frozen=True)
class DiagnoseSettings(JobSettings):
    """Tell why images are not reconstructed, the optimiser's fault or the generator's.

    Args:
        model: name of a shipped model; a folder with a card and weights; taesd:FOLDER of a tiny autoencoder; or in a
            recipe class_path, init_args, weights, latent_shape, output_range and start_scale.
        targets: image files and folders of images; or one .npy or .npz array; or the name of a data set; default none.
        operator: measurement operator, of the generator's own images too.
        optimizer: lbfgs, adr-gd, adam, ... or a class path.
        start: initializer of the latents: regression, nearest, encoder or random.
        steps: steps of each restart.
        restarts: restarts of each image; the best is kept.
        samples: number of images that the generator makes itself, to be recovered.
        tolerance: mean squared error below which an image is recovered.
        seed: seed of every random number.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        limit: diagnose only this many targets, the first ones.
        device: auto, cpu, cuda or mps.
        out: folder for the figures and a picture; default nothing is written.
        resize: resize targets of another size than the generator's images, keeping their aspect.
        image_size: height and width of the images, or one number for both, of a decoder that takes any size; default
            those of the first target, or 256 where targets are resized or are measurements.
        convert: turn colour into grey or grey into colour where the generator needs it.
        fit: fit of resized targets of another aspect: crop, pad or stretch.
        download: fetch a named data set that is not there.
    """

    job: ClassVar[str] = "diagnose"

    model: ModelSource
    targets: list[str] | None = None
    operator: Component = component("operator", "identity")
    optimizer: Component = component("optimizer", "lbfgs", memory=64)
    start: Component = component("initializer", "regression")
    steps: int = 400
    restarts: int = 8
    samples: int = 16
    tolerance: float = 1e-4
    seed: int = 0
    root: str | None = None
    split: str = "test"
    limit: int = 16
    device: Device = "auto"
    out: str | None = None
    resize: bool = False
    convert: bool = False
    fit: Fit = "crop"
    download: bool = False
    image_size: int | list[int] | None = None


@dataclass(frozen=True)
class DiagnosePlan:
    """A diagnosis whose settings were checked."""

    settings: DiagnoseSettings
    folder: Path | None
    source: Source | None  # of the targets, if they are files; data sets are opened when the job runs


@dataclass(frozen=True)
class DiagnoseJobResult:
    """The results of a diagnosis."""

    diagnosis: Any  # `latentopt.Diagnosis`
    skipped: list[tuple[str, str]]  # name and reason
    files: list[Path]  # that were written


def prepare(settings: DiagnoseSettings) -> DiagnosePlan:
    """Check the settings of a diagnosis, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model or the targets are not there, or files would be replaced.
    """
    folder = None if settings.out is None else expanded_folder("out", settings.out)
    if folder is not None:
        _check(folder)
    settings.check_positive("steps", "restarts", "samples", "limit")
    settings.check_positive("tolerance", integer=False)
    settings.check_choices(device=Device, fit=Fit)
    settings.check_components()
    require_card(settings.model, GeneratorCard)
    if settings.targets is None:
        require_unused(settings.root, settings.split, settings.download)
        return DiagnosePlan(settings, folder, None)
    check_targets(settings.targets, settings.root, settings.split, settings.download, settings.limit)
    return DiagnosePlan(settings, folder, open_files(settings.targets, settings.limit))


def _check(folder: Path) -> None:
    """Raise `InputError` where writing would replace what is there, or cannot be."""
    require_writable(folder)
    for name in (JSON, GRID):
        if (folder / name).exists():
            raise InputError("out", f"a folder without a {name}", str(folder))


@job
def run(plan: DiagnosePlan) -> DiagnoseJobResult:
    """Run a diagnosis.

    Raises:
        InputError: a setting does not fit the generator or the targets; nothing was written.
    """
    from latentopt.jobs.diagnosis import run_diagnosis

    return run_diagnosis(plan)


def diagnose(*args: Any, **settings: Any) -> DiagnoseJobResult:
    """Tell why images are not reconstructed; arguments are those of `DiagnoseSettings`."""
    return run(prepare(DiagnoseSettings(*args, **settings)))
