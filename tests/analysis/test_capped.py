"""Capped ReLUs: as a module, and around any network."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn
from torch.nn import functional as F

from latentopt import ADRGD, PGD, Classifier, SoftGates, attack, maximize
from latentopt.gates import dual, preactivations, sites
from latentopt.zoo.capped import Capped, CappedReLU


class Called(nn.Module):
    """ReLUs as a module used twice, a function, a method and in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.second = nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.second(self.relu(self.first(x))))
        return torch.relu_(self.second(F.relu(self.second(x)).relu())) + F.leaky_relu(x)


@given(st.floats(1e-6, 1e6), st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=5))
def test_the_module_is_its_formula(beta, values):
    z = torch.tensor(values, dtype=torch.float64)
    assert torch.equal(CappedReLU(beta)(z), z.clamp(0, beta))


def test_chosen_relus_are_capped_and_no_others():
    net = mlp(3, 8, 6, 2)
    x = 3 * randn(5, 3)
    linear = [module for module in net.modules() if isinstance(module, nn.Linear)]
    by_hand = nn.Sequential(linear[0], nn.ReLU(), linear[1], CappedReLU(0.2), linear[2])
    near(Capped(net, 0.2, layers=[1])(x), by_hand(x), 0)
    both = nn.Sequential(linear[0], CappedReLU(0.2), linear[1], CappedReLU(0.2), linear[2])
    near(Capped(net, 0.2)(x), both(x), 0)
    near(Capped(Capped(net, 0.2, layers=[1]), 0.2, layers=[0])(x), both(x), 0)
    near(Capped(net, 1e9)(x), net(x), 0)


def test_every_way_to_call_a_relu_is_capped():
    net, x = Called().double(), 3 * randn(4, 3)
    capped = Capped(net, 0.1)
    kinds = [site.kind for site in sites(capped, x)]
    assert kinds == ["hardtanh"] * 5 + ["leaky_relu"]
    assert capped(x).shape == (4, 6)
    assert [site.kind for site in sites(net, x)] == ["relu"] * 5 + ["leaky_relu"]  # it stays as it was


def test_a_cap_is_a_second_gate_of_its_site():
    net, x = Capped(mlp(3, 8, 6, 2), 0.2, layers=[0]), 3 * randn(5, 3)
    z = preactivations(net, x)
    assert len(z) == 3
    near(z[0] - z[1], torch.full_like(z[0], 0.2), 1e-12)
    true = dual(net, x, lambda index, z: z.relu())
    near(true.gated, true.real, 1e-12)
    late = dual(net, x, lambda index, z: z.relu(), layers=[1])
    near(late.gated, net(x), 1e-12)


def test_soft_gates_find_what_a_cap_hides_from_gradients():
    """Far beyond the cap every gradient is zero; the gates still point downhill."""
    layer = nn.Linear(1, 1, dtype=torch.float64)
    layer.load_state_dict({"weight": torch.tensor([[1.0]]), "bias": torch.tensor([5.0])})
    net = nn.Sequential(layer, CappedReLU(1.0), nn.Linear(1, 1, dtype=torch.float64))
    net[2].load_state_dict({"weight": torch.tensor([[-1.0]]), "bias": torch.tensor([0.0])})
    settings = {"low": -6.0, "high": 6.0, "shape": (1,), "start": torch.zeros(1, 1).double(), "steps": 30}
    assert maximize(net, optimizer=PGD(), **settings).value.item() == 1.0
    assert maximize(net, optimizer=ADRGD(SoftGates(), PGD()), **settings).value.item() == 0.0


def test_a_capped_classifier_is_attacked_like_any_other():
    torch.manual_seed(0)
    model = Classifier(Capped(nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)), 0.5)).eval()
    x = rand(6, 1, 4, 4, dtype=torch.float32)
    y = model(x).argmax(1)
    for method in ("pgd", "adr-gd", "square"):
        assert attack(model, x, y, 1.0, optimizer=method, steps=50).success.any()


def test_what_cannot_be_capped_is_refused():
    for beta in (0.0, -1.0, float("nan"), float("inf")):
        with refuses("beta"):
            CappedReLU(beta)
        with refuses("beta"):
            Capped(mlp(3, 4, 2), beta)
    with refuses("layers", "1"):
        Capped(mlp(3, 4, 2), 1.0, layers=[1])(randn(1, 3))
    with refuses("layers"):
        Capped(mlp(3, 4, 2), 1.0, layers=[-1])
    with refuses("layers", "leaky_relu"):
        Capped(Called().double(), 1.0, layers=[5])(randn(2, 3))
    with refuses("network", "smooth"):
        Capped(nn.Sequential(nn.Linear(3, 4), nn.Tanh()), 1.0)(torch.zeros(1, 3))
    with refuses("module", "ReLUs"):
        Capped(nn.Sequential(nn.Linear(3, 4), nn.LeakyReLU()), 1.0)(torch.zeros(1, 3))


def test_relus_in_place_are_capped_in_place_whatever_begins_behind_them():
    net = nn.Sequential(nn.Linear(3, 6), nn.ReLU(inplace=True), nn.Linear(6, 6), nn.ReLU(inplace=True), nn.Linear(6, 2))
    capped, x = Capped(net.double(), 0.1), 3 * randn(4, 3)
    plain = nn.Sequential(net[0], CappedReLU(0.1), net[2], CappedReLU(0.1), net[4])
    near(capped(x), plain(x), 0)
    late = dual(capped, x, lambda index, z: z.relu(), layers=[1])
    near(late.real, plain(x), 1e-12)
    near(late.gated, plain(x), 1e-12)
    h = net[0](x)
    Capped(nn.ReLU(inplace=True), 0.1)(h)
    near(h, net[0](x).clamp(0, 0.1), 0)
