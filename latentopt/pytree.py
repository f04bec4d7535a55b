"""Index, update and serialise nested optimiser states (pytrees with a leading row dimension).

A state is a tensor (rows, ...), a number that all rows share, or a (named) tuple of states.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor


def take(state: Any, rows: Tensor) -> Any:
    """Return the state of the rows ``rows`` (mask or indices); numbers stay."""
    if isinstance(state, Tensor):
        return state[rows]
    return _same_type(state, [take(part, rows) for part in state]) if isinstance(state, tuple) else state


def set_rows(state: Any, fresh: Any, rows: Tensor) -> Any:
    """Return the state with the rows ``rows`` (mask) replaced by those of ``fresh``; numbers stay.

    A part stays if ``fresh`` has () for it, as its shape shows only in the first step; the method adapts new rows then.
    """
    if isinstance(state, Tensor):
        return state.index_put((rows,), fresh)
    if isinstance(state, tuple) and len(state) == len(fresh):
        return _same_type(state, [set_rows(part, new, rows) for part, new in zip(state, fresh, strict=True)])
    return state


def encode(state: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a state, or a dictionary of states, as JSON; its tensors are added to ``tensors`` by name."""
    if isinstance(state, Tensor):
        dense = state.detach().clone()
        tensors[name := str(len(tensors))] = dense.cpu().contiguous()
        return {"tensor": name, "strides": dense.stride()}  # the order of sums depends on them
    if isinstance(state, tuple):
        return [encode(part, tensors) for part in state]
    return {"dict": {k: encode(part, tensors) for k, part in state.items()}} if isinstance(state, dict) else state


def decode(code: Any, tensors: dict[str, Tensor], template: Any, device: torch.device) -> Any:
    """Return the state that `encode` was given.

    Args:
        code: JSON that `encode` returned.
        tensors: tensors by name.
        template: a state with the same named tuples; its plain tuples may be shorter.
        device: device of the state's tensors.
    """
    if isinstance(code, list):
        parts = template if isinstance(template, tuple) else ()
        return _same_type(template, [decode(c, tensors, part, device) for c, part in zip_longest(code, parts)])
    if not isinstance(code, dict):
        return code
    if "dict" in code:
        return {name: decode(part, tensors, None, device) for name, part in code["dict"].items()}
    flat = tensors[code["tensor"]]
    return torch.empty_strided(flat.shape, code["strides"], dtype=flat.dtype, device=device).copy_(flat)


def _same_type(like: Any, parts: list[Any]) -> tuple[Any, ...]:
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)
