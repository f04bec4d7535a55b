"""The only loop: restarts x batch as one batch, until every sample is done or a budget is spent."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from latentopt.errors import InputError, positive
from latentopt.networks.checks import randomised_message, warn
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.generator import Generator
from latentopt.optimizers import method
from latentopt.optimizers.base import Optimizer
from latentopt.problem import Problem
from latentopt.solver.callbacks import Callback, Progress
from latentopt.solver.checkpoint import Checkpoint
from latentopt.solver.result import Result, Status
from latentopt.solver.settings import SolverSettings, require_halving
from latentopt.solver.solver import Solver

__all__ = ["Callback", "Progress", "solve"]


def solve(
    problem: Problem,
    optimizer: Optimizer | str = "adr-gd",
    *,
    steps: int = 300,
    restarts: int = 1,
    seed: int = 0,
    start: Tensor | Result | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    min_delta: float = 1e-4,
    halving: Sequence[tuple[int, int]] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    compile: bool = False,  # noqa: A002
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Minimise a problem's objective for each sample of its batch.

    The solve ends when every sample is done, or with the first of its budgets `steps`, `evaluations` and `seconds`.
    Step sizes and other schedules always follow `steps`: one that another budget ends early has not run down.

    A restart of a sample that meets a value or an iterate that is not finite goes back to its best point, where the
    method starts afresh (only its count of steps goes on); if that happens again before a better point was found, or
    if there is no such point yet, it leaves.

    Args:
        problem: what to minimise.
        optimizer: a method, or its registered name (`latentopt.optimizers.METHODS`).
        steps: steps of each restart, >= 1.
        restarts: independent starts of each sample, >= 1; the best is chosen by the objective.
        seed: of every random number. All samples share the starts and noise of a restart, so a batch gives what its
            samples give alone, to rounding: a pass agrees to some units in the last place. After 20 steps on
            convolutions, inputs and values of order one agree to 1e-9 in double and 1e-4 in single precision. Methods
            that decide by differences of values (L-BFGS, Levenberg-Marquardt, APGD, BasinCMA, default ADR-GD) may take
            another way; their values agree to 1e-2. Equal samples give equal results: for different ones pass a
            ``start``.
        start: inputs (B, *shape), or a `Result`, for the first restart to start from, or inputs (k, B, *shape) for the
            first k restarts; the others start at random. Different inputs for equal samples, such as
            ``generator.latents(B, seed)``, make their results independent.
        evaluations: what each sample may cost, forwards and backwards of all its restarts together, those that close
            the solve included (one forward of each last iterate, one of what is returned). A sample takes its first
            step in any case, and another one only if it stays within the budget should that step be as dear as its
            dearest so far. None: any number.
        seconds: wall-clock time of the solve, looked at before each step but the first. None: any.
        patience: a restart of a sample leaves when so many steps in a row, >= 1, have not lowered its best objective,
            ``b`` before them, to less than ``b - min_delta * |b|``. None: never.
        min_delta: see `patience`, >= 0.
        halving: pairs (step, count), both >= 1, the steps rising. After that step only the ``count`` best restarts of
            each sample go on (successive halving, arXiv 1502.07943).
        checkpoint: file that holds the state of the solve, from which the same call goes on where it was stopped, and
            ends exactly as it would have. It stays when the solve ends: then the same call returns the same result.
            Another call is refused: other settings, start, set, success test, network, objective or penalty, by value,
            weights and code as far as Python shows them.
        checkpoint_every: steps between two writes of it, >= 1.
        compile: compile each step's pass through the network, forward and backward in one graph (`torch.compile`, some
            ten seconds the first time). It pays for small networks and many steps; once a row has left, the others go
            on uncompiled. Results differ in rounding.
        callbacks: called after every step; one that returns True stops the solve (`latentopt.solver.callbacks`).

    Raises:
        InputError: an argument is not as described, a function of the problem holds something for each sample but
            has no ``take(rows)``, the start lies outside the feasible set, the objective is not
            finite there, the network has BatchNorm in training mode, or the checkpoint is that of another solve.

    Warns:
        NetworkWarning: the network is randomised: what is returned, evaluated once more, has another objective than
            when it was found. ``value`` and ``output`` are of this last evaluation. Or a generator leaves its range.
    """
    optimizer = method(optimizer, problem.feasible)
    positive("checkpoint_every", checkpoint_every, integer=True)
    settings = SolverSettings(
        steps, restarts, seed, evaluations, seconds, patience, min_delta, require_halving(halving), compile
    )
    require_eval(problem.network)
    if isinstance(problem.network, Generator):
        problem.network.check_output_range()
    first = None if start is None else require_start(problem, restarts, start.x if isinstance(start, Result) else start)
    with ExitStack() as stack:
        for callback in callbacks:
            if close := getattr(callback, "close", None):
                stack.callback(close)
        stack.enter_context(frozen(problem.network))
        solver = Solver(problem, optimizer, settings, first)
        file = Checkpoint(checkpoint, solver) if checkpoint is not None else None
        if file:
            file.restore()
        _iterate(solver, callbacks, file, checkpoint_every)
        result, is_random = solver.finish()
    if is_random and problem.warn_if_random:
        if isinstance(problem.network, Generator):
            problem.network.warn_randomised()
        else:
            warn(randomised_message("network", "outputs"))
    return result


def _iterate(solver: Solver, callbacks: Sequence[Callback], file: Checkpoint | None, checkpoint_every: int) -> None:
    """Take steps until every row has stopped."""
    solver.enforce_budgets()
    while solver.is_active:
        solver.step()
        if callbacks:
            progress = solver.progress()
            answers = [callback(progress) for callback in callbacks]
            if any(answers):
                solver.stop(Status.STOPPED)
        if file and solver.state.t % checkpoint_every == 0:
            file.save()
        solver.enforce_budgets()
    if file:
        file.save()


def require_start(problem: Problem, restarts: int, start: Tensor) -> Tensor:
    """Return `solve`'s ``start`` as (k, B, *shape) in the problem's dtype and device, exactly in the feasible set.

    Raises:
        InputError: it has another shape, more than ``restarts`` starts, or lies outside the set by more than 1e-6.
    """
    expected = (problem.batch, *problem.shape)
    if not isinstance(start, Tensor) or expected not in (tuple(start.shape), tuple(start.shape[1:])):
        got = tuple(start.shape) if isinstance(start, Tensor) else type(start).__name__
        raise InputError("start", f"a tensor of shape {expected} or (k, {str(expected)[1:]}", got)
    start = start.detach().to(problem.like).reshape(-1, *expected)
    if not 1 <= len(start) <= restarts:
        raise InputError("start", f"starts of 1 to {restarts} restarts", len(start))
    rows = start.flatten(0, 1)
    samples = torch.arange(problem.batch, device=rows.device).repeat(len(start))
    inside = problem.feasible.take(samples).project(rows)
    if not bool(((inside - rows).abs() <= 1e-6).all()):
        raise InputError("start", "a point of the feasible set", "one outside")
    return inside.reshape(start.shape)
