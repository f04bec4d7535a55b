"""The optional extra ``rl``, and what is said where it is missing."""

from __future__ import annotations

from latentopt.errors import LatentOptError


class MissingExtraError(LatentOptError, ImportError):
    """A package of the extra ``rl`` is not installed."""


def missing(error: ModuleNotFoundError) -> MissingExtraError:
    """What to raise: which package is missing, and how to install it, in one line."""
    return MissingExtraError(f"{error.name} is not installed: pip install 'latentopt[rl]'")
