"""Settings of jobs: frozen dataclasses whose fields are the options of the command line and the keys of a recipe."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, get_args

from latentopt import components
from latentopt.components import describe
from latentopt.errors import InputError, positive, seed_within, with_nearest
from latentopt.files import in_quotes, is_file

Component = Any
"""A component of a job: a short name, ``{class_path, init_args}`` or an object (`latentopt.components`)."""
ModelSource = str | dict[str, Any]
"""A model's name or folder, or its class path with weights and the settings of its card."""
WandbMode = Literal["online", "offline", "disabled"]
Device = Literal["auto", "cpu", "cuda", "mps"]
Fit = Literal["crop", "pad", "stretch"]
Norm = Literal["linf", "l2"]
Strategy = Literal["auto", "ddp"]


def component(kind: str, default: Any = None, **arguments: Any) -> Any:
    """Return the field of a settings class that takes a component.

    Args:
        kind: a key of `latentopt.components.KINDS`.
        default: short name or class path; None: no component.
        arguments: of the default.
    """
    spec = {"class_path": default, "init_args": arguments} if arguments else default
    return field(default_factory=lambda: spec, metadata={"kind": kind})


def wandb_mode() -> Any:
    """Return the mode that ``WANDB_MODE`` names; offline if it is not set."""
    mode = os.environ.get("WANDB_MODE") or "offline"
    return {"run": "online", "dryrun": "offline"}.get(mode, mode)  # as W&B calls them, too


def default_wandb() -> Any:
    """Return the field of a settings class for the mode of W&B."""
    return field(default_factory=wandb_mode)


@dataclass(frozen=True)
class JobSettings:
    """Settings of a job."""

    job: ClassVar[str]
    """Name of the job in a recipe."""

    @classmethod
    def kinds(cls) -> dict[str, str]:
        """Return the kind of each setting that takes a component."""
        return {field.name: field.metadata["kind"] for field in fields(cls) if "kind" in field.metadata}

    def recipe(self) -> dict[str, Any]:
        """Return all settings as plain data, objects as class paths and arguments."""
        return {"job": self.job, **{field.name: describe(getattr(self, field.name)) for field in fields(self)}}

    def plain_recipe(self) -> dict[str, Any]:
        """Return the recipe without components, whose spelling changes when they are built."""
        kinds = self.kinds()
        return {name: value for name, value in self.recipe().items() if name not in kinds}

    def check_components(self) -> None:
        """Raise `InputError` where a component is none of its kind or has wrong arguments."""
        for name, kind in self.kinds().items():
            if (value := getattr(self, name)) is not None:
                components.check(name, kind, value)

    def check_positive(self, *names: str, integer: bool = True) -> None:
        """Raise `InputError` unless these settings are positive numbers, or None."""
        for name in names:
            if (value := getattr(self, name)) is not None:
                positive(name, value, integer=integer)

    def check_files(self, *names: str, also: Sequence[str] = ()) -> None:
        """Raise `InputError` unless these settings are files, None, or among ``also``."""
        for name in names:
            if (value := getattr(self, name)) is not None and value not in also and not is_file(value):
                raise InputError(name, " or ".join(["a file", *also]), in_quotes(value))

    def check_devices(self) -> None:
        """Raise `InputError` unless the devices, the strategy and the nodes are what Lightning takes."""
        devices = getattr(self, "devices")  # noqa: B009
        if not re.fullmatch(r"auto|-1|[1-9]\d*|\d+(,\d+)*,?", str(devices)):
            raise InputError("devices", "a number >= 1, auto, -1 (all), or numbers with commas (0,2)", repr(devices))
        self.check_positive("num_nodes")
        self.check_choices(strategy=Strategy)

    def check_choices(self, **choices: Any) -> None:
        """Raise `InputError` unless these settings are among the values of a ``Literal``, or None."""
        for name, literal in choices.items():
            known = [str(choice) for choice in get_args(literal)]
            if (value := getattr(self, name)) is not None and value not in get_args(literal):
                raise InputError(name, f"one of {', '.join(known)}", with_nearest(value, known))

    def build(self) -> Self:
        """Return the settings with objects in place of named components.

        Raises:
            LatentOptError: a component cannot be built.
        """
        import torch

        values = {name: value for name in self.kinds() if (value := getattr(self, name)) is not None}
        named = any(isinstance(value, str | dict) for value in values.values())
        if named and isinstance(seed := getattr(self, "seed", None), int):
            seed_within(seed)
            torch.manual_seed(seed)  # networks that a recipe names draw their first weights here
        kinds = self.kinds()
        return replace(self, **{name: components.build(name, kinds[name], value) for name, value in values.items()})


S = TypeVar("S", bound=JobSettings)


@dataclass(frozen=True)
class JobPlan(Generic[S]):
    """The checked settings of a job, and its folder."""

    settings: S
    folder: Path
