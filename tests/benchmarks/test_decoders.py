"""The study of a decoder: its baseline without a network, and latents in which directions count alike."""

from __future__ import annotations

import pytest
import torch
from local_data import local_data
from studies import call_study, result_rows
from torch import nn
from torch.nn import functional as F

from benchmarks.decoders import DecoderOutcome
from benchmarks.total_variation import deepinv_total_variation, total_variation
from benchmarks.whitening import whitened
from latentopt.networks.generator import Generator
from latentopt.operators import Identity, Mask


def test_total_variation_of_a_step_is_the_closed_form():
    y = torch.tensor([0.0] * 4 + [1.0] * 4, dtype=torch.float64).reshape(1, 1, 1, 8)
    x = total_variation(Identity(), y, y, weight=0.2, steps=200)
    assert x.flatten().tolist() == pytest.approx([0.05] * 4 + [0.95] * 4, abs=1e-6)  # each half moves by weight / 4


def test_whitened_latents_make_the_same_images_and_are_alike():
    conv = nn.Conv2d(3, 64, 1, bias=False)
    with torch.no_grad():
        conv.weight *= torch.tensor([1.0, 4.0, 16.0])[:, None, None]
    generator, z = Generator(conv, latent_shape=(3, 32, 32)).eval(), torch.randn(1, 3, 32, 32)
    white, back, u = whitened(generator, z)
    assert torch.allclose(back(u), z, atol=1e-5)
    assert torch.allclose(white(u), generator(z), atol=1e-5)
    values = torch.linalg.svdvals(conv.weight[:, :, 0, 0] @ back.matrix).square()
    assert values[0] / values[-1] < 1.2  # 256 and more before


@pytest.mark.slow
def test_the_memory_of_a_gradient_is_measured_in_each_form(capsys, tmp_path):
    local_data("taef2/taef2_decoder.safetensors")
    assert call_study(capsys, "decoder-memory", "--quick", "--out", tmp_path / "o").code == 0
    whole, checkpointed = result_rows(tmp_path / "o")
    assert float(whole["above"]) > 0
    assert float(checkpointed["difference"]) == 0
    assert 1e8 < float(checkpointed["peak"]) < 6e9


@pytest.mark.slow
def test_the_study_runs_and_goes_on(capsys, tmp_path):
    local_data("taef2/taef2_decoder.safetensors")
    words = ("decoders", "--quick", "--out", tmp_path / "o")
    assert call_study(capsys, *words).code == 0
    first = result_rows(tmp_path / "o")
    assert {row["method"] for row in first} == {"encoder", "a hand-written Adam loop", "lbfgs-whitened"}
    assert call_study(capsys, *words, "--overwrite").code == 0
    assert result_rows(tmp_path / "o") == first  # seconds too: nothing was computed again


@pytest.mark.slow
def test_the_spaces_of_a_stylegan2_run_and_go_on(capsys, tmp_path):
    local_data("mnist")
    words = ("style-spaces", "--quick", "--out", tmp_path / "o")
    assert call_study(capsys, *words).code == 0
    first = result_rows(tmp_path / "o")
    assert [row["method"] for row in first] == ["w", "w", "w+", "w+"]
    errors = [float(row["mse"]) for row in first]
    assert sum(errors[2:]) <= sum(errors[:2])  # w+ goes on from w
    assert call_study(capsys, *words, "--overwrite").code == 0
    assert result_rows(tmp_path / "o") == first


def test_total_variation_is_that_of_scikit_image():
    restoration = pytest.importorskip("skimage.restoration")
    y = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = total_variation(Identity(), y, y, weight=0.1, steps=400)
    theirs = restoration.denoise_tv_chambolle(y[0, 0].numpy(), weight=0.1, eps=1e-12, max_num_iter=3000)
    assert torch.allclose(x[0, 0], torch.tensor(theirs), atol=1e-3)


def test_total_variation_is_that_of_deepinv():
    pytest.importorskip("deepinv")
    draws = torch.Generator().manual_seed(0)
    mask = Mask((torch.rand(1, 24, 24, generator=draws) < 0.5).float())
    y = mask(torch.rand(1, 1, 24, 24, generator=draws))
    images = [minimise(mask, y, y, 0.05, steps=400) for minimise in (total_variation, deepinv_total_variation)]
    ours, theirs = ((mask(x) - y).square().sum() / 2 + 0.05 * _variation(x) for x in images)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-3)


def _variation(x: torch.Tensor) -> torch.Tensor:
    down, right = F.pad(x.diff(dim=2), (0, 0, 0, 1)), F.pad(x.diff(dim=3), (0, 1))
    return torch.stack([down, right]).norm(dim=0).sum()


def test_what_a_trace_reaches_after_its_evaluations_does_not_count_but_has_a_time():
    outcome = DecoderOutcome("inversion", "m", 2, [0, 1], [[30.0, 31.0, 33.0], [29.0]], [[1.0, 2.0, 3.0], [1.0]])
    assert outcome.final == [31.0, 29.0]
    assert outcome.whole == [2.0, 1.0]
    assert outcome.until([32.0, 32.0]) == [3.0, float("inf")]
