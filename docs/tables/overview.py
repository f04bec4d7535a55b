"""docs/results.md: where each job stands, and the results that everything here is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from latentopt.reports import Table
from tables import agents, analysis, attacks, cards, inversion, policies, prose, random_networks, readme
from tables.marks import plain
from tables.stored import FOLDER, commands, made, named


class Section(NamedTuple):
    """One job."""

    title: str
    says: Callable[[], str]
    table: Callable[[], Table]
    results: Sequence[str]  # patterns of names; the commands are theirs
    pages: Sequence[str]  # under docs, with more


def _timed() -> str:
    return (
        "Real images in equal CPU time, 20 s for 16 of them, mean squared error a pixel with its standard error; "
        "**bold** where it is more than 1 % below every other line. `lo.reconstruct` leads where the search is hard, "
        "on the DCGANs; on a VAE of faces all sensible methods end level."
    )


def _attacks() -> str:
    return (
        "Broken images with Wilson's 95 % intervals, CPU seconds of all together. The portfolio breaks as many as "
        f"AutoAttack (standard) or more on {prose.never_behind()} networks and radii, in {prose.times_faster()} times "
        "less CPU time. Single attacks of equal cost are level with each other; ADR-GD as printed, and as its authors' "
        "code has it, are far below plain PGD."
    )


SECTIONS = (
    Section("Reconstruction", _timed, lambda: readme.timed(True), ("inversion-real-*",), ("benchmarks/inversion.md",)),
    Section(
        "Compressed sensing",
        lambda: (
            "`mnist-vae`, mean squared error a pixel with its standard error, CPU seconds of 50 images. The generator "
            "needs far fewer measurements than Lasso; with many, Lasso is exact and a generator cannot be."
        ),
        lambda: inversion.BLOCKS["sensing-mnist-vae"](),
        ("sensing-mnist-vae",),
        ("benchmarks/inversion.md",),
    ),
    Section("Shipped generators", lambda: "As their cards have it.", cards.generators, (), ()),
    Section("Attacks on classifiers", _attacks, readme.portfolio, ("attack-references-*",), ("benchmarks/attacks.md",)),
    Section(
        "What soft gates are worth in the portfolio",
        lambda: "The same stages, with plain gradients and with soft gates, image by image (sign test).",
        attacks.gates,
        ("attack-references-400", "attack-references-capped"),
        ("benchmarks/attacks.md", "analysis/capped.md"),
    ),
    Section("Shipped classifiers", lambda: "As their cards have it.", cards.classifiers, (), ()),
    Section(
        "Maximising random networks",
        lambda: (
            "Network C, mean value reached, differences to the control seed by seed with Student's 95 % interval. No "
            "method that knows of activations beats plain sign steps."
        ),
        lambda: random_networks.methods("C"),
        ("random-nets-C",),
        ("benchmarks/random-networks.md",),
    ),
    Section(
        "Agents with refined actions",
        lambda: (
            "Change of the return over the same episodes without refinement, 95 % bootstrap intervals, **bold** above "
            "0, *in italics* below. An empty cell was not run."
        ),
        agents.returns,
        ("returns",),
        ("agents.md", "benchmarks/actions.md"),
    ),
    Section(
        "Agents that learn with refined actions",
        lambda: "Pendulum: return at the end and over the whole curve, differences with 95 % bootstrap intervals.",
        agents.training,
        ("train-rl-*",),
        ("agents.md",),
    ),
    Section(
        "Attacks on policies",
        lambda: "Mean return of the same levels, attacked and not, with 95 % bootstrap intervals.",
        policies.episodes,
        ("attack-policy-episodes-*",),
        ("benchmarks/policies.md",),
    ),
    Section(
        "Capped ReLUs",
        lambda: (
            "What a cap gains under PGD is gone in the worst case: robustness that only looks so. Student's 95 % "
            "intervals over three seeds."
        ),
        analysis.claims,
        ("capped-mnist",),
        ("analysis/capped.md",),
    ),
    Section(
        "Certified optima",
        lambda: "How far the optimisers end below the true maximum of random networks, where that is known.",
        analysis.optimisers,
        ("certify-random-A", "certify-random-A-optimisers"),
        ("analysis/certify.md",),
    ),
)


def _section(section: Section) -> str:
    names = [name for pattern in section.results for name in named(pattern)]
    parts = [f"## {section.title}", section.says(), plain(section.table())]
    links = [f"[{page.removesuffix('.md')}]({page})" for page in section.pages]
    parts += [f"More: {', '.join(links)}."] if links else []
    told = commands(names)
    return "\n\n".join(parts + (["    " + "\n    ".join(told)] if told else []))


def results() -> str:
    """The page below its head."""
    every = [name for name in named("*") if "table" not in made(name)]
    return "\n\n".join([*map(_section, SECTIONS), "## The runs", plain(runs(every))])


def runs(names: Sequence[str]) -> Table:
    """Every result with what made it."""
    rows = []
    for name in names:
        how = made(name)
        versions = how.get("versions", {})
        machine = f"{how.get('cpu', 'not kept')}, {how['threads']} thread" if "threads" in how else "not kept"
        load = f"{how['load_before'][0]:.1f}" if "load_before" in how else ""
        told = "; ".join(f"`{command}`" for command in how["commands"])
        note = f" {how['note']}" if "note" in how else ""
        rows.append([f"[{name}](results/{name}.csv)", told + note, versions.get("torch", "not kept"), machine, load])
    assert all((FOLDER / f"{name}.json").is_file() for name in names)
    return Table("", "", ["result", "command", "torch", "machine", "load before"], rows)


BLOCKS = {"results": results}
