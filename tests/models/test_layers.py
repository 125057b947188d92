"""Local response normalisation against the paper's formula, and both initialisations."""

import pytest
import torch
from torch import nn

from alexnet_course.errors import CourseError
from alexnet_course.models import build_model, initialise, local_response_norm


def formula(a, n, alpha, beta, k):
    """Krizhevsky et al. 2012, section 3.3, one channel at a time."""
    channels = a.shape[1]
    b = torch.empty_like(a)
    for i in range(channels):
        first, last = max(0, i - n // 2), min(channels - 1, i + n // 2)
        total = sum(a[:, j] ** 2 for j in range(first, last + 1))
        b[:, i] = a[:, i] / (k + alpha * total) ** beta
    return b


# With 3 and 4 channels every sum is cut off at an edge, with 1 there is nothing to sum over.
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 16])
def test_lrn_is_the_papers_formula(channels):
    # Large activations: with small ones k hides the sum, and any alpha would pass.
    a = 100 * torch.randn(2, channels, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        local_response_norm()(a), formula(a, n=5, alpha=1e-4, beta=0.75, k=2), rtol=1e-12, atol=0
    )


def test_lrn_with_other_constants():
    a = 10 * torch.randn(1, 7, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = formula(a, n=3, alpha=0.02, beta=0.5, k=1)
    torch.testing.assert_close(local_response_norm(3, alpha=0.02, beta=0.5, k=1.0)(a), expected, rtol=1e-12, atol=0)


def test_pytorchs_alpha_is_not_the_papers():
    a = 100 * torch.ones(1, 8, 1, 1, dtype=torch.float64)
    trap = nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0)(a)
    assert not torch.allclose(trap, formula(a, n=5, alpha=1e-4, beta=0.75, k=2), rtol=0.1)


@pytest.mark.slow
def test_paper_initialisation():
    torch.manual_seed(0)
    model = build_model("alexnet-2012", init="paper")
    convolutions = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    linears = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    assert [layer.bias.unique().tolist() for layer in convolutions] == [[0], [1], [0], [1], [1]]
    assert [layer.bias.unique().tolist() for layer in linears] == [[1], [1], [0]]
    for layer in convolutions + linears:
        count = layer.weight.numel()
        assert abs(layer.weight.mean().item()) < 5 * 0.01 / count**0.5
        assert abs(layer.weight.std().item() - 0.01) < 5 * 0.01 / (2 * count) ** 0.5


def test_paper_initialisation_leaves_batch_norm_alone():
    model = build_model("vgg-style-bn", init="paper")
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.weight.unique().tolist() == [1]
            assert layer.bias.unique().tolist() == [0]


def test_default_initialisation_is_what_building_gives():
    torch.manual_seed(3)
    built = build_model("cnn4")
    again = build_model("cnn4", init="paper")
    torch.manual_seed(3)
    initialise(again, "default")
    for name, weight in built.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name]), name


def test_unknown_initialisation():
    with pytest.raises(CourseError, match=r"'xavier'.*default or paper"):
        initialise(nn.Linear(1, 1), "xavier")
