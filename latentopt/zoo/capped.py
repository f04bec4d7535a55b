"""Capped ReLUs (Sooksatra, Hamerly, Rivas 2024, arXiv 2405.03777): ``max(0, min(z, beta))``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from latentopt.autodiff import require_no_checkpoint
from latentopt.errors import InputError, nonnegative, positive
from latentopt.gates import Activation, OnGates, require_gates


class CappedReLU(nn.Module):
    """A ReLU with a cap, ``max(0, min(z, beta))``.

    Args:
        beta: the cap, > 0.

    Raises:
        InputError: the cap is not positive and finite.

    >>> import torch
    >>> CappedReLU(2.0)(torch.tensor([-1.0, 1.0, 3.0]))
    tensor([0., 1., 2.])
    """

    def __init__(self, beta: float) -> None:
        super().__init__()
        self.beta = _validate(beta)

    def forward(self, z: Tensor) -> Tensor:
        return F.hardtanh(z, 0.0, self.beta)

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}"


class Capped(nn.Module):
    """A network with capped ReLUs, all or some of them, around a network that stays unchanged.

    Args:
        module: maps (B, *shape) to (B, *out), each sample by itself.
        beta: the cap, > 0.
        layers: numbers of the capped sites (`latentopt.gates.sites`), all of them ReLUs; default every ReLU.

    Raises:
        InputError: the cap is not positive and finite; or, when it is called, there is no such site, it is no ReLU, or
            there is no ReLU at all.

    >>> import torch
    >>> capped = Capped(nn.Sequential(nn.Linear(1, 1), nn.ReLU()), beta=0.5)
    >>> capped(torch.full((1, 1), 1e3)).max().item() <= 0.5
    True
    """

    def __init__(self, module: nn.Module, beta: float, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        for layer in layers or ():
            nonnegative("layers", layer, integer=True)
        self.module, self.beta = module, _validate(beta)
        self.layers = None if layers is None else tuple(layers)

    def forward(self, x: Tensor) -> Tensor:
        with _Capping(self.beta, len(x), self.layers) as mode:
            output = self.module(x)
        require_gates(mode)
        if not mode.capped:
            raise InputError("module", "a network that calls ReLUs", "one without")
        return output

    def extra_repr(self) -> str:
        return f"beta={self.beta:g}, layers={self.layers or 'all'}"


class _Capping(OnGates):
    """Replaces each call of a ReLU by a capped one, in place where the ReLU is; outer gate modes see the capped one.

    The number of rows may vary, as an outer dual pass may double the batch.
    """

    def __init__(self, beta: float, rows: int, layers: Collection[int] | None) -> None:
        super().__init__(self._pass_on, rows, layers)
        self.beta, self.capped = beta, 0

    def _activation(self, name: str, in_place: bool, func: Callable, args: tuple, kwargs: dict[str, Any]):
        h, rest = (args[0], args[1:]) if args else (kwargs["input"], ())
        if name != "relu" or isinstance(h, nn.Parameter):
            return super()._activation(name, in_place, func, args, kwargs)
        site, self.sites = self.sites, self.sites + 1
        if self.layers is not None and site not in self.layers:
            return func(*args, **kwargs)
        require_no_checkpoint(f"site {site} within one")
        self.driven, self.capped = self.driven + 1, self.capped + 1
        return F.hardtanh(h, 0.0, self.beta, in_place or kwargs.get("inplace", bool(rest and rest[0])))

    def _pass_on(self, site: int, h: Tensor, activation: Activation, real: Callable[[Tensor], Tensor]) -> Tensor:
        if self.layers is not None:
            raise InputError("layers", "numbers of ReLUs", f"{site}, a {activation.kind}")
        return real(h)


def _validate(beta: float) -> float:
    positive("beta", beta)
    if beta == float("inf"):
        raise InputError("beta", "a finite cap", beta)
    return float(beta)
