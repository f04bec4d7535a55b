"""The job that trains classifiers with capped ReLUs and asks whether they are robust (arXiv 2405.03777)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from tqdm import tqdm

from latentopt.analysis.regions import unit_activity
from latentopt.analysis.robustness import Robustness, robustness
from latentopt.errors import InputError, positive
from latentopt.io import write_atomically
from latentopt.jobs.analyze.capped_report import report
from latentopt.jobs.components import describe
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.lifetime import job
from latentopt.jobs.module_training import fit
from latentopt.jobs.tracker import METRICS, Tracker, WandbMode, check_wandb_mode, track_job
from latentopt.jobs.trainer import Where
from latentopt.jobs.used import held
from latentopt.networks.classifier import Classifier
from latentopt.reports import PLOT, TABLE, Written, png_bytes
from latentopt.zoo.architectures import MLP, ConvClassifier
from latentopt.zoo.capped import Capped
from latentopt.zoo.classifiers import Adversary, ClassifierTraining
from latentopt.zoo.data import LabelledData

Network = Literal["dense", "conv"]
Training = Literal["plain", "fgsm"]
LAYERS: dict[Network, dict[str, tuple[int, ...] | None]] = {
    "dense": {"first": (0,), "second": (1,), "all": None},
    "conv": {"first conv": (0,), "second conv": (1,), "dense": (2,), "all": None},
}
"""What is capped, and by which sites."""


@dataclass(frozen=True)
class Cell:
    """One classifier to be trained."""

    training: str
    layer: str  # key of `LAYERS`, "none" of a network without cap
    beta: float  # of no cap infinity
    seed: int


@job
def capped(
    data: str = "mnist",
    network: Network = "dense",
    betas: str = "0.01,0.1,1,10,100",
    training: str = "plain,fgsm",
    eps: float = 0.1,
    eps_l2: float = 1.0,
    seeds: int = 3,
    epochs: int = 4,
    limit: int = 200,
    steps: int = 100,
    queries: int = 1000,
    root: str | None = None,
    download: bool = False,
    out: str = "runs/analyze-capped",
    wandb: WandbMode = "offline",
    device: str = "cpu",
) -> Written:
    """Train classifiers with a cap on each layer, and attack them with and without trust in their gradients.

    Args:
        data: name of a labelled data set with a test split of its own (mnist, cifar10).
        network: dense, hidden layers of 100 and 50; or conv, two strided convolutions and 100 hidden units.
        betas: the caps, between commas; a network without cap is always among them.
        training: plain, fgsm (every image first goes through one step against it, at eps) or both, between commas.
        eps: radius in Linf of the attacks and of the adversarial training, in units of the pixels.
        eps_l2: radius in L2 in which the attack of Carlini and Wagner counts.
        seeds: classifiers of each kind.
        epochs: passes over the training images.
        limit: test images that are attacked.
        steps: of each attack.
        queries: forwards of Square.
        root: folder of the data; default the environment variable LATENTOPT_DATA.
        download: fetch the data where torchvision can.
        out: folder for the results; the same command goes on with a job that was stopped.
        wandb: online, offline or disabled; everything is on disk in any case.
        device: of the training: auto, cpu, cuda or mps.
    """
    recipe = {"job": "analyze-capped", **describe(locals())}
    for name, value in (("seeds", seeds), ("epochs", epochs), ("limit", limit), ("steps", steps), ("queries", queries)):
        positive(name, value, integer=True)
    for name, value in (("eps", eps), ("eps_l2", eps_l2)):
        positive(name, value)
    check_wandb_mode(wandb)
    cells = _cells(network, betas, training, seeds)
    images = LabelledData(data, root, batch_size=500, download=download)
    x, y = images.load("test", limit)
    classes = [str(label) for label in range(int(images.training()[1].max()) + 1)]
    _network(network, x, len(classes), cells[0])
    store = Experiment(Path(out), recipe, held(data=[*images.training(), x, y]), "right")
    store.open()
    left = [at for at in range(len(cells)) if at not in store.done()]
    tracker = track_job(store, wandb, left, recipe, "analyze-capped")
    for at in tqdm(left, unit="classifier", desc="capped", initial=len(cells) - len(left), total=len(cells)):
        cell = cells[at]
        torch.manual_seed(cell.seed)
        adversary = Adversary(steps=1, step=1.25, warmup=0.3) if cell.training == "fgsm" else None
        module = ClassifierTraining(_network(network, x, len(classes), cell), classes, eps, adversary, lr=4e-3)
        fit(module, images, epochs, cell.seed, Where(device), bar=False)
        model = module.network.eval().cpu()
        found = robustness(model, x, y, eps, eps_l2, steps=steps, queries=queries, seed=cell.seed)
        row = _row(cell, model, x, found)
        right = torch.stack([*found.right.values(), found.worst])
        tracker.log(at, {f"accuracy/{name}": value for name, value in found.accuracy.items()})
        tensors = {"index": torch.tensor([at]), "right": right[None].to(torch.uint8)}
        tracker.keep(store, Shard([f"{at}"], [row], tensors))
    return _written(store, tracker, str(recipe["data"]), len(x))


def _written(store: Experiment, tracker: Tracker, data: str, count: int) -> Written:
    rows = store.finish([])
    found = report(rows, data, count)
    markdown = found.markdown()
    write_atomically(store.folder / TABLE, markdown.encode())
    write_atomically(store.folder / PLOT, png_bytes(found.draw))
    files = [store.folder / name for name in (TABLE, PLOT, RESULTS, METRICS, RECIPE)]
    files = [file for file in files if file.exists()]
    best = {f"{row['training']}/{row['layer']}/{row['beta']:g}/{row['seed']}": row["worst"] for row in rows}
    return Written(markdown, files + tracker.finish(rows, best, files))


def _cells(network: Network, betas: str, training: str, seeds: int) -> list[Cell]:
    if network not in get_args(Network):
        raise InputError("network", f"one of {', '.join(get_args(Network))}", repr(network))
    trainings = training.split(",")
    if not set(trainings) <= set(get_args(Training)) or len(set(trainings)) < len(trainings):
        raise InputError("training", "plain, fgsm or both, between commas", repr(training))
    try:
        caps = [float(beta) for beta in betas.split(",")]
    except ValueError as error:
        raise InputError("betas", "numbers between commas", repr(betas)) from error
    for cap in caps:
        positive("betas", cap)
    kinds = [("none", float("inf")), *itertools.product(LAYERS[network], caps)]
    return [Cell(how, layer, beta, seed) for seed in range(seeds) for how in trainings for layer, beta in kinds]


def _network(network: Network, x: Tensor, classes: int, cell: Cell) -> nn.Module:
    shape: Any = tuple(x.shape[1:])
    if network == "dense":
        plain: nn.Module = MLP((x[0].numel(), 100, 50, classes))
    else:
        plain = ConvClassifier(shape, classes=classes)
    return plain if cell.layer == "none" else Capped(plain, cell.beta, LAYERS[network][cell.layer])


def _row(cell: Cell, model: Classifier, x: Tensor, found: Robustness) -> dict[str, Any]:
    sites = unit_activity(model, x)
    return {
        **asdict(cell),
        **found.accuracy,
        "worst": found.worst.double().mean().item(),
        "zero_gradients": found.zero,
        "dead": _mean([site.dead for site in sites]),
        "saturated": max(site.saturated for site in sites),
        "failure": found.failure,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
