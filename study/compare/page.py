"""One HTML file that needs nothing else: no script, no font, no other picture."""

import base64
import math
from collections.abc import Sequence
from html import escape

from study.compare.section import Cell, Picture, Section, Shown, Table

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 61rem; padding: 2rem 1.5rem 4rem; color: #1c1e21;
  background: #fff; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem; text-wrap: balance; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .3rem; padding-top: .8rem;
  border-top: 1px solid #dadce0; }
p { margin: .4rem 0 .8rem; max-width: 50rem; overflow-wrap: anywhere; }
.lead, .note, .absent, caption { color: #5f6368; }
.note, .absent { font-size: .875rem; }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0; }
table { border-collapse: collapse; margin: .8rem 0 1.2rem; font-size: .875rem;
  line-height: 1.4; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid #e8eaed; overflow-wrap: anywhere; min-width: 4.5rem; }
th { font-weight: 600; border-bottom: 1.5px solid #9aa0a6; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  min-width: 0; }
th.n { white-space: normal; overflow-wrap: normal; }
.w { min-width: 11rem; }
td:is(.PASS, .FAIL, .INVALID) { white-space: nowrap; font-weight: 600; }
.PASS { color: #146c2e; }
.FAIL { color: #8a4b00; }
.INVALID { color: #b3261e; }
@page { margin: 15mm; }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  section { break-inside: avoid-page; }
  h2 { break-after: avoid; }
  tr, img { break-inside: avoid; }
  section img { max-height: 62mm; max-width: 90%; }
  table { font-size: 8.5pt; }
  th, td { padding-right: .5rem; }
}
"""


def page(title: str, lead: str, top: Picture, parts: Sequence[Section]) -> str:
    """The page, its title the finding; text in it is never taken for markup."""
    body = "\n".join(_section(part) for part in parts)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<header>
<h1>{_text(title)}</h1>
<p class="lead">{_text(lead)}</p>
{_picture(top)}
</header>
<main>
{body}
</main>
</body>
</html>
"""


def _section(part: Section) -> str:
    lines = [f'<section id="{escape(part.key)}">', f"<h2>{_text(part.title)}</h2>"]
    if part.absent:
        return "\n".join(
            [*lines, f'<p class="absent">Left out. {_text(part.absent)}</p></section>']
        )
    lines.append(f"<p>{_text(part.reading)}</p>")
    lines += map(_picture, part.pictures)
    lines += map(_table, part.tables)
    lines += [f'<p class="note">{_text(note)}</p>' for note in part.notes]
    return "\n".join([*lines, "</section>"])


def _picture(picture: Picture) -> str:
    data = base64.b64encode(picture.svg).decode()
    alt = escape(picture.alt)
    return f'<img alt="{alt}" src="data:image/svg+xml;base64,{data}">'


def _table(table: Table) -> str:
    numeric = [
        any(isinstance(row[n], Shown) for row in table.rows)
        for n in range(len(table.heads))
    ]
    kinds = [
        "w" if head in table.wide else "n" if is_number else ""
        for head, is_number in zip(table.heads, numeric, strict=True)
    ]
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    heads = "".join(
        f"<th{_class('n' if kind == 'n' else '')}>{_text(head)}</th>"
        for head, kind in zip(table.heads, kinds, strict=True)
    )
    rows = [
        "".join(_cell(cell, kind) for cell, kind in zip(row, kinds, strict=True))
        for row in table.rows
    ]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<table>{caption}\n<thead><tr>{heads}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table>"
    )


def _cell(cell: Cell, kind: str) -> str:
    if isinstance(cell, Shown):
        inner = f'<data value="{_exact(cell.value)}">{_text(cell.text)}</data>'
        return f"<td{_class(kind)}>{inner}</td>"
    if cell in ("PASS", "FAIL", "INVALID"):
        kind = cell
    return f"<td{_class(kind)}>{_text(cell)}</td>"


def _text(text: str) -> str:
    """Never taken for markup; a per cent sign stays with its number."""
    return escape(text).replace(" %", "&nbsp;%")


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""


def _exact(value: float) -> str:
    """All digits, and what is not finite as comparison.json has it."""
    return repr(float(value)) if math.isfinite(value) else str(float(value))
