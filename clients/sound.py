"""Sound files in and out, as the wire wants them: mono PCM16 at 24 kHz."""

from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from clients.realtime import WIRE_HZ

QUESTIONS = Path(__file__).parent / "questions"


class UnreadableSound(OSError):
    """A file that libsndfile cannot read."""


class UnwritableSound(OSError):
    """A file that libsndfile cannot write."""


def read(path: Path) -> NDArray[np.int16]:
    """Any file that libsndfile reads, at any rate, mixed to mono. Raises `UnreadableSound`."""
    try:
        samples, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise UnreadableSound(f"{path}: expected a sound file (wav, flac, ogg, mp3): {error.error_string}") from error
    mono = soxr.resample(samples.mean(axis=1), rate_hz, WIRE_HZ)
    return np.asarray(np.clip(mono, -1, 1) * 32767, dtype=np.int16)


def write(path: Path, pcm: bytes) -> None:
    """PCM16 at 24 kHz as a file of the kind that its suffix says; without a known one as wav. Raises `OSError`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix[1:].upper()
    known = kind in soundfile.available_formats() and soundfile.default_subtype(kind)
    try:
        soundfile.write(path, np.frombuffer(pcm, dtype="<i2"), WIRE_HZ, format=kind if known else "WAV")
    except soundfile.LibsndfileError as error:
        raise UnwritableSound(f"{path}: expected a file to write: {error.error_string}") from error


def questions() -> list[Path]:
    """The spoken questions that ship with the project."""
    return sorted([*QUESTIONS.glob("*.wav"), *QUESTIONS.glob("*.flac")])
