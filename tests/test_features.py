"""The look inside: what layers put out, and the patch of the picture that a unit sees."""

import pytest
import torch
from torch import nn

from alexnet_course import CourseError, Dataset, build_model
from alexnet_course.data.batches import BatchLoader
from alexnet_course.features import feature_maps, patch_finder, strongest
from alexnet_course.models import MODELS

ALEXNET = "alexnet-cifar-3x3"


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return build_model(ALEXNET, width=0.1, hidden=8)


@pytest.fixture(scope="module")
def noise() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (30, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Dataset(images, torch.arange(30) % 10, tuple("abcdefghij"), "noise")


def loader_of(dataset: Dataset, **options) -> BatchLoader:
    return BatchLoader(dataset, 8, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), **options)


class TestFeatureMaps:
    def test_are_what_the_layers_put_out(self, network):
        picture = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
        maps = feature_maps(network, picture, ["features.0", "features.1", "classifier.6"])
        convolved = network.features[0](picture[None])[0]
        assert torch.equal(maps["features.0"], convolved)
        assert (maps["features.0"] < 0).any()  # not yet overwritten by the ReLU in position
        assert torch.equal(maps["features.1"], convolved.relu())
        with torch.no_grad():
            assert torch.equal(maps["classifier.6"], network.eval()(picture[None])[0])

    def test_leave_no_hook_and_the_mode_as_it_was(self, network):
        network.train()
        feature_maps(network, torch.zeros(3, 32, 32), ["features.0"])
        assert network.training
        assert not any(layer._forward_hooks for layer in network.modules())

    def test_refuse_a_layer_that_is_not_there(self, network):
        with pytest.raises(CourseError, match=r"'features.99'; nearest: .*features"):
            feature_maps(network, torch.zeros(3, 32, 32), ["features.0", "features.99"])
        assert not any(layer._forward_hooks for layer in network.modules())


class TestPatches:
    @pytest.mark.parametrize("name", [ALEXNET, "alexnet-cifar-5x5", "alexnet-d2l"])
    @pytest.mark.parametrize("position", [0, 5, -1])
    def test_are_the_pixels_on_which_the_unit_depends(self, name, position):
        """For every convolution and pooling: the pixels that have a gradient fill the box."""
        size = MODELS[name].input_size
        small = {} if name == "alexnet-d2l" else {"width": 0.1, "hidden": 8}
        model = build_model(name, **small)
        chain = model.net if name == "alexnet-d2l" else model.features
        prefix = "net" if name == "alexnet-d2l" else "features"
        # Positive weights and average instead of maximum, so that every pixel of the window counts.
        probe = nn.Sequential()
        for index, layer in enumerate(chain):
            if isinstance(layer, nn.Flatten):
                break
            if isinstance(layer, nn.ReLU):
                probe.append(nn.Identity())
                continue
            if isinstance(layer, nn.Conv2d):
                probe.append(nn.Conv2d(size[0] if index == 0 else 1, 1, layer.kernel_size, layer.stride, layer.padding))
                nn.init.ones_(probe[-1].weight)
            else:
                probe.append(nn.AvgPool2d(layer.kernel_size, layer.stride, layer.padding))
            pixels = torch.ones(1, *size, dtype=torch.float64, requires_grad=True)
            flat = probe.double()(pixels).flatten()
            chosen = position % len(flat)
            flat[chosen].backward()
            seen = pixels.grad[0].sum(0) > 0
            rows, columns = (seen.any(side).nonzero().flatten().tolist() for side in (1, 0))
            top, left, high, wide = patch_finder(model, f"{prefix}.{index}", size)(chosen)
            assert (top, left) == (rows[0], columns[0]), layer
            for start, length, touched in ((top, high, rows), (left, wide, columns)):
                # At the lower and right edge a pooling may have dropped the last pixels that the window covers.
                within = start + length < size[1]
                assert touched[-1] + 1 == start + length if within else touched[-1] + 1 <= start + length, layer

    def test_are_the_whole_picture_for_a_linear_layer(self, network):
        assert patch_finder(network, "classifier.1", (3, 32, 32))(0) == (0, 0, 32, 32)

    def test_a_group_of_layers_has_none(self, network):
        with pytest.raises(CourseError, match="'features' is not one layer"):
            patch_finder(network, "features", (3, 32, 32))


class TestStrongest:
    def test_finds_the_pictures_and_places_of_the_largest_activations(self, network, noise):
        loader = loader_of(noise, indices=torch.arange(29, 3, -1))
        found = strongest(network, "features.1", loader, count=3)
        with torch.no_grad():
            pictures = loader.prepare(noise.images)
            activations = network.features[0](pictures).relu()  # pictures × units × 34 × 34
        assert len(found) == activations.shape[1]
        for unit, responses in enumerate(found):
            peaks = activations[:, unit].flatten(1).max(1)
            best = peaks.values[4:].topk(3)
            assert [response.picture for response in responses] == (best.indices + 4).tolist()
            assert [response.value for response in responses] == pytest.approx(best.values.tolist())
            for response in responses:
                row, column = divmod(int(peaks.indices[response.picture]), 34)
                assert (response.box[0], response.box[1]) == (max(row - 2, 0), max(column - 2, 0))

    def test_of_a_linear_layer_sees_the_whole_picture(self, network, noise):
        found = strongest(network, "classifier.6", loader_of(noise), count=100)
        assert len(found) == 10
        assert {response.box for response in found[0]} == {(0, 0, 32, 32)}
        assert sorted(response.picture for response in found[0]) == list(range(30))

    def test_refuses_a_loader_that_shuffles(self, network, noise):
        with pytest.raises(CourseError, match="training=False"):
            strongest(network, "features.1", loader_of(noise, training=True))
