"""What networks cost: the kept figures are those of the networks as they are now."""

import json

import pytest
from torch import nn

from alexnet_course import build_model, layer_table, register_model
from alexnet_course.models import MODELS, costs
from alexnet_course.models.costs import COSTS_FILE, counted, mult_adds_of, parameters_of
from alexnet_course.results.table import results_table
from alexnet_course.results.verify import verify
from benchmarks.costs import entries


@pytest.mark.slow
def test_every_kept_figure_is_counted_again():
    assert json.loads(COSTS_FILE.read_text()) == entries(), f"{COSTS_FILE.name} is stale: run make results"


@pytest.fixture
def nothing_is_built(monkeypatch):
    def refuse(*_, **__):
        pytest.fail("a network was built")

    monkeypatch.setattr(costs, "measured", refuse)
    for count in (costs._count_parameters, costs._count_mult_adds):
        count.cache_clear()


def test_the_table_builds_no_network(nothing_is_built):
    assert len(results_table()) > 50


def test_verify_builds_them_all_the_same(nothing_is_built):
    with pytest.raises(pytest.fail.Exception, match="a network was built"):
        verify()


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"lrn": True, "overlap": False}])
def test_what_is_not_kept_is_counted(options):
    network = build_model("cnn4", 7, in_channels=2, **options)
    assert parameters_of("cnn4", options, 2, 7) == sum(weight.numel() for weight in network.parameters())
    mult_adds = sum(layer.mult_adds for layer in layer_table(network, (2, 32, 32)))
    assert mult_adds_of("cnn4", options, 2, 7, 32) == mult_adds
    entry = counted("cnn4", options, 2, 7, 32)
    assert (entry["parameters"], entry["mult_adds"]) == (parameters_of("cnn4", options, 2, 7), mult_adds)


def test_a_network_of_your_own_counts_as_it_is_now():
    def one_layer(num_classes=10, in_channels=3):
        return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 32 * 32, num_classes, bias=bias))

    try:
        for bias in (True, False):
            register_model("one-layer-that-changes", one_layer)
            assert parameters_of("one-layer-that-changes", {}, 3, 10) == 30_720 + 10 * bias
    finally:
        MODELS.pop("one-layer-that-changes", None)
