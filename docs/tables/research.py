"""Tables of docs/research.md."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence

from benchmarks.head_to_head_trials import CONTROL, OURS
from latentopt.reports import Table
from latentopt.statistics import MeanInterval, student
from tables.stored import Cell, distinct, named, several, where
from tables.text import EMPTY, signed, table

BUDGETS = ("by_seconds", "by_passes")


def _duel(family: str, runs: str = "") -> list[Cell]:
    return where(several(*named(f"duel-{runs or family}*")), family=family)


def _values(cells: Sequence[Cell], network: str, method: str, budget: str) -> list[float]:
    """One a seed; of families whose problems are judged one by one, one a problem; of real images, one an image."""
    (*_, last) = results = where(cells, network=network, method=method)
    if last["family"] != "real":
        return [value for cell in results for value in cell[budget]]
    images = defaultdict[int, list[float]](list)
    for cell in results:
        for image, value in zip(cell["problem"], cell[budget], strict=True):
            images[image].append(value)
    return [sum(values) / len(values) for values in images.values()]


def _means(cells: Sequence[Cell], network: str, budget: str) -> dict[str, float]:
    methods = distinct(where(cells, network=network), "method")
    return {name: student(_values(cells, network, name, budget)).mean for name in methods}


def _rival(means: dict[str, float], sign: int = 1) -> str:
    """The best of the others; ``sign`` -1: less is better."""
    return max((name for name in means if name not in (OURS, CONTROL)), key=lambda name: sign * means[name])


def _difference(cells: Sequence[Cell], network: str, method: str, budget: str, unit: float = 1.0) -> MeanInterval:
    ours, theirs = (_values(cells, network, name, budget) for name in (OURS, method))
    return MeanInterval(*(x / unit for x in student([a - b for a, b in zip(ours, theirs, strict=True)])))


def single() -> Table:
    """Shares of single starts that recover, ours less the others', in per cent and points."""
    return _differences("single", "generator", "`ADRGD()`, %", 0.01, (0, 1))


def attacks() -> Table:
    """By how much the margin misses the label's, ours less the others'."""
    return _differences("attacks", "network, radius", "ADR-GD", 1.0, (4, 4))


def _differences(family: str, first: str, ours: str, unit: float, digits: tuple[int, int]) -> Table:
    cells = _duel(family)
    rows = []
    for network in distinct(cells, "network"):
        means, passes = (_means(cells, network, budget) for budget in BUDGETS)
        best, rival = _rival(means), _rival(passes)
        pairs = ((CONTROL, "by_seconds"), (best, "by_seconds"), (rival, "by_passes"))
        texts = [signed(_difference(cells, network, *pair, unit=unit), digits[1]) for pair in pairs]
        mine, off, other = (f"{means[name] / unit:.{digits[0]}f}" for name in (OURS, CONTROL, best))
        rows.append([f"`{network}`", mine, off, texts[0], f"{other} (`{best}`)", texts[1], f"{texts[2]} (`{rival}`)"])
    return table([first, ours, "gates off", "difference", "best other", "difference", "by passes"], rows)


def opponents() -> Table:
    """Shares of single starts that every method recovers."""
    return _shares("single", "generator", lambda share: share)


def broken() -> Table:
    """Shares of images that attacks break."""
    return _shares("attacks", "network, radius", lambda shortfall: shortfall == 0)


def _shares(family: str, first: str, counted: Callable[[float], float]) -> Table:
    """Means in per cent, by CPU time and by passes."""
    cells = _duel(family)
    names = distinct(cells, "method")
    rows = []
    for network in distinct(cells, "network"):
        known = distinct(where(cells, network=network), "method")
        row = [f"`{network}`"]
        for name in names:
            both = [_values(cells, network, name, budget) for budget in BUDGETS] if name in known else []
            row.append(", ".join(f"{100 * sum(map(counted, values)) / len(values):.0f}" for values in both))
        rows.append(row)
    return table([first, *(f"`{name}`" for name in names)], rows)


def to_all() -> Table:
    """Time until all are recovered, ours in units of the others'."""
    cells = _duel("restarts")
    columns = ["generator", "`ADRGD()`, CPU s", "gates off", "times gates off", "`lbfgs`", "times `lbfgs`", "passes"]
    rows = []
    for network in distinct(cells, "network"):
        pairs = ((CONTROL, "by_seconds"), ("lbfgs", "by_seconds"), ("lbfgs", "by_passes"))
        texts = [_ratio(_difference(cells, network, *pair)) for pair in pairs]
        means = _means(cells, network, "by_seconds")
        times = [f"{math.exp(means[name]):.2f}" for name in (OURS, CONTROL, "lbfgs")]
        rows.append([f"`{network}`", times[0], times[1], texts[0], times[2], texts[1], texts[2]])
    return table(columns, rows)


def others() -> Table:
    """The same of the methods that are far behind, ours in units of theirs."""
    cells = _duel("restarts", "others")
    names = [name for name in distinct(cells, "method") if name != OURS]
    rows = [
        [f"`{network}`", *(_ratio(_difference(cells, network, name, "by_seconds")) for name in names)]
        for network in distinct(cells, "network")
    ]
    return table(["generator", *(f"times `{name}`" for name in names)], rows)


def _ratio(interval: MeanInterval) -> str:
    text = f"{math.exp(interval.mean):.2f} [{math.exp(interval.low):.2f}, {math.exp(interval.high):.2f}]"
    return f"**{text}**" if interval.high < 0 else text


def real() -> Table:
    """Errors of real images, and ours relative to the best other's."""
    cells = _duel("real")
    names = distinct(cells, "method")
    rows = []
    for network in distinct(cells, "network"):
        means = _means(cells, network, "by_seconds")
        best = _rival(means, -1)
        difference = _difference(cells, network, best, "by_seconds", means[best] / 100)
        text = f"{difference.mean:+.1f} [{difference.low:.1f}, {difference.high:.1f}]"
        errors = [f"{means[name]:.5f}" if name in means else EMPTY for name in names]
        rows.append([f"`{network}`", *errors, f"{f'**{text}**' if difference.high < 0 else text} (`{best}`)"])
    return table(["generator", *(f"`{name}`" for name in names), "`ADRGD()` against the best other, %"], rows)


BLOCKS = {
    "duel-single": single,
    "duel-opponents": opponents,
    "duel-all": to_all,
    "duel-others": others,
    "duel-real": real,
    "duel-attacks": attacks,
    "duel-broken": broken,
}
