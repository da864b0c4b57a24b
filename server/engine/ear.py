"""What one session hears: audio as it comes, and the audio codes it becomes. Sessions are tokenised together."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import torch

from model.audio_tokenizer import DELAY_TOKENS, AudioTokenizer
from model.audio_tokenizer import TOKEN_SAMPLES as HEARD_SAMPLES
from model.streaming import State

FRAME_BYTES = 2 * HEARD_SAMPLES
# At an end that may be none the model is asked what it would think if the silence went on for so much longer.
_IMAGINED_TOKENS = 3


@dataclass(eq=False, slots=True)
class Ear:
    """The audio tokenizer's state of one turn, and the audio that waits."""

    state: State
    pcm: bytearray = field(default_factory=bytearray)
    frames: int = 0
    """Frames heard of this turn."""
    unread_since_s: float | None = None
    """When the oldest audio came that waits."""

    def add(self, pcm: bytes, now_s: float) -> None:
        """More audio."""
        self.pcm += pcm
        if self.unread_since_s is None and self.waiting_frames:
            self.unread_since_s = now_s

    @property
    def waiting_frames(self) -> int:
        return len(self.pcm) // FRAME_BYTES

    def end(self, now_s: float, provisional: bool) -> None:
        """Fill the last frame up, and add the silence after which the tokenizer has said all it knows."""
        silence = DELAY_TOKENS + (_IMAGINED_TOKENS if provisional else 0)
        self.add(bytes(-len(self.pcm) % FRAME_BYTES + silence * FRAME_BYTES), now_s)

    def copy(self) -> "Ear":
        """As it is now. The state's tensors are never changed, only replaced."""
        return replace(self, pcm=bytearray(self.pcm))


@torch.inference_mode()
def hear(tokenizer: AudioTokenizer, ears: Iterable[Ear], most: int) -> list[tuple[Ear, list[int]]]:
    """Tokenise the whole frames that wait: as many of each as the one with the fewest has, and at most `most`.

    Returns the new codes.
    """
    listening = [ear for ear in ears if ear.waiting_frames]
    if not listening:
        return []
    frames = min(most, *(ear.waiting_frames for ear in listening))
    size = frames * FRAME_BYTES
    pcm = torch.stack([torch.frombuffer(ear.pcm[:size], dtype=torch.int16) for ear in listening]).float() / 32768
    state = [torch.cat(rows) for rows in zip(*(ear.state for ear in listening), strict=True)]
    codes, state = tokenizer(pcm, state)
    heard = []
    for i, ear in enumerate(listening):
        ear.state = [rows[i : i + 1] for rows in state]
        del ear.pcm[:size]
        ear.frames += frames
        if not ear.waiting_frames:
            ear.unread_since_s = None
        heard.append((ear, codes[i].tolist()))
    return heard
