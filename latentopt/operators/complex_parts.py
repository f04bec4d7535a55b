"""Complex measurements as real numbers: (B, 2, ...), the real and the imaginary parts."""

import torch
from torch import Tensor


def to_parts(values: Tensor) -> Tensor:
    """Return complex values (B, ...) as real numbers (B, 2, ...): the real and the imaginary parts.

    >>> to_parts(torch.tensor([[1 + 2j]])).tolist()
    [[[1.0], [2.0]]]
    """
    return torch.view_as_real(values.resolve_conj()).movedim(-1, 1)


def from_parts(parts: Tensor) -> Tensor:
    """Return real and imaginary parts (B, 2, ...) as complex values (B, ...)."""
    return torch.complex(parts[:, 0], parts[:, 1])


def magnitudes(parts: Tensor) -> Tensor:
    """Return the magnitudes (B, ...) of complex values (B, 2, ...); the gradient at 0 is 0."""
    return torch.linalg.vector_norm(parts, dim=1)
