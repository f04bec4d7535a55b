"""Models that a recipe names by class path and weights, without a card."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import yaml
from files import call, contents, refused, table, write_classifier, write_model

import latentopt as lo
from latentopt.zoo import cards

MLP = {"class_path": "latentopt.zoo.architectures.MLP"}
DECODER = {**MLP, "init_args": {"sizes": [3, 6, 16], "shape": [1, 4, 4]}, "latent_shape": [3], "output_range": [-1, 2]}


@pytest.fixture
def decoder(tmp_path, monkeypatch) -> lo.Generator:
    """A generator with a card, whose weights are in ``w.pt``, and a target of its images in ``t.npy``."""
    monkeypatch.chdir(tmp_path)
    generator = cards.load_generator(write_model(tmp_path / "carded"))
    torch.save({"state_dict": generator.module.state_dict()}, tmp_path / "w.pt")
    np.save(tmp_path / "t.npy", generator(generator.latents(2, seed=1)).numpy())
    return generator


def write_recipe(model: Any, **changes: Any) -> str:
    recipe = {"job": "reconstruct", "model": model, "targets": ["t.npy"], "steps": 3, "restarts": 2, "halving": []}
    with open("r.yaml", "w") as file:  # noqa: PTH123
        yaml.safe_dump({**recipe, "start": "random", "wandb": "disabled", "out": "out", **changes}, file)
    return "r.yaml"


def test_a_generator_without_a_card_is_reconstructed_through_as_the_one_with_a_card(decoder, tmp_path, capsys):
    model = {**DECODER, "weights": "w.pt", "start_scale": "1/2"}
    assert torch.equal(lo.load(model)(decoder.latents(3, 0)), decoder(decoder.latents(3, 0)))
    for out, given in (("a", model), ("b", "carded")):
        assert call(capsys, "run", write_recipe(given), "--out", out).code == 0
    assert table(tmp_path / "a") == table(tmp_path / "b")
    torch.save({name: 0.9 * tensor for name, tensor in decoder.module.state_dict().items()}, tmp_path / "w.pt")
    assert "other weights" in refused(capsys, "run", write_recipe(model), "--out", "a")  # other weights are another job


def test_a_classifier_without_a_card_is_attacked_as_the_one_with_a_card(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    net = cards.load_classifier(write_classifier(tmp_path / "carded"))
    torch.save(net.module.state_dict(), tmp_path / "w.pt")
    model = {**MLP, "init_args": {"sizes": [64, 10]}, "weights": "w.pt", "classes": list("0123456789")}
    for out, given in (("a", model), ("b", "carded")):
        recipe = {"job": "attack", "model": given, "data": "digits", "eps": "8/255", "limit": 4, "optimizer": "fgsm"}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump({**recipe, "wandb": "disabled", "out": out}))
        assert call(capsys, "run", "r.yaml").code == 0
    assert table(tmp_path / "a") == table(tmp_path / "b")


WRONG = {
    "a misspelt key": ({"latent_shap": [3]}, "did you mean 'latent_shape'?"),
    "a class that is not trusted": ({"class_path": "os.system"}, "LATENTOPT_TRUST"),
    "no class": ({"class_path": None}, "class"),
    "no such file": ({"weights": "none.pt"}, "none.pt"),
    "weights that are a number": ({"weights": 3}, "weights"),
    "weights of another network": ({"init_args": {"sizes": [3, 7, 16], "shape": [1, 4, 4]}}, "w.pt"),
    "an unknown argument": ({"init_args": {"size": [3]}}, "size"),
    "no shape of latents": ({"latent_shape": "three"}, "latent_shape"),
    "a latent of another shape": ({"latent_shape": [4]}, "(4,)"),
    "an empty range": ({"output_range": [1, 1]}, "output_range"),
    "a classifier's setting": ({"classes": ["a"]}, "classes"),
}


@pytest.mark.parametrize(("changes", "hint"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_model_is_refused_in_one_line_with_nothing_written(decoder, tmp_path, capsys, changes, hint):
    write_recipe({**DECODER, "weights": "w.pt", **changes})
    before = contents(tmp_path)
    assert hint in refused(capsys, "run", "r.yaml")
    assert contents(tmp_path) == before
