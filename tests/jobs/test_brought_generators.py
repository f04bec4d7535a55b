"""Generators of users at the command line: several latents and outputs, a mapping network, conditions, signals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from files import call, table
from nets import near, refill
from safetensors.numpy import load_file

import latentopt as lo
from latentopt.zoo import cards

NETS = '''
import torch
from torch import nn


class Styled(nn.Module):
    """Styles w (B, 2, 4), noise (B, 1, 3, 3) and a label to a signal and an image."""

    def __init__(self, width):
        super().__init__()
        self.body, self.label = nn.Linear(8, width), nn.Embedding(3, width)
        self.image, self.signal = nn.Linear(width, 9), nn.Linear(width, 12)

    def forward(self, w, noise, label, strength=1.0):
        hidden = (self.body(w.flatten(1)) + self.label(label)).relu()
        image = self.image(hidden).unflatten(1, (1, 3, 3)) + 0.01 * strength * noise
        return {"signal": self.signal(hidden).unflatten(1, (2, 6)).sigmoid(), "image": image.sigmoid()}
'''
QUICK = ("--steps", "12", "--restarts", "2", "--halving", "[]", "--wandb", "disabled", "--device", "cpu")


@pytest.fixture
def saved(tmp_path, monkeypatch) -> lo.Generator:
    """A saved model of one's own architecture, with all that a card may say."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "brought_nets.py").write_text(NETS)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("LATENTOPT_TRUST", "brought_nets")
    linear = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 3, "out_features": 4}}
    parts = {"generator": {"class_path": "brought_nets.Styled", "init_args": {"width": 7}}, "mapping": linear}
    card = cards.GeneratorCard(
        name="styled",
        summary="",
        architecture=parts,
        latent_shape={"w": [2, 4], "noise": [1, 3, 3]},
        output_range=(0.0, 1.0),
        start_scale=1.0,
        pick="image",
        latents={"w": {"latent_shape": 3, "copies": 2}},
        conditions={"label": 1},
        constants={"strength": 0.5},
    )
    networks = {name: refill(cards.build(spec), seed=2, dtype=torch.float32) for name, spec in parts.items()}
    cards.save_model(tmp_path / "m", card, networks)
    return cards.load_generator("m")


def test_results_of_named_latents_are_made_again_and_started_from(saved, capsys):
    near(saved.latents(5, 0), saved.join(saved.parts(saved.latents(5, 0))), 0)
    images = saved(saved.latents(3, seed=1)).detach()
    np.save("t.npy", images.numpy())
    words = ("reconstruct", "--model", "m", "--targets", "t.npy", "--prior", "sphere", *QUICK)
    assert call(capsys, *words, "--start", "nearest", "--save-images", "--out", "a").code == 0
    run = lo.read_run("a")
    near(saved(run.tensor), torch.tensor(np.load("a/images.npy")), 1e-6)
    own = saved.distribution
    found, scale = saved.parts(run.tensor - own.mean.float()), saved.parts(own.scale[None])
    for name, values in found.items():
        near(values.flatten(1).norm(dim=1), scale[name].norm().float().expand(3), 1e-4)
    assert load_file("a/latents.safetensors")["latents"].shape == (3, 17)
    assert call(capsys, *words, "--start", "a/latents.safetensors", "--out", "b").code == 0
    before, after = ([float(row["loss"]) for row in table(run.folder.parent / name)] for name in "ab")
    assert all(again <= loss + 1e-9 for loss, again in zip(before, after, strict=True))
    other = lo.reconstruct(saved, images, start="nearest", prior="sphere", steps=12, restarts=2, halving=())
    near(torch.tensor(before), other.value, 1e-6)


def test_a_signal_behind_a_mask_of_a_file(saved, capsys):
    model = {"class_path": "brought_nets.Styled", "init_args": {"width": 7}, "pick": "signal"}
    model |= {"latent_shape": {"w": [2, 4], "noise": [1, 3, 3]}, "conditions": {"label": 2}}
    generator = cards.load_generator(model)
    signals = generator(generator.latents(2, 0)).detach()
    mask = torch.ones(2, 1, 6)
    mask[0, :, :2], mask[1, :, 4:] = 0, 0
    np.save("t.npy", signals.numpy())
    np.save("mask.npy", mask.numpy())
    recipe = {"job": "reconstruct", "model": model, "targets": ["t.npy"], "start": "nearest"}
    Path("r.yaml").write_text(yaml.safe_dump(recipe))
    words = ("run", "r.yaml", "--operator", "mask", "--operator.mask", "mask.npy", *QUICK)
    assert call(capsys, *words, "--save-images", "--out", "a").code == 0
    settings = {"operator": lo.operators.Mask(mask), "start": "nearest", "steps": 12, "restarts": 2, "halving": ()}
    found = lo.reconstruct(generator, signals, **settings)
    near(torch.tensor([float(row["loss"]) for row in table(lo.read_run("a").folder)]), found.value, 1e-6)
    assert np.load("a/images.npy").shape == (2, 2, 6)
