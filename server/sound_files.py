"""Sound files of HTTP requests: any that libsndfile reads, and those that answers are written as."""

import io
from dataclasses import dataclass

import numpy as np
import soundfile
import soxr

from server.engine.messages import HEARD_HZ, SPOKEN_HZ
from server.errors import ClientError


@dataclass(frozen=True, slots=True)
class Format:
    """A container, its subtype as libsndfile names them, and the media type on the wire."""

    container: str
    subtype: str
    media_type: str


FORMATS = {
    "wav": Format("WAV", "PCM_16", "audio/wav"),
    "flac": Format("FLAC", "PCM_16", "audio/flac"),
    "mp3": Format("MP3", "MPEG_LAYER_III", "audio/mpeg"),
    "opus": Format("OGG", "OPUS", "audio/ogg"),
}
_UNKNOWN_FRAMES = 2**63 - 1  # of a file that was written while it was streamed
PCM_MEDIA_TYPE = "audio/pcm"


def read(data: bytes, raw_hz: int | None = None, most_ms: int | None = None) -> bytes:
    """A sound file, or raw PCM16 at `raw_hz`, as mono PCM16 at 16 kHz. Raises `ClientError`.

    What lasts longer than `most_ms` by its header is refused before it is unpacked: an hour of silence is a small file.
    """
    if raw_hz is not None:
        samples, rate_hz = np.frombuffer(data[: len(data) // 2 * 2], dtype="<i2").astype(np.float32) / 32768, raw_hz
    else:
        try:
            with soundfile.SoundFile(io.BytesIO(data)) as file:
                length_ms, rate_hz = 1000 * file.frames / file.samplerate, file.samplerate
                if most_ms is not None and length_ms > most_ms:
                    came = f"{length_ms:.0f} ms" if file.frames < _UNKNOWN_FRAMES else "a file that does not say"
                    raise ClientError(f"expected at most {most_ms} ms of audio, got {came}", "invalid_value", "file")
                wave = file.read(dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            raise ClientError(
                f"expected a sound file such as wav, flac, mp3 or ogg: {error}", "invalid_value", "file"
            ) from error
        samples = wave.mean(axis=1)
    heard = soxr.resample(samples, rate_hz, HEARD_HZ)
    pcm: bytes = (np.clip(heard, -1, 1) * 32767).astype("<i2").tobytes()
    return pcm


def write(pcm: bytes, name: str) -> bytes:
    """PCM16 at 24 kHz as a file of a format of `FORMATS`, or `pcm` as it is."""
    if name == "pcm":
        return pcm
    target, shape = io.BytesIO(), FORMATS[name]
    soundfile.write(target, np.frombuffer(pcm, dtype="<i2"), SPOKEN_HZ, format=shape.container, subtype=shape.subtype)
    return target.getvalue()


def wav_header() -> bytes:
    """The beginning of a wav file of unknown length, for streaming."""
    header = bytearray(write(b"", "wav")[:44])
    header[4:8] = header[40:44] = b"\xff\xff\xff\xff"
    return bytes(header)
