"""docs/results.md: a summary of every job; docs/runs.md: the stored runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from latentopt.reports import Table
from tables import agents, analysis, attacks, cards, inversion, policies, prose, random_networks, readme
from tables.marks import plain
from tables.stored import FOLDER, commands, made, named


class Section(NamedTuple):
    """A section of the page: one job."""

    title: str
    says: Callable[[], str]
    table: Callable[[], Table]
    results: Sequence[str]  # patterns of result names, whose commands are listed
    pages: Sequence[str]  # pages under docs with details


def _timed() -> str:
    return (
        "Real images in equal CPU time, 20 s for 16 images. The table has the mean squared error per pixel with its "
        "standard error, **bold** if it is more than 1 % below every other row. `lo.reconstruct` is best on the "
        "DCGANs, where the search is hard. On a VAE of faces all sensible methods reach about the same error."
    )


def _attacks() -> str:
    return (
        "Share of broken images with Wilson's 95 % intervals, and CPU seconds for all images together. The portfolio "
        f"breaks as many images as AutoAttack (standard) or more on {prose.never_behind()} networks and radii, in "
        f"{prose.times_faster()} times less CPU time. Single attacks of equal cost are level with each other. ADR-GD "
        "as printed and the authors' code are far below plain PGD."
    )


SECTIONS = (
    Section("Reconstruction", _timed, lambda: readme.timed(True), ("inversion-real-*",), ("benchmarks/inversion.md",)),
    Section(
        "Compressed sensing",
        lambda: (
            "Mean squared error per pixel with its standard error on `mnist-vae`, and CPU seconds for 50 images. The "
            "generator needs far fewer measurements than Lasso. With many measurements Lasso is exact, and a generator "
            "cannot be."
        ),
        lambda: inversion.BLOCKS["sensing-mnist-vae"](),
        ("sensing-mnist-vae",),
        ("benchmarks/inversion.md",),
    ),
    Section(
        "Photographs through a decoder",
        lambda: (
            "TAEF2, the tiny autoencoder of FLUX.2, from the encoder's latents. PSNR in dB with its standard error, "
            "and the time until a method has the final PSNR of an Adam loop written by hand, in units of that loop's. "
            "Latents that are whitened by the decoder's sensitivity halve it."
        ),
        lambda: inversion.BLOCKS["decoders-inversion"](),
        ("decoders-*",),
        ("benchmarks/inversion.md",),
    ),
    Section("Shipped generators", lambda: "From the model cards.", cards.generators, (), ()),
    Section("Attacks on classifiers", _attacks, readme.portfolio, ("attack-references-*",), ("benchmarks/attacks.md",)),
    Section(
        "Soft gates in the portfolio",
        lambda: "The same stages with plain gradients and with soft gates, paired by image (sign test).",
        attacks.gates,
        ("attack-references-400", "attack-references-capped"),
        ("benchmarks/attacks.md", "analysis/capped.md"),
    ),
    Section("Shipped classifiers", lambda: "From the model cards.", cards.classifiers, (), ()),
    Section(
        "Maximising random networks",
        lambda: (
            "Mean value reached on network C, and paired differences to the control with Student's 95 % interval over "
            "seeds. No activation-aware method beats plain sign steps."
        ),
        lambda: random_networks.methods("C"),
        ("random-nets-C",),
        ("benchmarks/random-networks.md",),
    ),
    Section(
        "Agents with refined actions",
        lambda: (
            "Change of the return relative to the same episodes without refinement, with 95 % bootstrap intervals: "
            "**bold** if the interval is above 0, *italic* if below. An empty cell was not run."
        ),
        agents.returns,
        ("returns",),
        ("agents.md", "benchmarks/actions.md"),
    ),
    Section(
        "Agents that learn with refined actions",
        lambda: "Pendulum: return at the end and over the whole curve, and differences with 95 % bootstrap intervals.",
        agents.training,
        ("train-rl-*",),
        ("agents.md",),
    ),
    Section(
        "Attacks on policies",
        lambda: "Mean return on the same levels with and without an attack, with 95 % bootstrap intervals.",
        policies.episodes,
        ("attack-policy-episodes-*",),
        ("benchmarks/policies.md",),
    ),
    Section(
        "Capped ReLUs",
        lambda: (
            "The robustness that a cap gains under PGD disappears in the worst case: it is gradient masking. Student's "
            "95 % intervals over three seeds."
        ),
        analysis.claims,
        ("capped-mnist",),
        ("analysis/capped.md",),
    ),
    Section(
        "Certified optima",
        lambda: "Gap of the optimisers to the certified maximum, on the random networks where it is known.",
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
    return "\n\n".join([*parts, *_folded(commands(names))])


def _folded(commands: Sequence[str]) -> list[str]:
    """Return the blocks of a list of commands that the page shows folded."""
    lines = "\n".join(["```sh", *commands, "```"])
    return ['<details markdown="1"><summary>Commands</summary>', lines, "</details>"] if commands else []


def results() -> str:
    """Return the page below its introduction."""
    return "\n\n".join(map(_section, SECTIONS))


def runs() -> str:
    """Tabulate every stored run with its versions, machine and load, and list the commands."""
    names = [name for name in named("*") if "table" not in made(name)]
    rows, lines = [], []
    for name in names:
        run = made(name)
        machine = f"{run.get('cpu', 'not kept')}, {run['threads']} thread" if "threads" in run else "not kept"
        load = f"{run['load_before'][0]:.1f}" if "load_before" in run else ""
        version = run.get("versions", {}).get("torch", "not kept")
        rows.append([f"[{name}](results/{name}.csv)", version, machine, load, run.get("note", "")])
        lines += [f"# {name}", *run["commands"]]
    assert all((FOLDER / f"{name}.json").is_file() for name in names)
    table = Table("", "", ["result", "torch", "machine", "load before", "note"], rows)
    return "\n\n".join([plain(table), "## Commands", "\n".join(["```sh", *lines, "```"])])


BLOCKS = {"results": results, "runs": runs}
