"""Which model a job used: its checksum, for the configuration of a tracked run."""

from __future__ import annotations

from pathlib import Path

from latentopt.errors import InputError
from latentopt.jobs.store import checksum
from latentopt.result import versions
from latentopt.zoo import cards


def used(model: str) -> dict[str, object]:
    """The checksum of a model's weights, where they are a file of ours or the user's, and the versions of packages.

    >>> used("mnist-vae")["model_sha256"] == cards.read_card("mnist-vae").weights_sha256
    True
    """
    found: dict[str, object] = {"versions": versions()}
    if Path(model).is_file():
        return {"model_sha256": checksum(Path(model)), **found}
    try:
        return {"model_sha256": cards.read_card(model).weights_sha256, **found}
    except InputError:  # torchvision's, or a generator of gymnasium's
        return found
