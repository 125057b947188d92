"""The figures on CIFAR-10.1 are whole numbers of its images, and a file that is not of their form is refused."""

import pytest

from alexnet_course.errors import CourseError
from alexnet_course.records import new_images
from alexnet_course.records.new_images import (
    IMAGES,
    NEW_IMAGES,
    OnNewImages,
    line_through,
    published_on_new_images,
)

MODELS = published_on_new_images()


def test_every_figure_is_a_whole_number_of_images():
    """Which also tells the versions apart: the columns cannot be exchanged."""
    assert len(MODELS) == len({found.model for found in MODELS}) == 30
    for found in MODELS:
        for percent, images in ((found.cifar10, 10_000), (found.v4, IMAGES["v4"]), (found.v6, IMAGES["v6"])):
            right = percent / 100 * images
            assert right == pytest.approx(round(right), abs=0.02), found


def test_the_figures_are_those_of_the_authors():
    by_name = {found.model: found for found in MODELS}
    assert by_name["alexnet_tf_ben"] == OnNewImages("alexnet_tf_ben", 81.98, 68.877, 69.2)
    assert by_name["cudaconvnet"] == OnNewImages("cudaconvnet", 88.54, 77.536, 78.2)
    assert min(MODELS, key=lambda found: found.cifar10).model == "alexnet_tf_ben"


def test_s0_has_two_pairs_of_the_newer_version():
    pairs = published_on_new_images("write-ups")
    assert [(found.cifar10, found.v4, found.v6) for found in pairs] == [(80.05, None, 68.45), (86.81, None, 76.2)]
    right = 68.45 / 100
    assert right * IMAGES["v6"] == pytest.approx(1369)
    assert abs(right * IMAGES["v4"] - round(right * IMAGES["v4"])) > 0.1  # so it is not of the other version


def test_every_model_loses_on_new_images_and_the_line_is_steeper_than_one():
    for version in IMAGES:
        slope, _ = line_through(MODELS, version)
        assert 1.5 < slope < 1.9
        assert all(found.on(version) < found.cifar10 for found in MODELS)


def test_the_folder_says_where_its_figures_are_from():
    text = (NEW_IMAGES / "SOURCES.md").read_text(encoding="utf-8")
    for path in NEW_IMAGES.glob("*.csv"):
        assert f"`{path.name}`" in text
        assert [name for name in path.read_text("utf-8").splitlines()[0].split(",") if f"`{name}`" not in text] == []


def test_what_is_not_there_is_refused(tmp_path, monkeypatch):
    with pytest.raises(CourseError, match=r"no version 'v5' of .* here; give one of v4, v6"):
        MODELS[0].on("v5")
    with pytest.raises(CourseError, match="give 'models' or 'write-ups'"):
        published_on_new_images("papers")
    with pytest.raises(CourseError, match="0 models have a figure on v4; a line needs two"):
        line_through(published_on_new_images("write-ups"), "v4")
    monkeypatch.setattr(new_images, "NEW_IMAGES", tmp_path)
    (tmp_path / "models.csv").write_text("model,cifar10,v4,v6\nsome,much,0.1,0.1\n")
    with pytest.raises(CourseError, match="is not readable as accuracies on"):
        published_on_new_images()
