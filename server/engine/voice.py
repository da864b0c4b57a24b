"""The voice of one answer: its codes as they come, the sound they become, and until when its listener has something to
hear. Answers with equally many new codes are detokenised together.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch

from model.audio_detokenizer import FLUSH_TOKENS, AudioDetokenizer, delay_samples
from model.audio_detokenizer import TOKEN_SAMPLES as SPOKEN_SAMPLES
from model.streaming import State
from server.engine.messages import SPOKEN_HZ

_FIRST_CODES = FLUSH_TOKENS  # the fewest codes that give any sound
_NEXT_CODES = 4
_AHEAD_S = 0.25  # a listener who has less than this left to hear gets every code at once


@dataclass(eq=False, slots=True)
class Voice:
    """The detokenizer's state of one answer."""

    state: State
    speed: float = 1.0
    codes: list[int] = field(default_factory=list)
    over: bool = False
    """All codes are there, and the repetitions that push the last sound out."""
    _done_codes: int = 0
    _stretched: torch.Tensor | None = None
    """Where a voice of another speed than 1 goes on, see `AudioDetokenizer.stretch`."""
    _first_sent_s: float = 0.0
    _sent_samples: int = 0
    _produced_samples: int = 0

    def end(self) -> None:
        """No more codes will come."""
        self.over = True
        self.codes += self.codes[-1:] * FLUSH_TOKENS

    @property
    def dry_at_s(self) -> float | None:
        """When the listener has heard all that was sent; None before the first sound."""
        return self._first_sent_s + self._sent_samples / SPOKEN_HZ if self._sent_samples else None

    @property
    def new_codes(self) -> int:
        return len(self.codes) - self._done_codes

    def worth_saying(self, now_s: float) -> bool:
        """Whether the new codes are worth a call of the detokenizer."""
        if self.over or self._done_codes == 0:
            return self.new_codes >= (1 if self.over else _FIRST_CODES)
        dry_at_s = self.dry_at_s
        ahead_s = dry_at_s - now_s if dry_at_s is not None else 0.0
        return self.new_codes >= (_NEXT_CODES if ahead_s > _AHEAD_S else 1)

    def _sent(self, samples: torch.Tensor, now_s: float) -> bytes:
        """Of new samples [N], int16, what is to be heard: neither the delay before the answer nor what follows it."""
        self._done_codes = len(self.codes)
        start = max(0, delay_samples(self.speed) - self._produced_samples)
        self._produced_samples += len(samples)
        piece = samples[start:]
        if self.over:
            total = round((len(self.codes) - FLUSH_TOKENS) * SPOKEN_SAMPLES / self.speed)
            piece = piece[: total - self._sent_samples]
        if len(piece):
            self._first_sent_s = self._first_sent_s or now_s
            self._sent_samples += len(piece)
        return piece.numpy().tobytes()


@torch.inference_mode()
def _detokenise(detokenizer: AudioDetokenizer, voices: list[Voice]) -> torch.Tensor:
    """Samples [B, N] of the new codes of voices that have equally many."""
    codes = torch.tensor([v.codes[v._done_codes :] for v in voices])
    state = [torch.cat(rows) for rows in zip(*(v.state for v in voices), strict=True)]
    if voices[0].speed == 1.0:
        samples, state = detokenizer(codes, state)
    else:
        [voice] = voices
        samples, state, voice._stretched = detokenizer.stretch(codes, state, voice._stretched, voice.speed)
    for i, voice in enumerate(voices):
        voice.state = [rows[i : i + 1] for rows in state]
    pcm: torch.Tensor = (samples.clamp(-1, 1) * 32767).to(torch.int16)
    return pcm


def say(detokenizer: AudioDetokenizer, voices: Iterable[Voice], now_s: float) -> list[tuple[Voice, bytes]]:
    """Turn new codes into PCM16, for the voices that have enough of them."""
    groups: dict[tuple[int, int], list[Voice]] = {}
    for voice in voices:
        if voice.worth_saying(now_s):
            # Voices of another speed are each in another place between two frames: they go alone.
            groups.setdefault((voice.new_codes, 0 if voice.speed == 1.0 else id(voice)), []).append(voice)
    said = []
    for together in groups.values():
        pcm = _detokenise(detokenizer, together)
        said += [(voice, voice._sent(pcm[i], now_s)) for i, voice in enumerate(together)]
    return said
