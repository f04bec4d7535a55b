"""The attack job: the labelled images of a data set against one classifier, batch by batch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from latentopt.errors import nonnegative
from latentopt.jobs.attack_rates import AttackRates
from latentopt.jobs.experiment import check_folder, expanded_folder
from latentopt.jobs.lifetime import job
from latentopt.jobs.settings import (
    Component,
    Device,
    Fit,
    JobPlan,
    JobSettings,
    ModelSource,
    Norm,
    Strategy,
    WandbMode,
    component,
    default_wandb,
)
from latentopt.jobs.sources import check_labelled
from latentopt.zoo.card import require_classifier


@dataclass(frozen=True)
class AttackSettings(JobSettings):
    """Attack a pretrained classifier with the images of a data set.

    Args:
        model: name of a shipped classifier; a folder with a card and weights; torchvision/NAME; or in a recipe
            class_path, init_args, weights, mean, std, input_range, input_shape and classes.
        data: name of a data set (digits, mnist, cifar10, ... any of torchvision's); a folder with a subfolder for each
            class, or with a labels.csv of files and labels; or an array file with images and labels.
        eps: largest change of an image, in its norm; pixels are in [0, 1].
        norm: linf or l2.
        targeted: class that every image is to be taken for; images of that class are left out.
        targets: random or least-likely: the attack succeeds if the image is taken for the class chosen so. all, or a
            number: any other class is a success, and that many of them, the most likely first, are aimed at in turn.
        optimizer: portfolio, fgsm, pgd, apgd, adr-gd, ... (a wrong name is answered by all names), or a class path.
        loss: ce, margin or dlr, or the path of a function; default ce. The stages of a portfolio have their own, and
            their own steps, restarts and start.
        steps: steps of each restart; default 100, of fgsm 1.
        restarts: restarts of each image; default 1.
        start: start of the first restart, clean or random; default clean.
        seed: seed of every random number.
        weights: file with a state dict of a torchvision classifier; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set that is not there.
        limit: attack only this many images, the first ones; of subfolders, from each in turn.
        resize: resize images of another size than the model's, keeping their aspect.
        convert: turn colour into grey or grey into colour where the model needs it.
        fit: fit of resized images of another aspect: crop (the middle is kept), pad (the rest is black) or stretch
            (distorted).
        batch_size: images attacked together; results do not depend on it.
        out: folder for the results; a job that was stopped goes on where it was.
        save_images: write each adversarial image as images/NAME.png, rounded to 8 bits within its ball.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
        evaluations: forwards and backwards that each image may cost; default unlimited.
        seconds: wall-clock time for each batch of images; default unlimited. Results then depend on the machine and the
            batch size.
        devices: how many devices, or which, of each machine; one process each. Results do not depend on it.
        strategy: how Lightning starts the processes; auto or ddp.
        num_nodes: number of machines; all need the folder for the results.
    """

    job: ClassVar[str] = "attack"

    model: ModelSource
    data: str
    eps: float
    norm: Norm = "linf"
    targeted: int | None = None
    targets: Literal["random", "least-likely", "all"] | int | None = None
    optimizer: Component = component("attack", "portfolio")
    loss: Component = component("attack_loss")
    steps: int | None = None
    restarts: int | None = None
    start: Literal["clean", "random"] | None = None
    seed: int = 0
    weights: str | None = None
    root: str | None = None
    split: str = "test"
    download: bool = False
    limit: int | None = None
    resize: bool = False
    convert: bool = False
    fit: Fit = "crop"
    batch_size: int = 256
    out: str = "runs/attack"
    save_images: bool = False
    wandb: WandbMode = default_wandb()
    device: Device = "auto"
    evaluations: int | None = None
    seconds: float | None = None
    devices: int | str = 1
    strategy: Strategy = "auto"
    num_nodes: int = 1


@dataclass(frozen=True)
class AttackJobResult:
    """The results of an attack on a data set."""

    rows: list[dict[str, Any]] = field(repr=False)  # of the table of results, one an image
    rates: AttackRates
    targeted: bool  # towards one class an image
    left_out: int  # images of the class that the attack is towards
    warnings: list[str]
    files: list[Path]  # that were written
    seconds: float
    rank: int = 0  # of this process among those of the job; only the first, 0, writes


def prepare(settings: AttackSettings) -> JobPlan[AttackSettings]:
    """Check the settings of an attack, as far as that needs no torch.

    Raises:
        InputError: a setting is wrong, the model or the data are not there, or the folder holds something else.
    """
    folder = expanded_folder("out", settings.out)
    settings.check_positive("batch_size", "limit", "steps", "restarts", "evaluations")
    settings.check_positive("seconds", integer=False)
    settings.check_choices(norm=Norm, fit=Fit, wandb=WandbMode, device=Device, start=Literal["clean", "random"])
    nonnegative("eps", settings.eps)
    settings.check_devices()
    settings.check_components()
    require_classifier(settings.model, settings.weights)
    check_labelled(settings.data, settings.root, settings.split, settings.download, settings.limit)
    check_folder(folder, settings.plain_recipe())
    return JobPlan(settings, folder)


@job
def run(plan: JobPlan[AttackSettings]) -> AttackJobResult:
    """Run an attack, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the model or the data; nothing was written.
    """
    from latentopt.jobs.attacker import run_attack

    return run_attack(plan)


def attack(*args: Any, **settings: Any) -> AttackJobResult:
    """Attack a pretrained classifier with the images of a data set; arguments are those of `AttackSettings`."""
    return run(prepare(AttackSettings(*args, **settings)))
