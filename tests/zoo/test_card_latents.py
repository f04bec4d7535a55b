"""Cards and recipes that say how latents are distributed, which output is the image, and what the forward is given."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from files import write_model
from nets import near, refill, refuses
from torch import nn

import latentopt as lo
from latentopt.zoo import cards

MLP = "latentopt.zoo.architectures.MLP"
SPEC = {"class_path": MLP, "init_args": {"sizes": [3, 6, 16], "shape": [1, 4, 4]}}
MODEL = {**SPEC, "latent_shape": [3]}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_file_is_a_sample_of_the_latents(there):
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.savez(there / "w.npz", other=rows[:2], latents=rows)
    generator = cards.load_generator({**MODEL, "latents": "w.npz"})
    assert sorted(generator.latents(20, 0).tolist()) == sorted(rows.tolist())
    near(generator.distribution.mean, torch.tensor(rows).double().mean(0), 1e-12)


def test_mean_and_std_are_numbers_lists_or_files(there):
    np.save(there / "std.npy", np.array([1.0, 2.0, 3.0]))
    for spec, mean, std in (
        ({"mean": [1, 2, "1/2"], "std": "std.npy"}, [1, 2, 0.5], [1, 2, 3]),
        ({"std": "1/2"}, [0, 0, 0], [0.5] * 3),
        ({"mean": 4}, [4] * 3, [1] * 3),
    ):
        own = cards.load_generator({**MODEL, "latents": spec}).distribution
        near(own.mean, torch.tensor(mean).double(), 0)
        near(own.scale, torch.tensor(std).double(), 0)


def test_a_class_path_is_a_distribution_of_torch():
    spec = {"class_path": "torch.distributions.Uniform", "init_args": {"low": -1, "high": "3/1"}}
    own = cards.load_generator({**MODEL, "latents": spec}).distribution
    near(own.mean, torch.ones(3).double(), 0)
    near(own.scale, torch.full((3,), 4 / 12**0.5).double(), 1e-6)
    normal = {"class_path": "torch.distributions.Normal", "init_args": {"loc": [1, 2, 3], "scale": "1/2"}}
    whole = {"base_distribution": normal, "reinterpreted_batch_ndims": 1}
    spec = {"class_path": "torch.distributions.Independent", "init_args": whole}
    own = cards.load_generator({**MODEL, "latents": spec}).distribution
    near(own.mean, torch.tensor([1.0, 2, 3]).double(), 0)
    near(own.scale, torch.full((3,), 0.5).double(), 0)


@pytest.mark.usefixtures("brought")
def test_a_class_of_ones_own_package_is_a_distribution():
    spec = {"class_path": "own_latents.Twos", "init_args": {"width": "1/4"}}
    generator = cards.load_generator({**MODEL, "latents": spec})
    near(generator.latents(2, 0), 2 + 0.25 * torch.randn(2, 3, generator=seeded()), 0)
    near(generator.distribution.scale, torch.full((3,), 0.25).double(), 0)


@pytest.fixture
def brought(there, monkeypatch):
    """A package of the user's, which is trusted."""
    (there / "own_latents.py").write_text(
        "import torch\nclass Twos:\n    mean = 2.0\n"
        "    def __init__(self, width):\n        self.scale = width\n"
        "    def draw(self, count, generator):\n"
        "        return 2 + self.scale * torch.randn(count, 3, generator=generator)\n"
    )
    monkeypatch.syspath_prepend(str(there))
    monkeypatch.setenv("LATENTOPT_TRUST", "own_latents")


def test_a_mapping_network_has_weights_of_its_own(there):
    mapping = refill(nn.Linear(2, 3), seed=4, dtype=torch.float32)
    torch.save({"g_ema": mapping.state_dict()}, there / "m.pt")
    network = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}, "weights": "m.pt"}
    spec = {"mapping": network, "latent_shape": 2, "truncation": "1/2"}
    generator = cards.load_generator({**MODEL, "latents": spec})
    near(generator.latents(4, 1), lo.MappedLatents(mapping, 2, truncation=0.5).draw(4, seeded(1)), 0)


def card_of(architecture: dict[str, Any], **settings: Any) -> cards.GeneratorCard:
    known: dict[str, Any] = {"latent_shape": [3], "output_range": (0.0, 1.0), "start_scale": 1.0}
    return cards.GeneratorCard(name="m", summary="", architecture=architecture, **{**known, **settings})


def test_a_saved_model_keeps_its_mapping_network_its_files_its_choice_and_its_constants(there):
    parts = {
        "generator": {"class_path": "torch.nn.LSTM", "init_args": {"input_size": 4, "hidden_size": 6}},
        "mapping": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 4}},
    }
    networks = {name: refill(cards.build(spec), seed=1, dtype=torch.float32) for name, spec in parts.items()}
    (there / "data").mkdir()
    np.save(there / "data" / "hidden.npy", np.zeros((2, 6), np.float32))
    card = card_of(
        parts,
        latent_shape=[7, 4],
        latents={"latent_shape": [2], "copies": 7, "truncation": 0.7},
        pick=0,
        output_range=(-1.0, 1.0),
    )
    cards.save_model(there / "m", card, networks)
    loaded = cards.load_generator(there / "m")
    z = loaded.latents(5, 3)
    near(z, lo.MappedLatents(networks["mapping"], 2, copies=7, truncation=0.7).draw(5, seeded(3)), 0)
    near(loaded(z), (networks["generator"](z)[0] + 1) / 2, 0)
    assert vars(cards.read_card(there / "m"))["latents"] == card.latents


def test_the_files_of_a_saved_model_move_with_it(there, monkeypatch):
    (there / "data").mkdir()
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.save(there / "data" / "w.npy", rows)
    card = card_of({"generator": SPEC}, latents="data/w.npy")
    cards.save_model(there / "m", card, {"generator": cards.build(SPEC)})
    shutil.move(there / "m", there / "elsewhere")
    shutil.rmtree(there / "data")
    assert (there / "elsewhere" / "w.npy").is_file()
    loaded = cards.load_generator(there / "elsewhere")
    assert sorted(loaded.latents(20, 0).tolist()) == sorted(rows.tolist())


def test_parts_have_latents_by_name_and_the_rest_are_standard_normal():
    spec = {"class_path": "torch.nn.Bilinear", "init_args": {"in1_features": 2, "in2_features": 3, "out_features": 4}}
    model = {**spec, "latent_shape": {"input1": [2], "input2": [3]}, "latents": {"input2": {"mean": 3, "std": 2}}}
    own = cards.load_generator(model).distribution
    near(own.mean, torch.tensor([0.0, 0, 3, 3, 3]).double(), 0)
    near(own.scale, torch.tensor([1.0, 1, 2, 2, 2]).double(), 0)


def test_conditions_are_files_of_the_folder_and_constants_are_passed_as_they_are(there):
    spec = {
        "class_path": "torch.nn.MultiheadAttention",
        "init_args": {"embed_dim": 4, "num_heads": 1, "batch_first": True},
    }
    network = refill(cards.build(spec), seed=1, dtype=torch.float32)
    key = np.random.default_rng(0).normal(size=(1, 5, 4)).astype(np.float32)
    np.save(there / "key.npy", key)
    card = card_of(
        {"generator": spec},
        latent_shape=[2, 4],
        conditions={"key": "key.npy", "value": key.tolist()},
        constants={"need_weights": True, "average_attn_weights": False},
        pick=1,
    )
    cards.save_model(there / "m", card, {"generator": network})
    (there / "key.npy").unlink()
    loaded = cards.load_generator(there / "m")
    z = loaded.latents(1, 0)
    tensor = torch.tensor(key)
    near(loaded(z), network.eval()(z, tensor, tensor, average_attn_weights=False)[1], 1e-6)
    assert loaded(z).shape == (1, 1, 2, 5)
    assert loaded.constants == {"need_weights": True, "average_attn_weights": False}


WRONG = {
    "no such file": ("none.npy", "none.npy"),
    "no file": ("normal", "latents"),
    "no such key": ({"mu": 1}, "latents"),
    "no spread": ({"std": 0}, "latents.std"),
    "words": ({"mean": "much"}, "latents.mean"),
    "another number of means": ({"mean": [1, 2]}, "latents"),
    "no mean": ({"mean": None}, "latents.mean"),
    "means and deviations that do not fit": ({"mean": [0, 1, 2], "std": [1, 2]}, "latents.std"),
    "a number for a vector": (
        {"class_path": "torch.distributions.MultivariateNormal", "init_args": {"loc": 0, "covariance_matrix": 1}},
        "init_args",
    ),
    "a class that is not trusted": ({"class_path": "os.system"}, "class_path"),
    "a class of another kind": ({"class_path": "torch.nn.ReLU"}, "class_path"),
    "a module of torch's": ({"class_path": "torch.distributions.kl"}, "class_path"),
    "a function of torch's": ({"class_path": "torch.distributions.kl.kl_divergence"}, "class_path"),
    "no such class": ({"class_path": "torch.distributions.Norm"}, "class_path"),
    "an unknown argument": ({"class_path": "torch.distributions.Normal", "init_args": {"mu": 1}}, "init_args"),
    "no mapping network": ({"latent_shape": 3}, "latents.mapping"),
    "a truncation to nothing": (
        {"mapping": {"class_path": "torch.nn.Identity"}, "latent_shape": 3, "truncation": 0},
        "MappedLatents.truncation",
    ),
    "z of another shape": (
        {
            "mapping": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}},
            "latent_shape": 3,
        },
        "mapping",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_latents_of_a_recipe_are_named(there, case):
    spec, name = WRONG[case]
    with refuses(name):
        cards.load_generator({**MODEL, "latents": spec}).latents(1, 0)


def test_cards_without_the_new_fields_load(there):
    content = yaml.safe_load((write_model(there / "m") / "card.yaml").read_text())
    old = {name: value for name, value in content.items() if name not in ("pick", "latents", "constants")}
    (there / "m" / "card.yaml").write_text(yaml.safe_dump(old))
    assert cards.load_generator(there / "m").distribution.source is None


def test_a_field_of_several_types_is_told_which():
    with refuses("model", "pick: expected int or str, got 1.5"):
        cards.read_card({**MODEL, "pick": 1.5})
    with refuses("architecture", 'Parser key "in_features": Expected'):
        cards.build({"class_path": "torch.nn.Linear", "init_args": {"in_features": "a", "out_features": 3}})
