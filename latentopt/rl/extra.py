"""The error of a missing package of the extra ``rl``."""

from __future__ import annotations

from latentopt.errors import LatentOptError


class MissingExtraError(LatentOptError, ImportError):
    """A package of the extra ``rl`` is not installed."""


def missing(error: ModuleNotFoundError) -> MissingExtraError:
    """Return the error that names the missing package and how to install it."""
    return MissingExtraError(f"{error.name} is not installed: pip install 'latentopt[rl]'")
