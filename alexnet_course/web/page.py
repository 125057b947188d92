"""The page "See inside": its views as HTML, a network and images as scripts, and all of it in one file."""

from __future__ import annotations

import base64
import html
import json
import re
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from alexnet_course.data.photos import load_photos
from alexnet_course.data.sources import load_dataset

FOLDER = Path(__file__).parent
VIEWS: dict[str, dict[str, str]] = tomllib.loads((FOLDER / "views.toml").read_text(encoding="utf-8"))
"""By name, in their order: ``title``, ``question`` (to answer before playing) and ``look`` (to read afterwards)."""
ACCURACY = FOLDER / "accuracy.json"  # written by benchmarks/quantised.py
SCRIPTS = ("engine.js", "inside.js")
STYLE = "inside.css"
SAMPLES = "(samples)"  # the images beside the networks of a page; no network can have this name


def measured_accuracy(name: str) -> dict[str, float]:
    """Accuracy of the package's network ``name`` on its test images: in ``fp32``, with its weights ``quantised`` to 8
    bits, and how often both give the ``same_class``. Fractions of 1."""
    accuracy: dict[str, dict[str, float]] = json.loads(ACCURACY.read_text(encoding="utf-8"))["accuracy"]
    return accuracy[name]


def network_script(network: dict[str, Any]) -> str:
    """The script that hands a network of ``describe`` to the page."""
    return _script(network["name"], network)


def network_in(page: str) -> dict[str, Any]:
    """The network in a page that ``standalone_page`` wrote."""
    config = re.search(r'class="inside-config">(.*?)</script>', page)
    assert config is not None
    name = json.loads(config[1])["networks"][0]["name"]
    begin = f"{_assignment(name)}"
    line = next(line for line in page.splitlines() if begin in line)
    network: dict[str, Any] = json.loads(line.partition(begin)[2].rpartition(";")[0])
    return network


def sample_images() -> list[tuple[str, Tensor]]:
    """The page's images with their labels, uint8 of 3×32×32: a doodle of each class, and the package's photographs."""
    doodles = load_dataset("doodles", "test")
    first = {int(label): index for index, label in reversed(list(enumerate(doodles.labels.tolist())))}
    images = [(f"doodle: {name}", doodles.images[first[label]]) for label, name in enumerate(doodles.classes)]
    images += [(f"photograph: {name}", image) for name, image in load_photos().items()]
    return images


def sample_script() -> str:
    """The script that hands the page its images."""
    return _script(SAMPLES, [{"label": label, "pixels": _pixels(image)} for label, image in sample_images()])


def _pixels(image: Tensor) -> str:
    return base64.b64encode(image.numpy().tobytes()).decode()


def _script(name: str, value: Any) -> str:
    content = json.dumps(value, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    return f"{_assignment(name)}{content};\n"


def _assignment(name: str) -> str:
    return f"(globalThis.alexnetInside ??= {{}})[{json.dumps(name)}] = "


def config_html(networks: Sequence[tuple[str, str]], samples: str) -> str:
    """Where the page finds its ``networks``, (name, address) each, and its ``samples``."""
    config = {"networks": [{"name": name, "script": address} for name, address in networks], "samples": samples}
    return f'<script type="application/json" class="inside-config">{json.dumps(config)}</script>'


def view_html(name: str) -> str:
    """One view of ``VIEWS``: its question, the element that ``inside.js`` fills, and what to look at."""
    view = VIEWS[name]
    return (
        f'<div class="see-inside" data-view="{name}">'
        f'<p class="inside-question"><strong>Predict.</strong> {html.escape(view["question"])}</p>'
        f'<div class="inside-tool" role="group" aria-label="{html.escape(view["title"])}">'
        "<p>This view needs JavaScript.</p></div>"
        f'<p class="inside-look"><strong>Look.</strong> {html.escape(view["look"])}</p></div>'
    )


def standalone_page(network: dict[str, Any]) -> str:
    """A page of one file with the network of ``describe`` and all views, which works from a disk and without a network
    connection."""
    title = html.escape(f"See inside {network['name']}")
    views = "".join(
        f'<h2 id="inside-{name}">{html.escape(view["title"])}</h2>{view_html(name)}' for name, view in VIEWS.items()
    )
    scripts = [network_script(network), sample_script(), *(read(name) for name in SCRIPTS)]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title>',
        '<link rel="icon" href="data:,">',
        f"<style>{read(STYLE)}</style></head>",
        f'<body class="inside-page"><main><h1>{title}</h1>{views}</main>',
        config_html([(network["name"], "")], ""),
        *(f"<script>{script}</script>" for script in scripts),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def read(name: str) -> str:
    """One of the page's own files."""
    return (FOLDER / name).read_text(encoding="utf-8")
