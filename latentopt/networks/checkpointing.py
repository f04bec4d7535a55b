"""Gradient checkpointing: activations within blocks are computed again in the backward pass, gates included."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from contextvars import ContextVar
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint as torch_checkpoint

Resume = Callable[[], AbstractContextManager[Any]]
MODES: ContextVar[tuple[Callable[[], Resume], ...]] = ContextVar("MODES", default=())
"""For each function mode that is on: returns what resumes it, in a second pass, from where it is now."""
RESUMED: ContextVar[bool] = ContextVar("RESUMED", default=False)
"""True within a block whose second pass resumes the modes."""


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return ``function(*args, **kwargs)``, whose activations are computed again for its gradient."""
    if not torch.is_grad_enabled():
        return function(*args, **kwargs)
    resumes = [mode() for mode in MODES.get()]

    @contextmanager
    def again() -> Iterator[None]:
        with ExitStack() as stack:
            for resume in resumes:
                stack.enter_context(resume())
            yield

    token = RESUMED.set(True)
    try:
        return torch_checkpoint(
            function, *args, use_reentrant=False, context_fn=lambda: (nullcontext(), again()), **kwargs
        )
    finally:
        RESUMED.reset(token)


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a module: the members of its outermost sequences that have several."""
    if isinstance(module, nn.Sequential | nn.ModuleList) and len(module) > 1:
        yield from module
    else:
        for child in module.children():
            yield from blocks(child)


def checkpointed(module: nn.Module) -> nn.Module:
    """Return a copy that shares the weights, and checkpoints each of its `blocks`; its outputs are equal."""
    shared = {id(tensor): tensor for tensor in (*module.parameters(), *module.buffers())}
    copied = copy.deepcopy(module, shared)
    for block in list(blocks(copied)):
        block.forward = partial(checkpoint, block.forward)
    return copied
