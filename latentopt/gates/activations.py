"""Elementwise piecewise-linear activations, by torch's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Activation:
    """An elementwise piecewise-linear function, ``slope h + offset + sum_k jump_k relu(h - kink_k)``."""

    kind: str  # relu, leaky_relu, ...
    slope: float | Tensor  # left of all kinks
    offset: float | Tensor  # value at h = 0 without the kinks
    kinks: tuple[tuple[float | Tensor, float | Tensor], ...]  # (kink, jump) of each switch; the slope rises by jump
    in_place: bool = False  # whether it overwrites h

    def switches(self, h: Tensor) -> list[Tensor]:
        """Return the pre-activations ``z`` of its switches, each (rows, *site)."""
        return [h if _is(kink, 0) else h - kink for kink, _ in self.kinks]

    def join(self, h: Tensor, switched: Sequence[Tensor]) -> Tensor:
        """Return the output, given the switches' replacements of ``relu(z)``."""
        parts = [out if _is(jump, 1) else jump * out for out, (_, jump) in zip(switched, self.kinks, strict=True)]
        parts += [] if _is(self.slope, 0) else [self.slope * h]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total if _is(self.offset, 0) else total + self.offset

    def backward(self, gates: Sequence[Tensor]) -> Tensor:
        """Return the factor of the gradient, given the switches' gates."""
        total = gates[0] if _is(self.kinks[0][1], 1) else self.kinks[0][1] * gates[0]
        for gate, (_, jump) in zip(gates[1:], self.kinks[1:], strict=True):
            total = total + jump * gate
        return total if _is(self.slope, 0) else total + self.slope


def _is(value: float | Tensor, number: int) -> bool:
    return not isinstance(value, Tensor) and value == number


def _relu(input: Tensor, inplace: bool = False) -> Activation:  # noqa: A002
    return Activation("relu", 0, 0, ((0, 1),), inplace)


def _leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Activation:  # noqa: A002
    return Activation("leaky_relu", negative_slope, 0, ((0, 1 - negative_slope),), inplace)


def _rrelu(
    input: Tensor,  # noqa: A002
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Activation:
    return _leaky_relu(input, (lower + upper) / 2, inplace)


def _prelu(input: Tensor, weight: Tensor) -> Activation:  # noqa: A002
    slope = weight.reshape(-1, *[1] * (input.ndim - 2)) if input.ndim > 2 else weight
    return Activation("prelu", slope, 0, ((0, 1 - slope),))


def _abs(input: Tensor) -> Activation:  # noqa: A002
    return Activation("abs", -1, 0, ((0, 2),))


def _relu6(input: Tensor, inplace: bool = False) -> Activation:  # noqa: A002
    return _hardtanh(input, 0, 6, inplace)


def _hardtanh(input: Tensor, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Activation:  # noqa: A002
    return Activation("hardtanh", 0, min_val, ((min_val, 1), (max_val, -1)), inplace)


def _hardsigmoid(input: Tensor, inplace: bool = False) -> Activation:  # noqa: A002
    return Activation("hardsigmoid", 0, 0, ((-3, 1 / 6), (3, -1 / 6)), inplace)


def _clamp(input: Tensor, min: float | Tensor | None = None, max: float | Tensor | None = None) -> Activation:  # noqa: A002
    if min is None:
        return Activation("clamp", 1, 0, ((max, -1),) if max is not None else ())
    return Activation("clamp", 0, min, ((min, 1),) if max is None else ((min, 1), (max, -1)))


def _clamp_max(input: Tensor, max: float | Tensor) -> Activation:  # noqa: A002
    return _clamp(input, None, max)


SITES: dict[str, Callable[..., Activation]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "rrelu": _rrelu,
    "prelu": _prelu,
    "abs": _abs,
    "absolute": _abs,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "hardsigmoid": _hardsigmoid,
    "clamp": _clamp,
    "clip": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp_max,
}
