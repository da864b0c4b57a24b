"""Turn detection: the hysteresis on plain numbers, and the network on a question that ships with the project."""

import numpy as np
import soxr

from clients import sound
from server.turn_detection import Hysteresis, SpeechStarted, SpeechStopped, VoiceActivity, VoiceActivityNetwork


def _run(probabilities: list[float], silence_ms: int = 320) -> list[SpeechStarted | SpeechStopped]:
    hysteresis = Hysteresis(0.5, silence_ms)
    changes = [hysteresis.push(p, 32 * i) for i, p in enumerate(probabilities)]
    return [c for c in changes if c is not None]


def test_one_loud_window_is_a_click_and_two_are_speech() -> None:
    assert _run([0, 0.9, 0, 0]) == []
    assert _run([0, 0.9, 0.9]) == [SpeechStarted(32)]


def test_a_turn_ends_after_the_silence_and_dates_from_its_beginning() -> None:
    assert _run([0.9] * 4 + [0.1] * 10) == [SpeechStarted(0), SpeechStopped(128)]
    assert _run([0.9] * 4 + [0.1] * 9) == [SpeechStarted(0)]


def test_a_pause_shorter_than_the_silence_does_not_end_the_turn() -> None:
    assert _run([0.9] * 4 + [0.1] * 9 + [0.9] + [0.1] * 9) == [SpeechStarted(0)]


def test_a_little_below_the_threshold_still_counts_as_speech() -> None:
    assert _run([0.9] * 4 + [0.4] * 30) == [SpeechStarted(0)]


def test_the_network_hears_a_person_and_no_silence_and_chunks_do_not_matter() -> None:
    network = VoiceActivityNetwork()
    speech = soxr.resample(sound.read(sound.questions()[1]), 24_000, 16_000)
    whole = list(VoiceActivity(network).push(speech))
    stream = VoiceActivity(network)
    pieces = [p for i in range(0, len(speech), 333) for p in stream.push(speech[i : i + 333])]
    assert whole == pieces
    assert np.mean(np.array(whole) > 0.5) > 0.5
    assert max(VoiceActivity(network).push(np.zeros(16_000, dtype=np.int16))) < 0.3
