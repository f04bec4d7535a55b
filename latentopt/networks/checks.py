"""Properties of a network found by evaluating it, and the category of warnings about doubtful ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from latentopt.batch_math import take
from latentopt.errors import InputError, first_line
from latentopt.networks.freezing import frozen
from latentopt.networks.outputs import adapt, module_of


class NetworkWarning(UserWarning):
    """Something about a network makes results doubtful: it draws random numbers, or leaves its range."""


def is_randomised(first: Tensor, again: Tensor) -> bool:
    """Return whether two outputs (B, ...) of the same inputs differ by more than rounding."""
    first, again = first.flatten(1), again.flatten(1)
    return bool(((first - again).abs().amax(1) > 1e-3 * (1 + first.abs().amax(1))).any())


def randomised_message(name: str, outputs: str) -> str:
    """Return the warning about a network, the argument ``name``, whose outputs of the same inputs differ."""
    return f"{name}: its {outputs} differ from one call to the next; is it randomised?"


def output_shape(network: Callable[[Tensor], Tensor], x: Tensor, name: str) -> tuple[int, ...]:
    """Return the shape of one output, by a forward pass at ``x`` (1, *shape).

    Raises:
        InputError: (of the argument ``name``) the network does not take inputs of this shape; or its output is none.
    """
    return tuple(first_output(network, x, name).shape[1:])


def first_output(network: Callable[[Tensor], Tensor], x: Tensor, name: str) -> Tensor:
    """Return the output at ``x`` (B, *shape); errors as in `output_shape`."""
    try:
        with frozen(network), torch.set_grad_enabled(x.requires_grad):
            return adapt(network)(x)
    except (InputError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        reason = first_line(error)
        got = f"shape {tuple(x.shape[1:])}, {str(x.dtype).removeprefix('torch.')} on {x.device.type} ({reason})"
        raise InputError(name, "inputs that the network takes", got) from error


def refuse_fixed_batch(network: Callable[[Tensor], Tensor], x: Tensor, name: str, error: Exception) -> None:
    """Raise `InputError` if an error comes of a network, the argument ``name``, that takes one size of batch alone.

    Args:
        network: it met the error among some of ``x``.
        x: (B, *shape).
        name: name of the argument, for the message.
        error: what the network raised.
    """
    if isinstance(error, torch.OutOfMemoryError) or len(x) < 2:
        return
    try:
        first_output(network, x, name)
    except Exception:  # it takes none
        return
    try:
        first_output(take(network, torch.tensor([0], device=x.device)), x[:1], name)
    except InputError as alone:
        reason = f"{first_line(alone.__cause__ or alone)}); exported with a fixed batch?"
        got = f"one that fails for 1 while it takes {len(x)} ({reason}"
        raise InputError(name, "one that takes any number of inputs", got) from error


def empty_like_parameters(network: object) -> Tensor:
    """Return an empty tensor of the parameters' floating dtype and device; without any, of torch's defaults."""
    for tensor in () if (module := module_of(network)) is None else (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            return torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return torch.empty(0)
