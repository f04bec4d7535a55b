from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from nets import conv, mlp, near, randn, refuses
from torch import nn

import latentopt as lo
from latentopt.analysis.regions import Slice, draw_landscape, landscape, pattern, slice_through
from latentopt.analysis.regions.one_dimension import KINKS, START, draw_line, example
from latentopt.optimizers import ADRGD, GD, SoftGates
from latentopt.reports import png_bytes
from latentopt.solver.callbacks import Trajectory

E1, E2 = torch.eye(2).double()
ZERO = torch.zeros(2).double()


def first(output: torch.Tensor) -> torch.Tensor:
    return output[:, 0]


def test_three_lines_make_seven_regions():
    """Of k lines in general position, 1 + k + k (k - 1) / 2."""
    net = mlp(2, 3, 1)
    net[0].load_state_dict({"weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), "bias": torch.zeros(3) - 0.1})
    found = landscape(net, first, ZERO, E1, E2, 1.0, 101)
    assert found.count == 7
    x = torch.stack([found.a[37], found.b[81]])
    near(found.values[81, 37], net(x[None])[0, 0].detach(), 1e-12)
    left, right = (pattern(net, torch.stack([a, found.b[81]])[None]) for a in (found.a[37], found.a[38]))
    assert torch.equal(left, right) == bool(found.regions[81, 37] == found.regions[81, 38])
    assert landscape(net, first, ZERO, E1, E2, (0.5, 1, 0.5, 1), 7).count == 1
    again = landscape(net, first, ZERO, E1, E2, 1.0, 101, batch_size=1000)
    assert torch.equal(again.regions, found.regions)


def test_a_slice_of_images_shows_what_the_network_says_there():
    net, x = conv(), randn(3, 1, 5, 5)
    plane = slice_through(*x)
    at = plane.coordinates(x)
    near(at[0], ZERO, 1e-12)
    near(at[1], torch.stack([(x[1] - x[0]).norm(), ZERO[0]]), 1e-12)
    near(plane.points(at[:, 0], at[:, 1]), x, 1e-12)
    away = x + torch.linalg.vector_norm(x) * randn(3, 1, 5, 5, seed=4)
    near(plane.distance(x), torch.zeros(3).double(), 1e-12)
    within, whole = plane.coordinates(away).square().sum(1), (away - x[0]).square().flatten(1).sum(1)
    near(plane.distance(away).square() + within, whole, 1e-9)
    found = landscape(net, first, plane.origin, plane.u, plane.v, (-1.0, 2.0, -1.0, 1.0), 9)
    near(found.values[4, 3], net(plane.points(found.a[3:4], found.b[4:5]))[0, 0].detach(), 1e-12)
    assert landscape(net, first, plane.origin, plane.u, plane.v, 1.0, 9, layers=[1]).count <= found.count


def test_a_skew_basis_has_coordinates_too():
    plane = Slice(E1, E1, E1 + 2 * E2)
    near(plane.coordinates(torch.tensor([[4.0, 2.0]]).double()), torch.tensor([[2.0, 1.0]]).double(), 1e-12)


def test_what_is_no_slice_is_refused():
    net = mlp(2, 3, 1)
    for u, v in ((E1, E1), (E1, -3 * E1), (ZERO, E1), (E1, ZERO)):
        with refuses("v", "parallel"):
            landscape(net, first, ZERO, u, v)
    with refuses("v", "parallel"):
        slice_through(ZERO, E1, 3 * E1)
    with refuses("u", "shape"):
        landscape(net, first, ZERO, torch.zeros(3).double(), E2)
    with refuses("origin", "finite"):
        landscape(net, first, ZERO / 0, E1, E2)
    for extent in (-1.0, 0.0, math.inf, math.nan, (0, 1, 1, 0)):
        with refuses("extent"):
            landscape(net, first, ZERO, E1, E2, extent)
    for resolution in (1, 2.5):
        with refuses("resolution"):
            landscape(net, first, ZERO, E1, E2, 1.0, resolution)  # pyright: ignore[reportArgumentType]
    with refuses("objective"):
        landscape(net, lambda output: output, ZERO, E1, E2, 1.0, 3)
    with refuses("network", "smooth"):
        landscape(nn.Tanh(), first, ZERO, E1, E2, 1.0, 3)


def test_a_landscape_is_drawn_with_its_trajectories():
    found = landscape(mlp(2, 6, 1), first, ZERO, E1, E2, 1.0, 30)
    paths = {"gd": randn(5, 2), "adr-gd": randn(1, 2)}

    def draw(figure):
        draw_landscape(figure, found, paths, "title", level=float(found.values.mean()))
        legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
        assert legend == ["gd", "adr-gd", "start", "end"]

    assert png_bytes(draw).startswith(b"\x89PNG")


def test_the_example_has_the_function_that_it_says():
    x = torch.linspace(-1, 1, 201).double()[:, None]
    expected = 0.6 * (x + 1.25) - (x - KINKS[0]).relu() + 1.6 * (x - KINKS[1]).relu()
    near(example()(x), expected, 1e-12)


@pytest.mark.parametrize("seed", range(2))
def test_gradient_ascent_is_held_where_soft_gates_look_past(seed):
    plain, start = GD(lr=0.05, normalize=True), torch.tensor([[START]]).double()
    ends = {}
    for name, optimizer in (("gd", plain), ("adr-gd", ADRGD(SoftGates(), plain))):
        kept = Trajectory()
        shared: dict[str, Any] = {"low": -1, "high": 1, "shape": (1,), "steps": 100, "start": start, "seed": seed}
        lo.maximize(example(), optimizer=optimizer, callbacks=[kept], **shared)
        ends[name] = kept.stacked()[:, 0]
    assert abs(ends["gd"][-1].item() - KINKS[0]) < 0.051
    assert ends["adr-gd"][-1].item() == 1.0
    draw = lambda figure: draw_line(figure, example(), ends, torch.tensor(KINKS), -1.0, 1.0)  # noqa: E731
    assert png_bytes(draw).startswith(b"\x89PNG")
