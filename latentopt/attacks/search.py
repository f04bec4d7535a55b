"""Search of an attack on one batch: the best input of each sample so far, and its cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from latentopt.attacks.checks import MaskedNetwork, check_logits, check_loss, free_range, range_slack
from latentopt.attacks.goal import Goal, draw_targets, rank_other_classes
from latentopt.attacks.result import AttackResult
from latentopt.attacks.stages import Stage, Targets
from latentopt.batch_math import take, where_rows
from latentopt.classification import Loss, Misclassify, loss_function
from latentopt.errors import InputError, LatentOptError
from latentopt.gates import has_gates
from latentopt.io import versions
from latentopt.networks.checks import first_output, is_randomised, randomised_message
from latentopt.networks.classifier import range_for
from latentopt.optimizers import ADRGD, Optimizer
from latentopt.problem import Problem
from latentopt.sets import Norm, bounded_ball, length
from latentopt.solver.callbacks import Callback
from latentopt.solver.loop import solve
from latentopt.solver.result import Result


@dataclass(frozen=True)
class SearchSettings:
    """Arguments of `latentopt.attack` that all batches and stages share."""

    norm: Norm
    targeted: bool
    targets: Targets | None
    seed: int
    evaluations: int | None
    seconds: float | None
    early_stop: bool
    is_portfolio: bool  # stages whose gates the model lacks run without them


class AttackSearch:
    """The best input of each sample of a batch so far, and its cost.

    Arguments are those of `latentopt.attack`, checked; ``mask`` is (B, *shape), and ``start`` (B, *shape) replaces the
    start points of all stages.
    """

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        eps: Tensor,
        mask: Tensor | None,
        start: Tensor | None,
        settings: SearchSettings,
    ) -> None:
        self.begun = time.perf_counter()
        self.model, self.clean, self.eps, self.start, self.settings = model, x, eps, start, settings
        self.mask, self.range, self.free = mask, range_for(model, x), free_range(model, x, mask)
        self.network = model if mask is None else MaskedNetwork(model, x, mask)
        radii = eps if mask is None else eps.reshape(*eps.shape, *[1] * (x.ndim - eps.ndim)) * mask
        self.is_movable = radii.flatten(1).any(1) if radii.ndim > 1 else radii > 0
        self.has_gates: bool | None = None  # whether the model has gates, once that is known
        self.warnings: list[str] = []
        self.forwards, self.backwards = torch.zeros_like(y), torch.zeros_like(y)
        self.has_gradients, self.is_flat = torch.zeros_like(y, dtype=torch.bool), torch.zeros_like(y, dtype=torch.bool)
        self.clean_logits = self._evaluate(x, "x")
        self.goal = self._choose_goal(y)
        self._warn_of_probabilities()
        # The best so far:
        self.x, self.logits = x, self.clean_logits
        self.target, self.stage = torch.full_like(y, -1), torch.full_like(y, -1)

    @property
    def has_dead_gradients(self) -> Tensor:
        """Samples (B,) bool without a success at whose iterates every gradient was exactly zero."""
        return self.is_flat & ~self.has_gradients & ~self.goal.is_reached(self.logits)

    def run_stage(
        self,
        number: int,
        stage: Stage,
        compile: bool,  # noqa: A002
        callbacks: Sequence[Callback],
        among: Tensor | None = None,
    ) -> None:
        """Run a stage on the samples without a success, ``among`` (B,) bool; without early stop on all."""
        check_loss(stage.loss, self.clean_logits, self.goal.labels)
        for target in self._aims(stage):
            wanted = self.is_movable & ~(self.goal.is_reached(self.logits) & self.settings.early_stop)
            rows = (wanted if among is None else wanted & among).nonzero()[:, 0]
            budgets = self._remaining_budgets(rows, stage) if len(rows) else None
            if budgets is None:
                return
            problem = self._problem(rows, stage.loss, target)
            start = self.clean if self.start is None and stage.start == "clean" else self.start
            result = solve(
                problem,
                self._choose_optimizer(stage, rows),
                steps=stage.steps,
                restarts=stage.restarts,
                seed=self.settings.seed,
                start=None if start is None else problem.feasible.project(start[rows]),
                compile=compile,
                callbacks=callbacks,
                **budgets,
            )
            self._note_gradients(rows, result)
            self._keep_better(rows, number, target, result)

    def result(self, stages: Sequence[Stage], regular: int) -> AttackResult:
        """Return the best inputs, evaluated once more; ``regular`` of the stages rely on gradients."""
        x = self._project_best()
        logits = self._evaluate(x)
        success = self.goal.is_reached(logits)
        if is_randomised(logits, self.logits):
            advice = "; attack its mean over fixed draws, as the guide shows"
            self.warnings.append(randomised_message("model", "logits") + advice)
        self._warn_of_dead_gradients(stages, regular)
        loss = loss_function(stages[0].loss if regular == 1 else "ce")
        target = self.goal.target
        return AttackResult(
            x=x,
            success=success,
            logits=logits,
            margin=self.goal.margin(logits),
            loss=loss(logits, self.goal.classes).detach(),
            distance=length(x - self.clean, self.settings.norm),
            eps=self.eps,
            target=self.target if target is None else target,
            stage=self.stage,
            first_success=torch.where(success, self.backwards, -1),
            forwards=self.forwards,
            backwards=self.backwards,
            clean=self.clean,
            clean_logits=self.clean_logits,
            labels=self.goal.labels,
            targeted=target is not None,
            norm=self.settings.norm,
            warnings=tuple(dict.fromkeys(self.warnings)),
            meta={
                "stages": [repr(stage) for stage in stages],
                "seed": self.settings.seed,
                "evaluations": self.settings.evaluations,
                "versions": versions(),
                "seconds": time.perf_counter() - self.begun,
            },
        )

    def _evaluate(self, x: Tensor, name: str = "model") -> Tensor:
        self.forwards = self.forwards + 1
        logits = first_output(self.model, x, name)
        check_logits(logits, x)
        return logits

    def _choose_goal(self, y: Tensor) -> Goal:
        classes, targets = self.clean_logits.shape[1], self.settings.targets
        wrong = y[(y < 0) | (y >= classes)]
        if len(wrong):
            raise InputError("y", f"classes from 0 to {classes - 1}", wrong[0].item())
        if isinstance(targets, int) and targets >= classes:
            raise InputError("targets", f"at most {classes - 1}, the other classes of the model", targets)
        if self.settings.targeted:
            return Goal(self.clean_logits.argmax(1), y)
        if targets == "random":
            return Goal(y, draw_targets(self.clean, y, classes, self.settings.seed))
        if targets == "least-likely":
            return Goal(y, self.clean_logits.scatter(1, y[:, None], torch.inf).argmin(1))
        return Goal(y)

    def _aims(self, stage: Stage) -> Iterator[Tensor | None]:
        """Yield the classes (B,) that a stage aims at one after the other; None: it aims at none."""
        if self.goal.target is not None or stage.targets is None:
            yield self.goal.target
            return
        others = rank_other_classes(self.clean_logits, self.goal.labels)
        yield from others.T if stage.targets == "all" else others[:, : stage.targets].T

    def _problem(self, rows: Tensor, loss: Loss, target: Tensor | None) -> Problem:
        clean = self.clean[rows]
        low, high = self.free
        if self.mask is not None:  # then the ends are tensors (B, *shape)
            low, high = torch.as_tensor(low)[rows], torch.as_tensor(high)[rows]
        return Problem(
            take(self.network, rows),
            Misclassify(take(loss, rows), self.goal.labels[rows], None if target is None else target[rows]),
            clean.shape[1:],
            len(rows),
            bounded_ball(clean, self.eps[rows], self.settings.norm, low, high),
            self.goal.criterion.take(rows) if self.settings.early_stop else None,
            clean,
            warn_if_random=False,  # `result` looks at the logits
        )

    def _drops_gates(self, stage: Stage) -> bool:
        """Return whether a stage runs without its gates if the model has none."""
        return self.settings.is_portfolio and isinstance(stage.method, ADRGD)

    def _choose_optimizer(self, stage: Stage, rows: Tensor) -> Optimizer:
        optimizer = stage.method
        if not self._drops_gates(stage):
            return optimizer
        if self.has_gates is None:
            self.has_gates = has_gates(take(self.model, rows), self.clean[rows])
            self.forwards = self.forwards.index_add(0, rows, torch.ones_like(rows))
        return optimizer if self.has_gates else optimizer.descent  # pyright: ignore[reportAttributeAccessIssue]

    def _remaining_budgets(self, rows: Tensor, stage: Stage) -> dict[str, Any] | None:
        """Return the budgets left for `solve`; None where they do not pay for a step of one gradient."""
        budgets: dict[str, Any] = {}
        if self.settings.evaluations is not None:
            spent = int((self.forwards + self.backwards)[rows].max())
            gate_check = self.has_gates is None and self._drops_gates(stage)
            left = self.settings.evaluations - spent - 1 - gate_check  # 1: the final forward
            if left < 3 * stage.restarts + 1:
                return None
            budgets["evaluations"] = left
        if self.settings.seconds is not None:
            budgets["seconds"] = self.settings.seconds - (time.perf_counter() - self.begun)
            if budgets["seconds"] <= 0:
                return None
        return budgets

    def _keep_better(self, rows: Tensor, number: int, target: Tensor | None, result: Result) -> None:
        """Replace the best inputs of ``rows`` by those of a stage that are better.

        Without early stop those of the first stage count as better than the clean ones, whatever its loss measures.
        """
        self.forwards = self.forwards.index_add(0, rows, result.forwards)
        self.backwards = self.backwards.index_add(0, rows, result.backwards)
        logits = self.logits.index_copy(0, rows, result.output.to(self.logits))
        better = self.goal.margin(logits) > self.goal.margin(self.logits)
        better |= self.goal.is_reached(logits) if self.settings.early_stop else self.stage < 0
        better &= torch.zeros_like(better).index_fill(0, rows, True)
        x = self.x.index_copy(0, rows, result.x)
        self.x = where_rows(better, x, self.x)
        self.logits = torch.where(better[:, None], logits, self.logits)
        self.stage = self.stage.masked_fill(better, number)
        if target is not None:
            self.target = torch.where(better, target, self.target)

    def _project_best(self) -> Tensor:
        """Project the best inputs onto the set of the whole batch: the rounding of a norm depends on the batch."""
        x = bounded_ball(self.clean, self.eps, self.settings.norm, *self.free).project(self.x)
        if bool(((x - self.x).abs() > range_slack(*self.range, x.dtype)).any()):
            raise LatentOptError("an attack left its set; please report this")
        return x

    def _warn_of_probabilities(self) -> None:
        sums = self.clean_logits.sum(1)
        if self.clean_logits.shape[1] == 2 and len(sums) >= 16 and bool((self.clean_logits[:, 0] == 0).all()):
            # One output of several inputs, from 0 to 1 whatever their class.
            if bool(((sums >= 0) & (sums <= 1)).all() and (self.goal.labels == 0).any()):
                self.warnings.append(
                    "model: its output looks like a probability; one logit is > 0 where the second class is predicted"
                )
        elif bool((self.clean_logits >= 0).all() and ((sums - 1).abs() < 1e-4).all()):
            self.warnings.append(
                "model: its outputs look like probabilities; losses expect logits, and gradients vanish without them"
            )

    def _note_gradients(self, rows: Tensor, result: Result) -> None:
        """Remember which samples have had gradients, and which were only ever flat."""
        if "grad_norm" in result.history:
            is_flat = (result.history["grad_norm"] == 0).all(0).all(0).to(rows.device)
            self.is_flat = self.is_flat.index_put((rows,), self.is_flat[rows] | is_flat)
            self.has_gradients = self.has_gradients.index_put((rows,), self.has_gradients[rows] | ~is_flat)

    def _warn_of_dead_gradients(self, stages: Sequence[Stage], regular: int) -> None:
        if not bool(self.has_dead_gradients.any()):
            return
        losses = list(dict.fromkeys(getattr(stage.loss, "__name__", str(stage.loss)) for stage in stages[:regular]))
        message = f"gradients: exactly zero under the loss {' and '.join(losses)} for some inputs, whose failure "
        if len(stages) > regular:
            self.warnings.append(message + "rests on a search without gradients alone")
            return
        advice = [] if "margin" in losses else ["the loss margin"]
        if not any(isinstance(stage.method, ADRGD) for stage in stages):
            advice.append("soft gates (adr-gd-soft-attack)")
        advice.append("square, which needs no gradient")
        self.warnings.append(f"{message}means nothing; try {', or '.join(advice)}")
