"""What the command line can do: one table of commands, and one of the jobs that they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from latentopt.errors import LatentOptError

if TYPE_CHECKING:
    from latentopt.jobs.settings import JobSettings


@dataclass(frozen=True)
class Job:
    """A job: what a recipe of its name describes."""

    name: str  # as in a recipe
    words: str  # as on the command line
    function: str  # whose arguments are the options; empty where ``settings`` has them
    summary: str = ""
    examples: tuple[str, ...] = ()
    shown: str = "shown.written"  # of `latentopt.cli`, prints what came of it; gives an exit code, or none
    skip: tuple[str, ...] = ()  # fields of the recipe that are no options
    again: str = "goes on from here"  # what the same command does, once stopped
    settings: str = ""  # path of the settings class; its module has `prepare` and `run`

    def settings_class(self) -> type[JobSettings]:
        """Return the class of the job's settings."""
        return found(self.settings)  # pyright: ignore[reportReturnType]

    def module(self) -> ModuleType:
        """Return the module with the job's `prepare` and `run`."""
        return import_module(self.settings.rpartition(".")[0])

    def load(self) -> Callable[..., Any]:
        """The function; what it needs is imported now."""
        return found(self.function)


@dataclass(frozen=True)
class Command:
    """A word that follows `latentopt`."""

    takes: str
    summary: str
    handler: str  # called with the words that follow; empty where the command does a job
    examples: tuple[str, ...] = ()
    more: str = ""  # of its help
    group: str = ""  # jobs whose words begin so are its NAMEs


def found(path: str) -> Callable[..., Any]:
    """What a dotted path names."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


ANEW = "begins anew"


RECONSTRUCT = (
    "latentopt reconstruct --model mnist-vae --targets my/*.png --resize --out runs/mine",
    "latentopt reconstruct --model mnist-dcgan --targets images.npz --operator downsample --operator.factor 4",
    "latentopt reconstruct --model mnist-vae --targets digits --resize --limit 4 --steps 20 --out runs/quick",
    "latentopt reconstruct --model mnist-vae --targets mnist --limit 64 --optimizer adam --optimizer.lr 0.1 --dry-run",
)
ATTACK = (
    "latentopt attack --model mnist-cnn-robust --data mnist --eps 0.2 --limit 100",
    "latentopt attack --model mnist-cnn --data mnist --eps 0.1 --limit 16 --optimizer pgd --steps 10 --out runs/pgd-10",
    "latentopt attack --model mnist-cnn --data mnist --eps 2 --norm l2 --targets least-likely --limit 16",
    "latentopt attack --model torchvision/resnet18 --weights mine.pt --data images.npz --eps 0.01 --dry-run",
)
DIAGNOSE = (
    "latentopt diagnose --model mnist-vae --targets mnist --limit 16",
    "latentopt diagnose --model mnist-vae --samples 4 --steps 20 --restarts 2",
    "latentopt diagnose --model models/mine --targets my/*.png --out runs/diagnosis",
)
ATTACK_POLICY = (
    "latentopt attack-policy --model coinrun-cnn --eps 0.01 --episodes 20",
    "latentopt attack-policy --model agent.zip --algorithm PPO --env CartPole-v1 --eps 0.1",
    "latentopt attack-policy --model coinrun-cnn --eps 0.005 --optimizer adr-gd --targets least-likely --dry-run",
)
REFINE = (
    "latentopt refine --agent agent.zip --env LunarLanderContinuous-v3 --episodes 10",
    "latentopt refine --agent agent.safetensors --env HalfCheetah-v5 --radius 0.1 --optimizer adam-critic --gif false",
    "latentopt refine --agent agent.zip --env Pendulum-v1 --optimizer cem --refine-steps 10 --dry-run",
)
TRAIN = (
    "latentopt train train-mnist-vae --epochs 2 --out runs/models",
    "latentopt train train-mnist-cnn --seed 1 --data.batch_size 64 --dry-run",
    "latentopt train train-coinrun-cnn --steps 200000 --name my-coinrun --out runs/models",
)
TRAIN_RL = (
    "latentopt train-rl pendulum-ddpg --seeds 1 --steps 2000 --out runs/quick-ddpg",
    "latentopt train-rl pendulum-td3-adr-gd --epsilon 0.3 --out runs/more-often",
    "latentopt train-rl halfcheetah-td3-paper --dry-run",
)
COMPARE = (
    "latentopt compare digits --methods lbfgs,adr-gd,adam --evaluations 400",
    "latentopt compare pgd --methods pgd,apgd,adr-gd --evaluations 100 --limit 64 --seeds 1 --out runs/compare-pgd",
)
ANALYSES = {
    "dynamics": "how a perturbation grows under gradient ascent, and formulas that foretell it",
    "capped": "whether classifiers with capped ReLUs are robust, or only look it",
    "regions": "the linear regions of a network, and how optimisers cross them",
    "certify": "certified maxima of small networks in a box, and how far below them optimisers end",
}
ANALYZE_EXAMPLES = {
    "dynamics": (
        "latentopt analyze dynamics --model mnist-cnn --data mnist --limit 32",
        "latentopt run analyze-dynamics --limit 16 --out runs/dynamics-16",
    ),
    "capped": (
        "latentopt analyze capped --betas 0.1,1 --seeds 1 --epochs 1 --limit 50",
        "latentopt analyze capped --network conv --training plain --dry-run",
    ),
    "regions": (
        "latentopt analyze regions --model random-2d --widths 2-16-16-1 --seed 8",
        "latentopt analyze regions --model random-2d --resolution 50 --steps 10 --out runs/regions-quick",
    ),
    "certify": (
        "latentopt run analyze-certify --out runs/certify-again",
        "latentopt run analyze-certify --dry-run",
    ),
}

_JOBS = [
    Job(
        "reconstruct",
        "reconstruct",
        "",
        "",
        RECONSTRUCT,
        "shown.reconstructed",
        settings="latentopt.jobs.reconstruct.ReconstructSettings",
    ),
    Job(
        "diagnose",
        "diagnose",
        "",
        "",
        DIAGNOSE,
        "shown.diagnosed",
        again=ANEW,
        settings="latentopt.jobs.diagnose.DiagnoseSettings",
    ),
    Job("attack", "attack", "", "", ATTACK, "shown.attacked", settings="latentopt.jobs.attack.AttackSettings"),
    Job(
        "attack-policy",
        "attack-policy",
        "",
        "",
        ATTACK_POLICY,
        "reports.print_policy",
        settings="latentopt.jobs.attack_policy.AttackPolicySettings",
    ),
    Job(
        "refine",
        "refine",
        "",
        "",
        REFINE,
        "reports.print_refined",
        again=ANEW,
        settings="latentopt.jobs.refine.RefineSettings",
    ),
    Job(
        "train",
        "train",
        "",
        "",
        TRAIN,
        "shown.model",
        ("architecture",),
        "goes on after the last whole epoch",
        "latentopt.jobs.train.TrainSettings",
    ),
    Job(
        "train-policy",
        "train",
        "",
        "",
        TRAIN,
        "shown.model",
        again=ANEW,
        settings="latentopt.jobs.train_policy.TrainPolicySettings",
    ),
    Job(
        "train-rl",
        "train-rl",
        "",
        "",
        TRAIN_RL,
        "reports.print_trained",
        again="goes on with the first seed that is not done",
        settings="latentopt.jobs.train_rl.TrainRLSettings",
    ),
    Job("compare", "compare", "", "", COMPARE, skip=("problem",), settings="latentopt.jobs.compare.CompareSettings"),
    *(
        Job(
            f"analyze-{name}",
            f"analyze {name}",
            "",
            summary,
            ANALYZE_EXAMPLES[name],
            again="goes on from here" if name == "capped" else ANEW,
            settings=f"latentopt.jobs.analyze.{name}.{name.capitalize()}Settings",
        )
        for name, summary in ANALYSES.items()
    ),
]
JOBS = {job.name: job for job in _JOBS}
"""By the name that a recipe has for them."""


def again(words: list[str]) -> str:
    """What a command line does when it is called again after it was stopped."""
    from latentopt.cli.jobs import chosen

    try:
        return chosen(words)[0].again
    except LatentOptError:
        return "goes on from here" if words[:1] == ["sweep"] else ANEW
