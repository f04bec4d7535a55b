"""What a pretrained network expects and returns: classifiers, and what holds for every network."""

from __future__ import annotations

import copy
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from latentopt.batch_math import take
from latentopt.errors import InputError, positive

M = TypeVar("M", bound=nn.Module)


@dataclass
class _Held:
    """A module or a parameter that is frozen."""

    part: nn.Module | Tensor  # kept alive, so that its id is its own
    state: bool  # whether it was training, or took gradients, before
    holders: int = 0


class Classifier(nn.Module):
    """A pretrained classifier: inputs in their own units in, logits out.

    Args:
        module: maps normalised inputs (B, *shape) to logits (B, K); or, of two classes, to one logit (B, 1), > 0 where
            the second is predicted, which becomes the pair (0, logit).
        mean: what the module expects to be subtracted, in the inputs' units: a number, or one for each channel.
        std: what it then expects to be divided by, > 0.
        input_range: (low, high) of valid inputs, two numbers for all channels; pixels in [0, 1] by default.
            Perturbations are in its units too.
        input_shape: shape of one input, where it is known.
        classes: names of the K classes, where they are known.

    Raises:
        InputError: `input_range` is empty, `std` is not positive, or `mean` and `std` are of unequal lengths.

    >>> Classifier(nn.Flatten(), mean=(0.5, 0.5), std=0.25)(torch.ones(1, 2, 1, 1))
    tensor([[2., 2.]])
    """

    mean: Tensor  # () or (C,)
    std: Tensor  # () or (C,)

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        input_range: tuple[float, float] = (0.0, 1.0),
        input_shape: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        tensors = {name: torch.as_tensor(value).to(like(module)) for name, value in (("mean", mean), ("std", std))}
        for name, tensor in tensors.items():
            if tensor.ndim > 1 or not bool(tensor.isfinite().all()):
                raise InputError(name, "a finite number, or one for each channel", tensor.tolist())
        if not bool((tensors["std"] > 0).all()):
            raise InputError("std", "numbers > 0", tensors["std"].tolist())
        if len({tensor.shape for tensor in tensors.values() if tensor.ndim}) > 1:
            raise InputError("std", f"as many numbers as mean has, {len(tensors['mean'])}", len(tensors["std"]))
        for size in input_shape or ():
            positive("input_shape", size, integer=True)
        self.module, self.input_range = module, check_range(input_range)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        self.classes = None if classes is None else tuple(classes)
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, K) of inputs ``x`` (B, *shape) in `input_range`; with channels first, where there are some."""
        mean, std = (t.reshape(-1, *[1] * (x.ndim - 2)) if t.ndim else t for t in (self.mean, self.std))
        logits = self.module((x - mean) / std)
        if isinstance(logits, Tensor) and logits.ndim == 2 and logits.shape[1] == 1:
            return logits * logits.new_tensor([0.0, 1.0])  # the softmax of (0, z) is the sigmoid of z
        return logits

    def take(self, rows: Tensor) -> Classifier:
        """The classifier of the samples ``rows`` (long), where its module is another for each of them."""
        module = take(self.module, rows)
        return self if module is self.module else with_module(self, module)


def with_module(wrapper: M, module: nn.Module) -> M:
    """A copy of a wrapper with another ``module``, which stays as it was otherwise."""
    wrapped = copy.copy(wrapper)
    wrapped._modules = {**wrapper._modules, "module": module}
    return wrapped


class NetworkWarning(UserWarning):
    """Something about a network makes results doubtful: it draws random numbers, or leaves its range."""


def warn(words: str) -> None:
    """A `NetworkWarning` at the line that called this package."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).split(".")[0] in ("latentopt", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(words, NetworkWarning, stacklevel=level)


def randomised(first: Tensor, again: Tensor) -> bool:
    """Whether two outputs (B, ...) of the same inputs differ by more than rounding."""
    first, again = first.flatten(1), again.flatten(1)
    return bool(((first - again).abs().amax(1) > 1e-3 * (1 + first.abs().amax(1))).any())


def randomised_words(name: str, outputs: str) -> str:
    """What is said of a network, the argument ``name``, whose outputs of the same inputs differ."""
    return f"{name}: its {outputs} differ from one call to the next; is it randomised?"


def output_shape(network: Callable[[Tensor], Tensor], x: Tensor, name: str) -> tuple[int, ...]:
    """Shape of one output, found by a forward pass at ``x`` (1, *shape).

    Raises:
        InputError: (of the argument ``name``) the network does not take inputs of this shape.
    """
    return tuple(first_output(network, x, name).shape[1:])


def first_output(network: Callable[[Tensor], Tensor], x: Tensor, name: str) -> Tensor:
    """The output at ``x`` (B, *shape), and errors as `output_shape` has them."""
    try:
        with frozen(network), torch.no_grad():
            return network(x)
    except (RuntimeError, ValueError, IndexError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(name, "the shape the network takes", f"{tuple(x.shape[1:])} ({reason})") from error


def like(module: nn.Module) -> Tensor:
    """An empty tensor in the floating dtype and on the device of a module's parameters (float32 on the CPU without)."""
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return torch.empty(0)


def range_of(model: object) -> tuple[float, float]:
    """The (low, high) of a classifier's valid inputs: its ``input_range``, [0, 1] where it says none.

    Raises:
        InputError: it is not two numbers, the lower first.
    """
    return check_range(getattr(model, "input_range", (0.0, 1.0)))


def check_range(input_range: Iterable[Any]) -> tuple[float, float]:
    """The (low, high) of a range that holds for every channel and feature.

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


def require_eval(network: object) -> None:
    """Raise `InputError` where a network's BatchNorm would mix the samples of a batch."""
    if not isinstance(network, nn.Module):
        return
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            if module.training:
                raise InputError("network", "one in eval mode (call .eval())", f"{name} (BatchNorm) in training mode")
            if module.running_mean is None:
                raise InputError("network", "BatchNorm with running statistics", f"{name} without")


_lock = threading.RLock()
_held: dict[int, _Held] = {}  # by id


@contextmanager
def frozen(network: object) -> Iterator[None]:
    """Within: the module is in eval mode and its parameters take no gradients; afterwards all is as it was.

    It may be frozen several times at once, by the same thread or by others, as a whole or a module within it: what it
    was before the first comes back after the last.
    """
    if not isinstance(network, nn.Module):
        yield
        return
    parts = [*network.modules(), *network.parameters()]
    with _lock:
        for part in parts:
            _hold(part)
        try:
            network.eval()
            for parameter in network.parameters():
                if parameter.requires_grad:
                    parameter.requires_grad_(False)
        except BaseException:
            _release(parts)
            raise
    try:
        yield
    finally:
        _release(parts)


def _hold(part: nn.Module | Tensor) -> None:
    state = part.training if isinstance(part, nn.Module) else part.requires_grad
    _held.setdefault(id(part), _Held(part, state)).holders += 1


def _release(parts: Sequence[nn.Module | Tensor]) -> None:
    with _lock:
        for part in parts:
            held = _held[id(part)]
            held.holders -= 1
            if held.holders:
                continue
            del _held[id(part)]
            if isinstance(part, nn.Module):
                part.training = held.state
            elif part.requires_grad != held.state:
                part.requires_grad_(held.state)
