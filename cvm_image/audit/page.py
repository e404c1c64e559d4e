"""The report of a check as one page of HTML: no script, nothing from elsewhere, every value escaped."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final

from .check import Report
from .perturb import PERTURBATIONS

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid #ddd; }
td.hash, pre { font-family: ui-monospace, monospace; font-size: .85rem; overflow-wrap: anywhere; }
pre { background: #f6f6f6; padding: 1rem; white-space: pre-wrap; }
.same { color: #1a7f37; } .differs { color: #b00020; font-weight: bold; } .left { color: #8a6100; }
@media (prefers-color-scheme: dark) {
  body { background: #161616; color: #e6e6e6; } th, td { border-color: #3a3a3a; } pre { background: #222; }
  .same { color: #57c776; } .differs { color: #ff6b7d; } .left { color: #e0b050; }
}
"""


def page(report: Report, profile: str) -> str:
    """The report as a page.

    Args:
        report: of a check.
        profile: name of what was checked.
    """
    comparison = report.comparison
    same = comparison.identical
    verdict = "Identical bytes" if same else f"Different from stage {comparison.first or 'documents'} on"
    body = [
        f"<h1>Two builds of the image {escape(profile)}</h1>",
        f'<p class="{"same" if same else "differs"}">{escape(verdict)}</p>',
        "<h2>Stages</h2>",
        _table(("stage", "", "first build", "second build"), (_stage(*stage) for stage in comparison.stages)),
        "<h2>Conditions</h2>",
        _table(("condition", "the second build had", ""), _conditions(report)),
    ]
    if comparison.differences:
        columns = ("file", "field", "first build", "second build", "likely cause", "cure")
        body += ["<h2>Differences</h2>", _table(columns, (_difference(*_row(item)) for item in comparison.differences))]
    if report.guilty:
        names = escape(" or ".join(report.guilty))
        body.append(f"<p>Without <strong>{names}</strong> both builds are the same.</p>")
    if report.deeper:
        body += ["<h2>diffoscope, of the first difference</h2>", f"<pre>{escape(report.deeper)}</pre>"]
    head = f'<meta charset="utf-8"><title>{escape(profile)}: {escape(verdict)}</title><style>{_STYLE}</style>'
    head += '<meta name="viewport" content="width=device-width">'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _table(columns: Iterable[str], rows: Iterable[str]) -> str:
    header = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f"<table><tr>{header}</tr>\n" + "\n".join(rows) + "</table>"


def _stage(name: str, a: str, b: str) -> str:
    word = "same" if a == b else "differs"
    second = "" if a == b else escape(b)
    return (
        f'<tr><td>{escape(name)}</td><td class="{word}">{word}</td>'
        f'<td class="hash">{escape(a)}</td><td class="hash">{second}</td></tr>'
    )


def _conditions(report: Report) -> Iterable[str]:
    left = dict(report.not_varied)
    for item in PERTURBATIONS:
        reason = left.get(item.name)
        note = f'<span class="left">not varied: {escape(reason)}</span>' if reason is not None else "varied"
        yield f"<tr><td>{escape(item.name)}</td><td>{escape(item.what)}</td><td>{note}</td></tr>"


def _row(item: object) -> tuple[str, ...]:
    return tuple(str(getattr(item, name)) for name in ("path", "field", "a", "b", "cause", "cure"))


def _difference(*values: str) -> str:
    return "<tr>" + "".join(f'<td class="hash">{escape(value)}</td>' for value in values) + "</tr>"
