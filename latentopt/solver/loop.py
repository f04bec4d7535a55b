"""The loop that runs every method: restarts x samples as one batch, until all have stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from latentopt._deprecated import renamed_keywords
from latentopt.arguments import Named, Values, as_tensor, checked
from latentopt.autodiff import outside_inference_mode
from latentopt.errors import InputError, positive, warn
from latentopt.networks.checks import NetworkWarning, randomised_message
from latentopt.networks.freezing import frozen, require_eval
from latentopt.networks.generator import Generator
from latentopt.optimizers import method
from latentopt.optimizers.base import Optimizer
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.solver.callbacks import Callback, Callbacks, Progress, as_callbacks
from latentopt.solver.checkpoint import Checkpoint
from latentopt.solver.result import Result, Status
from latentopt.solver.settings import SolverSettings, require_halving
from latentopt.solver.solver import Solver

__all__ = ["Callback", "Progress", "solve"]


@renamed_keywords(keep="halving", improvement="min_delta")
@outside_inference_mode
@checked
def solve(
    problem: Problem,
    optimizer: Optimizer | Named = "adr-gd",
    *,
    steps: int = 300,
    restarts: int = 1,
    seed: int = 0,
    start: Values | Mapping[str, Values] | Result | None = None,
    evaluations: int | None = None,
    seconds: float | None = None,
    patience: int | None = None,
    min_delta: float = 1e-4,
    halving: Sequence[tuple[int, int]] = (),
    checkpoint: str | Path | None = None,
    checkpoint_every: int = 100,
    compile: bool = False,  # noqa: A002
    distinct_starts: bool = False,
    callbacks: Callbacks = (),
) -> Result:
    """Minimise a problem's objective for each sample of its batch.

    The solve ends when every sample has stopped, or with the first of the budgets `steps`, `evaluations` and `seconds`.
    Schedules always follow `steps`: where another budget ends the solve earlier, they have not run down.

    A restart that meets a value or an iterate that is not finite returns to its best point, where the method starts
    afresh (only its count of steps goes on). It stops if that happens again before a better point was found, or if
    there is no best point yet.

    Args:
        problem: network, objective, feasible set and batch.
        optimizer: a method, its name (`latentopt.optimizers.METHODS`), or ``{class_path: ..., init_args: {...}}``.
        steps: steps of each restart, >= 1.
        restarts: independent starts of each sample, >= 1; the best is chosen by the objective.
        seed: seed of every random number. The samples share the starts and noise of a restart, so a batch gives what
            its samples give alone, to rounding. After 20 steps on convolutions, inputs and values of order one agree
            to 1e-9 in double and 1e-4 in single precision. Methods that decide by differences of values (L-BFGS,
            Levenberg-Marquardt, APGD, BasinCMA, ADR-GD with L-BFGS) may take another way; their values agree to 1e-2.
            Equal samples give equal results, unless ``start`` differs, or ``distinct_starts`` is set.
        start: inputs (B, *shape), or a `Result`, for the first restart, or inputs (k, B, *shape) for the first k
            restarts; the others start at random. One input, (*shape) or (1, *shape), is for all samples. A tensor, an
            array or a list; latents of several parts also as a mapping of their names. Different inputs for equal
            samples, such as ``generator.latents(B, seed)``, make their results independent.
        evaluations: forwards and backwards that each sample may cost, all its restarts together, with those that close
            the solve (one forward of each last iterate, one of the result). The first step is always taken; another
            one only if it stays within the budget at the cost of the dearest so far. None: unlimited.
        seconds: wall-clock time of the solve, checked before each step but the first. None: unlimited.
        patience: steps, >= 1, after which a restart stops if its best objective ``b`` has not fallen below
            ``b - min_delta * |b|``. None: never.
        min_delta: see `patience`, >= 0.
        halving: pairs (step, count), both >= 1, the steps rising. After that step only the ``count`` best restarts of
            each sample go on (successive halving, arXiv 1502.07943).
        checkpoint: file that holds the state of the solve. The same call goes on from it where it was interrupted, and
            ends exactly as it would have; after the end it returns the same result. Another call is refused: other
            settings, start, set, success test, network, objective or penalty, as far as Python shows their values,
            weights and code.
        checkpoint_every: steps between two writes of the checkpoint, >= 1.
        compile: whether each step's pass through the network, forward and backward, is compiled to one graph
            (`torch.compile`, some ten seconds the first time). It pays for small networks and many steps. Once a row
            has stopped, the others go on uncompiled. Results differ by rounding.
        distinct_starts: whether the samples have starts and noise of their own: those of sample b are those that its
            restarts from number ``b * restarts`` on would have alone. Equal samples then give different results, and a
            sample's result depends on its place in the batch.
        callbacks: a function of a `Progress`, or several, called after every step; one that returns True stops the
            solve (`latentopt.solver.callbacks`).

    Returns:
        A `Result` with the best input of each sample.

    Raises:
        InputError: an argument is not as described, a function of the problem holds something for each sample without
            ``take(rows)``, the start lies outside the feasible set, the objective is not finite there, the network has
            BatchNorm in training mode, or the checkpoint is that of another solve.

    Warns:
        NetworkWarning: the network is random, as the result, evaluated once more, has another objective than before;
            ``value`` and ``output`` are of this last evaluation. Or a generator leaves its range.
    """
    optimizer = method(optimizer, problem.feasible)
    positive("checkpoint_every", checkpoint_every, integer=True)
    settings = SolverSettings(
        steps,
        restarts,
        seed,
        evaluations,
        seconds,
        patience,
        min_delta,
        require_halving(halving),
        compile,
        distinct_starts,
    )
    require_eval(problem.network)
    if isinstance(problem.network, Generator):
        problem.network.check_output_range()
    first = None if start is None else require_start(problem, restarts, start)
    callbacks = as_callbacks(callbacks)
    with ExitStack() as stack:
        for callback in callbacks:
            if close := getattr(callback, "close", None):
                stack.callback(close)
        stack.enter_context(frozen(problem.network))
        solver = Solver(problem, optimizer, settings, first)
        file = Checkpoint(checkpoint, solver) if checkpoint is not None else None
        if file:
            file.restore()
        line = stack.enter_context(ProgressLine("solve", steps))
        line.update(solver.state.t)
        try:
            _iterate(solver, callbacks, file, checkpoint_every, line)
            result, is_random = solver.finish()
        except InputError:
            raise
        except Exception as error:
            solver.refuse_fixed_batch(error)
            raise
    if is_random and problem.warn_if_random:
        if isinstance(problem.network, Generator):
            problem.network.warn_randomised()
        else:
            warn(randomised_message("network", "outputs"), NetworkWarning)
    return result


def _iterate(
    solver: Solver,
    callbacks: Sequence[Callback],
    file: Checkpoint | None,
    checkpoint_every: int,
    line: ProgressLine,
) -> None:
    """Take steps until every row has stopped."""

    def best() -> str:
        return f"loss {float(solver.progress().best.mean()):.4g}"

    solver.enforce_budgets()
    while solver.is_active:
        solver.step()
        line.update(text=best)
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


def require_start(problem: Problem, restarts: int, start: Values | Mapping[str, Values] | Result) -> Tensor:
    """Return `solve`'s ``start`` as (k, B, *shape) in the problem's dtype and device, exactly in the feasible set.

    Raises:
        InputError: it has another shape, more than ``restarts`` starts, or lies outside the set by more than 1e-6.
    """
    batch, shape = problem.batch, problem.shape
    if isinstance(start, Mapping):
        if not isinstance(problem.network, Generator):
            raise InputError("start", "inputs, as the network has no parts with names", "a mapping")
        start = problem.network.join(start)
    if isinstance(start, Result):
        if isinstance(problem.network, Generator):
            problem.network.require_space("start", start.meta.get("space"))
        start = start.x
    x = as_tensor("start", start, problem.like)
    given = tuple(x.shape)
    x = x[(None,) * (len(shape) + 2 - x.ndim)]
    if x.ndim != len(shape) + 2 or x.shape[2:] != shape or x.shape[1] not in (1, batch):
        expected = f"shape {(batch, *shape)}, {shape} or (k, {str((batch, *shape))[1:]}"
        raise InputError("start", expected, f"shape {given}")
    if not 1 <= len(x) <= restarts:
        raise InputError("start", f"starts of 1 to {restarts} restarts", len(x))
    x = x.expand(-1, batch, *shape)
    rows = x.flatten(0, 1)
    samples = torch.arange(batch, device=rows.device).repeat(len(x))
    inside = problem.feasible.take(samples).project(rows)
    if not bool(((inside - rows).abs() <= 1e-6).all()):
        raise InputError("start", "a point of the feasible set", "one outside")
    return inside.reshape(x.shape)
