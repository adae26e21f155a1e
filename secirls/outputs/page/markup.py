"""Text, tables, pictures and data as HTML.

Promises: whatever is not markup of our own is escaped, data too, so that no name can end a text, an attribute or a
script; pictures and data are inside the page. Refuses to know: what is shown.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from typing import Any


def text(value: object) -> str:
    """Escaped for elements and quoted attributes."""
    return html.escape(str(value), quote=True)


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: bool = False) -> str:
    """A table whose first cells name their rows; ``words`` stand on the left, numbers on the right."""
    kind = ' class="words"' if words else ""
    heads = "".join(f'<th scope="col">{text(name)}</th>' for name in head)
    lines = [f"<table{kind}><thead><tr>{heads}</tr></thead><tbody>"]
    lines += [f"<tr>{row_header(row[0])}{_cells(row[1:])}</tr>" for row in rows]
    return "\n".join(lines) + "</tbody></table>"


def row_header(name: str) -> str:
    """The cell that names a row."""
    return f'<th scope="row">{text(name)}</th>'


def _cells(row: Sequence[str]) -> str:
    return "".join(f"<td>{text(cell)}</td>" for cell in row)


def section(anchor: str, title: str, *parts: str) -> str:
    """A part of the page that its contents lead to."""
    return "\n".join([f'<section id="{text(anchor)}"><h2>{text(title)}</h2>', *parts, "</section>"])


def folded(title: str, body: str) -> str:
    """What is there for who opens it."""
    return f"<details><summary>{text(title)}</summary>{body}</details>"


def picture(png: bytes, caption: str) -> str:
    """A PNG within the page, and the words below it."""
    inside = base64.b64encode(png).decode("ascii")
    image = f'<img alt="{text(caption)}" src="data:image/png;base64,{inside}">'
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"


def data(anchor: str, value: Any) -> str:
    """JSON that a script finds by its anchor; nothing in it can end the element it stands in.

    Raises `ValueError` for numbers that JSON has not.
    """
    told = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        told = told.replace(sign, f"\\u{ord(sign):04x}")
    return f'<script type="application/json" id="{text(anchor)}">{told}</script>'


def asset(name: str) -> str:
    """A file of ours that goes into the page as it is."""
    return files("secirls.outputs.page").joinpath(name).read_text(encoding="utf-8")


def page(title: str, body: Sequence[str], *, style: str, script: str) -> str:
    """A whole page that fetches nothing and runs this script alone."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{text(title)}</title>",
        f"<style>{style}</style></head><body>",
    ]
    return "\n".join([*head, *body, f"<script>{script}</script>", "</body></html>"]) + "\n"
