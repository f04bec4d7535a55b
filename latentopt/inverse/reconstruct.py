"""`latentopt.reconstruct`: fit starts, follow many for a while and the best to the end, try unsolved targets again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from latentopt import components
from latentopt._deprecated import renamed_keywords
from latentopt.arguments import Files, Named, Values, checked
from latentopt.autodiff import outside_inference_mode
from latentopt.errors import nonnegative, positive, seed_within
from latentopt.inverse.initializers import (
    FittedInitializer,
    Initializer,
    default_initializer,
    fit_initializer,
    share_cost,
)
from latentopt.inverse.initializers.base import DistinctStarts
from latentopt.inverse.initializers.saved import FittedSaved
from latentopt.inverse.layers import BallNorm, LayerSearch
from latentopt.inverse.priors import Prior, Unconstrained
from latentopt.inverse.problem import Reconstruction
from latentopt.inverse.unknowns import require_identifiable, with_unknowns
from latentopt.networks.generator import Generator
from latentopt.objectives import NoiseModel
from latentopt.operators import BlindOperator, Identity
from latentopt.optimizers import LBFGS, Optimizer, method
from latentopt.progress import ProgressLine
from latentopt.solver.callbacks import Callback, Callbacks, Progress, as_callbacks
from latentopt.solver.loop import solve
from latentopt.solver.result import Result, Status
from latentopt.solver.settings import require_halving

HALVING = ((20, 4), (60, 2), (150, 1))
"""Default halving: half of the restarts or more are dropped as soon as they lie behind."""


@renamed_keywords(rounds=("retries", lambda rounds: rounds - 1), keep="halving", improvement="min_delta")
@outside_inference_mode
@checked
def reconstruct(
    generator: Generator,
    target: Values | Files,
    *,
    operator: Callable[[Tensor], Tensor] | Named | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | Named | None = None,
    prior: Prior | Named = Unconstrained(),
    noise: float | NoiseModel | Named = 0.0,
    measured: bool | None = None,
    optimizer: Optimizer | Named = LBFGS(memory=64),
    start: Initializer | FittedInitializer | Named | Mapping[str, Values] | Values | Result = "auto",
    steps: int = 400,
    restarts: int = 8,
    halving: Sequence[tuple[int, int]] = HALVING,
    tolerance: float | Literal["discrepancy"] | None = None,
    retries: int = 0,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    min_delta: float = 1e-4,
    fast: bool = True,
    distinct_starts: bool = False,
    callbacks: Callbacks = (),
    layers: Mapping[str, float] | None = None,
    norm: BallNorm = "l1",
) -> Result:
    """Find latents whose images explain measurements: invert a generator.

    Args:
        generator: a pretrained generator.
        target, operator, loss, prior, noise, measured: as in `latentopt.Reconstruction`. Unknown parameters of an
            operator (`latentopt.unknown`, `latentopt.operators.BlindBlur`) are found with the latents, as their last
            values; the result's ``unknowns`` are the parameters.
        optimizer: as in `latentopt.solve`.
        start: ``auto``: ``encoder`` where one trained for this generator and operator lies beside its card, else
            ``regression`` (the prediction of kernel regression on samples of the generator); ``nearest`` (of such
            samples), ``encoder``, ``random``; an object of `latentopt.inverse.initializers`; or latents (a mapping of
            the parts' names, where there are several), or a `Result`, as in `latentopt.solve`. Where targets have
            conditions, pools of samples are those of each condition; more than 20, or continuous ones of
            which each target has its own, share one pool.
        steps, restarts, seed, evaluations, seconds, patience, min_delta, callbacks: as in `latentopt.solve`, for each
            attempt. When targets are tried again, a callback sees ``t`` go on, ``best_x`` and ``best`` of all targets,
            and the other fields of those that are tried.
        halving: as in `latentopt.solve`; pairs whose step is not below ``steps`` are left out.
        tolerance: a target is solved once its loss is below this; ``discrepancy`` and None as in
            `latentopt.Reconstruction`.
        retries: how often unsolved targets are tried again, >= 0 (all targets, where there is no tolerance). They start
            at the latent found and at its mirror image in the mean of the generator's latents, where a random network
            may have a second critical region (Hand and Voroninski 2017, arXiv 1705.07576); at other starts, twice as
            far apart each time; and half of the restarts at random.
        fast: evaluate `Generator.fused`, which computes the same up to rounding.
        distinct_starts: whether each target has starts of its own, as in `latentopt.solve`, so that equal targets may
            come to different answers: those of target b are the ones that follow the first ``b * restarts`` of the
            same initializer. Latents given as a start are taken as they are.
        layers: layers of the generator, in whose activations the search goes on (ILO, Daras et al. 2021, arXiv
            2102.07364), from the latents found: radii by name, such as ``{"layers.3": 0.1, "layers.6": 0.1}``, in the
            order in which `latentopt.split` finds them called. A search stays within this radius, >= 0, of the
            activations that the search before it ended at; 1 is the mean distance between the activations of two
            random latents, under each target's own condition. It has one start, as many steps as the first search,
            and no prior but the ball.
        norm: of the radii: l1, in which few activations may differ much, or l2.

    Returns:
        A `Result` whose restarts are those of all attempts, in a row; where a target was not tried again, ``all_x`` and
        ``all_value`` are NaN, and ``all_status`` is -1. Its forwards, and those that a callback sees, include the
        samples of the generator to which the start was fitted, shared among the targets. With ``layers``, its
        ``activations`` hold what was found in each; ``output`` and ``value`` are those of the last one, ``x`` the
        latents found first.

    Raises:
        InputError: as `latentopt.Reconstruction`, `latentopt.solve` and the start; or, without a penalty of the prior,
            the measurement does not tell unknown parameters of the operator from the latents.

    Warns:
        NetworkWarning: the generator is randomised, so that the result belongs to one of many draws; or its images are
            far outside its ``output_range``.
    """
    for name, value in {"steps": steps, "restarts": restarts}.items():
        positive(name, value, integer=True)
    nonnegative("retries", retries, integer=True)
    require_halving(halving)
    seed_within(seed)
    if isinstance(start, str) or (isinstance(start, Mapping) and "class_path" in start):
        start = components.build("start", "initializer", start)
    measure: Callable[[Tensor], Tensor] = components.build("operator", "operator", operator or Identity())
    generator = with_unknowns(generator, measure)
    network = generator.fused() if fast else generator
    if fast and network is generator:  # else it has been evaluated, and has warned, when it was fused
        generator.is_deterministic()
    network = network.within_memory()
    problem = Reconstruction(network, target, measure, loss, measured, tolerance, prior, noise, seed)
    if problem.penalty is None:
        require_identifiable(network, problem.operator)
    gradient = not method(optimizer, problem.feasible).gradient_free
    if gradient:
        network.require_gradient()
    search = LayerSearch(network, layers, norm, seed, gradient) if layers else None
    shared = search.forwards if search else 0
    if isinstance(start, str):  # auto
        start = default_initializer(network, problem.operator)
    if isinstance(start, Initializer):
        start = fit_initializer(start, network, problem.operator, seed, problem.batch)
        shared += start.forwards
    fit_forwards = share_cost(shared, problem.batch, torch.arange(problem.batch, device="cpu"))
    return invert(
        problem,
        optimizer,
        start,
        retries,
        seed,
        callbacks,
        fit_forwards,
        search,
        steps=steps,
        restarts=restarts,
        halving=halving,
        evaluations=evaluations,
        seconds=seconds,
        patience=patience,
        min_delta=min_delta,
        distinct_starts=distinct_starts,
    )


def invert(
    problem: Reconstruction,
    optimizer: Optimizer | Named,
    start: FittedInitializer | Values | Mapping[str, Values] | Result | None = None,
    retries: int = 0,
    seed: int = 0,
    callbacks: Callbacks = (),
    fit_forwards: Tensor | None = None,
    search: LayerSearch | None = None,
    **settings: Any,
) -> Result:
    """Solve a reconstruction, and try its unsolved targets again.

    Args:
        problem: the reconstruction, of B targets.
        optimizer, retries, seed, callbacks: as in `reconstruct`.
        start: a fitted initializer, or the starts.
        fit_forwards: forwards (B,) long that each target bears of the fit of the start and the units of ``search``;
            None: none.
        search: goes on in layers; None: none does.
        settings: other arguments of `latentopt.solve`; among them ``steps``, ``restarts`` and ``halving``.
    """
    steps, restarts = settings["steps"], settings["restarts"]
    if settings.get("distinct_starts") and isinstance(start, FittedInitializer) and not isinstance(start, FittedSaved):
        start = DistinctStarts(start)
    settings["halving"] = [pair for pair in require_halving(settings["halving"]) if pair[0] < steps]
    first = problem.projected(start(problem, restarts, seed)) if isinstance(start, FittedInitializer) else start
    callbacks = as_callbacks(callbacks)
    with ExitStack() as stack:
        line = stack.enter_context(ProgressLine("reconstruct", retries + 1, "attempt"))
        for callback in callbacks:
            if close := getattr(callback, "close", None):
                stack.callback(close)
        fit_total = 0 if fit_forwards is None else int(fit_forwards.sum())
        watching = [_Attempt(callback, fit_total) for callback in callbacks]
        result = solve(problem, optimizer, seed=seed, start=first, callbacks=watching, **settings)
        if fit_forwards is not None:
            result = replace(result, forwards=result.forwards + fit_forwards.to(result.forwards))
        settings["restarts"] = max(restarts, 2)  # the mirror image is tried in any case
        line.update()
        for attempt in range(1, retries + 1):
            ended = [status in (Status.SOLVED, Status.STOPPED) for status in result.status]
            rows = (~torch.tensor(ended, device=result.x.device)).nonzero()[:, 0]
            if not len(rows):
                break
            part, x = problem.take(rows), result.x[rows]
            starts = torch.stack([x, 2 * problem.generator.distribution.mean.to(x) - x])
            if isinstance(start, FittedInitializer):
                starts = torch.cat([starts, start(part, restarts, seed + attempt, 2.0**attempt)])
            starts = part.projected(starts[: max(2, settings["restarts"] // 2)])  # the others start at random
            watching = [_Retry(callback, result, rows, attempt * steps) for callback in callbacks]
            again = solve(part, optimizer, seed=seed + attempt, start=starts, callbacks=watching, **settings)
            result = merge_results(result, again, rows)
            line.update()
            if Status.STOPPED in again.status:
                break
        if search:
            settings |= {"restarts": 1, "halving": ()}
            best = method(optimizer, problem.feasible)
            result = search(problem, result, best, seed, callbacks, (retries + 1) * steps, **settings)
    if isinstance(problem.operator, BlindOperator):
        result = replace(result, unknowns=problem.operator.values(result.x))
    return result


@dataclass(frozen=True, eq=False)
class _Attempt:
    """A callback in the first attempt, which does not close it."""

    callback: Callback
    forwards: int  # of the fit, for all targets

    def __call__(self, progress: Progress) -> bool | None:
        return self.callback(replace(progress, forwards=progress.forwards + self.forwards))


@dataclass(frozen=True, eq=False)
class _Retry:
    """A callback in a later attempt, which sees it as the continuation of the earlier ones."""

    callback: Callback
    earlier: Result
    rows: Tensor  # (k,) long, the targets that are tried again
    t: int  # steps of the earlier attempts

    def __call__(self, progress: Progress) -> bool | None:
        best, best_x = self.earlier.value.clone(), self.earlier.x.clone()
        better = progress.best < best[self.rows]
        best[self.rows[better]], best_x[self.rows[better]] = progress.best[better], progress.best_x[better]
        whole = replace(
            progress,
            t=self.t + progress.t,
            best=best,
            best_x=best_x,
            forwards=progress.forwards + int(self.earlier.forwards.sum()),
            backwards=progress.backwards + int(self.earlier.backwards.sum()),
            seconds=progress.seconds + self.earlier.meta["seconds"],
        )
        return self.callback(whole)


def merge_results(first: Result, again: Result, rows: Tensor) -> Result:
    """Return one result of two, the second having further restarts of the samples ``rows`` (long) of the first."""
    restarts = first.history["loss"].shape[1]
    better = again.value < first.value[rows]
    improved, source = rows[better], better.nonzero()[:, 0]
    status = list(first.status)
    for row, new in zip(rows.tolist(), again.status, strict=True):
        status[row] = new
    return replace(
        first,
        x=first.x.index_copy(0, improved, again.x[source]),
        value=first.value.index_copy(0, improved, again.value[source]),
        output=first.output.index_copy(0, improved, again.output[source]),
        restart=first.restart.index_copy(0, improved, again.restart[source] + restarts),
        status=tuple(status),
        forwards=first.forwards.index_add(0, rows, again.forwards),
        backwards=first.backwards.index_add(0, rows, again.backwards),
        history={name: _merge_history(first.history[name], again.history[name], rows) for name in first.history},
        all_x=torch.cat([first.all_x, _spread(again.all_x, rows, first.all_x)]),
        all_value=torch.cat([first.all_value, _spread(again.all_value, rows, first.all_value)]),
        all_status=torch.cat([first.all_status, _spread(again.all_status, rows, first.all_status)]),
        meta={**first.meta, "seconds": first.meta["seconds"] + again.meta["seconds"]},
    )


def _spread(values: Tensor, rows: Tensor, like: Tensor) -> Tensor:
    """Return values (restarts, k, ...) of the samples ``rows`` (k,) for all of ``like``, NaN or -1 elsewhere."""
    missing = torch.nan if values.is_floating_point() else -1
    whole = values.new_full((len(values), *like.shape[1:]), missing)
    whole[:, rows] = values
    return whole


def _merge_history(first: Tensor, again: Tensor, rows: Tensor) -> Tensor:
    """Return the history (steps, restarts of both, B), NaN where a restart has none."""
    steps = max(len(first), len(again))
    whole = first.new_full((steps, first.shape[1] + again.shape[1], first.shape[2]), torch.nan)
    whole[: len(first), : first.shape[1]] = first
    whole[: len(again), first.shape[1] :, rows] = again
    return whole
