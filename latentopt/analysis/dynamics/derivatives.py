"""The derivative of a number that may not depend on where it is taken."""

from __future__ import annotations

import torch
from torch import Tensor


def derivative(of: Tensor, at: Tensor, direction: Tensor | None = None, graph: bool = False) -> Tensor:
    """Of ``of`` at ``at``, in the shape of ``at``; 0 where one does not depend on the other.

    Args:
        of: a number, or with ``direction`` a tensor of its shape.
        direction: what to weigh the entries of ``of`` by.
        graph: keep a graph, to differentiate again. The graph of ``of`` is kept in any case.
    """
    if not of.requires_grad:
        return torch.zeros_like(at)
    (found,) = torch.autograd.grad(of, at, direction, retain_graph=True, create_graph=graph, allow_unused=True)
    return torch.zeros_like(at) if found is None else found
