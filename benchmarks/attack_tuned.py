"""Sizes that were best on images that the benchmark does not use: `latentopt bench attack --tune`.

By data set; of each method its size (`benchmarks.attack_methods`). From 16 images of each network (resnet20 left
out) with 60 gradient evaluations: coarse, as many sizes are level. On ImageNet nothing was tuned.
"""

from __future__ import annotations

TUNED: dict[str, dict[str, float]] = {
    "mnist": {
        "gd": 3.0,
        "momentum": 10.0,
        "adam": 3.0,
        "adagrad": 1.0,
        "rmsprop": 3.0,
        "frank-wolfe": 0.9,
        "lbfgs": 10.0,
        "adr-gd-soft": 0.1,
        "adr-gd-soft-margin": 0.1,
    },
    "cifar10": {
        "gd": 10.0,
        "momentum": 10.0,
        "adam": 1.0,
        "adagrad": 3.0,
        "rmsprop": 0.3,
        "frank-wolfe": 0.9,
        "lbfgs": 10.0,
        "adr-gd-soft": 1.0,
        "adr-gd-soft-margin": 0.1,
    },
}
