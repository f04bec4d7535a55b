"""Attacks of other packages in the same run: requirements-references.txt.

Each is what the package gives, from the clean image where it can (APGD's starts are random everywhere). Their images
are judged, and their passes counted, as ours are.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.attack_methods import AttackMethod
from benchmarks.attack_runs import AttackCase, ReturnedImages

STEP = 0.25
"""Constant step size of PGD in units of eps, as in our PGD."""


@dataclass(frozen=True)
class ReferenceAttack:
    """An attack of another package.

    Args:
        package: that has it.
        run: from its module, the model, the case and the gradient evaluations of an image to the images found.
        ours: the method of ours with the same settings.
        evaluations: gradient evaluations that it takes whatever is asked for, where the image withstands it; None:
            what is asked for.
        long: it takes seconds an image.
    """

    package: str
    run: Callable[[Any, nn.Module, AttackCase, int], Tensor]
    ours: str
    evaluations: int | None = None
    long: bool = False

    def method(self) -> AttackMethod:
        """Run the attack like our methods.

        Raises:
            ImportError: the package is not there, or does not work here.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            package = importlib.import_module(self.package)

        def attack(model: nn.Module, case: AttackCase, evaluations: int) -> ReturnedImages:
            output = io.StringIO()
            with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return ReturnedImages(torch.cat([self.run(package, model, part, evaluations) for part in case.split()]))

        return AttackMethod(lambda _, case: attack, evaluations=self.evaluations)


def _torchattacks(name: str, **settings: Any) -> Callable[..., Tensor]:
    def run(package: Any, model: nn.Module, case: AttackCase, evaluations: int) -> Tensor:
        return getattr(package, name)(model, eps=case.eps, **_given(settings, case, evaluations))(case.x, case.y)

    return run


def _foolbox(name: str, **settings: Any) -> Callable[..., Tensor]:
    def run(package: Any, model: nn.Module, case: AttackCase, evaluations: int) -> Tensor:
        bounded = package.PyTorchModel(model, bounds=(0, 1), device=case.x.device)
        attack = getattr(package.attacks, name)(**_given(settings, case, evaluations))
        return attack(bounded, case.x, case.y, epsilons=case.eps)[1]

    return run


def _given(settings: dict[str, Any], case: AttackCase, evaluations: int) -> dict[str, Any]:
    return {name: value(case, evaluations) if callable(value) else value for name, value in settings.items()}


def _apgd(loss: str) -> Callable[..., Tensor]:
    def run(package: Any, model: nn.Module, case: AttackCase, evaluations: int) -> Tensor:
        steps = _after_the_first(case, evaluations)
        attack = package.APGDAttack(model, steps, eps=case.eps, seed=case.seed, loss=loss, device=case.x.device)
        return attack.perturb(case.x, case.y)

    return run


def _autoattack(package: Any, model: nn.Module, case: AttackCase, evaluations: int) -> Tensor:
    attack = package.AutoAttack(model, eps=case.eps, seed=case.seed, device=case.x.device)
    return attack.run_standard_evaluation(case.x, case.y, batch_size=len(case.x))[0]


def _step_size(case: AttackCase, evaluations: int) -> float:
    return STEP * case.eps


def _all(case: AttackCase, evaluations: int) -> int:
    return evaluations


def _after_the_first(case: AttackCase, evaluations: int) -> int:
    """Return the number of steps if the start costs a gradient too."""
    return max(1, evaluations - 1)


_PGD = _torchattacks("PGD", alpha=_step_size, steps=_all, random_start=False)
_FOOLBOX_PGD = _foolbox("LinfPGD", rel_stepsize=STEP, steps=_all, random_start=False)
REFERENCES: dict[str, ReferenceAttack] = {
    "torchattacks FGSM": ReferenceAttack("torchattacks", _torchattacks("FGSM"), "fgsm", 1),
    "foolbox FGSM": ReferenceAttack("foolbox", _foolbox("LinfFastGradientAttack"), "fgsm", 1),
    "torchattacks PGD": ReferenceAttack("torchattacks", _PGD, "pgd-constant"),
    "foolbox PGD": ReferenceAttack("foolbox", _FOOLBOX_PGD, "pgd-constant"),
    "torchattacks APGD-CE": ReferenceAttack(
        "torchattacks", _torchattacks("APGD", loss="ce", steps=_after_the_first), "apgd-ce"
    ),
    "torchattacks APGD-DLR": ReferenceAttack(
        "torchattacks", _torchattacks("APGD", loss="dlr", steps=_after_the_first), "apgd-dlr"
    ),
    "AutoAttack's APGD-CE": ReferenceAttack("pyautoattack.autopgd_base", _apgd("ce"), "apgd-ce"),
    "AutoAttack's APGD-DLR": ReferenceAttack("pyautoattack.autopgd_base", _apgd("dlr"), "apgd-dlr"),
    "AutoAttack standard": ReferenceAttack("pyautoattack", _autoattack, "portfolio", 1910, long=True),
}
"""Attacks by their name in the tables. foolbox has no APGD."""


def versions() -> str:
    """Return the installed packages with their versions."""
    names = dict.fromkeys(reference.package.split(".")[0] for reference in REFERENCES.values())
    installed = [f"{name} {metadata.version(name)}" for name in names if importlib.util.find_spec(name)]
    return f"Packages: {', '.join(installed) or 'none'}."
