"""The checkpoint that ships: it loads, it is small, and a question that ships gets a spoken answer.

Whether answers are right is measured by `antiphon eval`, not here.
"""

import soundfile

from clients import sound
from model import EMBEDDED
from model.checkpoint import load
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AudioDelta,
    CommitTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine


def test_all_parts_together_take_at_most_60_mb() -> None:
    assert 1_000_000 < sum(f.stat().st_size for f in EMBEDDED.iterdir()) <= 60_000_000


def test_a_spoken_question_is_heard_and_answered_in_speech() -> None:
    engine = SpeechEngine(load(EMBEDDED), EngineConfig(slots=1))
    samples, rate_hz = soundfile.read(sound.questions()[0], dtype="int16")
    assert rate_hz == 16_000
    engine.receive(OpenSession("s"))
    engine.receive(Hear("s", samples.tobytes()))
    engine.receive(CommitTurn("s", "q"))
    engine.receive(Respond("s", "r", "a", max_tokens=300))
    events: list[Event] = []
    while not any(isinstance(e, ResponseDone) for e in events):
        events += engine.step()
    assert next(e for e in events if isinstance(e, TranscriptDone)).text
    assert sum(len(e.pcm) for e in events if isinstance(e, AudioDelta)) > 24_000
