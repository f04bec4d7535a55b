"""Attacks on the observations of Procgen policies, at equal counted cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
from tqdm import tqdm

from benchmarks.attack_policy_methods import CONTROL, METHODS, SizedAttack, chosen_form
from benchmarks.statistics import signs
from benchmarks.study import chosen, numbers, study
from benchmarks.timing import timed
from benchmarks.tuned import TUNED
from benchmarks.tuning import tuning_report
from latentopt.errors import InputError
from latentopt.reports import Report, Row, Table
from latentopt.rl.attack_episodes import AttackedEpisodes
from latentopt.rl.attack_policy import Aim, AttackedObservations
from latentopt.rl.attack_policy import attack_policy as attack_states
from latentopt.rl.game_policies import GamePolicy, game_of
from latentopt.rl.games import TEST_LEVELS, TUNING_LEVELS
from latentopt.rl.procgen import GAMES, INSTALL, installed
from latentopt.statistics import bootstrap, wilson
from latentopt.zoo import cards

if TYPE_CHECKING:
    from matplotlib.figure import Figure


Part = Literal["states", "episodes", "all"]
NOTE = (
    "Policies act greedily. Every attack keeps pixels within eps of the game's frame, and in [0, 1]. The policy sees "
    "whole bytes, and success is counted on these. Cost: mean forwards and backwards per state, including probes and "
    "the evaluations before and after. Every method gets as many steps as fit into the same budget, and stops on a "
    "state when it succeeds. Sizes were chosen on states of other levels (`--tune`)."
)


@study
def attack_policy(
    games: str = "all",
    eps: str = "3/255,5/255",
    episodes: int = 100,
    states: int = 500,
    evaluations: int = 40,
    horizon: int = 100,
    part: Part = "all",
    targets: Aim | None = None,
    methods: str = "all",
    models: str = "",
    tune: bool = False,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Attack policies for FruitBot and CoinRun with every method: success on states, returns of episodes.

    Args:
        games: all, coinrun or fruitbot; the policies are the models of that name.
        eps: radii between commas, as shares of 255.
        episodes: number of levels, from number 2,000,000 on, each played once.
        states: number of states of these levels, on which success is counted.
        evaluations: forwards and backwards per attacked state.
        horizon: number of actions after which an episode is cut; an agent that gets stuck may stand still for very
            long.
        part: states, episodes or all.
        targets: target action of the attacks: random or least-likely; default: untargeted.
        methods: all, or some, between commas; the control, pgd, is always among them.
        models: folder of the policies' models, named GAME-cnn; default: the shipped ones.
        tune: tune each method's size on states of levels from number 1,000,000 on, instead of the benchmark.
        seed: seed of the sampled states and of the methods' own noise.
        quick: one game, two methods, 2 episodes and 8 states, as a smoke test.
    """
    radii = numbers("eps", eps, lambda word: float(Fraction(word)))
    chosen_methods, known = (
        chosen("methods", methods, METHODS, always=CONTROL),
        chosen("games", games, dict.fromkeys(GAMES)),
    )
    if not installed():
        raise InputError("attack-policy", f"Procgen, which is not installed: {INSTALL}", "none")
    if quick:
        known, episodes, states, radii = dict(list(known.items())[:1]), 2, 8, radii[:1]
        chosen_methods = {name: forms for name, forms in chosen_methods.items() if name in (CONTROL, "adr-gd")}
    levels = range(first := TUNING_LEVELS if tune else TEST_LEVELS, first + episodes)
    plan = PolicyPlan(radii, states, evaluations, seed, list(chosen_methods), targets)
    policies = [game_policy(f"{models}/{game}-cnn" if models else f"{game}-cnn", levels, horizon) for game in known]
    return tuning(policies, plan) if tune else benchmark(policies, plan, part)


def tuning(policies: Sequence[GamePolicy], plan: PolicyPlan) -> Report:
    """Score every size of every method on the states of every policy, over all radii: success, then mean margin."""
    games = {one.game: (one, one.states(plan.states, plan.seed)) for one in policies}

    def score(game: str, method: str, size: str) -> tuple[float, float]:
        one, states = games[game]
        results = [plan.cell(one, states, eps, size, METHODS[method][size]) for eps in plan.radii]
        count = len(results)
        return float(sum(r.success.mean() for r in results)) / count, sum(r.margin for r in results) / count

    grids = {game: {name: tuple(METHODS[name]) for name in plan.methods} for game in games}
    title = f"Sizes for attacks on policies, {plan.evaluations} forwards and backwards a state"
    return tuning_report(title, grids, score, ("success", "margin"))


def benchmark(policies: Sequence[GamePolicy], plan: PolicyPlan, part: Part) -> Report:
    """The tables of every policy and radius."""
    tables, rows = list[Table](), list[Row]()
    plots: dict[str, dict[str, np.ndarray]] = {}
    for one in policies:
        states = one.states(plan.states, plan.seed)
        plain = {} if part == "states" else {"unattacked": one.episodes(), "actions at random": one.random_episodes()}
        for radius in plan.radii:
            title = f"{one.game}, eps {255 * radius:g}/255"
            on_states, on_episodes = dict[str, StateAttackResults](), dict[str, AttackedEpisodes]()
            if part != "episodes":
                on_states = {name: plan.on_states(one, states, radius, name) for name in tqdm(plan.methods, title)}
                tables.append(_states_table(f"{title}: states", len(states), on_states))
            if part != "states":
                on_episodes = {name: plan.on_episodes(one, radius, name) for name in tqdm(plan.methods, title)}
                tables.append(_episodes_table(f"{title}: episodes", plain, on_episodes))
                plots[f"{title}: returns"] = {
                    name: episodes_of.returns for name, episodes_of in {**plain, **on_episodes}.items()
                }
            else:
                plots[f"{title}: states with another action"] = {name: c.success for name, c in on_states.items()}
            rows += _rows(one, radius, on_states, {**plain, **on_episodes})
    return Report("Attacks on policies", NOTE, tables, rows, partial(_draw, plots))


def _states_table(title: str, count: int, results: dict[str, StateAttackResults]) -> Table:
    base = results[CONTROL].success

    def row(name: str, cell: StateAttackResults) -> list[str]:
        successes = int(cell.success.sum())
        low, high = wilson(successes, count)
        against = signs(cell.success.tolist(), base.tolist())
        return [
            f"**{name}**" if name == CONTROL else name,
            cell.size,
            f"{successes / count:.1%} [{low:.1%}, {high:.1%}]",
            "" if name == CONTROL else f"{against.wins} {against.losses}",
            "control" if name == CONTROL else f"{against.p:.2g}",
            f"{cell.forwards:.1f}",
            f"{cell.backwards:.1f}",
            f"{cell.seconds:.2f}",
        ]

    columns = ["method", "size", "another action [95 %]", "+ -", "p", "forwards", "backwards", "CPU s"]
    return Table(title, f"{count} states.", columns, [row(name, cell) for name, cell in results.items()])


def _episodes_table(title: str, plain: dict[str, AttackedEpisodes], under_attack: dict[str, AttackedEpisodes]) -> Table:
    clean, control = plain["unattacked"], under_attack[CONTROL]

    def row(name: str, one: AttackedEpisodes) -> list[str]:
        attacked = name in under_attack
        return [
            f"**{name}**" if name == CONTROL else name,
            _interval(one.returns),
            "" if one is clean else _interval(one.returns - clean.returns),
            _interval(one.returns - control.returns) if attacked and one is not control else "",
            f"{one.lengths.mean():.0f}",
            f"{one.changed.mean():.1%}" if attacked else "",
            f"{one.forwards:.1f}" if attacked else "",
            f"{one.backwards:.1f}" if attacked else "",
        ]

    columns = ["method", "return [95 %]", "minus unattacked", f"minus {CONTROL}", "steps", "changed"]
    columns += ["forwards", "backwards"]
    note = f"{len(clean.returns)} episodes, the same levels for all; bootstrap intervals, differences paired."
    return Table(title, note, columns, [row(name, one) for name, one in {**plain, **under_attack}.items()])


def _interval(values: np.ndarray) -> str:
    low, high = bootstrap(values)
    return f"{values.mean():.2f} [{low:.2f}, {high:.2f}]"


def _rows(
    one: GamePolicy, radius: float, states: dict[str, StateAttackResults], episodes: dict[str, AttackedEpisodes]
) -> list[Row]:
    common = {"game": one.game, "eps": radius}
    on_states = [
        {**common, "part": "states", "method": name, "case": index, "success": int(success)}
        for name, cell in states.items()
        for index, success in enumerate(cell.success)
    ]
    on_episodes = [
        {**common, "part": "episodes", "method": name, "case": level, "return": value, "steps": int(steps)}
        for name, played in episodes.items()
        for level, value, steps in zip(one.levels, played.returns, played.lengths, strict=True)
    ]
    return on_states + on_episodes


def _draw(plots: dict[str, dict[str, np.ndarray]], figure: Figure) -> None:
    """Plot means with their intervals: a panel for each game and radius."""
    figure.set_size_inches(8, 2.2 * len(plots))
    for ax, (title, by_name) in zip(figure.subplots(len(plots), 1, squeeze=False)[:, 0], plots.items(), strict=True):
        means = [values.mean() for values in by_name.values()]
        ends = np.array([bootstrap(values) for values in by_name.values()]).T
        ax.errorbar(means, list(by_name), xerr=np.abs(ends - means), fmt="o")
        ax.set(title=title)
        ax.grid(alpha=0.3)


@dataclass(frozen=True, eq=False)
class StateAttackResults:
    """Outcome of a method with one size on S states."""

    size: str
    success: np.ndarray  # (S,) bool
    margin: float  # mean, of the best other logit above the clean action's
    forwards: float  # of a state, in the mean
    backwards: float
    seconds: float  # CPU time of all


@dataclass(frozen=True)
class PolicyPlan:
    """Measurements on a policy."""

    radii: Sequence[float]
    states: int
    evaluations: int
    seed: int
    methods: Sequence[str]
    targets: Aim | None = None

    def on_states(self, policy: GamePolicy, states: np.ndarray, eps: float, method: str) -> StateAttackResults:
        """The method in its tuned size."""
        return self.cell(policy, states, eps, *chosen_form(method, TUNED["attack-policy"].get(policy.game, {})))

    def cell(
        self, policy: GamePolicy, states: np.ndarray, eps: float, size: str, form: SizedAttack
    ) -> StateAttackResults:
        """Run a method with one size on states (S, 64, 64, 3)."""
        settings, attacked = form.settings(self.evaluations), list[AttackedObservations]()
        took = timed(
            lambda: attacked.append(
                attack_states(policy.policy, states, eps, targets=self.targets, seed=self.seed, **settings)
            )
        )
        (one,) = attacked
        forwards, backwards = (cost.double().mean().item() for cost in (one.forwards, one.backwards))
        return StateAttackResults(size, one.success.numpy(), one.moved.mean().item(), forwards, backwards, took.cpu)

    def on_episodes(self, policy: GamePolicy, eps: float, method: str) -> AttackedEpisodes:
        """The method in its tuned size."""
        _, form = chosen_form(method, TUNED["attack-policy"].get(policy.game, {}))
        return policy.episodes(eps, targets=self.targets, seed=self.seed, **form.settings(self.evaluations))


def game_policy(model: str, levels: range, horizon: int) -> GamePolicy:
    """A shipped policy, or the one in a folder, on these levels."""
    game, settings = game_of(model)
    return GamePolicy(game, cards.load_classifier(model), settings, levels, horizon)
