"""State dicts of a network, however they are wrapped."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from nets import refuses
from torch import nn
from torchvision import models

from latentopt.files import read_tensors
from latentopt.zoo import cards
from latentopt.zoo.state_dicts import load_checkpoint


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3))


OWN, OTHER = network().state_dict(), network(1).state_dict()
HEAD = {"0.weight": torch.ones(5, 5)}


def renamed(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


FITTING = {
    "plain": OWN,
    "data parallel": renamed(OWN, "module."),
    "compiled": renamed(OWN, "_orig_mod."),
    "two prefixes": renamed(OWN, "module.model."),
    "state_dict": {"epoch": 3, "state_dict": OWN, "optimizer": {"state": {}, "lr": 0.1}},
    "model": {"model": renamed(OWN, "module."), "args": argparse.Namespace(lr=0.1)},
    "Lightning's": {"state_dict": {**renamed(OWN, "generator."), **renamed(HEAD, "critic.")}, "epoch": 1},
    "StyleGAN2's": {"g": OTHER, "d": HEAD, "g_ema": OWN, "g_optim": {"state": {}}},
    "nested twice": {"state": {"net": OWN}},
    "without counters": {name: tensor for name, tensor in OWN.items() if "num_batches" not in name},
}


@pytest.mark.parametrize("content", FITTING.values(), ids=FITTING.keys())
def test_the_state_dict_in_a_checkpoint_is_loaded(tmp_path, content):
    path = tmp_path / "a.pt"
    torch.save(content, path)
    module = network(2)
    load_checkpoint(module, read_tensors(path), path, "the network")
    assert all(torch.equal(tensor, OWN[name]) for name, tensor in module.state_dict().items())


WRONG = {
    "two that fit": ({"g": OWN, "d": OTHER}, "several: g, d"),
    "another network's": (
        {"state_dict": HEAD},
        "without 0.bias (2,) and 6 more, 0.weight of shape (5, 5)",
    ),
    "a StyleGAN2's": (
        {"g_ema": {"style.1.weight": HEAD["0.weight"], "convs.0.conv.modulation.weight": torch.ones(2, 3)}},
        "with style.1.weight (5, 5) and 1 more; they look like a StyleGAN2 of rosinality's layout",
    ),
    "no tensors": ({"epoch": 3, "lr": 0.1}, "epoch, lr"),
    "a list": ([torch.zeros(1)], "list"),
    "other shapes": ({**OWN, "3.bias": torch.ones(4)}, "3.bias of shape (4,) in place of (3,)"),
    "more tensors": ({**OWN, "9.bias": torch.ones(4)}, "with 9.bias (4,)"),
}


@pytest.mark.parametrize(("content", "words"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_state_dict_of_the_network_is_told(content, words):
    with refuses("a.pt", words):
        load_checkpoint(network(), content, Path("a.pt"), "the network")


class Own:
    pass


def test_the_class_of_a_foreign_object_is_named(tmp_path):
    torch.save({"a": Own()}, tmp_path / "a.pt")
    with refuses(str(tmp_path / "a.pt"), "test_state_dicts.Own"):
        read_tensors(tmp_path / "a.pt")


@pytest.mark.parametrize(("name", "classes"), [("squeezenet1_1", 7), ("mobilenet_v3_small", 2)])
def test_a_fine_tuned_network_of_torchvision_has_its_own_number_of_classes(tmp_path, name, classes):
    fine_tuned = models.get_model(name, num_classes=classes).eval()
    names = {f"kind {number}": number for number in range(classes)}
    torch.save({"state_dict": renamed(fine_tuned.state_dict(), "module."), "class_to_idx": names}, tmp_path / "a.pth")
    found = cards.load_classifier(f"torchvision/{name}", weights=tmp_path / "a.pth")
    x = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert found(x).shape == (2, classes)
    assert found.classes == tuple(names)
