"""Functions of tensors traced with their derivatives into one graph each, and compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Compiled:
    """Calls functions in compiled form; each is traced at its first call, with the shapes it then gets.

    A trace holds the tensors and numbers that a function has from elsewhere (weights, targets, settings) as they were
    then: whatever changes from call to call must be an argument, a tensor or a tuple of tensors, in shapes that follow
    from that of the first.
    """

    def __init__(self) -> None:
        self.functions: dict[tuple[int, torch.Size], tuple[object, Callable[..., Any]]] = {}

    def __call__(self, owner: object, function: Callable[..., Any], *args: Any) -> Any:
        """``function(*args)``; ``owner`` tells it from others."""
        key = (id(owner), args[0].shape)
        if key not in self.functions:
            from torch.fx.experimental.proxy_tensor import make_fx  # imports the compiler, seconds

            graph = make_fx(lambda *args: function(*args))(*args)
            self.functions[key] = owner, torch.compile(graph, dynamic=False)  # the owner must live, else its id may not
        with torch.no_grad():
            return self.functions[key][1](*args)
