"""Attacks on classifiers: the smallest change of the question that changes the answer."""

from __future__ import annotations

import hashlib
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from latentopt.callbacks import Callback
from latentopt.classification import Fooled, Loss, Misclassify, loss_function, margin
from latentopt.errors import InputError, LatentOptError, positive
from latentopt.networks import frozen, like, require_eval
from latentopt.optimizers import Optimizer
from latentopt.problem import Problem
from latentopt.result import Result, versions
from latentopt.rows import as_rows
from latentopt.samples import sample_norm
from latentopt.sets import Box, BoxAndBall, L2Ball, LinfBall, Norm
from latentopt.solve import solve
from latentopt.tasks.adversarial import Adversarial, AttackWarning, joined
from latentopt.tasks.portfolio import PORTFOLIO
from latentopt.tasks.stages import Portfolio, Stage, Start, Targets, method

SLACK = 1e-6
"""By how much inputs may lie outside their range, and results outside their ball, through rounding."""


def attack(
    model: Callable[[Tensor], Tensor],
    x: Tensor,
    y: Tensor,
    eps: float | Tensor,
    *,
    norm: Norm = "linf",
    targeted: bool = False,
    targets: Targets | None = None,
    optimizer: Optimizer | Portfolio | str = "portfolio",
    loss: Loss | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    start: Start | Tensor | None = None,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    compile: bool = False,  # noqa: A002
    callbacks: Sequence[Callback] = (),
) -> Adversarial:
    """Find inputs within ``eps`` of ``x`` that a classifier gets wrong.

    A sample leaves as soon as it is misclassified; one that already is comes back unchanged. Whatever the method, the
    iterates stay in the ball and in the range of valid inputs.

    Args:
        model: maps inputs (B, *shape) to logits (B, K); a `latentopt.Classifier`, whose ``input_range`` holds, or any
            other module or function, of inputs in [0, 1]. In eval mode. Never changed.
        x: inputs (B, *shape), any shape. Values up to 1e-6 outside the range are clamped.
        y: classes (B,) long: what the inputs are, or with ``targeted`` what they are to be taken for.
        eps: radius of the ball, >= 0, in units of the inputs; a number, or one a sample (B,).
        norm: ``linf`` or ``l2``.
        targeted: succeed only where the class ``y`` is predicted.
        targets: ``random`` or ``least-likely``: y is the truth, and success is the class so chosen for each input;
            ``all``, or a number >= 1: success is any other class, and so many of them, the most likely ones first,
            are aimed at one after the other, ``steps`` for each.
        optimizer: ``portfolio``; or ``fgsm``, ``pgd``, ``apgd``, ``adr-gd``, ... (any registered name), or an
            `Optimizer` or a `Portfolio`.
        loss: ``ce`` (the default), ``margin``, ``dlr``, or a function of logits (B, K) and labels (B,) to (B,), which
            is raised; or lowered at the target.
        steps: >= 1; default 100, of ``fgsm`` 1.
        restarts: independent starts of each sample, >= 1; default 1.
        start: of the first restart: the ``clean`` input (the default), or ``random``; the others are random. Or inputs
            (B, *shape), such as an earlier result's ``x``: every stage starts from their nearest points in the set.
        seed: of random starts, targets and the methods' own noise. Samples are treated alike: each gets what it would
            get alone.
        evaluations: forwards and backwards that a sample may take. Each stage of a portfolio gets what is left; one
            that begins takes a step in any case.
        seconds: wall-clock time for each batch.
        batch_size: samples at a time; None: all.
        compile: as in `latentopt.solve`.
        callbacks: the same; they see only the samples that are left.

    Returns:
        Of each sample the best input found, whether it succeeds, and what that cost.

    Raises:
        InputError: an argument is not as described, or the model does not return finite logits.

    Warns:
        AttackWarning: gradients are zero, outputs look like probabilities, or the model is randomised.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> found = attack(model, torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0]), eps=0.1)
    >>> found.success
    tensor([ True, False])
    """
    warm = start if isinstance(start, Tensor) else None
    settings = {"loss": loss, "steps": steps, "restarts": restarts, "start": None if warm is start else start}
    stages = _stages(optimizer, settings, targets)
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    if targeted and targets is not None:
        raise InputError("targets", "None where targeted: y are the targets", repr(targets))
    for name, value in (("evaluations", evaluations), ("seconds", seconds), ("batch_size", batch_size)):
        if value is not None:
            positive(name, value, integer=name != "seconds")
    require_eval(model)
    x, eps = _checked_inputs(model, x, eps, norm)
    y = _checked_labels(y, x)
    if warm is not None:
        if warm.shape != x.shape or not bool(warm.isfinite().all()):
            raise InputError("start", f"finite inputs of shape {tuple(x.shape)}", f"shape {tuple(warm.shape)}")
        warm = warm.to(x)
    parts = []
    with frozen(model):
        for rows in torch.arange(len(x), device=x.device).split(batch_size or len(x)):
            own = None if warm is None else warm[rows]
            search = Search(
                model, x[rows], y[rows], eps[rows], norm, targeted, targets, seed, evaluations, seconds, own
            )
            for number, stage in enumerate(stages):
                search.run(number, stage, compile, callbacks)
            parts.append(search.result(stages))
    found = joined(parts)
    for warning in found.warnings:
        warnings.warn(warning, AttackWarning, stacklevel=2)
    return found


def _stages(
    optimizer: Optimizer | Portfolio | str, settings: dict[str, object], targets: Targets | None
) -> tuple[Stage, ...]:
    given = {name: value for name, value in settings.items() if value is not None}
    portfolio = PORTFOLIO if isinstance(optimizer, str) and optimizer == "portfolio" else optimizer
    if isinstance(portfolio, Portfolio):
        if given or targets in ("all",) or isinstance(targets, int):
            named = next(iter(given), "targets")
            raise InputError(named, "None with a portfolio, whose stages have their own", given.get(named, targets))
        return portfolio.stages
    if targets in ("random", "least-likely"):
        targets = None
    if optimizer == "fgsm":
        given = {"steps": 1, **given}
    return (Stage(method(portfolio), targets=targets, **given),)  # pyright: ignore[reportArgumentType]


class Search:
    """An attack under way on one batch: the best so far of each sample, and what it has cost."""

    def __init__(
        self,
        model: Callable[[Tensor], Tensor],
        x: Tensor,
        y: Tensor,
        eps: Tensor,
        norm: Norm,
        targeted: bool,
        targets: Targets | None,
        seed: int,
        evaluations: int | None = None,
        seconds: float | None = None,
        start: Tensor | None = None,
    ) -> None:
        self.evaluations, self.seconds = evaluations, seconds
        self.begun = time.perf_counter()
        self.model, self.clean, self.eps, self.seed = model, x, eps, seed
        self.norm: Norm = norm
        self.range = getattr(model, "input_range", (0.0, 1.0))
        self.warnings: list[str] = []
        self.start = start  # (B, *shape), instead of the stages' own; None: theirs
        self.clean_logits = self._logits(x)
        classes = self.clean_logits.shape[1]
        if not bool(((y >= 0) & (y < classes)).all()):
            raise InputError("y", f"classes from 0 to {classes - 1}", y.tolist())
        self._look_at_logits()
        self.labels, self.aim = y, None
        if targeted:
            self.aim, self.labels = y, self.clean_logits.argmax(1)
        elif targets == "random":
            self.aim = _random_targets(x, y, classes, seed)
        elif targets == "least-likely":
            self.aim = self.clean_logits.scatter(1, y[:, None], torch.inf).argmin(1)
        # The best so far, and what it has cost:
        self.x, self.logits = x, self.clean_logits
        self.target, self.stage = torch.full_like(y, -1), torch.full_like(y, -1)
        self.forwards, self.backwards = torch.ones_like(y), torch.zeros_like(y)

    def run(self, number: int, stage: Stage, compile: bool, callbacks: Sequence[Callback]) -> None:  # noqa: A002
        """A stage, on the samples that are not broken yet."""
        for targets in self._targets(stage):
            rows = (~self._succeeds(self.logits)).nonzero()[:, 0]
            budgets = self._left(rows, stage)
            if not len(rows) or budgets is None:
                return
            problem = self._problem(rows, stage.loss, targets)
            start = self.start
            if start is None and stage.start == "clean":
                start = self.clean
            result = solve(
                problem,
                method(stage.optimizer),
                steps=stage.steps,
                restarts=stage.restarts,
                seed=self.seed,
                start=None if start is None else problem.feasible.project(start[rows]),
                compile=compile,
                callbacks=callbacks,
                **budgets,
            )
            self._look_at_gradients(stage, result)
            self._keep(rows, number, targets, result)

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
        if self.evaluations is not None and len(rows):
            spent = int((self.forwards + self.backwards)[rows].max())
            left = self.evaluations - spent - 1  # the forward at the end
            if left < 3 * stage.restarts + 1:
                return None
            budgets["evaluations"] = left
        if self.seconds is not None:
            budgets["seconds"] = self.seconds - (time.perf_counter() - self.begun)
            if budgets["seconds"] <= 0:
                return None
        return budgets

    def _problem(self, rows: Tensor, loss: Loss, targets: Tensor | None) -> Problem:
        clean, ball = self.clean[rows], LinfBall if self.norm == "linf" else L2Ball
        aimed = None if targets is None else targets[rows]
        return Problem(
            self.model,
            Misclassify(loss, self.labels[rows], aimed),
            clean.shape[1:],
            len(rows),
            BoxAndBall(Box(*self.range), ball(clean, self.eps[rows])),
            self._fooled().take(rows),
            clean,
        )

    def _fooled(self) -> Fooled:
        return Fooled(self.labels) if self.aim is None else Fooled(self.aim, aimed=True)

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

    def result(self, stages: Sequence[Stage]) -> Adversarial:
        """What is returned, looked at once more."""
        logits = self._logits(self.x)
        success = self._succeeds(logits)
        if bool(((logits - self.logits).abs().amax(1) > 1e-3 * (1 + logits.abs().amax(1))).any()):
            self.warnings.append("model: its logits differ from one call to the next; is it randomised?")
        distance = self._distance()
        loss = loss_function(stages[0].loss if len(stages) == 1 else "ce")
        return Adversarial(
            x=self.x,
            success=success,
            logits=logits,
            margin=self._margin(logits),
            loss=loss(logits, self.labels if self.aim is None else self.aim).detach(),
            distance=distance,
            eps=self.eps,
            target=self.target if self.aim is None else self.aim,
            stage=self.stage,
            first_success=torch.where(success, self.backwards, -1),
            forwards=self.forwards + 1,
            backwards=self.backwards,
            clean_logits=self.clean_logits,
            norm=self.norm,
            warnings=tuple(dict.fromkeys(self.warnings)),
            meta={
                "stages": [repr(stage) for stage in stages],
                "seed": self.seed,
                "evaluations": self.evaluations,
                "versions": versions(),
                "seconds": time.perf_counter() - self.begun,
            },
        )

    @torch.no_grad()
    def _logits(self, x: Tensor) -> Tensor:
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

    def _look_at_gradients(self, stage: Stage, result: Result) -> None:
        flat = (result.history["grad_norm"] == 0).all(0).all(0) if "grad_norm" in result.history else None
        if flat is not None and bool(flat.any()):
            self.warnings.append(
                f"gradients: exactly zero under the loss {stage.loss} for some inputs, whose failure means nothing; "
                "try the loss margin, or soft gates (adr-gd)"
            )

    def _distance(self) -> Tensor:
        """Of what was found from the clean inputs (B,); in the set, or there is a mistake here."""
        low, high = self.range
        change = (self.x - self.clean).reshape(len(self.x), -1)
        distance = change.abs().amax(1) if self.norm == "linf" else sample_norm(change)
        if bool((distance > self.eps + SLACK * (1 + self.eps)).any() or (self.x < low).any() or (self.x > high).any()):
            raise LatentOptError("an attack left its set; please report this")
        return distance


def _checked_inputs(
    model: Callable[[Tensor], Tensor], x: Tensor, eps: float | Tensor, norm: Norm
) -> tuple[Tensor, Tensor]:
    """The inputs, clamped to their range, and ``eps`` (B,), in the dtype and on the device of the model."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        came = f"{x.dtype} (divide bytes by 255)" if isinstance(x, Tensor) else type(x).__name__
        raise InputError("x", "a tensor of floating-point values", came)
    shape = getattr(model, "input_shape", None)
    if x.ndim < 2 or not len(x) or (shape is not None and x.shape[1:] != shape):
        expected = "(B, *shape), B >= 1" if shape is None else f"(B, {', '.join(map(str, shape))}), B >= 1"
        raise InputError("x", f"shape {expected}", tuple(x.shape))
    if not bool(x.isfinite().all()):
        raise InputError("x", "finite values", "NaN or infinity")
    low, high = getattr(model, "input_range", (0.0, 1.0))
    least, most = x.min().item(), x.max().item()
    if least < low - SLACK or most > high + SLACK:
        raise InputError("x", f"values in the model's input_range [{low:g}, {high:g}]", f"[{least:.4g}, {most:.4g}]")
    x = x.detach().clamp(low, high)
    x = x.to(like(model)) if isinstance(model, nn.Module) else x
    radii = torch.as_tensor(eps, dtype=x.dtype, device=x.device)
    if radii.shape not in ((), (len(x),)):
        raise InputError("eps", f"a number, or one a sample, shape ({len(x)},)", f"shape {tuple(radii.shape)}")
    widest = (high - low) * (1.0 if norm == "linf" else x[0].numel() ** 0.5)
    if not bool(((radii >= 0) & (radii <= widest * (1 + SLACK)) & radii.isfinite()).all()):
        raise InputError("eps", f"from 0 to {widest:g}, the width of the inputs' range", eps)
    return x, radii.expand(len(x))


def _checked_labels(y: Tensor, x: Tensor) -> Tensor:
    if not isinstance(y, Tensor) or y.is_floating_point() or y.dtype == torch.bool or y.is_complex():
        raise InputError("y", "a tensor of classes, integers", getattr(y, "dtype", type(y).__name__))
    if y.shape != x.shape[:1]:
        raise InputError("y", f"one class a sample, shape ({len(x)},)", f"shape {tuple(y.shape)}")
    return y.to(x.device, torch.long)


def _random_targets(x: Tensor, y: Tensor, classes: int, seed: int) -> Tensor:
    """Another class (B,) for each sample, from the seed and the sample itself, whatever batch it is in."""
    digests = [hashlib.blake2b(sample.numpy().tobytes(), key=str(seed).encode()) for sample in x.cpu()]
    shift = torch.tensor([1 + int.from_bytes(d.digest()[:8], "big") % (classes - 1) for d in digests])
    return (y + shift.to(y.device)) % classes
