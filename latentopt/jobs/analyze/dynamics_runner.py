"""`latentopt analyze dynamics` at work: step sizes, ascents and formulas in batches, and the report."""

from __future__ import annotations

from dataclasses import fields
from functools import partial

import torch
from torch import Tensor

from latentopt.analysis.dynamics import Amplification, amplification, compare_dynamics, concatenate, input_hessian_eigs
from latentopt.errors import InputError
from latentopt.jobs.analyze.dynamics import GROWTHS, DynamicsSettings
from latentopt.jobs.analyze.dynamics_plots import draw_confidence, draw_errors
from latentopt.jobs.analyze.dynamics_report import DynamicsResult, report, step_figures
from latentopt.jobs.experiment import Experiment
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.trainer import accelerator_of
from latentopt.networks.classifier import Classifier
from latentopt.progress import ProgressLine
from latentopt.reports import WrittenReport
from latentopt.zoo import cards

HIGH = 0.9
"""The shared step size has the greatest growth at this quantile of the eigenvalues."""


def run_dynamics(plan: JobPlan[DynamicsSettings]) -> WrittenReport:
    """Run a prepared analysis."""
    settings = plan.settings
    experiment = Experiment(plan.folder, settings.recipe(), resumable=False)
    device = accelerator_of(settings.device)
    device = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}.get(device, device)
    classifier = cards.load_classifier(settings.model, weights=settings.weights).to(device).double()
    place = settings.data, settings.root, settings.split, settings.limit, settings.download
    images, labels, _ = open_labelled(*place, classifier)
    noise = torch.rand(images.shape, generator=torch.Generator().manual_seed(settings.seed), dtype=torch.float64)
    x, labels = (images.double() + settings.noise * noise).to(device), labels.to(device)
    top = _largest_eigenvalues(classifier, x, labels, settings.batch_size)  # refuses a wrong model or wrong data
    experiment.open()
    experiment.begin_tracking(settings.wandb)
    results = []
    sizes = _step_sizes(settings, top)
    with ProgressLine(settings.job, len(sizes), "setting", leave=True) as line:
        for name, a in line.over(sizes.items()):
            results.append(_analyse(name, classifier, x, labels, a, settings.steps, settings.batch_size))
            for figures in step_figures(results[-1]):
                experiment.log(figures)
    what = f"{settings.model} on {len(x)} images of {settings.data}"
    title = f"Perturbation dynamics of {what}: {settings.steps} steps of raw gradient ascent"
    best = {key: value for key, value in step_figures(results[0])[-1].items() if isinstance(value, float)}
    summary = report(title, results, partial(draw_errors, results))
    return experiment.write(summary, best, {"confidence.png": partial(draw_confidence, results[-1])})


def _largest_eigenvalues(classifier: Classifier, x: Tensor, labels: Tensor, batch_size: int) -> Tensor:
    """Return the largest eigenvalue (N,) of each image's Hessian, > 0."""
    batches = zip(x.split(batch_size), labels.split(batch_size), strict=True)
    top = torch.cat([input_hessian_eigs(classifier, *batch, k=1).values[:, 0] for batch in batches])
    flat = (top <= 0).nonzero()[:, 0].tolist()
    if flat:
        raise InputError("data", "images whose loss is curved", f"image {flat[0]}, its largest eigenvalue 0")
    return top


def _step_sizes(settings: DynamicsSettings, top: Tensor) -> dict[str, Tensor]:
    """Return the step sizes (N,) of each setting by name; those of the last are the same for all images."""
    if settings.step is not None:
        return {f"a = {settings.step:g}": torch.full_like(top, settings.step)}
    growths = settings.growth or list(GROWTHS)
    sizes = {f"a m l_1 = {growth:g}": growth / (settings.steps * top) for growth in growths}
    shared = max(growths) / (settings.steps * top.quantile(HIGH))
    return {**sizes, f"a = {shared:.3g} for all": shared.expand_as(top)}


def _analyse(
    name: str, classifier: Classifier, x: Tensor, labels: Tensor, a: Tensor, steps: int, batch_size: int
) -> DynamicsResult:
    batches = list(zip(x.split(batch_size), labels.split(batch_size), a.split(batch_size), strict=True))
    comparison = concatenate([compare_dynamics(classifier, *batch, steps) for batch in batches])
    norms = [amplification(classifier, *batch, steps) for batch in batches]
    columns = {field.name: torch.cat([getattr(part, field.name) for part in norms]) for field in fields(Amplification)}
    return DynamicsResult(name, labels, a, comparison, Amplification(**columns))
