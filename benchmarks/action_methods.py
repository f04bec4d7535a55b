"""Methods that improve actions. Each has one tuned size, mostly in units of the radius."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.tuned import TUNED
from latentopt.optimizers import ADRGD, CEM, CMAES, GD, PGD, Adam, Optimizer, RandomShooting, SoftGates

STARTS = 16


@dataclass(frozen=True)
class ActionMethod:
    """A method as a function of its size and the box."""

    build: Callable[[float, float], Optimizer]
    sizes: tuple[float, ...] = ()
    starts: int = 1

    def at(self, name: str, critic: str, box: float, size: float | None = None) -> Optimizer:
        """Return the method with a size; None: the tuned one."""
        if size is None:
            default = self.sizes[len(self.sizes) // 2] if self.sizes else 0.0
            size = float(TUNED["actions"][critic].get(box, {}).get(name, default))
        return self.build(size, box)


STEPS = (0.03, 0.1, 0.3, 1.0)
CONTROL = "gradient ascent"
METHODS: dict[str, ActionMethod] = {
    CONTROL: ActionMethod(lambda s, box: GD(lr=s * box), (0.003, 0.01, 0.03, 0.1, 0.3)),
    "normalised ascent": ActionMethod(lambda s, box: GD(lr=s * box, normalize=True, schedule="linear"), STEPS),
    "pgd": ActionMethod(lambda s, box: PGD(lr=s), STEPS),
    "adam": ActionMethod(lambda s, box: Adam(lr=s * box), STEPS),
    "adr-gd": ActionMethod(lambda s, box: ADRGD(SoftGates(tau=0.05), Adam(lr=s * box)), STEPS),
    "adr-gd-paper": ActionMethod(
        lambda s, box: ADRGD.paper(
            a_x=s * box, beta0=0.5, a_eta=0.1, a_beta=0.01, r=0.05, delta=1e-3, delta_beta=0.1, T_p=10
        ),
        STEPS,
    ),
    "adr-gd-reference": ActionMethod(
        lambda s, box: ADRGD.reference(a_x=s * box, a_eta=0.1, a_beta=0.01, r=0.05, delta=1e-3, delta_beta=0.1),
        STEPS,
    ),
    "multi-start adam": ActionMethod(lambda s, box: Adam(lr=s * box), STEPS, STARTS),
    "multi-start pgd": ActionMethod(lambda s, box: PGD(lr=s), STEPS, STARTS),
    "multi-start adr-gd": ActionMethod(lambda s, box: ADRGD(SoftGates(tau=0.05), Adam(lr=s * box)), STEPS, STARTS),
    "cem": ActionMethod(lambda s, box: CEM(population=32, sigma=s), (0.3, 0.5, 1.0)),
    "cma-es": ActionMethod(lambda s, box: CMAES(sigma=s), (0.3, 0.5, 1.0)),
    "random shooting": ActionMethod(lambda s, box: RandomShooting(32)),
}
