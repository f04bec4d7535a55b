"""The tuning job at work: targets and their latents, the search, the delta and the report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError
from latentopt.inverse.initializers.saved import FittedSaved, Saved
from latentopt.inverse.tune import TuneResult, tune
from latentopt.jobs.experiment import Experiment
from latentopt.jobs.identity import describe_card, digest_tensors
from latentopt.jobs.reconstructor import open_targets
from latentopt.jobs.sources import open_source
from latentopt.jobs.trainer import accelerator_of
from latentopt.jobs.tune import TunePlan, TuneSettings
from latentopt.networks.conditions import as_conditions, require_conditions
from latentopt.networks.generator import Generator
from latentopt.reports import Report, Row, Table, WrittenReport
from latentopt.results import draw_images, is_image
from latentopt.zoo import cards

DELTA, CHECKPOINT = "delta.safetensors", "checkpoint.safetensors"
NOTE = "Loss of each image with the untouched and with the tuned generator. All images share one change of the weights."


def run_tuning(plan: TunePlan) -> WrittenReport:
    """Run a prepared tuning job, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the generator, the targets or the latents; nothing was written.
    """
    settings = plan.settings.build()
    generator = cards.load_generator(settings.model).given(**as_conditions(settings.conditions or {}))
    place = settings.targets, settings.root, settings.split, settings.download, settings.limit
    source = plan.source or open_source(*place)
    shape = settings.resize, settings.convert, settings.fit
    targets, measured = open_targets(generator, source, settings.operator, settings.measured, *shape)
    require_conditions(generator.conditions, len(targets))
    read = [targets[i] for i in range(len(targets))]
    for target in read:
        if target.image is None:
            raise InputError("targets", "images that can be read", target.error)
    images = torch.stack([target.image for target in read if target.image is not None])
    latents = _latents(settings, generator, source.names)
    rows = torch.arange(len(read))
    operator, loss = take(settings.operator, rows), take(settings.loss, rows)
    accelerator = accelerator_of(settings.device)
    device = {"auto": "cuda" if torch.cuda.is_available() else "cpu", "gpu": "cuda"}.get(accelerator, accelerator)
    generator = generator.to(device)

    def tuned(steps: int, **more: Any) -> TuneResult:
        names = "parameters", "locality", "anchors", "optimizer", "seed", "seconds", "patience"
        chosen = {name: getattr(settings, name) for name in names} | {"operator": operator, "loss": loss}
        return tune(generator, latents, images, measured=measured, steps=steps, **chosen, **more)

    identity = {"weights": cards.read_card(settings.model).weights_sha256, "targets_held": source.fingerprint}
    parts = {name: getattr(settings, name) for name in ("operator", "loss", "optimizer")}
    identity |= describe_card(settings.model)
    identity |= digest_tensors(**parts, conditions=generator.conditions, latents_held=latents)
    experiment = Experiment(plan.folder, settings.recipe(), identity)
    path = experiment.folder / DELTA
    if not path.exists():
        tuned(1)  # an error comes before anything is written
    experiment.open()
    if path.exists():
        result = TuneResult.load(path)
    else:
        result = tuned(settings.steps, checkpoint=experiment.folder / CHECKPOINT, checkpoint_every=50)
        result.save(path)
    (experiment.folder / CHECKPOINT).unlink(missing_ok=True)
    return _write(experiment, result, source.names, settings, images)


def _latents(settings: TuneSettings, generator: Generator, names: Sequence[str]) -> Tensor:
    """Return the latents of named targets from the file of the settings."""
    try:
        weights = cards.read_card(settings.model).weights_sha256
        saved = Saved(settings.latents).of_targets(names, weights)
        fitted = saved.fit(generator, settings.operator, settings.seed)
    except InputError as error:
        raise InputError("latents", error.expected, error.got) from error
    assert isinstance(fitted, FittedSaved)
    return fitted.latents


def _write(
    experiment: Experiment, result: TuneResult, names: Sequence[str], settings: TuneSettings, images: Tensor
) -> WrittenReport:
    """Write the figures of every step and the report."""
    experiment.begin_tracking(settings.wandb)
    for value in result.history["loss"].flatten().tolist():
        experiment.log({"loss": value})
    rows: list[Row] = [{"name": name, **row} for name, row in zip(names, result.rows, strict=True)]
    means = {key: sum(row[key] for row in rows) / len(rows) for key in ("before", "value", "forwards", "backwards")}
    cells = [[row["name"], *(f"{row[key]:.6g}" for key in means)] for row in rows[:16]]
    cells.append(["mean", *(f"{value:.6g}" for value in means.values())])
    columns = ["", "untouched", "tuned", "forwards", "backwards"]
    table = Table(f"Loss ({type(settings.loss).__name__})", "", columns, cells)
    report = Report(f"Tuned {settings.model}", NOTE, [table], rows, result._draw)
    pictures = {}
    if is_image(result.output) and images.shape == result.output.shape:
        pictures = {
            "grid.png": lambda figure: draw_images(figure.subplots(), {"target": images, "tuned": result.output})
        }
    written = experiment.write(report, {f"mean_{key}": value for key, value in means.items()}, pictures)
    return WrittenReport(written.markdown, [experiment.folder / DELTA, *written.files])
