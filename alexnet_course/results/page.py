"""The results table for a page of the book: plain HTML that reads as a table anywhere.

In the book ``book/_static/results.js`` adds what sorts, filters, searches and copies; on GitHub, in a notebook and
without JavaScript the table stands as it is, and has no button that does nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from alexnet_course.records import NOT_MEASURED
from alexnet_course.results.table import ABLATION, COLUMNS, WORDS, Column, Row, as_csv

RECORDS = "_static/records"  # where the book keeps a copy of each record, seen from the page
LONG = {"published %": "note", "device": "text", "best peer %": "text"}  # columns whose cells take several lines
CAPTION = (
    "One row a recipe and budget, accuracies in per cent. Test: the mean over the seeds, ± their standard deviation "
    "where there are several; the interval is Wilson's. Budget: long is what the recipe asks for; evening is the same "
    "number of epochs for all networks with images of one size; ablation is a small experiment in which one thing "
    "changes; cpu marks older runs, each shortened in its own way. Compare rows within one budget."
)


def results_page(rows: Iterable[Row]) -> str:
    """``rows`` as an HTML fragment for ``IPython.display.HTML``: a table of all ``COLUMNS``, and its CSV as a link.

    Each row also links to its records, under ``RECORDS``, and names the command that repeats it.
    """
    rows = list(rows)
    heads = "".join(f'<th scope="col" class="results-sort">{escape(column.name)}</th>' for column in COLUMNS)
    csv = base64.b64encode(as_csv(rows).encode()).decode()
    return "\n".join(
        [
            '<div class="results">',
            f'<p class="results-bar"><span class="results-count" role="status">{len(rows)} of {len(rows)} rows</span>',
            f'<a href="data:text/csv;charset=utf-8;base64,{csv}" download="results.csv">Download as CSV</a></p>',
            '<div class="results-scroll" role="region" tabindex="0" aria-label="Results table">',
            '<table class="dataframe">',  # the name by which the theme knows tables of cells, in dark mode above all
            f"<caption>{escape(CAPTION)}</caption>",
            f'<thead><tr>{heads}<th scope="col">records</th><th scope="col">command</th></tr></thead>',
            "<tbody>",
            *map(_table_row, rows),
            "</tbody></table></div></div>",
        ]
    )


def _table_row(row: Row) -> str:
    kind = "ablation" if row.recipe.startswith(ABLATION) else "recipe"
    budget = row.budget if row.records else "none"
    cells = "".join(_cell(column, row) for column in COLUMNS)
    command = f'<td class="results-command"><code>{escape(row.command)}</code></td>'
    return f'<tr data-kind="{kind}" data-budget="{escape(budget)}">{cells}{_links(row)}{command}</tr>'


def _cell(column: Column, row: Row) -> str:
    value, text = column.order(row), escape(column.text(row))
    given = "" if value is None else f' data-value="{escape(str(value))}"'
    if column is COLUMNS[0]:
        name = text.replace(".", ".<wbr>")  # where a narrow column may break it
        return f'<th scope="row"{given}>{name}</th>'
    if value is None:
        return f'<td class="results-none">{text}</td>'
    kind = LONG.get(column.name, "word" if column.name in WORDS else "number")
    return f'<td class="results-{kind}"{given}>{text}</td>'


def _links(row: Row) -> str:
    names = zip(row.files, row.records, strict=True)
    links = ", ".join(f'<a href="{RECORDS}/{quote(name)}">seed {record.seed}</a>' for name, record in names)
    return f"<td>{links}</td>" if links else f'<td class="results-none">{NOT_MEASURED}</td>'
