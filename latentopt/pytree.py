"""What a method remembers between steps, as the loop handles it: rows taken, rows replaced, written down and read back.

A state is a tensor with a leading batch dimension, a number that all rows share, or a (named) tuple of states.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor


def take(state: Any, rows: Tensor) -> Any:
    """The rows ``rows`` (mask or indices) of every tensor; what all rows share stays."""
    if isinstance(state, Tensor):
        return state[rows]
    return _same_type(state, [take(part, rows) for part in state]) if isinstance(state, tuple) else state


def set_rows(state: Any, fresh: Any, rows: Tensor) -> Any:
    """The state, the rows ``rows`` (mask) of its tensors replaced by those of ``fresh``; what all rows share stays.

    Where ``fresh`` has () because shapes show only in the first step, the method itself knows its new rows.
    """
    if isinstance(state, Tensor):
        return state.index_put((rows,), fresh)
    if isinstance(state, tuple) and len(state) == len(fresh):
        return _same_type(state, [set_rows(part, new, rows) for part, new in zip(state, fresh, strict=True)])
    return state


def encode(state: Any, tensors: dict[str, Tensor]) -> Any:
    """A state as JSON, its tensors put into ``tensors``; also of a dictionary of states."""
    if isinstance(state, Tensor):
        dense = state.detach().clone()
        tensors[name := str(len(tensors))] = dense.cpu().contiguous()
        return {"tensor": name, "strides": dense.stride()}  # the order of sums hangs on them
    if isinstance(state, tuple):
        return [encode(part, tensors) for part in state]
    return {"dict": {k: encode(part, tensors) for k, part in state.items()}} if isinstance(state, dict) else state


def decode(code: Any, tensors: dict[str, Tensor], template: Any, device: torch.device) -> Any:
    """What `encode` was given; ``template`` has its named tuples, and may have shorter plain tuples."""
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
