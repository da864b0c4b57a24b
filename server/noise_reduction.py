"""Noise reduction of a session's input, before turn detection and the model: WebRTC's suppressor. No I/O.

`webrtc-noise-gain` has wheels for Linux; elsewhere `noise_reduction` is refused.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from server.audio import Samples
from server.errors import ClientError

_FRAME_SAMPLES = 160  # the suppressor takes 10 ms at 16 kHz
# Its levels go from 0 to 4. A headset needs less than a microphone across the room.
_LEVELS = {"near_field": 2, "far_field": 4}
Filter = Callable[[Samples, bool], Samples]


def noise_reduction(kind: str | None) -> Filter:
    """A streaming filter of 16 kHz samples: (samples, last) -> samples. Raises `ClientError` where there is none."""
    if kind is None:
        return lambda samples, last: samples
    if importlib.util.find_spec("webrtc_noise_gain") is None:
        raise ClientError(
            "expected noise_reduction null: this server runs without webrtc-noise-gain",
            "unsupported_operation",
            "session.audio.input.noise_reduction",
        )
    from webrtc_noise_gain import AudioProcessor

    return _Suppressor(AudioProcessor(0, _LEVELS[kind]))


class _Suppressor:
    def __init__(self, processor: Any) -> None:
        self._processor = processor
        self._rest = np.zeros(0, dtype=np.int16)

    def __call__(self, samples: Samples, last: bool) -> Samples:
        """All whole frames so far; with `last` the rest as well."""
        waiting = np.concatenate([self._rest, samples])
        missing = -len(waiting) % _FRAME_SAMPLES if last else 0
        padded = np.concatenate([waiting, np.zeros(missing, dtype=np.int16)])
        whole = len(padded) // _FRAME_SAMPLES * _FRAME_SAMPLES
        self._rest = padded[whole:]
        frames = padded[:whole].reshape(-1, _FRAME_SAMPLES)
        clean = b"".join(self._processor.Process10ms(frame.tobytes()).audio for frame in frames)
        return np.frombuffer(clean, dtype=np.int16)[: whole - missing]
