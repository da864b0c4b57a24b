"""The capacity simulator: it does what the engine does, and what it says has the right properties."""

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks import schedule
from model.audio_detokenizer import LOOKAHEAD_TOKENS, SAMPLE_RATE_HZ, delay_samples
from model.audio_tokenizer import DELAY_TOKENS
from model.checkpoint import SpeechModel
from model.layout import TokenLayout
from server.deploy import capacity, rehearsal, simulation
from server.deploy.simulation import Curve, Replica, StepTimes, Talk, Turn
from server.engine import conversation, speech_engine, token_engine, voice
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AudioDelta,
    CommitTurn,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    TranscriptDone,
)
from server.engine.rules import SpeechRule, TextRule
from server.engine.speech_engine import SpeechEngine
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Allowed

TIMES = StepTimes.read(json.loads(capacity.STEPS.read_text()))
TALK = capacity.read_talk(json.loads(capacity.TURNS.read_text()), (0.2, 1.0))
NOISE = 0.05
FREE, ONE = Curve((1,), (0.0,)), Curve((1,), (1.0,))
EVERY_STEP = StepTimes(
    hear=FREE,
    hear_one=FREE,
    listen=ONE,
    prefill=ONE,
    decode=ONE,
    step=ONE,
    say=FREE,
    say_one=FREE,
    speak=ONE,
    prefill_long=ONE,
    decode_long=ONE,
)
"""A millisecond for every step of the token engine, and nothing else."""


def test_constants_are_those_of_model_and_engine() -> None:
    assert simulation.DELAY_TOKENS == DELAY_TOKENS
    assert simulation.LOOKAHEAD_TOKENS == LOOKAHEAD_TOKENS
    delay_ms = 1000 * delay_samples(1.0) / SAMPLE_RATE_HZ
    assert delay_ms == simulation.LOOKAHEAD_TOKENS * simulation.FRAME_MS + simulation.SYNTHESIS_MS
    assert simulation.FIRST_CODES == voice._FIRST_CODES
    assert simulation.NEXT_CODES == voice._NEXT_CODES
    assert simulation.AHEAD_MS == 1000 * voice._AHEAD_S
    assert simulation.ANSWER_MS == 1000 * schedule._ANSWER_S
    assert simulation.HEARD_WITHIN_MS == 1000 * speech_engine._HEARD_WITHIN_S
    assert simulation.TOGETHER_MS == 1000 * speech_engine._TOGETHER_S
    assert simulation.ANSWERED_WITHIN_MS == 1000 * speech_engine._ANSWERED_WITHIN_S
    assert simulation.HEARD_FRAMES == speech_engine._HEARD_FRAMES
    assert simulation.TURN_ROOM == conversation._TURN_ROOM
    assert simulation.TURN_ROOM_SHARE == conversation._TURN_ROOM_SHARE
    assert simulation.READ_TWICE == speech_engine._READ_TWICE
    assert simulation.SEARCHES == token_engine._SEARCHES


class ShortText(TextRule):
    """Ends after so many tokens: random weights seldom end anything."""

    def __init__(self, layout: TokenLayout, max_tokens: int | None = None) -> None:
        super().__init__(layout, max_tokens)
        self._tokens = (max_tokens or 0) % 7 + 3

    def allowed(self) -> Allowed:
        return super().allowed() if self._tokens > 1 else Allowed(self._end, self._end + 1)

    def accept(self, token: int) -> bool:
        self._tokens -= 1
        return super().accept(token)


class ShortAnswer(SpeechRule):
    """What was drafted, and some codes."""

    _codes = 36

    def allowed(self) -> Allowed | None:
        return super().allowed() if self._codes else Allowed(self._end, self._end + 1)

    def accept(self, token: int) -> bool:
        self._codes -= self._order.kind == "speech"
        return super().accept(token)


def test_it_reads_as_often_as_the_engine_until_the_first_audio(
    tiny: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech_engine, "TextRule", ShortText)
    monkeypatch.setattr(speech_engine, "SpeechRule", ShortAnswer)
    config = EngineConfig(slots=1, length=1024, answer_tokens=60, hypotheses=1)
    engine = SpeechEngine(tiny, config, clock=lambda: 0.0)
    engine.receive(OpenSession("s"))
    engine.receive(Hear("s", bytes(2 * 16_000)))
    while engine.has_work:  # as it comes, and not all at the end
        engine.step()
    engine.receive(CommitTurn("s", "heard"))
    engine.receive(Respond("s", "r", "said"))
    reads, first, transcript, done = [], 0, None, None
    read = TorchTokenEngine._advance
    monkeypatch.setattr(TorchTokenEngine, "_advance", lambda tokens, rows: (reads.append(rows), read(tokens, rows))[1])
    while done is None:
        for event in engine.step():
            if isinstance(event, TranscriptDone):
                transcript = event.text_tokens
            elif isinstance(event, AudioDelta):
                first = first or len(reads)
            elif isinstance(event, ResponseDone):
                done = event
    assert transcript is not None
    text, untold = done.usage.output_text - done.usage.untold - 1, done.usage.untold  # as `turns` counts `<end>`
    turn = Turn(1000, transcript + 1, text, done.usage.output_audio, untold_tokens=untold)
    replica = Replica(EVERY_STEP, Talk((turn,)), sessions=1, turns=1, warmup=0, config=config).run()
    [answer] = replica.answered
    assert answer.ttfa_ms == pytest.approx(first)


@pytest.mark.parametrize(("sessions", "speed"), [(3, 2.0), (8, 0.5)])  # with time for everybody, and without
def test_it_does_the_same_work_in_the_same_batches_as_the_engine(
    tiny: SpeechModel, monkeypatch: pytest.MonkeyPatch, sessions: int, speed: float
) -> None:
    monkeypatch.setattr(speech_engine, "TextRule", ShortText)
    monkeypatch.setattr(speech_engine, "SpeechRule", ShortAnswer)
    dice = random.Random(sessions)
    questions = [dice.randbytes(640 * chunks) for chunks in (30, 37, 41, 50)]
    found = rehearsal.compare_counts(tiny, questions, TIMES.faster(speed), sessions)
    assert found["differ"] == 0
    assert found["same_times"]
    assert all(found[kind][0] > 0 for kind in ("hear", "read", "decide", "say"))


def test_an_idle_row_between_busy_ones_is_read_too() -> None:
    assert [simulation.span(slots) for slots in ([3], [1, 2], [4, 1], [0, 7], [0, 3, 5])] == [1, 2, 4, 2, 6]


def test_the_same_seed_gives_the_same_times() -> None:
    one, again, other = (Replica(TIMES, TALK, 4, 5, seed=seed).run().answered for seed in (1, 1, 2))
    assert one == again
    assert one != other


def test_more_sessions_never_wait_less() -> None:
    points = [capacity.point(TIMES, TALK, sessions, 20) for sessions in (1, 2, 4, 8, 16)]
    for few, many in pairwise(points):
        assert many["p95_ms"] >= (1 - NOISE) * few["p95_ms"]
        assert many["busy"] >= (1 - NOISE) * few["busy"]


def test_twice_the_speed_halves_the_wait_and_holds_more() -> None:
    talk = Talk(tuple(Turn(t.question_ms, t.transcript_tokens, t.text_tokens, t.codes) for t in TALK.turns))
    slow, fast = (capacity.point(TIMES.faster(factor), talk, 1, 20) for factor in (1.0, 2.0))
    assert fast["median_ms"] == pytest.approx(slow["median_ms"] / 2, rel=0.1)
    crowded = [capacity.point(TIMES.faster(factor), talk, 24, 20) for factor in (1.0, 2.0, 4.0)]
    assert crowded[0]["p95_ms"] > crowded[1]["p95_ms"] > crowded[2]["p95_ms"]
    assert crowded[0]["in_time"] <= crowded[2]["in_time"]


def test_a_conversation_that_outgrows_the_context_is_read_again() -> None:
    talk = Talk((Turn(4000, 10, 10, 100),))
    small, large = (Replica(EVERY_STEP, talk, 1, 20, config=EngineConfig(length=n)).run() for n in (512, 32768))
    assert small.busy_ms > large.busy_ms


def test_curves_go_straight_between_and_beyond_what_was_measured() -> None:
    curve = Curve.read({"1": {"ms": 2.0}, "4": {"ms": 5.0}, "16": {"ms": 11.0}})
    assert [curve(size) for size in (0, 1, 2, 4, 10, 16, 32)] == [2, 2, 3, 5, 8, 11, 19]


def test_the_command_plans(capsys: pytest.CaptureFixture[str]) -> None:
    assert capacity.main(["--sessions", "1", "2", "--total", "12", "--price", "2", "--speed", "4"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [point["sessions"] for point in found["curve"]] == [1, 2]
    assert found["replicas"] == -(-12 // found["sessions_per_replica"])
    assert found["cost_per_hour"] == 2 * found["replicas"]
    assert found["cost_per_hour_of_talk"] == pytest.approx(found["cost_per_hour"] / 12)
    assert capacity.main(["--sessions", "1", "--limit-ms", "1"]) == 1


def test_a_comparison_says_whether_it_was_right(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    predicted = capacity.point(TIMES, TALK, 2, 10)
    load = tmp_path / "load.json"

    def compare(factor: float) -> int:
        waits = {"median": factor * predicted["median_ms"], "p95": factor * predicted["p95_ms"]}
        load.write_text(json.dumps({"runs": {"2": {"turns": 20, "from_commit_ms": waits}}}))
        return capacity.main(["--compare", str(load)])

    assert compare(1.1) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["within"]
    assert compare(1.5) == 1
    assert "missed" in capsys.readouterr().out
