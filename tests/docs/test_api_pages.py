"""The pages of the reference: what a docstring says is what its page shows."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import griffe
import markdown
import pytest
import yaml
from documents import ROOT

SITE = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
LISTED = ("parameters", "attributes", "raises", "returns", "yields")


def options() -> dict[str, bool]:
    """Of the parser of docstrings, as the site has them."""
    (block,) = re.findall(r"^ +docstring_options:\n((?: {14}.*\n)+)", SITE, re.MULTILINE)
    return yaml.safe_load(block)


@pytest.fixture(scope="module")
def objects() -> list[griffe.Object]:
    """All of the package that has a docstring, as the site's hook leaves it."""
    hook = griffe.load_extensions(str(ROOT / "docs/hooks/docstrings.py"))
    package = griffe.load("latentopt", search_paths=[str(ROOT)], extensions=hook)
    assert isinstance(package, griffe.Module)
    return list(documented(package))


def documented(owner: griffe.Object) -> Iterator[griffe.Object]:
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            if member.docstring:
                yield member
            if member.is_module or member.is_class:
                yield from documented(member)


def sections(item: griffe.Object) -> Iterator[griffe.DocstringSection]:
    assert item.docstring is not None
    yield from item.docstring.parse("google", **options())


def descriptions(item: griffe.Object) -> Iterator[str]:
    for section in sections(item):
        if section.kind.value in LISTED:
            yield from (entry.description for entry in section.value)
        elif section.kind.value == "text":
            yield section.value


def shown(text: str) -> str:
    return markdown.markdown(text, extensions=["fenced_code"])


def test_a_sign_is_no_quotation_and_nothing_is_a_heading(objects):
    assert len(objects) > 800
    for item in objects:
        for text in descriptions(item):
            page = shown(text)
            assert not re.search(r"<(blockquote|h\d|hr)", page), (item.path, text)


def test_every_greater_than_of_a_docstring_is_shown(objects):
    lost = []
    for item in objects:
        for text in descriptions(item):
            prose = re.sub(r"```.*?```|`[^`]*`|<[^>]+>", "", text, flags=re.DOTALL)
            seen = html.unescape(re.sub(r"<[^>]+>", "", shown(prose)))
            if prose.count(">") != seen.count(">"):
                lost.append((item.path, text))
    assert not lost


def test_what_is_returned_is_one_text(objects):
    for item in objects:
        for section in sections(item):
            if section.kind.value in ("returns", "yields"):
                assert len(section.value) == 1, item.path
                assert not section.value[0].name, item.path


@pytest.mark.parametrize(
    ("name", "parameter", "text"),
    [
        ("latentopt.inverse.diagnose.diagnose", "tolerance", "&gt; 0, in units of the loss"),
        ("latentopt.inverse.priors.SquaredNorm", "weight", "&gt;= 0."),
        ("latentopt.inverse.priors.GaussianPrior", "weight", "&gt;= 0, in units of the loss."),
    ],
)
def test_a_parameter_that_begins_with_a_sign_keeps_it(objects, name, parameter, text):
    (item,) = (each for each in objects if each.path == name)
    (found,) = (
        entry
        for section in sections(item)
        if section.kind.value == "parameters"
        for entry in section.value
        if entry.name == parameter
    )
    assert shown(found.description).startswith(f"<p>{text}")
