"""The documentation: its commands parse, its links lead somewhere, its reference is whole."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import runpy
import shlex
import zipfile
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from documents import DOCS, FENCE, PAGES, ROOT, anchors, blocks, commands, links, name_of
from PIL import Image

import latentopt as lo
from benchmarks.__main__ import load
from benchmarks.study import STUDIES
from latentopt.cli import main, run_folders
from latentopt.cli.help import page as help_page
from latentopt.cli.options import make_parser, parse_job
from latentopt.cli.registry import JOBS
from latentopt.optimizers import METHODS

QUICK = (
    "reconstruct --model mnist-vae --targets digits --resize --limit 4 --steps 20 --wandb disabled --out runs/four",
    "diagnose --model mnist-vae --samples 4 --steps 20",
    "analyze certify --model random-A --seeds 0 --seconds 1 --evaluations 640",
)
"""Commands of the documentation that need only what ships, and seconds."""
ALWAYS = ("models", "recipes", "doctor", "completion", "help", "--version", "--help")
"""Commands that are run wherever they stand."""
SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")


GUIDES = re.compile(r"^README|^docs/(guides/|index|faq|agents|extend)")
"""Pages that a newcomer follows. The others tell how results were made."""


def is_no_comparison_of_runs(words: list[str]) -> bool:
    """Whether a command needs no runs of earlier jobs."""
    return words[0] != "compare" or not run_folders(words[1:])


class Parsed(BaseException):
    """The arguments were read; the job itself is not to begin."""


@pytest.fixture
def only_parsing(monkeypatch):
    """The command line as it is, up to where a job would begin."""

    def parsing(*args: Any) -> Any:
        parse_job(*args)
        raise Parsed

    monkeypatch.setattr("latentopt.cli.options.parse_job", parsing)


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of)
def test_every_command_of_a_page_parses(page, tmp_path, monkeypatch, capsys, only_parsing):
    monkeypatch.chdir(tmp_path)
    for words in filter(is_no_comparison_of_runs, commands(page)):
        try:
            code = main(words)
        except Parsed:
            continue
        except SystemExit as end:  # jsonargparse's help
            code = end.code
        assert code == 0, f"latentopt {shlex.join(words)}: {capsys.readouterr().err}"
        assert words[0] in ALWAYS or "--help" in words or "--dry-run" in words, words


OWN = (
    "latents.safetensors",
    "mask.png",
    "photos/3/a.png",
    "my/a.png",
    "my/b.png",
    "own.npz",
    "images.npz",
    "agent.safetensors",
    "sac_Hopper-v3.safetensors",
)
"""Files of a user that the documentation names."""


@pytest.mark.parametrize("page", [page for page in PAGES if GUIDES.search(name_of(page))], ids=name_of)
def test_every_command_of_a_guide_is_right_without_a_download(page, tmp_path, monkeypatch, capsys):
    """In a fresh clone, offline: nothing that it needs is missing, and its settings fit together."""
    monkeypatch.setenv("LATENTOPT_DATA", str(tmp_path / "none"))
    monkeypatch.chdir(tmp_path)
    for file in map(tmp_path.joinpath, OWN):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (28, 28), 255).save(file) if file.suffix == ".png" else file.touch()
    with zipfile.ZipFile(tmp_path / "agent.zip", "w") as archive:
        archive.writestr("data", '{"policy_class": {"__module__": ""}, "clip_range": 0.2}')
    before = sorted(tmp_path.rglob("*"))
    for words in filter(is_no_comparison_of_runs, commands(page)):
        if words[0] in ALWAYS or {"--help", "agent.zip"} & set(words):
            continue
        words = [str(file) for word in words for file in (tmp_path.glob(word) if "*" in word else [word])]
        if words[0] in ("refine", "attack-policy", "train-rl"):
            pytest.importorskip("stable_baselines3")
        code = main([*words, *["--dry-run"] * ("--dry-run" not in words)])
        assert code == 0, f"latentopt {shlex.join(words)}: {capsys.readouterr().err}"
    assert sorted(tmp_path.rglob("*")) == before


def test_the_commands_that_are_quick_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written = {shlex.join(words) for page in PAGES for words in commands(page)}
    for command in QUICK:
        assert command in written
        assert main(shlex.split(command)) == 0, capsys.readouterr().err
    assert (tmp_path / "runs/four/report.html").is_file()


@pytest.fixture(scope="module")
def options() -> set[str]:
    """Of all commands, as `--batch-size`."""
    parsers = [make_parser(job) for job in JOBS.values()]
    known = {word for parser in parsers for action in parser._actions for word in action.option_strings}
    known |= {f"--{argument}" for name in STUDIES for argument in inspect.signature(load(name)).parameters}
    known |= {word for name in ("sweep", "doctor") for word in re.findall(r"--[a-z][\w-]*", help_page(name))}
    known |= {"--help", "--version", "--data.root"}
    return {word.replace("_", "-") for word in known}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_is_there(page, options):
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    named = re.findall(r"`(--[a-z][\w-]*)", text)
    assert {word.replace("_", "-") for word in named} <= options


def test_every_option_that_a_message_names_is_there(options):
    """Whatever the package says of its own options; `latentopt diagnose --resize` once was advice, and no option."""
    named = dict[str, str]()
    for path in sorted((ROOT / "latentopt").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named |= dict.fromkeys(re.findall(r"(?<![\w-])--[a-z][\w-]+", node.value), path.name)
    of_others = {"--no-deps", "--force-reinstall", "--card", "--module", "--print"}
    left = {word: file for word, file in named.items() if word.replace("_", "-").rstrip("-") not in options | of_others}
    assert not left


def test_the_registered_methods_are_named_in_the_reference():
    text = (DOCS / "api/optimizers.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \|$", text, re.MULTILINE)
    assert rows == [(name, preset.summary) for name, preset in METHODS.items()]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_within_lead_somewhere(page):
    for file, anchor in links(page):
        target = (page.parent / file) if file else page
        assert target.exists(), f"{file} is not there"
        if anchor and target.suffix == ".md" and target.parent != DOCS / "api":
            assert anchor in anchors(target), f"{file}#{anchor}: no such heading"


def test_the_picture_and_the_files_that_the_readme_names_are_there():
    """Links lead somewhere, as on every page."""
    page = ROOT / "README.md"
    assert "docs/digits.png" in [file for file, _ in links(page)]
    named = re.findall(r"`(CONTRIBUTING\.md|constraints\.txt)`", page.read_text(encoding="utf-8"))
    assert all((ROOT / name).exists() for name in named)


def test_every_page_is_in_the_navigation_once():
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    named = re.findall(r"\S+\.(?:md|ipynb)\b", SITE[SITE.index("\nnav:") :])
    assert len(named) == len(set(named))
    assert pages <= set(named)
    assert set(named) - pages <= {"gallery.md"}  # made by a command; see docs/hooks/site.py


def test_every_public_name_is_in_the_reference_exactly_once():
    """As the object itself: `latentopt.solve` would be the module that holds the function."""
    texts = [page.read_text(encoding="utf-8") for page in sorted((DOCS / "api").glob("*.md"))]
    directives = [path for text in texts for path in re.findall(r"^::: (\S+)$", text, re.MULTILINE)]
    assert not [path for path, count in Counter(directives).items() if count > 1]
    held = [pkgutil.resolve_name(path) for path in directives]
    for name in lo.__all__:
        value = getattr(lo, name)
        if not (value.__doc__ or "").startswith("Deprecated"):
            assert sum(each is value for each in held) == 1, name


def test_a_page_with_a_dead_link_is_told(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# One, two `three`\n[a](#one-two-three) [b](gone.md#x) [c](https://example.org/#y)\n")
    assert links(page) == [("", "one-two-three"), ("gone.md", "x")]
    assert anchors(page) == {"one-two-three"}


def test_the_site_mends_links_between_pages_and_notebooks():
    """Written as they are right on a code host, where notebooks/ lies beside docs/."""
    hooks = runpy.run_path(str(DOCS / "hooks/site.py"))

    def page(path: str) -> SimpleNamespace:
        return SimpleNamespace(file=SimpleNamespace(src_uri=path), meta={})

    mended = hooks["on_page_markdown"]("[n](../../notebooks/1.ipynb)", page=page("guides/attack.md"))
    assert mended == "[n](../notebooks/1.ipynb)"
    post = hooks["on_post_page"]
    for written, mended in (
        ('<a href="../docs/faq.md#it-is-slow">', '<a href="../faq.html#it-is-slow">'),
        ('<a href="2.ipynb">', '<a href="2.html">'),
        ('<img src="../docs/a.png">', '<img src="../a.png">'),
        ('<a href="https://a.org/b.md">', '<a href="https://a.org/b.md">'),
    ):
        assert post(written, page=page("notebooks/1.ipynb")) == mended
        assert post(written, page=page("faq.md")) == written


WIDTH = 96
"""Characters of a line of code that fit on the site at 1280 px: docs/assets/site.css."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_the_code_of_a_page_fits_on_the_site(page):
    code = [line for block in blocks(page) if block.language in ("python", "yaml") for line in block.text.splitlines()]
    assert not [line for line in code if len(line) > WIDTH]


def test_the_doctests_of_the_reference_fit_on_the_site():
    lines = [
        line.strip() for path in (ROOT / "latentopt").rglob("*.py") for line in path.read_text("utf-8").split("\n")
    ]
    assert not [line for line in lines if line.startswith((">>> ", "... ")) and len(line) > WIDTH]


def test_the_commands_of_a_page_wrap_on_the_site():
    languages = {block.language for page in PAGES for block in blocks(page)} - {"python", "yaml"}
    style = (DOCS / "assets/site.css").read_text(encoding="utf-8")
    (wrapping,) = re.findall(r"^\.md-typeset :is\((.*?)\) code, .*white-space: pre-wrap", style, re.MULTILINE)
    assert {language or "text" for language in languages} <= set(re.findall(r"language-(\w+)", wrapping))


def test_the_search_of_the_site_works_from_a_folder_and_fetches_nothing():
    """The plugin would take a script from elsewhere, if the site had none of this name."""
    assert "\n  - offline" in SITE
    assert "\nuse_directory_urls: false" in SITE
    (script,) = re.findall(r"^    - (assets/iframe-worker\.js)", SITE, re.MULTILINE)
    assert 'location.protocol === "file:"' in (DOCS / script).read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "page"),
    [
        ("resume", "guides/command-line.md"),
        ("mask", "guides/reconstruct.md"),
        ("own generator", "index.md"),
        ("own photographs", "faq.md"),
        ("which method", "guides/compare.md"),
        ("does not find", "faq.md"),
    ],
)
def test_the_words_of_a_newcomer_are_in_a_heading(words, page):
    headings = re.findall(r"^#+ .*$", (DOCS / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert any(words in heading.lower() for heading in headings)
