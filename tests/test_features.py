"""The look inside: what layers put out, and the patch of the image that a unit sees."""

import re

import pytest
import torch
from torch import nn

from alexnet_course import CourseError, Dataset, build_model
from alexnet_course.data.batches import BatchLoader
from alexnet_course.features import evidence_layer, feature_maps, grad_cam, hidden_values, patch_finder, strongest
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
        image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(1))
        maps = feature_maps(network, image, ["features.0", "features.1", "classifier.6"])
        convolved = network.features[0](image[None])[0]
        assert torch.equal(maps["features.0"], convolved)
        assert (maps["features.0"] < 0).any()  # not yet overwritten by the ReLU in position
        assert torch.equal(maps["features.1"], convolved.relu())
        with torch.no_grad():
            assert torch.equal(maps["classifier.6"], network.eval()(image[None])[0])

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

    def test_are_the_whole_image_for_a_linear_layer(self, network):
        assert patch_finder(network, "classifier.1", (3, 32, 32))(0) == (0, 0, 32, 32)

    def test_a_group_of_layers_has_none(self, network):
        with pytest.raises(CourseError, match="'features' is not a single layer"):
            patch_finder(network, "features", (3, 32, 32))


class TestHiddenValues:
    def test_are_what_the_last_layer_turns_into_logits(self, network, noise):
        loader = loader_of(noise)
        values = hidden_values(network, loader)
        assert values.shape == (30, 8)
        with torch.no_grad():
            logits = torch.cat([network.eval()(images) for images, _ in loader])
            assert torch.allclose(network.classifier[-1](values), logits, atol=1e-6)

    def test_refuse_a_loader_that_shuffles_and_a_network_without_linear_layers(self, network, noise):
        with pytest.raises(CourseError, match="loader shuffles its images"):
            hidden_values(network, loader_of(noise, training=True))
        with pytest.raises(CourseError, match="Sequential has no linear layer; give a network that ends in one"):
            hidden_values(nn.Sequential(nn.Conv2d(3, 3, 1)), loader_of(noise))


class TestStrongest:
    def test_finds_the_images_and_places_of_the_largest_activations(self, network, noise):
        loader = loader_of(noise, indices=torch.arange(29, 3, -1))
        found = strongest(network, "features.1", loader, count=3)
        with torch.no_grad():
            images = loader.prepare(noise.images)
            activations = network.features[0](images).relu()  # images × units × 34 × 34
        assert len(found) == activations.shape[1]
        for unit, responses in enumerate(found):
            peaks = activations[:, unit].flatten(1).max(1)
            best = peaks.values[4:].topk(3)
            assert [response.image for response in responses] == (best.indices + 4).tolist()
            assert [response.value for response in responses] == pytest.approx(best.values.tolist())
            for response in responses:
                row, column = divmod(int(peaks.indices[response.image]), 34)
                assert (response.box[0], response.box[1]) == (max(row - 2, 0), max(column - 2, 0))

    def test_of_a_linear_layer_sees_the_whole_image(self, network, noise):
        found = strongest(network, "classifier.6", loader_of(noise), count=100)
        assert len(found) == 10
        assert {response.box for response in found[0]} == {(0, 0, 32, 32)}
        assert sorted(response.image for response in found[0]) == list(range(30))

    def test_refuses_a_loader_that_shuffles(self, network, noise):
        with pytest.raises(CourseError, match="training=False"):
            strongest(network, "features.1", loader_of(noise, training=True))


class TestGradCam:
    @staticmethod
    def averaging(kernel: torch.Tensor, rows: torch.Tensor) -> nn.Module:
        """A convolution, a ReLU, the mean over all positions, and a linear layer, with these weights and no biases."""
        model = nn.Sequential(
            nn.Conv2d(kernel.shape[1], len(kernel), kernel.shape[-1], bias=False),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(len(kernel), len(rows), bias=False),
        )
        model.load_state_dict({"0.weight": kernel, "4.weight": rows})
        return model

    def test_is_what_one_computes_by_hand(self):
        """Two channels, p and 2p, with the weights 3 and -1, each divided by the 4 positions: p/4, or, of 1 and -2,
        less than nothing."""
        model = self.averaging(torch.tensor([1.0, 2.0])[:, None, None, None], torch.tensor([[3.0, -1.0], [1.0, -2.0]]))
        image = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
        assert grad_cam(model, image, target=0).tolist() == [[0.25, 0.0], [0.0, 0.5]]
        assert grad_cam(model, image, target=1).tolist() == [[0.0, 0.0], [0.0, 0.0]]
        assert torch.equal(grad_cam(model, image), grad_cam(model, image, target=0))  # the largest logit
        assert grad_cam(model, image).sum() == model(image[None])[0, 0]

    @pytest.mark.parametrize("corner", [(0, 0), (0, 9), (9, 0), (9, 9)])
    def test_is_highest_where_the_only_evidence_is(self, corner):
        top, left = corner
        image = torch.zeros(3, 12, 12)
        image[:, top : top + 3, left : left + 3] = 1.0
        found = grad_cam(self.averaging(torch.ones(1, 3, 3, 3), torch.tensor([[1.0], [-1.0]])), image)
        assert divmod(int(found.argmax()), 10) == corner
        assert (found > 0).sum() == 9  # the windows that touch it
        assert (found >= 0).all()

    @pytest.mark.parametrize(("layer", "split"), [(None, 12), ("features.2", 3)])
    def test_is_that_of_a_network_cut_in_two(self, network, layer, split):
        image = torch.randn(3, 64, 64, generator=torch.Generator().manual_seed(2))
        network.eval()
        maps = network.features[:split](image[None]).detach().requires_grad_()
        rest = nn.Sequential(*network.features[split:], network.avgpool, nn.Flatten(), network.classifier)
        (gradient,) = torch.autograd.grad(rest(maps.clone())[0, 7], maps)
        weighted = (gradient.mean((2, 3))[0, :, None, None] * maps[0].detach()).sum(0)
        expected = weighted.clamp(min=0)
        assert expected.max() > 0
        assert torch.allclose(grad_cam(network, image, 7, layer), expected, atol=1e-9)
        assert (layer or evidence_layer(network, (3, 64, 64))) == f"features.{split - 1}"

    def test_goes_through_frozen_weights_and_leaves_nothing_behind(self, network):
        image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(3))
        network.train()
        expected = grad_cam(network, image, 1)
        with torch.no_grad():
            assert torch.equal(grad_cam(network.requires_grad_(False), image, 1), expected)
        network.requires_grad_(True)
        assert expected.max() > 0
        assert network.training
        assert all(weight.grad is None for weight in network.parameters())
        assert not any(layer._forward_hooks for layer in network.modules())

    @pytest.mark.parametrize(
        ("name", "options", "side", "expected"),
        [
            ("alexnet-cifar-3x3", {}, 32, "features.11"),
            ("alexnet-owt", {}, 224, "features.11"),
            ("alexnet-2012", {}, 227, "features.13"),
            ("alexnet-cifar-3x3", {"batch_norm": True}, 64, "features.16"),
            ("alexnet-d2l", {}, 224, "net.11"),
            ("vgg-style-bn", {}, 32, "features.29"),  # 4×4; the stage behind it makes 2×2
        ],
    )
    def test_the_map_is_that_of_the_last_convolution_that_says_where(self, name, options, side, expected):
        with torch.device("meta"):
            assert evidence_layer(build_model(name, **options), (3, side, side)) == expected

    @pytest.mark.parametrize(
        ("model", "layer", "sentence"),
        [
            (nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), None, "Sequential has no convolution, so it has no map"),
            (
                nn.Sequential(nn.Conv2d(3, 2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2)),
                None,
                "The convolutions of Sequential reduce an image of 3×4×4 to one position, so it has no map",
            ),
            (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2)), "2", "'2' outputs (2,), not a C×H×W"),
            (nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 2)), "3", "no layer '3'; nearest"),
        ],
    )
    def test_refuses_what_has_no_map(self, model, layer, sentence):
        with pytest.raises(CourseError, match=re.escape(sentence)):
            grad_cam(model, torch.zeros(3, 4, 4), 0, layer)
        assert not any(module._forward_hooks for module in model.modules())
