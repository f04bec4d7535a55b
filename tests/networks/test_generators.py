"""Generators of several latents, under conditions, and in their fast form."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from nets import conv, near, rand, randn, refill, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import LBFGS, Generator, InputError, Reconstruction, gates, solve
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


@pytest.mark.parametrize("shapes", [{"style": (2, 0)}, {"style": (2,), "place": (1.5,)}, {"style": (-1,)}])
def test_wrong_sizes_of_parts_are_refused(shapes):
    with refuses("latent_shape"):
        Generator(Two(), latent_shape=shapes)


def test_each_sample_has_its_condition_also_in_copies():
    generator = two().given(label=LABELS)
    z = randn(6, 4)
    for row in range(6):
        alone = two().given(label=LABELS[row % 3 : row % 3 + 1])
        near(generator(z)[row], alone(z[row : row + 1])[0], 1e-12)


def test_taking_samples_takes_their_conditions_and_leaves_the_generator():
    generator, z = two().given(label=LABELS), randn(4, 4)
    rows = torch.tensor([2, 0, 2, 1])
    near(generator.take(rows)(z), two().given(label=LABELS[rows])(z), 0)
    assert torch.equal(generator.conditions["label"], LABELS)
    assert two().conditions == {}


def test_one_condition_holds_for_all():
    generator, z = two().given(label=LABELS[:1]), randn(4, 4)
    near(generator(z), two().given(label=LABELS[:1].expand(4))(z), 0)
    near(generator.take(torch.tensor([0, 0, 1]))(z[:3]), generator(z[:3]), 0)


def test_conditions_are_added_and_replaced():
    generator = two().given(label=LABELS)
    assert torch.equal(generator.given(label=LABELS[:1]).conditions["label"], LABELS[:1])
    assert generator.given(other=LABELS).conditions.keys() == {"label", "other"}


@pytest.mark.parametrize("value", [3, [1, 2], torch.tensor(3), torch.zeros(0, 2)])
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
    together = lo.reconstruct(two().given(label=LABELS), targets, **settings)
    for row in range(3):
        alone = lo.reconstruct(two().given(label=LABELS[row : row + 1]), targets[row : row + 1], **settings)
        near(together.x[[row]], alone.x, 1e-9)
        near(together.value[[row]], alone.value, 1e-9)


def test_a_condition_is_what_the_solution_needs():
    z = randn(3, 4, seed=4)
    targets = two().given(label=LABELS)(z)
    own = solve(Reconstruction(two().given(label=LABELS), targets), LBFGS(memory=5), steps=60)
    other = solve(Reconstruction(two().given(label=LABELS.flip(0)), targets), LBFGS(memory=5), steps=60)
    assert own.value.max() < 1e-10
    assert other.value[[0, 2]].min() > 1e-4


class Reordered(nn.Module):
    """Calls the layers of its sequence in another order."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        linear, norm, relu = self.layers
        return relu(linear(norm(x)))[:, :, None, None]


class Weighed(Reordered):
    """Looks at what a layer holds."""

    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) * self.layers[1].weight)[:, :, None, None]


class Skipping(Reordered):
    """Uses what lies between two layers."""

    def forward(self, x: Tensor) -> Tensor:
        between = self.layers[0](x)
        return (self.layers[2](self.layers[1](between)) + between)[:, :, None, None]


class Stochastic(Reordered):
    def forward(self, x: Tensor) -> Tensor:
        return (self.layers(x) + torch.randn(()))[:, :, None, None]


def shared_norm() -> nn.Module:
    norm = nn.BatchNorm1d(6)
    return nn.Sequential(nn.Linear(6, 6), norm, nn.ReLU(), nn.Linear(6, 6), norm, nn.Unflatten(1, (6, 1, 1)))


def shared_layer() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.BatchNorm1d(6), nn.ReLU(), layer, nn.Unflatten(1, (6, 1, 1)))


def named() -> nn.Module:
    layers = {"fc": nn.Linear(6, 6), "norm": nn.BatchNorm1d(6), "act": nn.ReLU(), "shape": nn.Unflatten(1, (6, 1, 1))}
    return nn.Sequential(OrderedDict(layers))


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


def solid() -> nn.Module:
    layers = [nn.Unflatten(1, (1, 1, 2, 3)), nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2), nn.ReLU(), nn.Flatten(2, 3)]
    return nn.Sequential(*layers)


def weight_normed() -> nn.Module:
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(6, 6))
    return nn.Sequential(layer, nn.BatchNorm1d(6), nn.ReLU(), nn.Unflatten(1, (6, 1, 1)))


def twice_normed() -> nn.Module:
    norms = [nn.BatchNorm1d(6), nn.BatchNorm1d(6)]
    return nn.Sequential(nn.Linear(6, 6), *norms, nn.ReLU(), nn.Unflatten(1, (6, 1, 1)))


def grouped() -> nn.Module:
    layers = [nn.Unflatten(1, (6, 1, 1)), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.BatchNorm2d(4), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(4, 2, 1, groups=2), nn.BatchNorm2d(2))


FAST: dict[str, Callable[[], nn.Module]] = {
    "conv, convT, linear": transposed,
    "shared norm": shared_norm,
    "shared layer": shared_layer,
    "named": named,
    "twice normed": twice_normed,
    "grouped": grouped,
    "reordered": Reordered,
    "weighed": Weighed,
    "skipping": Skipping,
    "solid": solid,
    "weight norm": weight_normed,
}
every_module = pytest.mark.parametrize("make", FAST.values(), ids=FAST)


def built(make: Callable[[], nn.Module], dtype: torch.dtype = torch.float64) -> Generator:
    module = make()
    if make is weight_normed:
        return Generator(module.to(dtype).eval(), latent_shape=(6,))
    return Generator(refill(module, seed=3, dtype=dtype), latent_shape=(6,), output_range=(-2, 3))


@every_module
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_fast_form_computes_the_same_and_leaves_the_module(make, dtype):
    generator = built(make, dtype)
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
def test_sites_stay_where_they_were(make):
    generator = built(make)
    swift, z = generator.fused(), randn(4, 6)
    ours, theirs = gates.sites(swift, z), gates.sites(generator, z)
    assert len(ours) == len(theirs)
    assert [(site.kind, site.shape) for site in ours] == [(site.kind, site.shape) for site in theirs]
    for mine, its in zip(gates.preactivations(swift, z), gates.preactivations(generator, z), strict=True):
        near(mine, its, 1e-10)


@pytest.mark.parametrize("make", [transposed, shared_norm, named, twice_normed, grouped])
def test_norms_are_folded(make):
    norms = [m for m in built(make).fused().modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == (make in (twice_normed, grouped))


@pytest.mark.parametrize("make", [Reordered, Weighed, Skipping, Stochastic])
def test_what_folding_would_change_stays_as_it_is(make):
    generator = built(make)
    assert generator.fused() is generator


def test_norms_in_training_mode_stay_and_are_refused():
    generator = built(transposed)
    generator.train()
    before = copy.deepcopy(generator.state_dict())
    assert generator.fused() is generator
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())
    with refuses("network"):
        lo.reconstruct(generator, rand(2, *generator.output_shape()), steps=1, start="random")


def test_hooks_are_kept():
    generator, seen = built(named), list[int]()
    generator.module[0].register_forward_hook(lambda *args: seen.append(1))  # pyright: ignore[reportIndexIssue]
    generator.fused()(randn(1, 6))
    assert len(seen) >= 2
    assert any(isinstance(m, nn.BatchNorm1d) for m in generator.fused().modules())


def test_the_fast_form_keeps_conditions_parts_and_encoder():
    generator = two().given(label=LABELS)
    generator.encoder = conv()
    swift, z = generator.fused(), randn(3, 4)
    near(swift(z), generator(z), 1e-12)
    assert swift.encoder is generator.encoder
    assert swift.parts(z).keys() == generator.parts(z).keys()


def test_a_wrong_latent_shape_is_refused_by_the_fast_form_too():
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


class Tuple(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    "encoder",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(784, 19)),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 60)),
        nn.Sequential(nn.Flatten(), nn.Linear(700, 20)),
        nn.Sequential(nn.Flatten(), nn.Linear(784, 20)),
        nn.Flatten(0, 1),
        Tuple(),
    ],
    ids=["19 latents", "60 latents", "other images", "another generator's", "no batch", "a tuple"],
)
def test_an_encoder_that_is_not_the_generators_is_refused(encoder):
    generator = copy.copy(lo.load("mnist-vae"))
    assert isinstance(generator, Generator)
    generator = Generator(generator.module, latent_shape=(20,), encoder=encoder)
    with refuses("encoder"):
        lo.reconstruct(generator, rand(1, 1, 28, 28, dtype=torch.float32), start="encoder", steps=1)


def test_no_encoder_is_refused_as_a_start():
    with pytest.raises(InputError, match="start"):
        lo.reconstruct(built(named), rand(1, 6, 1, 1), start="encoder", steps=1)
