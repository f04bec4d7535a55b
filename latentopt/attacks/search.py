"""An attack under way: the best so far of each sample, and what it has cost."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentopt.attacks.inputs import slack
from latentopt.attacks.result import AttackResult
from latentopt.attacks.stages import Stage, Targets, method
from latentopt.batch_math import take
from latentopt.classification import Loss, Misclassified, Misclassify, loss_function, margin
from latentopt.errors import InputError, LatentOptError
from latentopt.gates import has_gates
from latentopt.independence import require_independent
from latentopt.io import versions
from latentopt.networks.checks import is_randomised, randomised_message
from latentopt.networks.classifier import range_of
from latentopt.optimizers import ADRGD, Optimizer
from latentopt.problem import Problem
from latentopt.sets import Norm, bounded_ball, length
from latentopt.solver.callbacks import Callback
from latentopt.solver.loop import solve
from latentopt.solver.result import Result
from latentopt.solver.rows import as_rows


@dataclass(frozen=True)
class Terms:
    """What holds for all samples of an attack; as `attack` has it."""

    norm: Norm
    targeted: bool
    targets: Targets | None
    seed: int
    evaluations: int | None
    seconds: float | None
    portfolio: bool  # stages whose method does not fit the model make do with what does


class Search:
    """An attack under way on one batch: the best so far of each sample, and what it has cost."""

    def __init__(
        self, model: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, eps: Tensor, start: Tensor | None, terms: Terms
    ) -> None:
        self.begun = time.perf_counter()
        self.model, self.clean, self.eps, self.terms = model, x, eps, terms
        self.start = start  # (B, *shape), instead of the stages' own; None: theirs
        self.gated: bool | None = None  # whether the model has gates, once that is known
        self.range = range_of(model)
        self.warnings: list[str] = []
        self.forwards, self.backwards = torch.zeros_like(y), torch.zeros_like(y)
        self.clean_logits = self._logits(x)
        classes = self.clean_logits.shape[1]
        if not bool(((y >= 0) & (y < classes)).all()):
            raise InputError("y", f"classes from 0 to {classes - 1}", y.tolist())
        self._look_at_logits()
        self.labels, self.aim = y, None
        if terms.targeted:
            self.aim, self.labels = y, self.clean_logits.argmax(1)
        elif terms.targets == "random":
            self.aim = _random_targets(x, y, classes, terms.seed)
        elif terms.targets == "least-likely":
            self.aim = self.clean_logits.scatter(1, y[:, None], torch.inf).argmin(1)
        # The best so far:
        self.x, self.logits = x, self.clean_logits
        self.target, self.stage = torch.full_like(y, -1), torch.full_like(y, -1)

    def run(self, number: int, stage: Stage, compile: bool, callbacks: Sequence[Callback]) -> None:  # noqa: A002
        """A stage, on the samples that are not broken yet."""
        self._look_at_loss(stage.loss)
        for targets in self._targets(stage):
            rows = (~self._succeeds(self.logits) & (self.eps > 0)).nonzero()[:, 0]
            if not len(rows):
                return
            budgets = self._left(rows, stage)
            if budgets is None:
                return
            problem = self._problem(rows, stage.loss, targets)
            start = self.start
            if start is None and stage.start == "clean":
                start = self.clean
            result = solve(
                problem,
                self._method(stage, rows),
                steps=stage.steps,
                restarts=stage.restarts,
                seed=self.terms.seed,
                start=None if start is None else problem.feasible.project(start[rows]),
                compile=compile,
                callbacks=callbacks,
                **budgets,
            )
            self._look_at_gradients(stage, result)
            self._keep(rows, number, targets, result)

    def _asks_for_gates(self, stage: Stage) -> bool:
        """Whether it is still to be found out if the model has the gates that a portfolio's stage would drive."""
        return self.gated is None and self.terms.portfolio and isinstance(method(stage.optimizer), ADRGD)

    def _method(self, stage: Stage, rows: Tensor) -> Optimizer:
        """The stage's optimiser; in a portfolio, where the model has no gates that it could drive, its descent."""
        if self._asks_for_gates(stage):
            self.gated = has_gates(take(self.model, rows), self.clean[rows])
            self.forwards = self.forwards.index_add(0, rows, torch.ones_like(rows))
        optimizer = method(stage.optimizer)
        if isinstance(optimizer, ADRGD) and self.terms.portfolio and not self.gated:
            return optimizer.descent
        return optimizer

    def _targets(self, stage: Stage) -> Iterator[Tensor | None]:
        """What is aimed at (B,), one after the other."""
        if self.aim is not None or stage.targets is None:
            yield self.aim
            return
        order = self.clean_logits.scatter(1, self.labels[:, None], -torch.inf).argsort(1, descending=True)[:, :-1]
        count = order.shape[1] if stage.targets == "all" else min(stage.targets, order.shape[1])
        yield from order[:, :count].T

    def _left(self, rows: Tensor, stage: Stage) -> dict[str, Any] | None:
        """The budgets that are left, or None where they are not enough for a step of one gradient."""
        budgets: dict[str, Any] = {}
        if self.terms.evaluations is not None:
            spent = int((self.forwards + self.backwards)[rows].max())
            left = self.terms.evaluations - spent - 1 - self._asks_for_gates(stage)  # 1: the forward at the end
            if left < 3 * stage.restarts + 1:
                return None
            budgets["evaluations"] = left
        if self.terms.seconds is not None:
            budgets["seconds"] = self.terms.seconds - (time.perf_counter() - self.begun)
            if budgets["seconds"] <= 0:
                return None
        return budgets

    def _problem(self, rows: Tensor, loss: Loss, targets: Tensor | None) -> Problem:
        clean = self.clean[rows]
        aimed = None if targets is None else targets[rows]
        problem = Problem(
            take(self.model, rows),
            Misclassify(take(loss, rows), self.labels[rows], aimed),
            clean.shape[1:],
            len(rows),
            bounded_ball(clean, self.eps[rows], self.terms.norm, *self.range),
            self._fooled().take(rows),
            clean,
        )
        problem.warns = False  # `result` looks at the logits
        return problem

    def _fooled(self) -> Misclassified:
        return Misclassified(self.labels) if self.aim is None else Misclassified(self.aim, aimed=True)

    def _succeeds(self, logits: Tensor) -> Tensor:
        return self._fooled()(logits, logits)

    def _margin(self, logits: Tensor) -> Tensor:
        return margin(logits, self.labels) if self.aim is None else -margin(logits, self.aim)

    def _keep(self, rows: Tensor, number: int, targets: Tensor | None, result: Result) -> None:
        """What a stage found on ``rows``, where it is better than what there was; none of that succeeded."""
        self.forwards = self.forwards.index_add(0, rows, result.forwards)
        self.backwards = self.backwards.index_add(0, rows, result.backwards)
        logits = self.logits.index_copy(0, rows, result.output.to(self.logits))
        better = self._succeeds(logits) | (self._margin(logits) > self._margin(self.logits))
        better &= torch.zeros_like(better).index_fill(0, rows, True)
        x = self.x.index_copy(0, rows, result.x)
        self.x = torch.where(as_rows(better, x), x, self.x)
        self.logits = torch.where(better[:, None], logits, self.logits)
        self.stage = self.stage.masked_fill(better, number)
        if targets is not None:
            self.target = torch.where(better, targets, self.target)

    def result(self, stages: Sequence[Stage]) -> AttackResult:
        """What is returned, looked at once more."""
        x = self._into_the_set()
        logits = self._logits(x)
        success = self._succeeds(logits)
        if is_randomised(logits, self.logits):
            self.warnings.append(randomised_message("model", "logits"))
        loss = loss_function(stages[0].loss if len(stages) == 1 else "ce")
        return AttackResult(
            x=x,
            success=success,
            logits=logits,
            margin=self._margin(logits),
            loss=loss(logits, self.labels if self.aim is None else self.aim).detach(),
            distance=length(x - self.clean, self.terms.norm),
            eps=self.eps,
            target=self.target if self.aim is None else self.aim,
            stage=self.stage,
            first_success=torch.where(success, self.backwards, -1),
            forwards=self.forwards,
            backwards=self.backwards,
            clean=self.clean,
            clean_logits=self.clean_logits,
            labels=self.labels,
            targeted=self.aim is not None,
            norm=self.terms.norm,
            warnings=tuple(dict.fromkeys(self.warnings)),
            meta={
                "stages": [repr(stage) for stage in stages],
                "seed": self.terms.seed,
                "evaluations": self.terms.evaluations,
                "versions": versions(),
                "seconds": time.perf_counter() - self.begun,
            },
        )

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
        self.forwards = self.forwards + 1
        logits = self.model(x)
        if logits.ndim != 2 or len(logits) != len(x) or logits.shape[1] < 2:
            raise InputError("model", f"logits (B, K), B = {len(x)}, of K >= 2 classes", f"shape {tuple(logits.shape)}")
        if not bool(logits.isfinite().all()):
            raise InputError("model", "finite logits", "NaN or infinity")
        return logits

    def _look_at_logits(self) -> None:
        sums = self.clean_logits.sum(1)
        if bool((self.clean_logits >= 0).all() and ((sums - 1).abs() < 1e-4).all()):
            self.warnings.append(
                "model: its outputs look like probabilities; losses expect logits, and gradients vanish without them"
            )

    @torch.no_grad()
    def _look_at_loss(self, loss: Loss) -> None:
        """Raise `InputError` where a function cannot follow the samples that are left."""
        if isinstance(loss, str):
            return
        try:
            loss(self.clean_logits, self.labels)
        except (RuntimeError, IndexError, ValueError) as error:
            expected = "a function of logits (B, K) and labels (B,), with take(rows) where it holds something for each"
            raise InputError("loss", expected, str(error).splitlines()[0]) from error
        require_independent("loss", loss, self.clean_logits, self.labels)

    def _look_at_gradients(self, stage: Stage, result: Result) -> None:
        flat = (result.history["grad_norm"] == 0).all(0).all(0) if "grad_norm" in result.history else None
        if flat is not None and bool(flat.any()):
            self.warnings.append(
                f"gradients: exactly zero under the loss {stage.loss} for some inputs, whose failure means nothing; "
                "try the loss margin, or soft gates (adr-gd-soft)"
            )

    def _into_the_set(self) -> Tensor:
        """What was found, in the set as measured on the whole batch: a norm's rounding depends on what is beside it."""
        x = bounded_ball(self.clean, self.eps, self.terms.norm, *self.range).project(self.x)
        if bool(((x - self.x).abs() > slack(*self.range, x.dtype)).any()):
            raise LatentOptError("an attack left its set; please report this")
        return x


def _random_targets(x: Tensor, y: Tensor, classes: int, seed: int) -> Tensor:
    """Another class (B,) for each sample, from the seed and the sample itself, whatever batch it is in."""
    digests = [
        hashlib.blake2b(sample.contiguous().view(torch.uint8).numpy().tobytes(), key=str(seed).encode())
        for sample in x.cpu()
    ]
    shift = torch.tensor([1 + int.from_bytes(d.digest()[:8], "big") % (classes - 1) for d in digests])
    return (y + shift.to(y.device)) % classes
