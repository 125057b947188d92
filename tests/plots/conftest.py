"""Figures are drawn in the style of the course, as in its chapters."""

from collections.abc import Iterator

import matplotlib.pyplot as plt
import pytest

from alexnet_course import plots


@pytest.fixture(autouse=True)
def style() -> Iterator[None]:
    with plt.rc_context():
        plots.use_style()
        yield
        plt.close("all")
