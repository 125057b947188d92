"""Batches of images that are not in the memory of the device, read while the previous batch is being processed."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor


class Ahead:
    """Reads rows of ``images`` (uint8 N×C×H×W, a memory map or a tensor too large for the GPU), one batch ahead.

    A thread copies them row by row, which leaves Python's lock to the training and reads each page of the file once.
    With ``pinned``, it copies into memory from which a GPU can copy asynchronously.
    """

    def __init__(self, images: Tensor, pinned: bool) -> None:
        self._rows = images.numpy()
        self._pinned = pinned
        self._thread = ThreadPoolExecutor(1, "images")
        self._coming: tuple[Tensor, Future[Tensor]] | None = None

    def read(self, chosen: Tensor, then: Tensor) -> Tensor:
        """The rows at ``chosen``; starts to read those at ``then``, unless it is empty. Both are int64, on the CPU."""
        coming, self._coming = self._coming, None
        if coming is not None and torch.equal(coming[0], chosen):
            rows = coming[1].result()
        else:
            rows = self._copy(chosen, self._memory(chosen))
        if len(then):
            self._coming = then, self._thread.submit(self._copy, then, self._memory(then))
        return rows

    def _memory(self, chosen: Tensor) -> Tensor:
        shape = (len(chosen), *self._rows.shape[1:])
        return torch.empty(shape, dtype=torch.uint8, device="cpu", pin_memory=self._pinned)

    def _copy(self, chosen: Tensor, rows: Tensor) -> Tensor:
        for to, index in zip(rows.numpy(), chosen.tolist(), strict=True):
            np.copyto(to, self._rows[index])
        return rows
