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
    assert np.abs(np.concatenate(pieces).astype(int) - whole).max() <= 1
    assert len(whole) == to_hz


@pytest.mark.parametrize(("from_hz", "to_hz"), [(24_000, 16_000), (8_000, 16_000), (24_000, 8_000), (16_000, 24_000)])
def test_a_resampled_tone_is_the_tone_at_the_other_rate(from_hz: int, to_hz: int) -> None:
    def tone(hz: int) -> np.ndarray:
        return 8000 * np.sin(np.arange(hz) * 2 * np.pi * 1000 / hz)

    found = audio.resampler(from_hz, to_hz)(tone(from_hz).astype(np.int16), True)
    inner = slice(to_hz // 100, -to_hz // 100)
    assert np.abs(found[inner] - tone(to_hz)[inner]).max() < 8


def test_what_the_lower_rate_cannot_carry_is_gone() -> None:
    tone = (8000 * np.sin(np.arange(24_000) * 2 * np.pi * 10_000 / 24_000)).astype(np.int16)
    assert np.abs(audio.resampler(24_000, 16_000)(tone, True)[200:-200]).max() <= 2


@pytest.mark.parametrize("chunk", [1, 37, 480, 960])
def test_a_resampler_keeps_at_most_four_milliseconds_back(chunk: int) -> None:
    stream, given = audio.resampler(24_000, 16_000), 0
    for taken in range(chunk, 24_000 + chunk, chunk):
        given += len(stream(np.ones(chunk, dtype=np.int16), False))
        assert taken / 24 - given / 16 <= 4


def test_loud_samples_are_clipped_and_not_wrapped() -> None:
    square = np.where(np.arange(24_000) % 48 < 24, 32767, -32768).astype(np.int16)
    found = audio.resampler(24_000, 16_000)(square, True)
    assert np.array_equal(np.sign(found[8::32]), np.ones(len(found[8::32])))
