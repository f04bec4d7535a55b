"""Files with the statistics of `VecNormalize`: where they lie beside an agent, and reading them without pickle."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentopt.errors import InputError
from latentopt.rl.inert_pickle import InertObject, read_inert
from latentopt.rl.normalization import Normalization
from latentopt.zoo.parse_errors import error_line
from latentopt.zoo.state_dicts import read_state_dict

SUFFIXES = (".pkl", ".npz", ".safetensors")
EXPORT = "np.savez('vecnormalize.npz', mean=v.obs_rms.mean, var=v.obs_rms.var, epsilon=v.epsilon, clip=v.clip_obs)"
NONE = "none"
"""Stands in place of a file where observations stay as they are."""


def find_statistics(agent: str | Path, env: str | None = None) -> Path | None:
    """Find the file with an agent's statistics where stable-baselines3 and its zoo put it.

    Args:
        agent: the file with the agent.
        env: the environment's name.

    Returns:
        The first of ``NAME_vecnormalize``, ``vecnormalize`` and ``vec_normalize`` in the agent's folder, and
        ``vecnormalize`` in a folder of the agent's or the environment's name (of any version) below it, that is there
        with the suffix ``.pkl``, ``.npz`` or ``.safetensors``; None: there is none. Of ``NAME_100_steps`` the first is
        ``NAME_vecnormalize_100_steps``.
    """
    for stem in _stems(Path(agent), env):
        for suffix in SUFFIXES:
            path = stem.parent / (stem.name + suffix)
            if path.is_file():
                return path
    return None


def _stems(agent: Path, env: str | None) -> Iterator[Path]:
    folder, name = agent.parent, agent.stem
    yield folder / f"{name}_vecnormalize"
    if match := re.fullmatch(r"(.+)_(\d+_steps)", name):
        yield folder / f"{match[1]}_vecnormalize_{match[2]}"
    yield folder / name / "vecnormalize"
    if env is not None:
        versionless = glob.escape(re.sub(r"-v\d+$", "", env.rpartition("/")[2]))
        yield from (below / "vecnormalize" for below in sorted(folder.glob(f"{versionless}-v*")))
    yield from (folder / "vecnormalize", folder / "vec_normalize")


def statistics_file(agent: str | Path, vecnormalize: str | Path | None, env: str | None = None) -> Path | None:
    """Return the file of statistics that ``vecnormalize`` names; of None the one found, of ``none`` None."""
    if vecnormalize == NONE:
        return None
    return find_statistics(agent, env) if vecnormalize is None else Path(vecnormalize)


def normalization_of(
    agent: str | Path, vecnormalize: str | Path | None, env: str | None = None
) -> tuple[Normalization | None, bool]:
    """Return the normalisation of an agent's observations, and whether it is certain.

    Certain is a normalisation that was named, and its absence where the agent's own file of statistics says so.
    """
    file = statistics_file(agent, vecnormalize, env)
    normalization = None if file is None else read_statistics(file)
    return normalization, vecnormalize is not None or (file is not None and normalization is None)


def read_statistics(path: str | Path) -> Normalization | None:
    """Read a normalisation from a file.

    Args:
        path: ``.pkl``, as ``VecNormalize.save`` writes it: its numbers are read, no object in it is made and no code
            in it runs. Or ``.npz`` or ``.safetensors`` with ``mean`` and ``var`` ``(*obs)`` and, if they are not 1e-8
            and 10, ``epsilon`` and ``clip``.

    Returns:
        None where it says that observations were not normalised (``norm_obs=False``).

    Raises:
        InputError: no such file, or it holds something else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError("normalization", "a file with the statistics of VecNormalize", f"no file {path}")
    if path.suffix not in SUFFIXES:
        raise InputError(str(path), f"a file {', '.join(SUFFIXES)}", path.suffix or "no suffix")
    try:
        return _from_pickle(path.read_bytes()) if path.suffix == ".pkl" else _from_arrays(_arrays(path))
    except InputError as error:
        where = "" if error.name in ("pickle", "normalization") else f"{error.name}: "
        raise InputError(str(path), where + error.expected, error.got) from error
    except Exception as error:  # whatever a broken file does
        expected = f"what VecNormalize saved, or its numbers ({EXPORT})"
        raise InputError(str(path), expected, error_line(error) or type(error).__name__) from error


def as_normalization(source: Any) -> Normalization | None:
    """Return the normalisation that an argument ``normalization`` stands for.

    Args:
        source: a `Normalization`; a ``VecNormalize``; a file that `read_statistics` takes; or
            None.

    Returns:
        None where observations stay as they are.

    Raises:
        InputError: it is none of these.
    """
    if source is None or isinstance(source, Normalization):
        return source
    if isinstance(source, str | Path):
        return read_statistics(source)
    if all(hasattr(source, name) for name in ("norm_obs", "clip_obs", "epsilon")):
        rms = getattr(source, "obs_rms", None)
        return Normalization.from_vecnormalize(source.norm_obs, rms, source.epsilon, source.clip_obs)
    raise InputError("normalization", "a Normalization, a VecNormalize or a file of its statistics", repr(source))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    if path.suffix == ".safetensors":
        return {name: tensor.double().numpy() for name, tensor in read_state_dict(path).items()}
    with np.load(path, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> Normalization:
    optional = {"epsilon", "clip"} & set(arrays)
    if set(arrays) - optional != {"mean", "var"}:
        raise InputError("arrays", "mean and var, and if need be epsilon and clip", ", ".join(arrays) or "none")
    if any(arrays[name].size != 1 for name in optional):
        raise InputError(" and ".join(sorted(optional)), "a single number", "several")
    return Normalization(arrays["mean"], arrays["var"], **{name: float(arrays[name].item()) for name in optional})


def _from_pickle(content: bytes) -> Normalization | None:
    saved = read_inert(content)
    origin = ".".join(saved.origin) if isinstance(saved, InertObject) else type(saved).__name__
    if not origin.startswith("stable_baselines") or not origin.endswith(".VecNormalize"):
        raise InputError("pickle", f"a VecNormalize of stable-baselines3, or its numbers: {EXPORT}", origin)
    state = saved.state
    if not _array(state["norm_obs"]):
        return None
    epsilon, clip = (float(_array(state[name])) for name in ("epsilon", "clip_obs"))
    return Normalization.from_vecnormalize(True, _rms(state["obs_rms"]), epsilon, clip)


def _rms(record: Any) -> Any:
    if isinstance(record, dict):
        return record
    return SimpleNamespace(**{name: _array(record.state[name]) for name in ("mean", "var")})


def _array(record: Any) -> NDArray[Any]:
    """The array that NumPy wrote into a pickle, from its bytes."""
    if not isinstance(record, InertObject):
        return np.asarray(float(record))
    module, name = record.origin
    if not module.startswith("numpy"):
        raise InputError("pickle", "an array of NumPy", f"{module}.{name}")
    if name == "_reconstruct":
        _, shape, dtype, fortran, content = record.state
        order = "F" if fortran else "C"
    elif name == "_frombuffer":
        content, dtype, shape, order = record.args
    else:
        (dtype, content), shape, order = record.args, (), "C"
    return np.frombuffer(_bytes(content), _dtype(dtype)).reshape(shape, order=order)


def _dtype(record: InertObject) -> np.dtype[Any]:
    code, order = record.args[0], (record.state or (3, "<"))[1]
    if not re.fullmatch(r"[fiu][1248]|b1", code) or order not in "<>|":
        raise InputError("pickle", "an array of numbers", f"one of {order}{code}")
    return np.dtype(order + code)


def _bytes(content: Any) -> bytes | bytearray:
    if isinstance(content, InertObject) and content.origin == ("_codecs", "encode"):  # as protocols before 3 write them
        return content.args[0].encode("latin1")
    if not isinstance(content, bytes | bytearray):
        raise InputError("pickle", "an array of numbers", type(content).__name__)
    return content
