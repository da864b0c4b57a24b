"""Audio on the wire: PCM16 at 24 kHz and G.711 at 8 kHz, resampled to and from what the engine uses. No I/O."""

import base64
import binascii
import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from server.errors import ClientError

PCM, ULAW, ALAW = "audio/pcm", "audio/pcmu", "audio/pcma"
RATE_HZ = {PCM: 24_000, ULAW: 8_000, ALAW: 8_000}
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


# The low-pass filter of a resampler: how many zero crossings of its sinc it keeps on each side, where it cuts off
# (as a share of what the lower rate can carry), and Kaiser's window.
_ZERO_CROSSINGS, _CUTOFF, _KAISER = 12, 0.92, 7.0
_PERIODS = 16  # so many are computed in one product: a block of 2 ms at 24 kHz


class _Resampler:
    """A polyphase filter that gives every sample as soon as its neighbours are known: it keeps at most 4 ms back.

    soxr, whose stream this replaces, works in blocks and keeps up to 20 ms back, which every turn had to wait for.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._up, self._down, reach, self._filter = _filter(from_hz, to_hz)  # [block of input, block of output]
        self._step = self._down * _PERIODS
        self._waiting = np.zeros(reach, dtype=np.float32)
        self._reach = reach
        self._blocks = np.zeros((0, self._step + 2 * reach), dtype=np.intp)
        self._taken = self._given = 0

    def __call__(self, samples: Samples, last: bool) -> Samples:
        self._taken += len(samples)
        waiting = np.concatenate([self._waiting, samples], dtype=np.float32)
        if last:
            waiting = np.concatenate([waiting, np.zeros(self._reach + self._step, dtype=np.float32)])
        blocks = max(0, len(waiting) - 2 * self._reach) // self._step
        if len(self._blocks) < blocks:
            starts = np.arange(blocks)[:, None] * self._step
            self._blocks = starts + np.arange(self._step + 2 * self._reach)  # [blocks, inputs of each]
        made: NDArray[np.float32] = waiting[self._blocks[:blocks]] @ self._filter
        self._waiting = waiting[blocks * self._step :]
        # What `np.clip` does, without its checks, which cost as much as the filter.
        found: Samples = np.minimum(np.maximum(np.rint(made.ravel()), -32768), 32767).astype(np.int16)
        if last:
            found = found[: -(-self._taken * self._up // self._down) - self._given]
        self._given += len(found)
        return found


@functools.cache
def _filter(from_hz: int, to_hz: int) -> tuple[int, int, int, NDArray[np.float32]]:
    """Samples out for samples in, input samples on each side that an output needs, and a block's outputs of inputs."""
    common = math.gcd(from_hz, to_hz)
    up, down = to_hz // common, from_hz // common
    half = _ZERO_CROSSINGS * max(up, down)
    taps = np.sinc(np.arange(-half, half + 1) * _CUTOFF / max(up, down)) * np.kaiser(2 * half + 1, _KAISER)
    taps *= up / taps.sum()
    reach = -(-half // up)
    ins, outs = np.arange(-reach, down * _PERIODS + reach), np.arange(up * _PERIODS)
    apart = outs[None] * down - ins[:, None] * up
    block = np.where(abs(apart) <= half, taps[np.clip(apart, -half, half) + half], 0.0)
    return up, down, reach, block.astype(np.float32)


def resampler(from_hz: int, to_hz: int) -> Callable[[Samples, bool], Samples]:
    """A streaming resampler of one channel: (samples, last) -> samples."""
    return (lambda samples, last: samples) if from_hz == to_hz else _Resampler(from_hz, to_hz)
