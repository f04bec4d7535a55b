"""Generators of several latents, under conditions, and in their fast form."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from loops import check_alone
from nets import conv, near, rand, randn, refill, refuses
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import latentopt as lo
from latentopt import LBFGS, Generator, Reconstruction, gates, solve
from latentopt.inverse.initializers import Nearest, Random, Regression


class Two(nn.Module):
    """Style (B, 2) and place (B, 1, 2), of a class (B,), to images (B, 1, 2, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.style, self.place = nn.Linear(2, 6), nn.Linear(2, 6)
        self.label = nn.Embedding(5, 6)

    def forward(self, style: Tensor, place: Tensor, label: Tensor | None = None) -> Tensor:
        image = self.style(style) + 0.5 * self.place(place).flatten(1)
        if label is not None:
            image = image + self.label(label)
        return image.reshape(-1, 1, 2, 3)


def two() -> Generator:
    return Generator(refill(Two(), seed=1), latent_shape={"style": (2,), "place": (1, 2)}, output_range=(-8, 9))


LABELS = torch.tensor([3, 0, 4])


def test_several_latents_are_one_vector_whose_parts_have_names():
    generator, z = two(), randn(5, 4)
    assert (generator.latent_shape, generator.output_shape()) == ((4,), (1, 2, 3))
    parts = generator.parts(z)
    assert {name: tuple(part.shape) for name, part in parts.items()} == {"style": (5, 2), "place": (5, 1, 2)}
    near(torch.cat([part.flatten(1) for part in parts.values()], 1), z, 0)
    near(generator(z), (generator.module(z[:, :2], z[:, None, 2:]) + 8) / 17, 1e-12)


def test_each_sample_has_its_condition_also_in_copies_and_when_taken():
    generator, z = two().given(label=LABELS), randn(6, 4)
    for row in range(6):
        alone = two().given(label=LABELS[row % 3 : row % 3 + 1])
        near(generator(z)[row], alone(z[row : row + 1])[0], 1e-12)
    rows = torch.tensor([2, 0, 2, 1])
    near(generator.take(rows)(z[:4]), two().given(label=LABELS[rows])(z[:4]), 0)
    assert torch.equal(generator.conditions["label"], LABELS)
    assert two().conditions == {}
    one = generator.given(label=LABELS[:1])  # replaced, and for all
    assert torch.equal(one.conditions["label"], LABELS[:1])
    near(one(z), two().given(label=LABELS[:1].expand(6))(z), 0)
    near(one.take(torch.tensor([0, 0, 1]))(z[:3]), one(z[:3]), 0)
    assert generator.given(other=LABELS).conditions.keys() == {"label", "other"}


@pytest.mark.parametrize("value", [["a"], [], torch.tensor(3), torch.zeros(0, 2)])
def test_wrong_conditions_are_refused(value):
    with refuses("label"):
        two().given(label=value)


@pytest.mark.parametrize("count", [2, 4, 6])
def test_a_wrong_number_of_conditions_is_refused(count):
    generator = two().given(label=torch.zeros(count).long())
    with refuses("label"):
        lo.reconstruct(generator, rand(3, 1, 2, 3), steps=1, start="random")
    if count != 6:
        with refuses("label"):
            generator(randn(3 if count == 2 else 5, 4))


@pytest.mark.parametrize("start", [Random(), Random("probe"), Nearest(30), Regression(30)], ids=repr)
def test_a_batch_under_conditions_equals_its_samples_alone(start):
    targets = two().given(label=LABELS)(randn(3, 4, seed=4)).clamp(0, 1)
    settings = {"steps": 4, "restarts": 3, "start": start, "halving": [(2, 2)]}
    run = lambda rows: lo.reconstruct(two().given(label=LABELS[rows]), targets[rows], **settings)  # noqa: E731
    check_alone(run, 3, value=1e-9)


def test_a_condition_is_what_the_solution_needs():
    z = randn(3, 4, seed=4)
    targets = two().given(label=LABELS)(z)
    own = solve(Reconstruction(two().given(label=LABELS), targets), LBFGS(memory=5), steps=60)
    other = solve(Reconstruction(two().given(label=LABELS.flip(0)), targets), LBFGS(memory=5), steps=60)
    assert own.value.max() < 1e-10
    assert other.value[[0, 2]].min() > 1e-4


class Layered(nn.Module):
    """A linear layer, a norm and a ReLU, called in a way of one's own."""

    def __init__(self, call: Callable[[nn.Sequential, Tensor], Tensor]) -> None:
        super().__init__()
        self.layers, self.call = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU()), call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self.layers, x)[:, :, None, None]


def skipping(layers: nn.Sequential, x: Tensor) -> Tensor:
    between = layers[0](x)
    return layers[2](layers[1](between)) + between


OWN: dict[str, Callable[[nn.Sequential, Tensor], Tensor]] = {
    "reordered": lambda layers, x: layers[2](layers[0](layers[1](x))),
    "weighed": lambda layers, x: layers(x) * layers[1].weight,  # looks at what a layer holds
    "skipping": skipping,  # uses what lies between two layers
    "stochastic": lambda layers, x: layers(x) + torch.randn(()),
}


def layered(name: str) -> Callable[[], nn.Module]:
    return lambda: Layered(OWN[name])


def shaped(*layers: nn.Module) -> nn.Sequential:
    """Layers whose six outputs are an image (6, 1, 1)."""
    return nn.Sequential(*layers, nn.Unflatten(1, (6, 1, 1)))


def shared(norms: int) -> nn.Module:
    """One norm behind two layers, or one layer before a norm and behind a ReLU."""
    linear, norm = nn.Linear(6, 6), nn.BatchNorm1d(6)
    return shaped(linear, norm, nn.ReLU(), *([nn.Linear(6, 6), norm] if norms else [linear]))


def grouped() -> nn.Module:
    layers = [nn.Unflatten(1, (6, 1, 1)), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1, groups=2), nn.BatchNorm2d(2))


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(6, 16),
        nn.BatchNorm1d(16),
        nn.ReLU(inplace=True),
        nn.Unflatten(1, (4, 2, 2)),
        nn.Sequential(nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), nn.LeakyReLU(0.1)),
        nn.Sequential(nn.Sequential(nn.Conv2d(6, 3, 3, bias=False), nn.BatchNorm2d(3, affine=False)), nn.ReLU6(True)),
        nn.ConvTranspose2d(3, 1, 2, bias=False),
        nn.BatchNorm2d(1),
        nn.Hardtanh(),
    )


NAMED: OrderedDict[str, nn.Module] = OrderedDict(
    fc=nn.Linear(6, 6), norm=nn.BatchNorm1d(6), act=nn.ReLU(), shape=nn.Unflatten(1, (6, 1, 1))
)
SOLID = [nn.Unflatten(1, (1, 1, 2, 3)), nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.ReLU(), nn.Flatten(2, 3)]
FAST: dict[str, Callable[[], nn.Module]] = {
    "conv, convT, linear": transposed,
    "shared norm": lambda: shared(norms=1),
    "shared layer": lambda: shared(norms=0),
    "named": lambda: nn.Sequential(copy.deepcopy(NAMED)),
    "twice normed": lambda: shaped(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.BatchNorm1d(6), nn.ReLU()),
    "grouped": grouped,
    **{name: layered(name) for name in ("reordered", "weighed", "skipping")},
    "solid": lambda: nn.Sequential(*copy.deepcopy(SOLID)),
    "weight norm": lambda: shaped(weight_norm(nn.Linear(6, 6)), nn.BatchNorm1d(6), nn.ReLU()),
}
every_module = pytest.mark.parametrize("name", FAST)


def built(name: str, dtype: torch.dtype = torch.float64) -> Generator:
    module = FAST[name]() if name in FAST else layered(name)()
    if name == "weight norm":
        return Generator(module.to(dtype).eval(), latent_shape=(6,))
    return Generator(refill(module, seed=3, dtype=dtype), latent_shape=(6,), output_range=(-2, 3))


@every_module
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_form_computes_the_same_and_leaves_the_module(name, dtype):
    generator = built(name, dtype)
    before, modules = copy.deepcopy(generator.state_dict()), list(generator.modules())
    swift, z = generator.fused(), randn(20, 6, dtype=dtype)
    near(swift(z), generator(z), 1e-5 if dtype == torch.float32 else 1e-10)
    assert list(generator.modules()) == modules
    assert generator.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    x, y = z.clone().requires_grad_(), z.clone().requires_grad_()
    ours, theirs = torch.autograd.grad(swift(x).sum(), x)[0], torch.autograd.grad(generator(y).sum(), y)[0]
    near(ours, theirs, 1e-4 if dtype == torch.float32 else 1e-9)


@every_module
def test_sites_stay_where_they_were(name):
    generator = built(name)
    swift, z = generator.fused(), randn(4, 6)
    ours, theirs = gates.sites(swift, z), gates.sites(generator, z)
    assert len(ours) == len(theirs)
    assert [(site.kind, site.shape) for site in ours] == [(site.kind, site.shape) for site in theirs]
    for mine, its in zip(gates.preactivations(swift, z), gates.preactivations(generator, z), strict=True):
        near(mine, its, 1e-10)


@pytest.mark.parametrize("name", ["conv, convT, linear", "shared norm", "named", "twice normed", "grouped"])
def test_norms_are_folded(name):
    norms = [m for m in built(name).fused().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == (name in ("twice normed", "grouped"))


@pytest.mark.parametrize("name", OWN)
def test_what_folding_would_change_stays_as_it_is(name):
    generator = built(name)
    assert generator.fused() is generator


def test_norms_in_training_mode_and_hooks_stay():
    generator = built("conv, convT, linear")
    generator.train()
    before = copy.deepcopy(generator.state_dict())
    assert generator.fused() is generator
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    with refuses("network"):
        lo.reconstruct(generator, rand(2, *generator.output_shape()), steps=1, start="random")
    generator, seen = built("named"), list[int]()
    generator.module[0].register_forward_hook(lambda *args: seen.append(1))  # pyright: ignore[reportIndexIssue]
    generator.fused()(randn(1, 6))
    assert len(seen) >= 2
    assert any(isinstance(m, nn.BatchNorm1d) for m in generator.fused().modules())


def test_the_fast_form_keeps_conditions_parts_and_encoder_and_refuses_wrong_shapes():
    generator = two().given(label=LABELS)
    generator.encoder = conv()
    swift, z = generator.fused(), randn(3, 4)
    near(swift(z), generator(z), 1e-12)
    assert swift.encoder is generator.encoder
    assert swift.parts(z).keys() == generator.parts(z).keys()
    for shapes in ({"style": (2, 0)}, {"style": (2,), "place": (1.5,)}, {"style": (-1,)}):
        with refuses("latent_shape"):
            Generator(Two(), latent_shape=shapes)
    with refuses("latent_shape"):
        Generator(nn.Linear(3, 4), latent_shape=(5,)).fused()


def test_an_encoder_comes_from_the_card_and_finds_the_generators_own_images():
    generator = lo.load("mnist-vae")
    assert isinstance(generator, Generator)
    assert generator.encoder is not None
    assert not any(p.requires_grad for p in generator.encoder.parameters())
    z = generator.latents(20, 0)
    images = generator(z)
    means = generator.encoder(images)[:, :20]
    assert (generator(means) - images).square().mean() < 0.1 * (images.roll(1, 0) - images).square().mean()


@pytest.mark.parametrize(
    "encoder",
    [
        *[nn.Sequential(nn.Flatten(), nn.Linear(784, out)) for out in (19, 60)],
        nn.Sequential(nn.Flatten(), nn.Linear(700, 20)),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 20)),
        nn.Flatten(0, 1),
        nn.Sequential(nn.Flatten(), nn.RNN(784, 20)),
    ],
    ids=["19 latents", "60 latents", "other images", "another generator's", "no batch", "a tuple"],
)
def test_an_encoder_that_is_not_the_generators_is_refused(encoder):
    own = lo.load("mnist-vae")
    assert isinstance(own, Generator)
    generator = Generator(own.module, latent_shape=(20,), encoder=encoder)
    with refuses("encoder"):
        lo.reconstruct(generator, rand(1, 1, 28, 28, dtype=torch.float32), start="encoder", steps=1)


def test_no_encoder_is_refused_as_a_start():
    with refuses("start"):
        lo.reconstruct(built("named"), rand(1, 6, 1, 1), start="encoder", steps=1)
