"""Which of its eight settings a method has, by family and network: the best on the seeds of tuning.

By ``latentopt bench duel --tune``: single starts on seeds 1000 and 1001, gradient methods on 1000; with restarts 1000
and 1001 (of generators of digits, ours three of the eight, `lbfgs` four); of real images ours three and `lbfgs` two on
training faces, taken for digits too. Methods whose steps fall have the settings of single starts everywhere. What is
not here has its first setting.
"""

_STEPS: dict[str, dict[str, int]] = {
    "celeba-vae": {"adam": 7, "pgd": 4, "l2-pgd": 3, "apgd": 4},
    "celeba-betah": {"adam": 7, "pgd": 6, "l2-pgd": 6, "apgd": 6},
    "celeba-btcvae": {"adam": 7, "pgd": 6, "l2-pgd": 6, "apgd": 6},
    "road-gan": {"adam": 7, "pgd": 2, "l2-pgd": 2},
    "dcgan64": {"adam": 3},
    "mnist-dcgan": {"adam": 5, "pgd": 2},
}
_SINGLE = {
    "celeba-vae": {"lm": 1},
    "celeba-betah": {"lbfgs": 1},
    "road-gan": {"lbfgs": 5, "lm": 3},
    "dcgan64": {"lbfgs": 2},
    "mnist-dcgan": {"lbfgs": 1, "lm": 6},
}
_RESTARTS = {
    "celeba-vae": {"adr-gd": 4, "lbfgs": 3},
    "road-gan": {"lbfgs": 1},
    "dcgan64": {"adr-gd": 2, "lbfgs": 3},
    "mnist-dcgan": {"adr-gd": 2, "lbfgs": 5},
}
TUNED: dict[tuple[str, str], dict[str, int]] = {
    **{("single", name): steps | _SINGLE.get(name, {}) for name, steps in _STEPS.items()},
    **{("restarts", name): steps | _RESTARTS.get(name, {}) for name, steps in _STEPS.items()},
    **{("real", name): steps | {"adr-gd": 4, "lbfgs": 6} for name, steps in _STEPS.items()},
    ("real", "celeba-vae"): _STEPS["celeba-vae"] | {"adr-gd": 4, "lbfgs": 2},
}
