"""The border for networks that users bring: each row of the tables in docs/networks.md is a row here, by its name.

`ROWS` maps a table's heading to its rows, and a row's name (the first cell, in Markdown) to a function that raises
where the row is wrong. `test_every_row_of_the_page_is_tested` holds both to be the same. To add a row of agents, add a
function to ``ROWS["Agents"]``, and the row to the table "Agents" of the page.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from nets import Counted, mlp, near, rand, randn, refuses
from torch import Tensor, nn
from torch.distributions import Independent, Normal

import latentopt as lo
from latentopt import optimizers
from latentopt.inverse.initializers import Encoder, Nearest, Random, Regression
from latentopt.networks.outputs import adapt
from latentopt.objectives import MSE, Fit, Unit
from latentopt.operators import Identity

PAGE = Path(__file__).parents[2] / "docs" / "networks.md"
SINGLE = torch.float32
QUICK: dict[str, Any] = {"steps": 4, "restarts": 2, "halving": ((2, 1),), "start": Regression(40)}
TARGET = rand(2, 1, 4, 4, dtype=SINGLE)
X, Y = rand(4, 6, dtype=SINGLE), torch.tensor([0, 1, 2, 0])


@dataclass
class Output:
    loss: Tensor | None
    image: Any


class Named(NamedTuple):
    first: Any
    second: Any


class Net(nn.Module):
    """A network whose input and output pass through functions."""

    def __init__(self, core: nn.Module, end: Callable[[Tensor], Any] = lambda y: y, start: Any = lambda x: x) -> None:
        super().__init__()
        self.core, self.end, self.start = core, end, start

    def forward(self, x: Tensor) -> Any:
        return self.end(self.core(self.start(x)))

    def other(self, x: Tensor, scale: float = 1.0) -> Any:
        return scale * self(x)


def images(dtype: torch.dtype = SINGLE) -> nn.Module:
    """Latents (B, 5) to images (B, 1, 4, 4)."""
    return nn.Sequential(mlp(5, 12, 16, dtype=dtype), nn.Sigmoid(), nn.Unflatten(1, (1, 4, 4))).eval()


def logits(classes: int = 3, dtype: torch.dtype = SINGLE) -> nn.Module:
    """Inputs (B, 6) to logits (B, K)."""
    return mlp(6, 12, classes, dtype=dtype)


def reconstruct(module: Any, **settings: Any) -> Tensor:
    wrapped = module if isinstance(module, lo.Generator) else lo.Generator(module, latent_shape=5)
    return lo.reconstruct(wrapped, TARGET, **{**QUICK, "fast": False, **settings}).x


def attack(model: Any, x: Tensor = X, y: Tensor = Y, **settings: Any) -> Tensor:
    return lo.attack(model, x, y, 0.2, **{"optimizer": "apgd", "steps": 3, **settings}).x


def maximize(network: Any, **settings: Any) -> Tensor:
    return lo.maximize(network, low=-1.0, high=1.0, shape=6, **{"steps": 4, "restarts": 2, **settings}).x


def both(end: Callable[[Tensor], Any], *, start: Any = lambda x: x, **settings: Any) -> Callable[[], None]:
    """Return the check that a network with this output gives the results of the plain one, in each task."""

    def check() -> None:
        assert torch.equal(reconstruct(lo.Generator(Net(images(), end, start), latent_shape=5, **settings)), plain()[0])
        assert torch.equal(attack(lo.Classifier(Net(logits(), end, start).eval(), **settings)), plain()[1])
        assert torch.equal(maximize(Net(logits(), end, start), **settings), plain()[2])
        if not settings:
            assert torch.equal(attack(Net(logits(), end, start).eval()), plain()[1])

    return check


def whole(bring: Callable[[nn.Module], Any], tolerance: float = 0.0) -> Callable[[], None]:
    """Return the check that what is brought gives the results of the module it was made from, in each task."""

    def check() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch.jit
            warnings.filterwarnings("ignore", "The .grad attribute")  # that torch.compile reads, and silences itself
            near(reconstruct(bring(images())), plain()[0], tolerance)
            near(attack(bring(logits())), plain()[1], tolerance)
            near(maximize(bring(logits())), plain()[2], tolerance)

    return check


@cache
def plain() -> tuple[Tensor, Tensor, Tensor]:
    """Results of the plain networks in three tasks."""
    return reconstruct(images()), attack(logits()), maximize(logits())


def refused(name: str, words: str, *acts: Callable[[], object]) -> Callable[[], None]:
    def check() -> None:
        for act in acts:
            with refuses(name, words):
                act()

    return check


def without_gradient(end: Callable[[Tensor], Any]) -> Callable[[], None]:
    """Return the check that methods with gradients are refused in one line, and those without work."""

    def check() -> None:
        scaled = lo.Generator(Net(images(), end), latent_shape=5, output_range=(0, 255))
        for name, act in {
            "generator": lambda: reconstruct(scaled),
            "model": lambda: attack(Net(logits(), end)),
            "network": lambda: maximize(Net(logits(), end)),
        }.items():
            with refuses(name, "cma-es, cem, square"):
                act()
        assert reconstruct(scaled, optimizer="cma-es").isfinite().all()
        assert attack(Net(logits(), end), optimizer="square", loss="margin").isfinite().all()
        assert maximize(Net(logits(), end), optimizer="cem").isfinite().all()

    return check


def wide() -> None:
    end = lambda y: y.double()  # noqa: E731
    assert reconstruct(Net(images(), end)).dtype == SINGLE
    for method in ("pgd", "lbfgs", "adr-gd", "adr-gd-paper", "cma-es"):
        problem = lo.Problem(Net(logits(), end), Unit(), 6, 3, lo.sets.Box(-1.0, 1.0))
        assert lo.solve(problem, method, steps=4, restarts=2, halving=((2, 1),)).x.dtype == SINGLE


def narrow(dtype: torch.dtype) -> Callable[[], None]:
    def check() -> None:
        assert reconstruct(images(dtype)).dtype == dtype
        assert reconstruct(images(dtype), optimizer="adam").isfinite().all()
        assert maximize(logits(dtype=dtype), optimizer="lbfgs").dtype == dtype
        assert attack(logits(dtype=dtype), targets="random").dtype == dtype

    return check


def double() -> None:
    assert reconstruct(images(torch.float64)).dtype == torch.float64
    problem = lo.Problem(logits(dtype=torch.float64), Unit(), 6, 2, lo.sets.Box(-1.0, 1.0))
    assert lo.solve(problem, steps=2).x.dtype == torch.float64
    assert lo.certify(problem, start=torch.zeros(6), seconds=1).x.dtype == torch.float64


def one_logit() -> None:
    pair = Net(logits(1), lambda z: torch.cat([0 * z, z], 1)).eval()
    expected = attack(pair, y=Y % 2)
    assert torch.equal(attack(logits(1), y=Y % 2), expected)
    assert torch.equal(attack(lo.Classifier(logits(1)), y=Y % 2), expected)
    lo.robustness(logits(1), X, Y % 2, 0.1, steps=2, queries=2)
    lo.certify_robustness(logits(1), X[:1], Y[:1], 0.01, seconds=1)


def some_latents_fail(share: float = 0.3) -> None:
    module = Net(images(), lambda y: torch.where(y[:, :, :1, :1] < y[:, :, :1, 1:2] * share, torch.nan, y))
    broken = int(module(randn(400, 5, dtype=SINGLE)).flatten(1).isnan().any(1).sum())
    assert 5 < broken < 100
    for start in (Regression(60), Nearest(60), Random("probe"), "random"):
        assert reconstruct(module, start=start, steps=2, restarts=8).isfinite().all()
    generator = lo.Generator(module, latent_shape=5)
    assert len(lo.diagnose(generator, samples=30, **QUICK).images) < 30
    assert generator.emitted_range()[1] <= 1


def exported(module: nn.Module) -> Any:
    x = (randn(3, 5 if isinstance(module[0], nn.Sequential) else 6, dtype=SINGLE),)  # pyright: ignore[reportIndexIssue]
    return torch.export.export(module, x, dynamic_shapes=({0: torch.export.Dim("b")},)).module()


def export_with_gates() -> None:
    module = exported(logits())
    for method in ("adr-gd", "adr-gd-paper"):
        assert torch.equal(maximize(module, optimizer=method), maximize(logits(), optimizer=method))
    fixed = torch.export.export(logits(), (X[:1],)).module()
    with refuses("shape", "Guard failed"):
        lo.solve(lo.Problem(fixed, Unit(), 6, 3), "adam", steps=2)


def scripted_with_gates() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        module = torch.jit.script(logits())
    for method in ("adr-gd", "adr-gd-paper"):
        with refuses("network", "a scripted one"):
            maximize(module, optimizer=method)


class Conditional(nn.Module):
    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return (z + y).unflatten(1, (1, 4, 4))


CONDITIONAL = lo.Generator(Conditional(), latent_shape=16)


def any_size() -> None:
    """Check that a module which says so makes images of any size, and that no other does."""

    class Decoder(nn.ConvTranspose2d):
        any_size = True

    for kind in (Decoder, nn.ConvTranspose2d):
        generator = lo.Generator(kind(2, 1, 2, stride=2).eval(), latent_shape=(2, 4, 4))
        assert generator.takes_any_size == (kind is Decoder)
    generator = lo.Generator(Decoder(2, 1, 2, stride=2).eval(), latent_shape=(2, 4, 4)).resized((16, 24))
    assert generator.latent_shape == (2, 8, 12)
    assert generator.output_shape() == (1, 16, 24)
    z = generator.latents(1, 0)
    assert torch.allclose(generator.economical(tile=16)(z), generator(z), atol=1e-6)


def critic(end: Callable[[Tensor], Any]) -> Callable[[], None]:
    """Return the check that a critic of this output refines actions as the plain one does."""

    def refine(function: Callable[[Tensor], Any]) -> Tensor:
        values = lambda s, a: function(logits(1)(torch.cat([s, a], 1)))  # noqa: E731
        return lo.refine_action(values, X[:, :4], X[:, 4:], -1.0, 1.0, steps=3).action

    def check() -> None:
        assert torch.equal(refine(end), refine(lambda q: q))

    return check


def policy(end: Callable[[Tensor], Any]) -> Callable[[], None]:
    """Return the check that a policy of this output is attacked as the plain one is."""

    def check() -> None:
        attacked = [lo.attack_policy(Net(logits(), each).eval(), X, 0.2, steps=3) for each in (end, lambda y: y)]
        assert torch.equal(attacked[0].observations, attacked[1].observations)

    return check


BARE: Any = images()
VAE = lambda y: Output(None, (y, Normal(y, 1.0)))  # noqa: E731

ROWS: dict[str, dict[str, Callable[[], None]]] = {
    "Outputs": {
        "a tensor": both(lambda y: y),
        "a tuple or a list": both(lambda y: (y, y.mean())),
        "nested": both(lambda y: [(y, 3), {}]),
        "a dictionary, or a `ModelOutput`": both(lambda y: OrderedDict(loss=None, logits=y, states=(y, y))),
        "a dataclass or a named tuple": both(VAE),
        "a distribution": both(lambda y: Normal(y, 1.0)),
        "`pick=1`": both(lambda y: (y.mean(), y), pick=1),
        '`pick="image"`': both(lambda y: Output(y.mean(), y), pick="image"),
        "`pick=` a function": both(lambda y: (0, [y]), pick=lambda output: output[1][0]),
        "no tensor": refused("model", "got NoneType", lambda: attack(Net(logits(), lambda y: None))),
        "no row for each sample": refused(
            "generator",
            "one output a sample, shape (1, ...)",
            lambda: reconstruct(Net(images(), torch.squeeze)),
            lambda: reconstruct(Net(images(), torch.mean)),
        ),
        "NaN for some latents": some_latents_fail,
        "NaN for all latents": refused(
            "generator", "finite images", lambda: reconstruct(Net(images(), lambda y: y * torch.nan))
        ),
    },
    "Numbers": {
        "float64": double,
        "float64 from a float32 network": wide,
        "float16": narrow(torch.float16),
        "bfloat16": narrow(torch.bfloat16),
        "integers, or no gradient": without_gradient(lambda y: (255 * y).to(torch.uint8)),
        "`torch.no_grad` or `detach` in the forward": without_gradient(lambda y: 255 * y.detach()),
        "one logit (B, 1)": one_logit,
    },
    "Modules": {
        "`nn.Module`": whole(lambda module: module),
        "a function": whole(lambda module: lambda x: module(x)),
        "a method, `vae.decode`": whole(lambda module: Net(module).other),
        "`functools.partial`": whole(lambda module: partial(Net(module).other, scale=1.0)),
        "changes its input in place": both(lambda y: y, start=lambda x: x.mul_(2).div_(2)),
        "`nn.DataParallel`": whole(nn.DataParallel),
        "`torch.compile`": whole(lambda module: torch.compile(module, backend="eager")),
        "`torch.jit.script`": whole(torch.jit.script, 1e-3),
        "`torch.jit.script`, with gates": scripted_with_gates,
        "`torch.export`": whole(exported),
        "`torch.export`, with gates": export_with_gates,
        "`any_size = True`, of a module from (B, C, h, w)": any_size,
        "needs a condition": refused(
            "generator",
            "Generator.given",
            lambda: lo.reconstruct(CONDITIONAL, TARGET),
            lambda: lo.diagnose(CONDITIONAL),
        ),
        "a bare module where a generator is asked for": refused(
            "generator", "lo.Generator(module", lambda: lo.reconstruct(BARE, TARGET), lambda: lo.diagnose(BARE)
        ),
    },
    "Agents": {
        "a critic, values (B,) or (B, 1)": critic(lambda q: q[:, 0]),
        "several critics, in a tuple": critic(lambda q: (q, q + 1)),
        "a policy, logits (B, K)": policy(lambda y: y),
        "a policy with several outputs": policy(lambda y: {"logits": y, "value": y.mean(1)}),
    },
}


@pytest.mark.parametrize("row", [f"{table}: {name}" for table, rows in ROWS.items() for name in rows])
def test_a_row_of_the_page(row):
    table, name = row.split(": ", 1)
    ROWS[table][name]()


def test_every_row_of_the_page_is_tested():
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    tables = {section.splitlines()[0]: re.findall(r"^\| (.+?) \|", section, re.MULTILINE)[1:] for section in sections}
    assert {table: tables[table] for table in ROWS if table != "Agents"} == {
        table: list(rows) for table, rows in ROWS.items() if table != "Agents"
    }
    assert set(ROWS["Agents"]) <= set(tables["Agents"])


def test_a_plain_tensor_passes_untouched_and_costs_no_forward():
    output = rand(3, 2)
    assert adapt(lambda x: output)(rand(3, 4)) is output
    wrapped = lo.Generator(images(), latent_shape=5), lo.Classifier(logits())
    assert all(adapt(network) is network for network in wrapped)
    network = Counted(logits())
    result = lo.solve(lo.Problem(network, Unit(), 6, 3, lo.sets.Box(-1.0, 1.0)), "pgd", steps=3)
    assert (int(result.forwards.sum()), int(result.backwards.sum())) == (network.forwards, network.backwards)


def test_inputs_are_not_changed_by_a_network_that_works_in_place():
    x = X.clone()
    attack(Net(logits(), start=lambda x: x.mul_(3)).eval(), x)
    assert torch.equal(x, X)


TASKS: dict[str, Callable[..., object]] = {
    "attack": lambda x, y: lo.attack(CLASSIFIER, x, y, 0.1, optimizer="pgd", steps=2, restarts=2),
    "minimum_norm": lambda x, y: lo.minimum_norm(CLASSIFIER, x, y, search_steps=2, steps=2),
    "carlini_wagner": lambda x, y: lo.carlini_wagner(CLASSIFIER, x, y, binary_search_steps=1, steps=2),
    "robustness": lambda x, y: lo.robustness(CLASSIFIER, x, y, 0.1, 0.2, steps=2, queries=2),
    "check_attack": lambda x, y: lo.check_attack(CLASSIFIER, x, y, 0.1, steps=2),
    "certify_robustness": lambda x, y: lo.certify_robustness(CLASSIFIER, x[:1], y[:1], 0.01, seconds=1),
    "maximize": lambda x, y: lo.maximize(CLASSIFIER, low=x[0], high=x[0] + 1, shape=6, steps=2),
    "solve": lambda x, y: lo.solve(lo.Problem(CLASSIFIER, Fit(MSE(), Identity(), x[:, :3]), 6, 4), "lm", steps=2),
    "compare": lambda x, y: lo.compare(lo.Problem(CLASSIFIER, Unit(), 6, 2), ["adam"], evaluations=9, seeds=1),
    "reconstruct": lambda x, y: lo.reconstruct(GENERATOR, torch.ones_like(TARGET) / 2, **QUICK),
    "nearest": lambda x, y: lo.reconstruct(GENERATOR, torch.ones_like(TARGET) / 2, **{**QUICK, "start": Nearest(9)}),
    "diagnose": lambda x, y: lo.diagnose(GENERATOR, samples=2, **QUICK),
    "refine_action": lambda x, y: lo.refine_action(lambda s, a: a.sigmoid().sum(1), x, x[:, :2], -1, 1, steps=2),
}
CLASSIFIER, GENERATOR = logits(), lo.Generator(images(), latent_shape=5)


@pytest.mark.parametrize(
    ("mode", "task"), [*((torch.inference_mode, task) for task in TASKS), (torch.no_grad, "robustness")]
)
def test_tasks_run_where_autograd_is_off(mode, task):
    with mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", lo.AttackWarning)
        TASKS[task](X.clone(), Y.clone())


def test_a_module_built_in_inference_mode_is_refused():
    with torch.inference_mode():
        module = logits()
    with refuses("network", "inference_mode"):
        maximize(module)


@pytest.mark.parametrize("task", [name for name in TASKS if name not in ("solve", "compare")])
def test_torchs_default_device_does_not_move_what_belongs_to_the_network(task):
    torch.set_default_device("meta")  # where nothing has values
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", lo.AttackWarning)
            with torch.device("cpu"):
                x, y, ones = X.clone(), Y.clone(), torch.ones(2, 1, 4, 4)
            TASKS[task](x, y)
            del ones
    finally:
        torch.set_default_device(None)


METHODS = ("CMAES", "LBFGS", "PGD", "APGD", "Square", "LevenbergMarquardt", "FrankWolfe")


def test_any_two_methods_follow_each_other():
    problem = lo.Problem(logits(), Fit(MSE(), Identity(), rand(1, 3, dtype=SINGLE)), 6, 1, lo.sets.Box(-1.0, 1.0))
    for first, then in permutations(METHODS, 2):
        method = lo.TwoPhase(getattr(optimizers, first)(), 2, getattr(optimizers, then)())
        history = lo.solve(problem, method, steps=3).history
        assert {len(column) for column in history.values()} == {3}
        assert history["loss"].isfinite().all()


@pytest.mark.parametrize("method", ["pgd", "lbfgs", "adr-gd", "cma-es"])
@pytest.mark.parametrize("objective", [lambda y: y.double().square().sum(1), lambda y: (y[:, 0] > 0).long()])
def test_an_objective_in_another_type_is_halved(method, objective):
    problem = lo.Problem(logits(), objective, 6, 2, lo.sets.Box(-1.0, 1.0))
    if method == "cma-es" or objective(X[:, :3]).is_floating_point():
        assert len(lo.solve(problem, method, steps=4, restarts=3, halving=((2, 1),)).value) == 2
    else:
        with refuses("objective", "cma-es"):
            lo.solve(problem, method, steps=4)


def test_encoders_may_return_means_and_variances_or_a_distribution():
    encode = nn.Sequential(nn.Flatten(), mlp(16, 5, dtype=SINGLE)).eval()
    decode = nn.Sequential(mlp(5, 16, dtype=SINGLE), nn.Unflatten(1, (1, 4, 4))).eval()
    ends = (
        lambda z: z,
        lambda z: (z, z),
        lambda z: [z, z],
        lambda z: {"latent": z},
        lambda z: Normal(z, 1.0),
        lambda z: (Independent(Normal(z, 1.0), 1), z),
    )
    with torch.no_grad():
        inverse = torch.linalg.pinv(decode[0][0].weight)  # pyright: ignore[reportIndexIssue, reportArgumentType]
        encode[1][0].weight.copy_(inverse)  # pyright: ignore[reportIndexIssue]
        encode[1][0].bias.copy_(-inverse @ decode[0][0].bias)  # pyright: ignore[reportIndexIssue]
    starts = [
        reconstruct(lo.Generator(decode, latent_shape=5, encoder=Net(encode, end)), start=Encoder()) for end in ends
    ]
    assert all(torch.equal(start, starts[0]) for start in starts)
    with refuses("encoder", "one output a sample"):
        reconstruct(lo.Generator(decode, latent_shape=5, encoder=Net(encode, torch.sum)), start=Encoder())


with torch.inference_mode():
    MADE_IN_INFERENCE_MODE = torch.ones(1, 1, 4, 4)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("pick", lambda: lo.Generator(images(), latent_shape=5, pick=1.5)),  # pyright: ignore[reportArgumentType]
        ("pick", lambda: maximize(logits(), pick=True)),
        ("pick", lambda: maximize(logits(), pick="logits")),
        ("pick", lambda: maximize(Net(logits(), lambda y: (y, y)), pick=2)),
        ("pick", lambda: attack(lo.Classifier(Net(logits(), VAE), pick="logits"))),
        ("latent_shape", lambda: lo.Generator(images(), latent_shape=0)),
        ("latent_shape", lambda: lo.Generator(images(), latent_shape=[5, -1])),
        ("latent_shape", lambda: lo.Generator(images(), latent_shape=4).output_shape()),
        ("latent_shape", lambda: reconstruct(lo.Generator(lambda z: images()(z), latent_shape=4))),
        ("network", lambda: maximize(nn.Bilinear(6, 6, 2))),
        ("model", lambda: attack(nn.Bilinear(6, 6, 2))),
        ("x", lambda: attack(logits(), X[:, :5])),
        ("shape", lambda: lo.solve(lo.Problem(logits(), Unit(), 5, 2), "adam")),
        ("shape", lambda: lo.solve(lo.Problem(logits(), Unit(), 6, 2, like=torch.zeros(0).double()), "adam")),
        ("objective", lambda: lo.solve(lo.Problem(logits(), lambda y: y.detach()[:, 0], 6, 2), "adam")),
        ("generator", lambda: reconstruct(Net(images(), lambda y: y + 0j))),
        ("model", lambda: attack(Net(logits(), lambda y: y + 0j).eval())),
        ("generator", lambda: reconstruct(Net(images(), lambda y: np.asarray(y.detach())))),
        ("network", lambda: maximize(nn.Linear(6, 2, device="meta"))),
        ("network", lambda: maximize(nn.Sequential(nn.LazyLinear(2)).eval())),
        ("problem", lambda: reconstruct(images(), operator=lo.operators.Mask(MADE_IN_INFERENCE_MODE))),
        ("network", lambda: lo.solve(lo.Problem(Net(logits(), lambda y: y[0]), Unit(), 6, 3), "adam")),
    ],
)
def test_what_fits_nothing_is_refused_in_one_line(name, make):
    with pytest.raises(lo.errors.InputError) as caught:
        make()
    assert caught.value.name == name
    assert "\n" not in str(caught.value)


def test_a_copy_of_an_adapted_network_is_another():
    network = adapt(logits())
    assert torch.equal(copy.deepcopy(network)(X), network(X))


class Labelled(nn.Module):
    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return nn.functional.embedding(labels, z.new_ones(3, 4))[:, None, None] * z[:, :1, None, None]


def test_a_condition_that_does_not_fit_is_named():
    generator = lo.Generator(Labelled(), latent_shape=2)
    with refuses("label", "generator's forward"):
        generator.given(label=torch.tensor([0])).output_shape()
    for labels in (torch.tensor([3]), torch.tensor([0.5]), 3):
        with refuses("latent_shape, labels"):
            generator.given(labels=labels).output_shape()
    assert generator.given(labels=[2]).output_shape() == (1, 1, 4)
