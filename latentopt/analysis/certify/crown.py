"""CROWN: upper bounds of a chain over many boxes at once, by two lines around each ReLU.

CROWN (arXiv 1811.00866): of ``z`` in [l, u] across zero, ``alpha z <= relu(z) <= u (z - l) / (u - l)``, for any alpha
in [0, 1]; alpha-CROWN (arXiv 2011.13824) descends on the alphas. Bounds are float64 and raised by
more than their rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from latentopt.analysis.certify.relu_chain import AffineLayer, ReLUChain

TABLE = 1 << 23
"""Greatest number of entries in the tables of the second layer's lines."""


class ReLULines(NamedTuple):
    """The lines above and below a hidden layer's ReLUs over K boxes."""

    up: Tensor  # (K, n) slope of the upper line, u / (u - l); 1 or 0 where the sign of z is known
    lift: Tensor  # (K, n) its value at zero
    width: Tensor  # (K, n) u - l, where z takes both signs
    on: Tensor  # (K, n) 1 where z >= 0: the least alpha that is of use
    live: Tensor  # (K, n) 1 where z may be > 0: the greatest


class UpperPlane(NamedTuple):
    """An affine function above the chain over each box."""

    bound: Tensor  # (K,) its maximum over the box
    slope: Tensor  # (K, n)
    x: Tensor  # (K, n) the corner with the maximum
    alphas: list[Tensor]  # (K, units) of each hidden layer, float32
    worth: Tensor  # (K, n) the share of the bound's slack due to each side of the box; float32
    undecided: Tensor  # (K,) number of units whose bounds matter and have both signs


class _Layers(NamedTuple):
    """A chain's layers in one precision."""

    hidden: list[AffineLayer]
    back: list[Tensor]  # (in, out) of each, transposed
    row: Tensor  # (n,) of the output
    offset: Tensor  # (1,)

    def to(self, dtype: torch.dtype) -> _Layers:
        hidden = [AffineLayer(weight.to(dtype), bias.to(dtype)) for weight, bias in self.hidden]
        return _Layers(hidden, [part.to(dtype) for part in self.back], self.row.to(dtype), self.offset.to(dtype))


class Crown:
    """Upper bounds of a chain with one output.

    The descent on the alphas runs in float32, as any alphas are valid; the bounds are computed in float64.

    Args:
        chain: float64; at least one hidden layer.
        reach: greatest absolute value of each input (n,), for rounding.
        steps: descent steps on the alphas at each bound.
        rate: first step, in the norm of all alphas; the last one goes to zero.
        every: bound every unit, also the last layer's units that only lower the output, whose bounds are not needed.
    """

    def __init__(
        self, chain: ReLUChain, magnitude: Tensor, steps: int = 2, rate: float = 1.5, every: bool = False
    ) -> None:
        *hidden, (row, offset) = chain.layers
        count = row.shape[1] if every else max(int((row > 0).sum()), 1)
        order = torch.arange(count, device=row.device) if every else (row[0] <= 0).long().argsort(stable=True)
        hidden[-1] = AffineLayer(hidden[-1].weight[order].contiguous(), hidden[-1].bias[order])
        self.raising, self.steps, self.rate = count, steps, rate  # units that raise the output come first
        self.net = _Layers(hidden, [layer.weight.T.contiguous() for layer in hidden], row[0, order], offset)
        self.rough = self.net.to(torch.float32)
        self.size = [weight.abs() for weight, _ in hidden]
        self.rough_size = [size.float() for size in self.size]
        self.rounding = chain.rounding(magnitude)
        self.table = _SecondLayer(hidden, self._bounded_units(1)) if len(hidden) > 1 and _fits_table(hidden) else None

    @property
    def sizes(self) -> list[int]:
        """Units of each hidden layer."""
        return [len(layer.bias) for layer in self.net.hidden]

    def bound(self, low: Tensor, high: Tensor, alphas: list[Tensor] | None = None) -> UpperPlane:
        """Return planes above the chain over the boxes ``low``, ``high`` (K, n); the descent starts at ``alphas``."""
        middle, radius = (low + high) / 2, (high - low) / 2
        lines, first_alphas, _ = self._lines(middle, radius)
        rough = [ReLULines(*(part.float() for part in line)) for line in lines]
        alphas = self._descend(middle.float(), radius.float(), rough, alphas or first_alphas)
        bound, slope, signs = _plane(self.net, middle, radius, lines, [alpha.to(low.dtype) for alpha in alphas])
        x = torch.addcmul(middle, slope.sign(), radius)
        mixed = [(line.live - line.on)[:, : self._bounded_units(layer)] for layer, line in enumerate(rough)]
        undecided = torch.cat(mixed, 1).sum(1)
        worth = self._worth(rough, [sign.float() for sign in signs], slope.float())
        bound = torch.where(bound.isnan(), torch.inf, bound + self.rounding[-1])  # inf - inf bounds nothing
        return UpperPlane(bound, slope, x, alphas, worth, undecided)

    def intervals(self, low: Tensor, high: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the least and greatest pre-activations (K, n) of each hidden layer over boxes (K, n)."""
        return self._lines((low + high) / 2, (high - low) / 2)[2]

    def _bounded_units(self, layer: int) -> int:
        """Return how many units of a hidden layer, the first ones, need bounds."""
        return self.raising if layer == len(self.net.hidden) - 1 else len(self.net.hidden[layer].bias)

    def _lines(
        self, middle: Tensor, half_widths: Tensor
    ) -> tuple[list[ReLULines], list[Tensor], list[tuple[Tensor, Tensor]]]:
        """Return every hidden layer's lines, first alphas and intervals of its pre-activations."""
        z = torch.addmm(self.net.hidden[0].bias, middle, self.net.back[0])
        radius = half_widths @ self.size[0].T + self.rounding[0]
        spans = [(z - radius, z + radius)]
        lines, alphas = [_relax(*spans[0])], [(z > 0).float()]
        for layer in range(1, len(self.net.hidden)):
            count = self._bounded_units(layer)
            low, high = self._interval(layer, count, middle, half_widths, lines, alphas, z)
            spans.append((low - self.rounding[layer], high + self.rounding[layer]))
            line = _relax(*spans[-1])
            rest = len(self.net.hidden[layer].bias) - count
            lines.append(_pad(line, rest) if rest else line)
            z = torch.addmm(self.net.hidden[layer].bias, z.relu(), self.net.back[layer])
            alphas.append((z > 0).float())
        return lines, alphas, spans

    def _interval(self, layer: int, count: int, middle, radius, lines, alphas, z) -> tuple[Tensor, Tensor]:
        """Return the least and greatest pre-activations (K, count) of a layer after the first."""
        if layer == 1 and self.table is not None:
            return self.table.interval(z, radius, lines[0], alphas[0])
        weight, bias = self.net.hidden[layer].weight[:count], self.net.hidden[layer].bias[:count]
        return (
            -self._upper_bounds(layer, -weight, -bias, middle, radius, lines, alphas),
            self._upper_bounds(layer, weight, bias, middle, radius, lines, alphas),
        )

    def _upper_bounds(self, layer: int, rows: Tensor, bias: Tensor, middle, radius, lines, alphas) -> Tensor:
        """Return upper bounds (K, m) of ``rows @ h + bias``, h the outputs of the layer before layer ``layer``."""
        v, offset = rows.expand(len(middle), -1, -1), bias.expand(len(middle), -1)
        for (weight, bias), line, alpha in zip(
            self.net.hidden[layer - 1 :: -1], lines[::-1], alphas[::-1], strict=True
        ):
            raised = v.clamp_min(0)
            offset = offset + (raised @ line.lift[:, :, None])[..., 0]
            v = raised * line.up[:, None] + v.clamp_max(0) * alpha[:, None]
            offset, v = offset + v @ bias, v @ weight
        return offset + (v @ middle[:, :, None])[..., 0] + (v.abs() @ radius[:, :, None])[..., 0]

    def _descend(self, middle: Tensor, radius: Tensor, lines: list[ReLULines], alphas: list[Tensor]) -> list[Tensor]:
        """Descend on the alphas; their gradient is a pass of the relaxed network at the plane's corner."""
        alphas = [_clamp(alpha, line) for alpha, line in zip(alphas, lines, strict=True)]
        for step in range(self.steps):
            _, slope, signs = _plane(self.rough, middle, radius, lines, alphas)
            grads, h = [], torch.addcmul(middle, slope.sign(), radius)
            for (_, bias), back, line, alpha, v in zip(*self.rough[:2], lines, alphas, signs, strict=True):
                z = torch.addmm(bias, h, back)
                grads.append(v.clamp_max(0).mul_(z))
                raised = (v > 0).to(z.dtype)
                h = torch.lerp(alpha, line.up, raised).mul_(z).addcmul_(raised, line.lift)
            size = torch.cat(grads, 1).square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt()
            pace = size * (self.rate * (step / (self.steps + 1) - 1))
            steps = [a.addcmul(g, pace) for a, g in zip(alphas, grads, strict=True)]
            alphas = [_clamp(step.nan_to_num(0.0), line) for step, line in zip(steps, lines, strict=True)]
        return alphas

    def _worth(self, lines, signs, slope: Tensor) -> Tensor:
        """Return the slack that each input's width causes in the lines, plus the plane's slope."""
        spread = 0.0
        for size, line, v in zip(self.rough_size[::-1], lines[::-1], signs[::-1], strict=True):
            slack = (v * line.lift).abs_().div_(line.width)
            spread = torch.add(slack, line.up * spread, alpha=0.5) @ size
        return spread + slope.abs()


class _SecondLayer:
    """Intervals of the second layer's pre-activations by three matrix products.

    The slope of unit i in input d is ``sum_j D_j W2_ij W1_jd``, D_j the slope of unit j's line. The tables hold
    all ``W2_ij W1_jd``, apart for positive and negative W2_ij. The slopes are float32; an upper bound on their rounding
    is added to the result.
    """

    def __init__(self, hidden: list[AffineLayer], count: int) -> None:
        (first, _), (second, self.bias) = hidden[0], AffineLayer(hidden[1].weight[:count], hidden[1].bias[:count])
        plus, minus = second.clamp_min(0).T, second.clamp_max(0).T
        self.middle = torch.cat([torch.cat([plus, minus], 1), torch.cat([minus, plus], 1)])  # (2 n1, 2 count)
        parts = (plus + minus, plus, minus)
        tables = ((first[:, :, None] * part[:, None]).flatten(1).float() for part in parts)
        self.both, self.rising, self.falling = tables  # (n1, inputs * count)
        terms = 4 * (first.shape[0] + first.shape[1] + 8)
        self.rounding = terms * torch.finfo(torch.float32).eps * first.abs().T @ second.abs().T  # (inputs, count)

    def interval(self, z: Tensor, radius: Tensor, line: ReLULines, alpha: Tensor) -> tuple[Tensor, Tensor]:
        """Return pre-activation intervals (K, count); z (K, n1) is the first layer's at the boxes' centres."""
        above, below, slant = torch.addcmul(line.lift, line.up, z), alpha * z, (line.up - alpha).float()
        high, low = (torch.cat([above, below], 1) @ self.middle).chunk(2, 1)
        common, rounding, rough = alpha @ self.both, radius @ self.rounding, radius.float()
        rise = _rise(torch.addmm(common, slant, self.rising), rough) + rounding
        fall = _rise(common.addmm_(slant, self.falling), rough) + rounding
        return low + self.bias - fall, high + self.bias + rise


def _rise(slopes: Tensor, radius: Tensor) -> Tensor:
    """Return how far affine functions of slopes (K, inputs * count) rise from the boxes' centres: (K, count)."""
    return slopes.abs_().view(*radius.shape, -1).mul_(radius[:, :, None]).sum(1)


def _plane(
    net: _Layers, middle: Tensor, radius: Tensor, lines: list[ReLULines], alphas: list[Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the bound (K,), its slope (K, n), and the factors of each layer's ReLUs."""
    v, bound, signs = net.row.expand(len(middle), -1), net.offset, []
    for (weight, bias), line, alpha in zip(net.hidden[::-1], lines[::-1], alphas[::-1], strict=True):
        signs.insert(0, v)
        raised = v.clamp_min(0)
        bound = bound + (raised * line.lift).sum(1)
        v = (raised * line.up).addcmul_(v.clamp_max(0), alpha)
        bound, v = torch.addmv(bound, v, bias), v @ weight
    return bound + (v * middle).sum(1) + (v.abs() * radius).sum(1), v, signs


def _relax(low: Tensor, high: Tensor) -> ReLULines:
    """Return the lines of ReLUs whose pre-activations lie in [low, high]."""
    up, down = high.clamp_min(0), low.clamp_max(0)
    width = (up - down).clamp_min_(torch.finfo(low.dtype).tiny)
    slope = up / width
    return ReLULines(slope, down.neg_().mul_(slope), width, (low >= 0).to(low.dtype), (high > 0).to(low.dtype))


def _pad(line: ReLULines, rest: int) -> ReLULines:
    """Add lines for units that only lower the output, for which any alpha in [0, 1] is valid."""
    ends = zip(line, (0.0, 0.0, 1.0, 0.0, 1.0), strict=True)
    return ReLULines(*(torch.cat([part, part.new_full((len(part), rest), end)], 1) for part, end in ends))


def _clamp(alpha: Tensor, line: ReLULines) -> Tensor:
    return torch.minimum(torch.maximum(alpha, line.on), line.live)


def _fits_table(hidden: list[AffineLayer]) -> bool:
    (first, _), (second, _) = hidden[:2]
    return first.shape[1] * second.numel() * 3 <= TABLE
