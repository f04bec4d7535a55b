"""The attack job at work: a LightningModule that attacks batches of images, its checks, figures and pictures."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from latentopt.attacks.attack import attack
from latentopt.attacks.quantize import quantize
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.errors import InputError
from latentopt.files import is_folder
from latentopt.jobs import attack_pictures
from latentopt.jobs.attack import AttackJobResult, AttackSettings
from latentopt.jobs.attack_rates import Share, count_rates
from latentopt.jobs.chunks import Chunks, split_into_chunks
from latentopt.jobs.experiment import RECIPE, RESULTS, Experiment, Shard
from latentopt.jobs.identity import describe_card, describe_model, digest_tensors
from latentopt.jobs.image_files import IMAGES, file_names, write_pngs
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.settings import JobPlan
from latentopt.jobs.track import tracked_figures
from latentopt.jobs.tracker import METRICS, Tracker, track_job
from latentopt.jobs.trainer import Hardware, predict, predictor
from latentopt.networks.checks import empty_like_parameters, output_shape
from latentopt.networks.classifier import Classifier
from latentopt.networks.freezing import frozen
from latentopt.progress import ProgressLine
from latentopt.results import rows_of
from latentopt.solver.callbacks import Progress
from latentopt.zoo import cards

SHOWN = 16
"""Number of images in the grid, the first ones."""


def run_attack(plan: JobPlan[AttackSettings]) -> AttackJobResult:
    """Run a prepared attack, or go on with one that was stopped.

    Raises:
        InputError: a setting does not fit the model or the data; nothing was written.
    """
    begun = time.perf_counter()
    settings = plan.settings.build()
    recipe = settings.recipe()
    classifier = cards.load_classifier(settings.model, weights=settings.weights)
    with predictor(Hardware(settings.device, settings.devices, settings.strategy, settings.num_nodes)) as trainer:
        shape = (settings.resize, settings.convert, settings.fit)
        place = (settings.data, settings.root, settings.split, settings.limit, settings.download)
        images, labels, names = open_labelled(*place, classifier, *shape)
        _check(classifier, images, labels, settings.targeted)
        index = (labels != (-1 if settings.targeted is None else settings.targeted)).nonzero()[:, 0]
        if not len(index):
            raise InputError("targeted", "a class that some image does not have", settings.targeted)
        enough = 3 * (settings.restarts or 1) + 3  # evaluations of one step, with the looks before and after it
        first = {**attack_arguments(settings), "evaluations": enough, "seconds": None}
        attack_batch(classifier, images[index[:1]], labels[index[:1]], settings.targeted, first)

        identity = digest_tensors(
            weights=classifier, data=[images, labels], optimizer=settings.optimizer, loss=settings.loss
        )
        experiment = Experiment(plan.folder, recipe, identity | describe_card(settings.model), "adversarial")
        rank = trainer.global_rank
        if rank == 0:
            experiment.open()
        todo = set(index.tolist()) - experiment.done()
        chunks = split_into_chunks(todo, settings.batch_size, rank, trainer.world_size)
        tracker = track_job(
            experiment, settings.wandb, todo, {**recipe, **describe_model(settings.model)}, "attack", rank
        )
        count = sum(map(len, chunks))
        with ProgressLine("attack", count, "image", leave=True, shown=not rank) as line:
            is_files = is_folder(settings.data) or settings.data.lower().endswith(".csv")
            module = Attacker(classifier, settings, tracker, experiment.rows(), line, names if is_files else None)
            if todo or trainer.world_size > 1:  # processes that are waited for
                labelled = TensorDataset(torch.arange(len(images)), images, labels)
                predict(trainer, module, DataLoader(Chunks(labelled, chunks), batch_size=None), experiment)
    one_class = settings.targeted is not None or settings.targets in ("random", "least-likely")
    left_out = len(images) - len(index)
    if rank:
        rows = experiment.rows()
        return AttackJobResult(rows, count_rates(rows), one_class, left_out, [], [], time.perf_counter() - begun, rank)
    rows = experiment.finish()
    shown = [names[row["index"]] for row in rows[:SHOWN]]
    pictures = draw_pictures(experiment, rows, images, settings.norm, shown, classifier.classes or ())
    files = experiment.existing(
        RESULTS, experiment.tensor_file.name, METRICS, RECIPE, *(picture.name for picture in pictures)
    )
    shares = count_rates(rows)
    best = {"success": shares.success.rate, "robust_accuracy": shares.robust.rate, "clean_accuracy": shares.clean.rate}
    files += tracker.finish(rows, best, files)
    notes = list(dict.fromkeys(note for shard in experiment.read("index") for note in shard.notes))
    if settings.save_images:
        notes += save_images(experiment, rows, images, names, settings, classifier)
        files += experiment.existing(IMAGES)
    if settings.targeted is None and not shares.clean.part:
        notes.append(f"labels: the model gets none of the {len(rows)} images right; are they its classes?")
    return AttackJobResult(rows, shares, one_class, left_out, notes, files, time.perf_counter() - begun)


def attack_arguments(settings: AttackSettings) -> dict[str, Any]:
    """Return the arguments of `latentopt.attack` among the settings of the job."""
    names = ("eps", "norm", "targets", "optimizer", "loss", "steps", "restarts", "start", "seed")
    return {name: getattr(settings, name) for name in (*names, "evaluations", "seconds")}


def _check(classifier: Classifier, images: Tensor, labels: Tensor, targeted: int | None) -> None:
    """Raise `InputError` where the classifier does not take these images, or does not know their classes."""
    low, high = classifier.input_range
    if isinstance(low + high, Tensor) or (low, high) != (0.0, 1.0):
        raise InputError("model", "a classifier of pixels in [0, 1]", f"one of inputs in {classifier.input_range}")
    if classifier.input_shape not in (None, tuple(images.shape[1:])):
        raise InputError("data", f"images of the model's shape {classifier.input_shape}", tuple(images.shape[1:]))
    shape = output_shape(classifier, images[:1], "data")
    if len(shape) != 1:
        raise InputError("model", "a classifier: logits (B, K)", f"outputs (B, {', '.join(map(str, shape))})")
    (classes,) = shape
    if int(labels.max()) >= classes:
        raise InputError("data", f"labels of the model's {classes} classes", int(labels.max()))
    if targeted is not None and not 0 <= targeted < classes:
        raise InputError("targeted", f"a class from 0 to {classes - 1}", targeted)


@torch.no_grad()
def save_images(
    experiment: Experiment,
    rows: list[dict[str, Any]],
    images: Tensor,
    names: list[str],
    settings: AttackSettings,
    classifier: Classifier,
) -> list[str]:
    """Write the adversarial images as PNGs that stay in their balls; return notes on those that are no success then."""
    if images.shape[1] not in (1, 3):
        return [f"images: none are written, as they have {images.shape[1]} channels"]
    files, lost = file_names([names[row["index"]] for row in rows]), 0
    one_class = settings.targeted is not None or settings.targets in ("random", "least-likely")
    with frozen(classifier):
        for part, adversarial in experiment.batches(len(rows), settings.batch_size):
            keys = ("index", "eps", "label", "target")
            index, eps, label, target = (torch.tensor([row[key] for row in rows[part]]) for key in keys)
            pixels = quantize(adversarial, images[index], eps, settings.norm)
            write_pngs(experiment.folder / IMAGES, files[part], pixels)
            predicted = classifier((pixels / 255).to(empty_like_parameters(classifier))).argmax(1).cpu()
            success = predicted == target if one_class else predicted != label
            lost += sum(row["success"] and not still for row, still in zip(rows[part], success.tolist(), strict=True))
    count = sum(row["success"] for row in rows)
    return [f"images: {lost} of the {count} that succeed do not as 8-bit files"] if lost else []


def draw_pictures(
    experiment: Experiment,
    rows: list[dict[str, Any]],
    images: Tensor,
    norm: str,
    names: list[str],
    classes: Sequence[str],
) -> list[Path]:
    """Draw the curve, and the grid where the images are grey or coloured; return the files."""
    paths, drawn = [experiment.folder / "curve.png"], rows[:SHOWN]
    attack_pictures.save_curve(paths[0], rows)
    if images.shape[1] in (1, 3):
        clean = images[[row["index"] for row in drawn]]
        adversarial = load_file(experiment.tensor_file)["adversarial"][: len(drawn)]
        paths.append(experiment.folder / "grid.png")
        attack_pictures.save_grid(paths[1], drawn, clean, adversarial.to(clean), norm, names, classes)
    return paths


class Attacker(lightning.LightningModule):
    """Wraps a pretrained classifier; `predict_step` attacks a batch of images.

    Args:
        classifier: left as it is.
        settings: of the job.
        tracker: takes the figures of every step, and the rates after each batch.
        rows: what an earlier run of the same job has found.
        line: counts the images.
        names: of all images, a column of the table; None: they have none but their numbers.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: AttackSettings,
        tracker: Tracker,
        rows: list[dict[str, Any]],
        line: ProgressLine,
        names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.classifier, self.target, self.arguments = classifier, settings.targeted, attack_arguments(settings)
        self.tracker, self.rows, self.rates = tracker, rows, count_rates(rows)
        self.line, self.names = line, names
        self.logged = int(tracker.last().get("step", -1)) + 1
        self.images = self.forwards = 0  # of the batch under way, and what its stages have cost before the present one
        self.stage = 0  # forwards of the stage so far, which `forwards` does not count yet
        self.batch = 0  # images of the batch under way that did not succeed unattacked

    def predict_step(self, batch: list[tuple[Tensor, Tensor, Tensor]], batch_idx: int = 0) -> Shard:
        index, x, labels = map(torch.stack, zip(*batch, strict=True))
        self.images = self.forwards = len(x)  # each is looked at before anything else
        self.line.share = len(x)
        begun = time.perf_counter()
        attacked = attack_batch(self.classifier, x, labels, self.target, self.arguments, [self.watch])
        rows = _rows(attacked, index, labels, (time.perf_counter() - begun) / len(x))
        self.rows += rows
        self.rates = count_rates(self.rows)
        self._log(attacked)
        self._show(count=len(rows))
        names = [str(i) if self.names is None else self.names[i] for i in map(int, index)]
        if self.names is not None:
            rows = [{"name": name, **row} for name, row in zip(names, rows, strict=True)]
        return Shard(names, rows, {"index": index, "adversarial": attacked.x}, attacked.warnings)

    def watch(self, progress: Progress) -> None:
        """A callback of `attack`."""
        if progress.t == 1:
            self.forwards, self.stage = self.forwards + self.stage, 0
        self.batch = self.batch or len(progress.best)
        self.stage = progress.forwards
        figures = {**tracked_figures(progress), "cost/forwards": (self.forwards + self.stage) / self.images}
        self.tracker.log(self.logged, figures)
        self.logged += 1
        left = (~progress.loss.isnan()).reshape(-1, len(progress.best)).any(0)
        self._show(self.batch - int(left.sum()))

    def _log(self, attacked: AttackResult) -> None:
        self.stage = self.batch = 0
        figures: dict[str, float | str] = {
            "metric/success": self.rates.success.rate,
            "metric/robust_accuracy": self.rates.robust.rate,
            "cost/forwards": float(attacked.forwards.double().mean()),
        }
        if attacked.warnings:
            figures["warnings"] = "\n".join(attacked.warnings)
        self.tracker.log(self.logged, figures)
        self.logged += 1

    def _show(self, broken: int = 0, count: int = 0) -> None:
        done = self.rates.success
        now = Share(done.part + broken, done.whole + self.batch)
        self.line.update(count, f"success {100 * now.rate:.1f} % of {now.whole}")


def attack_batch(
    classifier: Classifier,
    x: Tensor,
    labels: Tensor,
    target: int | None,
    arguments: dict[str, Any],
    callbacks: Any = (),
) -> AttackResult:
    """Call `latentopt.attack`, towards the class ``target`` if there is one; its warnings are in the result alone."""
    y = labels if target is None else torch.full_like(labels, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        return attack(classifier, x, y, targeted=target is not None, callbacks=callbacks, **arguments)


def _rows(attacked: AttackResult, index: Tensor, labels: Tensor, seconds: float) -> list[dict[str, Any]]:
    columns = {
        "index": index,
        "label": labels,
        "clean": attacked.clean_logits.argmax(1),
        "adversarial": attacked.predicted,
        "success": attacked.success,
        "clean_margin": attacked.goal.margin(attacked.clean_logits),
        "margin": attacked.margin,
        "loss": attacked.loss,
        "distance": attacked.distance,
        "eps": attacked.eps,
        "target": attacked.target,
        "stage": attacked.stage,
        "first_success": attacked.first_success,
        "forwards": attacked.forwards,
        "backwards": attacked.backwards,
    }
    return [{**row, "seconds": round(seconds, 4)} for row in rows_of(columns)]
