"""The best so far, row by row. A row is one restart of one sample; restart-major, row = restart * B + sample."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.problem import Success


class Rows(NamedTuple):
    """What is known of each row."""

    x: Tensor  # (rows, *shape) the next iterate to look at; of a row that has left, where it stopped
    best_x: Tensor  # (rows, *shape)
    best: Tensor  # (rows,) objective there; inf: none yet
    solved: Tensor  # (rows,) bool, best_x passes the success test
    broke: Tensor  # (rows,) the best when the row last met a value that is not finite; inf: never
    bar: Tensor  # (rows,) a best below it is an improvement that keeps the row in
    since: Tensor  # (rows,) long, the step of the last such improvement


def improved(rows: Rows, value: Tensor, output: Tensor, success: Success | None) -> Rows:
    """The rows with the better of their best and what was seen at `x`: ``value`` (rows,), finite or NaN.

    Raises:
        InputError: ``success`` does not answer for each sample.
    """
    better = value < rows.best
    if success:  # a solved iterate beats every other; its row then leaves, so the best was not solved
        solved = success(value, output)
        if getattr(solved, "shape", None) != value.shape:
            came = getattr(solved, "shape", type(solved).__name__)
            raise InputError("success", f"one answer a sample, shape ({len(value)},)", came)
        rows = rows._replace(solved=solved & ~value.isnan())
        better = better | rows.solved
    best_x = torch.where(as_rows(better, rows.x), rows.x, rows.best_x)
    return rows._replace(best_x=best_x, best=torch.where(better, value, rows.best))


def as_rows(mask: Tensor, like: Tensor) -> Tensor:
    """A mask (rows,) in a shape that chooses between tensors like ``like`` (rows, *shape)."""
    return mask.reshape(-1, *[1] * (like.ndim - 1))


def winner(rows: Rows, restarts: int) -> Tensor:
    """Row (B,) of each sample's best restart: the solved ones before the others, then by objective."""
    best, solved = rows.best.reshape(restarts, -1), rows.solved.reshape(restarts, -1)
    restart = best.masked_fill(solved.any(0) & ~solved, torch.inf).argmin(0)
    return restart * best.shape[1] + torch.arange(best.shape[1], device=best.device)
