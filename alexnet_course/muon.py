"""Muon for convolutions and small matrices, beside AdamW for all other weights, as one optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from alexnet_course.errors import CourseError

# Linear layers whose shorter side is in this range are Muon's. A classifier's last layer has fewer outputs, and AdamW
# suits it better. A layer of 9216×4096 would cost Muon more time than the rest of the step.
SHORTER_SIDES = range(128, 513)


class MuonWithAdamW(torch.optim.Optimizer):
    """Train convolutions, as matrices of outputs × the rest, and small linear layers with Muon, the others with AdamW.

    ``groups`` are parameter groups as in ``torch.optim``. Muon's updates are scaled to the size of AdamW's, so that
    both share learning rate and weight decay; ``momentum`` is Muon's. Raises ``CourseError`` if PyTorch is older than
    2.9, which has no Muon. Source: Jordan et al. 2024; the scaling is that of Liu et al. 2025.

    Like PyTorch's fused optimisers it divides the gradients by ``grad_scale``, and leaves everything as it is if
    ``found_inf`` is 1, without synchronising with the CPU; ``torch.amp.GradScaler`` sets both.
    """

    _step_supports_amp_scaling = True  # the scaler asks for this name
    grad_scale: Tensor | None  # set and deleted by the scaler
    found_inf: Tensor | None

    def __init__(self, groups: list[dict[str, Any]], lr: float, weight_decay: float, momentum: float) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise CourseError(f"optimiser = 'muon' needs PyTorch 2.9 or newer, and this is {torch.__version__}; use "
                              "adamw, or install a newer PyTorch.")  # fmt: skip
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        # Copies, because PyTorch's Muon only takes weights that are matrices.
        self._matrices = {w: w.detach().flatten(1).clone() for group in self.param_groups for w in group["params"]
                          if is_for_muon(w)}  # fmt: skip
        theirs = [[w for w in group["params"] if w not in self._matrices] for group in self.param_groups]
        ours = [[self._matrices[w] for w in group["params"] if w in self._matrices] for group in self.param_groups]
        # Their learning rates and weight decay are set at every step.
        self._muon = torch.optim.Muon(
            [{"params": weights} for weights in ours], momentum=momentum, adjust_lr_fn="match_rms_adamw"
        )
        for matrix in self._matrices.values():  # now, so that a first step that is skipped leaves zeros
            self._muon.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        fused = all(weight.device.type in ("cuda", "cpu") for weights in theirs for weight in weights)
        self._adamw = torch.optim.AdamW([{"params": weights} for weights in theirs], fused=fused)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if closure is not None:
            raise TypeError("muon takes no closure; call backward first.")
        scale: Tensor | None = getattr(self, "grad_scale", None)
        skip: Tensor | None = getattr(self, "found_inf", None)
        for part in (self._muon, self._adamw):
            for group, its in zip(self.param_groups, part.param_groups, strict=True):
                its["lr"], its["weight_decay"] = group["lr"], group["weight_decay"]
        for weight, matrix in self._matrices.items():
            matrix.copy_(weight.flatten(1))
            if weight.grad is not None and scale is not None:
                weight.grad.div_(scale)  # there, as the fused AdamW does, so that all gradients are the loss's own
            matrix.grad = None if weight.grad is None else weight.grad.flatten(1)
        before = [buffer.clone() for buffer in self._momentum]
        self._muon.step()
        self._adamw.grad_scale, self._adamw.found_inf = scale, skip  # type: ignore[attr-defined]
        self._adamw.step()
        for weight, matrix in self._matrices.items():
            new = matrix.view_as(weight)
            weight.copy_(new if skip is None else torch.where(skip > 0, weight, new))
        if skip is not None:
            for buffer, old in zip(self._momentum, before, strict=True):
                buffer.copy_(torch.where(skip > 0, old, buffer))

    @property
    def _momentum(self) -> list[Tensor]:
        return [state["momentum_buffer"] for state in self._muon.state.values()]

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "muon": self._muon.state_dict(), "adamw": self._adamw.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        state = dict(state_dict)
        self._muon.load_state_dict(state.pop("muon"))
        self._adamw.load_state_dict(with_kernels_of(self._adamw, state.pop("adamw")))
        super().load_state_dict(state)


def with_kernels_of(optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A saved state, possibly of another device, that lets ``optimiser`` keep its own choice of fused kernels."""
    groups = [
        {**saved, **({"fused": own["fused"]} if "fused" in own else {})}
        for saved, own in zip(state["param_groups"], optimiser.param_groups, strict=True)
    ]
    return {**state, "param_groups": groups}


def lay_out_like_weights(optimiser: torch.optim.Optimizer) -> None:
    """Give the averages in the optimiser's state the layout of their weights in memory. Fused kernels need that, and a
    state that was saved on a device with another layout lacks it."""
    for weight, state in optimiser.state.items():
        for key, value in state.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def is_for_muon(weight: Tensor) -> bool:
    """Whether Muon trains this weight.

    >>> import torch
    >>> from alexnet_course.muon import is_for_muon
    >>> [is_for_muon(torch.zeros(shape)) for shape in ((96, 3, 5, 5), (512, 512), (4096, 9216), (10, 512), (96,))]
    [True, True, False, False, False]
    """
    return weight.dim() == 4 or (weight.dim() == 2 and min(weight.shape) in SHORTER_SIDES)
