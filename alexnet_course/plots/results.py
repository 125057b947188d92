"""Recorded runs, and rows of the results table. Each budget has its own marker; no line joins two budgets."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox
from numpy.typing import NDArray

from alexnet_course.errors import CourseError
from alexnet_course.plots.style import BLUE, GREY, LIGHT, ORANGE, PINK, STYLES, WIDTH, at_most_four, plain
from alexnet_course.records import NOT_MEASURED
from alexnet_course.records.curves import TOLERANCE, Curve, difference, drops
from alexnet_course.records.new_images import IMAGES, OnNewImages, line_through
from alexnet_course.records.record import Record
from alexnet_course.results.table import ABLATION, Row

CUT = "axis does not start at 0"
COSTS = {
    "parameters": "parameters",
    "mult_adds": "mult-adds for one image",
    "train_seconds": "seconds of one training run",
}
# Marker, line of the front and colour of a budget, the longest first.
BUDGETS = {
    "long": ("o", "-", BLUE),
    "evening": ("^", "--", ORANGE),
    "cpu": ("v", "-.", PINK),
    "ablation": ("D", ":", GREY),
}
EXPECTED = ("long", "evening")  # budgets that a figure names where nothing of them is measured


def accuracy_against(rows: Sequence[Row], what: str, dataset: str = "cifar10") -> Figure:
    """Draw test accuracy against a cost on a logarithmic scale, with Pareto fronts of runs of comparable length.

    A front is drawn for runs of one budget with equally many epochs and training images, if there are at least two;
    against seconds, also of one device, with equally many threads. The scale of accuracies is logarithmic in the error,
    so halving the error is the same distance everywhere. The axis is cut, and its label says so. Each network is named
    at its best recipe, and so is every recipe on a front; ablations are grey, and named if their network has nothing
    else. The published figure of a network is drawn at the cost of our best run, and joined to it; there is none
    against seconds, because no write-up gives its time.

    Args:
        rows: of `results_table`. Those that are not measured, or on other images than `dataset`, are left out.
        what: `parameters`, `mult_adds` or `train_seconds`.
    """
    if what not in COSTS:
        raise CourseError(f"accuracy_against got {what!r}; give one of {', '.join(COSTS)}.")
    fig, axes = plt.subplots(figsize=(WIDTH, 4.4))
    axes.set(xscale="log", xlabel=COSTS[what], ylabel=f"test accuracy (%)\n{CUT}")
    axes.set_yscale("function", functions=(_from_accuracy, _to_accuracy))
    axes.set_yticks([20, 50, 70, 80, 90, 95, 98, 99])
    axes.grid(axis="y")
    axes.margins(x=0.12, y=0.12)
    best: dict[str, _Point] = {}  # of each network, at the longest budget that it has
    on_front: list[_Point] = []
    for budget, (marker, line, _) in BUDGETS.items():
        points = [
            _Point(getattr(row, "seconds" if what == "train_seconds" else what), row.test, row)
            for row in rows
            if row.budget == budget and row.dataset == dataset and row.test is not None
        ]
        for cost, accuracy, row in points:
            ablation = row.recipe.startswith(ABLATION)
            axes.plot(cost, accuracy, marker, color=GREY if ablation else BLUE, markersize=5 if ablation else 7)
        comparable: dict[tuple[float | None, int | None, str | None], list[_Point]] = {}
        for point in points:
            device = point.row.device if what == "train_seconds" else None
            comparable.setdefault((point.row.epochs, point.row.training_images, device), []).append(point)
        for alike in (found for found in comparable.values() if len(found) > 1):
            front = [alike[position] for position in pareto_front([(point.cost, point.accuracy) for point in alike])]
            axes.plot([p.cost for p in front], [p.accuracy for p in front], line, color=GREY, linewidth=1.2, zorder=1)
            on_front += front
        rising = sorted(points, key=lambda point: (not point.row.recipe.startswith(ABLATION), point.accuracy))
        best = {point.row.model: point for point in rising} | best
        if points or budget in EXPECTED:
            colour = GREY if budget == "ablation" else BLUE
            axes.plot([], [], marker, color=colour, label=budget if points else f"{budget}: {NOT_MEASURED}")
    for cost, accuracy, row in best.values():
        if row.published and what != "train_seconds":
            theirs = row.published.accuracy
            axes.plot([cost, cost], [accuracy, theirs], color=ORANGE, linewidth=0.8, zorder=1)
            axes.plot(cost, theirs, "s", color=ORANGE, markerfacecolor="white", markersize=6, zorder=3)
    if on_front:
        axes.plot([], [], "-", color=GREY, linewidth=1.2, label="Pareto front")
    if what != "train_seconds":
        axes.plot([], [], "s", color=ORANGE, markerfacecolor="white", label="published")
    fig.legend(loc="outside upper center", ncols=2)
    if not best:
        axes.set(xticks=[], ylim=(20, 95))
        axes.minorticks_off()
        axes.annotate(NOT_MEASURED, (0.5, 0.5), xycoords="axes fraction", ha="center", color=GREY)
        return fig
    recipes = [point for point in on_front if not point.row.recipe.startswith(ABLATION)]
    names = {(p.cost, p.accuracy): p.row.recipe for p in recipes}
    low, high = axes.get_xlim()
    axes.set_xlim(low, high * (high / low) ** 0.25)  # room for names on the right, where the large networks are
    if high < 100 * low:  # powers of ten alone would be too few numbers, and all that lie between them too many
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _name_points(fig, axes, names | {(p.cost, p.accuracy): model for model, p in best.items()})
    return fig


class _Point(NamedTuple):
    cost: float
    accuracy: float
    row: Row


def _from_accuracy(percent: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    wrong = np.clip(100 - percent, 0.01, None)  # one mistake in 10,000 images is as few as are told apart
    position: NDArray[np.floating[Any]] = -np.log10(wrong)
    return position


def _to_accuracy(position: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    return 100 - 10.0**-position


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, accuracy) points that no other point beats, by rising cost and so by rising accuracy."""
    front: list[int] = []
    for position in sorted(range(len(points)), key=lambda position: (points[position][0], -points[position][1])):
        if not front or points[position][1] > points[front[-1]][1]:
            front.append(position)
    return front


def _name_points(figure: Figure, axes: Axes, names: Mapping[tuple[float, float], str]) -> None:
    """Write each name near its point, where it covers the least of what is drawn and written already."""
    figure.draw_without_rendering()  # makes the layout, so positions in pixels are known from here on
    pixel = 72 / figure.dpi  # points
    taken = []
    for line in axes.lines:
        corners = axes.transData.transform(line.get_xydata()) * pixel
        if not len(corners):  # an entry of the legend
            continue
        steps = np.linspace(0, len(corners) - 1, 1 + 30 * (len(corners) - 1))
        along = [np.interp(steps, range(len(corners)), corners[:, axis]) for axis in (0, 1)]
        side = 4 if line.get_marker() == "None" else 10
        taken += [Bbox.from_bounds(x - side / 2, y - side / 2, side, side) for x, y in zip(*along, strict=True)]
    page = axes.get_window_extent()
    ground = Bbox(page.get_points() * pixel)
    for (x, y), name in sorted(names.items(), key=lambda item: -item[0][1]):
        note = axes.annotate(plain(name), (x, y), xytext=(0, 0), textcoords="offset points", fontsize=9, va="center")
        size = note.get_window_extent()
        width, height = size.width * pixel, 1.15 * size.height * pixel
        left, bottom = axes.transData.transform((x, y)) * pixel
        positions = []
        for distance in range(0, 140, 12):  # near before far; to the sides before above and below
            for up in (0, distance, -distance):
                for start in (8, -8 - width, -width / 2, 8 + distance, -8 - width - distance):
                    box = Bbox.from_bounds(left + start, bottom + up - height / 2, width, height)
                    covered = sum(_overlap(box, other) for other in taken)
                    covered += 10 * (width * height - _overlap(box, ground))
                    positions.append((covered + distance, start, up, box))
        _, start, up, box = min(positions, key=lambda position: position[0])
        note.set_position((start, up))
        taken.append(box)
        if abs(up) > 12 or min(abs(start), abs(start + width)) > 12:
            middle = box.x0 if start > 0 else box.x1 if start + width < 0 else (box.x0 + box.x1) / 2
            edge = axes.transData.inverted().transform((middle / pixel, (box.y0 + height / 2) / pixel))
            axes.plot([x, edge[0]], [y, edge[1]], color=GREY, linewidth=0.6, zorder=0)
            note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.5})


def _overlap(first: Bbox, second: Bbox) -> float:
    width = min(first.x1, second.x1) - max(first.x0, second.x0)
    height = min(first.y1, second.y1) - max(first.y0, second.y0)
    return float(max(width, 0) * max(height, 0))


def learning_curves_of(kinds: Mapping[str, Mapping[str, Sequence[Record]]]) -> Figure:
    """Draw the validation accuracy of every epoch, one panel per network, one line per run; a panel names the budgets.

    Args:
        kinds: kind of recipe, such as modern -> network -> the records of that recipe; none where nothing is measured.
            At most four kinds; a network need not be in all of them.
    """
    at_most_four("learning_curves_of", kinds)
    networks = list(dict.fromkeys(network for runs in kinds.values() for network in runs))
    rows = -(-len(networks) // 2)
    fig, grid = plt.subplots(rows, 2, figsize=(WIDTH, 1.95 * rows + 0.4), sharey=True, squeeze=False)
    for axes in grid.flat[len(networks) :]:
        axes.axis("off")
    for axes, network in zip(grid.flat, networks, strict=False):
        notes = []
        for (kind, by_network), (marker, colour) in zip(kinds.items(), STYLES, strict=False):
            if network not in by_network:
                continue
            runs = by_network[network]
            for record in runs:
                epochs = [entry.epoch for entry in record.history]
                values = [100 * entry.val_accuracy for entry in record.history]
                axes.plot(epochs, values, color=colour, marker=marker, markersize=4, markevery=0.1, linewidth=1.5)
            notes.append(plain(f"{kind}: {runs[0].budget if runs else NOT_MEASURED}"))
        axes.annotate(
            "\n".join(notes), (0.97, 0.42), xycoords="axes fraction", ha="right", va="center", fontsize=9, color=GREY
        )
        axes.set_title(plain(network), fontsize=10)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        axes.grid(axis="y")
    fig.supxlabel("epoch", fontsize=11)
    low = min((axes.get_ylim()[0] for axes in grid.flat), default=0.0)
    fig.supylabel(f"validation accuracy (%{f'; {CUT}' if low > 0 else ''})", fontsize=11)
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=4, label=plain(f"{kind} recipe"))
        for kind, (marker, colour) in zip(kinds, STYLES, strict=False)
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=len(kinds) or 1)
    return fig


def plot_reproduction(records: Sequence[Record], curve: Curve) -> Figure:
    """Draw our runs of a recipe over the published one, and below them the difference after the same epoch.

    The grey band below shows the difference of the best epochs that counts as reproduced. Dotted lines mark where the
    published learning rate was divided, where that is known, and ticks where ours was.

    Args:
        records: of the curve's recipe and of one budget, one a seed; none where nothing is measured.
        curve: of `published_curve`.
    """
    budgets = {record.budget for record in records}
    if len(budgets) > 1:
        raise CourseError(f"plot_reproduction got runs of the budgets {', '.join(sorted(budgets))}; give those of one.")
    fig, (above, below) = plt.subplots(2, figsize=(WIDTH, 5.0), sharex=True, height_ratios=(2.2, 1))
    theirs = [100 * accuracy for accuracy in curve.val_accuracy]
    above.plot(curve.epochs, theirs, color=GREY, linewidth=3, label="published")
    label = f"ours: {NOT_MEASURED}"
    if records:
        seeds = ", ".join(str(record.seed) for record in records)
        label = f"ours, {budgets.pop()}: seed{'s' * (len(records) > 1)} {seeds}"
    marker, _, colour = BUDGETS[records[0].budget] if records else BUDGETS["long"]
    style = {"color": colour, "marker": marker, "markersize": 4, "markevery": 0.1, "linewidth": 1.2}
    above.plot([], [], label=label, **style)
    ticks = []
    for record in records:
        ours = {entry.epoch: 100 * entry.val_accuracy for entry in record.history}
        above.plot(list(ours), list(ours.values()), **style)
        found = difference(record, curve)
        below.plot([at.epoch for at in found.epochs], [at.points for at in found.epochs], **style)
        rates = [entry.lr for entry in record.history]
        ticks += [(epoch, ours[epoch]) for epoch in drops(list(ours), rates)]
    for epoch in curve.drops:
        for axes in (above, below):
            axes.axvline(epoch, color=GREY, linewidth=1, linestyle=":", zorder=0)
    if curve.drops:
        above.plot([], [], color=GREY, linewidth=1, linestyle=":", label="published rate divided")
    if ticks:
        bars = {"markersize": 18, "markeredgewidth": 2}
        above.plot(*zip(*ticks, strict=True), "|", color=colour, label="our rate divided", **bars)
    below.axhspan(-TOLERANCE, TOLERANCE, color=LIGHT, zorder=0)
    below.axhline(0, color=GREY, linewidth=1.2)
    low, high = below.get_ylim()
    below.set_ylim(min(low, -2 * TOLERANCE), max(high, 2 * TOLERANCE))  # more than the band
    if not records:
        below.annotate(NOT_MEASURED, (0.5, 0.82), xycoords="axes fraction", ha="center", color=GREY)
    above.set_title(plain(curve.recipe), fontsize=10)
    above.set_ylabel("validation accuracy (%)" + (f"\n{CUT}" if above.get_ylim()[0] > 0 else ""))
    below.set(xlabel="epoch", ylabel="ours − theirs\n(points)")
    below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    below.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    for axes in (above, below):
        axes.grid(axis="y")
        axes.set_axisbelow(True)
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def seed_spread(rows: Sequence[Row]) -> Figure:
    """Draw how far each seed's test accuracy is from the mean of its recipe, one line a recipe.

    Above the dots is the 95 % interval of the results table: how far the mean would move with other test images. The
    mean itself is written beside it.

    Args:
        rows: of `results_table`, drawn in the order given.
    """
    fig, axes = plt.subplots(figsize=(WIDTH, 1.3 + 0.46 * len(rows)))
    for position, row in enumerate(rows):
        if row.test is None or row.interval is None:
            text = NOT_MEASURED
        else:
            text = f"{row.test:.2f}"
            low, high = row.interval
            axes.errorbar(0, position - 0.18, xerr=[[row.test - low], [high - row.test]], color="black", capsize=3,
                          linewidth=1.5)  # fmt: skip
            seeds = [100 * record.test_accuracy - row.test for record in row.records]
            marker, _, colour = BUDGETS[row.budget]
            axes.plot(seeds, [position + 0.18] * len(seeds), marker, color=colour, markersize=6, alpha=0.75)
        axes.annotate(text, (1.01, position), xycoords=("axes fraction", "data"), va="center", fontsize=9,
                      color=GREY if row.test is None else "black", annotation_clip=False)  # fmt: skip
    axes.axvline(0, color=GREY, linewidth=1.2, linestyle=":", zorder=0)
    for budget, (marker, _, colour) in BUDGETS.items():
        if any(row.budget == budget and row.records for row in rows):
            axes.plot([], [], marker, color=colour, label=f"a seed, {budget}")
    axes.plot([], [], color="black", linewidth=1.5, label="95 % interval (images)")
    names = [plain(row.recipe.removeprefix(ABLATION).replace(".", "\n", 1)) for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="difference of a seed from the mean (points)")
    axes.set_title("mean (%)", loc="right", fontsize=10, fontweight="normal")
    axes.margins(x=0.1)
    axes.grid(axis="x")
    fig.legend(loc="outside upper center", ncols=2)
    return fig


def old_and_new_images(
    models: Sequence[OnNewImages], others: Mapping[str, Sequence[OnNewImages]], version: str, named: Mapping[str, str]
) -> Figure:
    """Draw accuracy on a version of CIFAR-10.1 against that on CIFAR-10, with the line through ``models``.

    The dotted diagonal is where no accuracy would be lost. Both axes are cut, and their labels say so.

    Args:
        models: the published models, at least two.
        others: label of a group -> its models, which the line does not use; one without a figure on ``version`` is left
            out.
        version: ``v4`` or ``v6``.
        named: model -> name to write beside its point.
    """
    slope, intercept = line_through(models, version)
    fig, axes = plt.subplots(figsize=(WIDTH, 4.2))
    groups = {f"{len(models)} published models": models, **others}
    for (label, group), (marker, colour) in zip(groups.items(), STYLES, strict=False):
        pairs = [(found.model, found.cifar10, new) for found in group if (new := found.on(version)) is not None]
        axes.plot(
            *zip(*[pair[1:] for pair in pairs], strict=True), marker, color=colour, markersize=5, label=plain(label)
        )
        for model, old, new in pairs:
            if model in named:
                axes.annotate(plain(named[model]), (old, new), xytext=(-6, 4), textcoords="offset points",
                              ha="right", va="bottom", fontsize=9)  # fmt: skip
    ends = np.array(axes.get_xlim())
    axes.plot(ends, slope * ends + intercept, color=BLUE, linewidth=1.2, zorder=1, label=f"line, slope {slope:.2f}")
    axes.plot(ends, ends, ":", color=GREY, linewidth=1.2, zorder=1, label="nothing lost")
    axes.set(xlim=tuple(ends), xlabel=f"CIFAR-10 (%; {CUT})", ylabel=f"CIFAR-10.1 {version} (%; {CUT})")
    axes.set_title(f"{IMAGES[version]:,} new images", fontsize=10)
    axes.grid()
    axes.set_axisbelow(True)
    fig.legend(loc="outside upper center", ncols=2)
    return fig


class Step(NamedTuple):
    """A step of a `waterfall`, or its start."""

    label: str
    accuracy: float | None
    """In per cent, after the step; None where it is not measured."""
    chance: float = 0.0
    """Half of the 95 % interval of the change, in points."""
    seen: bool = True
    """Whether a test sees the change."""


def waterfall(steps: Sequence[Step], xlabel: str = "test accuracy (%)") -> Figure:
    """Draw what each step adds to a starting accuracy or takes away, from top to bottom; grey if no difference is seen.

    Args:
        steps: the start, then one per change; a step that is not measured keeps the accuracy before it.
    """
    if not steps or steps[0].accuracy is None:
        raise CourseError("waterfall got no accuracy to start from; give a first step that is measured.")
    fig, axes = plt.subplots(figsize=(WIDTH, 1.3 + 0.42 * len(steps)))
    total = steps[0].accuracy
    axes.plot([total, total], [-0.35, 0.35], color="black", linewidth=3)
    axes.annotate(f"{total:.2f}", (total, 0), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9)
    for row, step in enumerate(steps[1:], start=1):
        axes.plot([total, total], [row - 0.65, row - 0.35], color=GREY, linewidth=1)
        if step.accuracy is None:
            axes.plot([total, total], [row - 0.35, row + 0.35], color=GREY, linewidth=1)
            text, edge = NOT_MEASURED, total
        else:
            change = step.accuracy - total
            colour = (BLUE if change >= 0 else ORANGE) if step.seen else LIGHT
            axes.barh(row, change, left=total, height=0.7, color=colour, edgecolor=colour if step.seen else GREY,
                      hatch="" if step.seen else "///")  # fmt: skip
            axes.errorbar(step.accuracy, row, xerr=step.chance, color="black", capsize=3, linewidth=1.2)
            edge = max(total, step.accuracy + step.chance)
            text = f"{step.accuracy:.2f} ({change:+.2f})".replace("-", "−")
            total = step.accuracy
        axes.annotate(text, (edge, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9,
                      color=GREY if step.accuracy is None else "black")  # fmt: skip
    axes.set_yticks(range(len(steps)), [plain(step.label) for step in steps])
    axes.set(ylim=(len(steps) - 0.4, -0.6))
    left, right = axes.get_xlim()
    axes.set_xlim(left - 0.04 * (right - left), right + 0.35 * (right - left))  # room for the start, for the numbers
    axes.set_xlabel(f"{xlabel}; {CUT}" if left > 0 else xlabel)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    handles = [
        Patch(color=BLUE, label="adds"),
        Patch(color=ORANGE, label="takes"),
        Patch(facecolor=LIGHT, edgecolor=GREY, hatch="///", label="no difference seen"),
    ]
    fig.legend(handles=handles, loc="outside upper center", ncols=3)
    return fig
