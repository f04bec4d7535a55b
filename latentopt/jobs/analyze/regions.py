"""`latentopt analyze regions`: what optimisers do to the units of a network (the pictures of arXiv 2406.00494)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

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
from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.analyze.folder import Folder
from latentopt.jobs.analyze.regions_cases import RANDOM, STEP, Case, classified, optimizer_of, random_2d
from latentopt.jobs.analyze.regions_report import NOTE, Ran, draw_steps, rows_of, tables
from latentopt.jobs.labelled import open_labelled
from latentopt.jobs.lifetime import job
from latentopt.jobs.tracker import WandbMode
from latentopt.maximization import maximize
from latentopt.optimizers import ADRGD, GD, Optimizer, SoftGates
from latentopt.problem import Problem
from latentopt.reports import Report, Written
from latentopt.solver.callbacks import Trajectory
from latentopt.solver.loop import solve
from latentopt.zoo import cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPS = 0.1


@job
def regions(
    model: str = RANDOM,
    data: str | None = None,
    optimizers: str = "gd,adr-gd",
    steps: int = 60,
    step: float | None = None,
    eps: float | None = None,
    widths: str = "2-16-16-1",
    seed: int = 0,
    resolution: int = 300,
    max_crossings: int = 10_000,
    weights: str | None = None,
    root: str | None = None,
    split: str = "test",
    download: bool = False,
    limit: int = 4,
    out: str = "runs/analyze-regions",
    wandb: WandbMode = "offline",
) -> Written:
    """Look at the units that optimisers switch on their way: flips, regions, boundaries; pictures of the landscape.

    Args:
        model: random-2d, a random network of two inputs; or a classifier: name of a shipped one, a folder with a card
            and weights, or torchvision/NAME.
        data: of a classifier: a data set's name (digits, mnist, cifar10, ...); or an .npz file with images and labels.
        optimizers: names, between commas; the picture of a classifier goes through the ends of the first two.
        steps: moves of each optimiser.
        step: Euclidean length of every move, for gd and the forms of adr-gd; default .05 of random-2d; of a
            classifier, what each optimiser does by default.
        eps: of a classifier: greatest change of a pixel; default .1.
        widths: of random-2d: its layers, from 2 inputs to 1 output.
        seed: of the random network, and of the optimisers' own noise.
        resolution: points of the picture along each side.
        max_crossings: boundaries after which the walk along one move stops.
        weights: file with a state dict, of a classifier of torchvision; default the official weights.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        download: fetch a named data set where it is not there.
        limit: only the first so many images; the first one's landscape is drawn.
        out: new folder for the results.
        wandb: online, offline or disabled; everything is on disk in any case.
    """
    folder = Folder("analyze-regions", locals())
    for name, value in (("steps", steps), ("resolution", resolution), ("max_crossings", max_crossings)):
        positive(name, value, integer=True)
    nonnegative("seed", seed, integer=True)
    if resolution < 2:
        raise InputError("resolution", "an integer >= 2", resolution)
    if model == RANDOM:
        for name, value in (("eps", eps), ("data", data), ("weights", weights)):
            if value is not None:
                raise InputError(name, f"none of {RANDOM}, which has no images", value)
        case, step = random_2d(widths, seed), STEP if step is None else step
    else:
        part = {"root": root, "split": split, "limit": limit, "download": download}
        case = _classified(model, weights, data, part, EPS if eps is None else eps)
    methods = _methods(optimizers, step)
    found, walks = unit_activity(case.network, case.inputs), _walks(case, steps, seed, max_crossings)
    folder.open()
    ran = [_ran(case, name, optimizer, walks) for name, optimizer in tqdm(methods.items(), unit="optimiser")]
    for at in range(steps):
        folder.log({f"flips/{one.name}": one.travel.flips[at].double().mean().item() for one in ran})
    report = Report(case.title, NOTE, tables(ran, found), rows_of(ran), partial(draw_steps, ran))
    best = {f"flips_{one.name}": one.travel.flips.double().mean().item() for one in ran}
    drawn = picture(case, ran, resolution, None if model == RANDOM else [found[-1].site])
    return folder.write(report, best, {"landscape.png": drawn, "figure2.png": figure_two(seed)})


@dataclass(frozen=True)
class Walks:
    """How far optimisers are followed."""

    steps: int
    seed: int
    limit: int | None  # crossings of one move; None: they are not counted, as the network has max pooling


def _walks(case: Case, steps: int, seed: int, limit: int) -> Walks:
    """Settings of the walks; what is wrong with the network shows here, before anything is written."""
    start = case.start[:1]
    if has_max_pooling(case.network, start):
        return Walks(steps, seed, None)
    boundary(case.network, start, torch.ones_like(start))
    return Walks(steps, seed, limit)


def _classified(name: str, weights: str | None, data: str | None, part: dict[str, Any], eps: float) -> Case:
    if data is None:
        raise InputError("data", "a data set's name or an .npz file, of a classifier", data)
    classifier = cards.load_classifier(name, weights=weights).double()
    images, labels = open_labelled(data, **part)
    return classified(name, classifier, images.double(), labels, eps)


def _methods(names: str, step: float | None) -> dict[str, Optimizer]:
    chosen = [name.strip() for name in names.split(",")]
    if len(set(chosen)) < len(chosen):
        raise InputError("optimizers", "names, each once", names)
    return {name: optimizer_of(name, step) for name in chosen}


def trajectory(problem: Problem, optimizer: Optimizer, start: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """The iterates (steps + 1, B, *shape) of an optimiser, and their objectives (steps + 1, B)."""
    kept, values = Trajectory(), list[Tensor]()
    watch = [kept, lambda progress: values.append(progress.loss.cpu())]
    solve(problem, optimizer, steps=steps + 1, seed=seed, start=start, callbacks=watch)
    return kept.stacked(), torch.stack(values)


def _ran(case: Case, name: str, optimizer: Optimizer, walks: Walks) -> Ran:
    x, values = trajectory(case.problem, optimizer, case.start, walks.steps, walks.seed)
    first, toward = torch.full((x.shape[1],), torch.nan, dtype=x.dtype), x[1] - x[0]
    moves = toward.flatten(1).any(1)
    if walks.limit is None:
        return Ran(name, x, values, trajectory_statistics(case.network, x, crossings=False), first)
    if bool(moves.any()):
        first[moves] = boundary(case.network, x[0][moves], toward[moves]).distance
    return Ran(name, x, values, trajectory_statistics(case.network, x, limit=walks.limit), first)


def picture(case: Case, ran: Sequence[Ran], resolution: int, layers: list[int] | None) -> Callable[[Figure], None]:
    """The first sample's landscape: of a network of two inputs all of the box; else a plane, by its last units."""
    start, paths = case.start[0], {one.name: one.x[:, 0] for one in ran}
    if layers is None:
        plane, extent = Slice(start, *torch.eye(2, dtype=start.dtype)), 1.0
    else:
        plane = _plane(start, [path[-1] for path in paths.values()])
        at = torch.cat([plane.coordinates(path) for path in paths.values()])
        low, high = at.amin(0), at.amax(0)
        reach = 0.65 * float((high - low).max())
        a, b = ((low + high) / 2).tolist()
        extent = (a - reach, a + reach, b - reach, b + reach)
    axes = (plane.origin, plane.u, plane.v)
    found = landscape(case.network, case.shown, *axes, extent, resolution, layers, batch_size=256)
    words = {"title": case.picture, "objective": case.says, "level": case.level}
    return partial(draw_landscape, found=found, paths=paths, **words)


def _plane(start: Tensor, ends: list[Tensor]) -> Slice:
    """The plane through the start and the first two ends that span one; random points help out where none do."""
    generator = torch.Generator().manual_seed(0)
    more = [start + torch.randn(start.shape, generator=generator, dtype=start.dtype) for _ in range(2)]
    for pair in combinations([*ends, *more], 2):
        try:
            return slice_through(start, *pair)
        except InputError:
            continue
    raise AssertionError("two random points and a third span a plane")


def figure_two(seed: int = 0, steps: int = 100, step: float = STEP) -> Callable[[Figure], None]:
    """The one-dimensional example: gradient ascent and ADR-GD, with steps of one length."""
    network, plain = example(), GD(lr=step, normalize=True)
    start, paths = torch.tensor([[START]], dtype=torch.float64), dict[str, Tensor]()
    methods = {"GD": plain, "ADRGD.paper()": ADRGD.paper(a_x=step), "ADRGD.reference()": ADRGD.reference(a_x=step)}
    settings = {"low": -1, "high": 1, "steps": steps, "start": start, "seed": seed}
    for name, optimizer in {**methods, "soft gates, GD's step": ADRGD(SoftGates(), plain)}.items():
        kept = Trajectory()
        maximize(network, shape=(1,), optimizer=optimizer, callbacks=[kept], **settings)
        paths[name] = kept.stacked()[:, 0]
    return partial(draw_line, network=network, paths=paths, kinks=torch.tensor(KINKS), low=-1.0, high=1.0)
