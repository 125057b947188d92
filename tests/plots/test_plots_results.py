"""The figures of recorded runs: they show what they were given, and say where nothing is measured."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from drawn import legend, points, record, written
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle

from alexnet_course import CourseError, plots
from alexnet_course.plots import Step
from alexnet_course.records.curves import TOLERANCE, Curve
from alexnet_course.records.new_images import OnNewImages
from alexnet_course.results.table import Published, Row


def make_row(
    recipe, *accuracies, parameters=1000, budget="long", published=None, dataset="cifar10", epochs=30, threads=2
):
    """A row of runs with these accuracies in per cent."""
    records = tuple(
        SimpleNamespace(
            seed=seed,
            test_accuracy=accuracy / 100,
            wall_seconds=parameters / 10,
            dataset=SimpleNamespace(test_images=10000, training_images=45_000),
            history=[None] * epochs,
            environments=(SimpleNamespace(device="Xeon (cpu)", threads=threads, torch="2.11"),),
        )
        for seed, accuracy in enumerate(accuracies)
    )
    theirs = Published(published, "S2") if published else None
    model = recipe.split(".")[0]
    return Row(recipe, model, dataset, budget, parameters, 2 * parameters, theirs, None, records)


def test_no_cheaper_point_of_the_front_is_better():
    costs = [(3, 80), (1, 50), (2, 70), (2, 75), (4, 80), (5, 60), (1, 40), (9, 81)]
    assert [costs[index] for index in plots.pareto_front(costs)] == [(1, 50), (2, 75), (3, 80), (9, 81)]
    assert plots.pareto_front([]) == []


class TestAccuracyAgainst:
    ROWS = (
        make_row("big.modern", 90, 92, parameters=9000, published=80.0),
        make_row("big.published", 78, parameters=9000, published=80.0),
        make_row("small.modern", 85, parameters=3000),
        make_row("ablation.toy.base", 70, parameters=100, budget="ablation"),
        make_row("ablation.toy.worse", 60, parameters=200, budget="ablation"),
        make_row("big.short", 65, parameters=9000, budget="evening"),
        make_row("big.other", 40, parameters=10, dataset="cifar100"),
        make_row("never.modern", parameters=10),
    )

    def test_runs_of_each_budget_have_a_marker_and_a_front_of_their_own(self):
        (axes,) = plots.accuracy_against(self.ROWS, "parameters").axes
        assert points(axes, "o") == [(9000, 91), (9000, 78), (3000, 85)]
        assert points(axes, "^") == [(9000, 65)]
        assert points(axes, "D") == [(100, 70), (200, 60)]
        fronts = {
            line.get_linestyle(): line for line in axes.lines if line.get_linewidth() == 1.2 and line.get_xydata().size
        }
        assert fronts["-"].get_xydata().tolist() == [[3000, 85], [9000, 91]]
        assert "--" not in fronts  # one run is no front
        assert fronts[":"].get_xydata().tolist() == [[100, 70]]

    def test_a_front_joins_only_runs_with_equally_many_epochs(self):
        rows = [
            make_row("a.modern", 80, parameters=1000, epochs=3),
            make_row("b.modern", 90, parameters=2000, epochs=30),
            make_row("c.modern", 85, parameters=1500, epochs=30),
        ]
        figure = plots.accuracy_against(rows, "parameters")
        fronts = [line for line in figure.axes[0].lines if line.get_linewidth() == 1.2 and line.get_xydata().size]
        assert [line.get_xydata().tolist() for line in fronts] == [[[1500, 85], [2000, 90]]]
        assert "Pareto front" in legend(figure)
        alone = plots.accuracy_against(rows[:2], "parameters")
        assert "Pareto front" not in legend(alone)
        assert sorted(written(alone.axes[0])) == ["a", "b"]

    def test_a_front_of_times_joins_only_runs_with_equally_many_threads(self):
        rows = [
            make_row("a.modern", 80, parameters=1000),
            make_row("b.modern", 90, parameters=2000, threads=1),
            make_row("c.modern", 85, parameters=1500),
        ]
        for what, wanted in (
            ("train_seconds", [[100, 80], [150, 85]]),
            ("parameters", [[1000, 80], [1500, 85], [2000, 90]]),
        ):
            (axes,) = plots.accuracy_against(rows, what).axes
            fronts = [line for line in axes.lines if line.get_linewidth() == 1.2 and line.get_xydata().size]
            assert [line.get_xydata().tolist() for line in fronts] == [wanted]

    def test_says_that_its_axis_is_cut(self):
        (axes,) = plots.accuracy_against(self.ROWS, "parameters").axes
        assert "axis does not start at 0" in axes.get_ylabel()

    def test_published_figures_are_hollow_and_joined_to_ours(self):
        figure = plots.accuracy_against(self.ROWS, "mult_adds")
        (axes,) = figure.axes
        assert points(axes, "s") == [(18000, 80)]  # one a network, at its best recipe
        assert {line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "s"} == {"white"}
        joins = [line.get_xydata().tolist() for line in axes.lines if line.get_linewidth() == 0.8]
        assert joins == [[[18000, pytest.approx(91)], [18000, 80]]]
        assert legend(figure) == ["long", "evening", "ablation", "Pareto front", "published"]

    def test_no_write_up_gives_its_seconds(self):
        figure = plots.accuracy_against(self.ROWS, "train_seconds")
        assert points(figure.axes[0], "s") == []
        assert points(figure.axes[0], "o")[0] == (900, 91)
        assert "published" not in legend(figure)

    def test_names_each_network_once_and_each_recipe_on_a_front(self):
        (axes,) = plots.accuracy_against(self.ROWS, "parameters").axes
        assert sorted(written(axes)) == ["ablation", "big", "small"]  # by their models, or their recipe

    def test_names_do_not_cover_each_other_or_the_dots(self):
        crowd = [make_row(f"network-{k}.modern", 80 + k, parameters=5000 + k) for k in range(8)]
        figure = plots.accuracy_against([*crowd, *self.ROWS], "parameters")
        figure.draw_without_rendering()
        (axes,) = figure.axes
        boxes = [text.get_window_extent() for text in axes.texts]
        dots = [axes.transData.transform(line.get_xydata()[0]) for line in axes.lines if line.get_marker() in "o^D"
                and len(line.get_xydata())]  # fmt: skip
        assert len(boxes) == 11
        assert not [(k, j) for k, box in enumerate(boxes) for j, other in enumerate(boxes[:k]) if box.overlaps(other)]
        assert not [box for box in boxes for dot in dots if box.contains(*dot)]
        frame = axes.get_window_extent()
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)

    def test_the_same_share_of_mistakes_is_the_same_distance(self):
        (axes,) = plots.accuracy_against(self.ROWS, "parameters").axes
        heights = axes.transData.transform([(1000, accuracy) for accuracy in (60, 80, 90, 95)])[:, 1]
        assert np.diff(heights) == pytest.approx([heights[1] - heights[0]] * 3)

    def test_costs_that_lie_close_together_have_enough_numbers(self):
        close = [make_row(f"network-{k}.modern", 80 + k, parameters=2000 * (k + 1)) for k in range(3)]
        for rows, wanted in ((close, {"2,000", "5,000"}), (self.ROWS, {"$\\mathdefault{10^{3}}$"})):
            figure = plots.accuracy_against(rows, "parameters")
            figure.draw_without_rendering()
            shown = {label.get_text() for label in figure.axes[0].get_xticklabels()}
            assert wanted <= shown
            assert not any(label.get_text() for label in figure.axes[0].get_xticklabels(minor=True))

    def test_says_where_nothing_is_measured(self):
        figure = plots.accuracy_against([make_row("never.modern")], "parameters")
        assert written(figure.axes[0]) == ["not measured"]
        assert legend(figure)[:2] == ["long: not measured", "evening: not measured"]

    def test_refuses_another_cost(self):
        with pytest.raises(CourseError, match="'euros'; give one of parameters, mult_adds, train_seconds"):
            plots.accuracy_against(self.ROWS, "euros")


class TestLearningCurvesOf:
    def test_draws_a_line_a_run_and_a_panel_a_network(self):
        figure = plots.learning_curves_of(
            {
                "modern": {"a": [record(0.7, 0.8, 0.9), record(0.6, 0.7, 0.8)], "b": [], "c": [record(0.4)]},
                "published": {"a": [record(0.5, 0.6)], "b": []},
                "plain": {"c": [record(0.3)]},
            }
        )
        shown = {axes.get_title(): axes for axes in figure.axes if axes.axison}
        lines = [(list(line.get_xdata()), line.get_ydata()) for line in shown["a"].lines]
        assert lines == [
            ([1, 2, 3], pytest.approx([70, 80, 90])),
            ([1, 2, 3], pytest.approx([60, 70, 80])),
            ([1, 2], pytest.approx([50, 60])),
        ]
        assert [line.get_color() for line in shown["a"].lines] == [plots.BLUE, plots.BLUE, plots.ORANGE]
        assert [line.get_color() for line in shown["c"].lines] == [plots.BLUE, plots.GREEN]
        assert legend(figure) == ["modern recipe", "published recipe", "plain recipe"]
        assert list(shown) == ["a", "b", "c"]
        assert written(shown["b"]) == ["modern: not measured\npublished: not measured"]

    def test_each_panel_names_the_budgets(self):
        runs = {"modern": {"a": [record(0.5, budget="evening")]}, "published": {"a": [record(0.5)]}}
        figure = plots.learning_curves_of(runs)
        assert written(figure.axes[0]) == ["modern: evening\npublished: long"]


class TestPlotReproduction:
    CURVE = Curve("toy", "nowhere", (1, 2, 3), (0.5, 0.7, 0.8), lr=(0.1, 0.1, 0.01))

    @staticmethod
    def run(*history, seed=0, budget="long", rates=(0.1, 0.1, 0.1)):
        made = record(*history, budget=budget)
        for entry, rate in zip(made.history, rates, strict=False):
            entry.lr = rate
        made.recipe, made.seed = SimpleNamespace(name="toy"), seed
        return made

    @staticmethod
    def lines(axes, colour) -> list[tuple[list[int], list[float]]]:
        """The lines of this colour through more than one point, the vertical ones and those of the legend left out."""
        found = [line.get_data() for line in axes.lines if line.get_color() == colour and line.get_linewidth() > 1]
        return [(list(x), pytest.approx(list(y))) for x, y in found if len(set(x)) > 1]

    def test_draws_each_seed_over_the_published_curve_and_its_distance_below(self):
        runs = [self.run(0.4, 0.72, 0.8, rates=(0.1, 0.01, 0.01)), self.run(0.5, 0.6, seed=3)]
        figure = plots.plot_reproduction(runs, self.CURVE)
        above, below = figure.axes
        assert self.lines(above, plots.GREY) == [([1, 2, 3], [50, 70, 80])]
        assert self.lines(above, plots.BLUE) == [([1, 2, 3], [40, 72, 80]), ([1, 2], [50, 60])]
        assert self.lines(below, plots.BLUE) == [([1, 2, 3], [-10, 2, 0]), ([1, 2], [0, -10])]
        assert above.get_title() == "toy"
        assert above.get_ylabel() == "validation accuracy (%)\naxis does not start at 0"
        assert (below.get_xlabel(), below.get_ylabel()) == ("epoch", "ours − theirs\n(points)")

    def test_marks_where_the_rates_were_divided(self):
        figure = plots.plot_reproduction([self.run(0.4, 0.72, rates=(0.1, 0.01))], self.CURVE)
        for axes in figure.axes:
            dotted = [list(line.get_xdata()) for line in axes.lines if line.get_linestyle() == ":"]
            assert [x for x in dotted if x] == [[3, 3]]
        assert points(figure.axes[0], "|") == [(2, 72)]
        assert legend(figure) == ["published", "ours, long: seed 0", "published rate divided", "our rate divided"]
        unknown = dataclasses.replace(self.CURVE, lr=())
        assert legend(plots.plot_reproduction([self.run(0.4)], unknown)) == ["published", "ours, long: seed 0"]

    def test_the_band_below_is_what_counts_as_reproduced(self):
        below = plots.plot_reproduction([self.run(0.5, 0.7)], self.CURVE).axes[1]
        (band,) = below.patches
        assert (band.get_y(), band.get_height()) == (-TOLERANCE, 2 * TOLERANCE)
        low, high = below.get_ylim()
        assert low < -TOLERANCE
        assert high > TOLERANCE

    def test_shorter_runs_look_different_and_are_not_mixed_with_longer_ones(self):
        short = self.run(0.4, budget="evening", seed=1)
        figure = plots.plot_reproduction([short, self.run(0.4, budget="evening", seed=2)], self.CURVE)
        assert "ours, evening: seeds 1, 2" in legend(figure)
        assert {line.get_color() for line in figure.axes[0].lines if line.get_marker() == "^"} == {plots.ORANGE}
        with pytest.raises(CourseError, match="budgets evening, long; give those of one"):
            plots.plot_reproduction([short, self.run(0.4)], self.CURVE)

    def test_without_a_run_the_published_curve_stands_alone(self):
        figure = plots.plot_reproduction([], self.CURVE)
        above, below = figure.axes
        assert self.lines(above, plots.GREY) == [([1, 2, 3], [50, 70, 80])]
        assert self.lines(above, plots.BLUE) == self.lines(below, plots.BLUE) == []
        assert written(below) == ["not measured"]
        assert legend(figure)[:2] == ["published", "ours: not measured"]

    def test_fits_a_phone_with_nothing_cut_off(self):
        figure = plots.plot_reproduction([self.run(0.4, 0.71, 0.8)], self.CURVE)
        assert figure.get_size_inches()[0] == plots.WIDTH
        figure.draw_without_rendering()
        tight, page = figure.get_tightbbox(), figure.bbox_inches
        assert page.x0 <= tight.x0
        assert tight.x1 <= page.x1


class TestSeedSpread:
    def test_draws_each_seed_and_the_interval_around_the_mean(self):
        rows = [make_row("a.modern", 80, 81, 82), make_row("b.modern"), make_row("c.short", 70, budget="evening")]
        figure = plots.seed_spread(rows)
        (axes,) = figure.axes
        assert [point[0] for point in points(axes, "o")] == pytest.approx([-1, 0, 1])
        assert [point[0] for point in points(axes, "^")] == pytest.approx([0])
        spans = [collection.get_segments()[0][:, 0].tolist() for collection in axes.collections]
        means = {"a": (81, rows[0].interval), "c": (70, rows[2].interval)}
        assert spans == [pytest.approx([low - mean, high - mean]) for mean, (low, high) in means.values()]
        assert written(axes) == ["81.00", "not measured", "70.00"]
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a\nmodern", "b\nmodern", "c\nshort"]
        assert legend(figure) == ["a seed, long", "a seed, evening", "95 % interval (images)"]

    def test_ablations_go_by_their_group_and_variant(self):
        row = dataclasses.replace(make_row("ablation.alexnet.dropout-0"), budget="ablation")
        (axes,) = plots.seed_spread([row]).axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["alexnet\ndropout-0"]


class TestWaterfall:
    STEPS = (
        Step("start", 80.05),
        Step("worse", 79.0, 0.5),
        Step("better", 84.0, 0.6),
        Step("missing", None),
        Step("nothing", 84.1, 0.7, seen=False),
    )

    def test_each_bar_begins_where_the_one_before_ended(self):
        figure = plots.waterfall(self.STEPS)
        (axes,) = figure.axes
        bars = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
        ends = [(round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars]
        assert [(row, pytest.approx(first), pytest.approx(last)) for row, first, last in
                [(1, 80.05, 79.0), (2, 79.0, 84.0), (4, 84.0, 84.1)]] == ends  # fmt: skip
        colours = [to_hex(bar.get_facecolor()).upper() for bar in bars]
        assert colours == [plots.ORANGE, plots.BLUE, plots.LIGHT.upper()]
        assert [bar.get_hatch() or "" for bar in bars] == ["", "", "///"]
        assert written(axes) == ["80.05", "79.00 (−1.05)", "84.00 (+5.00)", "not measured", "84.10 (+0.10)"]
        assert [label.get_text() for label in axes.get_yticklabels()] == [step.label for step in self.STEPS]
        assert legend(figure) == ["adds", "takes", "no difference seen"]

    def test_draws_the_interval_of_each_step(self):
        (axes,) = plots.waterfall(self.STEPS).axes
        spans = [collection.get_segments()[0][:, 0] for collection in axes.collections]
        assert np.allclose(spans, [[78.5, 79.5], [83.4, 84.6], [83.4, 84.8]])

    def test_says_when_its_axis_is_cut(self):
        assert plots.waterfall(self.STEPS).axes[0].get_xlabel() == "test accuracy (%); axis does not start at 0"
        assert plots.waterfall([Step("a", 1.0), Step("b", -1.0)]).axes[0].get_xlabel() == "test accuracy (%)"

    def test_needs_a_figure_to_start_from(self):
        for steps in ([], [Step("start", None)]):
            with pytest.raises(CourseError, match="no accuracy to start from"):
                plots.waterfall(steps)


class TestOldAndNewImages:
    MODELS = (OnNewImages("a", 80, 60, 62), OnNewImages("b", 90, 80, 81))

    def test_draws_the_models_the_line_through_them_and_the_others_beside(self):
        others = {"a write-up": [OnNewImages("mine", 85, None, 70), OnNewImages("old", 70, 50, None)]}
        figure = plots.old_and_new_images(self.MODELS, others, "v6", {"a": "AlexNet"})
        (axes,) = figure.axes
        assert points(axes, "o") == [(80, 62), (90, 81)]
        assert points(axes, "s") == [(85, 70)]
        assert written(axes) == ["AlexNet"]
        assert legend(figure) == ["2 published models", "a write-up", "line, slope 1.90", "nothing lost"]
        assert "2,000" in axes.get_title()
        assert all("axis does not start at 0" in label for label in (axes.get_xlabel(), axes.get_ylabel()))

    def test_the_versions_are_kept_apart(self):
        (axes,) = plots.old_and_new_images(self.MODELS, {}, "v4", {}).axes
        assert points(axes, "o") == [(80, 60), (90, 80)]
        assert "v4" in axes.get_ylabel()


def test_every_figure_fits_a_phone():
    figures = [
        plots.accuracy_against([], "parameters"),
        plots.learning_curves_of({"modern": {"a": []}}),
        plots.per_class({"a": []}),
        plots.waterfall([Step("a", 1.0)]),
        plots.confusion_side_by_side({"a": None}, ["cat"]),
        plots.seed_spread([make_row("a.b")]),
    ]
    assert {figure.get_size_inches()[0] for figure in figures} == {plots.WIDTH}
