"""The speech engine on a small random model: turns, answers, interruptions, edits, several sessions."""

import pytest

from model.audio_detokenizer import TOKEN_SAMPLES
from model.audio_tokenizer import DELAY_TOKENS
from model.checkpoint import SpeechModel
from server.engine import worker
from server.engine.conversation import Item
from server.engine.engine_config import EngineConfig
from server.engine.messages import (
    AddText,
    AudioDelta,
    Cancel,
    CloseSession,
    CommitTurn,
    ConfirmTurn,
    Context,
    DropTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseBegun,
    ResponseDone,
    ResumeTurn,
    SessionFailed,
    SetInstructions,
    SetTruncation,
    TextDelta,
    TranscriptDone,
    TruncateItem,
    TurnProbability,
)
from server.engine.speech_engine import SpeechEngine

CONFIG = EngineConfig(slots=3, length=1024)


@pytest.fixture(params=[1, 8], ids=["every code is read as it is heard", "codes are read by eights"])
def engine(request: pytest.FixtureRequest, tiny: SpeechModel) -> SpeechEngine:
    made = SpeechEngine(tiny, CONFIG)
    made.tokens.worth_reading = request.param
    made.receive(OpenSession("a"))
    return made


def _run(engine: SpeechEngine, steps: int = 600) -> list[Event]:
    events = engine.step()
    for _ in range(steps):
        if not engine.has_work:
            return events + engine.step()
        events += engine.step()
    raise AssertionError("the engine did not come to rest")


def _noise(ms: int, seed: int = 1) -> bytes:
    import numpy as np

    return (np.random.default_rng(seed).normal(0, 3000, ms * 16)).astype("<i2").tobytes()


def _tokens(engine: SpeechEngine, session: str = "a") -> list[int]:
    return list(engine._sessions[session].conversation.sequence.tokens)


def _items(engine: SpeechEngine, session: str = "a") -> list[Item]:
    return engine._sessions[session].conversation.items


def _ask(engine: SpeechEngine, session: str, number: int, seed: int = 1) -> list[Event]:
    engine.receive(Hear(session, _noise(800, seed)))
    engine.receive(CommitTurn(session, f"q{number}"))
    engine.receive(Respond(session, f"r{number}", f"a{number}", max_tokens=80))
    return _run(engine)


def test_a_committed_turn_is_transcribed_and_answered_in_order(engine: SpeechEngine) -> None:
    events = _ask(engine, "a", 1)
    kinds = [type(e) for e in events]
    assert kinds.index(TranscriptDone) < kinds.index(TextDelta) < kinds.index(AudioDelta)
    assert kinds[-1] is ResponseDone


def test_an_answer_has_one_frame_of_sound_for_each_code(engine: SpeechEngine) -> None:
    events = _ask(engine, "a", 1)
    done = events[-1]
    assert isinstance(done, ResponseDone)
    sound = b"".join(e.pcm for e in events if isinstance(e, AudioDelta))
    assert len(sound) == 2 * TOKEN_SAMPLES * done.usage.output_audio > 0


def test_audio_in_small_pieces_is_heard_like_audio_in_one(engine: SpeechEngine) -> None:
    engine.receive(OpenSession("b"))
    sound = _noise(1000)
    for first in range(0, len(sound), 734):
        engine.receive(Hear("a", sound[first : first + 734]))
        engine.step()
    engine.receive(Hear("b", sound))
    _run(engine)
    for session in "ab":
        engine.receive(CommitTurn(session, "q"))
    _run(engine)
    assert _tokens(engine, "a") == _tokens(engine, "b")


def test_while_somebody_speaks_their_audio_is_already_prefilled(engine: SpeechEngine) -> None:
    engine.receive(Hear("a", _noise(400)))
    events = _run(engine)
    sequence = engine._sessions["a"].conversation.sequence
    assert any(isinstance(e, TurnProbability) for e in events)
    assert sequence.cached == len(sequence.tokens) == 1 + 10


def test_a_dropped_turn_was_never_heard(engine: SpeechEngine) -> None:
    before = _tokens(engine)
    engine.receive(Hear("a", _noise(400)))
    _run(engine)
    engine.receive(DropTurn("a"))
    _run(engine)
    assert _tokens(engine) == before


def test_a_cancelled_answer_stops_at_once_and_the_next_turn_works(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(Respond("a", "r1", "a1", max_tokens=400))
    for _ in range(30):
        engine.step()
    engine.receive(Cancel("a", "r1"))
    events = engine.step()
    assert [e.status for e in events if isinstance(e, ResponseDone)] == ["cancelled"]
    assert not any(isinstance(e, AudioDelta | TextDelta) for e in _run(engine))
    assert any(isinstance(e, ResponseDone) and e.status != "failed" for e in _ask(engine, "a", 2))


def test_a_truncated_answer_keeps_exactly_the_frames_that_were_heard(engine: SpeechEngine) -> None:
    _ask(engine, "a", 1)
    layout = engine.model.layout
    engine.receive(TruncateItem("a", "a1", 200))
    _run(engine)
    assert sum(layout.is_spoken(t) for t in _tokens(engine)) == 5
    assert _tokens(engine)[-1] == layout.control("<end>")


def test_truncating_behind_an_open_turn_keeps_the_turn(engine: SpeechEngine) -> None:
    _ask(engine, "a", 1)
    engine.receive(Hear("a", _noise(400, 7)))
    _run(engine)
    heard = sum(engine.model.layout.is_heard(t) for t in _tokens(engine))
    engine.receive(TruncateItem("a", "a1", 0))
    _run(engine)
    assert sum(engine.model.layout.is_heard(t) for t in _tokens(engine)) == heard
    assert sum(engine.model.layout.is_spoken(t) for t in _tokens(engine)) == 0


def test_edits_while_an_answer_is_generated_wait_for_its_end(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(Respond("a", "r1", "a1", max_tokens=60))
    for _ in range(10):
        engine.step()
    engine.receive(SetInstructions("a", "words"))
    engine.receive(AddText("a", "later", "user", "there"))
    events = _run(engine)
    assert isinstance(events[-1], ResponseDone)
    assert events[-1].usage.output_text + events[-1].usage.output_audio >= 60
    assert [i.item_id for i in engine._sessions["a"].conversation.items] == ["q", "a1", "later"]
    assert _tokens(engine)[0] == engine.model.layout.control("<system>")


def test_a_turn_spoken_while_an_answer_goes_on_is_answered_after_it(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(Respond("a", "r1", "a1", max_tokens=100))
    for _ in range(5):
        engine.step()
    engine.receive(Hear("a", _noise(400)))
    engine.receive(CommitTurn("a", "q2"))
    engine.receive(Hear("a", _noise(400)))
    engine.receive(Respond("a", "r2", "a2", max_tokens=20))
    events = _run(engine)
    assert [e.response_id for e in events if isinstance(e, ResponseDone)] == ["r1", "r2"]
    items = {i.item_id: sum(engine.model.layout.is_heard(t) for t in i.tokens) for i in _items(engine)}
    assert items == {"q": 0, "a1": 0, "q2": 10 + DELAY_TOKENS, "a2": 0, "": 10}


def test_instructions_of_one_answer_hold_for_it_alone(engine: SpeechEngine) -> None:
    engine.receive(SetInstructions("a", "hello"))
    engine.receive(AddText("a", "q", "user", "there"))
    before = _tokens(engine)
    engine.receive(Respond("a", "r1", "a1", speak=False, max_tokens=5, instructions="words words"))
    engine.step()
    assert _tokens(engine)[: len(before)] != before
    _run(engine)
    assert _tokens(engine)[: len(before)] == before


def test_sessions_at_once_answer_as_each_would_alone(tiny: SpeechModel) -> None:
    def answers(sessions: str) -> dict[str, bytes]:
        engine = SpeechEngine(tiny, CONFIG)
        sound: dict[str, bytes] = dict.fromkeys(sessions, b"")
        for session in sessions:
            engine.receive(OpenSession(session))
            engine.receive(AddText(session, "q", "user", f"this is {session}"))
            engine.receive(Respond(session, "r", "x", max_tokens=60, temperature=1.0, seed=ord(session)))
        for event in _run(engine):
            if isinstance(event, TextDelta):
                sound[event.session_id] += event.text.encode()
        return sound

    together = answers("abc")
    assert together == {s: answers(s)[s] for s in "abc"}
    assert len(set(together.values())) == 3


def test_a_session_too_many_fails_alone(engine: SpeechEngine) -> None:
    for name in "bcd":
        engine.receive(OpenSession(name))
    events = engine.step()
    assert [e.session_id for e in events if isinstance(e, SessionFailed)] == ["d"]


def test_who_begins_to_speak_near_the_limit_makes_room_while_there_is_time_for_it(engine: SpeechEngine) -> None:
    engine.receive(SetTruncation("a", 0.5, 400))
    while len(_tokens(engine)) < 370:
        engine.receive(AddText("a", f"q{len(_items(engine))}", "user", "hello there"))
    _run(engine)
    kept = len(_items(engine))
    engine.receive(Hear("a", _noise(400)))
    engine.step()
    assert len(_items(engine)) < kept
    assert len(_tokens(engine)) < 210
    _run(engine)
    before = [i.item_id for i in _items(engine)]
    engine.receive(Hear("a", _noise(800)))
    engine.receive(CommitTurn("a", "said"))
    engine.receive(Respond("a", "r", "x", max_tokens=20))
    _run(engine)
    assert [i.item_id for i in _items(engine)] == [*before[:-1], "said", "x"]


def test_a_conversation_longer_than_the_context_forgets_its_beginning(engine: SpeechEngine) -> None:
    for number in range(12):
        events = _ask(engine, "a", number)
        assert isinstance(events[-1], ResponseDone)
        assert events[-1].status in ("completed", "incomplete")
    assert len(_tokens(engine)) < CONFIG.length


def test_a_command_that_breaks_the_engine_fails_its_own_session_alone(engine: SpeechEngine) -> None:
    engine.receive(OpenSession("b"))
    [failed] = worker.receive(engine, AddText("b", "q", "user", 5))  # type: ignore[arg-type]
    assert isinstance(failed, SessionFailed)
    assert failed.session_id == "b"
    assert isinstance(_ask(engine, "a", 1)[-1], ResponseDone)


# --- provisional turns ---------------------------------------------------------------------------------------------


def _steps(engine: SpeechEngine, count: int) -> list[Event]:
    return [event for _ in range(count) for event in engine.step()]


@pytest.mark.parametrize("steps", [0, 1, 2, 4, 12, 60, 600])
def test_a_turn_that_goes_on_after_a_provisional_end_is_heard_as_if_there_had_been_none(
    engine: SpeechEngine, steps: int
) -> None:
    engine.receive(OpenSession("b"))
    first, second, third = _noise(700), _noise(330, 2), _noise(250, 3)
    engine.receive(Hear("a", first))
    engine.receive(CommitTurn("a", "q", guess=1))
    engine.receive(Respond("a", "r0", "x0", max_tokens=400))
    engine.receive(Hear("a", second))
    _steps(engine, steps)
    engine.receive(ResumeTurn("a"))
    engine.receive(Hear("a", third))
    engine.receive(Hear("b", first + second + third))
    assert not any(isinstance(e, ResponseDone | AudioDelta) for e in _run(engine))
    for session in "ab":
        engine.receive(CommitTurn(session, "q"))
        engine.receive(Respond(session, "r", "x", max_tokens=40))
    _run(engine)
    assert _tokens(engine, "a") == _tokens(engine, "b")
    assert [i.item_id for i in _items(engine)] == ["q", "x"]


def test_a_confirmed_provisional_end_is_an_end(engine: SpeechEngine) -> None:
    engine.receive(OpenSession("b"))
    for session in "ab":
        engine.receive(Hear(session, _noise(700)))
        engine.receive(CommitTurn(session, "q", guess=1))
        engine.receive(Respond(session, "r", "x", max_tokens=60))
    engine.receive(ConfirmTurn("b"))
    events = _steps(engine, 40)
    engine.receive(Hear("a", _noise(100, 5)))  # silence that proved it: not of the next turn
    engine.receive(ConfirmTurn("a"))
    engine.receive(Hear("a", _noise(400, 6)))
    engine.receive(Hear("b", _noise(400, 6)))
    events += _run(engine)
    assert _tokens(engine, "a") == _tokens(engine, "b")
    said = {s: sum(len(e.pcm) for e in events if e.session_id == s and isinstance(e, AudioDelta)) for s in "ab"}
    assert said["a"] == said["b"] > 0


def test_at_a_provisional_end_the_model_says_what_it_thinks_if_silence_goes_on(engine: SpeechEngine) -> None:
    engine.receive(Hear("a", _noise(400)))
    _run(engine)
    engine.receive(CommitTurn("a", "q", guess=1))
    opinions = [e for e in _run(engine) if isinstance(e, TurnProbability)]
    assert opinions[-1].heard_ms > 400 + 40 * DELAY_TOKENS


def test_a_turn_that_follows_a_commit_at_once_waits_for_it(engine: SpeechEngine) -> None:
    """While an answer is generated a commit waits; the turns behind it keep their order and their sounds."""
    engine.receive(OpenSession("b"))
    engine.receive(AddText("a", "t", "user", "hello"))
    engine.receive(Respond("a", "r", "x", max_tokens=100))
    _steps(engine, 10)
    for n in (1, 2, 3):
        engine.receive(Hear("a", _noise(300, n)))
        engine.receive(CommitTurn("a", f"q{n}"))
    _run(engine)
    for n in (1, 2, 3):
        engine.receive(Hear("b", _noise(300, n)))
        engine.receive(CommitTurn("b", f"q{n}"))
        _run(engine)
    mine = {i.item_id: i.tokens for i in _items(engine)}
    alone = {i.item_id: i.tokens for i in engine._sessions["b"].conversation.items}
    heard = engine.model.layout.is_heard
    assert list(mine) == ["t", "x", "q1", "q2", "q3"]
    assert all([t for t in mine[q] if heard(t)] == [t for t in alone[q] if heard(t)] for q in alone)


# --- admission -----------------------------------------------------------------------------------------------------


def test_more_conversations_than_there_is_room_for_are_refused_with_a_time_to_retry(tiny: SpeechModel) -> None:
    engine = SpeechEngine(tiny, EngineConfig(slots=3, length=1024, sessions=1))
    engine.receive(OpenSession("a"))
    engine.receive(Respond("a", "r", "x", max_tokens=8, context=()))  # beside the conversation: not one more
    engine.receive(OpenSession("b"))
    [refused] = [e for e in _run(engine) if isinstance(e, SessionFailed)]
    assert (refused.session_id, refused.code, refused.fatal) == ("b", "server_overloaded", True)
    assert "try again in" in refused.message
    engine.receive(CloseSession("a"))
    engine.receive(OpenSession("c"))
    assert not any(isinstance(e, SessionFailed) for e in _run(engine))


def test_the_capacity_is_what_the_clock_says(tiny: SpeechModel) -> None:
    """The same trial on a clock that runs twice as fast: half the room."""

    def found(seconds_per_step: float) -> int:
        engine = SpeechEngine(tiny, EngineConfig(slots=1000, length=256))
        engine.capacity = 4
        steps = 0
        step = engine.step

        def counted() -> list[Event]:
            nonlocal steps
            steps += 1
            return step()

        engine.step = counted  # type: ignore[method-assign]
        return worker.measured_capacity(engine, lambda: seconds_per_step * steps)

    assert found(0.01) == pytest.approx(2 * found(0.02), abs=1)
    assert found(1000.0) == 1


def test_what_comes_while_somebody_speaks_comes_before_their_turn(engine: SpeechEngine) -> None:
    """A tool's result, or an answer that was asked for: the turn is not over, so it goes on behind them."""
    engine.receive(OpenSession("b"))
    first, second = _noise(800), _noise(400, 2)
    engine.receive(Hear("a", first))
    _run(engine)
    for session in "ab":
        engine.receive(AddText(session, "t", "result", "twenty degrees"))
        engine.receive(Respond(session, "r", "x", max_tokens=40))
    engine.receive(Hear("a", second))
    engine.receive(Hear("b", first + second))
    _run(engine)
    for session in "ab":
        engine.receive(CommitTurn(session, "q"))
        engine.receive(Respond(session, "r2", "y", max_tokens=40))
    _run(engine)
    assert [i.item_id for i in _items(engine)] == ["t", "x", "q", "y"]
    assert _tokens(engine, "a") == _tokens(engine, "b") == [t for i in _items(engine) for t in i.tokens]


@pytest.mark.parametrize("full", [False, True], ids=["room", "old items are forgotten meanwhile"])
def test_what_comes_after_a_provisional_end_stays_when_the_turn_goes_on(engine: SpeechEngine, full: bool) -> None:
    first, second = _noise(700), _noise(400, 2)
    engine.receive(AddText("a", "before", "user", "hello"))
    while full and len(_tokens(engine)) < CONFIG.conversation_tokens - 60:
        engine.receive(AddText("a", "more", "user", "hello there"))
    engine.receive(Hear("a", first))
    engine.receive(CommitTurn("a", "q", guess=1))
    _run(engine)
    engine.receive(AddText("a", "t", "user", "hello there " * 4))
    engine.receive(Respond("a", "r", "unsaid", max_tokens=40))
    _run(engine)
    engine.receive(ResumeTurn("a"))
    engine.receive(Hear("a", second))
    _run(engine)
    engine.receive(CommitTurn("a", "q"))
    _run(engine)
    ids = [i.item_id for i in _items(engine)]
    assert ids[-2:] == ["t", "q"]
    assert "unsaid" not in ids
    assert ids.count("q") == 1
    assert ("before" in ids) == (not full)
    heard = engine._sessions["a"].conversation.count(_items(engine)[-1].tokens)[1]
    assert heard == -(-(700 + 400) // 40) + DELAY_TOKENS


def test_an_answer_beside_the_conversation_waits_for_the_turn_before_it(engine: SpeechEngine) -> None:
    engine.receive(OpenSession("b"))
    contexts = []
    for session, waits in (("a", False), ("b", True)):
        engine.receive(Hear(session, _noise(700)))
        engine.receive(CommitTurn(session, "q"))
        if waits:
            _run(engine)
        beside = Respond(session, f"r{session}", "x", speak=False, context=(Context(item_id="q"),), max_tokens=8)
        engine.receive(beside)
        begun = [e.usage for e in _run(engine) if isinstance(e, ResponseBegun)]
        contexts.append([(usage.input_text, usage.input_audio) for usage in begun])
    assert contexts[0] == contexts[1]
    assert contexts[0][0][1] > 0


def test_a_recording_sent_at_once_is_heard_in_pieces(engine: SpeechEngine) -> None:
    engine.receive(Hear("a", _noise(4000)))
    engine.step()
    heard = engine._sessions["a"].ear.frames
    assert 0 < heard < 100
    _run(engine)
    assert engine._sessions["a"].ear.frames == 100


def test_a_recording_sent_at_once_and_an_answer_keep_neither_waiting(engine: SpeechEngine) -> None:
    engine.receive(OpenSession("b"))
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(Respond("a", "r", "x", max_tokens=200))
    _steps(engine, 1)
    engine.receive(Hear("b", _noise(8000)))
    engine.receive(CommitTurn("b", "long"))
    before = len(_tokens(engine))
    _steps(engine, 4)
    assert len(_tokens(engine)) == before + 4
    assert engine._sessions["b"].ear.frames == 100


def test_nobody_is_kept_from_being_read_by_others_who_are_always_urgent(engine: SpeechEngine) -> None:
    now_s = [0.0]
    engine.clock = lambda: now_s[0]
    engine.receive(OpenSession("b"))
    engine.receive(AddText("b", "q", "user", "hello"))
    engine.receive(AddText("a", "long", "user", "hello there " * 40))
    engine.receive(Respond("b", "r", "x", max_tokens=600))
    for _ in range(40):
        now_s[0] += 1.0  # longer than what a step says lasts: its listener has always run dry
        engine.step()
    assert engine._sessions["b"].generating
    assert not engine._sessions["a"].conversation.sequence.pending


@pytest.mark.parametrize("steps", [0, 1, 3, 8])
def test_what_comes_behind_a_request_for_an_answer_comes_behind_the_answer(engine: SpeechEngine, steps: int) -> None:
    engine.receive(Hear("a", _noise(500)))
    engine.receive(CommitTurn("a", "q1"))
    engine.receive(Respond("a", "r1", "x1", max_tokens=30))
    _steps(engine, steps)
    engine.receive(AddText("a", "t", "user", "hello"))
    engine.receive(Hear("a", _noise(500, 2)))
    engine.receive(CommitTurn("a", "q2"))
    engine.receive(Respond("a", "r2", "x2", max_tokens=30))
    _run(engine)
    assert [i.item_id for i in _items(engine)] == ["q1", "x1", "t", "q2", "x2"]
    assert _tokens(engine) == [t for i in _items(engine) for t in i.tokens]


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_provisional_end_behind_another_turn_is_confirmed_or_taken_back(engine: SpeechEngine, goes_on: bool) -> None:
    engine.receive(OpenSession("b"))
    for session in "ab":
        engine.receive(Hear(session, _noise(500)))
        engine.receive(CommitTurn(session, "q1"))
        engine.receive(Respond(session, "r1", "x1", max_tokens=30))
        engine.receive(Hear(session, _noise(500, 2)))
    engine.receive(CommitTurn("a", "q2", guess=1))
    engine.receive(Respond("a", "r2", "x2", max_tokens=30))
    if goes_on:
        engine.receive(ResumeTurn("a"))
        for session in "ab":
            engine.receive(Hear(session, _noise(500, 3)))
        engine.receive(CommitTurn("a", "q2"))
        engine.receive(Respond("a", "r3", "x2", max_tokens=30))
    else:
        engine.receive(ConfirmTurn("a"))
    engine.receive(CommitTurn("b", "q2"))
    engine.receive(Respond("b", "r2", "x2", max_tokens=30))
    _run(engine)
    for session in "ab":
        engine.receive(Hear(session, _noise(300, 4)))
        engine.receive(CommitTurn(session, "q3"))
    _run(engine)
    assert [i.item_id for i in _items(engine)] == ["q1", "x1", "q2", "x2", "q3"]
    assert len(_items(engine, "a")[-1].tokens) > 300 // 40  # what was said then was not kept for a turn that is over
    if goes_on:  # a confirmed provisional end has some more silence in it
        assert _tokens(engine, "a") == _tokens(engine, "b")
