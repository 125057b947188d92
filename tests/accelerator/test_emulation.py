"""The emulation itself refuses what CUDA refuses, and notes what makes the host wait there."""

import copy
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from emulation import H100, T4, emulated, transfers
from torch import nn

pytestmark = pytest.mark.usefixtures("h100")


def kinds(seen: list) -> list[str]:
    return [transfer.kind for transfer in seen]


def test_afterwards_all_is_as_before():
    before = torch.autocast, torch.nn.Module._apply, torch.cuda.get_device_name
    with emulated(T4):
        assert torch.cuda.get_device_name() == T4.name
    assert (torch.autocast, torch.nn.Module._apply, torch.cuda.get_device_name) == before
    assert torch.cuda.get_device_name() == H100.name


@pytest.mark.parametrize(
    "mix",
    [
        lambda here, there: here + there,
        lambda here, there: there @ here.T,
        lambda here, there: torch.cat([here, there]),
        lambda here, there: F.cross_entropy(there, here.argmax(1)),
        lambda here, there: here[there[:, 0] > 0],
        lambda here, there: there.index_put_((torch.tensor([0]),), here[:1]),
        lambda here, there: F.conv2d(there[None, None], here[None, None]),
        lambda here, there: torch.add(there, there, out=here),
    ],
)
def test_tensors_of_two_devices_do_not_mix(mix):
    with pytest.raises(RuntimeError, match=r"same device"):
        mix(torch.ones(3, 3), torch.ones(3, 3, device="cuda"))


def test_a_single_number_of_the_processor_may_take_part():
    assert (torch.ones(3, device="cuda") * torch.tensor(2.0)).tolist() == [2, 2, 2]


def test_a_generator_draws_on_its_own_device():
    there, here = torch.Generator("cuda").manual_seed(1), torch.Generator().manual_seed(1)
    assert torch.rand(3, device="cuda", generator=there).device == torch.device("cuda", 0)
    for device, generator in (("cuda", here), ("cpu", there)):
        with pytest.raises(RuntimeError, match="device type for generator"):
            torch.randint(5, (3,), device=device, generator=generator)


def test_the_device_draws_other_numbers_and_the_same_again_from_a_state():
    there = torch.Generator("cuda").manual_seed(1)
    state = there.get_state()
    assert state.numel() == 16
    first = torch.rand(3, device="cuda", generator=there)
    assert not torch.equal(first, torch.rand(3, device="cuda", generator=there))
    assert first.tolist() != torch.rand(3, generator=torch.Generator().manual_seed(1)).tolist()
    there.set_state(state)
    assert torch.equal(first, torch.rand(3, device="cuda", generator=there))
    with pytest.raises(RuntimeError, match="wrong size"):
        there.set_state(torch.Generator().get_state())


def test_dropout_draws_from_the_device_s_own_generator():
    torch.manual_seed(3)
    expected = torch.rand(5)
    torch.manual_seed(3)
    ones = torch.ones(100, device="cuda")
    first, second = F.dropout(ones), F.dropout(ones)
    assert not torch.equal(first, second)
    assert torch.equal(torch.rand(5), expected)
    torch.manual_seed(3)  # seeds both
    assert torch.equal(F.dropout(ones), first)


def test_values_have_to_be_fetched():
    there = torch.ones(3, device="cuda")
    for convert in (lambda: there.numpy(), lambda: np.asarray(there)):
        with pytest.raises(TypeError, match="cuda:0 device type tensor to numpy"):
            convert()
    assert there.cpu().numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: float(x.sum()),
        lambda x: bool((x == 1).all()),
        lambda x: x.tolist(),
        lambda x: x.cpu(),
        lambda x: x.to("cpu"),
        lambda x: x.nonzero(),
        lambda x: x[x > 0],
        lambda x: x.unique(),
        lambda x: torch.equal(x, x),
        lambda x: torch.empty(3).copy_(x),
        lambda x: torch.bincount(x.long()),
        lambda x: repr(x),
        lambda x: f"{x.sum():.2f}",
        lambda x: torch.save(x, io.BytesIO()),
    ],
)
def test_every_read_of_the_host_is_noted(read):
    there = torch.ones(3, device="cuda")
    with transfers() as seen:
        read(there)
    assert "read" in kinds(seen)
    assert "test_emulation.py" in str(seen[0])


@pytest.mark.parametrize(
    "copy_there",
    [
        lambda x, there: x.to("cuda"),
        lambda x, there: x.cuda(),
        lambda x, there: x.to("cuda", non_blocking=True),  # of memory that is not pinned
        lambda x, there: torch.tensor([1.0], device="cuda"),
        lambda x, there: there.new_tensor([1.0]),
        lambda x, there: there.copy_(x),
        lambda x, there: there[torch.tensor([0, 1])],
    ],
)
def test_every_copy_to_the_device_is_noted(copy_there):
    there = torch.ones(3, device="cuda")
    with transfers() as seen:
        copy_there(torch.ones(3), there)
    assert kinds(seen) == ["copy"]


def test_what_stays_on_the_device_or_in_the_stream_is_no_wait():
    there, pinned = torch.ones(3, device="cuda"), torch.ones(3).pin_memory()
    with transfers() as seen:
        torch.arange(3, device="cuda") + torch.zeros_like(there)
        there.to(torch.bfloat16).masked_fill(there > 0, 2)
        there[torch.arange(2, device="cuda")] = 0
        there.to("cuda").clone()
    assert seen == []
    with transfers() as seen:
        pinned.to("cuda", non_blocking=True)
        torch.empty(3, pin_memory=True).copy_(there, non_blocking=True)
        torch.cuda.synchronize()
    assert kinds(seen) == ["queued", "queued", "wait"]


def test_a_parameter_that_moves_stays_the_same_object():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    before = list(net.parameters())
    net.to("cuda").to(memory_format=torch.channels_last)
    assert all(one is other for one, other in zip(before, net.parameters(), strict=True))
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"cuda"}
    assert {tensor.device.type for tensor in copy.deepcopy(net).state_dict().values()} == {"cuda"}
    net(torch.randn(2, 3, 8, 8, device="cuda")).sum().backward()
    assert before[0].grad.device.type == "cuda"
    net.cpu()
    assert {tensor.device.type for tensor in net.state_dict().values()} == {"cpu"}
    net.load_state_dict(net.state_dict())


def test_a_change_of_shape_in_place_is_seen():
    there = torch.arange(6, device="cuda")
    assert there.unsqueeze_(0).shape == (1, 6)
    assert there.t_().shape == (6, 1)
    assert (there + there).tolist() == [[0], [2], [4], [6], [8], [10]]


@pytest.mark.parametrize("optimiser", [torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW])
@pytest.mark.parametrize("fused", [True, False])
def test_a_step_on_the_device_is_the_processor_s(optimiser, fused):
    """In float32, where both compute the same."""
    ends = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 5))
        images = torch.randn(4, 3, 8, 8)
        net.to(device)
        steps = optimiser(net.parameters(), 0.1, fused=fused)
        with transfers() as seen:
            inputs, labels = images.to(device), torch.arange(4, device=device)
            for _ in range(2):
                steps.zero_grad()
                F.cross_entropy(net(inputs), labels, label_smoothing=0.1).backward()
                steps.step()
        assert kinds(seen) == (["copy"] if device == "cuda" else [])
        ends.append({name: tensor.cpu() for name, tensor in net.state_dict().items()})
    for name, tensor in ends[0].items():
        torch.testing.assert_close(ends[1][name], tensor)


def test_half_precision_is_of_its_type_where_the_processor_has_none():
    x = torch.randn(2, 8, 4, 4, device="cuda", dtype=torch.float16)
    assert nn.LocalResponseNorm(5)(x).dtype == torch.float16
    with torch.autocast("cuda", dtype=torch.float16):
        assert F.conv2d(x.float(), torch.randn(4, 8, 3, 3, device="cuda")).dtype == torch.float16


def test_what_cuda_cannot_repeat_is_refused():
    x = torch.randn(2, 3, 6, 6, device="cuda", requires_grad=True)
    enlarged = F.interpolate(x, size=(9, 9), mode="bilinear")
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
            enlarged.sum().backward()
    finally:
        torch.use_deterministic_algorithms(False)


def test_what_is_not_emulated_says_so():
    with pytest.raises(NotImplementedError, match="is not emulated"):
        torch.compile(nn.Linear(2, 2))


def test_a_recorded_graph_does_nothing_before_its_replay_and_the_same_each_time_it_is_launched():
    x, total = torch.ones(3, device="cuda"), torch.zeros(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        assert torch.cuda.is_current_stream_capturing()
        double = x * 2
        total += double
    assert not torch.cuda.is_current_stream_capturing()
    assert total.tolist() == [0, 0, 0]
    assert double.isnan().all()
    graph.replay()
    x.fill_(5)
    graph.replay()
    assert (double.tolist(), total.tolist()) == ([10, 10, 10], [12, 12, 12])


def test_a_graph_draws_other_numbers_each_time_as_a_program_without_one():
    def draws(recorded: bool) -> list:
        torch.manual_seed(0)
        ones = torch.ones(50, device="cuda")
        graph = torch.cuda.CUDAGraph()
        if recorded:
            with torch.cuda.graph(graph):
                dropped = F.dropout(ones)
        found = []
        for _ in range(2):
            if recorded:
                graph.replay()
            else:
                dropped = F.dropout(ones)
            found.append(dropped.tolist())
        return found

    assert draws(True) == draws(False)
    assert draws(True)[0] != draws(True)[1]


def test_a_recording_has_the_backward_pass_in_it():
    net = nn.Linear(4, 2).to("cuda")
    x = torch.randn(3, 4, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(x).square().sum().backward()
    gradient = net.weight.grad
    assert gradient.isnan().all()
    for scale in (1, 3):
        x.copy_(torch.full((3, 4), scale, device="cuda"))
        graph.replay()
        net.zero_grad()
        net(x).square().sum().backward()
        torch.testing.assert_close(gradient, net.weight.grad)


@pytest.mark.parametrize(
    "attempt",
    [
        lambda x: x.sum().item(),
        lambda x: x.copy_(torch.ones(3)),
        lambda x: torch.cuda.synchronize(),
        lambda x: torch.rand(3, device="cuda", generator=torch.Generator("cuda")),
    ],
)
def test_what_a_graph_cannot_hold_is_refused(attempt):
    x = torch.ones(3, device="cuda")
    graph = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="captur"), torch.cuda.graph(graph):
        attempt(x)
    with pytest.raises(RuntimeError, match="without a preceding"):
        graph.replay()
    assert x.tolist() == [1, 1, 1]
