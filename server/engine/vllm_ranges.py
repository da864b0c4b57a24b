"""What a request may sample, on vLLM's newer model runner, whose own `allowed_token_ids` takes at most 1,024 ids.

Loaded by vLLM in its own processes, and on GPUs only: its CPU build has the older runner. **Not run on a GPU yet**; a
test calls it with tensors on the CPU.
"""

from typing import Any

import torch
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor


class AllowedRanges(LogitsProcessor):
    """Keeps the logits of one range and some ids beside it: `extra_args={"allowed": [start, stop, *also]}`."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        shape = (req_states.max_num_reqs, req_states.vocab_size)
        self._forbidden = torch.zeros(shape, dtype=torch.bool, device=req_states.device)  # [S, V]

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        allowed = (sampling_params.extra_args or {}).get("allowed")
        row = torch.zeros(self._forbidden.shape[1], dtype=torch.bool)
        if allowed is not None:
            start, stop, *also = allowed
            row[:] = True
            row[start:stop] = False
            row[also] = False
        self._forbidden[req_idx] = row
        return allowed is not None

    def apply(self, logits: torch.Tensor, ctx: Any) -> torch.Tensor:
        """Mask logits [R, V] in place; a request may have several rows."""
        return logits.masked_fill_(self._forbidden[ctx.expanded_idx_mapping], float("-inf"))
