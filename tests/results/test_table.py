"""The results table: one row a recipe and budget, from records alone."""

import csv
import io
import json
import re
import shlex
import shutil
import statistics
from pathlib import Path

import pytest

from alexnet_course.cli import main
from alexnet_course.models import MODELS, build_model
from alexnet_course.recipe import Recipe
from alexnet_course.recipes import list_recipes, load_recipe
from alexnet_course.records import FOLDER, NOT_MEASURED, load_records
from alexnet_course.records.record import read_record
from alexnet_course.results import table
from alexnet_course.results.reproduce import find_record
from alexnet_course.results.table import (
    COLUMNS,
    MARKERS,
    as_csv,
    as_markdown,
    as_text,
    best_peer,
    costs,
    flat,
    make_row,
    published,
    results_table,
)
from alexnet_course.shapes import layer_table
from alexnet_course.training import wilson_interval


def row_of(folder, name, budget="evening"):
    (row,) = (row for row in results_table(folder) if row.recipe == name and (not row.records or row.budget == budget))
    return row


def cell(row, name):
    (column,) = (column for column in COLUMNS if column.name == name)
    return column.text(row)


def test_a_row_is_the_mean_over_its_seeds_and_says_how_they_were_made(write):
    for seed, right in enumerate((40, 42, 44)):
        folder = write("mine", right, seed=seed)
    row = row_of(folder, "mine")
    assert row.test == pytest.approx(84)
    assert row.spread == pytest.approx(statistics.stdev([80, 84, 88]))
    assert row.interval == tuple(100 * end for end in wilson_interval(42, 50))
    assert [record.seed for record in row.records] == [0, 1, 2]
    assert (row.epochs, row.training_images, row.side, row.seeds) == (2, 110, 32, 3)
    assert row.parameters == row.records[0].parameters
    assert row.files == [f"mine-evening-seed{seed}.json" for seed in range(3)]
    assert row.command == "alexnet-course reproduce mine-evening-seed0"
    assert cell(row, "test %") == "84.00 ± 4.00"
    assert cell(row, "95 % interval (images)") == f"{row.interval[0]:.2f} to {row.interval[1]:.2f}"


def test_one_seed_has_no_spread(write):
    row = row_of(write("mine", 40), "mine")
    assert row.spread is None
    assert cell(row, "test %") == "80.00"


def test_runs_of_two_budgets_are_never_in_one_row(write):
    write("mine", 30)
    folder = write("mine", 40, seed=1, budget="long")
    evening, long = row_of(folder, "mine"), row_of(folder, "mine", "long")
    assert (evening.test, long.test) == (60, 80)
    assert (evening.seeds, long.seeds) == (1, 1)
    assert long.command == "alexnet-course reproduce mine-seed1"


def test_every_table_says_budget_and_epochs(write):
    rows = [row for row in results_table(write("mine", 40)) if row.records]
    for text_of in (as_markdown(rows), as_text(rows)):
        head, *_, line = (text.replace("|", " ") for text in text_of.splitlines())
        assert re.search(r"recipe .*test % .*epochs .*95 % interval \(images\) +budget", head)
        assert re.search(r"mine .* 80\.00 .* 2 .*evening", line)
    assert (flat(rows[0])["budget"], flat(rows[0])["epochs"]) == ("evening", 2)


def test_epochs_are_those_that_were_run_in_the_mean_where_runs_stopped_early(write):
    folder = write("mine", 40)
    [record] = load_records(folder)
    early = record.replace(seed=1, recipe=record.recipe.replace(seed=1), history=record.history[:1])
    (row,) = (row for row in results_table(folder, [early]) if row.records)
    assert (row.seeds, row.epochs) == (2, 1.5)
    assert cell(row, "epochs") == "2"


def test_what_is_not_measured_says_so(tmp_path):
    rows = results_table(tmp_path)
    assert {row.recipe for row in rows} >= {"alexnet-lrn.modern", "alexnet-lrn.plain", "ablation.cnn4.base"}
    for row in rows:
        assert (row.test, row.interval, row.validation, row.epochs, row.device, row.seeds) == (None,) * 5 + (0,)
        assert cell(row, "test %") == cell(row, "time") == cell(row, "budget") == NOT_MEASURED
    lrn = row_of(tmp_path, "alexnet-lrn.modern")
    assert cell(lrn, "published %") == "83.42 (S2)"
    assert lrn.command == "alexnet-course train alexnet-lrn.modern"
    assert (lrn.parameters, cell(lrn, "parameters")) == (MODELS["alexnet-lrn"].parameters, "58,322,314")


def test_deleting_a_record_changes_its_row_and_no_other(write):
    write("one", 30)
    folder = write("two", 40)
    before = {row.recipe: flat(row) for row in results_table(folder)}
    (folder / "two-evening-seed0.json").unlink()
    after = {row.recipe: flat(row) for row in results_table(folder)}
    assert before.pop("two")["test_accuracy"] == pytest.approx(80)
    assert after == before


def test_recipes_come_first_the_best_on_top_then_ablations_then_what_is_missing(write):
    for name, right in (("worse", 20), ("better", 40)):
        folder = write(name, right)
    names = [row.recipe for row in results_table(folder)]
    assert names[:2] == ["better", "worse"]
    assert all(not row.records for row in results_table(folder)[2:])
    ours = [row for row in results_table() if row.records]
    kinds = [row.recipe.startswith("ablation.") for row in ours]
    assert kinds == sorted(kinds)


def test_the_main_table_has_the_networks_of_the_write_ups_alone(tmp_path):
    main_rows = [row for row in results_table(tmp_path) if table.of_a_write_up(row)]
    networks = {row.model for row in main_rows}
    assert networks == {name for name, spec in MODELS.items() if spec.source.startswith("S")}
    assert not any(row.recipe.startswith("ablation.") for row in main_rows)


def test_a_peer_is_like_its_network_in_size_and_batch_norm():
    """And says how its epoch was chosen."""
    for name, found in table._read_published()["peers"].items():
        millions = float(re.search(r"([\d.]+) M parameters", found["note"])[1])
        assert millions == pytest.approx(MODELS[name].parameters / 1e6, rel=0.1)
        assert ("bn" in name) == ("bn" in found["source"])
        assert "best epoch on the test set" in found["note"]


def test_a_long_run_s_time_is_in_hours(write):
    [record] = load_records(write("mine", 40))
    for seconds, said in ((90, "1.5 min"), (5399, "90.0 min"), (9000, "2.5 h")):
        assert cell(make_row(record.recipe, [record.replace(wall_seconds=seconds)]), "time") == said


def test_a_run_that_was_held_up_does_not_count_in_the_time(write):
    [record] = load_records(write("mine", 40))
    runs = [record.replace(wall_seconds=seconds) for seconds in (60, 80, 9000)]
    assert make_row(record.recipe, runs).seconds == 80
    assert make_row(record.recipe, []).seconds is None


def test_the_device_of_a_row_names_the_threads_of_its_cpu(write):
    [record] = load_records(write("mine", 40))

    def device(*machines):
        runs = [
            record.replace(environment=record.environment.model_copy(update=each | {"torch": "2.11"}))
            for each in machines
        ]
        return make_row(record.recipe, runs).device

    xeon, gpu = {"device": "Xeon (cpu)"}, {"device": "H100", "threads": 16}
    assert device(xeon | {"threads": 2}, xeon | {"threads": 2}) == "Xeon (cpu), threads: 2, torch 2.11"
    both = "Xeon (cpu), threads: 1, torch 2.11 and Xeon (cpu), threads: 2, torch 2.11"
    assert device(xeon | {"threads": 2}, xeon | {"threads": 1}) == both
    assert device(gpu) == "H100, torch 2.11"


def test_one_s_own_runs_stand_among_the_others(write, finished):
    folder = write("mine", 40)
    record = read_record(finished / "record.json")
    rows = results_table(folder, [record])
    assert {"mine", "base"} <= {row.recipe for row in rows if row.records}


def test_published_figures_are_those_of_the_recipe_or_of_its_network():
    def figure(recipe, of=published, **changes):
        recipe = load_recipe(recipe).replace(**changes)
        found = of(recipe, recipe.dataset)
        return found.accuracy if found else None

    assert figure("alexnet-cifar-3x3.published") == 80.05
    assert figure("alexnet-cifar-5x5-v1.published-1e-3") == 75.4
    assert figure("alexnet-cifar-5x5-v1.modern") == 79.6
    assert figure("alexnet-cifar-5x5-v1.published-cifar100") == 42.5
    assert figure("alexnet-cifar-5x5-v1.published-1e-4-cifar100") is None  # the better settings' figure is not its own
    assert figure("alexnet-cifar-5x5.published-adam") == 81.78
    assert figure("alexnet-cifar-5x5.modern") == 84.66
    assert figure("alexnet-cifar-5x5-lrn.modern-cifar100") == 56.19
    assert figure("vgg-style-bn.modern-cifar100") is None
    assert figure("alexnet-d2l.modern") is None
    assert figure("vgg-style-bn.modern", best_peer) == 93.34
    assert figure("vgg-style.modern", best_peer) is None  # the peer has batch norm
    for of in (published, best_peer):  # neither a part of an experiment nor another network
        assert figure("ablation.alexnet.base", of) is None
        assert figure("vgg-style-bn.small", of) is None
        assert figure("vgg-style-bn.modern", of, name="mine", model_options={"width": 0.5}) is None


@pytest.mark.parametrize("network", ["alexnet-d2l", "alexnet-lrn", "vgg-style", "vgg-style-bn"])
def test_a_plain_recipe_stands_beside_no_published_figure(network, write):
    """S1 and S2 say nothing of their training, so a plain filling-in is not theirs."""
    assert published(load_recipe(f"{network}.plain")) is None
    assert published(load_recipe(f"{network}.plain").replace(name=f"{network}.plain-changed", epochs=5)) is None
    row = row_of(write("mine", 40), f"{network}.plain")
    assert cell(row, "published %") == table.NOT_GIVEN
    assert flat(row)["published"] is None


def test_every_published_figure_is_of_a_network_or_recipe_of_the_course():
    figures = table._read_published()
    assert set(figures) == {"recipes", "networks", "peers"}
    assert set(figures["recipes"]) <= set(list_recipes())
    assert {name for table in figures["networks"].values() for name in table} | set(figures["peers"]) <= set(MODELS)
    for name in figures["recipes"]:  # of the data set that the name says
        assert load_recipe(name).dataset == ("cifar100" if name.endswith("cifar100") else "cifar10")


def test_a_published_figure_that_is_no_test_accuracy_says_so():
    lrn = make_row(load_recipe("alexnet-cifar-5x5-lrn.published-sgd"))
    assert cell(lrn, "published %") == "85.44 (S3; best validation accuracy)"


def test_more_outputs_than_classes_are_counted():
    recipe = load_recipe("alexnet-cifar-5x5-v1.published-cifar100")
    assert recipe.outputs == 256
    assert costs(recipe, 100) == costs(recipe.replace(outputs=0), 256)


def test_costs_are_those_of_as_many_channels_as_the_images_have(write):
    [record] = load_records(write("mine", 40))
    grey = record.dataset.model_copy(update={"mean": (0.5,), "std": (0.2,)})
    row = make_row(record.recipe, [record.replace(dataset=grey)])
    layers = layer_table(build_model(record.recipe.model, num_classes=2, in_channels=1), (1, 32, 32))
    assert row.parameters == sum(layer.parameters for layer in layers)
    assert row.mult_adds == sum(layer.mult_adds for layer in layers)


def test_other_test_images_have_a_row_of_their_own(write):
    [first] = load_records(write("mine", 40))
    more = first.dataset.model_copy(update={"test_fingerprint": "0" * 32})
    second = first.replace(seed=1, recipe=first.recipe.replace(seed=1), dataset=more)
    assert [row.seeds for row in results_table(FOLDER.parent, [first, second]) if row.records] == [1, 1]


@pytest.mark.parametrize("name", ["alexnet-cifar-3x3", "alexnet-d2l", "alexnet-lrn", "cnn4"])
def test_costs_are_those_of_the_layer_table_at_the_size_of_the_images(name):
    assert costs(Recipe(model=name))[0] == MODELS[name].parameters or MODELS[name].num_classes != 10
    if name == "alexnet-cifar-3x3":
        assert costs(Recipe(model=name))[1] == 240_150_410  # S0's own table: 240.15 M
    if name == "alexnet-d2l":
        assert costs(Recipe(model=name, input_size=193))[1] < costs(Recipe(model=name))[1]


def test_csv_has_every_figure_unrounded(write):
    folder = write("mine", 41)
    rows = results_table(folder)
    (mine,) = (line for line in csv.DictReader(io.StringIO(as_csv(rows))) if line["recipe"] == "mine")
    assert float(mine["test_accuracy"]) == pytest.approx(82, abs=1e-12)
    assert mine["test_accuracy_std"] == mine["published"] == ""
    assert mine["records"] == "mine-evening-seed0.json"
    assert as_csv([]) == "\n"


def test_markdown_and_text_have_a_line_a_row(write):
    rows = [row for row in results_table(write("mine", 41)) if row.records]
    header, rule, line = as_markdown(rows, ("recipe", "test %")).splitlines()
    assert (header, rule, line) == ("| recipe | test % |", "| --- | ---: |", "| mine | 82.00 |")
    assert as_text(rows, ("recipe", "test %")).splitlines() == ["recipe  test %", "mine     82.00"]


@pytest.mark.parametrize("form", ["text", "markdown", "csv"])
def test_the_command_prints_the_table(write, finished, capsys, form):
    folder = write("mine", 41)
    arguments = ["results", "--records", str(folder), "--format", form, "--add", str(finished.parent)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "mine" in out
    assert "base" in out
    assert "alexnet-lrn" not in out
    assert main([*arguments, "--all"]) == 0
    assert "alexnet-lrn.modern" in capsys.readouterr().out


def test_an_own_run_is_shown_or_the_reason_is_said(write, finished, tmp_path, capsys):
    folder, runs = write("mine", 41), tmp_path / "runs"
    for name in ("base-seed0", "base-seed0-2"):  # as after a change of the network's code
        shutil.copytree(finished, runs / name)
    ablation = json.loads((finished / "record.json").read_text())
    ablation["recipe"]["name"] = "ablation.cnn4.base-changed"
    shutil.copytree(finished, runs / "ablation")
    (runs / "ablation" / "record.json").write_text(json.dumps(ablation))
    assert main(["results", "--records", str(folder), "--add", str(runs)]) == 0
    printed = capsys.readouterr()
    assert "ablation.cnn4.base-changed" in printed.out
    assert printed.err.count("is not in the table") == 1
    assert f"{runs / 'base-seed0-2'} is not in the table: another run of 'base' has the same recipe" in printed.err


def test_the_command_of_an_own_run_repeats_it(write, finished, capsys):
    folder = write("mine", 41)
    assert main(["results", "--records", str(folder), "--add", str(finished), "--format", "csv"]) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    own, packaged = (next(row for row in rows if row["recipe"] == name) for name in ("base", "mine"))
    command = shlex.split(own["command"])
    assert command == ["alexnet-course", "reproduce", finished.as_posix()]
    path = Path(own["records"])
    row, *_ = table.rows_of([], [(path, read_record(path))], ["my nets.py"])
    assert shlex.split(row.command) == [*command, "--networks", "my nets.py"]
    assert find_record(command[2]) == read_record(Path(own["records"]))
    assert (packaged["command"], packaged["records"]) == (
        "alexnet-course reproduce mine-evening-seed0",
        "mine-evening-seed0.json",
    )


def test_verify_looks_at_one_s_own_runs_too_and_refuses_the_table_s_options(write, finished, tmp_path, capsys):
    folder, run = write("mine", 41), tmp_path / "run"
    shutil.copytree(finished, run)
    assert main(["results", "verify", "--records", str(folder), "--add", str(run)]) == 0
    assert capsys.readouterr().out.startswith("2 records fit")
    values = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps(values | {"test_accuracy": 0.99}))
    assert main(["results", "verify", "--records", str(folder), "--add", str(run)]) == 2
    assert f"{run}/record.json: test_accuracy is 0.99" in capsys.readouterr().out
    for option in (["--all"], ["--format", "csv"], ["--write", "README.md"]):
        assert main(["results", "verify", *option]) == 2
        assert f"{option[0]} is for the table and has no effect with verify" in capsys.readouterr().err
    assert main(["results", "--data", "doodles"]) == 2
    assert "--data has an effect with verify only" in capsys.readouterr().err


def test_a_file_keeps_its_ends_of_lines_and_a_link_stays_one(tmp_path, write, capsys):
    folder, file, link = write("mine", 41), tmp_path / "real.md", tmp_path / "link.md"
    file.write_bytes(b"before\r\n<!-- results: written by make results -->\r\n<!-- end of results -->\r\nafter\r\n")
    link.symlink_to(file)
    assert main(["results", "--write", str(link), "--records", str(folder)]) == 0
    assert link.is_symlink()
    content = file.read_bytes()
    assert content.count(b"\r\n") == content.count(b"\n") == 7
    assert b"| mine | 82.00 |" in content
    assert main(["results", "--write", str(link), "--records", str(folder)]) == 0
    assert capsys.readouterr().out.endswith("had this table already\n")
    file.write_bytes(b"caf\xe9")
    assert main(["results", "--write", str(file), "--records", str(folder)]) == 2
    assert "is not a text file in UTF-8" in capsys.readouterr().err
    assert file.read_bytes() == b"caf\xe9"


def test_a_folder_without_a_finished_run_is_refused(tmp_path, capsys):
    assert main(["results", "--add", str(tmp_path)]) == 2
    assert "holds no finished run; give the folder that train wrote to" in capsys.readouterr().err


def test_every_committed_record_is_in_the_table_once():
    names = [file for row in results_table() for file in row.files]
    assert sorted(names) == sorted(path.name for path in FOLDER.glob("*seed*.json"))
    assert len(names) == len(load_records())


README = Path(__file__).parents[2] / "README.md"


def test_the_table_of_the_readme_is_that_of_the_records(tmp_path, capsys):
    """``make results`` writes it."""
    copy = tmp_path / "README.md"
    shutil.copy(README, copy)
    assert main(["results", "--write", str(copy)]) == 0
    assert capsys.readouterr().out.endswith("had this table already\n"), "README.md is stale: run make results"


def test_deleting_a_record_changes_the_readme(tmp_path, write, capsys):
    folder = write("mine", 41)
    copy = tmp_path / "README.md"
    copy.write_text("before\n<!-- results: written by make results -->\n<!-- end of results -->\nafter\n")
    main(["results", "--write", str(copy), "--records", str(folder)])
    assert "| mine | 82.00 | – | 2 |" in copy.read_text()
    (folder / "mine-evening-seed0.json").unlink()
    main(["results", "--write", str(copy), "--records", str(folder)])
    assert capsys.readouterr().out.endswith("has the new table\n")
    assert "mine" not in copy.read_text()
    assert copy.read_text().startswith("before\n<!--")
    assert copy.read_text().endswith("-->\nafter\n")


def test_a_file_without_the_markers_is_refused_and_stays(tmp_path, capsys):
    (tmp_path / "some.md").write_text("nothing\n")
    assert main(["results", "--write", str(tmp_path / "some.md")]) == 2
    assert "add them where the table is to be" in capsys.readouterr().err
    assert (tmp_path / "some.md").read_text() == "nothing\n"


def test_where_no_table_can_be_written_is_said_before_the_records_are_read(tmp_path, capsys, monkeypatch):
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr("alexnet_course.cli.results.sift_records", None)
    for name, reason in (("missing.md", "No such file or directory"), ("folder", "not a file")):
        assert main(["results", "--write", str(tmp_path / name)]) == 2
        err = capsys.readouterr().err
        assert f"{name}' cannot be read ({reason}); make a Markdown file there, with the lines '<!-- results" in err
    assert main(["results", "--write", "x.md", "--format", "csv"]) == 2
    assert "--format csv has no effect with --write, which writes Markdown" in capsys.readouterr().err


def test_home_is_expanded_in_every_path(tmp_path, write, monkeypatch, capsys):
    """bash does not, in --write=~/x."""
    write("mine", 41).rename(tmp_path / "mine")
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "page.md").write_text("\n".join([*MARKERS, ""]))
    assert main(["results", "--write=~/page.md", "--records=~/mine"]) == 0
    assert "| mine | 82.00 |" in (tmp_path / "page.md").read_text()
    assert main(["results", "--add=~/mine"]) == 2
    assert f"'{tmp_path}/mine' holds no finished run" in capsys.readouterr().err
    assert main(["results", "verify", "--records=~/mine"]) == 0
    assert find_record("~/mine/mine-evening-seed0.json").recipe.name == "mine"


def test_other_images_and_other_settings_have_rows_of_their_own_and_a_seed_counts_once(write):
    records = load_records(write("mine", 40))
    [first] = records
    longer = first.replace(recipe=first.recipe.replace(lr=0.01))
    others = first.dataset.model_copy(update={"name": "doodles", "fingerprint": "0" * 32})
    elsewhere = first.replace(dataset=others)
    moved = first.replace(seed=1, recipe=first.recipe.replace(seed=1, dataset="folder:elsewhere"))
    rows = [row for row in results_table(FOLDER.parent, [first, longer, elsewhere, moved, first]) if row.records]
    assert [(row.dataset, row.seeds) for row in rows] == [("doodles", 1), ("two-colours", 2), ("two-colours", 1)]
    assert (
        [flat(row)["dataset"] for row in rows]
        == [row.dataset for row in rows]
        == [cell(row, "data set") for row in rows]
    )


def test_a_data_set_s_rows_stay_together_whatever_their_accuracy(write):
    [good] = load_records(write("good", 45))
    poor = good.replace(test_accuracy=0.1, dataset=good.dataset.model_copy(update={"name": "cifar10"}))
    rows = [row for row in results_table(FOLDER.parent, [good, poor]) if row.records]
    assert [row.dataset for row in rows] == ["cifar10", "two-colours"]
