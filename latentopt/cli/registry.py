"""The table of jobs and the table of commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from latentopt.jobs.settings import JobSettings

RESUMES, RESTARTS = "goes on from here", "begins anew"


@dataclass(frozen=True)
class Job:
    """A job of the command line.

    Args:
        name: in a recipe.
        words: on the command line.
        settings: path of the settings class; its module has `prepare` and `run`.
        examples: command lines for its help.
        printer: function of `latentopt.cli.output` that prints its result and returns the exit code.
        summary: one line for the help of a group.
        again: effect of the same command after the job was stopped.
        skip: fields of the recipe that are no options.
    """

    name: str
    words: str
    settings: str
    examples: tuple[str, ...]
    printer: str = "print_report"
    summary: str = ""
    again: str = RESUMES
    skip: tuple[str, ...] = ()

    def settings_class(self) -> type[JobSettings]:
        """Return the class of the job's settings."""
        return import_object(self.settings)  # pyright: ignore[reportReturnType]

    def module(self) -> ModuleType:
        """Return the module with the job's `prepare` and `run`."""
        return import_module(self.settings.rpartition(".")[0])


@dataclass(frozen=True)
class Command:
    """A word that follows `latentopt`.

    Args:
        takes: its arguments, for the help.
        summary: one line.
        handler: path of a function of the words that follow; empty where the command runs a job.
        examples: command lines for its help.
        more: further lines of its help.
        group: first word of the jobs whose second words are its NAMEs.
    """

    takes: str
    summary: str
    handler: str
    examples: tuple[str, ...] = ()
    more: str = ""
    group: str = ""


def import_object(path: str) -> Callable[..., Any]:
    """Import the object of a dotted path."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


RECONSTRUCT = (
    "latentopt reconstruct --model mnist-vae --targets my/*.png --resize --out runs/mine",
    "latentopt reconstruct --model mnist-dcgan --targets images.npz --operator downsample --operator.factor 4",
    "latentopt reconstruct --model mnist-vae --targets digits --resize --limit 4 --steps 20 --out runs/quick",
    "latentopt reconstruct --model mnist-vae --targets mnist --limit 64 --optimizer adam --optimizer.lr 0.1 --dry-run",
)
TUNE = (
    "latentopt tune --model mnist-vae --targets mnist --limit 64 --latents runs/mine/latents.safetensors",
    "latentopt run layers && latentopt run tune",
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
    "latentopt train train-encoder --model mnist-dcgan --out runs/mnist-dcgan-encoder.safetensors",
)
TRAIN_RL = (
    "latentopt train-rl pendulum-ddpg --seeds 1 --steps 2000 --out runs/quick-ddpg",
    "latentopt train-rl pendulum-td3-adr-gd --epsilon 0.3 --out runs/more-often",
    "latentopt train-rl halfcheetah-td3-paper --dry-run",
)
COMPARE = (
    "latentopt compare digits --methods lbfgs,adr-gd,adam --evaluations 400",
    "latentopt compare pgd --methods pgd,apgd,adr-gd --evaluations 100 --limit 64 --seeds 1 --out runs/compare-pgd",
    "latentopt compare runs/adam runs/lbfgs --out runs/side-by-side",
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
        "latentopt.jobs.reconstruct.ReconstructSettings",
        RECONSTRUCT,
        "print_reconstruction",
    ),
    Job(
        "diagnose", "diagnose", "latentopt.jobs.diagnose.DiagnoseSettings", DIAGNOSE, "print_diagnosis", again=RESTARTS
    ),
    Job("tune", "tune", "latentopt.jobs.tune.TuneSettings", TUNE),
    Job("attack", "attack", "latentopt.jobs.attack.AttackSettings", ATTACK, "print_attack"),
    Job(
        "attack-policy",
        "attack-policy",
        "latentopt.jobs.attack_policy.AttackPolicySettings",
        ATTACK_POLICY,
        "print_policy_attack",
    ),
    Job("refine", "refine", "latentopt.jobs.refine.RefineSettings", REFINE, "print_refinement", again=RESTARTS),
    Job(
        "train",
        "train",
        "latentopt.jobs.train.TrainSettings",
        TRAIN,
        "print_model",
        again="goes on after the last whole epoch",
        skip=("architecture",),
    ),
    Job(
        "train-policy", "train", "latentopt.jobs.train_policy.TrainPolicySettings", TRAIN, "print_model", again=RESTARTS
    ),
    Job(
        "train-encoder",
        "train",
        "latentopt.jobs.train_encoder.TrainEncoderSettings",
        TRAIN,
        "print_encoder",
        again="goes on after the last whole epoch",
    ),
    Job(
        "train-rl",
        "train-rl",
        "latentopt.jobs.train_rl.TrainRLSettings",
        TRAIN_RL,
        "print_training",
        again="goes on with the first seed that is not done",
    ),
    Job("compare", "compare", "latentopt.jobs.compare.CompareSettings", COMPARE, skip=("problem",)),
    *(
        Job(
            f"analyze-{name}",
            f"analyze {name}",
            f"latentopt.jobs.analyze.{name}.{name.capitalize()}Settings",
            ANALYZE_EXAMPLES[name],
            summary=summary,
            again=RESUMES if name == "capped" else RESTARTS,
        )
        for name, summary in ANALYSES.items()
    ),
]
JOBS = {job.name: job for job in _JOBS}
"""Jobs by their name in a recipe."""

JOB = ""
"""Instead of a handler: the command does a job, `latentopt.cli.run`."""
OF_THE_JOB = "latentopt {0} RECIPE --help lists the options of the recipe's job: each overrides a field."
RUN = (
    "latentopt run digits",
    "latentopt run digits --limit 4 --steps 20 --optimizer adam --out runs/adam",
    "latentopt run pgd --eps 0.1 --targets 2 --dry-run > mine.yaml",
    "latentopt recipes copy digits mine.yaml && latentopt run mine.yaml --seed 1 --out runs/mine",
)
COMMANDS = {
    "reconstruct": Command("", "find the latents whose images explain your targets", JOB, RECONSTRUCT),
    "diagnose": Command(
        "",
        "tell why images are not reconstructed: the optimiser's fault, or the generator's",
        JOB,
        DIAGNOSE,
    ),
    "tune": Command("", "tune a generator's weights to targets, at latents that were found before", JOB, TUNE),
    "attack": Command("", "find small changes of images that a classifier gets wrong", JOB, ATTACK),
    "attack-policy": Command(
        "",
        "find small changes of observations that change what a policy does, and play with them",
        JOB,
        ATTACK_POLICY,
    ),
    "refine": Command(
        "",
        "play an agent's episodes with actions that its critic finds better, and without",
        JOB,
        REFINE,
    ),
    "compare": Command(
        "RECIPE | RUN RUN ...",
        "compare methods on a recipe's problem at equal cost: which one for my network? Or finished runs",
        JOB,
        COMPARE,
        "latentopt compare RECIPE --help lists the options. Of folders of runs it prints the settings that differ,\n"
        "figures side by side, and mean differences over the samples that they share; --out FOLDER keeps the tables.",
    ),
    "analyze": Command(
        "NAME",
        "tell why a network is easy or hard to optimise over",
        JOB,
        (
            "latentopt analyze regions --model random-2d --widths 2-16-16-1 --seed 8",
            "latentopt analyze dynamics --model mnist-cnn --data mnist --limit 32",
            "latentopt analyze capped --betas 0.1,1 --seeds 1 --epochs 1 --limit 50 --dry-run",
        ),
        "latentopt analyze NAME --help lists an analysis' options.",
        "analyze",
    ),
    "train": Command(
        "RECIPE",
        "train a generator, a classifier or a policy and export it as a model, or an encoder for a generator",
        JOB,
        TRAIN,
        OF_THE_JOB.format("train"),
    ),
    "train-rl": Command(
        "RECIPE",
        "train TD3 or DDPG agents that explore from refined actions",
        JOB,
        TRAIN_RL,
        OF_THE_JOB.format("train-rl"),
    ),
    "run": Command(
        "RECIPE",
        "do the job that a recipe describes; any field can be overridden (--steps 100)",
        JOB,
        RUN,
        OF_THE_JOB.format("run"),
    ),
    "sweep": Command(
        "FILE",
        "run a W&B sweep file here, without a server: a job for each trial, and a table of them",
        "latentopt.cli.sweep.sweep",
        (
            "latentopt sweep recipes/sweeps/reconstruct-digits.yaml --trials 4 --out runs/sweep",
            "latentopt sweep recipes/sweeps/attack-adr-gd.yaml --trials 3 --dry-run",
            "latentopt sweep recipes/sweeps/attack-adr-gd.yaml --wandb disabled --seed 1",
        ),
        """\
options:
  --out FOLDER    for the trials, a folder each, and the table of them (default runs/sweep); a sweep goes on there
  --trials N      so many (default the file's run_cap, or of a grid all)
  --seed N        of random trials (default 0)
  --wandb MODE    online, offline or disabled, of each trial (default offline); the trials are one group
  --dry-run       print the trials and write nothing

FILE is a path, or the name of a shipped sweep. `wandb sweep FILE` takes the same file, with a server.""",
    ),
    "recipes": Command(
        "list | show NAME | copy NAME FILE",
        "list the shipped recipes, show one, copy one to edit",
        "latentopt.cli.shipped.recipes",
        ("latentopt recipes list", "latentopt recipes show digits", "latentopt recipes copy pgd my-attack.yaml"),
    ),
    "models": Command(
        "list | show NAME",
        "list the shipped models, show one's card: what it is, and how good it was measured to be",
        "latentopt.cli.shipped.models",
        ("latentopt models list", "latentopt models show mnist-vae"),
    ),
    "doctor": Command(
        "[--json]",
        "look whether this installation is in order, and say what to do where it is not",
        "latentopt.cli.doctor.doctor",
        ("latentopt doctor", "latentopt doctor --json > report.json"),
        "Exit code 0: in order; 1: something is broken. What is only missing (an extra, a data set) is not broken.",
    ),
    "completion": Command(
        "bash | zsh | tcsh",
        "print a script that completes commands, options and names in your shell",
        "latentopt.cli.completion.completion",
        (
            'eval "$(latentopt completion bash)"',
            "latentopt completion bash > ~/.local/share/bash-completion/completions/latentopt",
            "latentopt completion zsh > ~/.zfunc/_latentopt",
        ),
    ),
}
