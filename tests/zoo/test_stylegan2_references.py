"""StyleGAN2 against other implementations: sources in a folder, or packages of requirements-references.txt."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from nets import near, rand, randn
from test_stylegan2 import narrow, waves

import latentopt as lo
from latentopt.inverse.noise_maps import Autocorrelation

pytestmark = pytest.mark.slow


@pytest.fixture
def rosinality() -> Path:
    """A clone of github.com/rosinality/stylegan2-pytorch."""
    folder = os.environ.get("STYLEGAN2_ROSINALITY")
    if not folder:
        pytest.skip("STYLEGAN2_ROSINALITY does not name a clone of github.com/rosinality/stylegan2-pytorch")
    return Path(folder)


@pytest.fixture
def model(rosinality, monkeypatch) -> Iterator[Any]:
    """Its module ``model``, with 8 channels instead of 512."""
    monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *args, **kwargs: None)  # CUDA; not for the CPU
    monkeypatch.syspath_prepend(rosinality)
    module, path = ModuleType("model"), rosinality / "model.py"
    exec(compile(path.read_text().replace(": 512", ": 8"), path, "exec"), module.__dict__)
    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "op"]:
        del sys.modules[name]


@pytest.mark.parametrize("size", [8, 16, 32])
def test_state_dicts_and_images_are_those_of_rosinality(model, size):
    theirs = model.Generator(size, 16, 2).eval()
    ours = narrow(size)
    theirs.load_state_dict(waves(theirs.state_dict()))
    theirs, ours = theirs.double(), ours.double()
    ours.load_state_dict(theirs.state_dict())
    z, w = randn(2, 16), randn(2, theirs.n_latent, 16, seed=1)
    noise = [randn(2, *shape, seed=2) for shape in ours.noise_shapes]
    with torch.no_grad():
        near(ours(z), theirs([z], randomize_noise=False)[0], 1e-4)
        near(ours.synthesis(w, noise), theirs([w], input_is_latent=True, noise=noise)[0], 1e-4)


@pytest.mark.parametrize("size", [8, 32])
def test_state_dicts_and_images_are_those_of_nvidia(size, monkeypatch, tmp_path):
    folder = os.environ.get("STYLEGAN2_NVIDIA")
    if not folder:
        pytest.skip("STYLEGAN2_NVIDIA does not name a clone of github.com/NVlabs/stylegan2-ada-pytorch")
    monkeypatch.syspath_prepend(folder)
    networks = pytest.importorskip("training.networks", exc_type=ImportError)
    settings = {"mapping_kwargs": {"num_layers": 2}, "synthesis_kwargs": {"channel_base": 64, "channel_max": 8}}
    torch.manual_seed(0)
    theirs = networks.Generator(16, 0, 16, size, 3, **settings).eval().requires_grad_(False)
    for name, parameter in theirs.named_parameters():
        if name.endswith(("bias", "noise_strength")):
            parameter += 0.3 * torch.randn_like(parameter)
    torch.save(theirs.state_dict(), tmp_path / "g.pt")
    ours = lo.load(f"stylegan2:{tmp_path / 'g.pt'}").module
    z = randn(2, 16).float()
    near(ours(z), theirs(z, None, noise_mode="const", force_fp32=True), 1e-4)


@pytest.mark.parametrize("size", [8, 32])
def test_state_dicts_and_images_are_those_of_lucidrains(size, monkeypatch, tmp_path):
    pytest.importorskip("kornia", exc_type=ImportError)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # it refuses to be imported without
    for name in ("aim", "fire", "vector_quantize_pytorch"):  # of its training
        monkeypatch.setitem(sys.modules, name, MagicMock())
    theirs = pytest.importorskip("stylegan2_pytorch.stylegan2_pytorch", exc_type=ImportError)
    monkeypatch.undo()
    torch.manual_seed(0)
    mapping, synthesis = theirs.StyleVectorizer(16, 2, lr_mul=0.1), theirs.Generator(size, 16, network_capacity=2)
    state = {f"SE.{name}": t for name, t in mapping.state_dict().items()}
    state |= {f"GE.{name}": t for name, t in synthesis.state_dict().items()}
    torch.save({"GAN": {**state, "S.net.0.bias": torch.ones(16)}, "version": "1"}, tmp_path / "model_1.pt")
    ours = lo.load(f"stylegan2:{tmp_path / 'model_1.pt'}").module
    z, w, noise = randn(2, 16).float(), randn(2, ours.layers, 16, seed=1).float(), rand(2, 1, size, size).float()
    with torch.no_grad():
        near(ours.mapping(z), mapping(z), 1e-5)
        near(ours.synthesis(w, [noise]), synthesis(w, noise.permute(0, 2, 3, 1)), 1e-4)


def test_the_autocorrelation_of_noise_maps_is_that_of_the_projector(rosinality):
    source = (rosinality / "projector.py").read_text()
    start = source.index("def noise_regularize(")
    scope: dict[str, Any] = {"torch": torch}
    exec(source[start : source.index("def noise_normalize_(")], scope)
    maps = [randn(1, 1, side, side, seed=side) for side in (4, 8, 32)]
    penalty = Autocorrelation(3.0, [(0, (1, 4, 4)), (16, (1, 8, 8)), (80, (1, 32, 32))])
    near(penalty(torch.cat([m.flatten() for m in maps])[None])[0], 3 * scope["noise_regularize"](maps), 1e-9)
