"""Bounds, centres and radii as users write them, and broadcast to the shape of the inputs they hold for.

One rule says which axis is which: values with as many axes as one input are in the input's own shape, the same for
every sample; one axis more, in front, is the batch. So (3,) belongs to the coordinates of inputs of shape (3,), also
where there are 3 samples. Any axis may have length 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from latentopt.errors import InputError


def broadcast(name: str, values: float | Tensor, shape: Sequence[int], like: Tensor) -> float | Tensor:
    """Values for inputs ``shape`` (rows, *features): a number, or a tensor (1 or rows, *features).

    Its dtype and device are those of ``like``. What is so already is returned itself.

    Raises:
        InputError: (of ``name``) they are in no such shape.
    """
    if not isinstance(values, Tensor):
        return values
    values = values.to(like)
    if values.ndim == 0 or (values.shape[1:] == tuple(shape[1:]) and values.shape[0] in (1, shape[0])):
        return values
    wide = values[None] if values.ndim == len(shape) - 1 else values
    if wide.ndim != len(shape) or any(size not in (1, full) for size, full in zip(wide.shape, shape, strict=True)):
        every, each = tuple(shape[1:]), tuple(shape)
        expected = f"a number, or a shape that broadcasts to that of one input, {every}, or of the batch, {each}"
        raise InputError(name, expected, f"shape {tuple(values.shape)}")
    return wide.expand(len(wide), *shape[1:])


def broadcast_radius(
    name: str, eps: float | Tensor, shape: Sequence[int], like: Tensor, by_feature: bool
) -> float | Tensor:
    """A radius for inputs ``shape`` (rows, *features): a number, or one a sample, (1 or rows,).

    With ``by_feature`` also one for each feature, as in `broadcast`; (n,) is always one a sample.

    Raises:
        InputError: (of ``name``) it is in no such shape.
    """
    if not isinstance(eps, Tensor):
        return eps
    eps = eps.to(like)
    if eps.ndim == 0 or (eps.ndim == 1 and len(eps) in (1, shape[0])):
        return eps
    if eps.ndim == len(shape) and eps.numel() == len(eps) and len(eps) in (1, shape[0]):
        return eps.flatten()
    if by_feature and eps.ndim > 1:
        return broadcast(name, eps, shape, like)
    more = f", or one a feature, shape {(1, *shape[1:])} or {tuple(shape)}" if by_feature else ""
    raise InputError(name, f"a number, or one a sample, shape ({shape[0]},){more}", f"shape {tuple(eps.shape)}")


def check_shapes(name: str, other: str, first: float | Tensor, second: float | Tensor) -> None:
    """Raise `InputError` (of ``name``) where two tensors cannot be of the same inputs."""
    shapes = [tuple(values.shape) for values in (first, second) if isinstance(values, Tensor)]
    try:
        torch.broadcast_shapes(*shapes)
    except RuntimeError as error:
        raise InputError(name, f"a shape that fits that of {other}, {shapes[1]}", f"shape {shapes[0]}") from error


def take_rows(values, rows: Tensor):
    """Index values for each sample; numbers and tensors that all samples share stay."""
    return values[rows] if isinstance(values, Tensor) and values.ndim and len(values) > 1 else values
