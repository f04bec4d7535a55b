"""A job whose first and last target share an operator that others have not."""

from __future__ import annotations

import numpy as np
import torch
from files import call, table, write_model
from nets import near

import latentopt as lo
from latentopt.zoo import cards


def test_targets_between_the_first_and_the_last_may_have_other_masks(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    generator = cards.load_generator(write_model(tmp_path / "m"))
    images = generator(generator.latents(3, seed=1))
    np.save("t.npy", images.numpy())
    left = np.zeros((1, 4, 4), np.float32)
    left[..., :2] = 1
    np.save("masks.npy", np.stack([left, 1 - left, left]))
    words = ("--model", "m", "--targets", "t.npy", "--operator", "mask", "--operator.mask", "masks.npy")
    quick = ("--steps", "8", "--restarts", "2", "--halving", "[]", "--wandb", "disabled")
    assert call(capsys, "reconstruct", *words, *quick, "--batch-size", "2", "--out", "a").code == 0
    masks = lo.operators.Mask(torch.tensor(np.load("masks.npy")))
    found = lo.reconstruct(generator, images, operator=masks, steps=8, restarts=2, halving=())
    near(torch.tensor([float(row["loss"]) for row in table(tmp_path / "a")]), found.value, 1e-6)
