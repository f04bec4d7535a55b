"""Compilation of functions of tensors, each traced with its derivatives into one graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class Compiled:
    """Functions in compiled form; each is traced at its first call, with the shapes of that call.

    A trace holds the other tensors and numbers that a function uses (weights, targets, settings) as they were then.
    Anything that changes between calls must be an argument, a tensor or a tuple of tensors, in a shape that follows
    from that of the first.
    """

    def __init__(self) -> None:
        self.functions: dict[tuple[int, torch.Size], tuple[object, Callable[..., Any]]] = {}

    def __call__(self, key: object, function: Callable[..., Any], *args: Any) -> Any:
        """Return ``function(*args)``; one object ``key`` stands for one function."""
        entry = (id(key), args[0].shape)
        if entry not in self.functions:
            from torch.fx.experimental.proxy_tensor import make_fx  # imports the compiler, seconds

            graph = make_fx(lambda *args: function(*args))(*args)
            self.functions[entry] = key, torch.compile(graph, dynamic=False)  # holds the key, so that its id stays its
        with torch.no_grad():
            return self.functions[entry][1](*args)
