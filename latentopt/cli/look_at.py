"""What `latentopt doctor` looks at. Nothing here asks a server, or leaves a file."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from latentopt.errors import InputError
from latentopt.version import __version__


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    state: Literal["ok", "missing", "broken"]  # missing: only some uses need it
    said: str
    todo: str = ""


OLDEST = (3, 11)
PACKAGES = {  # by the name that is imported
    "torch": "torch",
    "torchvision": "torchvision",
    "lightning": "lightning",
    "torchmetrics": "torchmetrics",
    "lpips": "lpips",
    "jinja2": "jinja2",
    "jsonargparse": "jsonargparse",
    "safetensors": "safetensors",
    "yaml": "pyyaml",
    "numpy": "numpy",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "scipy": "scipy",
    "shtab": "shtab",
    "tqdm": "tqdm",
    "wandb": "wandb",
}
IMPORTED = ("torch", "torchvision", "lightning", "wandb")
"""Packages that may be there and still not run: compiled for another machine, or not for one another."""
EXTRAS = {
    "extra rl": (
        ("stable_baselines3", "gymnasium", "mujoco"),
        "pip install 'latentopt[rl]', to refine and train agents",
    ),
    "extra deepinv": (("deepinv",), "pip install 'latentopt[deepinv]', for its physics as operators"),
    "references": (
        ("torchattacks", "foolbox"),
        "see requirements-references.txt, to benchmark against other packages in an environment of their own",
    ),
    "procgen": (("procgen", "gym3"), "see requirements-procgen.txt, to play CoinRun and FruitBot"),
}
MNIST = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def python() -> list[Finding]:
    version = platform.python_version()
    package = Path(__file__).parents[1]
    ours = Finding("latentopt", "ok", f"{__version__}, in {package}")
    if sys.version_info[:2] < OLDEST:
        return [ours, Finding("python", "broken", version, "use Python 3.11 or a later one")]
    return [ours, Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")]


def packages() -> list[Finding]:
    return [_package(module, name) for module, name in PACKAGES.items()]


def _package(module: str, name: str) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", "is not installed", f"pip install {name}")
    try:
        if module in IMPORTED:
            import_module(module)
    except Exception as error:  # whatever a package does when it is imported
        said = f"{version} cannot be imported: {(str(error).splitlines() or [''])[0]}"
        return Finding(name, "broken", said, f"pip install --force-reinstall {name}")
    return Finding(name, "ok", version)


def extras() -> list[Finding]:
    found = list[Finding]()
    for name, (modules, todo) in EXTRAS.items():
        absent = [module for module in modules if find_spec(module) is None]
        said = f"without {', '.join(absent)}" if absent else f"{', '.join(modules)}"
        found.append(Finding(name, "missing" if absent else "ok", said, todo if absent else ""))
    film = shutil.which("ffmpeg")
    todo = "" if film else "install ffmpeg, for trajectories as MP4 (GIFs are there without it)"
    return [*found, Finding("ffmpeg", "ok" if film else "missing", film or "not found", todo)]


def devices() -> list[Finding]:
    try:
        import torch
    except Exception:  # has been told
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found = [Finding("cpu", "ok", f"{cores} cores, torch uses {torch.get_num_threads()} threads")]
    names = [torch.cuda.get_device_name(at) for at in range(torch.cuda.device_count())]
    todo = "only the CPU is used; a GPU needs its driver and a torch that was built for it"
    there = torch.cuda.is_available()
    found.append(Finding("cuda", "ok" if there else "missing", ", ".join(names) or "no GPU", "" if there else todo))
    apple = torch.backends.mps.is_available()
    return [*found, Finding("mps", "ok" if apple else "missing", "there" if apple else "not on this machine")]


def wandb() -> list[Finding]:
    """Where runs are tracked, and whether there is a key; never which."""
    mode = os.environ.get("WANDB_MODE")
    said = "as each job says with --wandb, offline by default"
    said += f"; WANDB_MODE={mode} is not heeded" if mode else ""
    key = _has_key()
    todo = "" if key else "wandb login, for --wandb online; without it runs stay on disk"
    configured = "configured" if key else "not configured"
    return [Finding("wandb mode", "ok", said), Finding("wandb key", "ok" if key else "missing", configured, todo)]


def _has_key() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai").split("//")[-1].split("/")[0].split(":")[0]
    files = [os.environ.get("NETRC"), Path.home() / ".netrc", Path.home() / "_netrc"]
    import netrc

    for file in filter(None, files):
        try:
            if netrc.netrc(str(file)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def data() -> list[Finding]:
    from latentopt.zoo.paths import data_root

    root, named = data_root(), os.environ.get("LATENTOPT_DATA")
    said = f"{root} ({'LATENTOPT_DATA' if named else 'the default; LATENTOPT_DATA is not set'})"
    if not root.is_dir():
        todo = "set LATENTOPT_DATA to a folder with data sets; --download fetches those of torchvision"
        state = "broken" if named else "missing"
        return [Finding("data", state, f"{said} is not there", todo)]
    return [Finding("data", "ok", said), _mnist(root), _cifar(root)]


def _mnist(root: Path) -> Finding:
    from latentopt.zoo.datasets import read_idx

    for place in (root, root / "mnist"):
        there = [place / name for name in MNIST if (place / name).is_file()]
        if not there:
            continue
        try:
            counts = {path.name.split("-")[0]: len(read_idx(path)) for path in there if "labels" in path.name}
            for path in there:
                read_idx(path)
        except InputError as error:
            return Finding("data mnist", "broken", str(error), "fetch this file again")
        absent = [name for name in MNIST if place / name not in there]
        if absent:
            return Finding("data mnist", "missing", f"without {', '.join(absent)} in {place}", "fetch these files too")
        return Finding("data mnist", "ok", f"{', '.join(f'{n} of {part}' for part, n in counts.items())} in {place}")
    if (root / "MNIST" / "raw").is_dir():
        return Finding("data mnist", "ok", f"torchvision's, in {root / 'MNIST'}")
    return Finding("data mnist", "missing", "not found", "add --download, or put its four .gz files there")


def _cifar(root: Path) -> Finding:
    for place in (root, root / "cifar10"):
        if files := sorted(place.glob("cifar10_*.npz")):
            return Finding("data cifar10", "ok", f"{', '.join(path.name for path in files)} in {place}")
    if (root / "cifar-10-batches-py").is_dir():
        return Finding("data cifar10", "ok", f"torchvision's, in {root / 'cifar-10-batches-py'}")
    return Finding("data cifar10", "missing", "not found", "add --download, or put cifar10_test.npz there")


def models() -> list[Finding]:
    from latentopt.zoo import cards

    found = [_model(name) for name in cards.names()]
    return found or [Finding("models", "broken", "none is shipped", "install latentopt again")]


def _model(name: str) -> Finding:
    from latentopt.zoo import cards

    again = "install latentopt again: this file is not the one that was shipped"
    try:
        card = cards.read_card(name)
        content = (cards.find(name) / cards.WEIGHTS).read_bytes()
    except (InputError, OSError) as error:
        return Finding(f"model {name}", "broken", " ".join(str(error).split()), again)
    held = hashlib.sha256(content).hexdigest()
    if held != card.weights_sha256:
        said = f"weights of sha256 {held[:12]}..., expected {card.weights_sha256[:12]}..."
        return Finding(f"model {name}", "broken", said, again)
    return Finding(f"model {name}", "ok", f"sha256 {held[:12]}..., {len(content) / 1e6:.1f} MB")


def folders() -> list[Finding]:
    from latentopt.zoo.paths import cache_root

    return [_writable("runs/", Path("runs"), "--out"), _writable("cache", cache_root(), "LATENTOPT_CACHE")]


def _writable(name: str, folder: Path, other: str) -> Finding:
    """Whether a folder, or the one that it would be made in, can be written: by a file that is gone at once."""
    place = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=place):
            free = shutil.disk_usage(place).free / 1e9
    except OSError as error:
        todo = f"name a folder that can be written with {other}"
        return Finding(name, "broken", f"{folder.absolute()}: {error.strerror}", todo)
    return Finding(name, "ok", f"{folder.absolute()} can be written, {free:.0f} GB are free")
