"""Attacks on classifiers: inputs within a given distance of others that the classifier gets wrong."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor

from latentopt.arguments import Named, Values, as_tensor, checked
from latentopt.attacks.checks import check_inputs, check_labels, check_mask, check_radii
from latentopt.attacks.result import AttackResult, AttackWarning, concatenate
from latentopt.attacks.search import AttackSearch, SearchSettings
from latentopt.attacks.stages import PORTFOLIO, Portfolio, Stage, StartPoint, Targets
from latentopt.autodiff import outside_inference_mode
from latentopt.batch_math import take
from latentopt.classification import Loss
from latentopt.errors import InputError, positive, warn
from latentopt.independence import holds, require_independent
from latentopt.networks.checks import refuse_fixed_batch
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.outputs import adapt
from latentopt.optimizers import Optimizer
from latentopt.progress import ProgressLine
from latentopt.sets import Norm
from latentopt.solver.callbacks import Callbacks, as_callbacks


@outside_inference_mode
@checked
def attack(
    model: Callable[[Tensor], Any],
    x: Values,
    y: Values,
    eps: Values,
    *,
    norm: Norm = "linf",
    mask: Values | None = None,
    targeted: bool = False,
    targets: Targets | None = None,
    optimizer: Optimizer | Portfolio | Named = "portfolio",
    loss: Loss | None = None,
    steps: int | None = None,
    restarts: int | None = None,
    start: StartPoint | Values | AttackResult | None = None,
    early_stop: bool = True,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    batch_size: int | None = None,
    compile: bool = False,  # noqa: A002
    callbacks: Callbacks = (),
) -> AttackResult:
    """Find inputs within ``eps`` of ``x`` that a classifier gets wrong.

    A sample leaves the batch as soon as it is misclassified; one that already is comes back unchanged (`early_stop`).
    Every iterate stays in the ball and in the range of valid inputs.

    Args:
        model: maps inputs (B, *shape) to logits (B, K): a `latentopt.Classifier`, whose ``input_range`` holds, or any
            other module or function of inputs in [0, 1]. Of several outputs the first tensor is taken (`Classifier` has
            ``pick``); one logit (B, 1) stands for two classes. In eval mode; never changed. A model that differs from
            sample to sample has ``take(rows)``, as in `latentopt.Problem`.
        x: inputs (B, *shape), of any shape. Values outside the range by rounding (1e-6 of its width) are clamped.
        y: classes (B,), integers: the true ones; with ``targeted`` those that the model is to predict.
        eps: radius of the ball, >= 0, in units of the inputs: a number, or one a sample (B,); in Linf also one for each
            feature, (*shape) or (1 or B, *shape). Of vectors (n,) it is (1, n), as (n,) is one a sample.
        norm: ``linf`` or ``l2``.
        mask: features that may change, booleans (*shape) or (1 or B, *shape); axes of length 1 are repeated. None: all.
        targeted: only a prediction of the class ``y`` is a success.
        targets: ``random`` or ``least-likely``: y is the truth, and only the class so chosen for each input is a
            success. ``all``, or a number >= 1: any wrong class is a success, and the attack aims at that many classes
            one after the other, the likeliest first, with ``steps`` for each.
        optimizer: ``portfolio``; ``fgsm``, ``pgd``, ``apgd``, ``adr-gd`` or another registered name; or an `Optimizer`
            or `Portfolio`.
        loss: ``ce`` (the default), ``margin``, ``dlr``, or a function of logits (B, K) and labels (B,) to (B,). It is
            raised; towards a target it is lowered. A function that holds something for each sample has ``take(rows)``.
        steps: steps of each restart, >= 1; default 100, for ``fgsm`` 1.
        restarts: independent starts of each sample, >= 1; default 1.
        start: where the first restart starts: at the ``clean`` input (the default) or a ``random`` point; the others
            start at random. Or inputs (B, *shape), or an earlier result: every stage starts at their projections onto
            the set.
        early_stop: False: every sample takes all steps, also those that are misclassified, and the input with the
            greatest loss is returned (of several stages or targets, that with the greatest margin), as adversarial
            training and transfer to other models ask for.
        seed: seed of random starts, targets and the method's own noise. A batch gives what its samples give alone, to
            rounding.
        evaluations: forwards and backwards that each sample may cost. Each stage of a portfolio gets what is left; a
            stage that begins takes one step in any case.
        seconds: wall-clock time for each batch.
        batch_size: samples in a batch; None: all.
        compile: as in `latentopt.solve`.
        callbacks: as in `latentopt.solve`; they see only the samples without a success.

    Returns:
        The best input found for each sample, whether it is a success, and its cost.

    Raises:
        InputError: an argument is not as described, the model does not return finite logits, or the model or the loss
            holds something for each sample without ``take(rows)``.

    Warns:
        AttackWarning: gradients are zero, outputs look like probabilities, or the model is randomised.

    >>> model = lambda x: torch.stack([x[:, 0], x[:, 1]], 1)
    >>> x, labels = torch.tensor([[0.6, 0.5], [0.9, 0.1]]), torch.tensor([0, 0])
    >>> result = attack(model, x, labels, eps=0.1)
    >>> result.success
    tensor([ True, False])
    """
    start_x = start.x if isinstance(start, AttackResult) else None if isinstance(start, str) else start
    stage_settings = {"loss": loss, "steps": steps, "restarts": restarts, "start": start if start_x is None else None}
    stages = resolve_stages(optimizer, stage_settings, targets)
    portfolio = _as_portfolio(optimizer)
    if norm not in get_args(Norm):
        raise InputError("norm", f"one of {', '.join(get_args(Norm))}", repr(norm))
    if targeted and targets is not None:
        raise InputError("targets", "None where targeted: y are the targets", repr(targets))
    for name, value in (("evaluations", evaluations), ("seconds", seconds), ("batch_size", batch_size)):
        if value is not None:
            positive(name, value, integer=name != "seconds")
    require_eval(model)
    x, network = check_inputs(model, x), adapt(model, "model", is_classifier=True)
    eps, y, mask = check_radii(model, eps, x, norm), check_labels(y, x), check_mask(mask, x)
    if start_x is not None:
        start_x = as_tensor("start", start_x, x)
        if start_x.shape != x.shape or not bool(start_x.isfinite().all()):
            raise InputError("start", f"finite inputs of shape {tuple(x.shape)}", f"shape {tuple(start_x.shape)}")
    callbacks = as_callbacks(callbacks)
    settings = SearchSettings(norm, targeted, targets, seed, evaluations, seconds, early_stop, portfolio is not None)
    gradient_free = portfolio and portfolio.gradient_free
    results = []
    with frozen(model), ExitStack() as stack:
        if holds(model, len(x)):
            require_independent("model", network, x)
        batches = torch.arange(len(x), device=x.device).split(batch_size or len(x))
        line = stack.enter_context(ProgressLine("attack", len(batches) * len(stages), "stage"))
        for rows in batches:
            start_rows = None if start_x is None else start_x[rows]
            mask_rows = None if mask is None else mask[rows]
            search = AttackSearch(take(network, rows), x[rows], y[rows], eps[rows], mask_rows, start_rows, settings)
            batch_stages = [replace(stage, loss=take(stage.loss, rows)) for stage in stages]
            for number, stage in enumerate(batch_stages):
                try:
                    search.run_stage(number, stage, compile, callbacks)
                except Exception as error:
                    if not isinstance(error, InputError) or error.name == "shape":
                        refuse_fixed_batch(take(network, rows), x[rows], "model", error)
                    raise
                line.update()
            if gradient_free is not None and bool(search.has_dead_gradients.any()):
                last = replace(gradient_free, loss=take(gradient_free.loss, rows))
                search.run_stage(len(batch_stages), last, compile, callbacks, among=search.has_dead_gradients)
                batch_stages.append(last)
            results.append(search.result(batch_stages, len(stages)))
    result = concatenate(results)
    for warning in result.warnings:
        warn(warning, AttackWarning)
    return result


def resolve_stages(
    optimizer: Optimizer | Portfolio | Named, settings: dict[str, object], targets: Targets | None = None
) -> tuple[Stage, ...]:
    """Return the stages of a portfolio, or the one stage of an optimiser.

    Args:
        optimizer: as in `attack`.
        settings: settings of a `Stage`, None where not given; a portfolio takes none.
        targets: as in `attack`.
    """
    set_options = {name: value for name, value in settings.items() if value is not None}
    portfolio = _as_portfolio(optimizer)
    aims = None if targets in ("random", "least-likely") else targets
    if portfolio is not None:
        if set_options or aims == "all" or isinstance(aims, int):
            name = next(iter(set_options), "targets")
            raise InputError(name, "None with a portfolio, whose stages have their own", set_options.get(name, aims))
        return portfolio.stages
    if optimizer == "fgsm" and set_options.setdefault("steps", 1) != 1:
        raise InputError("steps", "1 of fgsm, which takes one step (pgd takes more)", set_options["steps"])
    return (Stage(optimizer, targets=aims, **set_options),)  # pyright: ignore[reportArgumentType]


def _as_portfolio(optimizer: Optimizer | Portfolio | Named) -> Portfolio | None:
    """Return the portfolio that an optimiser names or is, if any."""
    if isinstance(optimizer, str) and optimizer == "portfolio":
        return PORTFOLIO
    return optimizer if isinstance(optimizer, Portfolio) else None
