"""The recordings that a stage learns from, in the memory of the device that learns, and what is read out of them.

A batch is described by a few numbers for each row, chosen on the CPU; the device puts it together: which recording,
how fast, after how much silence, and with which pause in it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.audio_tokenizer import TOKEN_SAMPLES
from model.training import corpus, phones
from model.training.corpus import HEARD_HZ, Recording

FRAME_SAMPLES = TOKEN_SAMPLES // 2  # sounds are told every 20 ms
_KEPT_SAMPLES = 160  # and kept every 10
_FADE_SAMPLES = 160
_NEVER = 2**30
# Batches have one of these widths, so that few kinds of them occur.
WIDTHS = tuple(
    int(seconds * HEARD_HZ) // TOKEN_SAMPLES * TOKEN_SAMPLES
    for seconds in (1.2, 1.6, 2.0, 2.4, 2.88, 3.4, 4.0, 4.8, 5.6, 6.8, 8.4, 10.4, 12.8)
)
ROW = 9  # numbers


def width_for(samples: float) -> int | None:
    """The width of a batch for so many samples; None if there is none."""
    return next((width for width in WIDTHS if width >= samples), None)


@dataclass(frozen=True)
class Row:
    """One row of a batch: recording number `which` after `lead` samples of silence, `speed` times as fast and as high,
    with a `pause` of so many samples behind its sample `cut`. Samples are those of the recording."""

    which: int
    speed: float = 1.0
    lead: int = 0
    cut: int = _NEVER
    pause: int = 0


class Recordings:
    """int16 recordings at 16 kHz, one after the other, and their sounds."""

    def __init__(self, about: list[Recording], sound: Tensor) -> None:
        """`sound`: int16, in the order of the recordings. On torch's default device."""
        self.about = about
        labels = [_labels(recording) for recording in about]
        self.samples = np.array([recording.samples for recording in about])
        self._starts = np.cumsum([0, *self.samples])
        self._label_starts = np.cumsum([0, *(len(one) for one in labels)])
        device = torch.get_default_device()
        self._sound = sound.to(device)
        self._labels = torch.from_numpy(np.concatenate(labels)).to(device)  # int8, every 10 ms

    @classmethod
    def of(cls, pairs: Iterable[tuple[Recording, np.ndarray]]) -> "Recordings":
        """Some recordings, copied."""
        about, pcm = zip(*pairs, strict=True)
        return cls(list(about), torch.from_numpy(np.concatenate(pcm)))

    @classmethod
    def in_folder(cls, folder: Path) -> "Recordings":
        """All of `folder`; on a CPU mapped from its file, which the processes that train together share."""
        about = [recording for recording, _ in corpus.load(folder)]
        path, size = corpus.joined(folder), sum(recording.samples for recording in about)
        return cls(about, torch.from_file(str(path), shared=False, size=size, dtype=torch.int16, device="cpu"))

    def __len__(self) -> int:
        return len(self.about)

    def numbers(self, rows: list[Row]) -> np.ndarray:
        """What `read` needs to know of each row: [B, ROW] int32. Places are given in two halves."""
        which = np.array([row.which for row in rows])
        start, label, labels = self._starts[which], self._label_starts[which], np.diff(self._label_starts)[which]
        chosen = [(round(1e6 * row.speed), row.lead, row.cut, row.pause) for row in rows]
        places = np.stack([start >> 20, start & 0xFFFFF, self.samples[which], label, labels], 1)
        return np.concatenate([places, np.array(chosen)], 1).astype(np.int32)

    def read(self, numbers: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Numbers [B, ROW] -> audio [B, width] in [-1, 1], and the sound of each 20 ms [B, width / 320].

        Between samples by Catmull and Rom's cubic.
        """
        n = numbers.long()
        start, samples, label, labels = (n[:, :1] << 20) + n[:, 1:2], n[:, 2:3], n[:, 3:4], n[:, 4:5]
        speed, lead, cut, pause = n[:, 5:6].double() / 1e6, n[:, 6:7], n[:, 7:8], n[:, 8:9]
        at = torch.arange(width).double().unsqueeze(0) * speed - lead
        behind = at >= cut + pause
        edge = torch.where(behind, at - cut - pause, cut - at).clamp(0, _FADE_SAMPLES) / _FADE_SAMPLES
        edge = torch.where(pause > 0, edge, torch.ones_like(edge)).float()
        silent = (at >= cut) & ~behind
        at = torch.where(behind, at - pause, at)
        silent = silent | (at < 0) | (at >= samples - 1)
        at = torch.minimum(at.clamp(min=0), (samples - 1).double())
        low = at.floor()
        x, low = (at - low).float(), low.long()

        def tap(offset: int) -> Tensor:
            place = start + torch.minimum((low + offset).clamp(min=0), samples - 1)
            return self._sound.index_select(0, place.flatten()).view(place.shape).float()

        a, b, c, d = tap(-1), tap(0), tap(1), tap(2)
        wave = b + 0.5 * x * (c - a + x * (2 * a - 5 * b + 4 * c - d + x * (3 * (b - c) + d - a)))
        middle = (torch.arange(width // FRAME_SAMPLES).double().unsqueeze(0) + 0.5) * FRAME_SAMPLES * speed - lead
        resting = (middle >= cut) & (middle < cut + pause)
        middle = torch.where(middle >= cut + pause, middle - pause, middle)
        place = (middle / _KEPT_SAMPLES).floor().long()
        inside = label + torch.minimum(place.clamp(min=0), labels - 1)
        sounds = self._labels.index_select(0, inside.flatten()).view(inside.shape).long()
        return (wave * edge).masked_fill(silent, 0.0) / 32768, sounds.masked_fill(
            resting | (place < 0), phones.sound_id("_")
        )


def _labels(recording: Recording) -> np.ndarray:
    """The sound of each 10 ms of a recording, int8."""
    count = -(-recording.samples // _KEPT_SAMPLES)
    if not recording.sounds:
        return np.full(count, phones.UNKNOWN_SOUND, np.int8)
    starts, sounds = zip(*phones.numbered(recording.sounds), strict=True)
    middles = (np.arange(count) + 0.5) * _KEPT_SAMPLES
    which = np.searchsorted(np.array(starts), middles, side="right") - 1
    return np.where(which < 0, phones.sound_id("_"), np.array(sounds)[which.clip(0)]).astype(np.int8)
