"""Turn detection: the hysteresis on plain numbers, and the network on a question that ships with the project."""

import asyncio
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
import soxr
from numpy.typing import NDArray

from clients import sound
from server.input_audio import InputAudio
from server.session_config import AudioInput
from server.turn_detection import Hysteresis, SpeechStarted, SpeechStopped, VoiceActivity, VoiceActivityNetwork
from server.window_batch import WindowBatch

NETWORK = VoiceActivityNetwork()
SPEECH = soxr.resample(sound.read(sound.questions()[1]), 24_000, 16_000)


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


def test_speech_that_a_commit_has_ended_does_not_begin_again_by_itself() -> None:
    """The network goes on hearing speech for a moment after it has ended; then the next turn is heard."""
    heard = InputAudio(AudioInput())
    loud, quiet = np.full(512, 8000, np.int16), np.zeros(512, np.int16)

    def windows(samples: NDArray[np.int16], probability: float, count: int) -> list[Any]:
        found = []
        for _ in range(count):
            heard.hear(samples)
            found.append(heard.window(probability))
        return [change for change in found if change is not None]

    assert windows(loud, 0.9, 4) == [SpeechStarted(0)]
    heard.stop()  # a commit
    assert windows(quiet, 0.9, 3) == []
    assert windows(quiet, 0.1, 3) == []
    assert windows(loud, 0.9, 2) == [SpeechStarted(320)]


def test_a_little_below_the_threshold_still_counts_as_speech() -> None:
    assert _run([0.9] * 4 + [0.4] * 30) == [SpeechStarted(0)]


def _probabilities(pieces: Iterable[NDArray[np.int16]]) -> list[float]:
    """What the network thinks of a stream, window by window."""
    activity, found = VoiceActivity(), []
    for piece in pieces:
        for window in activity.windows(piece):
            probabilities, activity.state = NETWORK(window[None], activity.state)
            found.append(float(probabilities[0]))
    return found


def test_the_network_hears_a_person_and_no_silence_and_chunks_do_not_matter() -> None:
    whole = _probabilities([SPEECH])
    assert whole == _probabilities(SPEECH[i : i + 333] for i in range(0, len(SPEECH), 333))
    assert np.mean(np.array(whole) > 0.5) > 0.5
    assert max(_probabilities([np.zeros(16_000, dtype=np.int16)])) < 0.3


@pytest.mark.anyio
async def test_sessions_that_share_a_batch_hear_what_each_would_hear_alone() -> None:
    batch, alone = WindowBatch(NETWORK), _probabilities([SPEECH])

    async def listen(samples: NDArray[np.int16]) -> list[float]:
        activity, found = VoiceActivity(), []
        for window in activity.windows(samples):
            probability, activity.state = await batch.run(window, activity.state)
            found.append(probability)
        return found

    silence = np.zeros_like(SPEECH)
    together = await asyncio.gather(*(listen(SPEECH if n % 2 else silence) for n in range(40)))
    for n in (1, 39):
        assert np.allclose(together[n], alone, atol=1e-4)
    assert max(together[0]) < 0.3


@pytest.mark.anyio
async def test_a_session_that_leaves_does_not_disturb_its_batch() -> None:
    batch, window = WindowBatch(NETWORK), next(VoiceActivity().windows(SPEECH))
    gone = asyncio.create_task(batch.run(window, VoiceActivity().state))
    stays = asyncio.create_task(batch.run(window, VoiceActivity().state))
    await asyncio.sleep(0)
    gone.cancel()
    probability, _ = await stays
    assert probability == pytest.approx(_probabilities([SPEECH])[0], abs=1e-4)


@pytest.mark.anyio
async def test_a_network_that_fails_fails_those_who_asked_and_serves_the_next() -> None:
    broken = True

    class Network(VoiceActivityNetwork):
        def __call__(self, windows: Any, states: Any) -> Any:
            if broken:
                raise RuntimeError("no")
            return super().__call__(windows, states)

    batch, window = WindowBatch(Network()), next(VoiceActivity().windows(SPEECH))
    asked = [asyncio.create_task(batch.run(window, VoiceActivity().state)) for _ in range(3)]
    assert [str(e) for e in await asyncio.gather(*asked, return_exceptions=True)] == ["no"] * 3
    broken = False
    assert 0 <= (await batch.run(window, VoiceActivity().state))[0] <= 1
