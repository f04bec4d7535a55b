"""Pretrained classifiers: inputs in their own units in, logits out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError, positive
from latentopt.networks.checks import empty_like_parameters
from latentopt.networks.outputs import Pick, WrappedModule, as_logits


class Classifier(WrappedModule):
    """A pretrained classifier, from inputs in their own units to logits.

    Args:
        module: maps normalised inputs (B, *shape) to logits (B, K), or several outputs of which these are one; a module
            or a function. For two classes it may be one logit (B, 1), > 0 where the second is predicted, which becomes
            the pair (0, logit).
        mean: mean that the module expects to be subtracted, in the inputs' units: a number, or one for each channel.
        std: standard deviation that it then expects to be divided by, > 0; shaped like ``mean``.
        input_range: (low, high) of valid inputs, two numbers for all channels. Perturbations are in its units too.
        input_shape: shape of one input; None: unknown.
        classes: names of the K classes; None: unknown.
        pick: choice among several outputs: an index, a name, or a function of all that the module returns. None: the
            first tensor.

    Raises:
        InputError: `input_range` is empty, `std` is not positive, or `mean` and `std` are of unequal lengths.

    >>> Classifier(nn.Flatten(), mean=(0.5, 0.5), std=0.25)(torch.ones(1, 2, 1, 1))
    tensor([[2., 2.]])
    """

    argument = "model"
    mean: Tensor  # () or (C,)
    std: Tensor  # () or (C,)

    def __init__(
        self,
        module: Callable[..., Any],
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        input_range: tuple[float, float] = (0.0, 1.0),
        input_shape: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        pick: Pick | None = None,
    ) -> None:
        super().__init__(module, pick)
        tensors = {
            name: torch.as_tensor(value).to(empty_like_parameters(module))
            for name, value in (("mean", mean), ("std", std))
        }
        for name, tensor in tensors.items():
            if tensor.ndim > 1 or not bool(tensor.isfinite().all()):
                raise InputError(name, "a finite number, or one for each channel", tensor.tolist())
        if not bool((tensors["std"] > 0).all()):
            raise InputError("std", "numbers > 0", tensors["std"].tolist())
        if len({tensor.shape for tensor in tensors.values() if tensor.ndim}) > 1:
            raise InputError("std", f"as many numbers as mean has, {len(tensors['mean'])}", len(tensors["std"]))
        for size in input_shape or ():
            positive("input_shape", size, integer=True)
        self.input_range = check_range(input_range)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.classes = None if classes is None else tuple(classes)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x: inputs (B, *shape) in `input_range`, channels first.

        Returns:
            (B, K).
        """
        mean, std = (t.reshape(-1, *[1] * (x.ndim - 2)) if t.ndim else t for t in (self.mean, self.std))
        return as_logits(self.evaluate(len(x), (x - mean) / std), x)

    def take(self, rows: Tensor) -> Classifier:
        """Return the classifier of some samples, if its module differs between samples.

        Args:
            rows: (count,) long, indices of samples.

        Returns:
            The classifier for a batch of ``count``.
        """
        module = take(self.module, rows)
        return self if module is self.module else self.with_module(module)


def range_of(model: object) -> tuple[float, float]:
    """Return the (low, high) of a classifier's valid inputs: its ``input_range``, else [0, 1].

    Raises:
        InputError: it is not two numbers, the lower first.
    """
    return check_range(getattr(model, "input_range", (0.0, 1.0)))


def check_range(input_range: Iterable[Any]) -> tuple[float, float]:
    """Return the (low, high) of a range for all channels and features.

    Raises:
        InputError: it is not two numbers, the lower first; one for each channel is not supported.
    """
    try:
        low, high = (each.item() if hasattr(each, "item") else each for each in input_range)
        if isinstance(low, Real) and isinstance(high, Real) and low < high:
            return float(low), float(high)
    except (TypeError, ValueError, RuntimeError):  # not two, or several numbers each
        pass
    came = " ".join(str(input_range).split())
    raise InputError("input_range", "(low, high), two numbers with low < high, the same for all channels", came)
