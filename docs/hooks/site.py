"""What the site takes from outside docs/: the notebooks, where there are some; the gallery only once it is there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
OPTIONAL = ("gallery.md",)
"""Pages that a command makes; the site can be built before they are made."""


def notebooks() -> list[str]:
    """Their paths from the repository's root, in the order of their numbers."""
    names = [path.relative_to(ROOT).as_posix() for path in (ROOT / "notebooks").glob("*.ipynb")]
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    docs, nav = Path(config.docs_dir), list[Any](config.nav or [])
    entries = [entry for entry in nav if not _is_missing(entry, docs)]
    if names := notebooks():
        position = next((place for place, entry in enumerate(entries) if "Results" in entry), len(entries))
        entries.insert(position, {"Notebooks": names})
    config.nav = entries
    return config


def _is_missing(entry: Any, docs: Path) -> bool:
    return isinstance(entry, dict) and any(page in OPTIONAL and not (docs / page).is_file() for page in entry.values())


def on_page_markdown(markdown: str, page: Page, **kwargs: Any) -> str:
    """Rewrite links to notebooks, which lie beside docs/ in the repository; let the search list results last."""
    is_report = page.file.src_uri.startswith(("benchmarks", "analysis/", "notebooks/", "results", "runs", "research"))
    page.meta["search"] = {"boost": 0.5 if is_report else 1}
    up = "../" * page.file.src_uri.count("/")
    return markdown.replace(f"](../{up}notebooks/", f"]({up}notebooks/")


def on_post_page(output: str, page: Page, **kwargs: Any) -> str:
    """Links from notebooks, the same the other way round."""
    if not page.file.src_uri.startswith("notebooks/"):
        return output
    output = re.sub(r'((?:href|src)="\.\./)docs/', r"\1", output)
    return re.sub(r'(href="(?!\w+:)[^"#]*)\.(?:md|ipynb)(["#])', r"\1.html\2", output)


@event_priority(100)  # before mkdocs-jupyter, which turns them into pages
def on_files(files: Files, config: MkDocsConfig) -> Files:
    for name in notebooks():
        files.append(File(name, str(ROOT), config.site_dir, config.use_directory_urls))
    return files
