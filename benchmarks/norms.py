"""Error of the estimated norms of ADR-GD's rows by the number of probes (arXiv 2406.00494, eq. 8)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.study import study
from benchmarks.timing import timed
from latentopt.gates import row_norms
from latentopt.noise import Noise
from latentopt.reports import Report, Row, Table
from latentopt.zoo.random_nets import WIDTHS, random_net

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NOTE = (
    "Relative error of ||P_j|| over all rows, at the network's own gates: the mean, and the 90 % quantile over the "
    "rows. Time is CPU time relative to one plain forward of the same batch."
)
PROBES = (1, 2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, eq=False)
class NormsCase:
    """A network and the points at which the norms are measured."""

    name: str
    network: nn.Module
    x: Tensor  # (B, *shape)


@study
def norms(
    samples: int = 8,
    repeats: int = 8,
    seed: int = 0,
    quick: bool = False,
) -> Report:
    """Measure the error of estimated row norms by the number of probes.

    Args:
        samples: number of random points per network.
        repeats: number of independent draws of the probes.
        seed: seed of points and probes.
        quick: two points and one draw, as a smoke test.
    """
    if quick:
        samples, repeats = 2, 1
    rows = [row for case in cases(samples, seed) for row in measure(case, repeats, seed)]
    return Report("Error of the estimated row norms", NOTE, [_table(rows)], rows, lambda figure: _draw(figure, rows))


def cases(samples: int, seed: int) -> list[NormsCase]:
    """Return the networks, each with suitable random points: images, a box, latents."""
    from latentopt.zoo import cards

    vae = cards.load_generator("mnist-vae")
    random = Noise(seed, torch.zeros(1, dtype=torch.long))
    images = random.uniform(torch.empty(1, samples, 1, 28, 28), "images")[0]
    box = 2 * random.uniform(torch.empty(1, samples, 10), "box")[0] - 1
    latents = random.normal(torch.empty(1, samples, *vae.latent_shape), "latents")[0]
    return [
        NormsCase("MNIST conv net", networks.mnist_conv(), images),
        NormsCase("random net A", random_net(WIDTHS["A"], 0), box),
        NormsCase("mnist-vae", vae.module, latents),
    ]


def measure(case: NormsCase, repeats: int, seed: int) -> list[Row]:
    """Return the errors of one network: a row for the exact norms, then one for each number of probes."""
    x = case.x
    with torch.no_grad():
        plain = median(timed(lambda: case.network(x)).cpu for _ in range(21))
    basis = torch.eye(x[0].numel(), dtype=x.dtype).reshape(-1, 1, *x.shape[1:]).expand(-1, len(x), *x.shape[1:])
    exact, forwards, seconds = _norms(case, basis, exact=True)
    alive = exact > 1e-6 * exact.mean()  # a neuron behind closed gates has no row
    common = {"network": case.name, "points": len(x), "rows": int(alive.sum())}
    rows: list[Row] = [{**common, "probes": "exact", "forwards": forwards, "time": seconds / plain}]
    for probes in PROBES:
        errors, times = [], []
        for repeat in range(repeats):
            random = Noise(seed, torch.tensor([repeat]))
            directions = random.normal(x.new_empty(1, probes, *x.shape), "probes")[0]
            estimate, forwards, seconds = _norms(case, directions, exact=False)
            errors.append((estimate[alive] / exact[alive] - 1).abs())
            times.append(seconds)
        error = torch.cat(errors).sort().values
        figures = {"mean_error": error.mean().item(), "worst_decile": error[int(0.9 * len(error))].item()}
        rows.append({**common, "probes": probes, "forwards": forwards, "time": median(times) / plain, **figures})
    return rows


def _norms(case: NormsCase, directions: Tensor, exact: bool) -> tuple[Tensor, int, float]:
    """Return the norms of all rows as one vector, their cost in forwards, and the CPU seconds."""
    results = []
    took = timed(
        lambda: results.append(row_norms(case.network, case.x, lambda _, z: (z > 0).to(z.dtype), directions, exact))
    )
    (norms,) = results
    return torch.cat([norm.flatten() for norm in norms.switches]), norms.forwards, took.cpu


def _table(rows: list[Row]) -> Table:
    def cells(row: Row) -> list[str]:
        errors = [f"{row[name]:.3f}" if name in row else "0" for name in ("mean_error", "worst_decile")]
        return [row["network"], str(row["probes"]), *errors, str(row["forwards"]), f"{row['time']:.1f}"]

    columns = ["network", "probes", "mean error", "worst decile", "forwards", "time"]
    return Table("Error by number of probes", "", columns, [cells(row) for row in rows])


def _draw(figure: Figure, rows: list[Row]) -> None:
    figure.set_size_inches(6, 4)
    axes = figure.subplots()
    for name in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == name and "mean_error" in row]
        axes.plot([row["probes"] for row in mine], [row["mean_error"] for row in mine], "o-", label=name)
    axes.plot(PROBES, [0.5642 * k**-0.5 for k in PROBES], "k:", label="$1 / \\sqrt{\\pi K}$")
    axes.set(xscale="log", yscale="log", xlabel="probes K", ylabel="mean relative error of $||P_j||$")
    axes.set_xticks(PROBES, [str(k) for k in PROBES])
    axes.grid(alpha=0.3, which="both")
    axes.legend()
