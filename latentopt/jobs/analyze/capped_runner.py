"""`latentopt analyze capped` at work: trains each classifier, attacks it and writes the report."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from latentopt.analysis.regions import unit_activity
from latentopt.analysis.robustness import Robustness, robustness
from latentopt.io import write_atomically
from latentopt.jobs.analyze.capped import LAYERS, CappedModel, CappedPlan
from latentopt.jobs.analyze.capped_report import report
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.identity import digest_tensors
from latentopt.jobs.module_training import fit
from latentopt.jobs.tracker import METRICS, track_job
from latentopt.jobs.trainer import Hardware
from latentopt.networks.classifier import Classifier
from latentopt.progress import ProgressLine
from latentopt.reports import PLOT, TABLE, WrittenReport, png_bytes
from latentopt.zoo.architectures import MLP, ConvClassifier
from latentopt.zoo.capped import Capped
from latentopt.zoo.classifiers import Adversary, ClassifierTraining
from latentopt.zoo.data import LabelledData


def run_capped(plan: CappedPlan) -> WrittenReport:
    """Run a prepared analysis, or go on with one that was stopped."""
    settings, models = plan.settings, plan.models
    recipe = settings.recipe()
    images = LabelledData(settings.data, settings.root, batch_size=500, download=settings.download)
    x, y = images.load("test", settings.limit)
    classes = [str(label) for label in range(int(images.training()[1].max()) + 1)]
    _build(settings.network, x, len(classes), models[0])
    experiment = Experiment(plan.folder, recipe, digest_tensors(data=[*images.training(), x, y]), "right")
    experiment.open()
    todo = [index for index in range(len(models)) if index not in experiment.done()]
    tracker = track_job(experiment, settings.wandb, todo, recipe, settings.job)
    with ProgressLine(settings.job, len(models), "classifier", leave=True) as line:
        line.update(len(models) - len(todo))
        for index in line.over(todo):
            model = models[index]
            torch.manual_seed(model.seed)
            adversary = Adversary(steps=1, step=1.25, warmup=0.3) if model.training == "fgsm" else None
            network = _build(settings.network, x, len(classes), model)
            module = ClassifierTraining(network, classes, settings.eps, adversary, lr=4e-3)
            fit(module, images, settings.epochs, model.seed, Hardware(settings.device), bar=False)
            classifier = module.network.eval().cpu()
            attacks = {"steps": settings.steps, "queries": settings.queries, "seed": model.seed}
            result = robustness(classifier, x, y, settings.eps, settings.eps_l2, **attacks)
            tracker.log(index, {f"accuracy/{name}": value for name, value in result.accuracy.items()})
            right = torch.stack([*result.right.values(), result.worst])
            tensors = {"index": torch.tensor([index]), "right": right[None].to(torch.uint8)}
            tracker.keep(experiment, Shard([f"{index}"], [_row(model, classifier, x, result)], tensors))
    rows = experiment.finish()
    summary = report(rows, str(recipe["data"]), len(x))
    write_atomically(experiment.folder / TABLE, summary.markdown().encode())
    write_atomically(experiment.folder / PLOT, png_bytes(summary.draw))
    files = experiment.existing(TABLE, PLOT, RESULTS, METRICS, RECIPE)
    worst = {f"{row['training']}/{row['layer']}/{row['beta']:g}/{row['seed']}": row["worst"] for row in rows}
    return WrittenReport(summary.markdown(), files + tracker.finish(rows, worst, files))


def _build(network: str, x: Tensor, classes: int, model: CappedModel) -> nn.Module:
    shape: Any = tuple(x.shape[1:])
    if network == "dense":
        plain: nn.Module = MLP((x[0].numel(), 100, 50, classes))
    else:
        plain = ConvClassifier(shape, classes=classes)
    return plain if model.layer == "none" else Capped(plain, model.beta, LAYERS[network][model.layer])


def _row(model: CappedModel, classifier: Classifier, x: Tensor, result: Robustness) -> dict[str, Any]:
    sites = unit_activity(classifier, x)
    dead = [site.dead for site in sites]
    return {
        **asdict(model),
        **result.accuracy,
        "worst": result.worst.double().mean().item(),
        "zero_gradients": result.zero,
        "dead": sum(dead) / len(dead),
        "saturated": max(site.saturated for site in sites),
        "failure": result.failure,
    }
