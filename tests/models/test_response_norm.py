"""Local response normalisation without PyTorch's pooling: the same values and gradients, repeatable, safe in fp16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from alexnet_course.models import MODELS, build_model, local_response_norm
from alexnet_course.models import response_norm as module
from alexnet_course.models.response_norm import LocalResponseNorm, response_norm

PAPER = {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0}  # in PyTorch's terms
CASES = {
    "the paper's": ((3, 16, 5, 7), PAPER),
    "one channel": ((3, 1, 4, 4), PAPER),
    "fewer channels than half the window": ((2, 2, 3, 3), {**PAPER, "size": 9}),
    "even window": ((2, 9, 4, 4), {**PAPER, "size": 4}),
    "even window, fewer channels": ((2, 3, 4, 4), {**PAPER, "size": 6}),
    "window of two": ((2, 8, 3, 5), {**PAPER, "size": 2}),
    "window of one": ((2, 8, 3, 5), {**PAPER, "size": 1}),
    "other constants": ((2, 8, 4, 4), {"size": 3, "alpha": 0.01, "beta": 0.5, "k": 1.0}),
    "no image": ((0, 8, 3, 5), PAPER),
    "a row of pixels": ((2, 8, 6), PAPER),
    "volumes": ((2, 8, 2, 3, 4), PAPER),
}


def activations(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """So large that the sum under the power is not small beside k."""
    return 50 * torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradient_are_pytorchs(name, dtype, tolerance, layout):
    shape, options = CASES[name]
    x = activations(*shape, dtype=dtype)
    x = x.to(memory_format=layout) if x.dim() == 4 else x
    above = torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    (mine, my_gradient), (theirs, their_gradient) = (
        (result := norm(leaf := x.clone().requires_grad_(), **options), *torch.autograd.grad(result, leaf, above))
        for norm in (response_norm, F.local_response_norm)
    )
    assert mine.dtype == dtype
    for one, other in ((mine, theirs), (my_gradient, their_gradient)):
        largest = other.detach().abs().max().item() if len(x) else 0.0
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * largest)
        assert x.dim() != 4 or one.is_contiguous(memory_format=layout) or not len(x)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
def test_the_gradient_is_that_of_the_values(size):
    x = activations(2, 5, 2, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: response_norm(x, size, 5e-4, 0.75, 2.0), (x,))


def test_in_fp16_squares_do_not_overflow():
    """300² is more than fp16 has: PyTorch's own makes 0 of it, and no gradient."""
    x = torch.full((2, 8, 3, 3), 300.0, dtype=torch.float16)
    x[:, ::2] = -17.0
    leaf, exact_leaf = x.clone().requires_grad_(), x.double().requires_grad_()
    result, exact = local_response_norm()(leaf), local_response_norm()(exact_leaf)
    with torch.autocast("cpu", torch.float16):
        assert bool((F.local_response_norm(x, **PAPER) == 0).all())
    assert result.dtype == torch.float16
    torch.testing.assert_close(result.double(), exact, rtol=2**-10, atol=0)
    result.sum().backward()
    exact.sum().backward()
    torch.testing.assert_close(leaf.grad.double(), exact_leaf.grad, rtol=2**-10, atol=2**-20)


def test_bf16_keeps_the_sum_in_single_precision():
    x = activations(2, 16, 4, 4).bfloat16()
    exact = F.local_response_norm(x.double(), **PAPER)
    assert torch.equal(response_norm(x, **PAPER), exact.bfloat16())  # rounded once, at the end


class Operations(TorchDispatchMode):
    """Notes what PyTorch computes with, on the way there and back."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[torch._ops.OpOverload] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.found.add(func)
        return func(*args, **(kwargs or {}))


def operations(norm) -> set[torch._ops.OpOverload]:
    x = activations(2, 8, 3, 3, dtype=torch.float32).requires_grad_()
    with Operations() as noted:
        norm(x, **PAPER).sum().backward()
    return noted.found - {torch.ops.aten.sum.default, torch.ops.aten.ones_like.default}


def one_value_each(operation: torch._ops.OpOverload) -> bool:
    """Whether each number of the result is of one place, so that no order of threads can change it."""
    copies = {"aten::clone", "aten::copy_", "aten::_to_copy", "aten::detach", "aten::promote_types"}
    return torch.Tag.pointwise in operation.tags or operation.is_view or operation.name().split(".")[0] in copies


def test_nothing_in_it_depends_on_the_order_of_threads():
    """On a GPU PyTorch would raise where it does; here we can see what is computed with, both ways."""
    assert [str(found) for found in operations(response_norm) if not one_value_each(found)] == []
    theirs = {str(found) for found in operations(F.local_response_norm) if not one_value_each(found)}
    assert "aten.avg_pool3d_backward.default" in theirs


@pytest.fixture
def calls(monkeypatch) -> list[torch.device]:
    made = []

    def counted(x: Tensor, *constants: float) -> Tensor:
        made.append(x.device)
        return response_norm(x, *constants)

    monkeypatch.setattr(module, "response_norm", counted)
    return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_on_a_processor_the_layer_is_pytorchs_to_the_bit(dtype, calls):
    """Or the records could not be repeated."""
    results = []
    for layer in (local_response_norm(), nn.LocalResponseNorm(**PAPER)):
        x = activations(2, 16, 5, 5).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            result = layer(x)
        result.backward(torch.ones_like(result))
        results.append((result, x.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    assert not calls


def test_elsewhere_it_is_ours(calls):
    with torch.device("meta"):  # any device but the processor
        network = build_model("alexnet-lrn")
        network(torch.empty(1, *MODELS["alexnet-lrn"].input_size))
    assert calls == [torch.device("meta")] * 2


def test_it_is_still_a_layer_of_pytorchs_by_type_and_by_name():
    layer = local_response_norm()
    assert isinstance(layer, nn.LocalResponseNorm)
    assert repr(layer) == "LocalResponseNorm(5, alpha=0.0005, beta=0.75, k=2.0)"
    assert type(layer) is LocalResponseNorm


@pytest.mark.slow
def test_a_compiler_can_look_into_it():
    x = activations(2, 8, 3, 3).half()
    results = []
    for layer in (local_response_norm(), torch.compile(local_response_norm(), backend="aot_eager", fullgraph=True)):
        leaf = x.clone().requires_grad_()
        result = layer(leaf)
        result.sum().backward()
        results.append((result.detach(), leaf.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)
