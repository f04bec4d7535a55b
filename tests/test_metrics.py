from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from nets import rand, randn, refuses
from skimage.metrics import mean_squared_error, peak_signal_noise_ratio, structural_similarity
from torch import Tensor
from torch.nn import functional as F

from latentopt import metrics
from latentopt.metrics import mse, psnr, ssim


def smooth(*shape: int, seed: int) -> Tensor:
    coarse = rand(*shape[:2], 4, 4, seed=seed)
    return F.interpolate(coarse, size=shape[2:], mode="bicubic").clamp(0, 1)


def pair(kind: str, *shape: int) -> tuple[Tensor, Tensor]:
    """Images and their references, of several degrees of likeness."""
    reference = rand(*shape) if kind == "random" else smooth(*shape, seed=0)
    noise = torch.linspace(0.02, 0.5, shape[0], dtype=torch.float64).reshape(-1, 1, 1, 1)
    return (reference + noise * (rand(*shape, seed=1) - 0.5)).clamp(0, 1), reference


def each(metric: Any, images: Tensor, references: Tensor, **settings: Any) -> np.ndarray:
    arrays = (t.movedim(1, -1).numpy() for t in (images, references))
    return np.array([metric(r, i, **settings) for i, r in zip(*arrays, strict=True)])


def structural(images: Tensor, references: Tensor, sigma: float) -> np.ndarray:
    settings = {"gaussian_weights": True, "sigma": sigma, "use_sample_covariance": False, "data_range": 1.0}
    return each(structural_similarity, images, references, channel_axis=-1, **settings)


@pytest.mark.parametrize("shape", [(5, 1, 28, 28), (3, 3, 8, 8)])
def test_mse_and_psnr_agree_with_scikit_image(shape):
    images, references = pair("random", *shape)
    np.testing.assert_allclose(mse(images, references), each(mean_squared_error, images, references), rtol=1e-12)
    expected = each(peak_signal_noise_ratio, images, references, data_range=1.0)
    np.testing.assert_allclose(psnr(images, references), expected, rtol=1e-12)


def test_psnr_of_equal_images_is_infinite():
    images = rand(2, 1, 8, 8)
    assert psnr(images, images).tolist() == [float("inf")] * 2


@pytest.mark.parametrize("kind", ["random", "smooth"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("shape", "sigma"), [((5, 1, 28, 28), 1.5), ((3, 3, 64, 64), 1.5), ((4, 1, 12, 11), 1.5), ((4, 1, 8, 8), 3 / 3.5)]
)
def test_ssim_agrees_with_scikit_image(kind, dtype, shape, sigma):
    images, references = pair(kind, *shape)
    expected = structural(images, references, sigma)
    assert expected.max() - expected.min() > 0.05
    np.testing.assert_allclose(ssim(images.to(dtype), references.to(dtype)), expected, atol=1e-4, rtol=0)


def test_ssim_of_equal_images_is_one_and_each_sample_is_by_itself():
    images, references = pair("smooth", 4, 3, 16, 16)
    np.testing.assert_allclose(ssim(images, images), 1, atol=1e-9)
    np.testing.assert_allclose(ssim(images[2:3], references[2:3]), ssim(images, references)[2:3], atol=1e-12)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_images_of_another_shape_than_the_references_are_refused(metric):
    with refuses("image"):
        metric(torch.zeros(2, 1, 8, 8), torch.zeros(1, 1, 8, 8))


@pytest.mark.parametrize("shape", [(2, 8, 8), (2, 1, 2, 2), (2, 1, 1, 9)])
def test_ssim_refuses_what_is_no_image_or_too_small_for_a_window(shape):
    with refuses("image"):
        ssim(torch.zeros(shape), torch.zeros(shape))


def test_the_frechet_distance_of_two_samples_is_that_of_scipys_square_root():
    a, b = randn(40, 5), randn(60, 5, seed=1) * 1.5 + 1
    linalg = pytest.importorskip("scipy.linalg")
    root = linalg.sqrtm(a.T.cov().numpy() @ b.T.cov().numpy()).real
    expected = (a.mean(0) - b.mean(0)).square().sum() + (a.T.cov() + b.T.cov()).trace() - 2 * root.trace()
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)
    assert metrics.frechet_distance(a, a + torch.tensor([3.0, 0, 0, 0, 4])) == pytest.approx(25)
    with refuses("reference"):
        metrics.frechet_distance(a, b[:, :3])
