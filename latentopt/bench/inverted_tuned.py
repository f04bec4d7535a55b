"""Step sizes by generator, chosen on training images by ``latentopt bench reconstruct --tune --part real``.

Within 4 CPU seconds; the two or three best of Adam's again within 12, as a longer search wants others.
"""

TUNED: dict[str, dict[str, float]] = {
    "dcgan64": {"adam": 0.1, "adr-gd": 0.1, "adr-gd-paper": 1.0, "a hand-written Adam loop": 0.2, "deepinv CSGM": 0.3},
    "celeba-vae": {"adam": 0.3, "adr-gd": 0.3, "a hand-written Adam loop": 0.3, "deepinv CSGM": 0.1},
    "mnist-vae": {"adam": 0.3, "adr-gd": 0.3, "adr-gd-paper": 1.0, "deepinv CSGM": 0.3},
    "mnist-dcgan": {"adam": 0.1, "adr-gd": 0.1, "adr-gd-paper": 1.0, "deepinv CSGM": 0.3},
}
