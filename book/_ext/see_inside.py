"""The directive ``{see-inside} VIEW``: a network that runs in the page.

The views come from ``alexnet_course.web``; here their HTML gets into the book,
and their scripts beside the book's own. The first view of a page brings the
scripts along. Networks and images are loaded when a reader opens a view.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from alexnet_course import list_pretrained, load_pretrained
from alexnet_course.files import write_text
from alexnet_course.web import (
    VIEWS,
    config_html,
    describe,
    measured_accuracy,
    network_script,
    sample_script,
    view_html,
)
from alexnet_course.web.page import SCRIPTS, STYLE, read

PLACE = "_static/inside"
FIRST, *_ = VIEWS


def head() -> str:
    """What a page needs once: styles, scripts, and where networks are."""
    names = list_pretrained()
    networks = [(name, f"{PLACE}/{name}.js") for name in names]
    scripts = "".join(
        f'<script defer src="{PLACE}/{name}"></script>' for name in SCRIPTS
    )
    return (
        f'<link rel="stylesheet" href="{PLACE}/{STYLE}">'
        f"{config_html(networks, f'{PLACE}/samples.js')}{scripts}"
    )


class SeeInside(SphinxDirective):
    """``{see-inside} VIEW``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        if name not in VIEWS:
            raise ExtensionError(
                f"see-inside {name!r} is none of {', '.join(VIEWS)}."
            )
        self.env.note_reread()  # networks may change though the page does not
        once = head() if name == FIRST else ""
        return [nodes.raw("", once + view_html(name), format="html")]


def write_files(app: Sphinx, error: Exception | None) -> None:
    """The page's scripts, its networks and its images."""
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir, PLACE)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*SCRIPTS, STYLE):
        write_text(folder / name, read(name))
    write_text(folder / "samples.js", sample_script())
    for name in list_pretrained():
        network = describe(*load_pretrained(name), measured_accuracy(name))
        write_text(folder / f"{name}.js", network_script(network))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("see-inside", SeeInside)
    app.connect("build-finished", write_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
