"""The reconstruction job: any number of targets through one generator, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from latentopt._deprecated import renamed_keywords
from latentopt.errors import InputError, nonnegative
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import (
    Component,
    Device,
    Fit,
    JobSettings,
    ModelSource,
    Strategy,
    WandbMode,
    component,
    default_wandb,
)
from latentopt.jobs.sources import Source, check_targets, open_files
from latentopt.zoo.card import GeneratorCard, require_card

BallNorm = Literal["l1", "l2"]


@dataclass(frozen=True)
class ReconstructSettings(JobSettings):
    """Reconstruct images through a pretrained generator.

    Args:
        model: name of a shipped model; a folder with a card and weights; taesd:FOLDER of a tiny autoencoder; or in a
            recipe class_path, init_args, weights, latent_shape, output_range and start_scale.
        targets: image files and folders of images; or one array file (.npy, .npz, .safetensors, .pt) of images or of
            measurements (N, ...); or the name of a data set (digits, mnist, cifar10, ... any of torchvision's).
        operator: measurement operator, e.g. downsample, bicubic, blur, hole, crop, gaussian (compressed sensing).
        loss: distance between measurements: mse, l1, huber, ssim, lpips, consistent; or a noise model's negative
            log-likelihood (names as of noise); default that of noise, where it is a model, else mse.
        optimizer: lbfgs, adr-gd, adam, ... (a wrong name is answered by all names), or a class path.
        steps: steps of each restart.
        restarts: restarts of each target; the best is kept.
        seed: seed of every random number.
        start: initializer of the latents: regression (kernel regression on samples of the generator), nearest, random,
            encoder (with start.path that of a file of train-encoder), or auto: the encoder that was trained for this
            operator and lies beside the model's card, else regression. All targets share the forwards of a start's
            training, which count even where they were spent before. Or a file of latents, one for each target:
            latents.safetensors of a job, a saved result, an array.
        halving: pairs [step, count]: after that step only the count best restarts of each target go on.
        tolerance: a target is solved once its loss is below this; discrepancy: once a noise model's loss is what it is
            expected to be at the truth; default never.
        retries: further attempts at targets that are not solved, from their best latents and from new starts.
        conditions: conditions of the generator by name, such as classes: one for all targets or one for each, numbers
            or the path of an array file.
        prior: knowledge of the latents: unconstrained, gaussian, sphere, box; or latent, their own distribution, which
            gives the most probable latents if the loss is a noise model.
        noise: noise added to the measurements of images: the standard deviation of a Gaussian, or a noise model, which
            is also the default loss: gaussian, poisson (with noise.photons), poissongaussian, multiplicative (with
            noise.looks), student (with noise.scale).
        measured: the targets are measurements already (outputs of the operator); default decided by their shape.
        resize: resize targets of another size than the generator's images, keeping their aspect.
        image_size: height and width of the images, or one number for both, of a decoder that takes any size; default
            those of the first target, or 256 where targets are resized or are measurements.
        convert: turn colour into grey or grey into colour where the generator needs it.
        fit: fit of resized targets of another aspect: crop (the middle is kept), pad (the rest is black) or stretch
            (distorted).
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set that is not there.
        limit: reconstruct only this many targets, the first ones.
        batch_size: targets optimised together; results do not depend on it.
        out: folder for the results; a job that was stopped goes on where it was.
        save_images: write each reconstruction as images/NAME.png, and all of them as images.npy.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
        picture_every: steps between two frames of the trajectory.
        layers: radii by layer of the generator, in the order in which they are called; the search goes on in their
            activations, within that distance of where it was (1: that between the activations of two random latents).
        norm: of these radii, l1 or l2; default l1.
        nuisances: limits of translate (pixels), angle (degrees), scale, brightness and contrast, which are found with
            the latents; default none.
        evaluations: forwards and backwards that each target may cost, all its restarts together; default unlimited.
        seconds: wall-clock time for each batch of targets; default unlimited. Results then depend on the machine and
            the batch size.
        patience: a restart ends once this many steps have not lowered its loss; default never.
        devices: how many devices, or which, of each machine; one process each. Results do not depend on it.
        strategy: how Lightning starts the processes; auto or ddp.
        posterior: also draw samples of the latents given the measurements, with means and standard deviations; the loss
            must be a noise model, such as gaussian.
        posterior_steps: steps of each of its chains, >= 16; more where R-hat is far above 1.
        calibration: number of images that the generator makes to check the posterior's intervals, as
            `latentopt.calibrate` does; the shares that they hold are in the report. 0: no check.
        num_nodes: number of machines; all need the folder for the results.
    """

    job: ClassVar[str] = "reconstruct"

    model: ModelSource
    targets: list[str]
    operator: Component = component("operator", "identity")
    loss: Component = component("loss")
    optimizer: Component = component("optimizer", "lbfgs", memory=64)
    steps: int = 400
    restarts: int = 8
    seed: int = 0
    start: Component = component("initializer", "auto")
    halving: tuple[tuple[int, int], ...] = ((20, 4), (60, 2), (150, 1))
    tolerance: float | Literal["discrepancy"] | None = None
    retries: int = 0
    conditions: dict[str, Any] | None = None
    prior: Component = component("prior", "unconstrained")
    noise: Component = component("noise", 0.0)
    measured: bool | None = None
    resize: bool = False
    convert: bool = False
    fit: Fit = "crop"
    root: str | None = None
    split: str = "test"
    download: bool = False
    limit: int | None = None
    batch_size: int = 64
    out: str = "runs/reconstruct"
    save_images: bool = False
    wandb: WandbMode = default_wandb()
    device: Device = "auto"
    picture_every: int = 10
    evaluations: int | None = None
    seconds: float | None = None
    patience: int | None = None
    devices: int | str = 1
    strategy: Strategy = "auto"
    num_nodes: int = 1
    image_size: int | list[int] | None = None
    layers: dict[str, float] | None = None
    norm: BallNorm | None = None
    nuisances: dict[str, Any] | None = None
    posterior: bool = False
    posterior_steps: int = 112
    calibration: int = 0

    def build(self) -> Self:
        """Return the settings with objects in place of named components, and the loss that is meant by none.

        Raises:
            LatentOptError: a component cannot be built.
        """
        from latentopt.inverse.problem import build_loss

        built = super().build()
        return replace(built, loss=build_loss(built.loss, built.noise))


@dataclass(frozen=True)
class ReconstructPlan:
    """A reconstruction job whose settings were checked."""

    settings: ReconstructSettings
    folder: Path
    source: Source | None  # of the targets, if they are files; data sets are opened when the job runs


@dataclass(frozen=True)
class ReconstructJobResult:
    """The results of a reconstruction job."""

    rows: list[dict[str, Any]] = field(repr=False)  # of the table of results, one a target
    skipped: list[tuple[str, str]]  # name and reason
    files: list[Path]  # that were written
    compared: Literal["image", "measurement"]  # what the metrics compare
    seconds: float
    rank: int = 0  # of this process among those of the job; only the first, 0, writes


def prepare(settings: ReconstructSettings) -> ReconstructPlan:
    """Check the settings of a reconstruction job, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model or the targets are not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("steps", "restarts", "batch_size", "picture_every", "limit", "evaluations", "patience")
    settings.check_positive("seconds", integer=False)
    if settings.tolerance != "discrepancy":
        settings.check_positive("tolerance", integer=False)
    nonnegative("retries", settings.retries, integer=True)
    if settings.posterior_steps < 16:
        raise InputError("posterior_steps", "an integer >= 16", settings.posterior_steps)
    nonnegative("calibration", settings.calibration, integer=True)
    if settings.calibration and not settings.posterior:
        raise InputError("calibration", "--posterior true beside it, whose intervals it checks", settings.calibration)
    settings.check_choices(wandb=WandbMode, device=Device, fit=Fit, norm=BallNorm)
    settings.check_devices()
    settings.check_components()
    require_card(settings.model, GeneratorCard)
    check_targets(settings.targets, settings.root, settings.split, settings.download, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return ReconstructPlan(settings, folder, open_files(settings.targets, settings.limit))


@job
def run(plan: ReconstructPlan) -> ReconstructJobResult:
    """Run a reconstruction job, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the generator or the targets; nothing was written.
    """
    from latentopt.jobs.reconstructor import run_reconstruction

    return run_reconstruction(plan)


@renamed_keywords(rounds=("retries", lambda rounds: rounds - 1), keep="halving")
def reconstruct(*args: Any, **settings: Any) -> ReconstructJobResult:
    """Reconstruct images through a pretrained generator; arguments are those of `ReconstructSettings`."""
    return run(prepare(ReconstructSettings(*args, **settings)))
