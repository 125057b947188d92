"""Calibration: whether a network that is 80 % sure is right in 80 % of cases, and a temperature that makes it so."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from alexnet_course.errors import CourseError

LOWEST, HIGHEST = 0.05, 20.0  # temperatures that are searched


@dataclass(frozen=True)
class Bin:
    """The images whose confidence lies between ``low`` and ``high``; all but ``count`` are fractions of 1."""

    low: float
    high: float
    count: int
    confidence: float
    """Their mean confidence, that is, the probability that the network gives to the class it predicts."""
    accuracy: float
    """The fraction of them that is classified correctly."""


def reliability(probabilities: Tensor, labels: Tensor, bins: int = 10) -> list[Bin]:
    """Confidence beside accuracy in ``bins`` intervals of equal width; intervals without an image are left out.

    ``probabilities`` has one row per image (N×classes), ``labels`` the N true classes. Raises ``CourseError`` where the
    two do not fit each other, where there is no image, and where a row does not add up to 1.
    Source: Guo et al. 2017.

    >>> import torch
    >>> from alexnet_course.training import reliability
    >>> [found] = reliability(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]))
    >>> found.confidence, found.accuracy
    (0.75, 0.5)
    """
    if bins < 1:
        raise CourseError(f"bins = {bins} leaves no interval of confidence; give 1 or more.")
    _check(probabilities, labels)
    total = probabilities.double().sum(1)
    if not torch.allclose(total, torch.ones_like(total), atol=1e-3):
        raise CourseError(f"The first row of the probabilities adds up to {total[0]:.3g}, and each should add up to 1; "
                          "give the softmax of the logits.")  # fmt: skip
    confidence, predicted = probabilities.double().max(1)
    correct = (predicted == labels).double()
    chosen = (confidence * bins).ceil().long().clamp(1, bins) - 1  # an interval includes its upper end
    found = []
    for number in chosen.unique().tolist():
        inside = chosen == number
        found.append(
            Bin(
                low=number / bins,
                high=(number + 1) / bins,
                count=int(inside.sum()),
                confidence=confidence[inside].mean().item(),
                accuracy=correct[inside].mean().item(),
            )
        )
    return found


def calibration_error(probabilities: Tensor, labels: Tensor, bins: int = 10) -> float:
    """The expected calibration error, 0 to 1: the mean gap between confidence and accuracy, each bin by its images.

    Takes and raises what ``reliability`` does. It depends on the number of bins, and with few images it is not 0 even
    for a network that is calibrated. Source: Guo et al. 2017.
    """
    found = reliability(probabilities, labels, bins)
    gaps = sum(each.count * abs(each.confidence - each.accuracy) for each in found)
    return gaps / sum(each.count for each in found)


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which the softmax of ``logits`` / T gives ``labels`` the lowest cross-entropy.

    ``logits`` is N×classes, ``labels`` the N true classes. T above 1 makes a network less confident, T below 1 more;
    the predicted classes stay the same. Use images that the network was not trained on, and not the test images.
    Searched from 0.05 to 20. Raises ``CourseError`` where logits and labels do not fit each other.
    Source: Guo et al. 2017.
    """
    _check(logits, labels)
    logits, labels = logits.detach().double().cpu(), labels.cpu()
    # The loss is convex in 1/T, so a search that narrows its interval by thirds finds the minimum.
    low, high = 1 / HIGHEST, 1 / LOWEST
    for _ in range(100):
        third = (high - low) / 3
        if F.cross_entropy(logits * (low + third), labels) <= F.cross_entropy(logits * (high - third), labels):
            high -= third
        else:
            low += third
    return 2 / (low + high)


def _check(scores: Tensor, labels: Tensor) -> None:
    if scores.dim() != 2 or labels.shape != scores.shape[:1] or not len(labels):
        raise CourseError(f"There are scores of shape {tuple(scores.shape)} for labels of shape {tuple(labels.shape)}; "
                          "give N×classes and N, with at least one image.")  # fmt: skip
