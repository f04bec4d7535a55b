"""`latentopt analyze certify` at work: its problems, the optimisers' results and the certificates as rows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from latentopt.analysis.certify import Certificate, CertificateStatus
from latentopt.analysis.certify import certify as certify_problem
from latentopt.classification import Misclassify
from latentopt.jobs.analyze.certify import DIGITS, RANDOM, CertifySettings, parse_numbers
from latentopt.jobs.analyze.certify_report import report
from latentopt.jobs.experiment import Experiment
from latentopt.jobs.labelled_images import open_labelled
from latentopt.jobs.settings import JobPlan
from latentopt.networks.classifier import range_for
from latentopt.objectives import Unit
from latentopt.problem import Problem
from latentopt.progress import ProgressLine
from latentopt.reports import Row, WrittenReport
from latentopt.sets import Box, bounded_ball
from latentopt.solver.loop import solve
from latentopt.solver.result import Result
from latentopt.zoo import cards
from latentopt.zoo.random_nets import WIDTHS, random_net

STARTS = 32


class CertifyCase(NamedTuple):
    """One maximum to certify."""

    name: str
    problem: Problem  # of one sample


def run_certify(plan: JobPlan[CertifySettings]) -> WrittenReport:
    """Run a prepared analysis."""
    settings = plan.settings
    experiment = Experiment(plan.folder, settings.recipe(), resumable=False)
    if settings.model.startswith(RANDOM):
        cases = _random_cases(settings)
    elif settings.model.endswith(".safetensors"):
        cases = _critic_cases(settings)
    else:
        cases = _classifier_cases(settings)
    experiment.open()
    experiment.begin_tracking(settings.wandb)
    rows, seed = list[Row](), settings.seed
    # An equal number of forwards and backwards for each start, so that schedules end.
    steps = max(settings.evaluations // (2 * STARTS), 1)
    options: dict[str, Any] = {"steps": steps, "restarts": STARTS, "seed": seed, "evaluations": settings.evaluations}
    limits: dict[str, Any] = {
        "seconds": settings.seconds,
        "tolerance": settings.tolerance,
        "method": settings.method,
        "seed": seed,
    }
    with ProgressLine(settings.job, len(cases), "maximum", leave=True) as line:
        for case in line.over(cases):
            results = {name: solve(case.problem, name, **options) for name in settings.names}
            best = min(results.values(), key=lambda result: float(result.value[0]), default=None)
            certificate = certify_problem(case.problem, start=best, **limits)
            rows.append(_row(case, certificate, results))
            experiment.log({f"certify/{key}": value for key, value in rows[-1].items() if isinstance(value, float)})
    closed = sum(row["status"] == CertificateStatus.OPTIMAL.name for row in rows)
    best_figures = {"closed": closed, "worst_gap": max(row["gap"] for row in rows)}
    return experiment.write(report(settings.model, settings.names, rows), best_figures)


def _row(case: CertifyCase, certificate: Certificate, results: Mapping[str, Result]) -> Row:
    values = {name: -float(result.value[0]) for name, result in results.items()}
    size = abs(certificate.value) or 1.0
    row: Row = {"case": case.name, "value": certificate.value, "bound": certificate.bound}
    row |= {"gap": certificate.gap / size, "status": certificate.status.name}
    if isinstance(case.problem.objective, Misclassify):  # the greatest margin of the other classes
        row["verdict"] = "robust" if certificate.bound <= 0 else "not robust" if certificate.value > 0 else "unknown"
    row |= {"method": certificate.method, "boxes": certificate.boxes, "seconds": certificate.seconds}
    gaps = {f"gap_{name}": max(certificate.bound - value, 0.0) / size for name, value in values.items()}
    return {**row, **{f"value_{name}": value for name, value in values.items()}, **gaps}


def _random_cases(settings: CertifySettings) -> list[CertifyCase]:
    """Return a random network's output over [-1, 1]^n, for each seed."""
    kind = settings.model.removeprefix(RANDOM)
    shape, box = (WIDTHS[kind][0],), Box(-1.0, 1.0)
    nets = ((seed, random_net(WIDTHS[kind], seed)) for seed in parse_numbers("seeds", settings.seeds))
    return [CertifyCase(f"{kind} seed {seed}", Problem(net, Unit(), shape, 1, box)) for seed, net in nets]


def _classifier_cases(settings: CertifySettings) -> list[CertifyCase]:
    """Return the margin of the other classes around each image, within the range of valid inputs."""
    assert settings.eps is not None
    is_digits = settings.model == DIGITS
    network = digits_classifier(settings.seed) if is_digits else cards.load_classifier(settings.model)
    images, labels, _ = open_labelled(settings.data, limit=settings.limit, classifier=network)
    low, high = range_for(network, images)
    cases = list[CertifyCase]()
    for index, (image, label) in enumerate(zip(images.split(1), labels.split(1), strict=True)):
        center = image.clamp(low, high)  # pyright: ignore[reportCallIssue, reportArgumentType]
        ball = bounded_ball(center, settings.eps, "linf", low, high)
        problem = Problem(network, Misclassify("margin", label), images.shape[1:], 1, ball, like=images)
        cases.append(CertifyCase(f"{settings.data} {index}", problem))
    return cases


def digits_classifier(seed: int) -> nn.Module:
    """Train a small classifier of scikit-learn's digits, 64-32-32-10, in a second, on those from 300 on."""
    images, labels, _ = open_labelled(DIGITS)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        layers = [nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)]
        network = nn.Sequential(*layers)
        optimizer = torch.optim.Adam(network.parameters(), 0.01)
        for _ in range(200):
            optimizer.zero_grad()
            nn.functional.cross_entropy(network(images[300:]), labels[300:]).backward()
            optimizer.step()
    return network.eval().requires_grad_(False)


def _critic_cases(settings: CertifySettings) -> list[CertifyCase]:
    """Return an agent's first critic around its own actions, at states of its environment or normal ones."""
    from latentopt.rl.agents import load_agent
    from latentopt.rl.critics import FixedStateCritic
    from latentopt.rl.rollout import collect_observations, make_environment

    env = None if settings.env is None else make_environment(settings.env)
    agent, count = load_agent(Path(settings.model), env), settings.limit
    if env is None:
        observations = torch.randn(count, agent.sizes[0], generator=torch.Generator().manual_seed(settings.seed))
    else:
        observations = collect_observations(agent, env, count, settings.seed)
    with torch.no_grad():
        actions = agent.actor(observations)
    cases = list[CertifyCase]()
    for observation, action in zip(observations, actions, strict=True):
        network = FixedStateCritic(agent.critics.networks[0], observation)
        box = Box((action - settings.box).clamp_min(-1)[None], (action + settings.box).clamp_max(1)[None])
        problem = Problem(network, Unit(), action.shape, 1, box, like=action)
        cases.append(CertifyCase(f"state {len(cases)}", problem))
    return cases
