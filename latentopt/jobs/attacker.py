"""One batch of an attack: a LightningModule that wraps the classifier, and what is seen on the way."""

from __future__ import annotations

import time
import warnings
from typing import Any

import lightning
import torch
from torch import Tensor
from tqdm import tqdm

from latentopt.attacks.attack import attack
from latentopt.attacks.result import AttackResult, AttackWarning
from latentopt.classification import margin
from latentopt.jobs.rates import Share, rates
from latentopt.jobs.store import Shard
from latentopt.jobs.track import tracked_figures
from latentopt.jobs.tracker import Tracker
from latentopt.networks.classifier import Classifier
from latentopt.solver.callbacks import Progress


class Attacker(lightning.LightningModule):
    """Wraps a pretrained classifier; `predict_step` attacks a batch of images.

    Args:
        classifier: left as it is.
        settings: arguments of `latentopt.attack`.
        target: class that every image is to be taken for; None: as the settings say.
        tracker: takes the figures of every step, and the rates after each batch.
        rows: what an earlier run of the same job has found.
        count: images to come.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: dict[str, Any],
        target: int | None,
        tracker: Tracker,
        rows: list[dict[str, Any]],
        count: int,
    ) -> None:
        super().__init__()
        self.classifier, self.settings, self.target = classifier, settings, target
        self.tracker, self.rows, self.rates = tracker, rows, rates(rows)
        self.bar = tqdm(total=count, unit="image", desc="attack", disable=not count, miniters=0)
        self.logged = int(tracker.last().get("step", -1)) + 1
        self.images = self.forwards = 0  # of the batch under way, and what its stages have cost before the present one
        self.stage = 0  # forwards of the stage so far, which `forwards` does not count yet
        self.batch = 0  # images of the batch under way that did not succeed unattacked

    def predict_step(self, batch: list[tuple[Tensor, Tensor, Tensor]], batch_idx: int = 0) -> Shard:
        index, x, labels = map(torch.stack, zip(*batch, strict=True))
        self.images = self.forwards = len(x)  # each is looked at before anything else
        begun = time.perf_counter()
        found = attacked(self.classifier, x, labels, self.target, self.settings, [self.watch])
        rows = _rows(found, index, labels, (time.perf_counter() - begun) / len(x))
        self.rows += rows
        self.rates = rates(self.rows)
        self._log(found)
        self._show()
        self.bar.update(len(rows))
        return Shard([str(i) for i in index.tolist()], rows, {"index": index, "adversarial": found.x}, found.warnings)

    def watch(self, progress: Progress) -> None:
        """A callback of `attack`."""
        if progress.t == 1:
            self.forwards, self.stage = self.forwards + self.stage, 0
        self.batch = self.batch or len(progress.best)
        self.stage = progress.forwards
        seen = {**tracked_figures(progress), "cost/forwards": (self.forwards + self.stage) / self.images}
        self.tracker.log(self.logged, seen)
        self.logged += 1
        left = (~progress.loss.isnan()).reshape(-1, len(progress.best)).any(0)
        self._show(self.batch - int(left.sum()), f", loss {seen['loss/best']:.4g}")

    def _log(self, found: AttackResult) -> None:
        self.stage = self.batch = 0
        seen: dict[str, float | str] = {
            "metric/success": self.rates.success.rate,
            "metric/robust_accuracy": self.rates.robust.rate,
            "cost/forwards": float(found.forwards.double().mean()),
        }
        if found.warnings:
            seen["warnings"] = "\n".join(found.warnings)
        self.tracker.log(self.logged, seen)
        self.logged += 1

    def _show(self, broken: int = 0, loss: str = "") -> None:
        done = self.rates.success
        now = Share(done.part + broken, done.whole + self.batch)
        self.bar.set_postfix_str(f"success {100 * now.rate:.1f} % of {now.whole}{loss}", refresh=False)
        self.bar.update(0)

    def on_predict_end(self) -> None:
        self.bar.close()


def attacked(
    classifier: Classifier, x: Tensor, labels: Tensor, target: int | None, settings: dict[str, Any], callbacks: Any = ()
) -> AttackResult:
    """`latentopt.attack`, towards the class ``target`` if there is one; its warnings are in the result alone."""
    y = labels if target is None else torch.full_like(labels, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AttackWarning)
        return attack(classifier, x, y, targeted=target is not None, callbacks=callbacks, **settings)


def _rows(found: AttackResult, index: Tensor, labels: Tensor, seconds: float) -> list[dict[str, Any]]:
    before = -margin(found.clean_logits, found.target) if found.targeted else margin(found.clean_logits, found.labels)
    columns = {
        "index": index,
        "label": labels,
        "clean": found.clean_logits.argmax(1),
        "adversarial": found.predicted,
        "success": found.success,
        "clean_margin": before,
        "margin": found.margin,
        "loss": found.loss,
        "distance": found.distance,
        "eps": found.eps,
        "target": found.target,
        "stage": found.stage,
        "first_success": found.first_success,
        "forwards": found.forwards,
        "backwards": found.backwards,
    }
    each = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [{**dict(zip(columns, row, strict=True)), "seconds": round(seconds, 4)} for row in each]
