"""Wire formats: G.711 against the recommendation's own values, resampling in chunks."""

import numpy as np
import pytest

from server import audio
from server.errors import ClientError


def test_mulaw_has_the_values_of_the_recommendation() -> None:
    table = audio.TO_LINEAR[audio.ULAW]
    assert [int(table[c]) for c in (0x00, 0x80, 0xFF, 0x7F, 0x0F, 0xF0)] == [-32124, 32124, 0, 0, -16764, 120]


def test_alaw_has_the_values_of_the_recommendation() -> None:
    table = audio.TO_LINEAR[audio.ALAW]
    assert [int(table[c]) for c in (0xD5, 0x55, 0xAA, 0x2A)] == [8, -8, 32256, -32256]


@pytest.mark.parametrize("name", [audio.ULAW, audio.ALAW])
def test_every_code_survives_decoding_and_encoding(name: str) -> None:
    samples = audio.TO_LINEAR[name]
    assert np.array_equal(audio.decode(audio.encode(samples, name), name), samples)


def test_half_a_sample_is_refused() -> None:
    with pytest.raises(ClientError, match="even number"):
        audio.decode(b"abc", audio.PCM)


@pytest.mark.parametrize(("from_hz", "to_hz"), [(24_000, 16_000), (8_000, 16_000), (24_000, 8_000)])
def test_resampling_in_chunks_gives_what_the_whole_gives(from_hz: int, to_hz: int) -> None:
    samples = (8000 * np.sin(np.arange(from_hz) * 2 * np.pi * 440 / from_hz)).astype(np.int16)
    whole = audio.resampler(from_hz, to_hz)(samples, True)
    stream = audio.resampler(from_hz, to_hz)
    pieces = [stream(samples[i : i + 480], i + 480 >= len(samples)) for i in range(0, len(samples), 480)]
    assert np.abs(np.concatenate(pieces).astype(int) - whole).max() <= 4  # soxr dithers 16-bit output
    assert abs(len(whole) - to_hz) <= 1
