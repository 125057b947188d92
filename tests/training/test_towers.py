"""Two towers, in a process each, are the whole network, and talk only where the paper's GPUs do."""

from typing import Any

import pytest
import torch
import two_towers
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.models import build_model
from alexnet_course.training.parallel import ALONE, Group
from alexnet_course.training.towers import LAYERS, Tower, in_two_processes, run_towers, values_sent

NARROW = {"num_classes": 10, "width": 0.125, "hidden": 32, "dropout": 0.0}
# Towers of 8, 16, 24, 24 and 16 kernels; LRN looks two channels to each side.
HALVES = {"conv1": 8, "conv2": 16, "conv3": 24, "conv4": 24, "conv5": 16, "fc6": 16, "fc7": 16, "fc8": 5}
SENT = {
    "conv3": 14 * 13 * 13 + 4 * 27 * 27,  # all but the two at the border; there, four as conv2 has them
    "fc6": 16 * 6 * 6,
    "fc7": 16,
    "fc8": 16,
    "softmax": 5,
}
IMAGES = 2


def double(**options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_model("alexnet-2012", **{**NARROW, **options}).double()


@pytest.fixture(scope="module")
def images() -> Tensor:
    """So loud that LRN does something: among activities below 1 the border of the towers would not be seen."""
    return 300 * torch.randn(IMAGES, 3, 227, 227, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def networks() -> list[nn.Module]:
    """With LRN and without."""
    return [double(), double(lrn=False)]


@pytest.fixture(scope="module")
def both(networks, images) -> list[list[dict[str, Any]]]:
    """What each of the two processes found."""
    return in_two_processes(two_towers.in_tower, (networks, images))


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1], ids=["LRN", "no LRN"])
def test_outputs_and_gradients_are_those_of_the_whole_network(both, networks, images, number):
    alone = two_towers.step(networks[number], images)
    copies = 2 if number == 0 else 0  # kernels of conv1 that a tower holds besides its own
    names = [f"{layer}.{kind}" for layer in HALVES for kind in ("weight", "bias")]
    for rank, results in enumerate(both):
        found = results[number]
        torch.testing.assert_close(found["logits"], alone["logits"], rtol=1e-10, atol=1e-10)
        assert found["gradients"].keys() == alone["gradients"].keys()
        for name, (key, whole) in zip(names, alone["gradients"].items(), strict=True):
            half = HALVES[name.partition(".")[0]]
            extra = copies if name.startswith("conv1") else 0
            rows = slice(0, half + extra) if rank == 0 else slice(half - extra, None)
            assert len(whole) == 2 * half
            assert whole[rows].abs().max() > 0
            error = (found["gradients"][key] - whole[rows]).abs().max() / whole[rows].abs().max()
            assert error < 1e-10, f"{name} of process {rank}"


@pytest.mark.slow
def test_they_talk_only_where_the_paper_does(both, networks):
    for found, _ in both:
        assert found["sent"] == SENT
        forward = [IMAGES * values for values in SENT.values()]
        back = forward[-2::-1]  # the gradient of what was received, but none of the logits
        held_twice = [4 * 3 * 11 * 11, 4]  # the gradients of the kernels and biases that both towers have
        assert found["messages"][:5] == forward
        assert found["messages"][5:9] == back
        assert sorted(found["messages"][9:], reverse=True) == held_twice


@pytest.mark.slow
def test_without_lrn_there_is_no_border(both, networks):
    for _, found in both:
        assert found["sent"] == {**SENT, "conv3": 16 * 13 * 13} == values_sent(networks[1])
        assert len(found["messages"]) == 9


def test_what_is_sent_follows_from_shapes(networks):
    assert values_sent(networks[0]) == SENT
    with torch.device("meta"):
        two_groups, one_group = (build_model(name, num_classes=1000) for name in ("alexnet-2012", "alexnet-lrn"))
    sent = values_sent(two_groups)
    assert list(sent) == ["conv3", "fc6", "fc7", "fc8", "softmax"]
    everywhere = values_sent(one_group)
    assert list(everywhere) == [*LAYERS[1:], "softmax"]
    assert {layer: everywhere[layer] for layer in sent} == sent
    assert everywhere["conv2"] == 48 * 27 * 27
    assert everywhere["conv2"] > sum(sent.values())  # says chapter 1
    assert everywhere["conv4"] == everywhere["conv5"] == 192 * 13 * 13


@pytest.mark.slow
def test_run_towers_gives_the_logits_of_the_network_in_evaluation_mode(images):
    whole = double(dropout=0.5)
    runs = run_towers(whole, images)
    assert whole.training
    with torch.no_grad():
        alone = whole.eval()(images)
    count = sum(parameter.numel() for parameter in whole.parameters())
    for run in runs:
        torch.testing.assert_close(run.logits, alone, rtol=1e-10, atol=1e-10)
        assert run.sent == SENT
        assert run.parameters == count / 2 + 2 * (3 * 11 * 11 + 1)


def test_a_tower_shares_nothing_with_the_network():
    whole = double()
    tower = Tower(whole, Group(1, 2))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.zero_()
    tower.eval()
    assert all(parameter.abs().max() > 0 for parameter in whole.parameters())
    assert all(layer.training for layer in whole.modules())


@pytest.mark.parametrize("size", [1, 3])
def test_other_than_two_processes_are_refused(networks, size):
    group = Group(0, size) if size > 1 else ALONE
    with pytest.raises(CourseError) as refused:
        Tower(networks[0], group)
    assert str(refused.value) == (
        f"A network has 2 towers, and the number of processes here is {size}; start two (torchrun --nproc-per-node 2)."
    )


@pytest.mark.parametrize(
    ("name", "options"), [("alexnet-lrn", {}), ("alexnet-d2l", {}), ("alexnet-2012", {"batch_norm": True})]
)
def test_a_network_without_towers_is_refused(name, options):
    with torch.device("meta"):
        whole = build_model(name, **options)
    expected = (
        f"{name} does not have two towers (conv2, conv4 and conv5 with two groups, no batch norm); give an "
        "alexnet-2012."
    )
    for refuse in (lambda: run_towers(whole, torch.zeros(1, 3, 227, 227)), lambda: Tower(whole, Group(0, 2))):
        with pytest.raises(CourseError) as refused:
            refuse()
        assert str(refused.value) == expected


def test_what_cannot_be_halved_is_refused():
    with pytest.raises(
        CourseError, match=r"^fc8 has 7 neurons, which cannot be halved; give an even number of classes"
    ):
        Tower(double(num_classes=7), Group(0, 2))


def test_images_that_do_not_fit_are_refused_before_anything_is_started(networks):
    with pytest.raises(CourseError, match=r"^alexnet-2012 cannot take an image of 32×32: "):
        run_towers(networks[0], torch.zeros(1, 3, 32, 32))
