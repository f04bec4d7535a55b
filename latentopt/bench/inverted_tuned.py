"""Step sizes and numbers of restarts by generator, chosen within 20 CPU seconds on training images.

By ``latentopt bench reconstruct --tune --part real``; the VAEs of MNIST within 5.
"""

TUNED: dict[str, dict[str, tuple[float, int]]] = {
    "dcgan64": {
        "adr-gd-paper": (1.0, 8),
        "a hand-written Adam loop": (0.2, 1),
        "deepinv CSGM": (0.1, 1),
    },
    "celeba-vae": {
        "a hand-written Adam loop": (0.3, 1),
        "deepinv CSGM": (0.03, 1),
    },
    "mnist-vae": {"adr-gd-paper": (1.0, 8), "deepinv CSGM": (0.3, 1)},
    "mnist-dcgan": {"adr-gd-paper": (1.0, 8), "deepinv CSGM": (0.3, 1)},
}
