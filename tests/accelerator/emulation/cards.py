"""The cards that are emulated, and what ``torch.cuda`` says of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    name: str
    capability: tuple[int, int]
    gigabytes: int

    @property
    def memory(self) -> int:
        """In bytes."""
        return self.gigabytes * 2**30


T4 = Card("Tesla T4", (7, 5), 15)  # Colab's free one: tensor cores, but no bf16
H100 = Card("NVIDIA H100 80GB HBM3", (9, 0), 79)
P100 = Card("Tesla P100-PCIE-16GB", (6, 0), 16)  # Kaggle's; PyTorch 2.8 and later have no code for it

CARDS = {"T4": T4, "H100": H100, "P100": P100}
BUILT_FOR = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]  # as PyTorch for CUDA 12.8 and up
