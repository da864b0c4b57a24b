"""Does the model know when it is its turn? Questions with a pause in mid-sentence, through the server's own session.

Session, turn detection (`semantic_vad`) and engine are those of the server; time is that of the audio, and the engine
takes as many steps in it as one core can. What the network and other sessions add is measured by `antiphon bench`.
"""

import base64
import json
import random
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from model.evaluation.dialogues import Question
from model.training.align import sounds_in
from model.training.corpus import HEARD_HZ, Line, Recording, speak
from model.training.sequences import hesitant
from model.training.tokenizer import Recogniser
from server.engine.messages import CloseSession, OpenSession
from server.engine.speech_engine import SpeechEngine
from server.session import Output, Session
from server.turn_detection import WINDOW_MS, WINDOW_SAMPLES, VoiceActivity, VoiceActivityNetwork

_LEAD_MS, _WAIT_MS = 300, 4000
_PAD_MS = 50  # silence that `speak` leaves at the end of a recording
_STEPS_PER_WINDOW = 8  # a step takes 3 to 4 ms
_DETECTION = {"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}}


@dataclass(frozen=True)
class Decision:
    """What the server thought of one hesitant question."""

    cut_off: bool
    """It took a pause in the sentence for the end."""
    delay_ms: float | None
    """From the real end to the decision; None if there was none."""


def decide(engine: SpeechEngine, network: VoiceActivityNetwork, name: str, pcm: np.ndarray) -> Decision:
    """Say one question of int16 samples, and listen on until the turn has been ended."""
    session, activity = Session(name, "antiphon-nano", _DETECTION), VoiceActivity()
    end_ms = _LEAD_MS + 1000 * len(pcm) / HEARD_HZ - _PAD_MS
    lead, tail = (np.zeros(HEARD_HZ * ms // 1000, np.int16) for ms in (_LEAD_MS, _WAIT_MS))
    heard = np.concatenate([lead, pcm, tail])
    engine.receive(OpenSession(name))
    stopped_ms: list[float] = []

    def pass_on(output: Output, now_ms: float) -> None:
        for command in output.commands:
            engine.receive(command)
        stopped_ms.extend(now_ms for event in output.events if event["type"] == "input_audio_buffer.speech_stopped")

    pass_on(session.opened(), 0)
    for first in range(0, len(heard) - WINDOW_SAMPLES, WINDOW_SAMPLES):
        now_ms = 1000 * (first + WINDOW_SAMPLES) / HEARD_HZ
        data = base64.b64encode(heard[first : first + WINDOW_SAMPLES].tobytes()).decode()
        frame = json.dumps({"type": "input_audio_buffer.append", "audio": data})
        output, samples = session.client_frame(frame)
        pass_on(output, now_ms)
        if samples is None:
            continue
        pass_on(session.hear(samples), now_ms)
        for window in activity.windows(samples):
            probabilities, activity.state = network(window[None], activity.state)
            pass_on(session.speech_window(float(probabilities[0])), now_ms)
        for step in range(_STEPS_PER_WINDOW):
            for event in engine.step():
                pass_on(session.engine_event(event), now_ms + WINDOW_MS * step / _STEPS_PER_WINDOW)
        if any(at >= end_ms for at in stopped_ms):
            break
    engine.receive(CloseSession(name))
    engine.step()
    after = [at - end_ms for at in stopped_ms if at >= end_ms]
    return Decision(any(at < end_ms for at in stopped_ms), after[0] if after else None)


def hesitant_questions(recogniser: Recogniser, questions: list[Question], seed: int = 5) -> list[np.ndarray]:
    """The first question of each dialogue with a pause of 0.3 to 1 s behind one of its words, which the recogniser
    finds; those of a single word are left out."""
    rng, said = random.Random(seed), []
    for question in questions:
        text = question.dialogue.turns[0].question
        pcm, _ = speak(Line(text, question.voice, "question", 1.0, HEARD_HZ))
        recording = Recording(text, question.voice, "question", 0, len(pcm), HEARD_HZ)
        [sounds] = sounds_in(recogniser, [(recording, pcm)])
        moved = hesitant(replace(recording, sounds=sounds), pcm, rng)[1]
        if len(moved) > len(pcm):
            said.append(moved)
    return said


def take_turns(engine: SpeechEngine, said: list[np.ndarray]) -> list[Decision]:
    """One decision for each recording."""
    network = VoiceActivityNetwork()
    return [
        decide(engine, network, f"turn {i}", pcm) for i, pcm in enumerate(tqdm(said, desc="waiting", unit="question"))
    ]
