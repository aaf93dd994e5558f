"""One HTML file that needs nothing else: no script, no request, pictures as data URIs.

Every function takes plain text and escapes it; what they return is HTML, which only `section`,
`details` and `page` take. So no class name or path can become markup.
"""

from __future__ import annotations

import base64
import html
import io
import unicodedata
from collections.abc import Iterable, Sequence

from PIL import Image

_WIDEST = 1600  # pixels of a picture in the page; the file beside it has them all

STYLE = """
:root { color-scheme: light; --ink: #1d2430; --quiet: #4b5563; --line: #d5d9e0; --soft: #f4f6f8; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 72rem; color: var(--ink); background: #fff;
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: #0b57a4; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; margin: 1rem 0; padding: 0;
  list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.facts { display: grid; gap: .75rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); }
.facts div { background: var(--soft); border-radius: .5rem; padding: .6rem .8rem; }
.facts dt { color: var(--quiet); font-size: .85rem; }
.facts dd { margin: 0; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.facts small { display: block; color: var(--quiet); font-size: .8rem; }
.pictures { display: grid; gap: 0 1.5rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 27rem), 1fr)); }
figure { margin: .75rem 0; min-width: 0; max-width: 36rem; }
figure.wide { max-width: none; }
figure img { display: block; max-width: 100%; height: auto; }
figcaption { color: var(--quiet); font-size: .875rem; max-width: 46rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:focus-visible { outline: 3px solid #0b57a4; }
.wide .scroll img { max-width: none; width: 100%; min-width: 44rem; }
table { border-collapse: collapse; min-width: min(100%, 20rem); font-size: .9rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--quiet); padding-bottom: .25rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: right; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: normal; white-space: nowrap; }
th:first-child, td:first-child, .words th, .words td { text-align: left; }
.words td { overflow-wrap: anywhere; white-space: normal; min-width: 6rem; }
thead th { border-bottom: 2px solid var(--ink); }
tbody th { font-weight: 600; }
.missing { background: #fff7e0; border-left: .25rem solid #b07d00; padding: .5rem .75rem; }
.missing code { display: block; }
pre { background: var(--soft); padding: .6rem .8rem; border-radius: .5rem; overflow-x: auto;
  white-space: pre-wrap; font-size: .85rem; }
summary { cursor: pointer; padding: .35rem 0; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .875rem;
  border-top: 1px solid var(--line); }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .wide .scroll img { min-width: 0; }
}
"""


def text(value: object) -> str:
    """Plain text as HTML; control characters and lone surrogates, which it lacks, as U+FFFD."""
    clean = (
        "\ufffd" if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t" else c
        for c in str(value)
    )
    return html.escape("".join(clean))


def paragraph(words: str) -> str:
    return f"<p>{text(words)}</p>\n"


def missing(words: str, command: str = "") -> str:
    """What is not there, and the command that makes it."""
    how = f"\n<code>{text(command)}</code>" if command else ""
    return f'<p class="missing">{text(words)}{how}</p>\n'


def code(words: str) -> str:
    return f"<pre><code>{text(words)}</code></pre>\n"


def facts(values: Iterable[tuple[str, str, str]]) -> str:
    """Large numbers: (name, value, small print)."""
    items = "".join(
        f"<div><dt>{text(name)}</dt><dd>{text(value)}<small>{text(small)}</small></dd></div>\n"
        for name, value, small in values
    )
    return f'<dl class="facts">\n{items}</dl>\n'


def table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], *, words: bool = False
) -> str:
    """A table whose first column names its rows; `words`: cells are text, aligned left."""
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in header)
    body = "".join(
        f'<tr><th scope="row">{text(first)}</th>'
        + "".join(f"<td>{text(cell)}</td>" for cell in rest)
        + "</tr>\n"
        for first, *rest in rows
    )
    kind = ' class="words"' if words else ""
    inner = f"<table{kind}>\n<caption>{text(caption)}</caption>\n"
    inner += f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>"
    return _scrolling(inner, caption)


def picture(
    image: Image.Image, *, alt: str, caption: str = "", wide: bool = False, photos: bool = False
) -> str:
    """A picture in the page.

    Args:
      image: the picture.
      alt: what it shows, for those who do not see it.
      caption: below it.
      wide: it takes the whole width, and scrolls on a narrow screen.
      photos: it holds photographs: as JPEG, a tenth of their size as PNG.
    """
    if image.width > _WIDEST:
        size = (_WIDEST, round(image.height * _WIDEST / image.width))
        image = image.resize(size, Image.Resampling.LANCZOS)
    buffer, kind = io.BytesIO(), "jpeg" if photos else "png"
    options = {"quality": 85} if photos else {"optimize": True}
    image.convert("RGB").save(buffer, kind, **options)
    data = base64.b64encode(buffer.getvalue()).decode()
    size = f'width="{image.width}" height="{image.height}"'
    shown = f'<img src="data:image/{kind};base64,{data}" {size} alt="{text(alt)}">'
    shown = _scrolling(shown, alt) if wide else shown
    below = f"<figcaption>{text(caption)}</figcaption>" if caption else ""
    place = ' class="wide"' if wide else ""
    return f"<figure{place}>{shown}\n{below}</figure>\n"


def beside(pictures: Iterable[str]) -> str:
    """Pictures side by side where there is room."""
    return f'<div class="pictures">\n{"".join(pictures)}</div>\n'


def details(summary: str, inner: str) -> str:
    """What is shown when asked for."""
    return f"<details><summary>{text(summary)}</summary>\n{inner}</details>\n"


def section(name: str, heading: str, inner: Iterable[str]) -> str:
    """A part of the page; `name` is its anchor."""
    anchor = text(name)
    return (
        f'<section id="{anchor}" aria-labelledby="{anchor}-heading">\n'
        f'<h2 id="{anchor}-heading">{text(heading)}</h2>\n{"".join(inner)}</section>\n'
    )


def subheading(words: str) -> str:
    return f"<h3>{text(words)}</h3>\n"


def page(
    title: str, lead: Iterable[str], sections: Sequence[tuple[str, str, Iterable[str]]], made: str
) -> str:
    """The whole file.

    Args:
      title: of the page.
      lead: HTML before the first section.
      sections: (anchor, heading, HTML).
      made: when and by what, at the bottom.
    """
    links = "".join(f'<li><a href="#{text(a)}">{text(h)}</a></li>\n' for a, h, _ in sections)
    body = "".join(section(*of) for of in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<header>\n"
        f"<h1>{text(title)}</h1>\n{''.join(lead)}</header>\n"
        f'<nav aria-label="Sections"><ul>\n{links}</ul></nav>\n<main>\n{body}</main>\n'
        f"<footer>{paragraph(made)}</footer>\n</body>\n</html>\n"
    )


def _scrolling(inner: str, label: str) -> str:
    # With a tab stop, so that it scrolls by keyboard too.
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{text(label)}">{inner}</div>'
    )
