"""Connectionist temporal classification (Graves et al. 2006), in operations that a CUDA graph can hold.

`torch.nn.functional.ctc_loss` copies lengths between devices at every call. Here the probabilities of all paths are
summed forward and, as rows of the same batch, backward; their product is the gradient.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

_NEVER = -1e30
_BLANK = 0


def padded_labels(rows: list[tuple[int, ...]]) -> tuple[Tensor, Tensor]:
    """Labels of different lengths -> [R, N], and how many there are [R]."""
    counts = torch.tensor([len(row) for row in rows])
    labels = torch.zeros(len(rows), max(1, int(counts.max())), dtype=torch.long)
    for i, row in enumerate(rows):
        labels[i, : len(row)] = torch.tensor(row, dtype=torch.long)
    return labels, counts


@torch.no_grad()
def occupancy(log_probs: Tensor, labels: Tensor, frames: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """How likely each row is, and by which class each of its frames is taken.

    Log-probabilities [R, T, V], of which `frames` [R] count; `labels` [R, N], of which `counts` [R] do -> negative
    log-likelihoods [R] and expected shares [R, T, V]. Rows that no path fits into count as nothing.
    """
    rows, length, _ = log_probs.shape
    states = 2 * labels.shape[1] + 1  # a blank before each label, and one behind the last
    symbols = F.pad(torch.stack([torch.full_like(labels, _BLANK), labels], 2).flatten(1), (0, 1), value=_BLANK)
    state, frame = torch.arange(states)[None], torch.arange(length)[None]
    used = (2 * counts + 1)[:, None]
    absent = ~(state < used)[:, None]
    wide = symbols[:, None].expand(rows, length, states)
    emitted = log_probs.gather(2, wide).masked_fill(absent, _NEVER)
    last_frame = (frames[:, None] - 1 - frame).clamp(min=0)[:, :, None].expand(rows, length, states)
    last_state = (used - 1 - state).clamp(min=0)

    def reversed_rows(values: Tensor) -> Tensor:
        return values.gather(1, last_frame).gather(2, last_state[:, None].expand(rows, length, states))

    both = torch.cat([emitted, reversed_rows(emitted).masked_fill(absent, _NEVER)]).transpose(0, 1).contiguous()
    order = torch.cat([symbols, symbols.gather(1, last_state)])
    may_skip = (order[:, 2:] != _BLANK) & (order[:, 2:] != order[:, :-2])
    skip = torch.zeros(2 * rows, states - 2).masked_fill(~may_skip, _NEVER)
    skip = torch.cat([torch.full((2 * rows, 1), _NEVER), torch.zeros(2 * rows, 1), skip], 1)
    # Two columns before the first state: the second one is where every path begins.
    score = torch.full((length + 1, 2 * rows, states + 2), _NEVER)
    score[0, :, 1] = 0
    for t in range(length):
        before = score[t]
        reached = torch.logaddexp(before[:, 2:], before[:, 1:-1])
        reached = torch.logaddexp(reached, before[:, :-2] + skip)
        torch.add(reached, both[t], out=score[t + 1, :, 2:])
    score = score[1:, :, 2:].transpose(0, 1)
    forward, backward = score[:rows], reversed_rows(score[rows:])
    end = forward.gather(1, (frames - 1)[:, None, None].expand(rows, 1, states))[:, 0]
    in_label = end.gather(1, (used - 2).clamp(min=0)).masked_fill(counts[:, None] == 0, _NEVER)
    likelihood = torch.logaddexp(end.gather(1, used - 1), in_label)[:, 0]
    fits = likelihood > _NEVER / 1e10
    taken = (forward + backward - emitted - likelihood[:, None, None]).clamp(max=0).exp()
    counted = fits[:, None, None] & (frame < frames[:, None])[:, :, None] & ~absent
    shares = torch.zeros_like(log_probs).scatter_add_(2, wide, taken.masked_fill(~counted, 0.0))
    return (-likelihood).masked_fill(~fits, 0.0), shares


def ctc(log_probs: Tensor, frames: Tensor, labels: Tensor, counts: Tensor) -> Tensor:
    """CTC loss per label, mean over the rows; arguments as those of `occupancy`."""
    loss, shares = occupancy(log_probs.detach(), labels, frames, counts)
    weights = 1 / counts.clamp(min=1) / len(counts)
    # Its gradient by log-probabilities is minus the shares; its value is that of the loss.
    slope = -(shares * weights[:, None, None] * log_probs).sum()
    return slope - slope.detach() + (loss * weights).sum()
