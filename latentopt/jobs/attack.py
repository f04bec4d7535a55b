"""The attack job: the labelled images of a data set against one classifier, batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from latentopt.attacks.stages import Portfolio, StartPoint
from latentopt.classification import LossName
from latentopt.errors import InputError, positive
from latentopt.jobs import attack_pictures
from latentopt.jobs.attacker import Attacker, attacked
from latentopt.jobs.chunks import Chunks, chunks_of
from latentopt.jobs.labelled import open_labelled
from latentopt.jobs.lifetime import job
from latentopt.jobs.rates import Rates, rates
from latentopt.jobs.specs import describe
from latentopt.jobs.store import RECIPE, RESULTS, Store
from latentopt.jobs.tracker import METRICS, WandbMode, check_wandb_mode, track_job
from latentopt.jobs.trainer import Where, predict, predictor
from latentopt.jobs.used import card_of, held, used
from latentopt.networks.checks import output_shape
from latentopt.networks.classifier import Classifier
from latentopt.optimizers import Optimizer
from latentopt.sets import Norm
from latentopt.zoo import cards

SHOWN = 16
"""The grid shows the first so many images."""


@dataclass(frozen=True)
class Report:
    """What an attack on a data set did."""

    rows: list[dict[str, Any]]  # of the table of results, an image each
    rates: Rates
    targeted: bool  # towards one class an image
    left_out: int  # images of the class that the attack is towards
    warnings: list[str]
    files: list[Path]  # what was written
    seconds: float
    rank: int = 0  # of this process among those of the job; only the first, 0, writes


@job
def attack(
    model: str,
    data: str,
    eps: float,
    norm: Norm = "linf",
    targeted: int | None = None,
    targets: Literal["random", "least-likely", "all"] | int | None = None,
    optimizer: Optimizer | Portfolio | str = "portfolio",
    loss: LossName | Callable[..., Any] | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    start: StartPoint | None = None,
    seed: int = 0,
    weights: str | None = None,
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int | None = None,
    batch_size: int = 256,
    out: str = "runs/attack",
    wandb: WandbMode = "offline",
    device: str = "auto",
    evaluations: int | None = None,
    seconds: float | None = None,
    devices: int | str = 1,
    strategy: str = "auto",
    num_nodes: int = 1,
) -> Report:
    """Attack a pretrained classifier with the images of a data set.

    Args:
        model: name of a shipped classifier; a folder with a card and weights; or torchvision/NAME.
        data: a data set's name (digits, mnist, cifar10, ... any of torchvision's); or an .npz file with images and
            labels.
        eps: greatest change of an image, in its norm; pixels are in [0, 1].
        norm: linf or l2.
        targeted: class that every image is to be taken for; images of that class are left out.
        targets: random or least-likely: success is the class so chosen for each image. all, or a number: success is
            any other class, and so many of them, the most likely ones first, are aimed at one after the other.
        optimizer: portfolio, fgsm, pgd, apgd, adr-gd, ... (a wrong name is answered by all names), or a class path.
        loss: ce, margin or dlr, or a function's path; default ce. A portfolio's stages have their own, and their own
            steps, restarts and start.
        steps: steps of each restart; default 100, of fgsm 1.
        restarts: starts of each image; default 1.
        start: of the first restart: clean or random; default clean.
        seed: of every random number.
        weights: file with a state dict, of a classifier of torchvision; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set where it is not there.
        limit: only the first so many images.
        batch_size: images attacked together; results do not depend on it.
        out: folder for the results; a job that was stopped goes on where it was.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu, cuda or mps.
        evaluations: forwards and backwards that each image may cost; default any number.
        seconds: wall-clock time for each batch of images; default any. Results then depend on the machine and the
            batch size.
        devices: how many, or which, of each machine; one process each. Results do not depend on it.
        strategy: how Lightning starts the processes; auto or ddp.
        num_nodes: machines; all need the folder for the results.
    """
    recipe = {"job": "attack", **describe(locals())}
    begun = time.perf_counter()
    positive("batch_size", batch_size, integer=True)
    check_wandb_mode(wandb)
    settings = {"eps": eps, "norm": norm, "targets": targets, "optimizer": optimizer, "loss": loss, "steps": steps}
    settings |= {"restarts": restarts, "start": start, "seed": seed, "evaluations": evaluations, "seconds": seconds}
    classifier = cards.load_classifier(model, weights=weights)
    with predictor(Where(device, devices, strategy, num_nodes)) as trainer:
        images, labels = open_labelled(data, root, split, limit, download)
        _check(classifier, images, labels, targeted)
        index = (labels != (-1 if targeted is None else targeted)).nonzero()[:, 0]
        if not len(index):
            raise InputError("targeted", "a class that some image does not have", targeted)
        _rehearse(classifier, images[index[:1]], labels[index[:1]], targeted, settings)

        identity = held(weights=classifier, data=[images, labels], optimizer=optimizer, loss=loss) | card_of(model)
        store, rank = Store(Path(out), recipe, identity, "adversarial"), trainer.global_rank
        if rank == 0:
            store.open()
        todo = set(index.tolist()) - store.done()
        chunks = chunks_of(todo, batch_size, rank, trainer.world_size)
        tracker = track_job(store, wandb, todo, {**recipe, **used(model)}, "attack", rank)
        module = Attacker(classifier, settings, targeted, tracker, store.rows(), 0 if rank else sum(map(len, chunks)))
        if todo or trainer.world_size > 1:  # processes that are waited for
            labelled = TensorDataset(torch.arange(len(images)), images, labels)
            predict(trainer, module, DataLoader(Chunks(labelled, chunks), batch_size=None), store)
    one_class, left_out = targeted is not None or targets in ("random", "least-likely"), len(images) - len(index)
    if rank:
        rows = store.rows()
        return Report(rows, rates(rows), one_class, left_out, [], [], time.perf_counter() - begun, rank)
    rows = store.finish([])
    files = [store.folder / name for name in (RESULTS, store.found.name, METRICS, RECIPE)]
    files += _draw(store, rows, images, norm)
    report = rates(rows)
    best = {"success": report.success.rate, "robust_accuracy": report.robust.rate, "clean_accuracy": report.clean.rate}
    files = [file for file in files if file.exists()]
    files += tracker.finish(rows, best, files)
    warned = list(dict.fromkeys(note for shard in store.read("index") for note in shard.notes))
    if targeted is None and not report.clean.part:
        warned.append(f"labels: the model gets none of the {len(rows)} images right; are they its classes?")
    return Report(rows, report, one_class, left_out, warned, files, time.perf_counter() - begun)


def _check(classifier: Classifier, images: Tensor, labels: Tensor, targeted: int | None) -> None:
    """Raise `InputError` where the classifier does not take these images, or does not know their classes."""
    if classifier.input_range != (0.0, 1.0):
        raise InputError("model", "a classifier of pixels in [0, 1]", f"one of inputs in {classifier.input_range}")
    if classifier.input_shape not in (None, tuple(images.shape[1:])):
        raise InputError("data", f"images of the model's shape {classifier.input_shape}", tuple(images.shape[1:]))
    shape = output_shape(classifier, images[:1], "data")
    if len(shape) != 1:
        raise InputError("model", "a classifier: logits (B, K)", f"outputs (B, {', '.join(map(str, shape))})")
    (classes,) = shape
    if int(labels.max()) >= classes:
        raise InputError("data", f"labels of the model's {classes} classes", int(labels.max()))
    if targeted is not None and not 0 <= targeted < classes:
        raise InputError("targeted", f"a class from 0 to {classes - 1}", targeted)


def _rehearse(
    classifier: Classifier, image: Tensor, label: Tensor, target: int | None, settings: dict[str, Any]
) -> None:
    """One step against one image, so that what is wrong with the settings is known before anything is written."""
    for name in ("evaluations", "seconds"):
        if settings[name] is not None:
            positive(name, settings[name], integer=name == "evaluations")
    enough = 3 * (settings["restarts"] or 1) + 3  # with the looks before and after it
    attacked(classifier, image, label, target, {**settings, "evaluations": enough, "seconds": None})


def _draw(store: Store, rows: list[dict[str, Any]], images: Tensor, norm: Norm) -> list[Path]:
    """The grid, where the images have colours that can be shown, and the curve."""
    paths, shown = [store.folder / "curve.png"], rows[:SHOWN]
    attack_pictures.save_curve(paths[0], rows)
    if images.shape[1] in (1, 3):
        clean = images[[row["index"] for row in shown]]
        adversarial = load_file(store.found)["adversarial"][: len(shown)]
        paths.append(store.folder / "grid.png")
        attack_pictures.save_grid(paths[1], shown, clean, adversarial.to(clean), norm)
    return paths
