"""Noise reduction: less noise, the same length, however the audio is cut."""

import itertools

import numpy as np
import pytest

from server.errors import ClientError
from server.noise_reduction import noise_reduction
from tests.test_session import Driver

pytest.importorskip("webrtc_noise_gain")
RNG = np.random.default_rng(0)
NOISE = RNG.normal(0, 800, 48_000).astype(np.int16)


@pytest.mark.parametrize(("kind", "least_db"), [("near_field", 6), ("far_field", 12)])
def test_noise_is_reduced(kind: str, least_db: float) -> None:
    reduced = noise_reduction(kind)(NOISE, True)[16_000:].astype(float)
    assert 20 * np.log10(NOISE[16_000:].astype(float).std() / reduced.std()) > least_db


def test_chunks_give_what_the_whole_gives() -> None:
    whole = noise_reduction("near_field")(NOISE, True)
    stream = noise_reduction("near_field")
    cuts = [0, *sorted(RNG.integers(0, len(NOISE), 40)), len(NOISE)]
    pieces = [stream(NOISE[a:b], b == len(NOISE)) for a, b in itertools.pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    assert len(whole) == len(NOISE)


def test_without_it_nothing_changes() -> None:
    assert noise_reduction(None)(NOISE, False) is NOISE


def test_where_it_is_missing_the_session_says_so_and_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.noise_reduction.importlib.util.find_spec", lambda _: None)
    with pytest.raises(ClientError):
        noise_reduction("near_field")
    driver = Driver()
    driver.send("session.update", session={"audio": {"input": {"noise_reduction": {"type": "near_field"}}}})
    assert driver.event("error")["error"]["param"] == "session.audio.input.noise_reduction"
    assert driver.session.config.audio.input.noise_reduction is None


def test_a_manual_turn_is_as_long_as_what_was_sent() -> None:
    driver = Driver()
    driver.manual()
    driver.send("session.update", session={"audio": {"input": {"noise_reduction": {"type": "far_field"}}}})
    for ms in (33, 47, 111, 60):
        driver.append(ms, 500)
    driver.send("input_audio_buffer.commit")
    assert driver.session._input.heard_ms == pytest.approx(251, abs=1.5)
