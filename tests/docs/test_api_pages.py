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
LISTED = ("parameters", "attributes", "raises", "returns", "warns", "yields")


def options() -> dict[str, bool]:
    """Of the parser of docstrings, as the site has them."""
    (block,) = re.findall(r"^ +docstring_options:\n((?: {14}.*\n)+)", SITE, re.MULTILINE)
    return yaml.safe_load(block)


@pytest.fixture(scope="module")
def pages() -> dict[str, list[griffe.DocstringSection]]:
    """The sections of every docstring by the path of its object, as the site's hook leaves them."""
    hook = griffe.load_extensions(str(ROOT / "docs/hooks/docstrings.py"))
    package = griffe.load("latentopt", search_paths=[str(ROOT)], extensions=hook)
    assert isinstance(package, griffe.Module)
    settings = options()
    return {path: docstring.parse("google", **settings) for path, docstring in docstrings(package)}


def docstrings(owner: griffe.Object) -> Iterator[tuple[str, griffe.Docstring]]:
    for member in owner.members.values():
        if isinstance(member, griffe.Object):
            if member.docstring:
                yield member.path, member.docstring
            if member.is_module or member.is_class:
                yield from docstrings(member)


def descriptions(sections: list[griffe.DocstringSection]) -> Iterator[str]:
    for section in sections:
        if section.kind.value in LISTED:
            yield from (entry.description for entry in section.value)
        elif section.kind.value == "text":
            yield section.value


MARKDOWN = markdown.Markdown(extensions=["fenced_code"])


def shown(text: str) -> str:
    return MARKDOWN.reset().convert(text)


def letters(text: str) -> str:
    return "".join(text.split())


def written(text: str) -> str:
    """The text without the marks of Markdown: code, emphasis, escapes, links to the reference, numbers of a list."""
    text = re.sub(r"</?(?:autoref|code)[^>]*>|```\w*|`|^\d+\. |\\(?=[>*])", "", text, flags=re.MULTILINE)
    return letters(html.unescape(re.sub(r"(?<![\w*])\*(\w+)\*(?![\w*])", r"\1", text)))


def test_a_page_shows_every_letter_and_sign_of_a_docstring(pages):
    assert len(pages) > 800
    for path, sections in pages.items():
        for text in descriptions(sections):
            page = shown(text)
            assert not re.search(r"<(blockquote|h\d|hr)", page), (path, text)
            assert letters(html.unescape(re.sub(r"<[^>]+>", "", page))) == written(text), path


def test_what_is_returned_is_one_text(pages):
    for path, sections in pages.items():
        for section in sections:
            if section.kind.value in ("returns", "yields"):
                assert len(section.value) == 1, path
                assert not section.value[0].name, path


@pytest.mark.parametrize(
    ("name", "parameter", "text"),
    [
        ("latentopt.inverse.diagnose.diagnose", "tolerance", "&gt; 0, in units of the loss"),
        ("latentopt.inverse.priors.SquaredNorm", "weight", "&gt;= 0."),
        ("latentopt.inverse.priors.GaussianPrior", "weight", "&gt;= 0, in units of the loss."),
    ],
)
def test_a_parameter_that_begins_with_a_sign_keeps_it(pages, name, parameter, text):
    (parameters,) = (section.value for section in pages[name] if section.kind.value == "parameters")
    (entry,) = (entry for entry in parameters if entry.name == parameter)
    assert shown(entry.description).startswith(f"<p>{text}")


def test_a_less_than_before_a_letter_is_no_tag(pages):
    (text,) = descriptions(pages["latentopt.operators.base.Operator.adjoint"][:1])
    assert "&lt;A x, y&gt; = &lt;x, A^T y&gt;" in shown(text)
