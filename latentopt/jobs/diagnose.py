"""The diagnosis of a generator and targets, as a command."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from latentopt.errors import InputError
from latentopt.inverse.diagnose import Diagnosis
from latentopt.inverse.diagnose import diagnose as told
from latentopt.inverse.initializers import Initializer, Regression
from latentopt.inverse.problem import TargetCheck, measurement_shapes
from latentopt.io import write_atomically
from latentopt.jobs import pictures
from latentopt.jobs.components import describe
from latentopt.jobs.targets import Fitted, Targets, open_source
from latentopt.jobs.trainer import accelerator_of
from latentopt.operators import Identity, Operator
from latentopt.optimizers import LBFGS, Optimizer
from latentopt.rehearsal import begin
from latentopt.zoo import cards

JSON, GRID = "diagnosis.json", "grid.png"
SHOWN = 16
"""The grid shows the first so many images."""


@dataclass(frozen=True)
class Report:
    """What a diagnosis found."""

    diagnosis: Diagnosis
    skipped: list[tuple[str, str]]  # name and reason
    files: list[Path]  # what was written


def diagnose(
    model: str,
    targets: list[str] | None = None,
    operator: Operator = Identity(),
    optimizer: Optimizer = LBFGS(memory=64),
    start: Initializer = Regression(),
    steps: int = 400,
    restarts: int = 8,
    samples: int = 16,
    tolerance: float = 1e-4,
    seed: int = 0,
    root: str | None = None,
    split: str = "test",
    limit: int = 16,
    device: str = "auto",
    out: str | None = None,
    resize: bool = False,
    convert: bool = False,
    download: bool = False,
) -> Report:
    """Tell why images are not reconstructed, the optimiser's fault or the generator's.

    Args:
        model: name of a shipped model, or a folder with a card and weights.
        targets: image files and folders of images; or one .npy or .npz array; or a data set's name; default none.
        operator: what is known of an image, of the generator's own images too.
        optimizer: lbfgs, adr-gd, adam, ... or a class path.
        start: regression, nearest, encoder or random.
        steps: steps of each restart.
        restarts: starts of each image; the best is kept.
        samples: images that the generator makes itself, to be found again.
        tolerance: mean squared error below which an image is found.
        seed: of every random number.
        root: folder of a named data set; default the environment variable LATENTOPT_DATA.
        split: train or test, of a named data set.
        limit: only the first so many targets.
        device: auto, cpu, cuda or mps.
        out: folder for the figures and a picture; default nothing is written.
        resize: resize targets that have another size than the generator's images.
        convert: turn colour into grey or grey into colour where the generator needs it.
        download: fetch a named data set where it is not there.
    """
    recipe = {"job": "diagnose", **describe(locals())}
    folder = None if out is None else Path(out)
    if folder is not None:
        _check(folder)
    accelerator = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}
    generator = cards.load_generator(model)
    images, skipped = None, list[tuple[str, str]]()
    if targets is not None:
        shapes = measurement_shapes(generator, operator)
        checked = TargetCheck(generator, operator, shapes[0], None)
        fitted = Fitted(*shapes, resize, convert)
        dataset = Targets(open_source(targets, root, split, download, limit), fitted, checked=checked)
        dataset.kind = tuple(dataset.first_good().shape)
        read = [dataset[at] for at in range(len(dataset))]
        images = torch.stack([target.image for target in read if target.image is not None])
        skipped = [(target.name, target.error) for target in read if target.image is None]
    where = accelerator_of(device)
    begin()
    generator = generator.to(accelerator.get(where, where))
    search = {"operator": operator, "optimizer": optimizer, "start": start, "steps": steps, "restarts": restarts}
    diagnosis = told(generator, images, samples=samples, tolerance=tolerance, seed=seed, **search)
    files = [] if folder is None else _write(folder, recipe, diagnosis, images)
    return Report(diagnosis, skipped, files)


def _check(folder: Path) -> None:
    """Raise `InputError` where writing would replace what is there, or cannot be."""
    first = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not first.is_dir():
        raise InputError("out", "a folder", f"the file {first}" if first == folder else f"{folder}, below a file")
    for name in (JSON, GRID):
        if (folder / name).exists():
            raise InputError("out", f"a folder without a {name}", str(folder))


def _write(folder: Path, recipe: dict, diagnosis: Diagnosis, images: torch.Tensor | None) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "verdict": diagnosis.verdict,
        "explanation": diagnosis.explanation,
        "recovered": diagnosis.recovered,
        "interval": diagnosis.interval,
        "own_error": diagnosis.own_error.tolist(),
        "error": None if diagnosis.error is None else diagnosis.error.tolist(),
        "recipe": recipe,
    }
    write_atomically(folder / JSON, json.dumps(figures, indent=1).encode())
    columns = {"own": diagnosis.images, "own, found": diagnosis.own.output}
    if diagnosis.found is not None and images is not None:
        columns |= {"target": images} if images.ndim == 4 else {}
        columns |= {"target, found": diagnosis.found.output}
    count = min(SHOWN, *map(len, columns.values()))
    shown = {title: pictures.as_bytes(column[:count]) for title, column in columns.items()}
    pictures.save_png(folder / GRID, pictures.tile(list(shown.values()), per_row=1), list(shown), per_row=1)
    return [folder / JSON, folder / GRID]
