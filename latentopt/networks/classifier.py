"""Pretrained classifiers: inputs in their own units in, logits out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor

from latentopt.arguments import Values, as_tensor, as_values, checked
from latentopt.batch_math import cpu_tensor, take
from latentopt.errors import InputError, as_shape
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
        input_range: (low, high) of valid inputs, each a number, one for each channel, or values that broadcast to one
            input, such as those of a table's columns. Perturbations are in its units too.
        input_shape: shape of one input; None: unknown.
        classes: names of the K classes; None: unknown.
        pick: choice among several outputs: an index, a name, or a function of all that the module returns. None: the
            first tensor.

    Raises:
        InputError: `input_range` is empty, `std` is not positive, or `mean` and `std` are of unequal lengths.

    >>> import torch
    >>> Classifier(torch.nn.Flatten(), mean=(0.5, 0.5), std=0.25)(torch.ones(1, 2, 1, 1))
    tensor([[2., 2.]])
    """

    argument = "model"
    mean: Tensor  # () or (C,)
    std: Tensor  # () or (C,)

    @checked
    def __init__(
        self,
        module: Callable[..., Any],
        *,
        mean: Values = 0.0,
        std: Values = 1.0,
        input_range: Any = (0.0, 1.0),
        input_shape: int | Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        pick: Pick | None = None,
    ) -> None:
        super().__init__(module, pick)
        like = empty_like_parameters(module)
        tensors = {name: _numbers(name, value).to(like) for name, value in (("mean", mean), ("std", std))}
        for name, tensor in tensors.items():
            if tensor.ndim > 1 or not bool(tensor.isfinite().all()):
                raise InputError(name, "a finite number, or one for each channel", tensor.tolist())
        if not bool((tensors["std"] > 0).all()):
            raise InputError("std", "numbers > 0", tensors["std"].tolist())
        if len({tensor.shape for tensor in tensors.values() if tensor.ndim}) > 1:
            raise InputError("std", f"as many numbers as mean has, {len(tensors['mean'])}", len(tensors["std"]))
        self.input_range = check_range(input_range, by_channel=True)
        self.input_shape = None if input_shape is None else as_shape("input_shape", input_shape)
        self.classes = None if classes is None else tuple(classes)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Values) -> Tensor:
        """Compute the logits.

        Args:
            x: inputs (B, *shape) in `input_range`, channels first.

        Returns:
            (B, K).
        """
        if not isinstance(x, Tensor):
            x = as_tensor("x", x, empty_like_parameters(self))
        if not x.ndim:
            raise InputError("x", "inputs (B, *shape)", "shape ()")
        for name, values in (("mean", self.mean), ("std", self.std)):
            if values.ndim and len(values) not in (1, x.shape[1]):
                raise InputError(name, f"a number, or one for each of {x.shape[1]} channels", len(values))
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


Range = tuple[float | Tensor, float | Tensor]
"""Least and greatest valid values: numbers, or tensors that hold one for each channel or feature."""


def range_of(model: object) -> Range:
    """Return the (low, high) of a classifier's valid inputs: its ``input_range``, else [0, 1].

    Raises:
        InputError: it is no such pair, the lower first.
    """
    return check_range(getattr(model, "input_range", (0.0, 1.0)), by_channel=True)


def range_for(model: object, x: Tensor) -> Range:
    """Return what `range_of` does: two numbers, or two tensors in the dtype of inputs ``x`` (B, *shape) that fit one.

    Raises:
        InputError: they do not fit the inputs.
    """
    low, high = range_of(model)
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return _for_inputs(cpu_tensor(low), x), _for_inputs(cpu_tensor(high), x)
    return low, high


def _for_inputs(end: Tensor, x: Tensor) -> Tensor:
    wide, shape = end.reshape(-1, *[1] * (x.ndim - 2)) if end.ndim == 1 else end, tuple(x.shape[1:])
    if wide.ndim > len(shape) or any(a not in (1, b) for a, b in zip(wide.shape[::-1], shape[::-1], strict=False)):
        raise InputError("input_range", f"values for each channel of inputs {shape}", f"shape {tuple(end.shape)}")
    return wide.to(x)


def _numbers(name: str, values: Values) -> Tensor:
    """Return numbers as a tensor, those of Python in torch's default precision."""
    as_values(name, values)  # raises InputError
    return cpu_tensor(values)


def check_range(input_range: Iterable[Any], by_channel: bool = False, name: str = "input_range") -> Range:
    """Return the (low, high) of a range as numbers; with ``by_channel`` also as tensors of several numbers.

    Raises:
        InputError: it is no such pair, the lower first.
    """
    try:
        low, high = (as_values(name, bound) for bound in input_range)
        low, high = (e.item() if isinstance(e, Tensor) and e.numel() == 1 else e for e in (low, high))
        if bool(cpu_tensor(low < high).all()) and (by_channel or not isinstance(low + high, Tensor)):
            return low, high
    except (TypeError, ValueError, RuntimeError):  # not two, or of shapes that do not fit
        pass
    got = " ".join(str(input_range).split())
    several = ", or one for each channel" if by_channel else ", the same for all channels"
    raise InputError(name, f"(low, high), two numbers with low < high{several}", got)
