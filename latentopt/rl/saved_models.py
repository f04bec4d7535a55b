"""Models in the archives of stable-baselines3 and sb3-contrib, also of versions whose objects can no longer be read."""

from __future__ import annotations

import json
import warnings
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from latentopt.errors import InputError, first_line
from latentopt.rl.extra import missing

SB3, CONTRIB = "stable_baselines3", "sb3_contrib"
SETTINGS = {
    "PPO": (SB3, {"clip_range"}),
    "TRPO": (CONTRIB, {"cg_max_steps"}),
    "A2C": (SB3, {"gae_lambda"}),
    "QRDQN": (CONTRIB, {"n_quantiles"}),
    "DQN": (SB3, {"exploration_fraction"}),
    "TQC": (CONTRIB, {"top_quantiles_to_drop_per_net"}),
    "CrossQ": (CONTRIB, {"target_entropy", "policy_delay"}),
    "SAC": (SB3, {"target_entropy"}),
    "TD3": (SB3, {"target_policy_noise"}),
    "DDPG": (SB3, {"target_policy_noise"}),
    "ARS": (CONTRIB, {"n_delta"}),
    "MaskablePPO": (CONTRIB, set()),
}
"""Package of each algorithm, and settings that an archive of it has; an archive is of the first that fits."""
POLICIES = {"sb3_contrib.common.maskable.policies": "MaskablePPO", "sb3_contrib.common.recurrent.policies": "Recurrent"}
"""Algorithms that the module of the policy tells."""
OF_TRAINING: dict[str, Any] = {
    "learning_rate": 0.0,
    "lr_schedule": None,
    "clip_range": 0.2,
    "clip_range_vf": None,
    "exploration_schedule": None,
    "delta_std_schedule": 0.0,
    "action_noise": None,
    "seed": None,
    "buffer_size": 1,
    "optimize_memory_usage": False,
    "replay_buffer_class": None,
    "replay_buffer_kwargs": {},
}
"""Settings that matter in training alone. Many hold code, which another version of Python cannot read."""
SPACES = ("observation_space", "action_space")
TRACES = ("_last_obs", "_last_original_obs", "_last_episode_starts", "ep_info_buffer", "ep_success_buffer")
"""What an archive keeps of its training."""


def algorithm_of(path: str | Path) -> str:
    """Return the algorithm of an archive by the settings in it, without loading an object.

    Raises:
        InputError: it is no archive of stable-baselines3, or the policy has a memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            settings = json.loads(archive.read("data"))
        module = settings["policy_class"].get("__module__", "")
    except (OSError, KeyError, TypeError, ValueError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(str(path), "an agent that stable-baselines3 saved", f"{error}") from error
    algorithm = POLICIES.get(module) or next((name for name, (_, own) in SETTINGS.items() if own <= set(settings)), "")
    if algorithm not in SETTINGS:
        got = "RecurrentPPO" if algorithm else f"another, with a policy of {module or 'another'}"
        raise InputError(str(path), f"an agent without memory of {', '.join(SETTINGS)}", got)
    return algorithm


def load_model(path: str | Path, algorithm: str, environment: Any, match: bool) -> Any:
    """Load the model in an archive, on the CPU. It holds pickled objects, which may run any code.

    Args:
        path: of the archive.
        algorithm: a key of `SETTINGS`.
        environment: where the agent acts; its spaces replace those of an archive that cannot be read.
        match: whether the spaces of archive and environment have to be equal.

    Raises:
        InputError: it is no such model, or one of another environment or version.
    """
    import torch

    package = SETTINGS[algorithm][0]
    if find_spec(package) is None:
        raise missing(ModuleNotFoundError(name=package))
    kind = getattr(import_module(package), algorithm)
    options = {"env": environment if match else None, "device": "cpu", "force_reset": False}
    name = environment.spec.id if environment.spec else type(environment).__name__
    try:
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of objects that cannot be read, with their tracebacks
            try:
                return kind.load(path, custom_objects=OF_TRAINING, **options)
            except (KeyError, ImportError, UnpicklingError):  # the spaces or other objects cannot be read
                wrapped = kind._wrap_env(environment, 0)
                known = {space: getattr(wrapped, space) for space in SPACES} | dict.fromkeys(TRACES)
                return kind.load(path, custom_objects={**OF_TRAINING, **known}, **options)
    except Exception as error:  # whatever an archive of another version does
        raise InputError(str(path), f"an agent of {name}, saved by this version", first_line(error)) from error
