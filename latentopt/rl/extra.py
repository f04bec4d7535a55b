"""The error of a missing package of the extra ``rl``."""

from __future__ import annotations

from latentopt.errors import LatentOptError

EXTRA = "'latentopt[rl]'"
PACKAGES = {"sb3_contrib": "sb3-contrib"}
"""Modules that the extra leaves out, and the package that has them."""


class MissingExtraError(LatentOptError, ImportError):
    """A package of the extra ``rl`` is not installed."""


def missing(error: ModuleNotFoundError) -> MissingExtraError:
    """Return the error that names the missing package and how to install it."""
    return MissingExtraError(f"{error.name} is not installed: pip install {PACKAGES.get(error.name or '', EXTRA)}")
