"""Fitted initializers on disk, from one job to the next."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from latentopt.fingerprint import checksum, without_addresses
from latentopt.inverse.initializers.base import POOL_SEED, FittedInitializer, Initializer
from latentopt.inverse.initializers.pools import measure_each
from latentopt.io import write_atomically
from latentopt.networks.generator import Generator

PROBES = 8
"""Samples whose measurements tell a generator and an operator from others."""
KEY, CONTENT = "key", "content"
"""Metadata of a file: the key of the fit, and the checksum of its tensors."""


LIMIT = 2**30
"""Greatest number of bytes of the files in the folder; those that were not used for longest are removed."""


def fit_cached(
    initializer: Initializer, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int, folder: Path
) -> FittedInitializer:
    """Return a fitted initializer, from a file where there is one, else fitted and written.

    The key of a file holds the initializer's settings, the seed, the generator, its weights and the moments of its
    latents, the operator, and the measurements of a few samples, so that other weights, another operator or another
    machine's rounding fit anew. A file that cannot be read, or whose tensors have changed, is fitted anew too. The
    folder is kept below `LIMIT` bytes.

    Args:
        initializer: the initializer.
        generator, operator, seed: as in `Initializer.fit`.
        folder: folder of the files; where it cannot be written, nothing is kept.

    Returns:
        The fitted initializer.
    """
    key = _key(initializer, generator, operator, seed)
    path = folder / f"{key[:32]}.safetensors"
    tensors = _read(path, key, str(generator.latents(1, 0).device)) if path.is_file() else None
    fitted = initializer.restore(tensors) if tensors else None
    if fitted is None:
        fitted = initializer.fit(generator, operator, seed)
        _write(fitted, path, key)
        _prune(folder, path)
    else:
        with contextlib.suppress(OSError):
            path.touch()
    return fitted


def _prune(folder: Path, newest: Path) -> None:
    """Remove the files that were not used for longest, but the newest, until the rest are below `LIMIT` bytes."""
    with contextlib.suppress(OSError):
        ages = sorted((path.stat().st_mtime, path.stat().st_size, path) for path in folder.glob("*.safetensors"))
        excess = sum(size for _, size, _ in ages) - LIMIT
        for _, size, path in ages:
            if excess <= 0:
                return
            if path != newest:
                path.unlink(missing_ok=True)
                excess -= size


def _key(initializer: Initializer, generator: Generator, operator: Callable[[Tensor], Tensor], seed: int) -> str:
    z = generator.latents(PROBES, seed + POOL_SEED + 2)
    text = without_addresses(f"{initializer!r} {seed} {generator!r} {generator.output_range} {operator!r}")
    digest = hashlib.sha256(f"{text} {z.dtype} {tuple(z.shape)}".encode())
    tensors = {**generator.state_dict(), **generator.conditions, "": measure_each(generator, [operator], z)[0]}
    tensors |= {"mean": generator.distribution.mean, "scale": generator.distribution.scale}
    digest.update(checksum(tensors).encode())
    return digest.hexdigest()


def _read(path: Path, key: str, device: str) -> dict[str, Tensor] | None:
    """Return the tensors of a file; None where it has another key, or is broken or changed."""
    try:
        with safe_open(path, "pt", device=device) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError):
        return None
    return tensors if metadata == {KEY: key, CONTENT: checksum(tensors)} else None


def _write(fitted: FittedInitializer, path: Path, key: str) -> None:
    tensors = {name: value.contiguous() for name, value in vars(fitted).items() if isinstance(value, Tensor)}
    if not tensors:
        return
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, save(tensors, {KEY: key, CONTENT: checksum(tensors)}))
