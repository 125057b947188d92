"""The results table: one row for each recipe and budget, computed from the records alone."""

from __future__ import annotations

import csv
import io
import re
import statistics
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain, zip_longest
from pathlib import Path
from shlex import quote
from typing import Any

from alexnet_course.errors import CourseError
from alexnet_course.files import refuse_what_is_no_file, whole_file
from alexnet_course.models import MODELS
from alexnet_course.models.costs import mult_adds_of, parameters_of
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import ablations, list_recipes, load_recipe
from alexnet_course.records import FOLDER, NOT_MEASURED, load_records
from alexnet_course.records.interval import wilson_interval
from alexnet_course.records.record import Record

PUBLISHED_FILE = Path(__file__).parent / "published.toml"
ABLATION = "ablation."
PUBLISHED, PLAIN = ".published", ".plain"  # in names: a write-up's settings; ours, where a write-up gives none
NOT_GIVEN = "–"  # where nobody published a figure; what we have not measured says so
CLASSES = {"cifar100": 100}  # of the data sets that do not have ten
WRITE_UP = re.compile(r"S\d")  # how the source of a network begins that one of the write-ups published


@dataclass(frozen=True)
class Published:
    """What others got: ``accuracy`` in per cent, the source, and what a reader should know about it."""

    accuracy: float
    source: str
    note: str = ""


def published(recipe: Recipe, dataset: str = "cifar10") -> Published | None:
    """What the write-up got with this recipe's settings; for a recipe of ours, its best with this network.

    None for an ablation, for a network of another size than the published one, and for a plain recipe. A plain recipe
    fills in what a write-up does not say about its settings, so a comparison with its figure would mean nothing.
    """
    figures = _read_published()
    found = figures["recipes"].get(recipe.name)
    if found is None and not _is_theirs(recipe) and _as_published(recipe):
        found = figures["networks"].get(dataset, {}).get(recipe.model)
    return Published(**found) if found else None


def best_peer(recipe: Recipe, dataset: str = "cifar10") -> Published | None:
    """The best checked figure that a public repository reports on CIFAR-10 for a network like this one.

    A network is like another one if it has about as many parameters, and batch norm or none like it. None where no such
    figure is known, for an ablation, and for a network of another size than the published one.
    """
    found = _read_published()["peers"].get(recipe.model) if dataset == "cifar10" and _as_published(recipe) else None
    return Published(**found) if found else None


def of_a_write_up(row: Row) -> bool:
    """Whether the row belongs in the main table: no ablation, and of a network that a write-up published."""
    return not row.recipe.startswith(ABLATION) and WRITE_UP.match(MODELS[row.model].source) is not None


def _is_theirs(recipe: Recipe) -> bool:
    """Whether the recipe has a write-up's own settings, known or filled in."""
    return PLAIN in recipe.name or PUBLISHED in recipe.name


def _as_published(recipe: Recipe) -> bool:
    """Whether the network is as large as the published one, and the recipe is no ablation."""
    if recipe.name.startswith(ABLATION):
        return False
    spec = MODELS[recipe.model]
    return costs(recipe, spec.num_classes)[0] == spec.parameters


@cache
def _read_published() -> dict[str, Any]:
    return tomllib.loads(PUBLISHED_FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Row:
    """The runs of one recipe with one budget on one data set. Accuracies are in per cent, None where not measured.

    ``records`` are its runs, one a seed, in the order of the seeds; empty where there is none. ``paths`` are the files
    of those records that are not the package's, None for the others, and ``networks`` the Python files that register
    the networks of these runs.
    """

    recipe: str
    model: str
    dataset: str
    budget: str
    """One of ``BUDGETS``: how long the runs were. A row has runs of one budget only."""
    parameters: int
    mult_adds: int
    """For one image of the size that this row's runs used, as ``layer_table`` counts them."""
    published: Published | None
    peer: Published | None
    records: tuple[Record, ...] = ()
    paths: tuple[Path | None, ...] = ()
    networks: tuple[str, ...] = ()

    @property
    def seeds(self) -> int:
        return len(self.records)

    @property
    def test(self) -> float | None:
        """Mean over the seeds, on the test images without augmentation."""
        return self._mean(lambda record: 100 * record.test_accuracy)

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None for a single run."""
        if self.seeds < 2:
            return None
        return statistics.stdev(100 * record.test_accuracy for record in self.records)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % interval of ``test``. It covers other test images, and does not cover another training."""
        if self.test is None:
            return None
        count = self.records[0].dataset.test_images
        low, high = wilson_interval(round(self.test / 100 * count), count)
        return 100 * low, 100 * high

    @property
    def validation(self) -> float | None:
        return self._mean(lambda record: 100 * record.val_accuracy)

    @property
    def train_error(self) -> float | None:
        return self._mean(lambda record: 100 * (1 - record.history[-1].train_accuracy))

    @property
    def epochs(self) -> float | None:
        """Epochs of one run, which are fewer than the recipe's if it stopped early; the mean if the seeds differ."""
        counts = {len(record.history) for record in self.records}
        return counts.pop() if len(counts) == 1 else self._mean(lambda record: len(record.history))

    @property
    def training_images(self) -> int | None:
        return self.records[0].dataset.training_images if self.records else None

    @property
    def side(self) -> int | None:
        """Side of the network's input, in pixels."""
        return self.records[0].recipe.image_size if self.records else None

    @property
    def seconds(self) -> float | None:
        """Wall time of one run: the median over the seeds, so that one run that was held up does not count."""
        return statistics.median(record.wall_seconds for record in self.records) if self.records else None

    @property
    def images_per_second(self) -> float | None:
        return self._mean(lambda record: record.images_per_second)

    @property
    def device(self) -> str | None:
        """The devices of the runs, with the number of threads on a CPU, and their versions of PyTorch."""
        machines = set()
        for environment in (environment for record in self.records for environment in record.environments):
            threads = f", threads: {environment.threads}" if "(cpu)" in environment.device else ""
            machines.add(f"{environment.device}{threads}, torch {environment.torch}")
        return " and ".join(sorted(machines)) or None

    @property
    def files(self) -> list[str]:
        """The names of the package's records, and the paths of the others."""
        return [
            f"{record.recipe.run_name}.json" if path is None else path.as_posix()
            for record, path in zip_longest(self.records, self.paths)
        ]

    @property
    def command(self) -> str:
        """The command that repeats the first run or, where there is none, makes it."""
        if not self.records:
            return f"alexnet-course train {quote(self.recipe)}"
        path = self.paths[0] if self.paths else None
        if path is None:
            return f"alexnet-course reproduce {quote(self.records[0].recipe.run_name)}"
        networks = "".join(f" --networks {quote(file)}" for file in self.networks)
        return f"alexnet-course reproduce {quote(path.parent.as_posix())}{networks}"

    def _mean(self, figure: Callable[[Record], float]) -> float | None:
        return statistics.fmean(map(figure, self.records)) if self.records else None


def results_table(folder: str | Path = FOLDER, more: Iterable[Record] = ()) -> list[Row]:
    """A row for each recipe and budget with a record in ``folder``, and one for each recipe of the package without any.

    ``more`` are further records, such as your own. Runs that differ in a setting or in their images have rows of their
    own; of two runs with the same seed the first counts. Recipes come first: CIFAR-10 before the other data sets, and
    the best recipe of each on top. The ablations follow, each group in the order of ``ablations.toml``; then what is
    not measured. Raises ``CourseError`` where ``load_records`` does.

    >>> from alexnet_course import results_table
    >>> best = results_table()[0]
    >>> best.dataset, best.seeds >= 1, best.test > 80
    ('cifar10', True, True)
    """
    return rows_of([*load_records(folder), *more])


def rows_of(
    records: Iterable[Record], own: Iterable[tuple[Path, Record]] = (), networks: Sequence[str] = ()
) -> list[Row]:
    """The rows of ``results_table`` for these records.

    ``own`` are records that are not the package's, each after its file, and ``networks`` the Python files that register
    their networks.
    """
    groups: dict[tuple[str, ...], dict[int, tuple[Record, Path | None]]] = {}
    everything = [(record, None) for record in records], [(record, path) for path, record in own]
    for record, path in chain(*everything):
        images = record.dataset
        # Not the recipe's own word for the data set: the same images may come from a folder or from an archive.
        alike = record.recipe.replace(dataset=images.name).fingerprint
        runs = groups.setdefault((alike, images.fingerprint, images.test_fingerprint), {})
        runs.setdefault(record.seed, (record, path))
    rows = []
    for runs in groups.values():
        made, paths = zip(*(runs[seed] for seed in sorted(runs)), strict=True)
        row = make_row(made[0].recipe, made)
        rows.append(replace(row, paths=paths, networks=tuple(networks)) if any(paths) else row)
    experiments = ablations()
    order = {recipe.name: position for position, recipe in enumerate(experiments)}
    rows.sort(key=lambda row: (order.get(row.recipe, -1), row.dataset != "cifar10", row.dataset,
                               -(row.test or 0), row.recipe))  # fmt: skip
    recorded = {row.recipe for row in rows}
    known = [*map(load_recipe, list_recipes()), *experiments]
    return rows + [make_row(recipe) for recipe in known if recipe.name not in recorded]


def make_row(recipe: Recipe, records: Sequence[Record] = ()) -> Row:
    """The row of ``records``: runs of ``recipe`` that differ only in their seeds; there may be none."""
    runs = tuple(sorted(records, key=lambda record: record.seed))
    dataset = runs[0].dataset.name if runs else recipe.dataset
    classes = len(runs[0].dataset.classes) if runs else CLASSES.get(dataset, 10)
    parameters, mult_adds = costs(recipe, classes, len(runs[0].dataset.mean) if runs else 0)
    return Row(
        recipe=recipe.name,
        model=recipe.model,
        dataset=dataset,
        budget=recipe.budget,
        parameters=parameters,
        mult_adds=mult_adds,
        published=published(recipe, dataset),
        peer=best_peer(recipe, dataset),
        records=runs,
    )


def costs(recipe: Recipe, classes: int = 10, channels: int = 0) -> tuple[int, int]:
    """Parameters of the recipe's network, and its multiply-adds for one image of the recipe's size.

    ``channels`` 0 stands for those of the images that the network was made for.
    """
    channels = channels or MODELS[recipe.model].input_size[0]
    network = (recipe.model, recipe.model_options, channels, recipe.outputs or classes)
    return parameters_of(*network), mult_adds_of(*network, recipe.image_size)


# --- As text ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Column:
    """One column of the table: which figure of a row it shows, and how the figure is written."""

    name: str
    figure: Callable[[Row], Any]
    write: Callable[[Any], str] = str
    missing: str = NOT_MEASURED

    def text(self, row: Row) -> str:
        value = self.figure(row)
        return self.missing if value is None else self.write(value)

    def order(self, row: Row) -> Any:
        """The number or word by which this column sorts a row: the first of several figures; None without a figure."""
        value = self.figure(row)
        if isinstance(value, Published):
            return value.accuracy
        return value[0] if isinstance(value, tuple) else value


def _percent(value: float) -> str:
    return f"{value:.2f}"


def _published(found: Published) -> str:
    return f"{found.accuracy:.2f} ({found.source}{'; ' if found.note else ''}{found.note})"


def _test(row: Row) -> tuple[float, float | None] | None:
    return None if row.test is None else (row.test, row.spread)


def _with_spread(figures: tuple[float, float | None]) -> str:
    mean, spread = figures
    return f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.1f} min"


WORDS = ("recipe", "data set", "budget", "device")  # columns of words, not of numbers
INTERVAL = "95 % interval (images)"  # it covers other images, and not another training

COLUMNS = (
    Column("recipe", lambda row: row.recipe),
    Column("test %", _test, _with_spread),
    Column("published %", lambda row: row.published, _published, NOT_GIVEN),
    Column("epochs", lambda row: row.epochs, lambda count: f"{count:.0f}"),
    Column("parameters", lambda row: row.parameters, lambda count: f"{count:,}"),
    Column("time", lambda row: row.seconds, _time),
    Column(INTERVAL, lambda row: row.interval, lambda ends: f"{ends[0]:.2f} to {ends[1]:.2f}"),
    Column("budget", lambda row: row.budget if row.records else None),
    Column("seeds", lambda row: row.seeds),
    Column("best peer %", lambda row: row.peer, _published, NOT_GIVEN),
    Column("validation %", lambda row: row.validation, _percent),
    Column("data set", lambda row: row.dataset),
    Column("mult-adds", lambda row: row.mult_adds, lambda count: f"{count / 1e6:,.1f} M"),
    Column("training images", lambda row: row.training_images, lambda count: f"{count:,}"),
    Column("side", lambda row: row.side),
    Column("images/s", lambda row: row.images_per_second, lambda rate: f"{rate:,.0f}"),
    Column("device", lambda row: row.device),
)

MARKERS = ("<!-- results: written by make results -->", "<!-- end of results -->")
# What a reader asks for first: the columns of the README, and of the results page.
MAIN_COLUMNS = ("recipe", "test %", "published %", "epochs", "parameters", "time", INTERVAL, "budget", "seeds")
TEXT_COLUMNS = ("recipe", "data set", *MAIN_COLUMNS[1:])


def in_markdown(text: str) -> str:
    """``text`` for a cell of a Markdown table, with every special character escaped."""
    return re.sub(r"([\\`*_\[\]<>|$~])", r"\\\1", " ".join(text.split()))


def as_markdown(rows: Iterable[Row], names: Sequence[str] = MAIN_COLUMNS) -> str:
    """The columns ``names`` as a Markdown table, with numbers aligned to the right."""
    columns = [column for name in names for column in COLUMNS if column.name == name]
    cells = [[in_markdown(column.text(row)) for column in columns] for row in rows]
    lines = [[column.name for column in columns], ["---" if c.name in WORDS else "---:" for c in columns], *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def write_between_markers(path: Path, table: str) -> bool:
    """Put ``table`` between the two lines ``MARKERS`` of a Markdown file; return whether the file changed."""
    content, head, tail = around_table(path)
    after = f"{head}{table}{tail}"
    if "\r\n" in content:  # the file's own ends of lines
        after = after.replace("\n", "\r\n")
    with whole_file(path.resolve()) as part:  # a link stays one
        part.write_bytes(after.encode("utf-8"))
    return after != content


def around_table(path: Path) -> tuple[str, str, str]:
    """The content of a Markdown file, and its parts up to and from the lines ``MARKERS``, with Unix's ends of lines.

    Raises ``CourseError`` if it cannot be read, or does not have them.
    """
    begin, end = MARKERS
    try:
        refuse_what_is_no_file(path)
        content = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise CourseError(f"{str(path)!r} cannot be read ({error.strerror}); make a Markdown file there, with the "
                          f"lines {begin!r} and {end!r} where the table is to be.") from None  # fmt: skip
    except UnicodeDecodeError as error:
        raise CourseError(f"{str(path)!r} is not a text file in UTF-8 ({error}); save it as one.") from None
    head, found, rest = content.replace("\r\n", "\n").partition(f"{begin}\n")
    _, also_found, tail = rest.partition(end)
    if not found or not also_found:
        raise CourseError(f"{path} has no lines {begin!r} and {end!r}; add them where the table is to be.")
    return content, head + found, also_found + tail


def as_text(rows: Iterable[Row], names: Sequence[str] = TEXT_COLUMNS) -> str:
    """The columns ``names`` for a terminal."""
    columns = [column for name in names for column in COLUMNS if column.name == name]
    table = [[column.name for column in columns], *([column.text(row) for column in columns] for row in rows)]
    widths = [max(map(len, cells)) for cells in zip(*table, strict=True)]
    aligned = [[c.ljust if column.name in WORDS else c.rjust for c, column in zip(line, columns, strict=True)]
               for line in table]  # fmt: skip
    return "\n".join("  ".join(put(w) for put, w in zip(line, widths, strict=True)).rstrip() for line in aligned)


def as_csv(rows: Iterable[Row]) -> str:
    """Every figure of every row, unrounded, one line per row; the cell of a figure that is not measured is empty."""
    lines = [{key: _no_formula(value) for key, value in flat(row).items()} for row in rows]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]) if lines else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """Text that a spreadsheet would take for a formula gets an apostrophe in front, which the spreadsheet hides."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def flat(row: Row) -> dict[str, Any]:
    """The figures of a row by name, percentages as such; None where nothing is measured."""
    low, high = row.interval or (None, None)
    theirs, peer = row.published, row.peer
    return {
        "recipe": row.recipe,
        "model": row.model,
        "dataset": row.dataset,
        "budget": row.budget if row.records else None,
        "seeds": row.seeds,
        "test_accuracy": row.test,
        "test_accuracy_std": row.spread,
        "interval_low": low,
        "interval_high": high,
        "val_accuracy": row.validation,
        "published": theirs.accuracy if theirs else None,
        "published_source": theirs.source if theirs else None,
        "best_peer": peer.accuracy if peer else None,
        "best_peer_source": peer.source if peer else None,
        "parameters": row.parameters,
        "mult_adds": row.mult_adds,
        "epochs": row.epochs,
        "training_images": row.training_images,
        "input_side": row.side,
        "wall_seconds": row.seconds,
        "images_per_second": row.images_per_second,
        "device": row.device,
        "records": " ".join(row.files) or None,
        "command": row.command,
    }
