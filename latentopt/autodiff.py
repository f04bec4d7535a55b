"""Reverse-mode gradients and forward-mode directional derivatives of a batch."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, wraps
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor

from latentopt.errors import InputError, first_line

C = TypeVar("C", bound=Callable[..., Any])


def outside_inference_mode(function: C) -> C:
    """Return the function, run outside `torch.inference_mode`, which has no gradients.

    Tensors among its arguments that were made in that mode are copied.
    """

    def normal(value: Any) -> Any:
        return value.clone() if isinstance(value, Tensor) and value.is_inference() else value

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            return function(*map(normal, args), **{name: normal(value) for name, value in kwargs.items()})

    return call  # pyright: ignore[reportReturnType]


def gradients(
    value: Tensor, inputs: Sequence[Tensor], unused: bool = False, argument: str = "network"
) -> tuple[Tensor, ...]:
    """Return the gradients of the sum of ``value`` (B,) with respect to each of ``inputs``.

    Args:
        value: values (B,).
        inputs: tensors that they depend on.
        unused: whether inputs are allowed that they do not depend on; their gradients are 0.
        argument: name of the argument that the network is, for messages.

    Raises:
        InputError: the values do not depend on ``inputs``; or the network uses `torch.utils.checkpoint` in its
            reentrant form, which has no such gradients.
    """
    ones = torch.ones_like(value)
    try:
        return torch.autograd.grad(value, inputs, ones, allow_unused=unused or None, materialize_grads=unused)
    except RuntimeError as error:
        if "not have been used in the graph" in str(error):
            refuse_gradient(argument)
        if "use_reentrant" not in str(error) and not str(error).startswith("Checkpointing is not compatible"):
            raise
        got = "one that calls torch.utils.checkpoint with use_reentrant=True"
        raise InputError("network", "one whose checkpoints have use_reentrant=False, or none", got) from error


def require_gradient(output: Tensor, argument: str) -> None:
    """Raise `InputError` unless the output of the function ``argument`` has a gradient."""
    if not output.requires_grad:
        refuse_gradient(argument)


def refuse_gradient(argument: str) -> NoReturn:
    """Raise `InputError` of the function ``argument``, whose output has no gradient."""
    expected = "a differentiable output (cma-es, cem, square and random-shooting need none)"
    got = "one without a gradient (is there torch.no_grad, detach, rounding or a cast to integers in it?)"
    raise InputError(argument, expected, got)


def require_no_checkpoint(got: str) -> None:
    """Raise `InputError` inside a function that `torch.utils.checkpoint` will call again in the backward pass.

    A gate that replaces an activation in the forward pass would not replace it in that second call.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            expected = "one without torch.utils.checkpoint (which computes activations again) where gates are driven"
            raise InputError("network", expected, got)
        frame = frame.f_back


def jvp(function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """Return a function's value at ``x`` and its directional derivative along ``tangent``, in one pass.

    Raises:
        InputError: the network has an operation without a forward-mode derivative.

    >>> jvp(torch.square, torch.tensor(3.0), torch.tensor(1.0))
    (tensor(9.), tensor(6.))
    """
    _load_forward_mode()
    try:
        value, slope = torch.func.jvp(function, (x,), (tangent,))[:2]
    except (NotImplementedError, RuntimeError) as error:
        if not any(word in str(error) for word in ("forward AD", "jvp", "forward mode", "setup_context")):
            raise
        reason = first_line(error)
        raise InputError("network", "operations that have a forward-mode derivative", reason) from error
    return value, slope


@cache
def _load_forward_mode() -> None:
    """Load torch's forward mode, whose first use warns of its own deprecated calls."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", FutureWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))
