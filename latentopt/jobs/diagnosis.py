"""The diagnosis at work: targets and images of the generator's own, the figures and the picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from latentopt import pictures
from latentopt.inverse.diagnose import Diagnosis
from latentopt.inverse.diagnose import diagnose as diagnose_generator
from latentopt.io import write_atomically
from latentopt.jobs.diagnose import GRID, JSON, DiagnoseJobResult, DiagnosePlan
from latentopt.jobs.reconstructor import open_targets, size_generator
from latentopt.jobs.sources import open_source
from latentopt.jobs.trainer import accelerator_of
from latentopt.zoo import cards

SHOWN = 16
"""Number of images in the grid, the first ones."""


def run_diagnosis(plan: DiagnosePlan) -> DiagnoseJobResult:
    """Run a prepared diagnosis.

    Raises:
        InputError: a setting does not fit the generator or the targets; nothing was written.
    """
    settings = plan.settings.build()
    devices = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}
    accelerator = accelerator_of(settings.device)
    images, skipped, source = None, list[tuple[str, str]](), plan.source
    if source is None and settings.targets is not None:
        source = open_source(settings.targets, settings.root, settings.split, settings.download, settings.limit)
    generator = size_generator(cards.load_generator(settings.model), source, settings.image_size, settings.resize)
    if source is not None:
        shape = settings.resize, settings.convert, settings.fit
        targets, _ = open_targets(generator, source, settings.operator, None, *shape)
        read = [targets[i] for i in range(len(targets))]
        images = torch.stack([target.image for target in read if target.image is not None])
        skipped = [(target.name, target.error) for target in read if target.image is None]
    generator = generator.to(devices.get(accelerator, accelerator))
    names = ("operator", "optimizer", "start", "steps", "restarts", "samples", "tolerance", "seed")
    diagnosis = diagnose_generator(generator, images, **{name: getattr(settings, name) for name in names})
    files = [] if plan.folder is None else _write(plan.folder, settings.recipe(), diagnosis, images)
    return DiagnoseJobResult(diagnosis, skipped, files)


def _write(folder: Path, recipe: dict[str, Any], diagnosis: Diagnosis, images: Tensor | None) -> list[Path]:
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
    images_of = {title: pictures.to_pictures(column[:count]) for title, column in columns.items()}
    pictures.save_png(folder / GRID, pictures.tile(list(images_of.values()), per_row=1), list(images_of), per_row=1)
    return [folder / JSON, folder / GRID]
