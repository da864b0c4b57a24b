"""What does not fit into the model's context is refused by itself, and an answer always finds room."""

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import SpeechModel
from model.text_tokenizer import TextTokenizer
from server.engine import worker
from server.engine.messages import (
    AddText,
    Calls,
    CommitTurn,
    Context,
    DeleteItem,
    Function,
    Hear,
    OpenSession,
    Respond,
    ResponseBegun,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    SetTruncation,
    TranscriptDone,
)
from server.engine.speech_engine import SpeechEngine
from server.errors import ClientError
from server.functions import functions
from server.instructions import InstructionsLimit
from server.session_config import FunctionTool, read_by_model
from tests.test_speech_engine import CONFIG, _items, _run, _tokens

_MOST = CONFIG.conversation_tokens
_LONG = "hello there " * _MOST


@pytest.fixture
def engine(tiny: SpeechModel) -> SpeechEngine:
    made = SpeechEngine(tiny, CONFIG)
    for name in "ab":
        made.receive(OpenSession(name))
    return made


def _noise(seconds: float) -> bytes:
    return np.random.default_rng(0).integers(-3000, 3000, int(16_000 * seconds)).astype(np.int16).tobytes()


def _failures(events: list[object]) -> list[tuple[str, str, bool]]:
    return [(e.session_id, e.code, e.fatal) for e in events if isinstance(e, SessionFailed)]


def _answers(engine: SpeechEngine, name: str) -> bool:
    """Whether a session still hears and answers."""
    engine.receive(Hear(name, _noise(0.4)))
    engine.receive(CommitTurn(name, f"{name} next"))
    engine.receive(Respond(name, f"{name} answer", f"{name} said", max_tokens=8))
    events = _run(engine)
    return any(isinstance(e, TranscriptDone) for e in events) and any(isinstance(e, ResponseDone) for e in events)


def test_a_turn_too_long_is_forgotten_and_nobody_else_is_harmed(engine: SpeechEngine) -> None:
    engine.receive(AddText("b", "q", "user", "hello"))
    engine.receive(Hear("a", _noise(0.04 * _MOST + 2)))
    events = []
    while engine.has_work:
        events += worker.step(engine)
    assert _failures(events) == [("a", "context_length_exceeded", False)]
    assert [i.item_id for i in _items(engine, "b")] == ["q"]
    assert _answers(engine, "a")
    assert _answers(engine, "b")


@pytest.mark.parametrize("tools", [0, 3])
def test_the_gateway_counts_instructions_as_the_engine_does(engine: SpeechEngine, tiny_dir: Path, tools: int) -> None:
    limit = InstructionsLimit(tiny_dir, engine.config)
    declared = [FunctionTool(type="function", name=f"f{i}", description="It does.") for i in range(tools)]
    refused = []
    for words in range(1, 2 * engine.config.instruction_tokens, 3):
        text = "hello " * words
        engine.receive(SetInstructions("a", read_by_model(text, declared)))
        too_long = _failures(engine.step()) != []
        refused.append(too_long)
        with (
            pytest.raises(ClientError, match="instructions and tools of at most")
            if too_long
            else contextlib.nullcontext()
        ):
            limit.room_ms(text, declared)
    assert {True, False} <= set(refused)
    with pytest.raises(ClientError, match=f"at most {limit.tokens} tokens"):
        limit.room_ms("hello " * 10_000_000, [])


def test_a_turn_for_which_the_gateway_sees_room_fits_beside_any_instructions(
    engine: SpeechEngine, tiny_dir: Path
) -> None:
    limit = InstructionsLimit(tiny_dir, engine.config)
    for words in (0, 10, limit.tokens // 4):
        text = "hello " * words
        engine.receive(SetInstructions("a", text))
        room_ms = limit.room_ms(text, [])
        engine.receive(Hear("a", _noise(room_ms / 1000)))
        engine.receive(CommitTurn("a", f"turn {words}"))
        assert _failures(_run(engine)) == []
        engine.receive(Hear("a", _noise(room_ms / 1000 + 2)))
        engine.receive(CommitTurn("a", f"too long {words}"))
        events = _run(engine)
        assert [e.code for e in events if isinstance(e, SessionFailed)] == ["context_length_exceeded"]
        engine.receive(DeleteItem("a", f"too long {words}"))


def test_a_text_of_megabytes_is_not_even_encoded(engine: SpeechEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = TextTokenizer.encode
    monkeypatch.setattr(TextTokenizer, "encode", lambda self, text: encoded.append(len(text)) or encode(self, text))
    engine.receive(AddText("a", "q", "user", "a" * 10_000_000))
    engine.receive(Respond("a", "r", "x", instructions="a" * 10_000_000))
    events = _run(engine)
    assert max(encoded, default=0) < 1_000_000
    assert [e.code for e in events if isinstance(e, SessionFailed)] == ["context_length_exceeded"]
    assert [(e.status, e.code) for e in events if isinstance(e, ResponseDone)] == [
        ("failed", "context_length_exceeded")
    ]


def test_instructions_too_long_leave_those_before(engine: SpeechEngine) -> None:
    engine.receive(SetInstructions("a", "Be brief."))
    before = _tokens(engine)
    engine.receive(SetInstructions("a", _LONG))
    assert _failures(engine.step()) == [("a", "context_length_exceeded", False)]
    assert _tokens(engine) == before
    assert _answers(engine, "a")


def test_instructions_too_long_for_one_answer_fail_it_alone(engine: SpeechEngine) -> None:
    engine.receive(SetInstructions("a", "Be brief."))
    engine.receive(AddText("a", "q", "user", "hello"))
    before = _tokens(engine)
    engine.receive(Respond("a", "r", "x", instructions=_LONG))
    [done] = [e for e in _run(engine) if isinstance(e, ResponseDone)]
    assert (done.status, "tokens" in (done.error or "")) == ("failed", True)
    assert _tokens(engine) == before
    assert _answers(engine, "a")


def test_a_text_too_long_is_not_added(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(AddText("a", "long", "user", _LONG))
    events = engine.step()
    assert _failures(events) == [("a", "context_length_exceeded", False)]
    assert [e.item_id for e in events if isinstance(e, SessionFailed)] == ["long"]
    assert [i.item_id for i in _items(engine)] == ["q"]
    assert _answers(engine, "a")


def test_a_text_too_long_for_an_answer_beside_fails_it_and_gives_its_place_back(engine: SpeechEngine) -> None:
    for number in range(CONFIG.slots + 1):
        engine.receive(Respond("a", f"r{number}", "x", context=(Context(role="user", text=_LONG),)))
        [done] = [e for e in engine.step() if isinstance(e, ResponseDone)]
        assert (done.status, "tokens" in (done.error or "")) == ("failed", True)
    assert _answers(engine, "a")


def test_a_full_conversation_forgets_enough_for_an_answer(engine: SpeechEngine) -> None:
    read = []
    for number in range(60):
        engine.receive(AddText("a", f"q{number}", "user", "hello there " * 6))
        engine.receive(Respond("a", f"r{number}", f"x{number}", max_tokens=12))
        read += [e.usage.input_text + e.usage.input_audio for e in _run(engine) if isinstance(e, ResponseBegun)]
    assert max(read) > _MOST * 0.8  # it was full
    assert max(read) <= _MOST


def test_what_comes_behind_a_turn_stays_behind_it(engine: SpeechEngine) -> None:
    """All at once, as a client does that gives a conversation back."""
    engine.receive(Hear("a", _noise(0.5)))
    engine.receive(CommitTurn("a", "first"))
    engine.receive(AddText("a", "second", "assistant", "hello"))
    engine.receive(Hear("a", _noise(0.5)))
    engine.receive(CommitTurn("a", "third"))
    engine.receive(AddText("a", "fourth", "assistant", "there"))
    engine.receive(Respond("a", "r", "fifth", max_tokens=8))
    _run(engine)
    assert [i.item_id for i in _items(engine)] == ["first", "second", "third", "fourth", "fifth"]
    assert _tokens(engine) == [t for i in _items(engine) for t in i.tokens]


def test_the_question_stays_when_its_answer_begins(engine: SpeechEngine) -> None:
    engine.receive(SetInstructions("a", "be brief"))
    engine.receive(Hear("a", _noise(0.04 * (_MOST - 40))))
    engine.receive(CommitTurn("a", "q"))
    _run(engine)
    engine.receive(Respond("a", "r", "x", max_tokens=8))
    begun = [e.usage for e in _run(engine) if isinstance(e, ResponseBegun)]
    assert [usage.input_audio > _MOST - 60 for usage in begun] == [True]


def test_a_conversation_that_must_not_forget_fails_its_answer(engine: SpeechEngine) -> None:
    """With the limit that the model has."""
    engine.receive(SetTruncation("a", None, None))
    for number in range(200):
        engine.receive(AddText("a", f"q{number}", "user", "hello there " * 4))
    events = engine.step()
    kept = [i.item_id for i in _items(engine)]
    refused = 200 - len(kept)
    assert kept == [f"q{number}" for number in range(len(kept))]
    assert _failures(events) == [("a", "context_length_exceeded", False)] * refused
    assert refused
    engine.receive(SetInstructions("a", "be brief"))
    engine.receive(Respond("a", "r", "x", instructions="be loud"))
    [done] = [e for e in _run(engine) if isinstance(e, ResponseDone)]
    assert (done.status, "truncation is disabled" in (done.error or "")) == ("failed", True)
    assert [i.item_id for i in _items(engine)] == kept
    engine.receive(Hear("a", _noise(0.4)))  # what is said finds no room, and nobody else is harmed
    engine.receive(CommitTurn("a", "said"))
    _run(engine)
    for number in range(100):
        engine.receive(DeleteItem("a", f"q{number}"))
    engine.receive(Respond("a", "r", "x", max_tokens=8))
    [done] = [e for e in _run(engine) if isinstance(e, ResponseDone)]
    assert done.status != "failed"
    brief = engine.model.text.encode("be brief")
    assert _tokens(engine)[1 : 1 + len(brief)] == brief
    assert _answers(engine, "b")


def test_an_answer_up_to_the_end_of_the_context_harms_nobody(engine: SpeechEngine) -> None:
    engine.receive(SetTruncation("a", None, None))
    while len(_tokens(engine)) < _MOST - 20:
        engine.receive(AddText("a", "q", "user", "hello there"))
    engine.receive(Respond("a", "r", "x"))
    events = _run_worker(engine)
    assert [e.status for e in events if isinstance(e, ResponseDone)] == ["incomplete"]
    assert _failures(events) == []
    assert len(_tokens(engine)) == CONFIG.length - CONFIG.prefill_tokens
    assert _tokens(engine)[-1] == engine.model.layout.control("<end>")
    assert _answers(engine, "b")


def test_a_turn_that_fits_is_heard_where_nothing_is_forgotten(engine: SpeechEngine) -> None:
    engine.receive(SetTruncation("a", None, None))
    for _ in range(20):
        engine.receive(Hear("a", _noise(0.04 * (_MOST - 40) / 20)))
        events = _run(engine)
    engine.receive(CommitTurn("a", "q"))
    events += _run(engine)
    assert _failures(events) == []
    assert [i.item_id for i in _items(engine)] == ["q"]


def test_a_limit_is_one_of_items_alone(engine: SpeechEngine) -> None:
    engine.receive(SetInstructions("a", "be brief and clear " * 20))
    engine.receive(SetTruncation("a", 0.8, 60))
    for number in range(40):
        engine.receive(AddText("a", f"q{number}", "user", "hello there"))
    engine.step()
    assert 30 < sum(len(i.tokens) for i in _items(engine)) <= 60


def test_an_answer_leaves_room_for_the_instructions_it_does_without(tiny: SpeechModel) -> None:
    engine = SpeechEngine(tiny, CONFIG)
    engine.receive(OpenSession("a"))
    long = "hello"
    while len(engine.model.text.encode(long)) < _MOST // 2 - 20:
        long += " there"
    engine.receive(SetInstructions("a", long))
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.limit = CONFIG.length
    engine.receive(Respond("a", "r", "x", instructions="be brief"))
    events = _run_worker(engine)
    assert [e.status for e in events if isinstance(e, ResponseDone)] == ["incomplete"]
    assert _failures(events) == []
    assert engine.model.text.encode(long) == _tokens(engine)[1 : 1 + len(engine.model.text.encode(long))]


def test_tools_that_are_too_much_together_fail_their_answer_alone(engine: SpeechEngine) -> None:
    words = [f"word {number}" for number in range(3000)]
    schema = json.dumps({"type": "object", "properties": {"word": {"enum": words}}, "required": ["word"]})
    tools = tuple(Function(f"tool{number}", schema) for number in range(30))
    engine.receive(AddText("a", "q", "user", "hello"))
    engine.receive(Respond("a", "r", "x", calls=Calls(tools, required=True)))
    events = _run_worker(engine)
    assert [(e.status, "together" in (e.error or "")) for e in events if isinstance(e, ResponseDone)] == [
        ("failed", True)
    ]
    assert _failures(events) == []
    assert _answers(engine, "a")
    assert _answers(engine, "b")


def test_a_call_that_no_arguments_fit_is_not_completed(engine: SpeechEngine) -> None:
    deeper = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["next"]}
    endless = deeper | {"$defs": {"node": deeper}}
    assert functions([("walk", endless)], "tools") != ()  # the gateway sees nothing wrong with it
    engine.receive(AddText("a", "q", "user", "hello"))
    calls = Calls((Function("walk", json.dumps(endless)),), required=True)
    engine.receive(Respond("a", "r", "x", calls=calls))
    events = _run_worker(engine)
    assert [(e.status, e.error) for e in events if isinstance(e, ResponseDone)] == [
        ("failed", "expected a schema that some arguments fit, found none that do")
    ]
    assert _failures(events) == []


def _run_worker(engine: SpeechEngine) -> list[object]:
    events: list[object] = []
    while engine.has_work:
        events += worker.step(engine)
    return events
