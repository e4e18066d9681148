"""From a GPU to the host without a pause between one piece of work and the next."""

from __future__ import annotations

import torch
from torch import Tensor


class Fetch:
    """A tensor that leaves its GPU as soon as it is computed, and is waited for later.

    A plain ``.cpu()`` or ``.tolist()`` at that later time would also wait for everything that was begun in between.
    A tensor on the CPU is left where it is.
    """

    def __init__(self, computed: Tensor) -> None:
        self._tensor, self._event = computed, None
        if computed.device.type == "cuda":
            self._tensor = torch.empty(computed.shape, dtype=computed.dtype, pin_memory=True)
            self._tensor.copy_(computed, non_blocking=True)
            self._event = torch.cuda.current_stream(computed.device).record_event()

    def wait(self) -> Tensor:
        """Give it, on the CPU if it was on a GPU."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensor
