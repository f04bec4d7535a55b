"""`latentopt analyze regions` at work: trajectories, their statistics and the landscapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from latentopt.analysis.regions import (
    Slice,
    boundary,
    draw_landscape,
    has_max_pooling,
    landscape,
    slice_through,
    trajectory_statistics,
    unit_activity,
)
from latentopt.analysis.regions.one_dimension import KINKS, START, draw_line, example
from latentopt.errors import InputError
from latentopt.jobs.analyze.regions import EPS, RANDOM, STEP, RegionsSettings
from latentopt.jobs.analyze.regions_cases import RegionsCase, classifier_case, method_by_name, random_case
from latentopt.jobs.analyze.regions_report import RegionsResult, draw_steps, report
from latentopt.jobs.experiment import Experiment
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.settings import JobPlan
from latentopt.maximization import maximize
from latentopt.optimizers import ADRGD, GD, Optimizer, SoftGates
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.reports import WrittenReport
from latentopt.solver.callbacks import Trajectory
from latentopt.solver.loop import solve
from latentopt.zoo import cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def run_regions(plan: JobPlan[RegionsSettings]) -> WrittenReport:
    """Run a prepared analysis."""
    settings = plan.settings
    experiment = Experiment(plan.folder, settings.recipe(), resumable=False)
    if settings.model == RANDOM:
        case = random_case(settings.widths, settings.seed)
    else:
        assert settings.data is not None
        classifier = cards.load_classifier(settings.model, weights=settings.weights).double()
        data = (settings.data, settings.root, settings.split, settings.limit, settings.download)
        images, labels, _ = open_labelled(*data, classifier)
        eps = EPS if settings.eps is None else settings.eps
        case = classifier_case(settings.model, classifier, images.double(), labels, eps)
    feasible = case.problem.feasible
    methods = {name: method_by_name(name, settings.step_length, feasible) for name in settings.names}
    activity = unit_activity(case.network, case.inputs)
    start = case.start[:1]
    counts_crossings = not has_max_pooling(case.network, start)
    if counts_crossings:
        boundary(case.network, start, torch.ones_like(start))  # refuses a wrong network before anything is written
    experiment.open()
    experiment.begin_tracking(settings.wandb)
    limit = settings.max_crossings if counts_crossings else None
    with ProgressLine(settings.job, len(methods), "optimiser", leave=True) as line:
        results = [
            _analyse(case, name, optimizer, settings.steps, settings.seed, limit)
            for name, optimizer in line.over(methods.items())
        ]
    for t in range(settings.steps):
        experiment.log({f"flips/{one.name}": one.statistics.flips[t].double().mean().item() for one in results})
    best = {f"flips_{one.name}": one.statistics.flips.double().mean().item() for one in results}
    layers = None if settings.model == RANDOM else [activity[-1].site]
    pictures = {
        "landscape.png": draw_case(case, results, settings.resolution, layers),
        "figure2.png": draw_example(settings.seed),
    }
    return experiment.write(report(case.title, results, activity, partial(draw_steps, results)), best, pictures)


def trajectory(problem: Problem, optimizer: Optimizer, start: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return the iterates (steps + 1, B, *shape) of an optimiser, and their objectives (steps + 1, B)."""
    path, values = Trajectory(), list[Tensor]()
    callbacks = [path, lambda progress: values.append(progress.loss.cpu())]
    solve(problem, optimizer, steps=steps + 1, seed=seed, start=start, callbacks=callbacks)
    return path.stacked(), torch.stack(values)


def _analyse(
    case: RegionsCase, name: str, optimizer: Optimizer, steps: int, seed: int, limit: int | None
) -> RegionsResult:
    """Run an optimiser; ``limit``: crossings of one move, None: not counted, as the network has max pooling."""
    x, values = trajectory(case.problem, optimizer, case.start, steps, seed)
    first, move = torch.full((x.shape[1],), torch.nan, dtype=x.dtype), x[1] - x[0]
    moves = move.flatten(1).any(1)
    if limit is None:
        return RegionsResult(name, x, values, trajectory_statistics(case.network, x, crossings=False), first)
    if bool(moves.any()):
        first[moves] = boundary(case.network, x[0][moves], move[moves]).distance
    return RegionsResult(name, x, values, trajectory_statistics(case.network, x, limit=limit), first)


def draw_case(
    case: RegionsCase, results: Sequence[RegionsResult], resolution: int, layers: list[int] | None
) -> Callable[[Figure], None]:
    """Return the drawing of the first sample's landscape.

    Args:
        case: the problem.
        results: the optimisers' trajectories.
        resolution: points along each side.
        layers: sites whose borders are drawn on a plane through the trajectories; None: all borders in the whole box.
    """
    start, paths = case.start[0], {one.name: one.x[:, 0] for one in results}
    if layers is None:
        plane, extent = Slice(start, *torch.eye(2, dtype=start.dtype)), 1.0
    else:
        plane = _plane(start, [path[-1] for path in paths.values()])
        points = torch.cat([plane.coordinates(path) for path in paths.values()])
        low, high = points.amin(0), points.amax(0)
        half_side = 0.65 * float((high - low).max())
        a, b = ((low + high) / 2).tolist()
        extent = (a - half_side, a + half_side, b - half_side, b + half_side)
    axes = (plane.origin, plane.u, plane.v)
    grid = landscape(case.network, case.value, *axes, extent, resolution, layers, batch_size=256)
    labels = {"title": case.picture_title, "objective": case.value_label, "level": case.level}
    return partial(draw_landscape, grid=grid, paths=paths, **labels)


def _plane(start: Tensor, ends: list[Tensor]) -> Slice:
    """Return the plane through the start and the first two ends that span one, or random points where none do."""
    generator = torch.Generator().manual_seed(0)
    more = [start + torch.randn(start.shape, generator=generator, dtype=start.dtype) for _ in range(2)]
    for pair in combinations([*ends, *more], 2):
        try:
            return slice_through(start, *pair)
        except InputError:
            continue
    raise AssertionError("two random points and a third span a plane")


def draw_example(seed: int = 0, steps: int = 100, step: float = STEP) -> Callable[[Figure], None]:
    """Return the drawing of the one-dimensional example: gradient ascent and ADR-GD, with steps of one length."""
    network, plain = example(), GD(lr=step, normalize=True)
    start, paths = torch.tensor([[START]], dtype=torch.float64), dict[str, Tensor]()
    methods = {"GD": plain, "ADRGD.paper()": ADRGD.paper(a_x=step), "ADRGD.reference()": ADRGD.reference(a_x=step)}
    settings = {"low": -1, "high": 1, "steps": steps, "start": start, "seed": seed}
    for name, optimizer in {**methods, "soft gates, GD's step": ADRGD(SoftGates(), plain)}.items():
        path = Trajectory()
        maximize(network, shape=(1,), optimizer=optimizer, callbacks=[path], **settings)
        paths[name] = path.stacked()[:, 0]
    return partial(draw_line, network=network, paths=paths, kinks=torch.tensor(KINKS), low=-1.0, high=1.0)
