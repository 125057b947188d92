"""The global state of the process that a run depends on: PyTorch's random generators and settings.

A run has its own random generators, seeded by its recipe. Dropout draws from the global ones, so these are set to the
run's states while it computes, and restored afterwards. Two runs can therefore take turns, and random numbers that a
program draws between epochs do not affect a run.
"""

from __future__ import annotations

import random
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch


class Surroundings:
    """Inside ``with surroundings``, PyTorch's global state is the run's; on leaving, it is restored.

    The global random generators (Python's, NumPy's, PyTorch's and that of ``device``) have the run's states, initially
    seeded with ``seed``; float32 is the default dtype and the CPU the default device; gradients are enabled. It is
    reentrant.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._depth = 0
        self._random = _seeded(seed, device)

    def __enter__(self) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        self._undo = ExitStack()
        self._undo.callback(torch.set_default_dtype, torch.get_default_dtype())
        torch.set_default_dtype(torch.float32)
        if torch.get_default_device().type != "cpu":
            self._undo.callback(torch.set_default_device, torch.get_default_device())
            torch.set_default_device("cpu")
        self._undo.enter_context(torch.inference_mode(False))
        self._undo.enter_context(torch.enable_grad())
        self._exchange()
        self._undo.callback(self._exchange)

    def __exit__(self, *error: object) -> None:
        self._depth -= 1
        if not self._depth:
            self._undo.close()

    def _exchange(self) -> None:
        """Swap the states of the generators with the stored ones."""
        kept, self._random = self._random, _states(self.device)
        _set_states(kept, self.device)

    def seed(self, seed: int) -> None:
        """Reseed the run's generators."""
        self.load_state_dict(_seeded(seed, self.device))

    def state_dict(self) -> dict[str, Any]:
        """The states of the run's generators, as plain values and tensors."""
        state = dict(_states(self.device) if self._depth else self._random)
        kind, keys, *rest = state["numpy"]
        return {**state, "numpy": (kind, keys.tolist(), *rest)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore ``state``; a generator that is not in it, for example of another device, is left unchanged."""
        kind, keys, *rest = state["numpy"]
        states = (_states(self.device) if self._depth else self._random) | state
        states["numpy"] = (kind, np.array(keys, dtype=np.uint32), *rest)
        if self._depth:
            _set_states(states, self.device)
        else:
            self._random = states


def _seeded(seed: int, device: torch.device) -> dict[str, Any]:
    """The states of fresh generators."""
    states: dict[str, Any] = {
        "python": random.Random(seed).getstate(),
        "numpy": np.random.RandomState(seed).get_state(legacy=True),
        "torch": torch.Generator().manual_seed(seed).get_state(),
    }
    if device.type in ("cuda", "mps"):
        states[device.type] = torch.Generator(device).manual_seed(seed).get_state()
    return states


def _states(device: torch.device) -> dict[str, Any]:
    """The states of the global generators."""
    states: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": np.random.get_state(legacy=True),
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["mps"] = torch.mps.get_rng_state()
    return states


def _set_states(states: dict[str, Any], device: torch.device) -> None:
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["mps"])
