"""Exercises on the page: their checks and solutions are named, and short.

Under an exercise stand a cell to fill in, its check and, folded, a solution.
In the notebook the check prints ``not yet: ...`` as long as nothing is filled
in. A page cannot be filled in, so there the line is left out, and what is
folded says what it is.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

CHECK = re.compile(r"^attempt\(check_\w+\)$", re.MULTILINE)
SOLUTION = re.compile(r"^check_\w+\(\)$", re.MULTILINE)
UNTOUCHED = "not yet: "


class Exercises(SphinxPostTransform):
    """Before myst_nb folds cells, with a priority of 199."""

    default_priority = 198

    def run(self, **kwargs: Any) -> None:
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code":
                shorten(cell)


def shorten(cell: nodes.container) -> None:
    """Name what is folded in ``cell``; drop what an untouched check says."""
    parts = {child.get("nb_element"): child for child in cell.children}
    if "cell_code_source" not in parts:
        return
    code = parts["cell_code_source"].astext()
    if CHECK.search(code):
        name(cell, "check")
        output = parts.get("cell_code_output")
        if output is not None and output.astext().startswith(UNTOUCHED):
            cell.remove(output)
    elif SOLUTION.search(code):
        name(cell, "solution in code")


def name(cell: nodes.container, what: str) -> None:
    if cell.get("hide_mode"):
        cell["prompt_show"] = f"Show the {what}"
        cell["prompt_hide"] = f"Hide the {what}"


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(Exercises)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
