"""Step sizes and numbers of starts by generator, chosen on training images.

By ``latentopt bench reconstruct --tune --part real`` within 20 CPU seconds; of Adam and soft gates on the VAEs, from 8
starts, within 4 to 12. Soft gates have Adam's sizes on ``mnist-dcgan``.
"""

TUNED: dict[str, dict[str, tuple[float, int]]] = {
    "dcgan64": {
        "adam": (0.4, 1),
        "adam-regression": (0.1, 1),
        "adr-gd-soft": (0.1, 1),
        "adr-gd-soft-regression": (0.1, 1),
        "adr-gd-paper": (1.0, 8),
        "a hand-written Adam loop": (0.2, 1),
        "deepinv CSGM": (0.1, 1),
    },
    "celeba-vae": {
        "adam": (0.3, 8),
        "adam-regression": (0.3, 8),
        "adr-gd-soft": (0.3, 8),
        "adr-gd-soft-regression": (0.3, 8),
        "a hand-written Adam loop": (0.3, 1),
        "deepinv CSGM": (0.03, 1),
    },
    "mnist-vae": {
        "adam": (0.3, 8),
        "adam-regression": (0.3, 8),
        "adr-gd-soft": (0.3, 8),
        "adr-gd-soft-regression": (0.3, 8),
        "adr-gd-paper": (1.0, 8),
        "deepinv CSGM": (0.3, 1),
    },
    "mnist-dcgan": {
        "adam": (0.1, 4),
        "adam-regression": (0.4, 4),
        "adr-gd-soft": (0.1, 4),
        "adr-gd-soft-regression": (0.4, 4),
        "adr-gd-paper": (1.0, 8),
        "a hand-written Adam loop": (0.1, 1),
        "deepinv CSGM": (0.03, 1),
    },
}
