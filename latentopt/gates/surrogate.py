"""The real network and its gated surrogate in one pass (eq. 6 of arXiv 2406.00494)."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import torch
from torch import Tensor

from latentopt.errors import InputError
from latentopt.gates.activations import SITES, Activation
from latentopt.gates.mode import Network, OnGates, Rule, require_gates
from latentopt.networks.outputs import COPIES

Switch = Callable[[int, Tensor], Tensor]
"""Maps ``(index, z)`` to a replacement of ``relu(z)``; z is (2 B, *site), its first half the real network's."""


class Dual(NamedTuple):
    """The real network and its gated surrogate at the same inputs."""

    real: Tensor  # (B, *out) f(x)
    gated: Tensor  # (B, *out) f~(x, eta)


def dual(network: Network, x: Tensor, switch: Switch, layers: Collection[int] | None = None) -> Dual:
    """Evaluate both networks in one pass: the first half of the batch is the real one, the second the surrogate.

    Args:
        network: maps (B, *features) to (B, *out), each sample by itself.
        x: (B, *features).
        switch: computes both halves of every switch of ``layers``, by its index (eq. 6 of arXiv 2406.00494).
        layers: gated sites; others stay activations. If the first site is not gated, both networks share one pass up
            to the first that is. None: all.

    Returns:
        Both outputs, each (B, *out).

    Raises:
        InputError: there is no such site, or the two halves cannot be brought together behind it.
    """
    index = 0

    def rule(site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        nonlocal index
        switched = [switch(index + k, z) for k, z in enumerate(activation.switches(h))]
        index += len(switched)
        return activation.join(h, switched)

    half = len(x)
    late = layers is not None and 0 not in layers
    token = COPIES.set(2 if late else 1)
    try:
        with (_ForkedPass if late else OnGates)(rule, half if late else 2 * half, layers) as mode:
            output = network(x if late else torch.cat([x, x]))
    finally:
        COPIES.reset(token)
    require_gates(mode, network)
    if len(output) != 2 * half:
        raise InputError("layers", "sites that the output depends on", sorted(layers or ()))
    return Dual(output[:half], output[half:])


class _ForkedPass(OnGates):
    """A pass with one batch up to the driven sites, and with two from there.

    A tensor from before the fork that meets a later one (a skip connection) is doubled too. If it is changed in place
    there, all who hold it get the doubled one.
    """

    _MERGING = {
        *("add", "radd", "sub", "rsub", "mul", "rmul", "div", "rdiv", "truediv", "rtruediv", "addcmul", "addcdiv"),
        *("cat", "concat", "stack", "maximum", "minimum", "max", "min", "where", "lerp", "bmm", "baddbmm"),
    }

    def __init__(self, rule: Rule, rows: int, layers: Collection[int] | None) -> None:
        super().__init__(rule, rows, layers)
        self.batch = rows
        self.twins: dict[int, tuple[Tensor, Any]] = {}  # by id: a tensor from before the fork, and its doubled form

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if not self.driven:
            return super().__torch_function__(func, types, args, kwargs)
        name = getattr(func, "__name__", "").split(".")[0]
        args, kwargs = _map(self._twin, (args, kwargs or {}))
        if name.strip("_") not in self._MERGING:
            return super().__torch_function__(func, types, args, kwargs)
        wide: set[int] = set()
        _map(lambda part: wide.add(part.ndim) if self._is_batch(part, 2) else None, (args, kwargs))
        doubled, kwargs = _map(lambda part: self._doubled(part, wide), (args, kwargs))
        output = super().__torch_function__(func, types, doubled, kwargs)
        if name.endswith("_") and not name.startswith("_") and doubled[0] is not args[0]:
            self.twins[id(args[0])] = args[0], output
        return output

    def _activation(self, name: str, in_place: bool, func, args: tuple, kwargs: dict[str, Any]):
        named = dict(kwargs)
        h, rest = (args[0], args[1:]) if args else (named.pop("input"), ())
        self.rows = 2 * self.batch if self._is_batch(h, 2) else self.batch
        early = self.rows == self.batch and self._is_site(name, h, *rest, *named.values())
        if not (early and self.layers is not None and self.sites in self.layers):
            return super()._activation(name, in_place, func, (h, *rest), named)
        self.rows = 2 * self.batch
        output = super()._activation(name, in_place, func, (torch.cat([h, h]), *rest), named)
        if in_place or SITES[name](h, *rest, **named).in_place:
            h.copy_(output[: self.batch])
            self.twins[id(h)] = h, output
        return output

    def _is_batch(self, part: object, copies: int) -> bool:
        return isinstance(part, Tensor) and part.shape[:1] == (copies * self.batch,)

    def _twin(self, part):
        return self.twins.get(id(part), (part, part))[1]

    def _doubled(self, part, wide: Collection[int]):
        return torch.cat([part, part]) if self._is_batch(part, 1) and part.ndim in wide else part


def _map(function: Callable, part):
    """Apply a function to all leaves of nested tuples, lists and dictionaries."""
    if isinstance(part, tuple):
        return tuple(_map(function, item) for item in part)
    if isinstance(part, list):
        return [_map(function, item) for item in part]
    if isinstance(part, dict):
        return {key: _map(function, item) for key, item in part.items()}
    return function(part)
