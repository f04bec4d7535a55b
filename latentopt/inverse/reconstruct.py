"""`latentopt.reconstruct`: good starts, many of them for a while, the best to the end, the unsolved once more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.errors import nonnegative, positive
from latentopt.inverse.initializers import (
    FittedInitializer,
    Initializer,
    Regression,
    fit_initializer,
    get_initializer,
    share_cost,
)
from latentopt.inverse.priors import Prior, Unconstrained
from latentopt.inverse.problem import Reconstruction
from latentopt.networks.generator import Generator
from latentopt.optimizers import LBFGS, Optimizer
from latentopt.solver.callbacks import Callback, Progress
from latentopt.solver.loop import halvings, solve
from latentopt.solver.result import Result, Status

HALVING = ((20, 4), (60, 2), (150, 1))
"""Which restarts go on by default: half of them or more are dropped as soon as they lie behind."""


@renamed_keywords(rounds=("retries", lambda rounds: rounds - 1))
def reconstruct(
    generator: Generator,
    target: Tensor,
    *,
    operator: Callable[[Tensor], Tensor] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] | None = None,
    prior: Prior = Unconstrained(),
    noise: float = 0.0,
    measured: bool | None = None,
    optimizer: Optimizer | str = LBFGS(memory=64),
    start: Initializer | FittedInitializer | Tensor | Result | str = Regression(),
    steps: int = 400,
    restarts: int = 8,
    halving: Sequence[tuple[int, int]] = HALVING,
    tolerance: float | None = None,
    retries: int = 0,
    seed: int = 0,
    evaluations: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    min_delta: float = 1e-4,
    fast: bool = True,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Latents whose images explain measurements: a generator inverted.

    Args:
        generator: a pretrained generator.
        target, operator, loss, prior, noise, measured: as in `latentopt.Reconstruction`.
        optimizer: a method, or its registered name.
        start: ``regression`` (what kernel regression on samples of the generator predicts), ``nearest`` (of such
            samples), ``encoder``, ``random``; an object of `latentopt.inverse.initializers`; or latents, or a
            `Result`, as in `latentopt.solve`. Where targets have conditions, the first two learn from a pool for each
            condition.
        steps, restarts, seed, evaluations, seconds, patience, min_delta, callbacks: as in `latentopt.solve`, of each
            round. From the second round on a callback sees ``t`` go on at ``steps`` a round, `best_x` and `best` of all
            targets, and the rest of those that are tried again.
        halving: as in `latentopt.solve`; pairs whose step is not under ``steps`` are left out.
        tolerance: a target is solved once its loss is below this; None: never.
        retries: >= 0; how often targets that are not solved (all, without a tolerance) are tried again: from what was
            found, from its negative, or its mirror image in the mean of the generator's latents (where a random network
            has another critical region than the solution's, it lies there: Hand and Voroninski 2017, arXiv 1705.07576),
            from other starts, twice as far from each other, and,
            with half of the restarts, at random.
        fast: evaluate `Generator.fast`, which computes the same up to rounding.

    Returns:
        A `Result` whose restarts are those of all rounds, in a row. Its forwards, and those that a callback sees,
        include the samples of the generator that the start learnt from, shared out among the targets.

    Raises:
        InputError: as `latentopt.Reconstruction`, `latentopt.solve` and the start.

    Warns:
        NetworkWarning: the generator is randomised, so that the result is of one draw of many; what it emits is far
            outside its ``output_range``; or the start learns from pools of more than 20 conditions.
    """
    for name, value in {"steps": steps, "restarts": restarts}.items():
        positive(name, value, integer=True)
    nonnegative("retries", retries, integer=True)
    halvings(halving)
    if isinstance(start, str):
        start = get_initializer(start)
    swift = generator.fused() if fast else generator
    if fast and swift is generator:  # of a fast form its making has shown it
        generator.is_deterministic()
    problem = Reconstruction(swift, target, operator, loss, measured, tolerance, prior, noise, seed)
    guess = (
        fit_initializer(start, swift, problem.operator, seed, problem.batch)
        if isinstance(start, Initializer)
        else start
    )
    settings = {
        "steps": steps,
        "restarts": restarts,
        "halving": halving,
        "evaluations": evaluations,
        "seconds": seconds,
    }
    settings |= {"patience": patience, "min_delta": min_delta}
    paid = None
    if isinstance(start, Initializer) and isinstance(guess, FittedInitializer):
        paid = share_cost(guess.forwards, problem.batch, torch.arange(problem.batch))
    return invert(problem, optimizer, guess, retries, seed, callbacks, paid, **settings)


def invert(
    problem: Reconstruction,
    optimizer: Optimizer | str,
    guess: FittedInitializer | Tensor | Result | None = None,
    retries: int = 0,
    seed: int = 0,
    callbacks: Sequence[Callback] = (),
    paid: Tensor | None = None,
    **settings: Any,
) -> Result:
    """`reconstruct` of a problem, with what a start has learnt.

    Args:
        problem, optimizer, retries, seed, callbacks: as in `reconstruct`.
        guess: what a start has learnt, or the starts.
        paid: forwards (B,), long, that each target has cost already, its share of the learning; default none.
        settings: of `latentopt.solve`.
    """
    with ExitStack() as stack:
        for callback in callbacks:
            if close := getattr(callback, "close", None):
                stack.callback(close)
        return _inverted(problem, optimizer, guess, retries, seed, callbacks, paid, settings)


def _inverted(
    problem: Reconstruction,
    optimizer: Optimizer | str,
    guess: FittedInitializer | Tensor | Result | None,
    retries: int,
    seed: int,
    callbacks: Sequence[Callback],
    paid: Tensor | None,
    settings: dict[str, Any],
) -> Result:
    restarts = settings["restarts"]
    settings["halving"] = [pair for pair in halvings(settings["halving"]) if pair[0] < settings["steps"]]
    start = problem.projected(guess(problem, restarts, seed)) if isinstance(guess, FittedInitializer) else guess
    total = 0 if paid is None else int(paid.sum())
    first = [_First(callback, total) for callback in callbacks]
    found = solve(problem, optimizer, seed=seed, start=start, callbacks=first, **settings)
    if paid is not None:
        found = replace(found, forwards=found.forwards + paid.to(found.forwards))
    for number in range(1, retries + 1):
        ended = [status in (Status.SOLVED, Status.STOPPED) for status in found.status]
        left = (~torch.tensor(ended, device=found.x.device)).nonzero()[:, 0]
        if not len(left):
            break
        part, x = problem.take(left), found.x[left]
        mirrored = 2 * problem.generator.distribution.mean.to(x) - x
        starts = torch.stack([x, mirrored])
        if isinstance(guess, FittedInitializer):
            starts = torch.cat([starts, guess(part, restarts, seed + number, 2.0**number)])
        settings["restarts"] = max(restarts, 2)  # the negative is tried in any case
        starts = part.projected(starts[: max(2, settings["restarts"] // 2)])  # the others start at random
        later = [_Later(callback, found, left, number * settings["steps"]) for callback in callbacks]
        again = solve(part, optimizer, seed=seed + number, start=starts, callbacks=later, **settings)
        found = joined(found, again, left)
        if Status.STOPPED in again.status:
            break
    return found


@dataclass(frozen=True, eq=False)
class _First:
    """A callback in the first round, which is not closed at its end; ``paid``: forwards before it, of all targets."""

    callback: Callback
    paid: int

    def __call__(self, progress: Progress) -> bool | None:
        return self.callback(replace(progress, forwards=progress.forwards + self.paid))


@dataclass(frozen=True, eq=False)
class _Later:
    """A callback in a later round, after ``found``, of the targets ``rows``."""

    callback: Callback
    found: Result
    rows: Tensor
    t: int

    def __call__(self, progress: Progress) -> bool | None:
        best, best_x = self.found.value.clone(), self.found.x.clone()
        better = progress.best < best[self.rows]
        best[self.rows[better]], best_x[self.rows[better]] = progress.best[better], progress.best_x[better]
        whole = replace(
            progress,
            t=self.t + progress.t,
            best=best,
            best_x=best_x,
            forwards=progress.forwards + int(self.found.forwards.sum()),
            backwards=progress.backwards + int(self.found.backwards.sum()),
            seconds=progress.seconds + self.found.meta["seconds"],
        )
        return self.callback(whole)


def joined(first: Result, again: Result, rows: Tensor) -> Result:
    """One result of both; ``again`` has further restarts of the samples ``rows`` of the first."""
    restarts = first.history["loss"].shape[1]
    better = again.value < first.value[rows]
    taken, at = rows[better], better.nonzero()[:, 0]
    status = list(first.status)
    for row, now in zip(rows.tolist(), again.status, strict=True):
        status[row] = now
    return replace(
        first,
        x=first.x.index_copy(0, taken, again.x[at]),
        value=first.value.index_copy(0, taken, again.value[at]),
        output=first.output.index_copy(0, taken, again.output[at]),
        restart=first.restart.index_copy(0, taken, again.restart[at] + restarts),
        status=tuple(status),
        forwards=first.forwards.index_add(0, rows, again.forwards),
        backwards=first.backwards.index_add(0, rows, again.backwards),
        history={name: _side_by_side(first.history[name], again.history[name], rows) for name in first.history},
        meta={**first.meta, "seconds": first.meta["seconds"] + again.meta["seconds"]},
    )


def _side_by_side(first: Tensor, again: Tensor, rows: Tensor) -> Tensor:
    """(steps, restarts of both, B), NaN where there is nothing."""
    steps = max(len(first), len(again))
    whole = first.new_full((steps, first.shape[1] + again.shape[1], first.shape[2]), torch.nan)
    whole[: len(first), : first.shape[1]] = first
    whole[: len(again), first.shape[1] :, rows] = again
    return whole
