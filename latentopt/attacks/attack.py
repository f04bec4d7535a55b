"""Attacks on classifiers: inputs within a given distance of others that the classifier gets wrong."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from latentopt.attacks.inputs import checked_inputs, checked_labels, checked_radii
from latentopt.attacks.portfolio import PORTFOLIO
from latentopt.attacks.result import AttackResult, AttackWarning, joined
from latentopt.attacks.search import Search, Terms
from latentopt.attacks.stages import Portfolio, Stage, StartPoint, Targets, method
from latentopt.batch_math import take
from latentopt.classification import Loss
from latentopt.errors import InputError, positive
from latentopt.independence import holds, require_independent
from latentopt.networks.freezing import frozen, require_eval
from latentopt.optimizers import Optimizer
from latentopt.sets import Norm
from latentopt.solver.callbacks import Callback


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
    start: StartPoint | Tensor | None = None,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    compile: bool = False,  # noqa: A002
    callbacks: Sequence[Callback] = (),
) -> AttackResult:
    """Find inputs within ``eps`` of ``x`` that a classifier gets wrong.

    A sample leaves as soon as it is misclassified; one that already is comes back unchanged. Whatever the method, the
    iterates stay in the ball and in the range of valid inputs.

    Args:
        model: maps inputs (B, *shape) to logits (B, K); a `latentopt.Classifier`, whose ``input_range`` holds, or any
            other module or function, of inputs in [0, 1]. In eval mode. Never changed. One that is another for each
            sample has ``take(rows)``, as in `latentopt.Problem`.
        x: inputs (B, *shape), any shape. Values outside the range by up to 1e-6 of its size, or by the rounding of
            their dtype, are clamped.
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
            is raised; or lowered at the target. A function that holds something for each sample has ``take(rows)``.
        steps: >= 1; default 100, of ``fgsm`` 1.
        restarts: independent starts of each sample, >= 1; default 1.
        start: of the first restart: the ``clean`` input (the default), or ``random``; the others are random. Or inputs
            (B, *shape), such as an earlier result's ``x``: every stage starts from their nearest points in the set.
        seed: of random starts, targets and the methods' own noise. Samples are treated alike: each gets what it would
            get alone, to rounding (`latentopt.solve`).
        evaluations: forwards and backwards that a sample may take. Each stage of a portfolio gets what is left; one
            that begins takes a step in any case.
        seconds: wall-clock time for each batch.
        batch_size: samples at a time; None: all.
        compile: as in `latentopt.solve`.
        callbacks: the same; they see only the samples that are left.

    Returns:
        Of each sample the best input found, whether it succeeds, and what that cost.

    Raises:
        InputError: an argument is not as described, the model does not return finite logits, or it or the loss holds
            something for each sample, without ``take(rows)``.

    Warns:
        AttackWarning: gradients are zero, outputs look like probabilities, or the model is randomised.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> found = attack(model, torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0]), eps=0.1)
    >>> found.success
    tensor([ True, False])
    """
    warm = start if isinstance(start, Tensor) else None
    settings = {"loss": loss, "steps": steps, "restarts": restarts, "start": None if warm is start else start}
    stages = stages_of(optimizer, settings, targets)
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    if targeted and targets is not None:
        raise InputError("targets", "None where targeted: y are the targets", repr(targets))
    for name, value in (("evaluations", evaluations), ("seconds", seconds), ("batch_size", batch_size)):
        if value is not None:
            positive(name, value, integer=name != "seconds")
    require_eval(model)
    x = checked_inputs(model, x)
    eps, y = checked_radii(model, eps, x, norm), checked_labels(y, x)
    if warm is not None:
        if warm.shape != x.shape or not bool(warm.isfinite().all()):
            raise InputError("start", f"finite inputs of shape {tuple(x.shape)}", f"shape {tuple(warm.shape)}")
        warm = warm.to(x)
    portfolio = optimizer == "portfolio" or isinstance(optimizer, Portfolio)
    terms = Terms(norm, targeted, targets, seed, evaluations, seconds, portfolio)
    parts = []
    with frozen(model):
        if holds(model, len(x)):
            require_independent("model", model, x)
        for rows in torch.arange(len(x), device=x.device).split(batch_size or len(x)):
            search = Search(take(model, rows), x[rows], y[rows], eps[rows], None if warm is None else warm[rows], terms)
            _check_targets(targets, search.clean_logits.shape[1])
            own = [replace(stage, loss=take(stage.loss, rows)) for stage in stages]
            for number, stage in enumerate(own):
                search.run(number, stage, compile, callbacks)
            parts.append(search.result(own))
    found = joined(parts)
    for warning in found.warnings:
        warnings.warn(warning, AttackWarning, stacklevel=2)
    return found


def stages_of(
    optimizer: Optimizer | Portfolio | str, settings: dict[str, object], targets: Targets | None = None
) -> tuple[Stage, ...]:
    """The stages of a portfolio, or the one that an optimiser and a stage's settings, None where not given, make."""
    given = {name: value for name, value in settings.items() if value is not None}
    portfolio = PORTFOLIO if isinstance(optimizer, str) and optimizer == "portfolio" else optimizer
    if isinstance(portfolio, Portfolio):
        if given or targets in ("all",) or isinstance(targets, int):
            named = next(iter(given), "targets")
            raise InputError(named, "None with a portfolio, whose stages have their own", given.get(named, targets))
        return portfolio.stages
    if targets in ("random", "least-likely"):
        targets = None
    if optimizer == "fgsm" and given.setdefault("steps", 1) != 1:
        raise InputError("steps", "1 of fgsm, which takes one step (pgd takes more)", given["steps"])
    return (Stage(method(portfolio), targets=targets, **given),)  # pyright: ignore[reportArgumentType]


def _check_targets(targets: Targets | None, classes: int) -> None:
    """Raise `InputError` where more classes are to be aimed at than there are beside an input's own."""
    if isinstance(targets, int) and targets >= classes:
        raise InputError("targets", f"at most {classes - 1}, the other classes of the model", targets)
