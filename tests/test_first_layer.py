"""First kernels that come with the package: they are those of the recorded runs, and colour is measured rightly."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_course import CourseError, Recipe, build_model
from alexnet_course.first_layer import (
    ENDING,
    colourfulness,
    first_convolution,
    keep_first_layer,
    learned,
    load_first_layer,
)
from alexnet_course.pretrained import FOLDER
from alexnet_course.records import FOLDER as RECORDS
from alexnet_course.watching import fit
from benchmarks.weights import main

KEPT = sorted(path.name.removesuffix(ENDING) for path in FOLDER.glob(f"*{ENDING}"))


@pytest.mark.parametrize("run", KEPT)
def test_kernels_of_the_package_began_as_the_seed_of_their_record_says(run):
    """Whatever was trained from another seed, or with another network, resembles its start no more than chance."""
    recipe = json.loads((RECORDS / f"{run}.json").read_text())["recipe"]
    kernels = load_first_layer(run)
    torch.manual_seed(recipe["seed"])
    start = nn.Conv2d(3, len(kernels), kernels.shape[-1]).weight.detach()
    with torch.device("meta"):
        layer = first_convolution(build_model(recipe["model"], **recipe["model_options"]))
    assert layer.weight.shape == kernels.shape
    assert torch.corrcoef(torch.stack([kernels.flatten(), start.flatten()]))[0, 1] > 0.4
    assert not torch.allclose(kernels, start, atol=1e-2)
    assert (FOLDER / f"{run}{ENDING}").stat().st_size < 20_000


def test_what_is_kept_are_the_first_kernels_of_the_run(data, tmp_path, monkeypatch, capsys):
    recipe = Recipe(name="tiny", model="cnn4", epochs=1, batch_size=20, validation_size=20, budget="evening")
    run = fit(recipe, progress=False, out=tmp_path / "tiny", **data)
    path = keep_first_layer(run.out, tmp_path)
    assert path.name == f"{recipe.run_name}.conv1.npy"
    found = load_first_layer(recipe.run_name, tmp_path)
    assert torch.equal(found, run.model.features[0].weight.detach().half().float())

    monkeypatch.setattr("benchmarks.weights.keep_first_layer", lambda run: path)
    monkeypatch.setattr("benchmarks.weights.list_pretrained", list)
    main(["--first-layer", str(run.out)])
    assert capsys.readouterr().out == f"{path.name}: {path.stat().st_size:,} bytes\n"


def test_an_unknown_run_and_a_network_without_kernels_are_refused(tmp_path):
    np.save(tmp_path / f"this{ENDING}", np.zeros((1, 3, 1, 1), np.float16))
    with pytest.raises(CourseError, match=r"^There are no kernels of a run 'thsi'; nearest: this\.$"):
        load_first_layer("thsi", tmp_path)
    with pytest.raises(CourseError, match="has no convolution"):
        first_convolution(nn.Linear(3, 3))


def test_colourfulness_is_the_energy_off_the_grey_axis():
    grey = torch.randn(1, 1, 5, 5).expand(1, 3, 5, 5)
    green_against_red = torch.tensor([1.0, -1.0, 0.0])[None, :, None, None].expand(1, 3, 5, 5)
    red = torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 5, 5)
    found = colourfulness(torch.cat([grey, green_against_red, red]))
    assert found.tolist() == pytest.approx([0, 1, 2 / 3], abs=1e-6)
    torch.manual_seed(0)
    assert colourfulness(torch.randn(2000, 3, 5, 5)).mean().item() == pytest.approx(2 / 3, abs=0.01)
    with pytest.raises(CourseError, match=r"not of \(4, 1, 5, 5\); give the first layer"):
        colourfulness(torch.zeros(4, 1, 5, 5))


def test_what_was_learned_has_nothing_of_the_start():
    torch.manual_seed(0)
    start, edges = torch.randn(2, 4, 3, 5, 5)
    edges -= start * (edges * start).sum() / start.square().sum()
    assert torch.allclose(learned(0.8 * start + edges, start), edges, atol=1e-5)
    with pytest.raises(CourseError, match="before and after training"):
        learned(start, start[:2])
