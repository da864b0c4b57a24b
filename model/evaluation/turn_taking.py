"""Does the model know when it is its turn? Questions with a pause in mid-sentence, through the server's own session.

Session, turn detection (`semantic_vad`) and engine are those of the server. Time is that of the audio, and an engine
step takes 4 ms of it, however fast the machine is: what machine, network and other sessions add, `antiphon bench`
measures.
"""

import base64
import json
import math
import random
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from model.evaluation.dialogues import Question
from model.training.align import sounds_in
from model.training.corpus import HEARD_HZ, Line, Recording, speak
from model.training.sequences import word_borders
from model.training.tokenizer import Recogniser
from server.audio import resampler
from server.engine.messages import CloseSession, OpenSession
from server.engine.speech_engine import SpeechEngine
from server.session import Output, Session
from server.turn_detection import WINDOW_MS, VoiceActivity, VoiceActivityNetwork

_LEAD_MS, _WAIT_MS = 300, 5000  # semantic_vad waits for at most 4 s
_PAD_MS = 50  # silence that `speak` leaves at the end of a recording
_STEP_MS = 4
_WIRE_HZ = 24_000
_CHUNK_SAMPLES = _WIRE_HZ * WINDOW_MS // 1000
_DETECTION = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}


@dataclass(frozen=True)
class Decision:
    """What the server thought of one hesitant question."""

    cut_off: bool
    """It took a pause in the sentence for the end."""
    delay_ms: float
    """From the real end to the decision; infinite if there was none."""


def decide(engine: SpeechEngine, network: VoiceActivityNetwork, name: str, pcm: np.ndarray) -> Decision:
    """Say one question of int16 samples, and listen on until the turn has been ended."""
    session, activity = Session(name, "antiphon-nano", _DETECTION), VoiceActivity()
    end_ms = _LEAD_MS + 1000 * len(pcm) / HEARD_HZ - _PAD_MS
    lead, tail = (np.zeros(HEARD_HZ * ms // 1000, np.int16) for ms in (_LEAD_MS, _WAIT_MS))
    wire = resampler(HEARD_HZ, _WIRE_HZ)(np.concatenate([lead, pcm, tail]), True)
    engine.receive(OpenSession(name))
    stopped_ms: list[float] = []

    def pass_on(output: Output, now_ms: float) -> None:
        for command in output.commands:
            engine.receive(command)
        stopped_ms.extend(now_ms for event in output.events if event["type"] == "input_audio_buffer.speech_stopped")

    pass_on(session.opened(), 0)
    for first in range(0, len(wire) - _CHUNK_SAMPLES, _CHUNK_SAMPLES):
        now_ms = 1000 * (first + _CHUNK_SAMPLES) / _WIRE_HZ
        data = base64.b64encode(wire[first : first + _CHUNK_SAMPLES].tobytes()).decode()
        frame = json.dumps({"type": "input_audio_buffer.append", "audio": data})
        output, samples = session.client_frame(frame)
        pass_on(output, now_ms)
        if samples is None:
            continue
        pass_on(session.hear(samples), now_ms)
        for window in activity.windows(samples):
            probabilities, activity.state = network(window[None], activity.state)
            pass_on(session.speech_window(float(probabilities[0])), now_ms)
        for step_ms in range(_STEP_MS, WINDOW_MS + 1, _STEP_MS):
            for event in engine.step():
                pass_on(session.engine_event(event), now_ms + step_ms)
        if any(at >= end_ms for at in stopped_ms):
            break
    engine.receive(CloseSession(name))
    engine.step()
    delay_ms = next((at - end_ms for at in stopped_ms if at >= end_ms), math.inf)
    return Decision(any(at < end_ms for at in stopped_ms), delay_ms)


def hesitant(recording: Recording, pcm: np.ndarray, rng: random.Random) -> np.ndarray:
    """A recording with a pause of 0.3 to 1 s behind one of its words; as it is, if it has but one."""
    ends = word_borders(recording)[1:-1]
    if not ends:
        return pcm
    at, pause = rng.choice(ends), int(rng.uniform(0.3, 1.0) * recording.rate_hz)
    fade = min(at, len(pcm) - at, recording.rate_hz // 100)
    ramp = np.linspace(1, 0, fade)
    before, after = pcm[:at].copy(), pcm[at:].copy()
    before[at - fade :] = before[at - fade :] * ramp
    after[:fade] = after[:fade] * ramp[::-1]
    return np.concatenate([before, np.zeros(pause, np.int16), after])


def hesitant_questions(recogniser: Recogniser, questions: list[Question], seed: int = 5) -> list[np.ndarray]:
    """The first question of each dialogue with a pause of 0.3 to 1 s behind one of its words, which the recogniser
    finds; those of a single word are left out."""
    rng, said = random.Random(seed), []
    for question in questions:
        text = question.dialogue.turns[0].question
        pcm, _ = speak(Line(text, question.voice, "question", 1.0, HEARD_HZ))
        recording = Recording(text, question.voice, "question", 0, len(pcm), HEARD_HZ)
        [sounds] = sounds_in(recogniser, [(recording, pcm)])
        moved = hesitant(replace(recording, sounds=sounds), pcm, rng)
        if len(moved) > len(pcm):
            said.append(moved)
    return said


def take_turns(engine: SpeechEngine, said: list[np.ndarray]) -> list[Decision]:
    """One decision for each recording."""
    network = VoiceActivityNetwork()
    return [
        decide(engine, network, f"turn {i}", pcm) for i, pcm in enumerate(tqdm(said, desc="waiting", unit="question"))
    ]
