"""JPEG, against the files that Pillow writes."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from nets import near, rand, refuses
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from latentopt.objectives import Consistent, Fit
from latentopt.operators import JPEG


def photo(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    """A noisy image of smooth patches, bytes / 255, (1, C, H, W)."""
    patches = F.interpolate(
        rand(1, channels, height // 6 + 1, width // 6 + 1, seed=seed), (height, width), mode="bicubic"
    )
    return ((patches + 0.1 * rand(1, channels, height, width, seed=seed + 1)).clamp(0, 1) * 255).round() / 255


def decoded_file(image: Tensor, quality: int) -> Tensor:
    """What Pillow reads of the file it writes."""
    pixels = (255 * image[0]).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "JPEG", quality=quality)
    read = np.array(Image.open(file)).reshape(pixels.shape)
    return torch.from_numpy(read).permute(2, 0, 1)[None].double() / 255


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("sides", [(32, 48), (28, 28), (33, 47), (7, 5)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_image_that_pillow_reads(channels, sides, dtype):
    for quality in (1, 10, 50, 75, 95, 100):
        image = photo(channels, *sides, seed=quality)
        levels = 255 * (JPEG(quality)(image.to(dtype)).double() - decoded_file(image, quality)).abs()
        assert float(levels.max()) < 1.01, quality
        assert float((levels > 0.5).double().mean()) < 1e-3, quality


def test_values_outside_the_range_and_a_batch():
    image = 3 * rand(3, 3, 16, 24) - 1
    jpeg = JPEG(30)
    assert torch.equal(jpeg(image), jpeg(image.clamp(0, 1)))
    assert torch.equal(jpeg(image)[1:2], jpeg(image[1:2]))
    assert torch.equal(255 * jpeg(image), (255 * jpeg(image)).round())


def test_gradients_pass_the_roundings():
    """At quality 100 a grey file is nearly the image, so that its gradient is nearly the identity's."""
    image, weights = photo(1, 16, 24).clamp(0.1, 0.9).requires_grad_(), rand(1, 1, 16, 24)
    (gradient,) = torch.autograd.grad((weights * JPEG(100)(image)).sum(), image)
    near(gradient, weights, 1e-3)
    (gradient,) = torch.autograd.grad((weights * JPEG(5)(image)).sum(), image)  # clamped bytes have none
    assert float(gradient.norm()) > 0.5 * float(weights.norm())


@pytest.mark.parametrize(("channels", "quality"), [(1, 20), (3, 20), (1, 80), (3, 80)])
def test_an_image_is_consistent_with_its_own_file_alone(channels, quality):
    jpeg, image = JPEG(quality), 0.3 + 0.4 * photo(channels, 32, 48)  # no byte is clamped
    y = decoded_file(image, quality)
    loss = Fit(Consistent(), jpeg, y)
    assert float(loss(image)) < 1e-5 < 1e-4 < float(loss(photo(channels, 32, 48, seed=5)))
    near(jpeg.consistent(y, y), y, 0.02)
    assert float((y - image).square().mean()) > 10 * float(loss(image))


def test_consistency_has_an_exact_gradient_and_no_cost_within_cells():
    jpeg, image = JPEG(10), 0.3 + 0.4 * photo(3, 16, 16)
    y = jpeg(image)
    assert torch.autograd.gradcheck(Fit(Consistent(), jpeg, y), rand(1, 3, 16, 16).requires_grad_(), fast_mode=True)
    near(jpeg.consistent(image + 1e-4, y), y, 2e-3)


@pytest.mark.parametrize("quality", [0, -1, 101, 50.5, "x"])
def test_a_quality_out_of_range_is_refused(quality):
    with refuses("JPEG.quality"):
        JPEG(quality)


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 4, 8, 8), (1, 3, 8), (1, 1, 8, 8, 8)])
def test_other_images_are_refused(shape):
    with refuses("image"):
        JPEG(50)(torch.zeros(shape))
    with refuses("measurement"):
        JPEG(50).consistent(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 9))
