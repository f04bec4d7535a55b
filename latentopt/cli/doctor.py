"""`latentopt doctor`: check the installation. No server is asked, and no file is left behind."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from latentopt.errors import InputError, in_one_line
from latentopt.io import checksum
from latentopt.version import __version__
from latentopt.zoo import card


@dataclass(frozen=True)
class Finding:
    """The state of one part of the installation."""

    name: str
    state: Literal["ok", "missing", "broken"]  # missing: only some uses need it
    detail: str
    todo: str = ""


MIN_PYTHON = (3, 11)
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
"""Packages that may be installed and still not run: compiled for another machine, or for other versions."""
EXTRAS = {
    "extra rl": (
        ("stable_baselines3", "gymnasium", "mujoco"),
        "pip install 'latentopt[rl]', to refine and train agents",
    ),
    "extra deepinv": (("deepinv",), "pip install 'latentopt[deepinv]', for its physics as operators"),
    "extra diffusers": (("diffusers",), "pip install 'latentopt[diffusers]', for its autoencoders as generators"),
    "references": (
        ("torchattacks", "foolbox"),
        "see requirements-references.txt, to benchmark against other packages in an environment of their own",
    ),
    "procgen": (("procgen", "gym3"), "see requirements-procgen.txt, to play CoinRun and FruitBot"),
}
MNIST = tuple(f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1"))


def check_python() -> list[Finding]:
    version = platform.python_version()
    package = Path(__file__).parents[1]
    ours = Finding("latentopt", "ok", f"{__version__}, in {package}")
    if sys.version_info[:2] < MIN_PYTHON:
        return [ours, Finding("python", "broken", version, "use Python 3.11 or a later one")]
    return [ours, Finding("python", "ok", f"{version} on {platform.system()} {platform.machine()}")]


def check_packages() -> list[Finding]:
    return [_check_package(module, name) for module, name in PACKAGES.items()]


def _check_package(module: str, name: str) -> Finding:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Finding(name, "broken", "is not installed", f"pip install {name}")
    try:
        if module in IMPORTED:
            import_module(module)
    except Exception as error:  # whatever a package does when it is imported
        detail = f"{version} cannot be imported: {(str(error).splitlines() or [''])[0]}"
        return Finding(name, "broken", detail, f"pip install --force-reinstall {name}")
    return Finding(name, "ok", version)


def check_extras() -> list[Finding]:
    findings = list[Finding]()
    for name, (modules, todo) in EXTRAS.items():
        if absent := [module for module in modules if find_spec(module) is None]:
            findings.append(Finding(name, "missing", f"without {', '.join(absent)}", todo))
        else:
            findings.append(Finding(name, "ok", ", ".join(modules)))
    if ffmpeg := shutil.which("ffmpeg"):
        return [*findings, Finding("ffmpeg", "ok", ffmpeg)]
    todo = "install ffmpeg, for trajectories as MP4 (GIFs are there without it)"
    return [*findings, Finding("ffmpeg", "missing", "not found", todo)]


def check_devices() -> list[Finding]:
    try:
        import torch
    except Exception:  # `check_packages` reports it
        return []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = Finding("cpu", "ok", f"{cores} cores, torch uses {torch.get_num_threads()} threads")
    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    if torch.cuda.is_available():
        cuda = Finding("cuda", "ok", ", ".join(names) or "no GPU")
    else:
        todo = "only the CPU is used; a GPU needs its driver and a torch that was built for it"
        cuda = Finding("cuda", "missing", ", ".join(names) or "no GPU", todo)
    has_mps = torch.backends.mps.is_available()
    return [cpu, cuda, Finding("mps", "ok" if has_mps else "missing", "there" if has_mps else "not on this machine")]


def check_wandb() -> list[Finding]:
    """Report where runs are tracked, and whether there is a key, but never the key."""
    mode = os.environ.get("WANDB_MODE")
    source = f"as WANDB_MODE={mode} says" if mode else "offline"
    tracking = Finding("wandb mode", "ok", f"as each job says with --wandb, by default {source}")
    if _has_key():
        return [tracking, Finding("wandb key", "ok", "configured")]
    todo = "wandb login, for --wandb online; without it runs stay on disk"
    return [tracking, Finding("wandb key", "missing", "not configured", todo)]


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


def check_data() -> list[Finding]:
    from latentopt.zoo.paths import data_root

    root, is_set = data_root(), bool(os.environ.get("LATENTOPT_DATA"))
    detail = f"{root} ({'LATENTOPT_DATA' if is_set else 'the default; LATENTOPT_DATA is not set'})"
    if not root.is_dir():
        todo = "set LATENTOPT_DATA to a folder with data sets; --download fetches those of torchvision"
        return [Finding("data", "broken" if is_set else "missing", f"{detail} is not there", todo)]
    return [Finding("data", "ok", detail), _check_mnist(root), _check_cifar(root)]


def _check_mnist(root: Path) -> Finding:
    from latentopt.zoo.datasets import read_idx

    for folder in (root, root / "mnist"):
        paths = [folder / name for name in MNIST if (folder / name).is_file()]
        if not paths:
            continue
        try:
            sizes = {path.name: len(read_idx(path)) for path in paths}
        except InputError as error:
            return Finding("data mnist", "broken", str(error), "fetch this file again")
        if absent := [name for name in MNIST if name not in sizes]:
            return Finding("data mnist", "missing", f"without {', '.join(absent)} in {folder}", "fetch these files too")
        counts = [f"{size} of {name.split('-')[0]}" for name, size in sizes.items() if "labels" in name]
        return Finding("data mnist", "ok", f"{', '.join(counts)} in {folder}")
    if (root / "MNIST" / "raw").is_dir():
        return Finding("data mnist", "ok", f"torchvision's, in {root / 'MNIST'}")
    return Finding("data mnist", "missing", "not found", "add --download, or put its four .gz files there")


def _check_cifar(root: Path) -> Finding:
    for folder in (root, root / "cifar10"):
        if paths := sorted(folder.glob("cifar10_*.npz")):
            return Finding("data cifar10", "ok", f"{', '.join(path.name for path in paths)} in {folder}")
    if (root / "cifar-10-batches-py").is_dir():
        return Finding("data cifar10", "ok", f"torchvision's, in {root / 'cifar-10-batches-py'}")
    return Finding("data cifar10", "missing", "not found", "add --download, or put cifar10_test.npz there")


def check_models() -> list[Finding]:
    findings = [_check_model(name) for name in card.names()]
    return findings or [Finding("models", "broken", "none is shipped", "install latentopt again")]


def _check_model(name: str) -> Finding:
    todo = "install latentopt again: this file is not the one that was shipped"
    try:
        expected = card.read_card(name).weights_sha256
        weights = card.find(name) / card.WEIGHTS
        actual, size = checksum(weights), weights.stat().st_size
    except (InputError, OSError) as error:
        return Finding(f"model {name}", "broken", in_one_line(error), todo)
    if actual != expected:
        detail = f"weights of sha256 {actual[:12]}..., expected {expected[:12]}..."
        return Finding(f"model {name}", "broken", detail, todo)
    return Finding(f"model {name}", "ok", f"sha256 {actual[:12]}..., {size / 1e6:.1f} MB")


def check_folders() -> list[Finding]:
    from latentopt.zoo.paths import cache_root

    return [_check_writable("runs/", Path("runs"), "--out"), _check_writable("cache", cache_root(), "LATENTOPT_CACHE")]


def _check_writable(name: str, folder: Path, option: str) -> Finding:
    """Check, with a temporary file, that a folder can be written, or its nearest parent if it does not exist."""
    parent = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            free = shutil.disk_usage(parent).free / 1e9
    except OSError as error:
        todo = f"name a folder that can be written with {option}"
        return Finding(name, "broken", f"{folder.absolute()}: {error.strerror}", todo)
    return Finding(name, "ok", f"{folder.absolute()} can be written, {free:.0f} GB are free")


CHECKS: tuple[Callable[[], list[Finding]], ...] = (
    check_python,
    check_packages,
    check_extras,
    check_devices,
    check_wandb,
    check_data,
    check_models,
    check_folders,
)


def doctor(words: list[str]) -> int:
    """Print all findings; return 1 if something is broken, otherwise 0."""
    if words not in ([], ["--json"]):
        raise InputError("doctor", "--json or nothing", " ".join(words))
    findings = [finding for check in CHECKS for finding in check()]
    broken = [finding for finding in findings if finding.state == "broken"]
    if words:
        print(json.dumps({"in_order": not broken, "findings": [asdict(finding) for finding in findings]}, indent=1))
        return 1 if broken else 0
    for finding in findings:
        print(f"{finding.state:10s}{finding.name:24s} {finding.detail}")
        if finding.todo:
            print(f"{'':34s} -> {finding.todo}")
    print(f"\n{len(broken)} broken: see above" if broken else "\nin order")
    return 1 if broken else 0
