"""Random generators of the device: counters, as on CUDA, so that a state is a seed and an offset."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakValueDictionary

import torch

OfTorch = torch._C.Generator
DEFAULT_SEED = 67280421310721  # PyTorch's, of a generator that nobody has seeded
SALT = 0x5EED_5EED  # so that the device draws other numbers than the processor does
STATE = struct.Struct("<QQ")
CUDA = torch.device("cuda", 0)

# PyTorch's C++ hands an operation another Python object for the same generator. The seed of the C++ one never changes
# and says which of ours it belongs to.
_tags = itertools.count(0xC0DA_0000_0000_0000)
_of_the_device: WeakValueDictionary[int, Generator] = WeakValueDictionary()


class Generator(OfTorch):  # type: ignore[misc]
    """Takes the place of ``torch.Generator``."""

    left_by_a_recording = False  # one that failed

    def __new__(cls, device: Any = "cpu") -> Generator:
        return OfTorch.__new__(cls, "cpu")

    def __init__(self, device: Any = "cpu") -> None:
        self._on = torch.device(device)
        if self._on.type == "cuda":
            tag = next(_tags)
            OfTorch.manual_seed(self, tag)
            _of_the_device[tag] = self
            self._seed, self._offset = DEFAULT_SEED, 0

    @property
    def device(self) -> torch.device:
        return CUDA if self._on.type == "cuda" else self._on

    def manual_seed(self, seed: int) -> Generator:
        if self._on.type == "cuda":
            self._seed, self._offset = int(seed) % 2**64, 0
        else:
            OfTorch.manual_seed(self, seed)
        return self

    def initial_seed(self) -> int:
        return self._seed if self._on.type == "cuda" else OfTorch.initial_seed(self)

    def seed(self) -> int:
        if self._on.type == "cuda":
            self.manual_seed(OfTorch().seed())
            return self._seed
        return OfTorch.seed(self)

    def get_state(self) -> torch.Tensor:
        if self._on.type != "cuda":
            return OfTorch.get_state(self)
        return torch.frombuffer(bytearray(STATE.pack(self._seed, self._offset)), dtype=torch.uint8)

    def set_state(self, state: torch.Tensor) -> Generator:
        if self._on.type != "cuda":
            OfTorch.set_state(self, state)
            return self
        if state.device.type != "cpu" or state.dtype != torch.uint8:
            raise TypeError("expected a torch.ByteTensor on the processor as the state of a generator")
        if state.numel() != STATE.size:
            raise RuntimeError("RNG state is wrong size")
        self._seed, self._offset = STATE.unpack(bytes(state.tolist()))
        return self

    def clone_state(self) -> Generator:
        clone = Generator(self._on)
        clone._seed, clone._offset = self._seed, self._offset
        return clone

    def graphsafe_set_state(self, other: Generator) -> Generator:
        self._seed, self._offset = other._seed, other._offset
        self.left_by_a_recording = other.left_by_a_recording
        return self

    def next_draw(self) -> OfTorch:
        """A processor's generator for one operation."""
        if self.left_by_a_recording:
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        seed = hash((self._seed, self._offset, SALT)) % 2**63
        self._offset += 4
        return OfTorch().manual_seed(seed)


def of_the_device(generator: OfTorch) -> Generator | None:
    """The generator of the device that this object stands for; None for one of the processor."""
    return _of_the_device.get(OfTorch.initial_seed(generator))


@contextmanager
def drawing_from(generator: Generator) -> Iterator[None]:
    """Inside, what draws from the processor's global generator draws from this one."""
    default = torch.default_generator
    before = OfTorch.get_state(default)
    default.manual_seed(generator.next_draw().initial_seed())
    try:
        yield
    finally:
        OfTorch.set_state(default, before)
