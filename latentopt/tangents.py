"""Forward-mode differentiation: how an output changes along a direction."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from latentopt.errors import InputError


def jvp(function: Callable[[Tensor], Tensor], x: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
    """A network's function at ``x`` and its directional derivative along ``tangent``, in one pass.

    Raises:
        InputError: the network has an operation without a forward-mode derivative.

    >>> jvp(torch.square, torch.tensor(3.0), torch.tensor(1.0))
    (tensor(9.), tensor(6.))
    """
    _load()
    try:
        value, slope = torch.func.jvp(function, (x,), (tangent,))[:2]
    except (NotImplementedError, RuntimeError) as error:
        if not any(word in str(error) for word in ("forward AD", "jvp", "forward mode", "setup_context")):
            raise
        reason = str(error).splitlines()[0]
        raise InputError("network", "operations that have a forward-mode derivative", reason) from error
    return value, slope


@cache
def _load() -> None:
    """Loaded at its first use, torch's forward mode warns of something that is its own affair."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit.script", FutureWarning)
        torch.func.jvp(torch.sin, (torch.zeros(1),), (torch.zeros(1),))
