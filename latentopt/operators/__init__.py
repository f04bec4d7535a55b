"""Measurement operators of images (B, C, H, W)."""

from latentopt.operators.base import Operator
from latentopt.operators.blind import BlindBlur, BlindExposure, BlindKernel, BlindMotion, BlindShift
from latentopt.operators.blur import Blur, KernelBlur, MotionBlur
from latentopt.operators.combine import Compose, PerImage
from latentopt.operators.fourier import Fourier, FourierMagnitude
from latentopt.operators.gaussian import Gaussian
from latentopt.operators.intensity import Clip, Exposure, Gamma, Quantize
from latentopt.operators.jpeg import JPEG
from latentopt.operators.magnitude import Magnitude
from latentopt.operators.physics import Physics
from latentopt.operators.pixels import Crop, Grey, Hole, Identity, Mask
from latentopt.operators.radon import Radon
from latentopt.operators.resampling import Bicubic, Downsample
from latentopt.operators.unknown import BlindOperator, LogUniform, Normal, ParameterPrior, Simplex, Uniform

__all__ = [
    "JPEG",
    "Bicubic",
    "BlindBlur",
    "BlindExposure",
    "BlindKernel",
    "BlindMotion",
    "BlindOperator",
    "BlindShift",
    "Blur",
    "Clip",
    "Compose",
    "Crop",
    "Downsample",
    "Exposure",
    "Fourier",
    "FourierMagnitude",
    "Gamma",
    "Gaussian",
    "Grey",
    "Hole",
    "Identity",
    "KernelBlur",
    "LogUniform",
    "Magnitude",
    "Mask",
    "MotionBlur",
    "Normal",
    "Operator",
    "ParameterPrior",
    "PerImage",
    "Physics",
    "Quantize",
    "Radon",
    "Simplex",
    "Uniform",
]

for _name in __all__:
    # Recipes name operators by this path. Parsers look up annotations in this module, so the operators' own modules
    # evaluate them at once (no `from __future__ import annotations`).
    globals()[_name].__module__ = __name__
