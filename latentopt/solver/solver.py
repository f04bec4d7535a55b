"""The steps of a solve: which rows go on, go back to their best point, or stop."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from latentopt.batch_math import where_rows
from latentopt.errors import InputError
from latentopt.networks.checks import first_output, refuse_fixed_batch
from latentopt.networks.generator import Generator
from latentopt.networks.outputs import argument_of
from latentopt.noise import Noise
from latentopt.optimizers.base import Cost, Optimizer, Step
from latentopt.problem import Batch, Evaluation, Problem
from latentopt.pytree import set_rows, take
from latentopt.solver.callbacks import Progress
from latentopt.solver.result import Result, Status
from latentopt.solver.settings import SolverSettings
from latentopt.solver.state import ACTIVE, History, Rows, SolverState, best_rows, replace_rows, update_best


@dataclass(eq=False)
class Solver:
    """A solve under way: its state, and what follows from the state.

    Args:
        problem: the problem, of B samples.
        optimizer: the method.
        settings: budgets, restarts and the like.
        start: starts (k, B, *shape) of the first k restarts, in the feasible set; the others are random.
    """

    problem: Problem
    optimizer: Optimizer
    settings: SolverSettings
    start: Tensor | None
    meta: dict[str, Any] = field(init=False)  # of `Result`
    began: float = field(init=False)  # clock when this call began
    state: SolverState = field(init=False)
    history: History = field(init=False)  # stands for `state.history`, which a snapshot fills in
    batch: Batch = field(init=False)  # the active rows
    sample: Tensor = field(init=False)  # (A,) long, the sample of each active row
    allowance: Tensor = field(init=False)  # (A,) evaluations that each active row may spend, if they are bounded
    least_allowance: int = field(init=False)  # the least of them
    evaluated: tuple[Tensor, Tensor, Tensor] = field(init=False)  # active rows, iterates and outputs of the last step

    def __post_init__(self) -> None:
        self.began = time.perf_counter()
        self.meta = self.settings.meta(self.optimizer)
        count = self.settings.restarts * self.problem.batch
        indices = torch.arange(count, device=self.problem.like.device)
        x = indices.new_empty((0,)) if self.start is None else self.start.flatten(0, 1)
        if len(x) < count:  # a set without random points needs all its starts given
            random = self.batch_of(indices[len(x) :]).random_start()
            x = torch.cat([x, random]) if len(x) else random
        inf, zeros = x.new_full((count,), torch.inf), torch.zeros_like(indices)
        rows = Rows(x, x, inf, zeros.bool(), inf, inf, zeros)
        method = self.optimizer.init(self.batch_of(indices), x)
        active = torch.full_like(indices, ACTIVE)
        self.restore(SolverState(0, 0.0, Cost(0, 0), 0, indices, rows, method, rows, active, zeros, zeros, {}))

    def snapshot(self) -> SolverState:
        """Return the state as it is saved: `stopped` has all rows, up to date, and `rows` is left out."""
        stopped, history = self.state.all_rows(), self.history.tensors()
        return self.state._replace(seconds=self.elapsed(), rows=None, stopped=stopped, history=history)

    def restore(self, state: SolverState) -> None:
        """Go on from a snapshot of the same solve."""
        self.history = History(len(state.status), state.history)
        all_active = len(state.active) == len(state.status)
        self._set(state._replace(rows=state.stopped if all_active else take(state.stopped, state.active)))

    def batch_of(self, indices: Tensor, compile: bool = False) -> Batch:  # noqa: A002
        """Return the batch of some rows."""
        number, sample = indices // self.problem.batch, indices % self.problem.batch
        if self.settings.distinct_starts:
            number = number + sample * self.settings.restarts
        noise = Noise(self.settings.seed, number)
        return self.problem.rows(sample, noise, self.settings.steps, compile)

    def elapsed(self) -> float:
        """Return the seconds that the solve has taken, over all calls."""
        return self.state.seconds + time.perf_counter() - self.began

    @property
    def is_active(self) -> bool:
        """Return whether some row has not stopped."""
        return len(self.state.active) > 0

    def enforce_budgets(self) -> None:
        """Stop the rows that may not take another step; a first step is always taken."""
        state, settings = self.state, self.settings
        if state.t == 0 or not self.is_active:
            return
        if state.t == settings.steps or (settings.seconds is not None and self.elapsed() >= settings.seconds):
            self.stop(Status.BUDGET)
        elif settings.evaluations is not None:
            price = sum(state.cost) + state.dearest
            if price > self.least_allowance:
                self._stop(torch.where(self.allowance < price, Status.BUDGET, ACTIVE))

    def stop(self, status: Status) -> None:
        """Stop all active rows."""
        self._stop(torch.full_like(self.state.active, status))

    def step(self) -> None:
        """Take one step of all active rows."""
        state = self.state
        first = state.t == 0
        step = self._first_step() if first else self.optimizer.step(self.batch, state.rows.x, state.method)
        cost = Cost(*(before + now for before, now in zip(state.cost, step.cost, strict=True)))
        state = state._replace(t=state.t + 1, cost=cost, dearest=max(state.dearest, sum(step.cost)))
        self.state = state
        self.evaluated = state.active, state.rows.x, step.evaluation.output
        self.history.add(state.active, {"loss": step.evaluation.value, **step.info})
        rows, done = self._judge(step.evaluation)
        alarm = step.evaluation.value.sum() + step.x.sum()  # not finite if anything is not; or if it overflows, no harm
        if done is not None:
            alarm = alarm.masked_fill(done.any(), torch.nan)
        if math.isfinite(alarm):  # the only time that the device is waited for
            self.state = state._replace(rows=rows._replace(x=step.x), method=step.state)
        else:
            self._step_with_stops(step)
        self._halve()

    def _first_step(self) -> Step:
        """Take the first step, and check that samples are independent, which would show only once some have stopped."""
        state, size = self.state, self.problem.batch
        x, whole = state.rows.x[:size], self.batch_of(state.active[:size])
        try:
            step = self.optimizer.step(self.batch, state.rows.x, state.method)
        except Exception as error:
            if str(error).startswith("Inference tensors cannot be saved"):
                expected = "tensors made outside torch.inference_mode, in operators and objectives too (clone them)"
                raise InputError("problem", expected, "one made in it") from error
            first_output(whole.network, x, "shape")  # if it fails as well, that is the reason
            if size > 1:
                whole.require_independent(x)
            raise
        if size > 1:
            whole.require_independent(x, step.evaluation.output[:size])
        return step

    def _judge(self, evaluation: Evaluation) -> tuple[Rows, Tensor | None]:
        """Return the rows updated by the values at their `x`, and a mask (A,) of the solved and stalled, if asked."""
        state, settings = self.state, self.settings
        rows, done = update_best(state.rows, *evaluation, self.batch.success), None
        if self.batch.success:
            done = rows.solved
        if settings.patience:
            improved = rows.best < rows.patience_bar
            bar = torch.where(improved, rows.best - settings.min_delta * rows.best.abs(), rows.patience_bar)
            rows = rows._replace(patience_bar=bar, improved_at=rows.improved_at.masked_fill(improved, state.t))
            stalled = state.t - rows.improved_at >= settings.patience
            done = stalled if done is None else done | stalled
        return rows, done

    def _step_with_stops(self, step: Step) -> None:
        """Finish a step in which some row is solved, stalls, or meets a value or an iterate that is not finite."""
        value, finite = step.evaluation.value, step.evaluation.value.isfinite()
        if self.state.t == 1 and not bool(finite.reshape(-1, self.problem.batch).any(0).all()):
            raise InputError("objective", "a finite value at the start", value[: self.problem.batch].tolist())
        rows, done = self._judge(
            step.evaluation._replace(value=value.where(finite, torch.nan))
        )  # NaN improves on nothing
        broken = self._broken(step, finite, rows)
        status = torch.full_like(self.state.active, ACTIVE)
        if done is not None:
            status[done] = Status.STALLED
        status[broken & ~(rows.best < rows.best_at_break)] = Status.NONFINITE
        status[torch.isin(self.sample, self.sample[rows.solved])] = Status.SOLVED
        goes_on = status == ACTIVE
        rows = rows._replace(x=where_rows(goes_on, step.x, rows.x))
        self.state = self.state._replace(rows=rows, method=step.state)
        self._return_to_best(broken & goes_on)
        self._stop(status)

    def _broken(self, step: Step, finite: Tensor, rows: Rows) -> Tensor:
        """Return which rows (A,) cannot go on from the next iterate."""
        broken = ~step.x.reshape(len(finite), -1).isfinite().all(1)
        if not self.optimizer.recovers:
            broken = broken | ~finite
        return broken | (~finite & rows.best.isinf())  # there is no best point to recover to

    def _return_to_best(self, mask: Tensor) -> None:
        """Send rows (A,) back to their best points, where the method starts afresh."""
        rows = self.state.rows
        rows = rows._replace(
            x=where_rows(mask, rows.best_x, rows.x),
            best_at_break=torch.where(mask, rows.best, rows.best_at_break),
        )
        self.state = self.state._replace(rows=rows)
        if bool(mask.any()):
            fresh = self.optimizer.init(self.batch_of(self.state.active[mask]), rows.best_x[mask])
            self.state = self.state._replace(method=set_rows(self.state.method, fresh, mask))

    def _halve(self) -> None:
        """Stop the worse restarts of each sample where `halving` says so."""
        state = self.state
        for step, count in self.settings.halving:
            if step == state.t and self.is_active:
                best = state.rows.best.new_full(state.status.shape, torch.inf)
                best = best.index_copy(0, state.active, state.rows.best).reshape(self.settings.restarts, -1)
                rank = best.argsort(dim=0, stable=True).argsort(dim=0).flatten()[state.active]
                self._stop(torch.where(rank < count, ACTIVE, Status.DROPPED))

    def _stop(self, status: Tensor) -> None:
        """Stop the active rows whose ``status`` (A,) is not ACTIVE."""
        state, stays = self.state, status == ACTIVE
        if bool(stays.all()):
            return
        gone = state.active[~stays]
        self._set(
            state._replace(
                active=state.active[stays],
                rows=take(state.rows, stays),
                method=take(state.method, stays),
                stopped=state.all_rows(),
                status=state.status.index_put((gone,), status[~stays]),
                forwards=state.forwards.index_fill(0, gone, state.cost.forwards),
                backwards=state.backwards.index_fill(0, gone, state.cost.backwards),
            )
        )

    def _set(self, state: SolverState) -> None:
        """Set the state to one of other active rows."""
        self.state, self.sample = state, state.active % self.problem.batch
        if not self.is_active:
            return
        self.batch = self.batch_of(state.active, self.settings.compile and len(state.active) == len(state.status))
        if self.settings.evaluations is not None:
            size = self.problem.batch
            spent = (state.forwards + state.backwards).reshape(self.settings.restarts, size).sum(0)
            active_restarts = torch.bincount(self.sample, minlength=size).clamp_min(1)
            # One forward is kept for the result, and one for the last iterate of each row.
            self.allowance = ((self.settings.evaluations - 1 - spent) // active_restarts)[self.sample] - 1
            self.least_allowance = int(self.allowance.min())

    def progress(self) -> Progress:
        """Return what callbacks see after a step."""
        rows, (active, x, output) = self.state.all_rows(), self.evaluated
        count = len(self.state.status)
        if len(active) < count:
            missing = torch.nan if output.is_floating_point() else 0
            x = rows.x.index_copy(0, active, x)
            output = output.new_full((count, *output.shape[1:]), missing).index_copy(0, active, output)
        best, info, cost = best_rows(rows, self.settings.restarts), self.history.last(), self.state.totals()
        return Progress(
            t=self.state.t,
            steps=self.settings.steps,
            x=x,
            output=output,
            loss=info.pop("loss"),
            best_x=rows.best_x[best],
            best=rows.best[best],
            info=info,
            forwards=cost.forwards,
            backwards=cost.backwards,
            seconds=self.elapsed(),
            meta=self.meta,
        )

    def refuse_fixed_batch(self, error: Exception) -> None:
        """Raise `InputError` if an error comes of a network that takes no other number of rows than at first."""
        size = self.problem.batch
        x = self.state.all_rows().x[:size]
        network = self.batch_of(torch.arange(size, device=x.device)).network
        refuse_fixed_batch(network, x, argument_of(network), error)

    def finish(self) -> tuple[Result, bool]:
        """Return the result, all rows having stopped, and whether the network gave another output for it."""
        rows, forwards = self._evaluate_last_iterates()
        restarts, size = self.settings.restarts, self.problem.batch
        best = best_rows(rows, restarts)
        x = rows.best_x[best]
        value, output = self.batch_of(torch.arange(size, device=x.device)).evaluate(x)
        result = Result(
            x=x,
            value=value,
            output=output,
            status=self._sample_status(value, output),
            restart=best // size,
            forwards=forwards.reshape(restarts, size).sum(0) + 1,
            backwards=self.state.backwards.reshape(restarts, size).sum(0),
            history={n: v.unflatten(1, (restarts, -1)) for n, v in self.history.tensors().items()},
            meta={**self.meta, "seconds": self.elapsed(), **self._space()},
            all_x=rows.best_x.unflatten(0, (restarts, size)),
            all_value=rows.best.reshape(restarts, size),
            all_status=self.state.status.reshape(restarts, size),
        )
        return result, _differs(rows.best[best], value, output)

    def _space(self) -> dict[str, str]:
        """Return the name of the space of the inputs, if they are a generator's latents."""
        network = self.problem.network
        return {"space": network.space} if isinstance(network, Generator) else {}

    def _evaluate_last_iterates(self) -> tuple[Rows, Tensor]:
        """Return the rows, updated by iterates that no step has evaluated, and the forwards (R,) of each."""
        rows, forwards, status = self.state.stopped, self.state.forwards, self.state.status
        last = ((status == Status.BUDGET) | (status == Status.STOPPED)).nonzero()[:, 0]
        if not len(last):
            return rows, forwards
        part, batch = take(rows, last), self.batch_of(last)
        value, output = batch.evaluate(part.x)
        part = update_best(part, value.where(value.isfinite(), torch.nan), output, batch.success)
        return replace_rows(rows, last, part), forwards.index_add(0, last, torch.ones_like(last))

    def _sample_status(self, value: Tensor, output: Tensor) -> tuple[Status, ...]:
        """Return SOLVED for each sample whose result is, else the first in order among its restarts."""
        success = self.problem.success
        solved = success(value, output).tolist() if success else [False] * len(value)
        order = (Status.STOPPED, Status.BUDGET, Status.SOLVED, Status.STALLED, Status.NONFINITE)
        by_sample = self.state.status.reshape(self.settings.restarts, -1).T.tolist()
        ends = [next(status for status in order if status in own) for own in by_sample]
        # A sample that was solved among other rows but, by rounding, is not alone has no more steps either.
        ends = [Status.BUDGET if status == Status.SOLVED else status for status in ends]
        return tuple(Status.SOLVED if yes else status for yes, status in zip(solved, ends, strict=True))


def _differs(before: Tensor, value: Tensor, output: Tensor) -> bool:
    """Return whether an objective (B,) differs from what it was at the same inputs, by more than rounding."""
    size = output.reshape(len(value), -1).square().mean(1).sqrt() if output.is_floating_point() else value.abs()
    rounding = 1e3 * torch.finfo(value.dtype).eps * size.to(value)
    return bool(((before - value).abs() > 0.01 * value.abs() + rounding).any())
