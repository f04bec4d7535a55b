"""A solve under way: one step of all rows, and which rows leave, go back, or go on.

A row is one restart of one sample; rows are restart-major, row = restart * B + sample. R = restarts * B.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.io import versions
from latentopt.noise import Noise
from latentopt.optimizers.base import Optimizer, State, Step
from latentopt.problem import Batch, Problem
from latentopt.pytree import put, take
from latentopt.solver.callbacks import Progress
from latentopt.solver.history import History
from latentopt.solver.result import Result, Status
from latentopt.solver.rows import Rows, as_rows, improved, winner

IN = -1
"""Instead of a `Status`, of a row that has not ended."""


class Ended(NamedTuple):
    """How each row ended, and what it had cost by then."""

    status: Tensor  # (R,) long, `IN` as long as it has not
    forwards: Tensor  # (R,) long
    backwards: Tensor  # (R,) long


class Snapshot(NamedTuple):
    """All that changes during a solve."""

    t: int  # steps done
    seconds: float
    paid: tuple[int, int]  # forwards and backwards of a row that is in
    dearest: int  # evaluations of a row in its dearest step
    indices: Tensor  # (rows,) long, of the rows that are in
    rows: Rows  # of all R
    ended: Ended
    state: State  # of the rows that are in
    history: dict[str, Tensor]  # name to (steps, R)


@dataclass(eq=False)
class Run:
    """The state of a solve; arguments as in `latentopt.solve`, checked there.

    ``indices`` are the rows that are in, ``rows`` and ``state`` theirs; ``parked`` has all rows, and holds for those
    that have left.
    """

    problem: Problem
    optimizer: Optimizer
    steps: int
    restarts: int
    seed: int
    evaluations: int | None
    seconds: float | None
    patience: int | None
    min_delta: float
    compile: bool
    halving: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        self.begun = time.perf_counter()
        self.count = self.restarts * self.problem.batch
        self.randomised = False  # whether the network gave another output for what is returned, once that is known
        self.history = History(self.count)
        budgets = {name: _plain(getattr(self, name)) for name in ("evaluations", "seconds", "patience", "min_delta")}
        settings = {name: _plain(getattr(self, name)) for name in ("steps", "restarts", "seed", "compile")}
        settings["halving"] = [[int(t), int(count)] for t, count in self.halving]
        self.meta = {"optimizer": repr(self.optimizer), **settings, "budgets": budgets, "versions": versions()}

    def begin(self, start: Tensor | None) -> None:
        """All rows at their starts; the first restarts' are ``start`` (k, B, *shape), where there are some."""
        indices = torch.arange(self.count, device=self.problem.like.device)
        x = indices.new_empty((0,)) if start is None else start.flatten(0, 1)
        if len(x) < self.count:  # a set that is not bounded has no random points
            drawn = self.of(indices[len(x) :]).random_start()
            x = torch.cat([x, drawn]) if len(x) else drawn
        inf, zeros = x.new_full((self.count,), torch.inf), torch.zeros_like(indices)
        rows = Rows(x, x, inf, zeros.bool(), inf, inf, zeros)
        ended = Ended(torch.full_like(indices, IN), zeros, zeros)
        state = self.optimizer.init(self.of(indices), x)
        self.restore(Snapshot(0, 0.0, (0, 0), 0, indices, rows, ended, state, {}))

    def snapshot(self) -> Snapshot:
        return Snapshot(
            t=self.t,
            seconds=self.elapsed(),
            paid=(self.forwards, self.backwards),
            dearest=self.dearest,
            indices=self.indices,
            rows=self.all_rows(),
            ended=self.ended,
            state=self.state,
            history=self.history.tensors(),
        )

    def restore(self, saved: Snapshot) -> None:
        """Go on from a snapshot of the same solve."""
        self.t, self.dearest, self.before = saved.t, saved.dearest, saved.seconds
        self.forwards, self.backwards = saved.paid
        self.parked, self.ended, self.state = saved.rows, saved.ended, saved.state
        self.history.past = saved.history
        self._set_in(saved.indices, saved.rows if len(saved.indices) == self.count else take(saved.rows, saved.indices))

    def of(self, indices: Tensor, compile: bool = False) -> Batch:  # noqa: A002
        """Return the batch of some rows."""
        noise = Noise(self.seed, indices // self.problem.batch)
        return self.problem.rows(indices % self.problem.batch, noise, self.steps, compile)

    def elapsed(self) -> float:
        return self.before + time.perf_counter() - self.begun

    def _set_in(self, indices: Tensor, rows: Rows) -> None:
        self.indices, self.rows = indices, rows
        self.sample = indices % self.problem.batch
        if len(indices):
            self.active = self.of(indices, self.compile and len(indices) == self.count)
            self._set_room()

    def _set_room(self) -> None:
        """`room` (rows,): the evaluations that each row can pay until its sample has none left for a closing look."""
        self.least = math.inf
        if self.evaluations is not None:
            batch = self.problem.batch
            gone = (self.ended.forwards + self.ended.backwards).reshape(self.restarts, batch).sum(0)
            rows_in = torch.bincount(self.sample, minlength=batch).clamp_min(1)
            self.room = ((self.evaluations - 1 - gone) // rows_in)[self.sample] - 1
            self.least = int(self.room.min())

    def all_rows(self) -> Rows:
        if len(self.indices) == self.count:
            return self.rows
        pairs = zip(self.parked, self.rows, strict=True)
        return Rows(*(parked.index_copy(0, self.indices, now) for parked, now in pairs))

    def goes_on(self) -> bool:
        """Whether another step is to be taken; rows of samples that cannot pay one leave."""
        if self.t == 0 or not len(self.indices):
            return bool(len(self.indices))
        if self.t == self.steps or (self.seconds is not None and self.elapsed() >= self.seconds):
            self.end(Status.BUDGET)
        elif (price := self.forwards + self.backwards + self.dearest) > self.least:
            self._leave(torch.where(self.room < price, Status.BUDGET, IN))
        return bool(len(self.indices))

    def end(self, status: Status) -> None:
        """All rows that are in leave."""
        self._leave(torch.full_like(self.indices, status))

    def advance(self) -> None:
        """One step of all rows that are in."""
        self.t += 1
        step = self._first_step() if self.t == 1 else self.optimizer.step(self.active, self.rows.x, self.state)
        self.forwards, self.backwards = self.forwards + step.cost.forwards, self.backwards + step.cost.backwards
        self.dearest = max(self.dearest, sum(step.cost))
        self.evaluated = self.indices, self.rows.x, step.evaluation.output
        self.history.add(self.indices, {"loss": step.evaluation.value, **step.info})
        rows, done = self._judged(*step.evaluation)
        alarm = step.evaluation.value.sum() + step.x.sum()  # not finite if anything is not; or if it overflows, no harm
        if done is not None:
            alarm = alarm.masked_fill(done.any(), torch.nan)
        if math.isfinite(alarm):  # the only time that the device is waited for
            self.rows, self.state = rows._replace(x=step.x), step.state
        else:
            self._look_closer(step)
        for t, count in self.halving:
            if t == self.t and len(self.indices):
                self._keep(count)

    def _first_step(self) -> Step:
        """The first step, and a look whether the samples are independent, which would show only once some have left."""
        batch = self.problem.batch
        x, whole = self.rows.x[:batch], self.of(self.indices[:batch])
        try:
            step = self.optimizer.step(self.active, self.rows.x, self.state)
        except (RuntimeError, IndexError, ValueError):
            if self.restarts > 1 and batch > 1:
                whole.evaluate(x)  # if it fails as well, that is the reason
                whole.require_independent(x)
            raise
        if batch > 1:
            whole.require_independent(x, step.evaluation.output[:batch])
        return step

    def _keep(self, count: int) -> None:
        """Of each sample's restarts that are in only the ``count`` best stay."""
        best = self.parked.best.new_full((self.count,), torch.inf).index_copy(0, self.indices, self.rows.best)
        place = best.reshape(self.restarts, -1).argsort(dim=0, stable=True).argsort(dim=0).flatten()[self.indices]
        self._leave(torch.where(place < count, IN, Status.DROPPED))

    def _judged(self, value: Tensor, output: Tensor) -> tuple[Rows, Tensor | None]:
        """The rows after a look at their `x`, and which of them (rows,) are solved or stalled, if that is asked."""
        rows, done = improved(self.rows, value, output, self.active.success), None
        if self.active.success:
            done = rows.solved
        if self.patience:
            fell = rows.best < rows.bar
            bar = torch.where(fell, rows.best - self.min_delta * rows.best.abs(), rows.bar)
            rows = rows._replace(bar=bar, since=rows.since.masked_fill(fell, self.t))
            stalled = self.t - rows.since >= self.patience
            done = stalled if done is None else done | stalled
        return rows, done

    def _look_closer(self, step: Step) -> None:
        """Rows that met a value that is not finite go back to their best or leave; solved and stalled rows leave."""
        value, output = step.evaluation
        finite = value.isfinite()
        if self.t == 1 and not bool(finite[: self.problem.batch].all()):
            raise InputError("objective", "a finite value at the start", value[: self.problem.batch].tolist())
        rows, done = self._judged(value.where(finite, torch.nan), output)  # NaN is less than nothing
        broken = ~step.x.reshape(len(value), -1).isfinite().all(1)
        if not self.optimizer.recovers:
            broken = broken | ~finite
        broken = broken | (~finite & rows.best.isinf())  # there is nothing to go back to
        ended = torch.full_like(self.indices, IN)
        if done is not None:
            ended[done] = Status.STALLED
        ended[broken & ~(rows.best < rows.broke)] = Status.NONFINITE
        ended[torch.isin(self.sample, self.sample[rows.solved])] = Status.SOLVED
        back = broken & (ended == IN)
        x = torch.where(as_rows(ended == IN, rows.x), step.x, rows.x)
        x = torch.where(as_rows(back, x), rows.best_x, x)
        self.rows = rows._replace(x=x, broke=torch.where(back, rows.best, rows.broke))
        self.state = step.state
        if bool(back.any()):
            fresh = self.optimizer.init(self.of(self.indices[back]), rows.best_x[back])
            self.state = put(self.state, fresh, back)
        self._leave(ended)

    def _leave(self, ended: Tensor) -> None:
        """Rows whose ``ended`` (rows,) is a status leave."""
        stay = ended == IN
        if bool(stay.all()):
            return
        gone = self.indices[~stay]
        self.parked = self.all_rows()
        self.ended = Ended(
            self.ended.status.index_put((gone,), ended[~stay]),
            self.ended.forwards.index_fill(0, gone, self.forwards),
            self.ended.backwards.index_fill(0, gone, self.backwards),
        )
        self.state = take(self.state, stay)
        self._set_in(self.indices[stay], take(self.rows, stay))

    def progress(self) -> Progress:
        rows, (indices, x, output) = self.all_rows(), self.evaluated
        if len(indices) < self.count:
            missing = torch.nan if output.is_floating_point() else 0
            x = rows.x.index_copy(0, indices, x)
            output = output.new_full((self.count, *output.shape[1:]), missing).index_copy(0, indices, output)
        best = winner(rows, self.restarts)
        info = self.history.last()
        return Progress(
            t=self.t,
            steps=self.steps,
            x=x,
            output=output,
            loss=info.pop("loss"),
            best_x=rows.best_x[best],
            best=rows.best[best],
            info=info,
            forwards=int(self.ended.forwards.sum()) + len(self.indices) * self.forwards,
            backwards=int(self.ended.backwards.sum()) + len(self.indices) * self.backwards,
            seconds=self.elapsed(),
            meta=self.meta,
        )

    def result(self) -> Result:
        """What has been found; all rows have left."""
        rows, forwards, status = self.parked, self.ended.forwards, self.ended.status
        last = ((status == Status.BUDGET) | (status == Status.STOPPED)).nonzero()[:, 0]
        if len(last):  # the last iterates have not been looked at
            some: Rows = take(rows, last)
            batch = self.of(last)
            value, output = batch.evaluate(some.x)
            some = improved(some, value.where(value.isfinite(), torch.nan), output, batch.success)
            rows = Rows(*(whole.index_copy(0, last, part) for whole, part in zip(rows, some, strict=True)))
            forwards = forwards.index_add(0, last, torch.ones_like(last))
        best, batch = winner(rows, self.restarts), self.problem.batch
        x = rows.best_x[best]
        value, output = self.of(torch.arange(batch, device=x.device)).evaluate(x)
        self.randomised = _another(rows.best[best], value, output)
        by_restart = [values.reshape(self.restarts, batch) for values in (status, forwards, self.ended.backwards)]
        return Result(
            x=x,
            value=value,
            output=output,
            status=self._status(by_restart[0], value, output),
            restart=best // batch,
            forwards=by_restart[1].sum(0) + 1,
            backwards=by_restart[2].sum(0),
            history={n: v.unflatten(1, (self.restarts, -1)) for n, v in self.history.tensors().items()},
            meta={**self.meta, "seconds": self.elapsed()},
        )

    def _status(self, ended: Tensor, value: Tensor, output: Tensor) -> tuple[Status, ...]:
        """Of each sample: whether what is returned is solved; else how its restarts (restarts, B) ended."""
        success = self.problem.success
        solved = success(value, output).tolist() if success else [False] * len(value)
        order = (Status.STOPPED, Status.BUDGET, Status.SOLVED, Status.STALLED, Status.NONFINITE)
        ends = [next(status for status in order if status in own) for own in ended.T.tolist()]
        # What was solved among other rows but, by rounding, is not alone has no more steps either.
        ends = [Status.BUDGET if status == Status.SOLVED else status for status in ends]
        return tuple(Status.SOLVED if yes else status for yes, status in zip(solved, ends, strict=True))


def _another(before: Tensor, value: Tensor, output: Tensor) -> bool:
    """Whether an objective (B,) is another than it was at the same inputs, by more than rounding."""
    size = output.reshape(len(value), -1).square().mean(1).sqrt() if output.is_floating_point() else value.abs()
    rounding = 1e3 * torch.finfo(value.dtype).eps * size.to(value)
    return bool(((before - value).abs() > 0.01 * value.abs() + rounding).any())


def _plain(number: Any) -> Any:
    """A number of whatever library as Python's own, which a file can hold."""
    if number is None or isinstance(number, bool):
        return number
    return int(number) if isinstance(number, Integral) else float(number)
