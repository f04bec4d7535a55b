"""Old public names: they work for one release, with a DeprecationWarning.

`NAMES` has public names of `latentopt` and class paths, `MODULES` import paths, `OPTIONS` names of the command line
and of recipes, `ARGUMENTS` arguments of the classes that recipes name. Functions with renamed keywords are decorated by
`renamed_keywords`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, TypeVar

from latentopt.errors import InputError

C = TypeVar("C", bound=Callable[..., Any])
T = TypeVar("T")

NAMES = {
    "latentopt.analysis.certify.Method": "latentopt.analysis.certify.CertifyMethod",
    "latentopt.analysis.certify.Status": "latentopt.analysis.certify.CertificateStatus",
    "latentopt.analysis.regions.Travel": "latentopt.analysis.regions.TrajectoryStatistics",
    "latentopt.analysis.regions.Units": "latentopt.analysis.regions.UnitActivity",
    "latentopt.analysis.regions.through": "latentopt.analysis.regions.slice_through",
    "latentopt.analysis.regions.travel": "latentopt.analysis.regions.trajectory_statistics",
    "latentopt.analysis.regions.units": "latentopt.analysis.regions.unit_activity",
    "latentopt.Adversarial": "latentopt.AttackResult",
    "latentopt.Distances": "latentopt.RowNorms",
    "latentopt.Opening": "latentopt.TwoPhase",
    "latentopt.Refined": "latentopt.RefinementResult",
    "latentopt.Refinement": "latentopt.RefinementSettings",
    "latentopt.metrics.bootstrap": "latentopt.statistics.bootstrap",
    "latentopt.metrics.wilson": "latentopt.statistics.wilson",
    "latentopt.jobs.store.Store": "latentopt.jobs.experiment.Experiment",
    "latentopt.inverse.initializers.Guess": "latentopt.inverse.initializers.FittedInitializer",
    "latentopt.inverse.initializers.Start": "latentopt.inverse.initializers.Initializer",
    "latentopt.inverse.priors.Anywhere": "latentopt.inverse.priors.Unconstrained",
    "latentopt.inverse.priors.Box": "latentopt.inverse.priors.BoxPrior",
    "latentopt.inverse.priors.Gaussian": "latentopt.inverse.priors.GaussianPrior",
    "latentopt.inverse.priors.Sphere": "latentopt.inverse.priors.SpherePrior",
    "latentopt.sets.around": "latentopt.sets.bounded_ball",
    "latentopt.optimizers.NAMED": "latentopt.optimizers.METHODS",
    "latentopt.optimizers.named": "latentopt.optimizers.method",
    "latentopt.optimizers.Distances": "latentopt.optimizers.RowNorms",
    "latentopt.optimizers.Opening": "latentopt.optimizers.TwoPhase",
    "latentopt.optimizers.distances.Distances": "latentopt.optimizers.row_norms.RowNorms",
    "latentopt.optimizers.gates.Gates": "latentopt.optimizers.gate_rule.GateRule",
    "latentopt.optimizers.gates.Look": "latentopt.optimizers.gate_rule.Direction",
    "latentopt.optimizers.opening.Opening": "latentopt.optimizers.two_phase.TwoPhase",
    "latentopt.rl.algorithms.RefinesActions": "latentopt.rl.algorithms.RefinedExplorationMixin",
    "latentopt.rl.attack_episodes.Episodes": "latentopt.rl.attack_episodes.AttackedEpisodes",
    "latentopt.rl.attack_episodes.attacked_episodes": "latentopt.rl.attack_episodes.attack_episodes",
    "latentopt.rl.refine.Refined": "latentopt.rl.refine.RefinementResult",
    "latentopt.rl.refine.Refinement": "latentopt.rl.refine.RefinementSettings",
    "latentopt.rl.training.Training": "latentopt.rl.training.TrainingSettings",
    "latentopt.tasks.adversarial.Adversarial": "latentopt.attacks.result.AttackResult",
    "latentopt.tasks.check_attack.Check": "latentopt.attacks.sanity.AttackCheck",
}
"""Old path of a class or function to its new one. Its module calls `old_names`, or is one of `MODULES`."""

MODULES = {
    "latentopt.callbacks": "latentopt.solver.callbacks",
    "latentopt.checkpoint": "latentopt.solver.checkpoint",
    "latentopt.draws": "latentopt.noise",
    "latentopt.generators": "latentopt.networks.generator",
    "latentopt.jobs.specs": "latentopt.components",
    "latentopt.jobs.store": "latentopt.jobs.experiment",
    "latentopt.jobs.tracking": "latentopt.jobs.tracker",
    "latentopt.latents": "latentopt.networks.latents",
    "latentopt.optimizers.distances": "latentopt.optimizers.row_norms",
    "latentopt.optimizers.early_gates": "latentopt.optimizers.soft_gates",
    "latentopt.optimizers.gates": "latentopt.optimizers.gate_rule",
    "latentopt.optimizers.opening": "latentopt.optimizers.two_phase",
    "latentopt.priors": "latentopt.inverse.priors",
    "latentopt.result": "latentopt.solver.result",
    "latentopt.samples": "latentopt.batch_math",
    "latentopt.states": "latentopt.pytree",
    "latentopt.tasks": "latentopt.attacks",
    "latentopt.tasks.adversarial": "latentopt.attacks.result",
    "latentopt.tasks.attack": "latentopt.attacks.attack",
    "latentopt.tasks.carlini_wagner": "latentopt.attacks.carlini_wagner",
    "latentopt.tasks.check_attack": "latentopt.attacks.sanity",
    "latentopt.tasks.diagnose": "latentopt.inverse.diagnose",
    "latentopt.tasks.inversion": "latentopt.inverse.reconstruct",
    "latentopt.tasks.maximize": "latentopt.maximization",
    "latentopt.tasks.minimum_norm": "latentopt.attacks.minimum_norm",
    "latentopt.tasks.png": "latentopt.attacks.quantize",
    "latentopt.tasks.reconstruct": "latentopt.inverse.problem",
    "latentopt.tasks.stages": "latentopt.attacks.stages",
    "latentopt.tasks.starts": "latentopt.inverse.initializers",
    "latentopt.tasks.starts.base": "latentopt.inverse.initializers",
    "latentopt.tasks.starts.encoder": "latentopt.inverse.initializers.encoder",
    "latentopt.tasks.starts.pools": "latentopt.inverse.initializers.pools",
    "latentopt.tasks.starts.random": "latentopt.inverse.initializers.random",
    "latentopt.rl.attacked_episodes": "latentopt.rl.attack_episodes",
    "latentopt.rl.curves": "latentopt.rl.learning_curve",
    "latentopt.rl.policies": "latentopt.rl.refined_policy",
    "latentopt.rl.players": "latentopt.rl.actor_critic",
    "latentopt.rl.refinement": "latentopt.rl.refine",
    "latentopt.rl.statistics": "latentopt.rl.normalization_files",
    "latentopt.zoo.content": "latentopt.zoo.paths",
    "latentopt.zoo.plain_yaml": "latentopt.zoo.strict_yaml",
    "latentopt.zoo.trusted": "latentopt.components.trust",
    "latentopt.zoo.weights": "latentopt.zoo.state_dicts",
}
"""Old path of a module to its new one."""

Convert = Callable[[Any], Any]


def _rounds_to_retries(rounds: Any) -> int:
    if not str(rounds).isdecimal():
        raise InputError("rounds", "an integer >= 1", repr(rounds))
    return int(rounds) - 1


OPTIONS: dict[str, dict[str, tuple[str, Convert]]] = {
    "reconstruct": {
        "keep": ("halving", lambda pairs: pairs),
        "rounds": ("retries", _rounds_to_retries),
    },
    "refine": {"box": ("radius", lambda radius: radius)},
    "train-rl": {"box": ("radius", lambda radius: radius)},
}
"""Job to old option of the command line and field of a recipe, to the new one and a function that converts a value."""

VALUES = {("analyze-certify", "method"): {"split": "branch-and-bound"}}
"""Job and option to old values and the new ones."""

ARGUMENTS = {"distances": "row_norms"}
"""Old argument of the package's classes in recipes to the new one."""


def current_option(job: str, name: str, value: Any = None) -> tuple[str, Any]:
    """Return the present name of a job's option, and its value; a line on stderr tells that a name is old.

    Args:
        job: its name in a recipe.
        name: of the option, with underscores.
        value: a value, or a list of words.
    """
    if name not in OPTIONS.get(job, {}):
        for old, new in VALUES.get((job, name), {}).items():
            if value in (old, [old]):
                _tell(f"{name} {old} of {job}", new)
                return name, new if value == old else [new]
        return name, value
    new, convert = OPTIONS[job][name]
    if isinstance(value, list) and name != "keep":
        value = [str(convert(word)) for word in value]
    elif value is not None:
        value = convert(value)
    _tell(f"{name} of {job}", new)
    return new, value


def current_path(path: str) -> str:
    """Return the present class path of an old one; another path as it is."""
    module, _, name = path.rpartition(".")
    if path not in NAMES:
        path = f"{MODULES.get(module, module)}.{name}" if module else path
    return NAMES.get(path, path)


def current_spec(value: Any) -> Any:
    """Return a value of a recipe with present class paths and arguments; lines on stderr tell which were old."""
    if isinstance(value, list | tuple):
        return [current_spec(item) for item in value]
    if isinstance(value, str) and value.startswith("latentopt."):
        new = current_path(value)
        if new != value:
            _tell(value, new)
        return new
    if not isinstance(value, dict):
        return value
    renamed = {key: current_spec(item) for key, item in value.items()}
    arguments, path = renamed.get("init_args"), renamed.get("class_path")
    own = path is None or (isinstance(path, str) and ("." not in path or path.startswith("latentopt.")))
    if own and isinstance(arguments, dict):
        for old in ARGUMENTS.keys() & arguments.keys():
            _tell(f"argument {old}", ARGUMENTS[old])
        renamed["init_args"] = {ARGUMENTS.get(key, key): item for key, item in arguments.items()}
    return renamed


TOLD = set[str]()
"""Old names that this command has told of."""


def _tell(old: str, new: str) -> None:
    if old in TOLD:
        return
    TOLD.add(old)
    print(f"latentopt: warning: {old} is deprecated: use {new}", file=sys.stderr)


def _warn(old: str, new: str, stacklevel: int) -> None:
    warnings.warn(f"{old} is deprecated: use {new}", DeprecationWarning, stacklevel=stacklevel + 1)


def old_names(module: str, otherwise: Callable[[str], Any] | None = None) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a module some of whose names are old.

    Args:
        module: its ``__name__``.
        otherwise: the ``__getattr__`` that it has for its other names.
    """

    def __getattr__(name: str) -> Any:  # noqa: N807
        old = f"{module}.{name}"
        if old in NAMES:
            new = NAMES[old]
            _warn(old, new, 2)
            home, _, attribute = new.rpartition(".")
            return getattr(import_module(home), attribute)
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return __getattr__


def renamed_keywords(**old: str | tuple[str, Callable[[Any], Any]] | Mapping[str, str]) -> Callable[[C], C]:
    """Return a decorator for a function, or a class, whose keyword arguments once had other names or values.

    Args:
        old: old keyword to the new one, or to the new one and a function that converts the value; or a keyword to its
            old values and the new ones.
    """

    def decorate(function: Any) -> Any:
        if isinstance(function, type):
            constructor = "__new__" if issubclass(function, tuple) else "__init__"
            setattr(function, constructor, rename(getattr(function, constructor), function.__name__))
            return function
        return rename(function, function.__name__)

    def rename(function: Any, title: str) -> Any:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            for name in old.keys() & kwargs.keys():
                renamed = old[name]
                if isinstance(renamed, Mapping):
                    if kwargs[name] in list(renamed):
                        _warn(f"{title}({name}={kwargs[name]!r})", f"{renamed[kwargs[name]]!r}", 2)
                        kwargs[name] = renamed[kwargs[name]]
                    continue
                new, convert = renamed if isinstance(renamed, tuple) else (renamed, lambda value: value)
                _warn(f"{title}({name}=)", f"{new}=", 2)
                kwargs[new] = convert(kwargs.pop(name))
            return function(*args, **kwargs)

        return call

    return decorate


def renamed_methods(**old: str) -> Callable[[type[T]], type[T]]:
    """Return a decorator for a class whose methods once had other names: old name to the new one."""

    def alias(name: str, new: str) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            _warn(f"{type(self).__name__}.{name}", new, 2)
            return getattr(self, new)(*args, **kwargs)

        call.__deprecated__ = new  # pyright: ignore[reportFunctionMemberAccess]
        call.__doc__ = f"Deprecated name of `{new}`."
        return call

    def decorate(kind: type[T]) -> type[T]:
        for name, new in old.items():
            setattr(kind, name, alias(name, new))
        return kind

    return decorate


def old_attribute(owner: str, old: str, new: str) -> Any:
    """Return a property that stands for another attribute, which once had this name.

    Args:
        owner: name of the class.
        old: name of the property.
        new: name of the attribute.
    """

    def get(self: Any) -> Any:
        _warn(f"{owner}.{old}", f"{owner}.{new}", 2)
        return getattr(self, new)

    return property(get, doc=f"Deprecated name of `{new}`.")


class _OldModules(MetaPathFinder, Loader):
    """Imports the new module under its old path."""

    def find_spec(self, fullname: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname in MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, MODULES[module.__name__]
        _warn(old, new, 1)
        sys.modules[old] = new_module = import_module(new)
        if any(name.startswith(f"{old}.") for name in NAMES):
            vars(new_module)["__getattr__"] = old_names(old, vars(new_module).get("__getattr__"))


sys.meta_path.insert(0, _OldModules())  # before the finder of files, which finds attacks/ as tasks/
