"""The results table for a page of the book: plain HTML that reads as a table anywhere.

In the book, ``book/_static/results.js`` adds sorting, filters and a search. On GitHub, in a notebook and without
JavaScript the table is complete, and has no button that does nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from urllib.parse import quote

from alexnet_course.records import NOT_MEASURED
from alexnet_course.results.table import COLUMNS, INTERVAL, MAIN_COLUMNS, NOT_GIVEN, WORDS, Column, Row, as_csv

RECORDS = "_static/records"  # where the book keeps a copy of each record, seen from the page
ABLATION_COLUMNS = ("recipe", "test %", "epochs", "parameters", "time", INTERVAL, "seeds")
CAPTION = (
    "One row for each recipe and budget, accuracies in per cent. Test: the mean over the seeds, ± their standard "
    "deviation where there are several. The interval is Wilson's; it covers other test images, not another training. "
    "Budget: long is what the recipe asks for; evening is the same number of epochs for all networks with images of "
    "one size; cpu marks older runs, each shortened in its own way. Compare rows of one budget and equal epochs, and "
    "times only if they were measured on one device with equally many threads, which the record names. The time is the "
    "median over the seeds. The last column links to the records, one for each seed."
)
ABLATION_CAPTION = (
    "One row for each ablation: a reduced network on a part of the images, mostly with one setting of its group's base "
    "changed. Compare rows of one group and equal epochs; recipe names the group and the change."
)


def results_page(rows: Iterable[Row], names: Sequence[str] = MAIN_COLUMNS, caption: str = CAPTION) -> str:
    """``rows`` as an HTML fragment for ``IPython.display.HTML``: a table with the columns ``names`` under ``caption``.

    The column of seeds links to the records, under ``RECORDS``. Above the table is a link to a CSV file, which has
    every figure of these rows, and the command that repeats each. On a phone the book shows the first four columns.
    """
    rows = list(rows)
    columns = [column for name in names for column in COLUMNS if column.name == name]
    heads = "".join(f'<th scope="col" class="results-sort">{escape(column.name)}</th>' for column in columns)
    csv = base64.b64encode(as_csv(rows).encode()).decode()
    return "\n".join(
        [
            '<div class="results">',
            f'<p class="results-bar"><span class="results-count" role="status">{len(rows)} of {len(rows)} rows</span>',
            f'<a href="data:text/csv;charset=utf-8;base64,{csv}" download="results.csv">Every figure as CSV</a></p>',
            '<div class="results-scroll" role="region" tabindex="0" aria-label="Results table">',
            '<table class="dataframe">',  # the name by which the theme knows tables of cells, in dark mode above all
            f"<caption>{escape(caption)}</caption>",
            f"<thead><tr>{heads}</tr></thead>",
            "<tbody>",
            *(_table_row(row, columns) for row in rows),
            "</tbody></table></div></div>",
        ]
    )


def _table_row(row: Row, columns: Sequence[Column]) -> str:
    budget = row.budget if row.records else "none"
    return f'<tr data-budget="{escape(budget)}">{"".join(_cell(column, row) for column in columns)}</tr>'


def _cell(column: Column, row: Row) -> str:
    value, text = column.order(row), escape(column.text(row))
    if column.name == "seeds" and not row.records:
        value = None  # so that it is sorted with the cells without a figure
    given = "" if value is None else f' data-value="{escape(str(value))}"'
    if column is COLUMNS[0]:
        name = text.replace(".", ".<wbr>").replace("-", "-<wbr>")  # where a narrow column may break it
        return f'<th scope="row"{given}>{name}</th>'
    if column.name == "seeds":
        return f"<td{given}>{_links(row) or NOT_GIVEN}</td>"
    if value is None:
        # Said once for each row, beside its recipe.
        return f'<td class="results-none">{"" if text == NOT_MEASURED and column.name != "test %" else text}</td>'
    kind = "note" if column.name in ("published %", INTERVAL) else "word" if column.name in WORDS else "number"
    return f'<td class="results-{kind}"{given}>{text}</td>'


def _links(row: Row) -> str:
    names = zip(row.files, row.records, strict=True)
    return " ".join(f'<a href="{RECORDS}/{quote(name)}">seed&nbsp;{record.seed}</a>' for name, record in names)
