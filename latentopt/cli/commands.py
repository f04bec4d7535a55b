"""The commands, each with its help; `latentopt.cli.table` has the jobs."""

from __future__ import annotations

from latentopt.cli.table import ATTACK, ATTACK_POLICY, COMPARE, DIAGNOSE, RECONSTRUCT, REFINE, TRAIN, TRAIN_RL, Command

JOB = ""
"""Instead of a handler: the command does a job, `latentopt.cli.jobs`."""
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
        "RECIPE",
        "compare methods on a recipe's problem at equal cost: which one for my network?",
        JOB,
        COMPARE,
        "latentopt compare RECIPE --help lists the options.",
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
        "train a generator, a classifier or a policy and export it as a model",
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
        "latentopt.cli.recipes.recipes",
        ("latentopt recipes list", "latentopt recipes show digits", "latentopt recipes copy pgd my-attack.yaml"),
    ),
    "models": Command(
        "list | show NAME",
        "list the shipped models, show one's card: what it is, and how good it was measured to be",
        "latentopt.cli.models.models",
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
