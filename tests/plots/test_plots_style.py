"""The look that all figures share."""

import matplotlib.pyplot as plt

from alexnet_course import plots


def test_style_is_white_and_readable():
    with plt.rc_context():
        plots.use_style()
        assert plt.rcParams["figure.facecolor"] == plt.rcParams["axes.facecolor"] == "white"
        assert min(plt.rcParams[f"{axis}tick.labelsize"] for axis in "xy") >= 10
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == list(plots.PALETTE)


def test_a_chapter_of_many_figures_can_have_smaller_ones():
    with plt.rc_context():
        plots.use_style()
        usual = plt.rcParams["figure.dpi"]
        plots.use_style(dpi=90)
        assert plt.rcParams["figure.dpi"] == 90 < usual
