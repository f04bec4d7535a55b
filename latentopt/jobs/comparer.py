"""The comparison job at work: the problem of a recipe, one run a method and seed, each kept when it is done."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from latentopt.classification import Misclassified, Misclassify
from latentopt.comparison.result import Comparison, first_to_run
from latentopt.comparison.runs import Budget, Curve, MethodRun, planned_steps, run_method
from latentopt.errors import InputError
from latentopt.jobs.attack import AttackSettings
from latentopt.jobs.compare import ComparePlan
from latentopt.jobs.experiment import RECIPE, Experiment, Shard
from latentopt.jobs.identity import digest_tensors
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.reconstruct import ReconstructSettings
from latentopt.jobs.reconstructor import TargetProblems, open_targets
from latentopt.jobs.sources import open_source
from latentopt.jobs.tracker import METRICS, track_job
from latentopt.jobs.trainer import accelerator_of
from latentopt.networks.classifier import range_for
from latentopt.optimizers import Optimizer, method
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.reports import WrittenReport
from latentopt.sets import bounded_ball
from latentopt.solver.result import Status
from latentopt.zoo import cards


def run_comparison(plan: ComparePlan) -> WrittenReport:
    """Run a prepared comparison, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the model or the targets; nothing was written.
    """
    settings = plan.settings
    device = _device(settings.device)
    problem, start, data = open_problem(plan.problem, device)
    methods = {name: method(name, problem.feasible) for name in settings.names}
    budget = Budget(settings.evaluations, settings.seconds, settings.restarts, settings.steps)
    experiment = Experiment(plan.folder, settings.recipe(), digest_tensors(weights=problem.network, targets=data))
    experiment.open()
    pairs = [(name, seed) for name in methods for seed in range(settings.seeds)]
    runs = {(run.method, run.seed): run for run in _stored(experiment)}
    todo = [pair for pair in pairs if pair not in runs]
    tracker = track_job(experiment, settings.wandb, todo, settings.recipe(), "compare")
    with ProgressLine("compare", len(pairs), "solve", leave=True) as line:
        line.update(len(pairs) - len(todo))
        for name, seed in todo:
            line.text = f"{name}, seed {seed}"
            known = [run.steps for (other, _), run in runs.items() if other == name and run.steps]
            run = _run(problem, name, methods[name], seed, known, budget, start)
            number = pairs.index((name, seed))
            runs[name, seed] = run
            if not run.reason:
                figures = {"loss/best": float(run.value.mean()), "cost/forwards": float(run.forwards.double().mean())}
                tracker.log(int(tracker.last().get("step", -1)) + 1, {**figures, "method": name, "seed": seed})
            tracker.keep(experiment, _shard(run, number, problem.batch))
            line.update()
    ordered = sorted(_stored(experiment), key=lambda run: pairs.index((run.method, run.seed)))  # pyright: ignore
    comparison = Comparison(ordered, first_to_run(ordered), budget)
    files = comparison.save(plan.folder, overwrite=True) + experiment.existing(METRICS, RECIPE)
    best = {f"value/{line.method}": line.mean for line in comparison.summary() if line.count}
    files += tracker.finish(comparison.rows, best, files)
    return WrittenReport(comparison.markdown(), files)


def open_problem(
    settings: ReconstructSettings | AttackSettings, device: torch.device
) -> tuple[Problem, Tensor | None, list[Tensor]]:
    """Open the problem of a recipe.

    Args:
        settings: of a job; its methods and budgets are not used.
        device: where the problem is solved.

    Returns:
        The problem of all targets, the first starts (None: random points of the set), and the data as loaded.

    Raises:
        InputError: targets or data do not fit the model.
    """
    if isinstance(settings, ReconstructSettings):
        built = settings.build()
        generator = cards.load_generator(built.model).to(device)
        source = open_source(built.targets, built.root, built.split, built.download, built.limit)
        shape = built.resize, built.convert, built.fit
        targets, measured = open_targets(generator, source, built.operator, built.measured, *shape)
        good = [target for index in range(len(targets)) if (target := targets[index]).image is not None]
        problem = TargetProblems(built, generator, measured)(good)
        return problem, None, [problem.measurement]
    built = settings.build()
    classifier = cards.load_classifier(built.model, weights=built.weights).to(device)
    place = built.data, built.root, built.split, built.limit, built.download
    images, labels, _ = open_labelled(*place, classifier, built.resize, built.convert, built.fit)
    keep = labels != (-1 if built.targeted is None else built.targeted)
    if not bool(keep.any()):
        raise InputError("targeted", "a class that some image does not have", built.targeted)
    x, y = images[keep].to(device), labels[keep].to(device)
    goal = None if built.targeted is None else torch.full_like(y, built.targeted)
    radius = torch.full((len(x),), float(built.eps), device=device)
    problem = Problem(
        classifier,
        Misclassify(built.loss or "ce", y, goal),
        x.shape[1:],
        len(x),
        bounded_ball(x, radius, built.norm, *range_for(classifier, x)),
        Misclassified(y if goal is None else goal, goal is not None),
        x,
    )
    return problem, None if built.start == "random" else x, [images, labels]


def _device(name: str) -> torch.device:
    accelerator_of(name)  # refuses one that is not there
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def _run(
    problem: Problem,
    name: str,
    optimizer: Optimizer,
    seed: int,
    known: list[int],
    budget: Budget,
    start: Tensor | None,
) -> MethodRun:
    """Run a method, with as many steps as its other seeds had."""
    try:
        steps = known[0] if known else planned_steps(problem, optimizer, budget, start)
    except InputError as error:
        return MethodRun(name, seed, reason=str(error))
    return run_method(problem, name, optimizer, seed, steps, budget, start)


def _shard(run: MethodRun, number: int, batch: int) -> Shard:
    tensors: dict[str, Tensor] = {"index": number * batch + torch.arange(max(len(run.status), 1))}
    if not run.reason:
        tensors |= {"status": torch.tensor(run.status), "value": run.value}
        tensors |= {"forwards": run.forwards, "backwards": run.backwards, "steps": torch.tensor([run.steps])}
        tensors |= {f"curve_{name}": values for name, values in run.curve._asdict().items()}
    rows = run.rows()
    return Shard([f"{run.method}, seed {run.seed}"] * len(rows), rows, tensors)


def _stored(experiment: Experiment) -> list[MethodRun]:
    return [_stored_run(shard) for shard in experiment.read()]


def _stored_run(shard: Shard) -> MethodRun:
    row: dict[str, Any] = shard.rows[0]
    if row["reason"]:
        return MethodRun(row["method"], row["seed"], reason=row["reason"])
    tensors = shard.tensors
    curve = Curve(*(tensors[f"curve_{name}"] for name in Curve._fields))
    status = tuple(Status(code) for code in tensors["status"].tolist())
    counts = tensors["value"], tensors["forwards"], tensors["backwards"]
    seconds = row["cpu_seconds"], row["wall_seconds"]
    return MethodRun(row["method"], row["seed"], status, *counts, *seconds, curve, int(tensors["steps"]))
