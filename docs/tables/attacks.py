"""Tables of docs/benchmarks/attacks.md."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from benchmarks.statistics import signs
from latentopt.reports import Table
from latentopt.statistics import wilson
from tables.stored import Cell, distinct, load, named, one, several, where
from tables.text import table

CONTROL = "pgd"
NAMES = {"AutoAttack standard": "AutoAttack", "torchattacks APGD-CE": "torchattacks APGD-CE"}
BESIDE = ("torchattacks PGD", "pgd", "torchattacks APGD-CE", "apgd-ce", "AutoAttack standard", "portfolio")
UNBOXED = " (the paper's setting: pixels may leave [0, 1])"


def radius(eps: float) -> str:
    """Format a radius, as a fraction of 255 if it is one."""
    part = Fraction(eps * 255).limit_denominator(1000)
    return f"{part.numerator}/255" if part.denominator == 1 and part.numerator < 17 else f"{eps:g}"


def percent(cell: Cell) -> float:
    return 100 * sum(cell["success"]) / len(cell["success"])


def short_rate(cell: Cell, digits: int = 0) -> str:
    """Format a success rate in per cent, with Wilson's interval."""
    low, high = wilson(sum(cell["success"]), len(cell["success"]))
    return f"{percent(cell):.{digits}f} % [{100 * low:.{digits}f}, {100 * high:.{digits}f}]"


def references() -> Table:
    """Compare our attacks with other packages' on the first 100 images."""
    cells = several(*[name for name in named("attack-references-*") if name.split("-")[2] not in ("400", "capped")])
    columns = ["network, eps", *(f"`{name}`" if " " not in name else _short(name) for name in BESIDE)]
    columns += ["AutoAttack CPU s", "`portfolio` CPU s"]
    order = {"mnist-pgd": 0, "mnist-clean": 1}
    cases = sorted(distinct(cells, "network", "eps"), key=lambda case: order.get(case[0], 2))
    return table(columns, [_beside(cells, *case) for case in cases])


def _short(name: str) -> str:
    return NAMES.get(name, name)


def _beside(cells: Sequence[Cell], network: str, eps: float) -> list[str]:
    results = [one(cells, network=network, eps=eps, method=name) for name in BESIDE]
    rates = [f"{percent(cell):.0f}" for cell in results]
    rates[-1] = f"**{rates[-1]}**"
    seconds = [cell["cpu_seconds_of_all"] for cell in results[-2:]]
    return [f"{network}, eps {radius(eps)}", *rates, f"{seconds[0]:.0f}", f"{seconds[1]:.1f}"]


def equal_cost() -> Table:
    """Tabulate every method with 100 gradient evaluations on two networks, from its latest run."""
    columns, sides = ["100 gradient evaluations"], list[dict[str, Cell]]()
    for network in ("mnist-pgd", "resnet2b"):
        runs = [f"attack-table-{network}", f"attack-table-{network}-portfolio"]
        by_method = {cell["method"]: cell for cell in several(*runs)}
        control = by_method[CONTROL]
        columns += [f"{network}, {radius(control['eps'])}, {len(control['success'])} images", "+ -"]
        sides.append(by_method)
    rows = [[f"`{name}`", *(text for side in sides for text in _against(side, name))] for name in sides[0]]
    return table(columns, rows)


def _against(by_method: dict[str, Cell], name: str) -> list[str]:
    if name not in by_method:
        return ["", ""]
    low, high = wilson(sum(by_method[name]["success"]), len(by_method[name]["success"]))
    against = signs(by_method[name]["success"], by_method[CONTROL]["success"])
    rate = f"{percent(by_method[name]):.1f}% [{100 * low:.1f}%, {100 * high:.1f}%]"
    return [rate, "" if name == CONTROL else f"{against.wins} {against.losses}"]


def curve() -> Table:
    """Tabulate success by gradient evaluations."""
    cells = several("attack-curve-mnist-pgd", "attack-curve-mnist-pgd-portfolio")
    by_method = {(cell["method"], cell["evaluations"]): cell for cell in cells if cell["part"] == "curve"}
    budgets = sorted({budget for _, budget in by_method})
    names = list(dict.fromkeys(name for name, _ in by_method))
    rows = [
        [f"`{name}`", *(f"{percent(by_method[name, b]):.3g} %" if (name, b) in by_method else "" for b in budgets)]
        for name in names
    ]
    return table(["gradient evaluations", *map(str, budgets)], rows)


def curves() -> Table:
    """Tabulate success by gradient evaluations on networks of CIFAR10."""
    cells = load("attack-curve-cifar")
    budgets, networks = distinct(where(cells, method=CONTROL), "evaluations"), distinct(cells, "network")
    columns = [f"{network}, {budget}" for network in networks for budget in budgets]
    rows = []
    for method in distinct(cells, "method"):
        own = where(cells, method=method)
        fixed = [budget for budget in distinct(own, "evaluations") if budget not in budgets]
        texts = {f"{cell['network']}, {cell['evaluations']}": f"{percent(cell):.3g}" for cell in own}
        if fixed:  # takes what it takes: told where the budget is greatest
            texts = {f"{cell['network']}, {budgets[-1]}": f"{percent(cell):.3g}" for cell in own}
        name = f"`{method}`" + "".join(f", {budget}" for budget in fixed)
        rows.append([name, *(texts.get(column, "") for column in columns)])
    return table(["broken, %, by evaluations", *columns], rows)


def ablation(network: str) -> Table:
    """Tabulate broken images for ablations of ADR-GD, with and without the range of pixels."""
    cells = where(load(f"attack-ablation-{network}"), part="ablation")
    count = len(cells[0]["success"])
    rows = []
    for form in distinct(cells, "group"):
        if form.endswith(UNBOXED):
            continue
        for cell in where(cells, group=form):
            free = where(cells, group=form + UNBOXED, method=cell["method"])
            outside = str(sum(free[0]["success"])) if free else ""
            rows.append([f"`{form}`", cell["method"], str(sum(cell["success"])), outside])
    return table(["form", "left out", f"broken, of {count}", "pixels may leave [0, 1]"], rows)


def gates() -> Table:
    """Compare the portfolio with the same stages with plain gradients."""
    rows = []
    for result in ("attack-references-400", "attack-references-capped"):
        cells = load(result)
        for network, eps in distinct(cells, "network", "eps"):
            with_gates = one(cells, network=network, eps=eps, method="portfolio")
            without = one(cells, network=network, eps=eps, method="portfolio-ungated")
            test = signs(with_gates["success"], without["success"])
            count = str(len(with_gates["success"]))
            case = [f"{network}, eps {radius(eps)}", count, short_rate(without, 1), short_rate(with_gates, 1)]
            rows.append([*case, f"{test.wins}, {test.losses}", f"{test.p:.2g}"])
    columns = ["network, eps", "images", "plain gradients", "soft gates", "won, lost", "p"]
    return table(columns, rows)


BLOCKS = {
    "attack-references": references,
    "attack-equal-cost": equal_cost,
    "attack-curve": curve,
    "attack-curve-cifar": curves,
    "attack-gates": gates,
    "attack-ablation-mnist-pgd": lambda: ablation("mnist-pgd"),
    "attack-ablation-resnet2b": lambda: ablation("resnet2b"),
}
