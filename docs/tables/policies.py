"""Tables of docs/benchmarks/policies.md."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.statistics import bootstrapped, signs
from latentopt.reports import Table
from latentopt.statistics import MeanInterval
from tables.attacks import radius
from tables.stored import Cell, distinct, load, made, named, one, several, where
from tables.text import bare, table

GAMES = {"coinrun": "CoinRun", "fruitbot": "FruitBot"}
CONTROL, PLAIN, AIM = "pgd", ("unattacked", "actions at random"), "-least-likely"


def states() -> Table:
    """Tabulate the share of states with another action."""
    cells = where(load("attack-policy-states"), part="states")
    cases = distinct(cells, "game", "eps")
    rows = []
    for method in distinct(cells, "method"):
        texts = []
        for game, eps in cases:
            same = where(cells, game=game, eps=eps)
            best = max(sum(cell["success"]) for cell in same)
            texts.append(_share(one(same, method=method), one(same, method=CONTROL), best))
        rows.append([f"`{method}`", *texts])
    return table(["", *(f"{GAMES[game]} {radius(eps)}" for game, eps in cases)], rows)


def _share(cell: Cell, control: Cell, best: int) -> str:
    count = sum(cell["success"])
    text = f"{100 * count / len(cell['success']):.1f} %"
    test = signs(cell["success"], control["success"])
    text = f"**{text}**" if count == best and test.wins > test.losses else text
    if cell["method"] == CONTROL:
        return text
    p = "" if test.p > 0.2 else f"; p = {bare(test.p, 3)}" if test.p >= 0.001 else "; p < .001"
    return f"{text} ({test.wins}, {test.losses}{p})"


def episodes(aim: str = "") -> Table:
    """Tabulate mean returns on the same levels, for every game, radius and method of a result.

    Args:
        aim: ``"-least-likely"`` for the results with this in their names.
    """
    names = [name for name in named(f"attack-policy-episodes{aim}-*") if aim or AIM not in name]
    cells = where(several(*names), part="episodes")
    cases = distinct(cells, "game", "eps")
    methods = [name for name in distinct(cells, "method") if name not in PLAIN]
    rows = [[name, *_texts(cells, cases, name, aim)] for name in PLAIN]
    rows += [[f"`{name}`", *_texts(cells, cases, name, aim)] for name in methods]
    rows += [[f"`{n}` minus unattacked, level by level", *_against(cells, cases, n, PLAIN[0])] for n in methods]
    rows += [[f"`{n}` minus `{CONTROL}`", *_against(cells, cases, n, CONTROL)] for n in methods if n != CONTROL]
    heads = [text for game, eps in cases for text in (f"{GAMES[game]} {radius(eps)}", "actions changed")]
    return table(["", *heads], rows)


Cases = Sequence[tuple[str, float]]


def _texts(cells: Sequence[Cell], cases: Cases, method: str, aim: str) -> list[str]:
    texts = []
    for game, eps in cases:
        results = where(cells, game=game, eps=eps, method=method)
        texts += [_interval(bootstrapped(results[0]["return"])) if results else "", _changed(game, eps, method, aim)]
    return texts


def _changed(game: str, eps: float, method: str, aim: str) -> str:
    """Return the share of changed actions, which is in the command's own table, not in its rows."""
    for name in named(f"attack-policy-changed{aim}-*"):
        if made(name)["table"].startswith(f"{game}, eps {radius(eps)}:") and (aim or AIM not in name):
            for row in load(name):
                if str(row["method"]).strip("*") == method and row["changed"] != "":
                    return f"{float(str(row['changed']).rstrip('%')):.0f} %"
    return ""


def _against(cells: Sequence[Cell], cases: Cases, method: str, base: str) -> list[str]:
    texts = []
    for game, eps in cases:
        same = where(cells, game=game, eps=eps)
        pair = [where(same, method=name) for name in (method, base)]
        if all(pair):
            interval = bootstrapped(np.subtract(pair[0][0]["return"], pair[1][0]["return"]).tolist())
            texts += [_interval(interval), ""]
        else:
            texts += ["", ""]
    return texts


def _interval(interval: MeanInterval) -> str:
    return f"{bare(interval.mean, 2)} [{bare(interval.low, 2)}, {bare(interval.high, 2)}]"


BLOCKS = {"policy-states": states, "policy-episodes": episodes}
if named(f"attack-policy-episodes{AIM}-*"):
    BLOCKS["policy-episodes-least-likely"] = lambda: episodes(AIM)
