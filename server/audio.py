"""Audio on the wire: PCM16 at 24 kHz and G.711 at 8 kHz, resampled to and from what the engine uses. No I/O."""

import base64
import binascii
from collections.abc import Callable

import numpy as np
import soxr
from numpy.typing import NDArray

from server.errors import ClientError

PCM, ULAW, ALAW = "audio/pcm", "audio/pcmu", "audio/pcma"
RATE_HZ = {PCM: 24_000, ULAW: 8_000, ALAW: 8_000}
BYTES_PER_SAMPLE = {PCM: 2, ULAW: 1, ALAW: 1}
Samples = NDArray[np.int16]


def _ulaw_to_linear() -> Samples:
    """ITU-T G.711 mu-law: 256 codes -> PCM16."""
    codes = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((codes & 0x0F) << 3) + 0x84) << ((codes & 0x70) >> 4)
    return np.where(codes & 0x80, 0x84 - magnitude, magnitude - 0x84).astype(np.int16)


def _alaw_to_linear() -> Samples:
    """ITU-T G.711 A-law: 256 codes -> PCM16."""
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    segment, mantissa = (codes & 0x70) >> 4, (codes & 0x0F) << 4
    magnitude = np.where(segment == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(segment - 1, 0))
    return np.where(codes & 0x80, magnitude, -magnitude).astype(np.int16)


def _nearest(table: Samples) -> NDArray[np.uint8]:
    """For every PCM16 value (index + 32768) the code whose value is nearest."""
    order = np.argsort(table, kind="stable")
    values = table[order].astype(np.int32)
    middles = (values[1:] + values[:-1]) / 2
    return order[np.searchsorted(middles, np.arange(-32768, 32768))].astype(np.uint8)


TO_LINEAR = {ULAW: _ulaw_to_linear(), ALAW: _alaw_to_linear()}
FROM_LINEAR = {name: _nearest(table) for name, table in TO_LINEAR.items()}


def from_base64(text: str, where: str) -> bytes:
    """The bytes of a field of a client. Raises `ClientError`."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ClientError(f"expected base64 in {where}: {error}", "invalid_value", where) from error


def decode(data: bytes, audio_format: str) -> Samples:
    """Bytes of the wire -> samples at the format's rate. Raises `ClientError` for half a sample."""
    if audio_format == PCM:
        if len(data) % 2:
            raise ClientError(
                f"expected an even number of bytes of 16-bit PCM, got {len(data)}", "invalid_value", "audio"
            )
        return np.frombuffer(data, dtype="<i2")
    return TO_LINEAR[audio_format][np.frombuffer(data, dtype=np.uint8)]


def encode(samples: Samples, audio_format: str) -> bytes:
    """Samples at the format's rate -> bytes of the wire."""
    if audio_format == PCM:
        return samples.astype("<i2").tobytes()
    return FROM_LINEAR[audio_format][samples.astype(np.int32) + 32768].tobytes()


def resampler(from_hz: int, to_hz: int) -> Callable[[Samples, bool], Samples]:
    """A streaming resampler of one channel: (samples, last) -> samples."""
    if from_hz == to_hz:
        return lambda samples, last: samples
    stream = soxr.ResampleStream(from_hz, to_hz, 1, dtype="int16", quality="LQ")
    return lambda samples, last: np.asarray(stream.resample_chunk(samples, last=last), dtype=np.int16)
