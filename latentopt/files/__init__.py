"""Files that users bring, as arrays: images, and files of numbers."""

from latentopt.files.arrays import ARRAY_SUFFIXES, in_quotes, parse_safetensors, read_array, read_metadata, read_tensors
from latentopt.files.images import IMAGE_SUFFIXES, FileWarning, image_array, images_below, is_image_name, read_image
from latentopt.files.paths import is_file, is_folder, require_file, writing
from latentopt.files.values import read_values, scaled

__all__ = [
    "ARRAY_SUFFIXES",
    "IMAGE_SUFFIXES",
    "FileWarning",
    "image_array",
    "images_below",
    "in_quotes",
    "is_file",
    "is_folder",
    "is_image_name",
    "parse_safetensors",
    "read_array",
    "read_image",
    "read_metadata",
    "read_tensors",
    "read_values",
    "require_file",
    "scaled",
    "writing",
]
