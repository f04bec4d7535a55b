"""Figures within sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.random_nets import SECONDS
from benchmarks.statistics import TIE, signs
from latentopt.jobs.analyze.dynamics_report import median
from latentopt.statistics import student
from tables.attacks import percent
from tables.cards import quality
from tables.dynamics import FORMULAS, GROWN, STEPS, column, short
from tables.inversion import final
from tables.stored import Cell, distinct, load, named, one, several, where
from tables.text import bare


def _references() -> list[Cell]:
    return several(*[name for name in named("attack-references-*") if name.split("-")[2] not in ("400", "capped")])


def _cases() -> list[dict[str, Cell]]:
    """The methods of each network and radius."""
    cells = _references()
    return [
        {cell["method"]: cell for cell in where(cells, network=network, eps=eps)}
        for network, eps in distinct(cells, "network", "eps")
    ]


def times_faster() -> str:
    ratios = [
        case["AutoAttack standard"]["cpu_seconds_of_all"] / case["portfolio"]["cpu_seconds_of_all"] for case in _cases()
    ]
    return f"{min(ratios):.1f} to {max(ratios):.0f}"


def never_behind() -> str:
    """Count the cases on which the portfolio breaks as many images as AutoAttack or more."""
    cases = _cases()
    level = sum(sum(case["portfolio"]["success"]) >= sum(case["AutoAttack standard"]["success"]) for case in cases)
    return f"{level} of {len(cases)}"


def gates_elsewhere() -> str:
    """Count images won and lost by soft gates on all networks except the one used for tuning."""
    tests = [
        signs(case["portfolio"]["success"], case["portfolio-ungated"]["success"])
        for case in _cases()
        if case["portfolio"]["network"] != "mnist-pgd"
    ]
    return f"{sum(case.wins for case in tests)} and lose {sum(case.losses for case in tests)}"


def capped_signs(against: str) -> str:
    cells = load("attack-references-capped")
    test = signs(one(cells, method="portfolio")["success"], one(cells, method=against)["success"])
    return f"{test.wins} and {test.losses} (p = {test.p:.0e})".replace("e-0", "e-")


def control(model: str, digits: int) -> str:
    """Return the mean value of `PGD()` with restarts on random networks."""
    cells = where(load(f"random-nets-{model}"), part="table", group=SECONDS)
    return f"{student(one(cells, method='pgd', restarts=32)['value']).mean:.{digits}f}"


def control_reached() -> str:
    """Count the networks A on which it is within .1 % of the best known value, and list the other gaps."""
    cell = one(where(load("random-nets-A"), part="table", group=SECONDS), method="pgd", restarts=32)
    value, best = np.array(cell["value"]), np.array(cell["best_known"])
    gaps = (best - value) / np.abs(best)
    missed = [f"network {index} ends {bare(100 * gaps[index], 2)} % below" for index in np.flatnonzero(gaps > TIE)]
    return f"{(gaps <= TIE).sum()} of {len(gaps)} networks ({', '.join(missed)})"


def norms(probes: int | str) -> str:
    """Return the time of row norms on the conv net, in units of a forward."""
    return f"{one(load('norms'), network='MNIST conv net', probes=probes)['time']:.0f}"


def squeezenet() -> str:
    """Return the method that breaks fewest images, with its count and the others'."""
    cells = load("attack-table-squeezenet")
    weakest = min(cells, key=percent)
    counts = {sum(cell["success"]) for cell in cells if cell["method"] != weakest["method"]}
    return f"`{weakest['method']}` {sum(weakest['success'])}, every other {' to '.join(map(str, sorted(counts)))}"


def longer(seconds: float = 40) -> str:
    """Return the error of `reconstruct` on dcgan64 with twice the time."""
    return bare(float(np.mean(load(f"inversion-real-dcgan64-{seconds:.0f}s")[0]["mse"])), 4)


def csgm_other_step() -> str:
    """Return the error of deepinv's CSGM on mnist-dcgan with the step that was worse in tuning."""
    return bare(float(np.mean(one(load("inversion-real-mnist-dcgan"), method="deepinv CSGM")["mse"])), 4)


def against_adam(model: str) -> str:
    """Return by how much the error of `adr-gd-soft` is below that of `adam` on MNIST, paired by image."""
    ours, theirs = (
        [value for cell in load(f"mnist-{name}-{model}") for value in cell["mse"]] for name in ("adr-gd-soft", "adam")
    )
    gain = np.subtract(theirs, ours)
    interval, digits = student(gain.tolist()), 5 if abs(gain.mean()) > 1e-4 else 6
    return f"{bare(interval.mean, digits)} +- {bare(interval.error, digits)} ({(gain > 0).sum()} of {len(gain)} images)"


def _best_on_real(generator: str) -> float:
    errors = final(generator)
    return float(np.mean(errors["reconstruct"]))


def gate_wins(names: Sequence[str] = ("attack-references-400",)) -> str:
    """Count images won and lost by soft gates on the first 400 images, both radii together."""
    wins = losses = 0
    for name in names:
        cells = load(name)
        for network, eps in distinct(cells, "network", "eps"):
            pair = [one(cells, network=network, eps=eps, method=m) for m in ("portfolio", "portfolio-ungated")]
            test = signs(*(cell["success"] for cell in pair))
            wins, losses = wins + test.wins, losses + test.losses
    return f"win {wins} and lose {losses}"


def _dynamics(setting: str) -> tuple[list[Cell], np.ndarray]:
    """Return the images of the robust classifier, and a mask of those without a flip."""
    cells = where(load("dynamics-robust"), setting=setting)
    return cells, column(cells, "first_flip") > STEPS


def robust_inside() -> str:
    cells, inside = _dynamics("a m l_1 = 0.02")
    return f"{inside.sum()} of {len(cells)}"


def robust_error() -> str:
    cells, inside = _dynamics("a m l_1 = 0.02")
    return short(median(column(cells, "error_eigen"), inside))


def robust_grown() -> str:
    cells, _ = _dynamics(GROWN)
    errors = [short(median(column(cells, f"error_{name}"))) for name in FORMULAS]
    return f"{errors[0]}, {errors[1]} and {errors[2]}, and again {short(median(column(cells, 'held_eigen')))}"


def unsure() -> str:
    doubt = column(load("dynamics-step"), "doubt")
    return f"{(doubt > 0.01).sum()} of {len(doubt)}"


def capped_worst(training: str, beta: float, layers: Sequence[str]) -> str:
    """Return the worst-case accuracy, by layer."""
    cells = where(load("capped-mnist"), training=training, beta=beta)
    means = sorted(100 * float(np.mean([c["worst"] for c in where(cells, layer=layer)])) for layer in layers)
    return " to ".join(dict.fromkeys(f"{mean:.0f}" for mean in means)) + " %"


FIGURES: dict[str, Callable[[], str]] = {
    "times-faster": times_faster,
    "never-behind": never_behind,
    "gates-elsewhere": gates_elsewhere,
    "gates-400": gate_wins,
    "capped-against-ungated": lambda: capped_signs("portfolio-ungated"),
    "capped-against-autoattack": lambda: capped_signs("AutoAttack standard"),
    "control-A": lambda: control("A", 2),
    "control-A-exactly": lambda: control("A", 3),
    "control-A-reached": control_reached,
    "control-C": lambda: control("C", 0),
    "dynamics-robust-inside": robust_inside,
    "dynamics-robust-error": robust_error,
    "dynamics-robust-grown": robust_grown,
    "dynamics-unsure": unsure,
    "capped-none-plain": lambda: capped_worst("plain", np.inf, ["none"]),
    "capped-none-fgsm": lambda: capped_worst("fgsm", np.inf, ["none"]),
    "capped-point-one-fgsm": lambda: capped_worst("fgsm", 0.1, ["first", "all"]),
    "norms-probes": lambda: norms(8),
    "norms-exact": lambda: norms("exact"),
    "squeezenet": squeezenet,
    "dcgan64-40s": longer,
    "csgm-other-step": csgm_other_step,
    "adr-gd-against-adam-vae": lambda: against_adam("mnist-vae"),
    "adr-gd-against-adam-dcgan": lambda: against_adam("mnist-dcgan"),
    "dcgan64-reconstruct": lambda: bare(_best_on_real("dcgan64"), 4),
    "mnist-dcgan-reconstruct": lambda: bare(_best_on_real("mnist-dcgan"), 4),
    "capped-accuracy": lambda: f"{100 * quality('mnist-mlp-capped')['test_accuracy']:.1f} %",
}
