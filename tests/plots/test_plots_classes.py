"""The figures of classes: they show what they were given, and say where nothing is measured."""

import numpy as np
import pytest
import torch
from drawn import legend, points, record, written

from alexnet_course import CourseError, plots
from alexnet_course.training import Bin


class TestConfusionMatrix:
    def test_writes_shares_of_the_true_class_and_shades_mistakes(self):
        (axes,) = plots.confusion_matrix([[8, 2, 0], [0, 5, 0], [1, 0, 999]], ["cat", "dog", "deer"]).axes
        assert written(axes) == ["80", "20", "100", "100"]  # 0.1 % of the deer are not written
        shades = np.asarray(axes.images[0].get_array())
        assert shades.tolist() == [[0, 20, 0], [0, 0, 0], [pytest.approx(0.1), 0, 0]]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "deer"]

    def test_refuses_a_table_that_does_not_fit_the_names(self):
        with pytest.raises(CourseError, match=r"\(2, 2\) counts for 3 classes"):
            plots.confusion_matrix([[1, 0], [0, 1]], ["a", "b", "c"])


class TestPerClass:
    def test_draws_the_mean_over_seeds_sorted_by_class(self):
        runs = {
            "one": [record(cat=0.5, dog=0.8), record(cat=0.7, dog=0.8)],
            "two": [record(cat=0.9, dog=0.6)],
            "three": [],
        }
        figure = plots.per_class(runs)
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["dog", "cat"]  # 70 and 75 in the mean
        assert points(axes, "o") == [(pytest.approx(80), 0), (pytest.approx(60), 1)]
        assert points(axes, "s") == [(pytest.approx(60), 0), (pytest.approx(90), 1)]
        assert legend(figure) == ["one", "two", "three: not measured"]

    def test_of_nothing_names_what_is_not_measured(self):
        assert legend(plots.per_class({"one": []})) == ["one: not measured"]

    def test_refuses_what_cannot_be_told_apart_or_compared(self):
        with pytest.raises(CourseError, match="5 labels; give at most 4"):
            plots.per_class({str(number): [] for number in range(5)})
        with pytest.raises(CourseError, match="different classes"):
            plots.per_class({"one": [record(cat=0.5)], "two": [record(dog=0.5)]})


class TestConfusionSideBySide:
    def test_shares_of_each_true_class_are_on_one_scale(self):
        figure = plots.confusion_side_by_side({"a": [[8, 2], [0, 5]], "b": [[1, 1], [1, 3]]}, ["cat", "dog"])
        panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
        assert np.asarray(panels["a"].images[0].get_array()).tolist() == [[80, 20], [0, 100]]
        assert np.asarray(panels["b"].images[0].get_array()).tolist() == [[50, 50], [25, 75]]
        assert panels["a"].images[0].norm is panels["b"].images[0].norm
        assert [label.get_text() for label in panels["a"].get_yticklabels()] == ["cat", "dog"]

    @pytest.mark.parametrize("count", [2, 3, 4])
    def test_the_lowest_panel_of_each_column_names_the_classes(self, count):
        figure = plots.confusion_side_by_side({str(k): [[1]] for k in range(count)}, ["cat"])
        panels = [axes for axes in figure.axes if axes.get_title()]
        named = [panel.xaxis.get_tick_params()["labelbottom"] for panel in panels]
        assert named == [False] * (count - 2) + [True] * 2

    def test_says_what_is_not_measured(self):
        figure = plots.confusion_side_by_side({"a": [[1]], "b": None}, ["cat"])
        assert [written(axes) for axes in figure.axes if axes.get_title()] == [[], ["not measured"]]

    def test_refuses_a_table_that_does_not_fit(self):
        with pytest.raises(CourseError, match=r"\(1, 1\) counts of 'b' for 2 classes"):
            plots.confusion_side_by_side({"a": None, "b": [[1]]}, ["cat", "dog"])


class TestReliabilityDiagram:
    BINS = (Bin(0.5, 0.6, 3, 0.55, 0.4), Bin(0.9, 1.0, 1, 0.95, 1.0))

    def test_draws_accuracy_against_confidence_and_the_share_of_the_images(self):
        upper, lower = plots.reliability_diagram({"as trained": self.BINS}).axes
        diagonal, found = upper.lines
        assert list(diagonal.get_xdata()) == list(diagonal.get_ydata())
        assert list(found.get_xdata()) == pytest.approx([55, 95])
        assert list(found.get_ydata()) == pytest.approx([40, 100])
        assert [(bar.get_x(), bar.get_height()) for bar in lower.patches] == [(50, 75), (90, 25)]

    def test_has_a_column_for_each_label(self):
        axes = plots.reliability_diagram({"before": self.BINS, "after": self.BINS}).axes
        assert [panel.get_title() for panel in axes] == ["before", "after", "", ""]


class TestScatterByClass:
    def test_draws_each_class_in_its_colour_with_its_name_in_the_middle(self):
        places = torch.tensor([[0.0, 0.0], [2.0, 2.0], [1.0, 1.0], [5.0, 5.0]])
        (axes,) = plots.scatter_by_class(places, torch.tensor([0, 0, 0, 1]), ["cat", "dog", "owl"], ("x", "y")).axes
        assert [len(line.get_xdata()) for line in axes.lines] == [3, 1, 0]
        assert len({line.get_color() for line in axes.lines}) == 3
        assert {text.get_text(): text.xy for text in axes.texts} == {"cat": (1, 1), "dog": (5, 5)}

    def test_refuses_points_that_are_not_in_the_plane(self):
        with pytest.raises(CourseError, match=r"got \(2, 3\) points, 2 labels"):
            plots.scatter_by_class(torch.zeros(2, 3), torch.tensor([0, 1]), ["a", "b"], ("x", "y"))
