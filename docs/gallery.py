"""Draw the pictures of docs/gallery/ and write docs/gallery.md: `make gallery`.

    python docs/gallery.py              # all
    python docs/gallery.py descent      # some, by name; the page names all that are there

Every picture is made from models that ship here, with fixed seeds, on the CPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gallery_images
import gallery_networks
import gallery_policy

DOCS = Path(__file__).resolve().parent
FOLDER = DOCS / "gallery"
MOST = 400_000
"""Bytes of a picture."""
ALL = 3_000_000
"""Bytes of all of them."""


class Picture(NamedTuple):
    """A picture of the gallery."""

    file: str
    title: str
    caption: str  # what one sees, and what it does not show
    by_hand: str  # the command or call that does the same for one's own models
    draw: Callable[[Path], None]


PICTURES = {
    "handwriting": Picture(
        "handwriting.png",
        "Super-resolution of real handwriting",
        "Above: digits of 8 x 8 pixels that people wrote (scikit-learn's first twelve). Below: the 28 x 28 digits that "
        "`mnist-vae` finds for them. It never saw these hands, and no larger version exists: where 64 numbers leave it "
        "open, the generator invents what is likely.",
        "`latentopt run digits`",
        gallery_images.handwriting,
    ),
    "inpainting": Picture(
        "inpainting.png",
        "Inpainting, with the truth beside it",
        "Digits made by another network (`mnist-dcgan`), their middle 10 x 10 pixels hidden, and what `mnist-vae` puts "
        "there. Some holes are filled with another digit's strokes: it is plausible, not always true. Last row: the "
        "hole filled smoothly from its border, without a generator.",
        "`lo.reconstruct(generator, images, operator=lo.operators.Hole(10), prior=lo.priors.GaussianPrior(5e-5))`",
        gallery_images.inpainting,
    ),
    "descent": Picture(
        "descent.gif",
        "From random latents to the digit",
        "Above, the targets: images of `mnist-dcgan` itself. Below, what the generator shows while `adr-gd-soft` "
        "walks there from random latents, the best of four starts for each; early steps are shown slower. By eye "
        "all eight arrive. Down to an error of 1e-4 few do from random starts, which is why `lo.reconstruct` "
        "learns its starts.",
        '`lo.solve(lo.Reconstruction(generator, target), "adr-gd-soft", steps=150, restarts=4)`',
        gallery_images.descent,
    ),
    "walk": Picture(
        "walk.gif",
        "A walk through the latents of the DCGAN",
        "Each square goes through six random latents and back to the first, on great circles, so that it never leaves "
        "the shell where the generator was trained. In between it also shows what is no digit.",
        '`lo.load("mnist-dcgan")(latents)`',
        gallery_images.walk,
    ),
    "adversarial": Picture(
        "adversarial.png",
        "What an attack changes",
        "Two classifiers and one radius, .15. Above the digits: what the classifier says before and after, orange "
        "where the attack succeeds. The change is magnified three times; grey is none. `mnist-cnn` falls "
        "everywhere, `mnist-cnn-robust`, trained against attacks, on four of these ten. (The digits are a VAE's, "
        "with softer strokes than MNIST's, and easier to attack.)",
        "`lo.attack(classifier, images, labels, eps=0.15)`",
        gallery_images.adversarial,
    ),
    "landscape": Picture(
        "landscape.gif",
        "Through the regions of a network",
        "A random network of two inputs; each patch is a region on which it is linear, brighter is higher. "
        "Gradient ascent (red) and ADR-GD with soft gates (blue) take steps of one length from the centre. This "
        "network was chosen because on the upper edge gradient ascent turns left and ADR-GD right, to the highest "
        "corner; over twenty networks the two differ by no more than chance does ([regions](analysis/regions.md)).",
        "`latentopt run analyze-regions`",
        gallery_networks.landscape,
    ),
    "gates": Picture(
        "gates.png",
        "Gates flipping",
        "An attack on one image of `mnist-cnn`, 40 steps each. A column is a step, a row one of the last hidden "
        "layer's 100 units, light where its gate is open; units that never change are left out. Below, how many "
        "of all 4,804 gates flip at each step. With plain gradients and with soft gates alike, most flip at "
        "first, and they settle as the steps shrink.",
        "`latentopt analyze regions --model mnist-cnn --data mnist`",
        gallery_networks.gates,
    ),
    "plateaus": Picture(
        "plateaus.png",
        "What a capped ReLU does to the margin",
        "The margin around one digit (the white dot), for two classifiers, each on a plane of its own: to the "
        "right the direction of a successful attack, up a random one. Thick line: the decision boundary. The "
        "capped network (right) has flat pieces, on which the gradient is exactly zero and attacks that follow it "
        "stand still; its boundary is no further away.",
        "`latentopt run analyze-capped`",
        gallery_networks.plateaus,
    ),
    "fruitbot": Picture(
        "fruitbot.gif",
        "A policy, before and after an attack",
        "`fruitbot-cnn` plays one level: fruit is to be met, all else avoided. Left: undisturbed. Middle: what it sees "
        "under an attack that changes no pixel by more than 5 of 255, towards the action it likes least, and what it "
        "does then. Right: the change, magnified 16 times. It is the first test level on which the attack lowers the "
        "return; what it does to a hundred levels, and that CoinRun's policy hardly suffers, is on "
        "[policies](benchmarks/policies.md).",
        "`latentopt attack-policy --model fruitbot-cnn --eps 0.01961 --targets least-likely`",
        gallery_policy.fruitbot,
    ),
}


def page() -> str:
    """The text of docs/gallery.md, of the pictures that are there."""
    parts = [
        "# Gallery",
        "All of these are made by `make gallery`, from models that ship with latentopt, on the CPU, with fixed seeds. "
        "`python docs/gallery.py NAME` makes one again. The drawing code is in `docs/gallery_*.py`.",
    ]
    for name, picture in PICTURES.items():
        if not (FOLDER / picture.file).is_file():
            continue
        parts += [f"## {picture.title}", f"![{picture.title}](gallery/{picture.file})", picture.caption]
        parts.append(f"Made by `python docs/gallery.py {name}`. As a command or a call: {picture.by_hand}.")
    return "\n\n".join(parts) + "\n"


def main(names: list[str]) -> int:
    """Draw these pictures, or all; 1 where one is larger than it may be."""
    unknown = [name for name in names if name not in PICTURES]
    if unknown:
        print(f"gallery: no picture {', '.join(unknown)}; there are {', '.join(PICTURES)}", file=sys.stderr)
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        begun, path = time.process_time(), FOLDER / PICTURES[name].file
        try:
            PICTURES[name].draw(path)
        except gallery_policy.MissingError as reason:
            print(f"{name}: left as it is: {reason}")
            continue
        print(f"{name}: {path.stat().st_size // 1000} kB, {time.process_time() - begun:.0f} s", flush=True)
    (DOCS / "gallery.md").write_text(page(), encoding="utf-8")
    sizes = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    large = [name for name, size in sizes.items() if size > MOST]
    if large or sum(sizes.values()) > ALL:
        print(f"gallery: too large: {', '.join(large) or 'all together'}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
