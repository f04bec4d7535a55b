"""Similarity of images, for each sample: (B, ...) against (B, ...) of the same shape, values in [0, 1] or bytes."""

from __future__ import annotations

import torch
from torch import Tensor

from latentopt._deprecated import old_names
from latentopt.arguments import Values, as_given, checked
from latentopt.errors import InputError


@checked
def mse(image: Values, reference: Values) -> Tensor:
    """Return the mean squared error (B,) of images.

    Args:
        image: images (B, ...).
        reference: images of the same shape.

    Raises:
        InputError: the shapes differ.
    """
    image, reference = _pixels("image", image), _pixels("reference", reference)
    if image.shape != reference.shape:
        raise InputError("image", f"the reference's shape {tuple(reference.shape)}", tuple(image.shape))
    return (image - reference).square().flatten(1).mean(1)


@checked
def psnr(image: Values, reference: Values, data_range: float | Tensor = 1.0) -> Tensor:
    """Return the peak signal-to-noise ratio (B,) in dB; infinite where the images are equal.

    Args:
        image: images (B, ...).
        reference: images of the same shape.
        data_range: greatest possible value less the least one, > 0; a number, or one a sample (B,).

    Raises:
        InputError: the shapes differ.
    """
    image = _pixels("image", image)
    return 10 * (torch.as_tensor(data_range).to(image).square() / mse(image, reference)).log10()


@checked
def ssim(image: Values, reference: Values, data_range: float | Tensor = 1.0) -> Tensor:
    """Return the structural similarity (B,) of images, after Wang et al. 2004.

    The window is Gaussian, of standard deviation 1.5 and 11 x 11 pixels; positions where it crosses the border are left
    out. On a smaller image the window shrinks, with its standard deviation, to fit.

    Args:
        image: images (B, C, H, W).
        reference: images of the same shape.
        data_range: as in `psnr`.

    Raises:
        InputError: the shapes differ, or images have fewer than 3 x 3 pixels.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure

    image, reference = _pixels("image", image), _pixels("reference", reference)
    if image.shape != reference.shape or image.ndim != 4:
        raise InputError("image", f"the reference's shape {tuple(reference.shape)}, (B, C, H, W)", tuple(image.shape))
    half = min(5, (min(image.shape[-2:]) - 1) // 2)  # half the width of the window, without its middle
    if half < 1:
        raise InputError("image", "at least 3 x 3 pixels", tuple(image.shape))
    sigma = 1.5 if half == 5 else half / 3.5
    width = torch.as_tensor(data_range).to(image).reshape(-1, 1, 1, 1)
    image, reference = image / width, reference / width
    options = {"sigma": sigma, "data_range": 1.0, "reduction": "none", "return_full_image": True}
    _, full = structural_similarity_index_measure(image, reference, **options)
    return full[..., half:-half, half:-half].flatten(1).mean(1)


@checked
def frechet_distance(features: Values, reference: Values) -> float:
    """Return the Frechet distance of two samples, of the normal distributions with their means and covariances.

    Of Inception features it is the FID (Heusel et al. 2017, arXiv 1706.08500).

    Args:
        features: sample (N, n), N >= 2.
        reference: sample (M, n), M >= 2.

    Returns:
        The distance, >= 0.

    Raises:
        InputError: the samples are no matrices with the same number of columns.
    """
    samples = [as_given(name, x).double() for name, x in (("features", features), ("reference", reference))]
    for name, x in zip(("features", "reference"), samples, strict=True):
        if x.ndim != 2 or len(x) < 2 or x.shape[1] != samples[0].shape[-1]:
            raise InputError(name, "a sample (N, n), N >= 2, both of the same n", tuple(x.shape))
    (mean, cov), (other_mean, other_cov) = ((x.mean(0), x.T.cov().reshape(x.shape[1], -1)) for x in samples)
    values, vectors = torch.linalg.eigh(cov)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ other_cov @ root).clamp_min(0).sqrt().sum()
    distance = (mean - other_mean).square().sum() + cov.trace() + other_cov.trace() - 2 * cross
    return max(0.0, float(distance))


def _pixels(name: str, values: Values) -> Tensor:
    """Return images (B, ...) as floating-point numbers; bytes stand for [0, 1]."""
    images = as_given(name, values)
    if images.is_complex() or not images.ndim:
        raise InputError(name, "images (B, ...) of real numbers", f"{images.dtype} of shape {tuple(images.shape)}")
    if images.is_floating_point():
        return images
    return images.to(torch.get_default_dtype()) / (255 if images.dtype == torch.uint8 else 1)


def value_range(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest value (B,) of each sample, but at most 0 and at least 1.

    Args:
        images: images (B, ...).
    """
    values = images.flatten(1)
    return values.amin(1).clamp_max(0), values.amax(1).clamp_min(1)


__getattr__ = old_names(__name__)
