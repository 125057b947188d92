"""Tensors on the device, and what becomes of an operation that has one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from emulation.generators import CUDA, Generator, OfTorch, drawing_from, of_the_device
from emulation.graphs import RECORDING, check_generator
from emulation.transfers import COPY, QUEUED, READ, note

aten = torch.ops.aten
CPU = torch.device("cpu")
HALVES = (torch.bfloat16, torch.float16)

# The host waits for what they give, or for the size of it.
READING = {
    aten._local_scalar_dense.default, aten.equal.default, aten.is_nonzero.default, aten.nonzero.default,
    aten.masked_select.default, aten.bincount.default, aten._unique2.default, aten.unique_dim.default,
    aten.unique_consecutive.default, aten.repeat_interleave.Tensor, aten._linalg_eigh.default, aten.histc.default,
}  # fmt: skip
INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPYING = {aten.copy_.default, aten._foreach_copy_.default, aten._to_copy.default}
# By a GPU's matrix unit: added up in float32 and rounded once. A processor's own half precision can be very slow.
PRODUCTS = {
    aten.convolution.default, aten.convolution_backward.default, aten.mm.default, aten.addmm.default, aten.bmm.default,
    aten.baddbmm.default,
}  # fmt: skip
# From the list in the documentation of torch.use_deterministic_algorithms, what these networks could come by.
NOT_DETERMINISTIC = {
    "adaptive_max_pool2d_backward", "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward",
    "avg_pool3d_backward", "max_pool3d_with_indices_backward", "fractional_max_pool2d_backward", "max_unpool2d",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "reflection_pad2d_backward", "replication_pad2d_backward", "nll_loss2d_forward", "nll_loss2d_backward",
    "grid_sampler_2d_backward", "histc", "kthvalue",
}  # fmt: skip

_moving = False  # while one of the methods below asks for a tensor on the other device


class CudaTensor(Tensor):
    """A tensor on the emulated device, whose values ``held`` holds. To C++ it is one of the processor's."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> CudaTensor:
        tensor = Tensor._make_subclass(cls, held, held.requires_grad)
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operate(function, args, kwargs or {})

    def __tensor_flatten__(self) -> tuple[list[str], None]:  # tells modules to swap, not to fill, a parameter
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], *_: Any) -> CudaTensor:
        return CudaTensor(inner["held"])

    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]

    def get_device(self) -> int:
        return 0

    def is_pinned(self, *_: Any) -> bool:
        return False

    def pin_memory(self, *_: Any) -> Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def to(self, *args: Any, copy: bool = False, **kwargs: Any) -> Tensor:
        if args and isinstance(args[0], Tensor):
            args = (args[0].device, args[0].dtype, *args[1:])
        device, dtype, waits_not, form = torch._C._nn._parse_to(*args, **kwargs)
        form = torch.preserve_format if form is None else form
        dtype = dtype or self.dtype
        if device is None or device.type == "cuda":
            return Tensor.to(self, dtype=dtype, copy=copy, memory_format=form)
        with moving():
            return aten._to_copy.default(self, dtype=dtype, device=device, non_blocking=waits_not, memory_format=form)

    def cpu(self, memory_format: Any = None) -> Tensor:
        return self.to("cpu", memory_format=memory_format or torch.preserve_format)

    def cuda(self, *_: Any, **__: Any) -> Tensor:
        return self

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def numpy(self, *_: Any, **__: Any) -> Any:
        raise TypeError(
            "can't convert cuda:0 device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )

    __array__ = numpy  # type: ignore[assignment]

    def new_tensor(self, data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
        return torch.tensor(data, dtype=dtype or self.dtype, device=device or CUDA, requires_grad=requires_grad)

    def type(self, dtype: Any = None, *args: Any, **kwargs: Any) -> Any:
        if dtype is not None:
            return Tensor.type(self, dtype, *args, **kwargs)
        return self.held.type().replace("torch.", "torch.cuda.")

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.cpu().detach().__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.cpu().detach()!r}[:-1], device='cuda:0')".replace(")[:-1]", "")

    def __format__(self, form: str) -> str:
        return format(self.item(), form) if self.dim() == 0 else repr(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            other = CudaTensor(self.held.detach().clone()).requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                other._is_param = True
            if self.grad is not None:
                other.grad = self.grad.__deepcopy__(memo)
            memo[id(self)] = other
        return memo[id(self)]


@contextmanager
def moving() -> Any:
    global _moving
    _moving = True
    try:
        yield
    finally:
        _moving = False


class Everywhere(TorchDispatchMode):
    """Sees the operations that have no tensor on the device, but make one."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return operate(function, args, kwargs or {})


def operate(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do what CUDA would do with the operation, or refuse it as CUDA would."""
    leaves = [*leaves_of(args), *leaves_of(tuple(kwargs.values()))]
    ours = [leaf for leaf in leaves if isinstance(leaf, CudaTensor)]
    on_device = bool(ours)
    if kwargs.get("device") is not None:
        on_device = torch.device(kwargs["device"]).type == "cuda"
    if not ours and not on_device:
        _check_generators(leaves, on_device=False)
        pinned = kwargs.pop("pin_memory", None)
        result = function(*args, **kwargs)
        if RECORDING and _in_backward():  # by C++, which believes to be on a processor
            _record(leaves, result, lambda: function(*args, **kwargs))
        return pin(result) if pinned else result
    if function in COPYING:
        on_device = _copy(function, args, kwargs, on_device)
    elif function in INDEXING:
        on_device = _index(args)
    else:
        _check_devices(function, leaves)
    name = function.overloadpacket.__name__
    if ours and function in READING:
        note(READ, name)
    if on_device and torch.are_deterministic_algorithms_enabled() and not repeats(function, args):
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation, but you set "
                           "'torch.use_deterministic_algorithms(True)'.")  # fmt: skip
    generator = _check_generators(leaves, on_device)
    check_generator(generator, DEFAULT)
    pinned = kwargs.pop("pin_memory", None)
    own = on_device and generator is None and torch.Tag.nondeterministic_seeded in function.tags

    def inside(leaf: Any) -> Any:
        return leaf.held if isinstance(leaf, CudaTensor) else leaf

    def drawn(leaf: Any) -> Any:
        return generator.next_draw() if isinstance(leaf, OfTorch) and generator is not None else leaf

    # Of the tensors themselves nothing may be kept: autograd copies a gradient that somebody else has, too.
    held_args, held_kwargs = change(inside, args), {name: change(inside, value) for name, value in kwargs.items()}

    def compute() -> Any:
        inner_args = change(drawn, held_args)
        inner_kwargs = {name: change(drawn, value) for name, value in held_kwargs.items()}
        if inner_kwargs.get("device") is not None and on_device:
            inner_kwargs["device"] = CPU
        with torch._C._DisableTorchDispatch(), drawing_from(DEFAULT) if own else nullcontext():
            return _compute(function, inner_args, inner_kwargs)

    if RECORDING:
        RECORDING[0].note_inputs([tensor.held for tensor in ours])
    result = compute()
    if RECORDING:
        _record([tensor.held for tensor in ours], result, compute)
    known = {id(tensor.held): tensor for tensor in ours}

    def outside(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        tensor = known.get(id(leaf))
        if tensor is None:
            return CudaTensor(leaf) if on_device else leaf
        if tensor.shape != leaf.shape or tensor.stride() != leaf.stride():  # changed in place, as by unsqueeze_
            with torch._C._DisableTorchDispatch(), torch._C._AutoDispatchBelowADInplaceOrView():
                Tensor.as_strided_(tensor, leaf.size(), leaf.stride(), leaf.storage_offset())
        return tensor

    result = change(outside, result)
    return pin(result) if pinned and not on_device else result


def _record(inputs: list[Any], result: Any, again: Callable[[], Any]) -> None:
    def tensors(values: Any) -> list[Tensor]:
        return [leaf for leaf in leaves_of([values]) if isinstance(leaf, Tensor)]

    RECORDING[0].note(tensors(inputs), tensors(result), lambda: tensors(again()))


def repeats(function: Any, args: Any) -> bool:
    """Whether CUDA has a kernel for it that gives the same result each time."""
    if function is aten.bincount.default:
        return len(args) < 2 or args[1] is None  # only weights are added up in any order
    return function.overloadpacket.__name__ not in NOT_DETERMINISTIC


def _compute(function: Any, args: Any, kwargs: Any) -> Any:
    """By the processor; in float32 where it has the operation in no half precision, or in none that is quick."""
    halves = [leaf.dtype for leaf in leaves_of(args) if isinstance(leaf, Tensor) and leaf.dtype in HALVES]
    if not halves or function not in PRODUCTS:
        try:
            return function(*args, **kwargs)
        except (NotImplementedError, RuntimeError) as error:
            if not halves or "not implemented for" not in str(error) or function._schema.is_mutable:
                raise
    wide = change(lambda x: x.float() if isinstance(x, Tensor) and x.dtype in HALVES else x, args)
    result = function(*wide, **kwargs)
    return change(lambda x: x.to(halves[0]) if isinstance(x, Tensor) and x.dtype == torch.float32 else x, result)


def leaves_of(values: Any) -> list[Any]:
    """What is in the arguments of an operation, which are in lists or tuples at most."""
    found = []
    for value in values:
        if isinstance(value, list | tuple):
            found += leaves_of(value)
        elif value is not None:
            found.append(value)
    return found


def change(function: Callable[[Any], Any], value: Any) -> Any:
    """``value`` with ``function`` of each of its leaves."""
    if isinstance(value, list | tuple):
        return type(value)([change(function, item) for item in value])
    return function(value)


# --- Where tensors and generators may be -----------------------------------------------------------------------------


def _in_backward() -> bool:
    """Where C++, which believes to be on a processor, makes tensors by itself."""
    return torch._C._current_graph_task_id() != -1


def _check_devices(function: Any, leaves: list[Any]) -> None:
    """A processor's tensor may take part where it is a single number."""
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    others = [tensor for tensor in tensors if not isinstance(tensor, CudaTensor) and tensor.dim() > 0]
    if others and len(others) < len(tensors) and not _in_backward():
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                           f"{others[0].device}! (when checking argument in method {function})")  # fmt: skip


def _check_generators(leaves: list[Any], on_device: bool) -> Generator | None:
    """The device's generator among the arguments; an error where one is of the other device."""
    for leaf in leaves:
        if isinstance(leaf, OfTorch):
            generator = of_the_device(leaf)
            if (generator is not None) != on_device:
                wanted, found = ("cuda", "cpu") if on_device else ("cpu", "cuda")
                raise RuntimeError(f"Expected a '{wanted}' device type for generator but found '{found}'")
            return generator
    return None


def _copy(function: Any, args: Any, kwargs: dict[str, Any], on_device: bool) -> bool:
    """Notes a copy from one device to the other; whether the result is on the device."""
    waits_not = bool(kwargs.get("non_blocking", False))
    if function is aten._to_copy.default:
        pairs = [(on_device, args[0])]
        if isinstance(args[0], CudaTensor) and not _moving:
            pairs = [(True, args[0])]  # it is C++ that says cpu
    elif function is aten.copy_.default:
        waits_not = waits_not or (len(args) > 2 and bool(args[2]))
        pairs = [(isinstance(args[0], CudaTensor), args[1])]
    else:
        waits_not = waits_not or (len(args) > 2 and bool(args[2]))
        pairs = [(isinstance(to, CudaTensor), source) for to, source in zip(args[0], args[1], strict=True)]
    for to_device, source in pairs:
        if to_device == isinstance(source, CudaTensor):
            continue
        elif to_device:
            note(QUEUED if waits_not and is_pinned(source) else COPY, "to the device")
        else:
            note(QUEUED if waits_not else READ, "to the host")
    return pairs[0][0]


def _index(args: Any) -> bool:
    """Indices may be the processor's, which copies them; a mask has to be counted."""
    on_device = isinstance(args[0], CudaTensor)
    for index in args[1]:
        if index is None:
            continue
        if isinstance(index, CudaTensor) and not on_device:
            raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if on_device and not isinstance(index, CudaTensor):
            note(COPY, "index")
        if on_device and index.dtype in (torch.bool, torch.uint8):
            note(READ, "mask")
    if len(args) > 2 and isinstance(args[2], CudaTensor) != on_device and args[2].dim() > 0:
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices, cuda:0 and "
                           "cpu! (when checking the values of index_put_)")  # fmt: skip
    return on_device


def pin(tensor: Tensor) -> Tensor:
    """Mark the memory of one of the processor's tensors as pinned."""
    tensor.untyped_storage().pinned = True  # type: ignore[attr-defined]
    return tensor


def is_pinned(tensor: Tensor) -> bool:
    return getattr(tensor.untyped_storage(), "pinned", False)


DEFAULT = Generator("cuda")
