"""The only table of method names. It imports no method, and so not torch, before one is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from latentopt import components, optimizers
from latentopt.errors import InputError, with_nearest

if TYPE_CHECKING:
    from latentopt.sets import FeasibleSet


@dataclass(frozen=True)
class Preset:
    """A method with the settings that its name stands for.

    Args:
        build: returns the method.
        summary: one line that says what it is and where it comes from.

    >>> METHODS["adam"]()
    Adam(lr=0.2, betas=(0.9, 0.999), eps=1e-12, schedule='cosine')
    """

    build: Callable[[], optimizers.Optimizer]
    summary: str

    def __call__(self) -> optimizers.Optimizer:
        return self.build()


METHODS: dict[str, Preset] = {
    "adr-gd": Preset(lambda: optimizers.ADRGD(), "adr-gd-attack in a bounded box or ball, else adr-gd-latent"),
    "adr-gd-soft": Preset(
        lambda: optimizers.ADRGD(optimizers.SoftGates(), optimizers.Adam()),
        "Adam, the first half of its steps through soft gates in all layers",
    ),
    "adr-gd-paper": Preset(lambda: optimizers.ADRGD.paper(), "free gates as printed (arXiv 2406.00494, Algorithm 1)"),
    "adr-gd-reference": Preset(lambda: optimizers.ADRGD.reference(), "free gates as in the code of arXiv 2406.00494"),
    "adam": Preset(lambda: optimizers.Adam(), "Adam (arXiv 1412.6980), projected"),
    "gd": Preset(
        lambda: optimizers.GD(lr=1.0, normalize=True, schedule="cosine"),  # any scale of the objective will do
        "gradient descent, normalised and projected",
    ),
    "pgd": Preset(lambda: optimizers.PGD(), "sign or unit steps with momentum (arXiv 1706.06083, 1710.06081)"),
    "momentum": Preset(lambda: optimizers.Momentum(), "heavy ball (Polyak 1964), normalised and projected"),
    "adagrad": Preset(lambda: optimizers.Adagrad(), "Adagrad (Duchi et al. 2011), projected"),
    "rmsprop": Preset(lambda: optimizers.RMSProp(), "RMSProp (Tieleman and Hinton 2012), projected"),
    "perturbed-gd": Preset(lambda: optimizers.PerturbedGD(), "noise where the gradient is small (arXiv 1703.00887)"),
    "rgd": Preset(lambda: optimizers.RGD(), "raw gradient descent in an unprojected variable (arXiv 2312.01260)"),
    "apgd": Preset(lambda: optimizers.APGD(), "Auto-PGD, which chooses its step sizes (arXiv 2003.01690)"),
    "frank-wolfe": Preset(lambda: optimizers.FrankWolfe(), "Frank-Wolfe with averaged gradients (arXiv 1811.10828)"),
    "lbfgs": Preset(lambda: optimizers.LBFGS(), "L-BFGS (Liu and Nocedal 1989), projected"),
    "lm": Preset(lambda: optimizers.LevenbergMarquardt(), "Levenberg-Marquardt, for sums of squares"),
    "cma-es": Preset(lambda: optimizers.CMAES(), "CMA-ES (arXiv 1604.00772), without gradients"),
    "cem": Preset(lambda: optimizers.CEM(), "cross-entropy method (Rubinstein 1999), without gradients"),
    "random-shooting": Preset(lambda: optimizers.RandomShooting(), "best of many random points, without gradients"),
    "square": Preset(lambda: optimizers.Square(), "Square Attack (arXiv 1912.00049), without gradients"),
    "basin-cma": Preset(
        lambda: optimizers.CMAES(refine=30), "CMA-ES whose candidates descend by L-BFGS (arXiv 2005.01703)"
    ),
    "projector": Preset(lambda: optimizers.Jitter(), "Adam at noisy latents: StyleGAN2's projector (arXiv 1912.04958)"),
    "adr-gd-latent": Preset(
        lambda: optimizers.ADRGD(), "15 steps of PGD through soft gates in the early layers, then L-BFGS: for latents"
    ),
    "adr-gd-attack": Preset(
        lambda: optimizers.ADRGD(optimizers.SoftGates(0.25, steps=15, share=2 / 3), optimizers.PGD()),
        "PGD, its first 15 steps through soft gates in the early layers",
    ),
    "adr-gd-soft-attack": Preset(
        lambda: optimizers.ADRGD(optimizers.SoftGates(), optimizers.PGD()),
        "PGD, the first half of its steps through soft gates in all layers",
    ),
    "fgsm": Preset(
        lambda: optimizers.PGD(lr=1.0, momentum=0.0, schedule="constant"),
        "in one step from the clean input the method of Goodfellow et al. (arXiv 1412.6572)",
    ),
    "adr-gd-critic": Preset(
        lambda: optimizers.ADRGD(optimizers.SoftGates(tau=0.05), optimizers.Adam(lr=0.1)),
        "adr-gd-soft for actions in [-1, 1]",
    ),
    "adam-critic": Preset(lambda: optimizers.Adam(lr=0.1), "adam for actions in [-1, 1]"),
    "gd-critic": Preset(lambda: optimizers.GD(lr=0.3, normalize=True, schedule="linear"), "gd for actions in [-1, 1]"),
    "adr-gd-paper-critic": Preset(
        lambda: optimizers.ADRGD.paper(
            a_x=0.2, beta0=0.5, a_eta=0.1, a_beta=0.01, r=0.05, delta=1e-3, delta_beta=0.1, T_p=10
        ),
        "adr-gd-paper with the settings for DDPG and TD3 (arXiv 2406.00494, Table 2)",
    ),
    "adr-gd-reference-critic": Preset(
        lambda: optimizers.ADRGD.reference(a_x=0.2, a_eta=0.1, a_beta=0.01, r=0.05, delta_beta=0.1),
        "adr-gd-reference with step sizes of the same table",
    ),
}
"""Name to preset. ``adr-gd`` follows the rule of `method`."""


def require_name(name: str) -> None:
    """Check that a method has this ``name``.

    Raises:
        InputError: there is none in `METHODS`.
    """
    if name not in METHODS:
        raise InputError("optimizer", f"one of {', '.join(METHODS)}, or an Optimizer", with_nearest(name, METHODS))


def preset_name(name: str, feasible: FeasibleSet | None) -> str:
    """Return the name of a method's preset for a feasible set (None: the whole space), by the rule of `method`."""
    if name != "adr-gd":
        return name
    return "adr-gd-attack" if feasible is not None and feasible.bounded else "adr-gd-latent"


def method(
    optimizer: optimizers.Optimizer | str | Mapping[str, Any], feasible: FeasibleSet | None = None
) -> optimizers.Optimizer:
    """Return the method that a name stands for.

    ``adr-gd`` is ``adr-gd-attack`` in a bounded box or ball (`FeasibleSet.bounded`), where steps are measured in its
    radius; else, as for the latents of a generator, ``adr-gd-latent``.

    Args:
        optimizer: a name of `METHODS`; ``{class_path: ..., init_args: {...}}`` of a name or a class path, as in a
            recipe; an optimiser is returned as it is.
        feasible: where the method is to search; None: the whole space.

    Returns:
        The method.

    Raises:
        InputError: there is no method of this name, or it has no such arguments.

    >>> from latentopt.sets import Box
    >>> method("adr-gd", Box(0.0, 1.0)) == method("adr-gd-attack")
    True
    >>> method({"class_path": "adam", "init_args": {"lr": 0.1}}).lr
    0.1
    """
    return components.build("optimizer", "optimizer", optimizer, {"adr-gd": preset_name("adr-gd", feasible)})
