"""Gradients by reverse-mode autograd, and what a network must not do for them to be right."""

from __future__ import annotations

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

from latentopt.errors import InputError


def gradients(value: Tensor, inputs: Sequence[Tensor], unused: bool = False) -> tuple[Tensor, ...]:
    """Gradients of the sum of ``value`` (B,) with respect to each of ``inputs``.

    Args:
        value: (B,).
        inputs: tensors that it depends on.
        unused: some it may not depend on; their gradients are 0.

    Raises:
        InputError: the network uses `torch.utils.checkpoint` in its reentrant form, which has no such gradients.
    """
    ones = torch.ones_like(value)
    try:
        return torch.autograd.grad(value, inputs, ones, allow_unused=unused or None, materialize_grads=unused)
    except RuntimeError as error:
        if "use_reentrant" not in str(error) and not str(error).startswith("Checkpointing is not compatible"):
            raise
        came = "one that calls torch.utils.checkpoint with use_reentrant=True"
        raise InputError("network", "one whose checkpoints have use_reentrant=False, or none", came) from error


def require_no_checkpoint(came: str) -> None:
    """Raise `InputError` within a function that `torch.utils.checkpoint` will call again in the backward pass.

    What is put in an activation's place in the forward pass would not be there the second time.
    """
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():
        return
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "torch.utils.checkpoint":
            expected = "one without torch.utils.checkpoint (which computes activations again) where gates are driven"
            raise InputError("network", expected, came)
        frame = frame.f_back
