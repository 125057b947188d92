"""What makes a step faster must not change what it computes: each function against PyTorch's own."""

import copy
import math
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from alexnet_course.errors import CourseError
from alexnet_course.models import MODELS, build_model, local_response_norm
from alexnet_course.training import kernels
from alexnet_course.training.device import autocast
from alexnet_course.training.kernels import FasterFunctions, keep_freed_memory, pool_first

CPU = torch.device("cpu")
BF16 = torch.bfloat16


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


class Calls:
    """Counts the calls of one function of a module while the test runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> None:
        self.count, original = 0, getattr(owner, name)

        def counted(*args: object, **options: object) -> object:
            self.count += 1
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counted)


@pytest.fixture
def by_repeating(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often a pool was done by repeating."""
    return Calls(monkeypatch, F, "interpolate")


@pytest.fixture
def by_product(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often a convolution was one whose gradients are matrix products."""
    return Calls(monkeypatch, kernels._Convolution, "apply")


@pytest.fixture(params=["bf16", "fp32"])
def mode(request: pytest.FixtureRequest) -> Iterator[FasterFunctions]:
    with FasterFunctions(CPU, request.param) as entered:
        yield entered


# --- Adaptive pools --------------------------------------------------------------------------------------------------

POOLS = [F.adaptive_avg_pool2d, F.adaptive_max_pool2d]


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("side", "size"),
    [((3, 3), 6), ((3, 3), (6, 6)), ((2, 2), 6), ((1, 1), 6), ((6, 6), 6), ((2, 3), (4, 9)), ((3, 6), 6)],
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_pool_that_enlarges_by_whole_factors_repeats_the_same_values(pool, side, size, layout, by_repeating):
    x = noise(4, 5, *side).to(memory_format=layout).requires_grad_()
    expected = pool(x, size)
    with FasterFunctions(CPU, "fp32"):
        result = pool(x, size)
    assert by_repeating.count == 1
    assert torch.equal(result, expected)
    weights = noise(*expected.shape, seed=1)
    (one,), (other,) = (torch.autograd.grad(value, x, weights) for value in (result, expected))
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((2, 5, 3, 3), 4),  # 4 is no multiple of 3
        ((2, 5, 6, 6), 3),  # reduces
        ((2, 5, 3, 4), (6, 6)),  # whole in one direction only
        ((2, 5, 3, 3), (None, 6)),
        ((5, 3, 3), 6),  # one image
    ],
)
def test_any_other_pool_is_pytorchs_own(pool, shape, size, by_repeating):
    x = noise(*shape)
    expected = pool(x, size)
    with FasterFunctions(CPU, "fp32"):
        assert torch.equal(pool(x, size), expected)
    assert by_repeating.count == 0


@pytest.mark.parametrize("options", [((6, 6), True), {"output_size": (6, 6), "return_indices": True}])
def test_a_max_pool_that_is_asked_for_indices_gives_them(options, by_repeating):
    positional, named = (options, {}) if isinstance(options, tuple) else ((), options)
    x = noise(2, 5, 3, 3)
    expected = F.adaptive_max_pool2d(x, *positional, **named)
    with FasterFunctions(CPU, "fp32"):
        values, indices = F.adaptive_max_pool2d(x, *positional, **named)
    assert torch.equal(values, expected[0])
    assert torch.equal(indices, expected[1])
    assert by_repeating.count == 0


@pytest.mark.parametrize("pool", POOLS)
def test_apple_s_gpus_get_no_pool_that_pytorch_does_wrongly_there(pool):
    """The mode asks the device only for its kind, so this can be seen without one."""
    x = noise(2, 5, 7, 6)
    with FasterFunctions(torch.device("mps"), "fp32"):
        with pytest.raises(CourseError, match=r"^Apple's GPUs cannot pool \(7, 6\) to \(6, 6\) in every version of"):
            pool(x, 6)
        assert pool(x, (1, 3)).shape == (2, 5, 1, 3)
        assert pool(x[:, :, :3, :3], 6).shape == (2, 5, 6, 6)


@pytest.mark.parametrize("pool", POOLS)
def test_a_pool_that_a_gpu_cannot_repeat_says_so_before_its_gradient(pool):
    x = noise(2, 5, 7, 7).requires_grad_()
    torch.use_deterministic_algorithms(True)
    try:
        with FasterFunctions(torch.device("cuda"), "fp32"):
            with pytest.raises(CourseError, match=r"^PyTorch cannot pool maps of \(7, 7\) to \(6, 6\) determinist"):
                pool(x, 6)
            assert pool(x.detach(), 6).shape == (2, 5, 6, 6)  # an evaluation has no gradient
            assert pool(x, 7).shape == x.shape
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_gpu_gets_no_convolutions(by_repeating, by_product):
    """The mode asks the device only for its kind, so this can be seen without one."""
    x = noise(2, 4, 3, 3)
    with FasterFunctions(torch.device("cuda"), "bf16"):
        F.adaptive_avg_pool2d(x, 6)
        F.conv2d(x.bfloat16(), noise(4, 4, 3, 3, dtype=BF16).requires_grad_(), noise(4, dtype=BF16))
        torch.manual_seed(5)
        dropped = F.dropout(x)
    torch.manual_seed(5)
    assert torch.equal(dropped, F.dropout(x))
    assert (by_repeating.count, by_product.count) == (1, 0)


# --- Dropout ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.25, 0.5, 0.8, 0.999])
def test_dropout_keeps_its_share_and_scales_it(p, mode):
    torch.manual_seed(0)
    count = 1_000_000
    x = torch.ones(count)
    result = F.dropout(x, p)
    kept = result[result != 0]
    deviation = (p * (1 - p) / count) ** 0.5
    assert abs(len(kept) / count - (1 - p)) < 5 * deviation + 1 / 65536
    assert len(kept.unique()) == 1
    # What is kept is scaled so that the mean stays, for the share that p is rounded to.
    share = 1 - round(65536 * p) / 65536
    torch.testing.assert_close(kept[0], torch.tensor(1 / share))
    assert torch.equal(x, torch.ones(count))


def test_dropout_draws_each_value_by_itself(mode):
    """No two values share random bits: neighbours, and values a word or a row apart, are kept independently."""
    torch.manual_seed(1)
    kept = (F.dropout(torch.ones(1000, 1000), 0.5) != 0).double()
    assert abs(kept.mean(0) - 0.5).max() < 0.1
    assert abs(kept.mean(1) - 0.5).max() < 0.1
    flat = kept.flatten() - 0.5
    for distance in (1, 2, 3, 4, 8, 64, 1000, 250_000):
        assert abs((flat[distance:] * flat[:-distance]).mean()) < 0.25 * 5 / 800
    other = (F.dropout(torch.ones(1000, 1000), 0.5) != 0).double().flatten() - 0.5
    assert abs((flat * other).mean()) < 0.25 * 5 / 1000


@pytest.mark.parametrize("shape", [(1,), (3,), (2, 3, 5), (4, 3, 2, 2), (0, 3)])
def test_dropout_takes_any_shape_type_and_layout(shape, mode):
    for dtype in (torch.float32, BF16):
        x = torch.ones(shape, dtype=dtype)
        result = F.dropout(x, 0.5)
        assert (result.shape, result.dtype) == (x.shape, dtype)
        assert set(result.flatten().tolist()) <= {0.0, 2.0}
    image = torch.ones(4, 3, 5, 5).to(memory_format=torch.channels_last)
    assert set(F.dropout(image, 0.5).flatten().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("p", [0.25, 0.5])
def test_the_gradient_of_dropout_is_its_mask(p, mode):
    x = noise(200, 50).requires_grad_()
    result = F.dropout(x, p)
    (gradient,) = torch.autograd.grad(result.sum(), x)
    assert set(gradient.unique().tolist()) == {0.0, torch.tensor(1 / (1 - p)).item()}
    torch.testing.assert_close(result, x * gradient, rtol=0, atol=0)


@pytest.mark.parametrize("p", [0.0, 1e-9, 1e-6, 1 - 1e-6, 1 - 1e-9, 1.0])
def test_dropout_at_the_ends_is_pytorchs_own(p, mode):
    x = noise(10_000)
    torch.manual_seed(3)
    result = F.dropout(x, p)
    with torch._C.DisableTorchFunction():
        torch.manual_seed(3)
        assert torch.equal(result, F.dropout(x, p))
    assert p != 0 or torch.equal(result, x)
    assert p != 1 or not result.any()


@pytest.mark.parametrize("p", [2**-16, 3 * 2**-16, 1 - 3 * 2**-16, 1 - 2**-16])
def test_dropout_near_the_ends_still_drops_and_keeps(p, mode):
    torch.manual_seed(4)
    count = 4_000_000
    kept = int((F.dropout(torch.ones(count), p) != 0).sum())
    rare = min(kept, count - kept)
    expected = count * min(p, 1 - p)
    assert abs(rare - expected) < 5 * expected**0.5
    assert (kept < count / 2) == (p > 0.5)


def test_the_mean_stays_where_p_is_rounded(mode):
    """At p = 0.99999 one value in 65,536 is kept and not one in 100,000, and must be scaled as such."""
    torch.manual_seed(5)
    result = F.dropout(torch.ones(8_000_000), 0.99999)
    kept = result[result != 0]
    assert 60 < len(kept) < 190
    assert kept[0].item() == pytest.approx(65536)


def test_dropout_does_nothing_in_eval_mode(mode):
    x = noise(100)
    assert F.dropout(x, 0.5, training=False) is x or torch.equal(F.dropout(x, 0.5, training=False), x)
    assert torch.equal(nn.Dropout(0.5).eval()(x), x)
    before = torch.get_rng_state()
    nn.Dropout(0.5).eval()(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_repeats_for_a_seed(mode):
    x = torch.ones(1001)
    layer = nn.Dropout(0.3)
    torch.manual_seed(7)
    first, second = layer(x), layer(x)
    torch.manual_seed(7)
    assert torch.equal(layer(x), first)
    assert torch.equal(layer(x), second)
    torch.manual_seed(8)
    assert not torch.equal(layer(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("p", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused_as_pytorch_does(p, mode):
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1"):
        F.dropout(torch.ones(3), p)


# --- Convolutions ----------------------------------------------------------------------------------------------------

SHAPES = {  # input, weight, padding
    "7×7, 3×3": ((6, 8, 7, 7), (12, 8, 3, 3), 1),
    "4×4, the largest that is tiny": ((6, 8, 4, 4), (12, 8, 3, 3), 1),
    "2×2, more images than go into one piece": ((70, 8, 2, 2), (12, 8, 3, 3), 1),
    "2×4, oblong kernel": ((5, 8, 2, 4), (12, 8, 1, 3), (0, 1)),
    "16×16, 5×5": ((3, 4, 16, 16), (8, 4, 5, 5), 2),
    "8×8 to 8×8, the largest that is small": ((3, 4, 8, 8), (8, 4, 3, 3), 1),
    "9×9 to 9×9": ((3, 4, 9, 9), (8, 4, 3, 3), 1),
    "1×1": ((5, 8, 6, 6), (4, 8, 1, 1), 0),
    "no padding, to one pixel": ((5, 8, 3, 3), (4, 8, 3, 3), 0),
    "padding 2 with 3×3": ((5, 8, 3, 3), (4, 8, 3, 3), 2),
    "padding 2 with 5×5": ((5, 8, 6, 6), (4, 8, 5, 5), (2, 2)),
    "oblong kernel": ((5, 8, 6, 7), (4, 8, 1, 5), (0, 2)),
    "oblong padding": ((5, 8, 5, 6), (4, 8, 3, 3), (2, 0)),
    "three channels": ((5, 3, 7, 7), (16, 3, 3, 3), 2),
    "one of everything": ((1, 1, 3, 3), (1, 1, 3, 3), 1),
}


def gradients(
    convolve: Callable[..., Tensor], x: Tensor, weight: Tensor, bias: Tensor, padding: object
) -> list[Tensor]:
    leaves = [value.detach().clone().requires_grad_() for value in (x, weight, bias)]
    result = convolve(*leaves, padding=padding)
    weights = noise(*result.shape, seed=9).to(result.dtype)
    return [result.detach(), *torch.autograd.grad(result, leaves, weights)]


def relative(one: Tensor, other: Tensor) -> float:
    return ((one.double() - other.double()).norm() / other.double().norm()).item()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_convolution_and_its_gradients_are_pytorchs_within_the_rounding_of_bf16(name, layout, by_product):
    of_x, of_weight, padding = SHAPES[name]
    x = noise(*of_x, dtype=BF16).to(memory_format=layout)
    weight = noise(*of_weight, seed=1, dtype=BF16).to(memory_format=layout)
    bias = noise(of_weight[0], seed=2, dtype=BF16)
    single = gradients(F.conv2d, x.float(), weight.float(), bias.float(), padding)
    half = gradients(F.conv2d, x, weight, bias, padding)
    with FasterFunctions(CPU, "bf16"):
        ours = gradients(F.conv2d, x, weight, bias, padding)
    assert by_product.count == 1
    for mine, theirs, exact in zip(ours, half, single, strict=True):
        assert mine.shape == theirs.shape
        assert mine.dtype == theirs.dtype == BF16
        assert relative(mine, exact) < max(2 * relative(theirs, exact), 2**-8)
    if of_x[2] * of_x[3] > kernels.TINY_MAP:
        assert torch.equal(ours[0], half[0])  # forward it is the same function


@pytest.mark.parametrize(("count", "inputs", "outputs"), [(6, 8, 5), (1, 3, 2), (64, 32, 48)])
def test_a_linear_layer_and_its_gradients_are_pytorchs_within_the_rounding_of_bf16(count, inputs, outputs):
    values = (noise(count, inputs), noise(outputs, inputs, seed=1), noise(outputs, seed=2))
    found = []
    for kind, mode in ((torch.float32, nullcontext()), (BF16, nullcontext()), (BF16, FasterFunctions(CPU, "bf16"))):
        leaves = [value.to(kind).requires_grad_() for value in values]
        with mode:
            result = F.linear(*leaves)
        above = noise(count, outputs, seed=9).to(kind)
        found.append([result.detach(), *torch.autograd.grad(result, leaves, above)])
        assert type(result.grad_fn).__name__.startswith("_Linear") == isinstance(mode, FasterFunctions)
    for exact, theirs, mine in zip(*found, strict=True):
        assert (mine.shape, mine.dtype) == (theirs.shape, BF16)
        assert relative(mine, exact) < max(2 * relative(theirs, exact), 2**-8)


def test_any_other_linear_layer_is_pytorchs_own():
    x, weight, bias = (noise(*shape, dtype=BF16).requires_grad_() for shape in ((2, 4, 3), (5, 3), (5,)))
    with FasterFunctions(CPU, "bf16"):
        results = [F.linear(x, weight, bias), F.linear(x[0], weight)]
        with torch.no_grad():
            results.append(F.linear(x[0], weight, bias))
    assert all("_Linear" not in type(result.grad_fn).__name__ for result in results)


@pytest.mark.parametrize("size", [7, 12])
def test_a_network_s_own_layout_and_types_under_autocast(size, by_product):
    """fp32 weights, channels-last images: what the trainer has."""
    layer = nn.Conv2d(3, 8, 3, padding=1).to(memory_format=torch.channels_last)
    x = noise(4, 3, size, size).to(memory_format=torch.channels_last)
    results = []
    for quicker in (nullcontext(), FasterFunctions(CPU, "bf16")):
        layer.zero_grad()
        with autocast(CPU, "bf16"), quicker:
            out = layer(x)
        out.float().square().mean().backward()
        results.append((out.detach(), layer.weight.grad.clone(), layer.bias.grad.clone()))
    assert by_product.count == 1
    (out, weight, bias), (our_out, our_weight, our_bias) = results
    assert our_out.dtype == out.dtype == BF16
    assert torch.equal(our_out, out)
    assert our_out.is_contiguous(memory_format=torch.channels_last)
    assert (our_weight.dtype, our_bias.dtype) == (torch.float32, torch.float32)
    assert relative(our_weight, weight) < 2**-6
    assert relative(our_bias, bias) < 2**-6


@pytest.mark.parametrize("size", [5, 12])
def test_a_weight_that_is_used_twice_gets_both_gradients(size, by_product):
    weight, bias = noise(4, 4, 3, 3, dtype=BF16), noise(4, seed=1, dtype=BF16)

    def twice(x: Tensor, weight: Tensor, bias: Tensor, padding: int) -> Tensor:
        return F.conv2d(F.conv2d(x, weight, bias, padding=padding), weight, bias, padding=padding)

    x = noise(3, 4, size, size, seed=2, dtype=BF16)
    exact = gradients(twice, x.float(), weight.float(), bias.float(), 1)
    with FasterFunctions(CPU, "bf16"):
        ours = gradients(twice, x, weight, bias, 1)
    assert by_product.count == 2
    for mine, theirs in zip(ours[1:], exact[1:], strict=True):
        assert relative(mine, theirs) < 0.02


def test_only_what_needs_a_gradient_gets_one():
    x, weight, bias = noise(2, 4, 5, 5, dtype=BF16), noise(4, 4, 3, 3, dtype=BF16), noise(4, dtype=BF16)
    for needed in (x, weight, bias):
        for value in (x, weight, bias):
            value.requires_grad_(value is needed)
            value.grad = None
        with FasterFunctions(CPU, "bf16"):
            F.conv2d(x, weight, bias, padding=1).float().sum().backward()
        assert [value.grad is not None for value in (x, weight, bias)] == [v is needed for v in (x, weight, bias)]


@pytest.mark.parametrize(
    "options",
    [
        {"stride": 2},
        {"stride": (1, 2)},
        {"dilation": 2},
        {"groups": 2},
        {"padding": "same"},
        {"padding": "valid"},
        {"bias": None},
    ],
    ids=str,
)
def test_any_other_convolution_is_pytorchs_own(options, by_product):
    x = noise(2, 4, 9, 9, dtype=BF16).requires_grad_()
    weight = noise(4, 4 // options.get("groups", 1), 3, 3, seed=1, dtype=BF16).requires_grad_()
    options = {"bias": noise(4, seed=2, dtype=BF16), **options}
    expected = F.conv2d(x, weight, **options)
    with FasterFunctions(CPU, "bf16"):
        assert torch.equal(F.conv2d(x, weight, **options), expected)
    assert by_product.count == 0


def test_one_image_and_no_gradient_are_pytorchs_own(by_product):
    x, weight, bias = (
        noise(2, 4, 9, 9, dtype=BF16),
        noise(4, 4, 3, 3, dtype=BF16).requires_grad_(),
        noise(4, dtype=BF16),
    )
    with FasterFunctions(CPU, "bf16"):
        F.conv2d(x[0], weight, bias)
        with torch.no_grad():
            F.conv2d(x, weight, bias)
    assert by_product.count == 0


# --- Local response normalisation ------------------------------------------------------------------------------------

PAPER = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}  # in PyTorch's terms
NORMS = {  # shape and options; the images are 100 times noise, so that the sum under the root is not small beside k
    "the paper's": ((3, 16, 5, 7), PAPER),
    "one channel": ((3, 1, 4, 4), PAPER),
    "fewer channels than the window": ((2, 3, 6, 6), PAPER),
    "as many": ((2, 5, 3, 3), PAPER),
    "even window": ((2, 9, 4, 4), {**PAPER, "size": 4}),
    "even window, fewer channels": ((2, 3, 4, 4), {**PAPER, "size": 6}),
    "window of two": ((2, 8, 3, 5), {**PAPER, "size": 2}),
    "window of one": ((2, 8, 3, 5), {**PAPER, "size": 1}),
    "beta 0.5": ((2, 8, 4, 4), {**PAPER, "beta": 0.5}),
    "beta 1": ((2, 8, 4, 4), {**PAPER, "beta": 1.0}),
    "other alpha and k": ((2, 8, 4, 4), {"size": 3, "alpha": 0.01, "beta": 0.75, "k": 1.0}),
    "more than are done at a time": ((1, 6, 211, 211), PAPER),
    "twice as many as at a time": ((2, 8, kernels.VALUES // 8 // 256, 256), PAPER),
}


@pytest.fixture
def by_band(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """How often a response normalisation was a matrix product."""
    return Calls(monkeypatch, kernels._ResponseNorm, "apply")


@pytest.mark.parametrize("name", NORMS)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_response_norm_and_its_gradient_are_pytorchs_in_float64_within_the_rounding_of_bf16(name, layout, by_band):
    shape, options = NORMS[name]
    assert ("at a time" in name) == (math.prod(shape) > kernels.VALUES)
    x = (100 * noise(*shape, dtype=torch.float64)).to(BF16)  # so that both begin with the same numbers
    above = noise(*shape, seed=1).to(BF16)
    leaf, exact_leaf = (value.to(memory_format=layout).requires_grad_() for value in (x, x.double()))
    exact = F.local_response_norm(exact_leaf, **options)
    (exact_gradient,) = torch.autograd.grad(exact, exact_leaf, above.double())
    with FasterFunctions(CPU, "bf16"):
        result = F.local_response_norm(leaf, **options)
    (gradient,) = torch.autograd.grad(result, leaf, above.to(memory_format=layout))
    assert by_band.count == 1
    assert (result.shape, result.dtype, gradient.shape, gradient.dtype) == (shape, BF16, shape, BF16)
    # A square, the sum of squares and the result are each rounded by at most 1 part in 512 (2^-9).
    torch.testing.assert_close(result.double(), exact, rtol=2**-7, atol=0)
    assert relative(result, exact) < 2**-8
    assert relative(gradient, exact_gradient) < 2**-7
    if layout is torch.channels_last:
        assert result.is_contiguous(memory_format=layout)


def test_the_examples_of_response_norm_tell_its_constants_apart():
    """Each constant matters so much for these images that a wrong one could not pass for rounding."""
    x = 100 * noise(3, 16, 5, 7, dtype=torch.float64)
    right = F.local_response_norm(x, **PAPER)
    for change in ({"size": 4}, {"alpha": 1e-4}, {"beta": 0.7}, {"k": 1.9}):
        assert relative(F.local_response_norm(x, **{**PAPER, **change}), right) > 2**-7


@pytest.mark.parametrize("shape", [(4, 3, 3), (2, 6, 5), (2, 4, 3, 3, 3), (0, 4, 3, 3)])
def test_response_norm_of_anything_but_images_is_pytorchs_own(shape, by_band):
    x = 10 * noise(*shape)
    expected = F.local_response_norm(x, **PAPER)
    with FasterFunctions(CPU, "bf16"):
        assert torch.equal(F.local_response_norm(x, **PAPER), expected)
    assert by_band.count == 0


@pytest.mark.parametrize(("precision", "times"), [("bf16", 1), ("fp32", 0)])
def test_response_norm_is_a_product_in_bf16_on_a_processor(precision, times, by_band):
    x = 100 * noise(2, 6, 3, 3)
    with FasterFunctions(CPU, precision):
        result = local_response_norm()(x)
    assert by_band.count == times
    assert torch.equal(result, local_response_norm()(x)) == (times == 0)


@pytest.mark.parametrize(("kind", "precision"), [("cuda", "bf16"), ("cuda", "fp16"), ("mps", "fp32"), ("cpu", "fp16")])
def test_elsewhere_and_in_fp16_a_reader_s_own_layer_of_pytorchs_is_the_packages(kind, precision, by_band):
    """Whose network need not use the package's layer; the mode asks the device only for its kind."""
    x = noise(2, 6, 3, 3)
    with FasterFunctions(torch.device(kind), precision):
        result = nn.LocalResponseNorm(**PAPER)(x)
        large = nn.LocalResponseNorm(**PAPER)(torch.full_like(x, 300.0).half())
    assert by_band.count == 0
    torch.testing.assert_close(result, nn.LocalResponseNorm(**PAPER)(x))
    assert bool((large > 1).all())


def test_a_network_with_response_norm_learns_the_same_in_its_own_types(by_band):
    """fp32 weights and channels-last images under autocast: what the trainer has."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 5, padding=2), nn.ReLU(inplace=True), local_response_norm(alpha=0.1), nn.MaxPool2d(4),
        nn.Flatten(), nn.Linear(16 * 64, 10),
    ).to(memory_format=torch.channels_last)  # fmt: skip
    exact = loss_and_gradients(network, "fp32", nullcontext())
    assert by_band.count == 0
    ours = loss_and_gradients(network, "bf16", FasterFunctions(CPU, "bf16"))
    assert by_band.count == 1
    theirs = loss_and_gradients(network, "bf16", nullcontext())
    for mine, other, single in zip(ours, theirs, exact, strict=True):
        assert mine.dtype == torch.float32
        assert relative(mine, single) < max(2 * relative(other, single), 2**-7)


# --- Whole networks --------------------------------------------------------------------------------------------------


def small_alexnet() -> nn.Sequential:
    """The layers of alexnet-cifar-3x3 in their order, narrow; without dropout, which draws otherwise."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(8, 16, 5, padding=2), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2),
        nn.AdaptiveAvgPool2d((6, 6)), nn.Flatten(), nn.Linear(576, 32), nn.ReLU(inplace=True), nn.Linear(32, 10),
    )  # fmt: skip
    return network.to(memory_format=torch.channels_last)


def loss_and_gradients(network: nn.Module, precision: str, quicker: object) -> list[Tensor]:
    x = noise(16, 3, 32, 32, seed=1).to(memory_format=torch.channels_last)
    network.zero_grad()
    with autocast(CPU, precision), quicker:
        loss = F.cross_entropy(network(x).float(), torch.arange(16) % 10)
    loss.backward()
    return [loss.detach(), *(weight.grad.clone() for weight in network.parameters())]


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 2**-5)])
def test_a_training_step_of_a_whole_network_has_the_same_gradients(precision, tolerance, by_repeating, by_product):
    network = small_alexnet()
    plain = loss_and_gradients(network, precision, nullcontext())
    assert (by_repeating.count, by_product.count) == (0, 0)
    quick = loss_and_gradients(network, precision, FasterFunctions(CPU, precision))
    assert by_repeating.count == 1
    assert by_product.count == (3 if precision == "bf16" else 0)  # in fp32 PyTorch's own are as fast
    for one, other in zip(quick, plain, strict=True):
        assert relative(one, other) < tolerance


@pytest.mark.parametrize("name", ["vgg-style", "vgg-style-bn", "alexnet-cifar-3x3", "alexnet-cifar-5x5-lrn"])
def test_every_kind_of_network_takes_a_step(name):
    """Their ReLUs work in place, on what our functions give."""
    network = build_model(name, width=0.25, hidden=16, dropout=0.0).to(memory_format=torch.channels_last)
    plain = loss_and_gradients(network, "bf16", nullcontext())
    quick = loss_and_gradients(pool_first(network), "bf16", FasterFunctions(CPU, "bf16"))
    assert relative(quick[0], plain[0]) < 2**-7
    assert relative(quick[-2], plain[-2]) < 2**-4  # of the last layer, which what came before it decides


def test_the_network_is_left_as_it_is():
    network = nn.Sequential(small_alexnet(), nn.Dropout(0.5))
    before = copy.deepcopy(network)
    loss_and_gradients(network, "bf16", FasterFunctions(CPU, "bf16"))
    assert repr(network) == repr(before)
    assert [vars(layer).keys() for layer in network.modules()] == [vars(layer).keys() for layer in before.modules()]
    for (name, weight), (other, as_before) in zip(
        network.state_dict().items(), before.state_dict().items(), strict=True
    ):
        assert name == other
        assert torch.equal(weight, as_before)


def test_nothing_is_replaced_outside_of_the_mode(by_repeating, by_product):
    with FasterFunctions(CPU, "bf16"):
        pass
    loss_and_gradients(small_alexnet(), "bf16", nullcontext())
    assert (by_repeating.count, by_product.count) == (0, 0)


def test_what_is_replaced_where():
    pools = {F.adaptive_avg_pool2d, F.adaptive_max_pool2d}
    assert set(FasterFunctions(CPU, "fp32").replacements) == {*pools, F.dropout}
    in_bf16 = {torch.conv2d, F.linear, F.local_response_norm}
    assert set(FasterFunctions(CPU, "bf16").replacements) == {*pools, F.dropout, *in_bf16}
    assert set(FasterFunctions(CPU, "fp16").replacements) == {*pools, F.dropout, F.local_response_norm}
    assert set(FasterFunctions(torch.device("cuda"), "bf16").replacements) == {*pools, F.local_response_norm}


# --- Pooling first ---------------------------------------------------------------------------------------------------


def kinds_of(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network.modules() if not any(layer.children())]


@pytest.mark.parametrize("name", ["cnn4", "vgg-style", "alexnet-lrn"])
def test_pooling_before_relu_is_the_same_to_the_bit(name):
    torch.manual_seed(0)
    network = build_model(name, num_classes=3).to(memory_format=torch.channels_last)
    before = kinds_of(network)
    x = noise(2, *MODELS[name].input_size, seed=1).to(memory_format=torch.channels_last)
    results = []
    for runs in (network, pool_first(network)):
        network.zero_grad()
        torch.manual_seed(2)  # dropout
        out = runs(x)
        out.square().sum().backward()
        results.append([out.detach(), *(weight.grad for weight in network.parameters())])
        # An optimiser must find the gradients at the weights of the model itself.
        assert all(weight is other for weight, other in zip(network.parameters(), runs.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True))
    assert kinds_of(network) == before
    assert kinds_of(pool_first(network)) != before


def test_only_a_relu_before_a_max_pool_changes_its_place():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.some = nn.Sequential(
                nn.ReLU(), nn.MaxPool2d(2), nn.ReLU(), nn.AvgPool2d(2), nn.Tanh(), nn.MaxPool2d(2), nn.ReLU()
            )
            self.relu, self.pool = nn.ReLU(), nn.MaxPool2d(2)  # where a network calls them is not known

    expected = ["MaxPool2d", "ReLU", "ReLU", "AvgPool2d", "Tanh", "MaxPool2d", "ReLU", "ReLU", "MaxPool2d"]
    assert kinds_of(pool_first(Net())) == expected


def test_what_hangs_on_a_layer_still_happens_where_pooling_comes_first():
    network = build_model("cnn4", num_classes=3)
    seen: list[str] = []
    runs = pool_first(network)
    for name in ("features.1", "features.2"):
        network.get_submodule(name).register_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    network.register_forward_hook(lambda *_: seen.append("all"))
    runs(torch.zeros(1, 3, 32, 32))
    assert seen == ["MaxPool2d", "ReLU", "all"]


# --- Memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_freed_memory_is_not_fetched_from_the_system_again():
    code = """
import resource, torch
from alexnet_course.training.kernels import keep_freed_memory

def page_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.empty(16 * 2**20).fill_(1)  # 64 MB
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

page_faults()
print(page_faults())
keep_freed_memory()
page_faults()
print(min(page_faults() for _ in range(5)))  # now and then one finds its place taken and is given another
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    # 64 MB are 32 pages even where the system hands out large ones of 2 MB.
    assert before >= 8 * 64 * 2**20 / max(resource.getpagesize(), 2 * 2**20)
    assert after < before / 20


LARGE_PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
@pytest.mark.skipif(not LARGE_PAGES.exists() or "[never]" in LARGE_PAGES.read_text(), reason="there are no large pages")
def test_memory_comes_in_large_pages():
    code = """
import pathlib, re, torch
from alexnet_course.training.kernels import keep_freed_memory

torch.empty(2**20).fill_(1)  # somebody has used memory before
keep_freed_memory()
keep_freed_memory()
tensors = [torch.ones(4 * 2**20) for _ in range(16)]  # 16 MB each
for line in ("AnonHugePages", "Rss"):
    print(re.search(rf"^{line}: *(\\d+) kB", pathlib.Path("/proc/self/smaps_rollup").read_text(), re.M)[1])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    large, all_in_use = (1024 * int(line) for line in done.stdout.split())
    assert large > 16 * 16 * 2**20 / 2  # the system may be short of them
    assert all_in_use < 2 * 2**30  # and what was not used takes up no room


def test_memory_can_be_kept_twice_and_where_there_is_nothing_to_tell(monkeypatch):
    keep_freed_memory()
    keep_freed_memory()
    for platform_name, missing in (("darwin", OSError), ("linux", OSError)):
        monkeypatch.setattr("sys.platform", platform_name)

        def library(name: str, error: type[Exception] = missing) -> None:
            raise error(f"{name}: cannot open shared object file")

        monkeypatch.setattr("ctypes.CDLL", library)
        keep_freed_memory()


def test_where_there_is_less_memory_than_large_pages_could_take_none_is_asked_for(monkeypatch):
    calls = []

    class Function:
        def __init__(self, name: str) -> None:
            self.name = name

        def __call__(self, *_: object) -> None:
            calls.append(self.name)

    monkeypatch.setattr(
        "ctypes.CDLL", lambda name: SimpleNamespace(**{n: Function(n) for n in ("malloc", "madvise", "free")})
    )
    kernels._use_large_pages.__wrapped__()
    assert calls == ["malloc"]
