"""What is held for each image follows it when others leave: a batch gives what its images give alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from files import own_images, table
from loops import NAMES, check_alone
from nets import mlp, near, rand, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import Generator, LevenbergMarquardt, Problem, Reconstruction, Status, priors, solve
from latentopt.inverse.initializers import Nearest, Random, Regression
from latentopt.jobs.reconstruct import reconstruct as job
from latentopt.objectives import L1, MSE, Features, Loss, WeightedSum
from latentopt.operators import (
    Blur,
    Compose,
    Crop,
    Downsample,
    Gaussian,
    Hole,
    Identity,
    Mask,
    Operator,
    PerImage,
    Physics,
)
from latentopt.zoo import cards

B, SIDE = 4, 6


def generator(dtype: torch.dtype = torch.float64) -> Generator:
    """Three latents to images (B, 1, 6, 6)."""
    layers = nn.Sequential(mlp(3, 12, SIDE**2, seed=1, dtype=dtype), nn.Unflatten(1, (1, SIDE, SIDE)))
    return Generator(layers, latent_shape=(3,), output_range=(-20.0, 20.0))


def own(count: int = B, dtype: torch.dtype = torch.float64) -> Tensor:
    """Images of the generator."""
    return generator(dtype)(generator(dtype).latents(count, seed=3)).detach().clamp(0, 1)


def halves() -> Tensor:
    """(2, 1, 6, 6): the left half is seen, the right half."""
    left = torch.zeros(1, 1, SIDE, SIDE)
    left[..., : SIDE // 2] = 1
    return torch.cat([left, 1 - left])


MASKS = (rand(B, 1, SIDE, SIDE) > 0.4).double()
ONES = [Identity(), Blur(0.5), Blur(1.0), Blur(0.5)]


@dataclass(frozen=True, eq=False)
class Held(Operator):
    """A user's own mask for each image; as it cycles through them, no size tells that they are another's."""

    masks: Tensor

    def __call__(self, image: Tensor) -> Tensor:
        return image * self.masks[torch.arange(len(image)) % len(self.masks)].to(image)

    def take(self, rows: Tensor) -> Held:
        return Held(self.masks[rows])


class Weighted(Loss):
    """A user's own loss with weights and references for each sample, in NumPy's arrays."""

    def __init__(self, weights: np.ndarray, references: np.ndarray) -> None:
        self.weights, self.references = weights, references

    def __call__(self, prediction: Tensor, target: Tensor) -> Tensor:
        return self.residual(prediction, target).square().sum(1)

    def residual(self, prediction: Tensor, target: Tensor) -> Tensor:
        fit = (prediction - target).flatten(1) * torch.from_numpy(self.weights)[:, None]
        return torch.cat([fit, 0.01 * (prediction.flatten(1) - torch.from_numpy(self.references))], 1)

    def take(self, rows: Tensor) -> Weighted:
        return Weighted(self.weights[rows.numpy()], self.references[rows.numpy()])


@dataclass(frozen=True)
class Pulled(priors.Prior):
    """Latents lie near a point of each sample's own; the prior is its own penalty."""

    centres: Tensor

    def feasible(self, generator: Generator) -> lo.sets.FeasibleSet:
        return lo.sets.Free()

    def penalty(self) -> Pulled:
        return self

    def __call__(self, z: Tensor) -> Tensor:
        return 1e-4 * (z - self.centres).square().sum(1)

    def take(self, rows: Tensor) -> Pulled:
        return Pulled(self.centres[rows])


WEIGHTED = Weighted(np.linspace(0.5, 2, B), np.linspace(0, 1, B * SIDE**2).reshape(B, -1))
KINDS: dict[str, Callable[[Tensor], dict]] = {
    "masks": lambda rows: {"operator": Mask(MASKS[rows])},
    "masks of NumPy": lambda rows: {"operator": Mask(MASKS.bool().numpy()[rows])},
    "one's own masks": lambda rows: {"operator": Held(MASKS[rows])},
    "kernels": lambda rows: {"operator": PerImage([ONES[row] for row in rows])},
    "matrices": lambda rows: {"operator": PerImage([Gaussian(20, seed=int(row)) for row in rows])},
    "a chain": lambda rows: {
        "operator": Compose([Mask(MASKS[rows]), Blur(0.7), PerImage([ONES[row] for row in rows])])
    },
    "weights and references": lambda rows: {"loss": WEIGHTED.take(rows)},
    "a sum of losses": lambda rows: {"loss": WeightedSum([L1(), WEIGHTED.take(rows)], [0.1, 1.0])},
    "a prior": lambda rows: {"prior": Pulled(randn(B, 3, seed=5)[rows])},
}
SETTINGS = {
    "tolerance": {"tolerance": 1e-3, "restarts": 1, "halving": (), "steps": 30},
    "restarts and keep": {"tolerance": 1e-5, "restarts": 4, "halving": [(3, 3), (6, 2), (9, 1)], "steps": 20},
    "patience": {"restarts": 3, "halving": (), "patience": 3, "min_delta": 0.3, "steps": 30, "tolerance": 1e-6},
    "evaluations": {"restarts": 3, "halving": [(4, 2)], "evaluations": 60, "steps": 30, "tolerance": 1e-5},
    "retries": {"restarts": 4, "halving": [(5, 1)], "retries": 2, "steps": 12, "tolerance": 1e-4},
}


CASES = [  # quick ones: each kind with two settings, all settings with several kinds
    pytest.param(kind, settings, id=f"{name}-{use}", marks=[pytest.mark.slow] * ((i - j) % 5 not in (0, 2)))
    for i, (name, kind) in enumerate(KINDS.items())
    for j, (use, settings) in enumerate(SETTINGS.items())
]


@pytest.mark.parametrize(("kind", "settings"), CASES)
def test_a_batch_gives_what_its_images_give_alone(kind, settings):
    settings = {"start": "random", **settings}
    run = lambda rows: lo.reconstruct(generator(), own()[rows], **kind(rows), **settings)  # noqa: E731
    check_alone(run, B, 1e-7, 1e-9, ("status", "forwards", "backwards"))


CHAINED = ("one's own masks", "a chain", "a prior")


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        *((kind, start) for kind in CHAINED for start in (Nearest(40), Regression(40))),
        (CHAINED[0], Random("probe")),
        *(pytest.param(kind, Random("probe"), marks=pytest.mark.slow) for kind in CHAINED[1:]),
    ],
    ids=repr,
)
def test_starts_are_learnt_through_the_operator_of_each_image(kind, start):
    settings = {"start": start, "restarts": 3, "halving": [(2, 2)], "steps": 5, "retries": 1}
    run = lambda rows: lo.reconstruct(generator(), own()[rows], **KINDS[kind](rows), **settings)  # noqa: E731
    check_alone(run, B, 1e-7, 1e-9, rows=(1, 3))


@pytest.mark.parametrize("start", [Nearest(40), Regression(40)], ids=repr)
def test_a_pool_of_images_is_made_once_for_all_operators(start):
    settings = {"start": start, "restarts": 1, "halving": (), "steps": 1}
    found = lo.reconstruct(generator(), own(), operator=Mask(MASKS), **settings)
    assert int(found.forwards.sum()) == 40 + B * 3
    equal = lo.reconstruct(generator(), own(), operator=Mask(MASKS[:1].expand(B, 1, SIDE, SIDE)), **settings)
    near(equal.x, lo.reconstruct(generator(), own(), operator=Mask(MASKS[0]), **settings).x, 1e-9)


@pytest.mark.parametrize("operator", [Held(halves()), Mask(halves()), PerImage([Mask(half) for half in halves()])])
def test_an_image_keeps_its_mask_when_the_one_before_it_is_solved_at_once(operator):
    g, z = generator(), generator().latents(2, seed=8)
    y = operator(g(z).detach())
    start = torch.stack([z[0], torch.zeros(3).double()])
    settings = {"tolerance": 1e-6, "restarts": 1, "halving": (), "steps": 60, "measured": True}
    both = lo.reconstruct(g, y, operator=operator, start=start, **settings)
    alone = lo.reconstruct(g, y[1:], operator=operator.take(torch.tensor([1])), start=start[1:], **settings)
    assert both.status == (Status.SOLVED, Status.SOLVED)
    assert int(both.backwards[0]) == 1 < int(both.backwards[1])
    near(both.x[1:], alone.x, 1e-9)
    assert torch.equal(both.forwards[1:], alone.forwards)


@pytest.mark.parametrize("name", NAMES)
def test_every_method_follows_the_masks_and_the_references(name):
    settings = {"start": "random", "restarts": 2, "halving": [(3, 1)], "steps": 6, "tolerance": 1e-2}
    settings |= {"optimizer": name, "prior": priors.BoxPrior(2.0)}

    def run(rows: Tensor) -> lo.Result:
        own_loss = WEIGHTED.take(rows)
        return lo.reconstruct(generator(), own()[rows], operator=Mask(MASKS[rows]), loss=own_loss, **settings)

    check_alone(run, B, 1e-6, equal=["forwards"])


def test_residuals_of_levenberg_and_marquardt_are_those_of_each_image():
    def run(rows: Tensor) -> lo.Result:
        part = Reconstruction(generator(), own()[rows], Mask(MASKS[rows]), WEIGHTED.take(rows), tolerance=1e-4)
        return solve(part, LevenbergMarquardt(), steps=8, restarts=2)

    check_alone(run, B, 1e-7)


def test_some_targets_of_a_reconstruction_have_their_operators():
    problem = Reconstruction(generator(), own(), Mask(MASKS))
    part = problem.take(torch.tensor([3, 1]))
    near(part.operator(own()[[3, 1]]), problem.measurement[[3, 1]], 0)
    near(part.take(torch.tensor([1])).operator(own()[[1]]), problem.measurement[[1]], 0)


@pytest.mark.parametrize("operator", [Mask(MASKS), Held(MASKS), PerImage(ONES)])
def test_own_images_are_diagnosed_through_the_operators_of_the_targets_in_turn(operator):
    settings = {"start": Random(), "restarts": 2, "steps": 20, "samples": 6, "loss": WEIGHTED}
    found = lo.diagnose(generator(), own(), operator=operator, **settings)
    turn = torch.tensor([0, 1, 2, 3, 0, 1])
    alone = lo.diagnose(generator(), operator=operator.take(turn), **{**settings, "loss": WEIGHTED.take(turn)})
    near(found.own_error, alone.own_error, 1e-12)
    assert found.error is not None
    assert found.error.shape == (B,)


@pytest.mark.parametrize("noise", [pytest.param(0.0, marks=pytest.mark.slow), 0.05])
def test_the_targets_of_a_job_keep_their_masks_whatever_batch_they_are_in(tmp_path, noise):
    images, masks = own_images(5), (rand(5, 1, 28, 28) > 0.5).float()
    np.save(tmp_path / "five.npy", images.numpy())
    settings = {"steps": 4, "restarts": 2, "noise": noise, "wandb": "disabled", "device": "cpu", "start": Nearest(30)}
    found = []
    for size in (5, 2):
        out = tmp_path / str(size)
        job("mnist-vae", [str(tmp_path / "five.npy")], Mask(masks), batch_size=size, out=str(out), **settings)
        found.append(torch.tensor([float(row["loss"]) for row in table(out)]))
    near(found[0], found[1], 1e-5)
    settings = {"steps": 4, "restarts": 2, "noise": noise, "start": Nearest(30)}
    reached = lo.reconstruct(cards.load_generator("mnist-vae"), images, operator=Mask(masks), **settings)
    near(found[0], reached.value.float(), 1e-5)


def test_a_job_with_fewer_masks_than_targets_is_refused(tmp_path):
    np.save(tmp_path / "five.npy", own_images(5).numpy())
    for name, operator in (("mask", Mask(torch.ones(4, 1, 28, 28))), ("operator", PerImage([Blur(1.0)] * 4))):
        with refuses(name):
            job("mnist-vae", [str(tmp_path / "five.npy")], operator, out=str(tmp_path / "out"), wandb="disabled")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 4, 4), (1, 1, 4, 4), (2, 1, 1, 4), (1, 3, 1, 1)])
@pytest.mark.parametrize("convert", [lambda m: m, Tensor.bool, Tensor.byte, Tensor.numpy])
def test_a_mask_for_each_image_multiplies_each_image(shape, convert):
    masks, images = (rand(*shape) > 0.3).double(), rand(2, 3, 4, 4, seed=1)
    expected, operator = images * masks, Mask(convert(masks))
    assert torch.equal(operator(images), expected)
    rows = torch.tensor([1, 0, 1])
    taken = operator.take(rows)
    assert torch.equal(taken(images[rows]), expected[rows])
    assert torch.equal(taken.take(torch.tensor([1]))(images[:1]), expected[:1])
    assert (operator.add_noise(expected, 0.1, 0)[expected == 0] == 0).all()


def test_one_mask_is_that_of_all_samples_taken_and_a_batch_is_told_by_its_dimensions():
    for mask in (rand(4, 4), rand(3, 4, 4), rand(1, 1, 4, 4)):
        rows, images = torch.tensor([1, 1, 0, 5, 7]), rand(5, 3, 4, 4)
        assert torch.equal(Mask(mask).take(rows)(images), Mask(mask)(images))
    volumes, second = rand(2, 3, 4, 4, 4), torch.tensor([1])
    for mask in (rand(3, 1, 1, 1), rand(2, 1, 4, 4, 4, seed=1)):
        assert torch.equal(Mask(mask).take(second)(volumes[1:]), (volumes * mask)[1:])


@pytest.mark.parametrize("operators", [ONES, [Crop(3), Compose([Hole(2), Crop(3)]), Downsample(2), Crop(3)]])
def test_each_image_has_its_operator(operators):
    images = rand(B, 2, SIDE, SIDE)
    measured = PerImage(operators)(images)
    near(measured, torch.cat([operator(images[[row]]) for row, operator in enumerate(operators)]), 1e-15)
    rows = torch.tensor([3, 0, 0, 2, 1])
    near(PerImage(operators).take(rows)(images[rows]), measured[rows], 1e-15)
    back = PerImage(operators).adjoint(measured, (2, SIDE, SIDE))
    near((measured * measured).sum(), (images * back).sum(), 1e-12)


class Slow:
    """A physics as deepinv's are: what `A` takes by name it holds for each image, and what follows from it."""

    def __init__(self, mask: Tensor) -> None:
        self.mask, self.twice, self.matrix = mask, 2 * mask, torch.eye(len(mask)).double()

    def A(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: N802
        return x * self.mask * self.twice

    def A_adjoint(self, y: Tensor) -> Tensor:  # noqa: N802
        return self.A(y)


@pytest.mark.parametrize("module", [False, True])
def test_what_a_physics_holds_for_each_image_follows_it(module):
    physics = Slow(MASKS)
    if module:
        physics = type("Module", (nn.Module, Slow), {"__init__": lambda self: nn.Module.__init__(self)})()
        for name, value in vars(Slow(MASKS)).items():
            physics.register_buffer(name, value)
    operator, rows, images = Physics(physics), torch.tensor([3, 0, 3]), own()
    near(operator.take(rows)(images[rows]), operator(images)[rows], 0)
    near(operator.take(rows).take(torch.tensor([1]))(images[:1]), operator(images)[:1], 0)
    assert operator.take(rows).physics.matrix.shape == (B, B)
    settings = {"start": Nearest(20), "steps": 3, "tolerance": 1e-4}
    together = lo.reconstruct(generator(), images, operator=operator, **settings)
    alone = lo.reconstruct(generator(), images[2:3], operator=Physics(Slow(MASKS[2:3])), **settings)
    near(together.x[2:3], alone.x, 1e-9)


def test_a_physics_with_one_mask_or_its_own_way_to_take_samples_is_left_to_it():
    class Taking(Slow):
        def take(self, rows: Tensor) -> Taking:
            return Taking(self.mask[rows])

    rows = torch.tensor([1, 1])
    assert Physics(Slow(MASKS[:1])).take(rows)(own()[:2]).shape == (2, 1, SIDE, SIDE)
    near(Physics(Taking(MASKS)).take(rows).physics.twice, 2 * MASKS[rows], 0)
    with refuses("physics", "method A, got Linear"):
        Physics(nn.Linear(2, 2))


def test_noise_is_that_of_each_images_operator():
    operator = PerImage([Mask(halves()[0, 0]), Identity(), Mask(halves()[1, 0])])
    measurement = operator(rand(3, 1, SIDE, SIDE))
    noisy = operator.add_noise(measurement, 0.1, seed=2)
    assert bool((noisy[0][halves()[0] == 0] == 0).all())
    assert bool((noisy[2][halves()[1] == 0] == 0).all())
    assert torch.equal(noisy[1:2], Identity().add_noise(measurement[1:2], 0.1, seed=2))


def test_operators_that_are_not_one_for_each_image_are_refused():
    for operators, image, words in [
        ([Identity(), Identity()], torch.zeros(3, 1, 4, 4), "one for each of 3 images, got 2"),
        ([Crop(2), Crop(3)], torch.zeros(2, 1, 4, 4), "one shape"),
        ([], torch.zeros(2, 1, 4, 4), ""),
    ]:
        with refuses("PerImage.operators", words):
            PerImage(operators)(image)
    for name, count, operator in (("mask", 3, Mask(MASKS)), ("PerImage.operators", 2, PerImage(ONES))):
        with refuses(name):
            lo.reconstruct(generator(), own(count), operator=operator, steps=1)


def test_as_many_images_as_restarts_are_told_from_them():
    settings = {"start": "random", "restarts": B, "halving": (), "steps": 5}
    run = lambda rows: lo.reconstruct(generator(), own()[rows], operator=Held(MASKS[rows]), **settings)  # noqa: E731
    check_alone(run, B, rows=[2])


def test_a_network_that_is_another_for_each_sample_is_followed_within_wrappers():
    class Own(nn.Module):
        def __init__(self, shifts: Tensor) -> None:
            super().__init__()
            self.shifts = nn.Buffer(shifts)

        def forward(self, z: Tensor) -> Tensor:
            return (z[:, :2] + self.shifts)[:, None, None].sigmoid()

        def take(self, rows: Tensor) -> Own:
            return Own(self.shifts[rows]).eval()

    shifts, targets = randn(3, 2), rand(3, 1, 1, 2)
    settings = {"restarts": 2, "steps": 4, "start": Nearest(20), "tolerance": 1e-2}

    def run(rows: Tensor) -> lo.Result:
        return lo.reconstruct(Generator(Own(shifts[rows]).eval(), latent_shape=(2,)), targets[rows], **settings)

    check_alone(run, 3)


def test_a_problems_success_test_follows_its_samples():
    @dataclass
    class Below:
        bars: Tensor

        def __call__(self, value: Tensor, output: Tensor) -> Tensor:
            return value < self.bars[torch.arange(len(value)) % len(self.bars)]

        def take(self, rows: Tensor) -> Below:
            return Below(self.bars[rows])

    bars = torch.tensor([1.0, 0.1, 1e-3])
    problem = Problem(nn.Identity(), lambda y: y.square().sum(1), (2,), 3, success=Below(bars))
    start = torch.ones(3, 2)
    result = solve(problem, "gd", steps=400, start=start)
    assert result.status == (Status.SOLVED,) * 3
    assert bool((result.value < bars).all())
    assert int(result.backwards[0]) < int(result.backwards[1]) < int(result.backwards[2])


def test_losses_follow_the_rows_taken():
    class Own(nn.Module):
        def __init__(self, scales: Tensor) -> None:
            super().__init__()
            self.scales = scales

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) * self.scales[:, None]

        def take(self, rows: Tensor) -> Own:
            return Own(self.scales[rows]).eval()

    prediction, target = rand(B, SIDE**2), rand(B, SIDE**2, seed=1)
    features = Features(Own(torch.tensor([1.0, 2.0, 3.0, 4.0]).double()).eval())
    rows = torch.tensor([2, 2, 0])
    for loss in (features, WeightedSum([MSE(), WEIGHTED], [1.0, 2.0])):
        near(loss.take(rows)(prediction[rows], target[rows]), loss(prediction, target)[rows], 1e-15)
    shared = Features(mlp(4, 3))
    assert shared.take(torch.tensor([2, 0])) is shared
