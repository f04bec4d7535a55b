from __future__ import annotations

import json
import shutil
import sys
from typing import Any

import pytest
import torch
from nets import near, rand, randn, refuses

import latentopt as lo
from latentopt.zoo.cards import read_card

BLOCKS = {"down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
SMALL = {**BLOCKS, "block_out_channels": [4, 8], "norm_num_groups": 2, "latent_channels": 4}
KINDS = {
    "AutoencoderTiny": {
        "encoder_block_out_channels": [4, 4],
        "decoder_block_out_channels": [4, 4],
        "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1],
    },
    "AutoencoderKL": {**SMALL, "scaling_factor": 0.4, "shift_factor": 0.3},
    "AutoencoderKL by channel": {**SMALL, "latents_mean": [0.0, 0.1, 0.2, 0.3], "latents_std": [1.0, 2.0, 3.0, 4.0]},
    "VQModel": {**SMALL, "vq_embed_dim": 5, "num_vq_embeddings": 6},
}


@pytest.fixture(scope="module")
def diffusers():
    return pytest.importorskip("diffusers", reason="needs diffusers")


def _saved(diffusers, kind: str, path) -> Any:
    torch.manual_seed(0)
    autoencoder = getattr(diffusers, kind.split()[0])(**KINDS[kind]).eval()
    autoencoder.save_pretrained(path)
    return autoencoder


def _scaled(config, latents: torch.Tensor) -> torch.Tensor:
    """Latents as a diffusion model takes them."""
    if config.get("latents_mean"):
        mean, std = (torch.tensor(config[name])[:, None, None] for name in ("latents_mean", "latents_std"))
        return (latents - mean) * config["scaling_factor"] / std
    return (latents - (config.get("shift_factor") or 0)) * config["scaling_factor"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_generator_decodes_and_encodes_as_diffusers_does(diffusers, kind, tmp_path):
    autoencoder = _saved(diffusers, kind, tmp_path)
    generator = lo.load(f"diffusers:{tmp_path}")
    assert isinstance(generator, lo.Generator)
    channels = 5 if kind == "VQModel" else 4
    assert generator.latent_shape == (channels, 128, 128)
    images, raw = rand(2, 3, 8, 12, dtype=torch.float32), randn(2, channels, 4, 6, dtype=torch.float32)
    options = {"force_not_quantize": True} if kind == "VQModel" else {}
    with torch.no_grad():
        encoded = autoencoder.encode(2 * images - 1)
        latents = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
        assert generator.encoder is not None
        near(generator.encoder(images), _scaled(autoencoder.config, latents), 1e-5)
        decoded = autoencoder.decode(raw, **options).sample
        near(generator.module(_scaled(autoencoder.config, raw)), decoded, 1e-4)
        near(generator.resized((8, 12))(_scaled(autoencoder.config, raw)), (decoded + 1) / 2, 1e-4)


def test_gates_act_on_relus_alone_and_other_methods_fit_every_decoder(diffusers, tmp_path):
    for kind, has_gates in {"AutoencoderTiny": True, "AutoencoderKL": False}.items():
        _saved(diffusers, kind, tmp_path / kind)
        generator = lo.load(f"diffusers:{tmp_path / kind}")
        assert isinstance(generator, lo.Generator)
        small = generator.resized(8)
        target = small(small.latents(1, seed=1))
        settings = {"start": "random", "restarts": 1, "steps": 3}
        found = lo.reconstruct(small, target, **settings)
        assert found.value < found.history["loss"][0].min()
        if has_gates:
            lo.reconstruct(small, target, optimizer="adr-gd", **settings)
        else:
            with refuses("generator", "adam, lbfgs"):
                lo.reconstruct(small, target, optimizer="adr-gd", **settings)


def test_a_pipeline_has_its_autoencoder_in_a_subfolder(diffusers, tmp_path):
    _saved(diffusers, "AutoencoderTiny", tmp_path / "vae")
    (tmp_path / "model_index.json").write_text("{}")
    whole, part = (lo.load(f"diffusers:{path}") for path in (tmp_path, tmp_path / "vae"))
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), part.parameters(), strict=True))


def test_half_precision_files_and_cards_are_read(diffusers, tmp_path):
    autoencoder = _saved(diffusers, "AutoencoderTiny", tmp_path / "full")
    autoencoder.half().save_pretrained(tmp_path / "half", variant="fp16")
    generator = lo.load(f"diffusers:{tmp_path / 'half'}")
    expected = dict(autoencoder.state_dict())
    for name, tensor in generator.module.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, expected[name.removeprefix("vae.")].float())
    cards = [read_card(f"diffusers:{tmp_path / name}") for name in ("full", "half")]
    assert cards[0].architecture == cards[1].architecture
    assert cards[0].weights_sha256 != cards[1].weights_sha256


def test_what_is_no_autoencoder_is_refused_in_one_line(diffusers, tmp_path):
    _saved(diffusers, "AutoencoderTiny", tmp_path / "good")
    with refuses("model", "no folder 'nothing'"):
        lo.load("diffusers:nothing")
    (tmp_path / "empty").mkdir()
    with refuses("model", "config.json"):
        lo.load(f"diffusers:{tmp_path / 'empty'}")
    other = shutil.copytree(tmp_path / "good", tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps({**config, "_class_name": "UNet2DModel"}))
    with refuses(str(other / "config.json"), "UNet2DModel"):
        lo.load(f"diffusers:{other}")
    (other / "config.json").write_text(json.dumps({**config, "num_decoder_blocks": [1]}))
    with refuses(str(other / "config.json"), "num_decoder_blocks"):
        lo.load(f"diffusers:{other}")
    (other / "config.json").write_text(json.dumps({**config, "num_decoder_blocks": [2, 2]}))
    with refuses(str(other), "none for decoder."):
        lo.load(f"diffusers:{other}")
    (other / "config.json").write_text(json.dumps(config))
    (other / "diffusion_pytorch_model.safetensors").write_bytes(b"{}")
    with refuses(str(other)):
        lo.load(f"diffusers:{other}")


def test_a_name_on_the_hub_without_a_network_is_refused_in_one_line(diffusers, monkeypatch):
    def unreachable(*_, **__):
        raise OSError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with refuses("model", "no route to host"):
        lo.load("diffusers:somebody/something")


def test_a_name_on_the_hub_is_downloaded_once(diffusers, monkeypatch, tmp_path):
    _saved(diffusers, "AutoencoderTiny", tmp_path / "vae")
    calls = []

    def download(repository, allow_patterns, local_files_only):
        calls.append((repository, local_files_only))
        if local_files_only:
            raise OSError("not there yet")
        assert "vae/config.json" in allow_patterns
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert lo.load("diffusers:somebody/something").latent_shape == (4, 128, 128)
    assert calls[:2] == [("somebody/something", True), ("somebody/something", False)]


def test_without_diffusers_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with refuses("model", "latentopt[diffusers]"):
        lo.load("diffusers:somebody/something")
