"""`lo.tune`: the weights of a generator after its latents."""

from __future__ import annotations

import pytest
import torch
from nets import mlp, near, randn, refuses
from torch import Tensor, nn

import latentopt as lo
from latentopt import ADRGD, Generator, TuneResult, TwoPhase

Z, TARGET = randn(4, 3), randn(4, 1, 3, 4, seed=1)


def generator(seed: int = 0) -> Generator:
    """Latents (B, 3) to images (B, 1, 3, 4); weights in layers 0, 2, 4, the last one affine."""
    return Generator(nn.Sequential(*mlp(3, 6, 8, 12, seed=seed), nn.Unflatten(1, (1, 3, 4))), latent_shape=3)


def tuned(**settings) -> TuneResult:
    return lo.tune(generator(), Z, TARGET, **{"measured": True, "steps": 20, "optimizer": "lbfgs", **settings})


@pytest.mark.parametrize("locality", [0.0, 0.5])
def test_the_last_bias_ends_at_its_closed_form(locality):
    """All images move by the bias: mean |r_i - b|^2 + locality |b|^2 is least at mean r_i / (1 + locality)."""
    found = tuned(parameters="4.bias", locality=locality)
    residual = (TARGET - generator()(Z)).flatten(1)
    near(found.delta["4.bias"], residual.mean(0) / (1 + locality), 1e-6)
    near(found.before, residual.square().mean(1), 1e-12)
    near(found.value, (residual - found.delta["4.bias"]).square().mean(1), 1e-12)


def test_the_last_layer_ends_at_least_squares():
    """Eight weights and a bias for each pixel fit four images exactly, as far as their activations differ."""
    found = tuned(parameters="4", locality=0.0, steps=60)
    assert found.delta.keys() == {"4.weight", "4.bias"}
    h = lo.split(generator(), "3")[0](Z)
    design = torch.cat([h, torch.ones(4, 1)], 1)
    best = design @ torch.linalg.lstsq(design, TARGET.flatten(1)).solution
    near(found.output.flatten(1), best, 1e-4)


def test_the_delta_makes_the_same_images_again_and_of_no_other_generator(tmp_path):
    whole = generator()
    found = lo.tune(whole, Z, TARGET, measured=True, steps=3)
    assert torch.equal(whole(Z), generator()(Z))  # untouched
    found.save(tmp_path / "delta.safetensors")
    again = TuneResult.load(tmp_path / "delta.safetensors").apply(generator())
    assert torch.equal(again(Z), found.output)
    assert not torch.equal(again(Z), whole(Z))
    for other in (generator(seed=1), again):
        with refuses("generator", "the one that was tuned"):
            found.apply(other)


def test_other_images_stay_the_more_the_greater_the_weight():
    z = randn(50, 3, seed=5)
    moved = [
        (found.apply(generator())(z) - generator()(z)).square().mean().item()
        for found in (tuned(locality=weight, anchors=20) for weight in (0.0, 0.1, 10.0))
    ]
    assert moved[0] > 1.2 * moved[1] > 2 * moved[2]


def test_costs_are_images_of_the_generator():
    found = tuned(steps=5, anchors=6, optimizer="adam")
    # 10 images each of: the start, 5 steps, the last iterate and the result; a backward a step.
    assert int(found.forwards.sum()) == 10 * 8
    assert int(found.backwards.sum()) == 10 * 5
    assert found.history["loss"].shape == (5, 1, 1)
    assert found.rows[0].keys() == {"sample", "value", "before", "forwards", "backwards"}


def test_a_stopped_search_goes_on(tmp_path):
    whole = tuned(steps=6)
    stopped = {"steps": 6, "checkpoint": tmp_path / "c", "checkpoint_every": 1}
    tuned(**stopped, callbacks=lambda progress: progress.t == 3)
    again = tuned(**stopped)
    assert again.history["loss"].shape == (3, 1, 1)  # it had been stopped for good
    (tmp_path / "c").unlink()

    def interrupt(progress):
        if progress.t == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(**stopped, callbacks=interrupt)
    assert torch.equal(tuned(**stopped).output, whole.output)


def test_parts_conditions_methods_and_half_precision():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = mlp(2, 4)

        def forward(self, a: Tensor, b: Tensor, y: Tensor) -> Tensor:
            return (self.first(a) * b + y)[:, None, None]

    both = Generator(Two(), latent_shape={"a": 2, "b": 4}).given(y=randn(3, 1))
    latents = {"a": randn(3, 2), "b": randn(3, 4)}
    found = lo.tune(both, latents, both(both.join(latents)), anchors=2, steps=2)
    near(found.before, torch.zeros(3).double(), 1e-12)
    assert found.delta.keys() == {"first.0.weight", "first.0.bias"}
    whole = generator()
    method = Generator(whole.module.forward, latent_shape=3)
    assert tuned(steps=2).delta.keys() == lo.tune(method, Z, TARGET, measured=True, steps=2).delta.keys()
    half = Generator(generator().module.half(), latent_shape=3)
    assert lo.tune(half, Z, TARGET, measured=True, steps=2).delta["0.weight"].dtype == torch.float16


class Shared(nn.Module):
    """A module with two names, and a parameter of two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.c, self.last = mlp(3, 3)[0], mlp(3, 3)[0], mlp(3, 12)[0]
        self.b, self.c.weight = self.a, self.a.weight

    def forward(self, z: Tensor) -> Tensor:
        return self.last(self.c(self.b(self.a(z).relu()).relu()).relu()).reshape(-1, 1, 3, 4)


@pytest.mark.parametrize("parameters", [None, "a", "b", "c.weight"])
@pytest.mark.parametrize("with_encoder", [False, True])
def test_shared_weights_stay_shared(parameters, with_encoder):
    module = Shared()
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(12, 3).double(), module.a) if with_encoder else None
    whole = Generator(module, latent_shape=3, encoder=encoder)
    weights = dict(module.named_parameters(remove_duplicate=False))
    found = lo.tune(whole, Z, TARGET, measured=True, parameters=parameters, steps=3)
    after = dict(module.named_parameters(remove_duplicate=False))
    assert all(weight is after[name] for name, weight in weights.items())
    assert "a.weight" in found.delta
    assert not {"b.weight", "c.weight"} & found.delta.keys()
    assert bool((found.value < found.before).any())
    near(found.apply(whole)(Z), found.output, 1e-12)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("parameters", {"parameters": "4.wieght"}, "did you mean '4.weight'"),
        ("parameters", {"parameters": []}, "at least one"),
        ("locality", {"locality": -1.0}, ">= 0"),
        ("anchors", {"anchors": 1.5}, "integer"),
        ("steps", {"steps": 0}, ">= 1"),
    ],
)
def test_wrong_settings_are_told_in_one_line(name, settings, words):
    with refuses(name, words):
        tuned(**settings)


def test_wrong_latents_and_generators_are_told_in_one_line():
    with refuses("latents", "one for each target"):
        lo.tune(generator(), Z[:2], TARGET, measured=True)
    fixed = Generator(lambda z: z[:, None, None], latent_shape=3)
    with refuses("generator", "with parameters"):
        lo.tune(fixed, Z.float(), torch.zeros(4, 1, 1, 3))
    for name in ("adr-gd", "adr-gd-soft"):
        with refuses("optimizer", "without gates"):
            tuned(optimizer=name)
    twice = TwoPhase(then=ADRGD())
    with refuses("optimizer", "without gates"):
        tuned(optimizer=twice)
