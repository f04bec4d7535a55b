"""`latentopt analyze regions`: what optimisers do to the units of a network (the pictures of arXiv 2406.00494)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from tqdm import tqdm

from latentopt.analysis.regions import (
    Landscape,
    boundary,
    draw_landscape,
    has_max_pooling,
    landscape,
    through,
    travel,
    units,
)
from latentopt.analysis.regions.one_dimension import KINKS, START, draw_line, example
from latentopt.callbacks import Trajectory
from latentopt.errors import InputError, nonnegative, positive
from latentopt.jobs.analyze.folder import Folder
from latentopt.jobs.analyze.regions_cases import RANDOM, STEP, Case, classified, optimizer_of, random_2d
from latentopt.jobs.analyze.regions_report import NOTE, Ran, draw_steps, rows_of, tables
from latentopt.jobs.labelled import open_labelled
from latentopt.jobs.tracking import Mode
from latentopt.optimizers import ADRGD, GD
from latentopt.problem import Problem
from latentopt.reports import Report, Written
from latentopt.solve import solve
from latentopt.tasks.maximize import maximize
from latentopt.zoo import cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def regions(
    model: str = RANDOM,
    data: str | None = None,
    optimizers: str = "gd,adr-gd",
    steps: int = 60,
    step: float | None = None,
    eps: float = 0.1,
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
    wandb: Mode = "offline",
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
        eps: of a classifier: greatest change of a pixel.
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
    if model == RANDOM:
        case, step = random_2d(widths, seed), step or STEP
    else:
        if data is None:
            raise InputError("data", "a data set's name or an .npz file, of a classifier", data)
        classifier = cards.load_classifier(model, weights=weights).double()
        images, labels = open_labelled(data, root, split, limit, download)
        case = classified(model, classifier, images.double(), labels, eps)
    methods = {name.strip(): optimizer_of(name.strip(), step) for name in optimizers.split(",")}
    found = units(case.network, case.inputs)  # what is wrong with the model shows here
    folder.open()
    follows = not has_max_pooling(case.network, case.start[:1])
    ran = []
    for name, optimizer in tqdm(methods.items(), unit="optimiser"):
        x, values = trajectory(case.problem, optimizer, case.start, steps, seed)
        ran.append(_ran(case, name, x, values, follows, max_crossings))
    for at in range(steps):
        folder.log({f"flips/{one.name}": one.travel.flips[at].double().mean().item() for one in ran})
    report = Report(case.title, NOTE, tables(ran, found), rows_of(ran), partial(draw_steps, ran))
    seen = {one.name: one.x[:, 0] for one in ran}
    drawn: dict[str, Callable[[Figure], None]] = {
        "landscape.png": partial(
            draw_landscape,
            found=_landscape(case, seen, resolution, None if model == RANDOM else [found[-1].site]),
            paths=seen,
            title=case.picture,
            objective=case.says,
            level=case.level,
        ),
        "figure2.png": figure_two(seed),
    }
    best = {f"flips_{one.name}": one.travel.flips.double().mean().item() for one in ran}
    return folder.write(report, best, drawn)


def trajectory(problem: Problem, optimizer, start: Tensor, steps: int, seed: int) -> tuple[Tensor, Tensor]:
    """The iterates (steps + 1, B, *shape) of an optimiser, and their objectives (steps + 1, B)."""
    kept, values = Trajectory(), list[Tensor]()
    watch = [kept, lambda progress: values.append(progress.loss.cpu())]
    solve(problem, optimizer, steps=steps + 1, seed=seed, start=start, callbacks=watch)
    return kept.stacked(), torch.stack(values)


def _ran(case: Case, name: str, x: Tensor, values: Tensor, follows: bool, limit: int) -> Ran:
    moved = travel(case.network, x, follows, limit)
    first = torch.full((x.shape[1],), torch.nan, dtype=x.dtype)
    toward = x[1] - x[0]
    goes = toward.flatten(1).any(1)
    if follows and bool(goes.any()):
        first[goes] = boundary(case.network, x[0][goes], toward[goes]).distance
    return Ran(name, x, values, moved, first)


def _landscape(case: Case, paths: dict[str, Tensor], resolution: int, layers: list[int] | None) -> Landscape:
    """Of a network of two inputs all of the box; else the plane through the start and two ends, by its last units."""
    start = case.start[0]
    if layers is None:
        u, v = torch.eye(2, dtype=start.dtype)
        return landscape(case.network, case.shown, start, u, v, 1.0, resolution)
    ends = [path[-1] for path in paths.values()][:2]
    if len(ends) == 1:
        noise = torch.randn(start.shape, generator=torch.Generator().manual_seed(0), dtype=start.dtype)
        ends.append(start + noise)
    plane = through(start, *ends)
    at = torch.cat([plane.coordinates(path) for path in paths.values()])
    low, high = at.amin(0), at.amax(0)
    middle, reach = (low + high) / 2, 0.65 * float((high - low).max())
    (a, b) = middle.tolist()
    extent = (a - reach, a + reach, b - reach, b + reach)
    return landscape(case.network, case.shown, plane.origin, plane.u, plane.v, extent, resolution, layers, 256)


def figure_two(seed: int = 0, steps: int = 100, step: float = STEP) -> Callable[[Figure], None]:
    """The one-dimensional example: gradient ascent and ADR-GD, with steps of one length."""
    network, plain = example(), GD(lr=step, normalize=True)
    start, paths = torch.tensor([[START]], dtype=torch.float64), dict[str, Tensor]()
    methods = {"GD": plain, "ADRGD.paper()": ADRGD.paper(a_x=step), "ADRGD.reference()": ADRGD.reference(a_x=step)}
    for name, optimizer in {**methods, "ADRGD(), GD's step": ADRGD(descent=plain)}.items():
        kept = Trajectory()
        maximize(
            network,
            low=-1,
            high=1,
            shape=(1,),
            optimizer=optimizer,
            steps=steps,
            seed=seed,
            start=start,
            callbacks=[kept],
        )
        paths[name] = kept.stacked()[:, 0]
    return partial(draw_line, network=network, paths=paths, kinks=torch.tensor(KINKS), low=-1.0, high=1.0)
