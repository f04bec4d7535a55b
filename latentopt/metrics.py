"""How near two images are, for each sample: (B, ...) against (B, ...) of the same shape, values in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt._deprecated import old_names
from latentopt.errors import InputError


def mse(image: Tensor, reference: Tensor) -> Tensor:
    """Mean squared error (B,)."""
    if image.shape != reference.shape:
        raise InputError("image", f"the reference's shape {tuple(reference.shape)}", tuple(image.shape))
    return (image - reference).square().flatten(1).mean(1)


def psnr(image: Tensor, reference: Tensor, data_range: float | Tensor = 1.0) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB; infinite where the images are equal.

    Args:
        image, reference: (B, ...).
        data_range: greatest value that is possible, less the least; > 0, a number or one a sample (B,).
    """
    return 10 * (torch.as_tensor(data_range).to(image).square() / mse(image, reference)).log10()


def ssim(image: Tensor, reference: Tensor, data_range: float | Tensor = 1.0) -> Tensor:
    """Structural similarity (B,) of images (B, C, H, W), after Wang et al. 2004.

    Gaussian window of standard deviation 1.5 and 11 x 11 pixels, pixels nearer to the border than the window reaches
    left out. On a smaller image the window shrinks, with its standard deviation, to fit.

    Args:
        image, reference: (B, C, H, W).
        data_range: as in `psnr`.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    if image.shape != reference.shape or image.ndim != 4:
        raise InputError("image", f"the reference's shape {tuple(reference.shape)}, (B, C, H, W)", tuple(image.shape))
    reach = min(5, (min(image.shape[-2:]) - 1) // 2)  # of the window, from its middle
    if reach < 1:
        raise InputError("image", "at least 3 x 3 pixels", tuple(image.shape))
    sigma = 1.5 if reach == 5 else reach / 3.5
    width = torch.as_tensor(data_range).to(image).reshape(-1, 1, 1, 1)
    image, reference = image / width, reference / width
    options = {"sigma": sigma, "data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, full = structural_similarity_index_measure(image, reference, **options)
    return full[..., reach:-reach, reach:-reach].flatten(1).mean(1)


def value_range(images: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the greatest value (B,) of each sample of ``images`` (B, ...); 0 and 1 where none is outside."""
    values = images.flatten(1)
    return values.amin(1).clamp_max(0), values.amax(1).clamp_min(1)


__getattr__ = old_names(__name__)
