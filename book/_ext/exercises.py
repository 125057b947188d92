"""Exercises on the page: what an untouched check prints is left out.

Under an exercise stand a cell to fill in, its check and, folded, a solution.
In the notebook the check prints ``not yet: ...`` as long as nothing is filled
in. A page cannot be filled in, so the line would say nothing to its reader.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

CHECK = re.compile(r"^attempt\(check_\w+\)$", re.MULTILINE)
UNTOUCHED = "not yet: "


class Exercises(SphinxPostTransform):
    default_priority = 198  # before myst_nb folds cells, with 199

    def run(self, **kwargs: Any) -> None:
        for cell in list(self.document.findall(nodes.container)):
            if cell.get("nb_element") == "cell_code":
                shorten(cell)


def shorten(cell: nodes.container) -> None:
    """Take the output of ``cell`` away where it is an untouched check."""
    parts = {child.get("nb_element"): child for child in cell.children}
    code, output = (parts.get(f"cell_code_{p}") for p in ("source", "output"))
    if code is None or output is None or not CHECK.search(code.astext()):
        return
    if output.astext().startswith(UNTOUCHED):
        cell.remove(output)


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_post_transform(Exercises)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
