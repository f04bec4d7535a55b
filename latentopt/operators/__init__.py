"""Linear measurement operators: what is known of an image (B, C, H, W)."""

from latentopt.operators.base import Operator
from latentopt.operators.blur import Blur, MotionBlur
from latentopt.operators.compose import Compose
from latentopt.operators.gaussian import Gaussian
from latentopt.operators.per_image import PerImage
from latentopt.operators.physics import Physics
from latentopt.operators.pixels import Crop, Grey, Hole, Identity, Mask
from latentopt.operators.resampling import Bicubic, Downsample

__all__ = [
    "Bicubic",
    "Blur",
    "Compose",
    "Crop",
    "Downsample",
    "Gaussian",
    "Grey",
    "Hole",
    "Identity",
    "Mask",
    "MotionBlur",
    "Operator",
    "PerImage",
    "Physics",
]

for _name in __all__:
    # Recipes name operators by this path. Their modules evaluate annotations at once, as parsers would look for the
    # names in this one.
    globals()[_name].__module__ = __name__
