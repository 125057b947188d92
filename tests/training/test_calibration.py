"""Confidence against accuracy, bin by bin, and the temperature that makes them agree."""

import pytest
import torch

from alexnet_course import CourseError
from alexnet_course.training import Bin, calibration_error, fit_temperature, reliability

# Four images at 60 %, two of them right; two at 95 %, both right.
PROBABILITIES = torch.tensor([[0.6, 0.4]] * 4 + [[0.05, 0.95]] * 2, dtype=torch.float64)
LABELS = torch.tensor([0, 0, 1, 1, 1, 1])


def test_each_interval_has_its_images_their_confidence_and_their_accuracy():
    sixty, ninety = reliability(PROBABILITIES, LABELS)
    assert (sixty.low, sixty.high, sixty.count) == (0.5, 0.6, 4)
    assert (sixty.confidence, sixty.accuracy) == pytest.approx((0.6, 0.5))
    assert (ninety.low, ninety.high, ninety.count) == (0.9, 1.0, 2)
    assert (ninety.confidence, ninety.accuracy) == pytest.approx((0.95, 1.0))


def test_certain_images_are_in_the_last_interval():
    assert reliability(torch.tensor([[1.0, 0.0]]), torch.tensor([0]), bins=4) == [Bin(0.75, 1.0, 1, 1.0, 1.0)]


def test_the_error_is_the_mean_gap_over_images():
    assert calibration_error(PROBABILITIES, LABELS) == pytest.approx((4 * 0.1 + 2 * 0.05) / 6)
    # In one interval: mean confidence 4.3/6, of which 4/6 are right.
    assert calibration_error(PROBABILITIES, LABELS, bins=1) == pytest.approx(0.3 / 6)


def test_the_temperature_is_found_by_which_logits_were_multiplied():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(1), 1, generator=generator)[:, 0]
    as_drawn = fit_temperature(logits, labels)
    assert as_drawn == pytest.approx(1, abs=0.1)
    assert fit_temperature(3 * logits, labels) == pytest.approx(3 * as_drawn, rel=1e-6)
    too_sure = (3 * logits).softmax(1)
    assert calibration_error(too_sure, labels) > 5 * calibration_error((logits / as_drawn).softmax(1), labels)


def test_the_temperature_stays_within_what_is_searched():
    certain = torch.tensor([[1.0, 0.0]])
    assert fit_temperature(certain, torch.tensor([0])) == pytest.approx(0.05)
    assert fit_temperature(certain, torch.tensor([1])) == pytest.approx(20)


@pytest.mark.parametrize("function", [reliability, calibration_error, fit_temperature])
@pytest.mark.parametrize("count", [0, 5])
def test_scores_without_their_labels_are_refused(function, count):
    with pytest.raises(CourseError, match=rf"labels of shape \({count},\); give N×classes and N"):
        function(PROBABILITIES[:0] if count == 0 else PROBABILITIES, LABELS[:count])


def test_logits_in_place_of_probabilities_are_refused():
    with pytest.raises(CourseError, match="adds up to 6, and each should add up to 1; give the softmax"):
        reliability(torch.tensor([[4.0, 2.0]]), torch.tensor([0]))


def test_no_interval_is_refused():
    with pytest.raises(CourseError, match="bins = 0"):
        reliability(PROBABILITIES, LABELS, bins=0)
