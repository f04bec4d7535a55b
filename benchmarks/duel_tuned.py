"""Which of its eight settings a method has, by family and network: the best on the seeds of tuning.

By ``latentopt bench duel --tune``: methods whose steps fall on seed 1000, single starts of the others on 1000 and 1001;
with restarts 1000 and 1001 (of generators of digits, ours three of the eight, `lbfgs` four), where methods whose steps
fall have the settings of single starts; real images on training faces (ours three, `lbfgs` two; their settings are
taken for digits too); attacks, random networks and critics on seed 1000, other images and other states. What is not
here has its first setting.
"""

_STEPS: dict[str, dict[str, int]] = {
    "celeba-vae": {"adam": 7, "pgd": 4, "l2-pgd": 3, "apgd": 4},
    "celeba-betah": {"adam": 5, "pgd": 4, "l2-pgd": 6, "apgd": 6},
    "celeba-btcvae": {"adam": 7, "pgd": 4, "l2-pgd": 6, "apgd": 4},
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
_FACES = {
    "celeba-vae": {"adam": 6, "pgd": 4, "l2-pgd": 4, "apgd": 2, "lbfgs": 2},
    "celeba-betah": {"adam": 4, "pgd": 4, "l2-pgd": 4, "apgd": 2},
    "celeba-btcvae": {"adam": 6, "pgd": 6, "l2-pgd": 4, "apgd": 6},
}
_ATTACKS = {
    "mnist-pgd .2": {"pgd": 6, "l2-pgd": 6, "apgd": 4, "adam": 6},
    "mnist-pgd .25": {"pgd": 7, "l2-pgd": 6, "apgd": 7, "adam": 6, "lbfgs": 1},
    "cnn-a-adv 8/255": {"pgd": 6, "l2-pgd": 6, "apgd": 6, "adam": 6},
    "resnet2b 8/255": {"pgd": 6, "l2-pgd": 6, "apgd": 4, "adam": 6},
    "cifar-base 8/255": {"pgd": 4, "l2-pgd": 6, "apgd": 4, "adam": 6, "lbfgs": 1},
}
TUNED: dict[tuple[str, str], dict[str, int]] = {
    **{("single", name): steps | _SINGLE.get(name, {}) for name, steps in _STEPS.items()},
    **{("restarts", name): steps | _RESTARTS.get(name, {}) for name, steps in _STEPS.items()},
    **{("real", name): steps | {"adr-gd": 4, "lbfgs": 6} | _FACES.get(name, {}) for name, steps in _STEPS.items()},
    **{("attacks", name): {"adr-gd": 2, **chosen} for name, chosen in _ATTACKS.items()},
}
