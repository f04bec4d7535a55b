"""Parts of a page that is one file: escaped texts, pictures inside, no scripts, nothing from a network."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from html import escape

_STYLE = """
body { margin: 0 auto; padding: 1rem; max-width: 62rem; color: #1a1a1a; background: #fff;
       font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; line-height: 1.25; }
h2 { font-size: 1.15rem; margin-top: 2rem; }
table { border-collapse: collapse; }
th, td { padding: .25rem .75rem .25rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #ddd; }
td { font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1rem; }
figcaption { font-size: .85rem; color: #444; }
img { max-width: 100%; height: auto; }
pre { overflow-x: auto; padding: .75rem; background: #f4f4f4; font-size: .85rem; }
.many { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)); }
"""


def page(title: str, sections: Iterable[str]) -> str:
    """A whole page; ``sections`` are HTML, from the functions below."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{escape(title)}</h1>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """HTML below a heading; nothing where there is no HTML."""
    return f"<section>\n<h2>{escape(title)}</h2>\n{''.join(parts)}</section>\n" if any(parts) else ""


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], marked: str = "") -> str:
    """A table whose rows begin with their headings; the row headed ``marked`` is of the class ``varies``."""
    top = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    body = "".join(_row(row, marked) for row in rows)
    return f"<table>\n<thead><tr>{top}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _row(row: Sequence[str], marked: str) -> str:
    cells = "".join(f"<td>{escape(cell)}</td>" for cell in row[1:])
    kind = ' class="varies"' if marked and row[0] == marked else ""
    return f'<tr{kind}><th scope="row">{escape(row[0])}</th>{cells}</tr>\n'


def figure(png: bytes, alt: str, caption: str = "") -> str:
    """A picture, with the lines of its caption below it."""
    lines = "<br>".join(escape(line) for line in caption.splitlines())
    below = f"<figcaption>{lines}</figcaption>" if caption else ""
    source = f"data:image/png;base64,{b64encode(png).decode()}"
    return f'<figure><img alt="{escape(alt)}" src="{source}">{below}</figure>\n'


def side_by_side(figures: Sequence[str]) -> str:
    """Figures in as many columns as the screen has room for."""
    return f'<div class="many">\n{"".join(figures)}</div>\n' if figures else ""


def folded(summary: str, text: str) -> str:
    """Preformatted text that opens with a click."""
    return f"<details>\n<summary>{escape(summary)}</summary>\n<pre>{escape(text)}</pre>\n</details>\n"
