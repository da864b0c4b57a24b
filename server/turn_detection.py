"""Turn detection by voice activity: silero-vad's network, and the hysteresis that makes turns of its probabilities.

The network runs on onnxruntime; importing the `silero_vad` package itself would import torch. No I/O.
"""

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

WINDOW_SAMPLES = 512  # at 16 kHz, 32 ms
WINDOW_MS = 32
_CONTEXT_SAMPLES = 64
_RATE_HZ = 16_000
# A started turn goes on until the probability falls this far below the threshold (silero's own rule).
_RELEASE_MARGIN = 0.15
# Speech counts as begun after this many windows: one alone may be a click.
_WINDOWS_TO_START = 2


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Somebody began to speak `at_ms` after the session's first sample."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """They stopped `at_ms` after the session's first sample; the silence that proved it came after."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """They may have stopped: a pause that an answer can be begun in, though not shown."""


@dataclass(frozen=True, slots=True)
class SpeechResumed:
    """The pause was none, or the model does not believe in it."""


TurnChange = SpeechStarted | SpeechStopped | SpeechPaused | SpeechResumed


class Hysteresis:
    """Probabilities of speech, one per window -> starts and stops."""

    def __init__(self, threshold: float, silence_ms: int) -> None:
        self.threshold, self.silence_ms = threshold, silence_ms
        self.speaking = False
        self._loud = 0
        self._quiet_since_ms: int | None = None

    def push(self, probability: float, window_start_ms: int) -> SpeechStarted | SpeechStopped | None:
        """The next window's probability; the window begins at `window_start_ms`."""
        end_ms = window_start_ms + WINDOW_MS
        if not self.speaking:
            self._loud = self._loud + 1 if probability >= self.threshold else 0
            if self._loud < _WINDOWS_TO_START:
                return None
            self.speaking, self._quiet_since_ms = True, None
            return SpeechStarted(window_start_ms - (_WINDOWS_TO_START - 1) * WINDOW_MS)
        if probability >= max(self.threshold - _RELEASE_MARGIN, 0.01):
            self._quiet_since_ms = None
            return None
        if self._quiet_since_ms is None:
            self._quiet_since_ms = window_start_ms
        if end_ms - self._quiet_since_ms < self.silence_ms:
            return None
        return self.stop(self._quiet_since_ms)

    @property
    def quiet_since_ms(self) -> int | None:
        """Since when it has been quiet inside a turn."""
        return self._quiet_since_ms if self.speaking else None

    def stop(self, at_ms: int) -> SpeechStopped:
        """The turn is over since `at_ms`, for a reason of one's own."""
        self.speaking, self._loud, self._quiet_since_ms = False, 0, None
        return SpeechStopped(at_ms)


class VoiceActivityNetwork:
    """silero-vad, shared by all sessions; each keeps a `VoiceActivity` of its own."""

    def __init__(self) -> None:
        found = importlib.util.find_spec("silero_vad")
        if found is None or found.origin is None:
            raise FileNotFoundError("expected the package silero-vad to be installed")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = Path(found.origin).parent / "data" / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._rate = np.array(_RATE_HZ, dtype=np.int64)

    def __call__(
        self, windows: NDArray[np.float32], states: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Windows with context [B, 576] and states [2, B, 128] -> probabilities [B] and the next states."""
        probabilities, states = self._session.run(None, {"input": windows, "state": states, "sr": self._rate})
        return probabilities[:, 0], states


class VoiceActivity:
    """One session's stream: 16 kHz samples of any chunk size -> whole windows; and the network's state for it."""

    def __init__(self) -> None:
        self.state = np.zeros((2, 1, 128), dtype=np.float32)
        """What the network gave for the newest window."""
        self._rest = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)

    def windows(self, samples: NDArray[np.int16]) -> Iterator[NDArray[np.float32]]:
        """More samples; yields the windows that they complete, each with its context: [576]."""
        self._rest = np.concatenate([self._rest, samples.astype(np.float32) / 32768])
        while len(self._rest) >= _CONTEXT_SAMPLES + WINDOW_SAMPLES:
            window, self._rest = self._rest[: _CONTEXT_SAMPLES + WINDOW_SAMPLES], self._rest[WINDOW_SAMPLES:]
            yield window
