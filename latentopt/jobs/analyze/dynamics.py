"""`latentopt analyze dynamics`: raw gradient ascent on a classifier against its formulas (arXiv 2205.15130)."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from latentopt.analysis.dynamics import Amplification, amplification, compare_dynamics, concatenate, input_hessian_eigs
from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.analyze.dynamics_plots import draw_confidence, draw_errors
from latentopt.jobs.analyze.dynamics_report import NOTE, Setting, appendix, figures_of, rows_of, tables
from latentopt.jobs.analyze.folder import Folder
from latentopt.jobs.labelled import open_labelled
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import WandbMode
from latentopt.jobs.trainer import accelerator_of
from latentopt.networks.classifier import Classifier
from latentopt.reports import Report, Written
from latentopt.zoo import cards

GROWTHS = (0.02, 0.5)
"""``a m l_1``: where the eigen formula is good, and where it is not."""
HIGH = 0.9
"""The step size that is the same for all images has the greatest growth at this quantile of the eigenvalues."""


@job
def dynamics(
    model: str,
    data: str,
    step: float | None = None,
    steps: int = 10,
    growth: list[float] | None = None,
    noise: float = 0.0,
    seed: int = 0,
    weights: str | None = None,
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int | None = 200,
    batch_size: int = 100,
    out: str = "runs/analyze-dynamics",
    wandb: WandbMode = "offline",
    device: str = "auto",
) -> Written:
    """Compare raw gradient ascent on a classifier's cross-entropy with what formulas predict, in double precision.

    Args:
        model: name of a shipped classifier; a folder with a card and weights; or torchvision/NAME. Piecewise linear.
        data: a data set's name (digits, mnist, cifar10, ... any of torchvision's); or an .npz file with images and
            labels.
        step: step size a of the gradient, the same for all images. Default: for each growth a step size of each
            image's own, and one that all share, at which a m l_1 is the greatest growth at the 90th percentile.
        steps: m, steps of the ascent.
        growth: instead of step, what a m l_1 is for each image, l_1 the largest eigenvalue of its Hessian; a list;
            default 0.02 and 0.5.
        noise: uniform noise in [0, noise] that is added to the pixels. Where a background has one value, its gates are
            all at the same distance from flipping, and flip together.
        seed: of the noise.
        weights: file with a state dict, of a classifier of torchvision; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set where it is not there.
        limit: only the first so many images.
        batch_size: images at a time; results do not depend on it.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: auto, cpu or cuda.
    """
    folder = Folder("analyze-dynamics", locals())
    _check(step, steps, growth, noise, batch_size)
    where = _device(device)
    classifier = cards.load_classifier(model, weights=weights).to(where).double()
    images, labels = open_labelled(data, root, split, limit, download)
    drawn = torch.rand(images.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    x, labels = (images.double() + noise * drawn).to(where), labels.to(where)
    top = _top(classifier, x, labels, batch_size)  # what is wrong with the model or the data shows here
    folder.open()
    found = []
    sizes = _step_sizes(step, growth or list(GROWTHS), steps, top)
    for name, a in tqdm(sizes.items(), unit="setting"):
        found.append(_setting(name, classifier, x, labels, a, steps, batch_size))
        for figures in figures_of(found[-1]):
            folder.log(figures)
    title = f"Perturbation dynamics of {model} on {len(x)} images of {data}: {steps} steps of raw gradient ascent"
    draw = partial(draw_errors, found)
    report = Report(title, NOTE, tables(found), rows_of(found, labels), draw, appendix(found))
    best = {key: value for key, value in figures_of(found[0])[-1].items() if isinstance(value, float)}
    return folder.write(report, best, {"confidence.png": partial(draw_confidence, found[-1])})


def _check(step: float | None, steps: int, growth: list[float] | None, noise: float, batch_size: int) -> None:
    for name, count in (("steps", steps), ("batch_size", batch_size)):
        positive(name, count, integer=True)
    if step is not None:
        positive("step", step)
        if growth is not None:
            raise InputError("growth", "none where there is a step", growth)
    for each in growth or []:
        positive("growth", each)
    nonnegative("noise", noise)


def _device(device: str) -> str:
    where = accelerator_of(device)
    where = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}.get(where, where)
    if where == "mps":
        raise InputError("device", "auto, cpu or cuda, for double precision", device)
    return where


def _top(classifier: Classifier, x: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """The largest eigenvalue (N,) of each image's Hessian, > 0."""
    batches = zip(x.split(batch_size), labels.split(batch_size), strict=True)
    top = torch.cat([input_hessian_eigs(classifier, *batch, k=1).values[:, 0] for batch in batches])
    flat = (top <= 0).nonzero()[:, 0].tolist()
    if flat:
        raise InputError("data", "images whose loss is curved", f"image {flat[0]}, its largest eigenvalue 0")
    return top


def _step_sizes(step: float | None, growths: list[float], steps: int, top: Tensor) -> dict[str, Tensor]:
    """Of each setting, by name; the last is of one size for all images."""
    if step is not None:
        return {f"a = {step:g}": torch.full_like(top, step)}
    sizes = {f"a m l_1 = {each:g}": each / (steps * top) for each in growths}
    shared = max(growths) / (steps * top.quantile(HIGH))
    return {**sizes, f"a = {shared:.3g} for all": shared.expand_as(top)}


def _setting(
    name: str, classifier: Classifier, x: Tensor, labels: Tensor, a: Tensor, steps: int, batch_size: int
) -> Setting:
    batches = list(zip(x.split(batch_size), labels.split(batch_size), a.split(batch_size), strict=True))
    compared = concatenate([compare_dynamics(classifier, *batch, steps) for batch in batches])
    norms = [amplification(classifier, *batch, steps) for batch in batches]
    whole = {f.name: torch.cat([getattr(part, f.name) for part in norms]) for f in fields(Amplification)}
    return Setting(name, a, compared, Amplification(**whole))
