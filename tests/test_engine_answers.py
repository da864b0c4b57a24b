"""The speech engine beyond plain answers, on a small random model: function calls, detached answers, items anywhere."""

import json
from collections.abc import Sequence
from typing import Protocol

import pytest
from llguidance import LLMatcher

from model.checkpoint import SpeechModel
from model.layout import interleave, most_text
from server.engine import call_rule, worker
from server.engine.messages import (
    AddText,
    AudioDelta,
    CallDelta,
    Calls,
    Cancel,
    CloseSession,
    CommitTurn,
    Context,
    Event,
    Function,
    Hear,
    OpenSession,
    Respond,
    ResponseBegun,
    ResponseDone,
    ResumeTurn,
    SessionFailed,
    SetTruncation,
    TextDelta,
)
from server.engine.speech_engine import SpeechEngine
from server.engine.token_engine import TorchTokenEngine
from server.engine.token_interface import Allowed, Sampled, TokenSequence
from server.errors import EngineRestarted
from tests.test_speech_engine import CONFIG, _items, _run, _tokens


@pytest.fixture
def engine(tiny: SpeechModel) -> SpeechEngine:
    made = SpeechEngine(tiny, CONFIG)
    made.receive(OpenSession("a"))
    made.receive(AddText("a", "q", "user", "hello"))
    return made


class Say(Protocol):
    def __call__(self, tokens: list[int], draft: Sequence[int] = ()) -> None: ...


@pytest.fixture
def say(engine: SpeechEngine, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Make the model say these tokens, whatever it thinks, and draft those; they must be allowed."""

    def script(tokens: list[int], draft: Sequence[int] = ()) -> None:
        said, drafted = iter(tokens), iter(draft)

        def sample(sequence: TokenSequence, allowed: Allowed, _logits: object) -> int:
            token = next(said if sequence.slot < CONFIG.slots else drafted)
            assert allowed.start <= token < allowed.stop or token in allowed.also
            return token

        monkeypatch.setattr(engine.tokens, "_sample", sample)

    return script


def _call(engine: SpeechEngine, text: str) -> list[int]:
    layout = engine.model.layout
    return [layout.control("<call>"), *engine.model.text.encode(text), layout.control("<end>")]


def _kinds(events: list[Event]) -> list[str]:
    return [type(e).__name__ for e in events]


LIGHT = Function("set_light", '{"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}')


def _arguments(events: list[Event]) -> str:
    return "".join(e.arguments for e in events if isinstance(e, CallDelta))


def test_functions_are_compiled_once_and_each_answer_follows_them_by_itself(
    tiny: SpeechModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(call_rule, "LLMatcher", lambda pieces, text: compiled.append(text) or LLMatcher(pieces, text))
    grammar = call_rule.CallGrammar(tiny.text, tiny.layout)
    one, other = grammar.rule((LIGHT,), 50), grammar.rule((LIGHT,), 50)
    first = other.allowed()
    for _ in range(3):
        one.accept(one.allowed().start)
    assert len(compiled) == 1
    assert (other.allowed().start, other.allowed().also) == (first.start, first.also)


def test_the_model_may_call_a_function_instead_of_answering(engine: SpeechEngine, say: Say) -> None:
    said = _call(engine, 'set_light {"on": true}')
    say(said)
    engine.receive(Respond("a", "r", "x", calls=Calls((LIGHT,))))
    events = _run(engine)
    kinds = _kinds(events)
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == ("ResponseBegun", {"CallDelta"}, "ResponseDone")
    assert len(kinds) > 4  # piece by piece
    assert {e.name for e in events if isinstance(e, CallDelta)} == {"set_light"}
    assert _arguments(events) == '{"on": true}'
    assert _tokens(engine)[-len(said) :] == said
    engine.receive(AddText("a", "out", "result", '{"ok": true}'))
    assert engine.model.layout.control("<result>") in _tokens(engine)


NAMES = ("Ada", 'the "big" one', "")


@pytest.mark.parametrize("seed", range(5))
def test_whatever_the_model_is_inclined_to_its_call_fits_the_schema(engine: SpeechEngine, seed: int) -> None:
    schema = {
        "type": "object",
        "properties": {
            "name": {"enum": NAMES},
            "level": {"type": "integer", "minimum": 1, "maximum": 99},
            "on": {"type": "boolean"},
            "days": {"type": "array", "items": {"enum": ["mon", "tue"]}, "minItems": 1, "maxItems": 2},
        },
        "required": ["name", "level", "on", "days"],
    }
    functions = (Function("paint", json.dumps(schema)), Function("halt"))
    engine.receive(Respond("a", "r", "x", calls=Calls(functions, required=True), temperature=1.5, seed=seed))
    events = _run(engine)
    done = events[-1]
    assert isinstance(done, ResponseDone)
    assert done.status == "completed"
    [name] = {e.name for e in events if isinstance(e, CallDelta)}
    arguments = json.loads(_arguments(events))
    if name == "halt":
        assert arguments == {}
        return
    assert name == "paint"
    assert list(arguments) == ["name", "level", "on", "days"]
    assert arguments["name"] in NAMES
    assert arguments["level"] in range(1, 100)
    assert isinstance(arguments["on"], bool)
    assert set(arguments["days"]) <= {"mon", "tue"}


def _thoughtful(engine: SpeechEngine) -> list[int]:
    layout, text = engine.model.layout, engine.model.text
    thought = [layout.control("<thought>"), *text.encode("secret"), layout.control("<answer>")]
    return [*thought, *text.encode("hello"), layout.control("<end>")]


def test_a_thought_is_neither_written_nor_said_but_counted(engine: SpeechEngine, say: Say) -> None:
    said = _thoughtful(engine)
    say(said)
    engine.receive(Respond("a", "r", "x", speak=False))
    events = _run(engine)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "hello"
    done = events[-1]
    assert isinstance(done, ResponseDone)
    assert done.usage.output_text == len(said)
    assert done.usage.untold == len(engine.model.text.encode("secret")) + 2
    assert 0 < done.timings_ms["thought"] <= done.timings_ms["done"]
    assert _tokens(engine)[-len(said) :] == said


def test_an_answer_that_is_cut_off_in_its_thought_says_nothing(engine: SpeechEngine, say: Say) -> None:
    say(_thoughtful(engine))
    engine.receive(Respond("a", "r", "x", max_tokens=3, speak=False))
    events = _run(engine)
    assert not [e for e in events if isinstance(e, TextDelta | AudioDelta)]
    done = events[-1]
    assert isinstance(done, ResponseDone)
    assert done.status == "incomplete"
    assert done.usage.output_text == done.usage.untold == 3
    # What may come after half a thought nobody learnt.
    assert engine.model.layout.control("<thought>") not in _tokens(engine)
    assert _tokens(engine)[-1] == engine.model.layout.control("<end>")


def test_an_answer_cancelled_in_its_thought_leaves_none_of_it(engine: SpeechEngine, say: Say) -> None:
    layout, before = engine.model.layout, _tokens(engine)
    say([], draft=_thoughtful(engine))
    engine.receive(Respond("a", "r", "x"))
    for _ in range(4):
        engine.step()
    engine.receive(Cancel("a", "r"))
    assert _tokens(engine) == [*before, *map(layout.control, ("<assistant>", "<speech>", "<end>"))]
    [done] = [e for e in engine.step() if isinstance(e, ResponseDone)]
    assert done.usage.untold > 0
    assert not engine.has_work


def test_a_spoken_answer_is_drafted_in_text_and_then_said_word_for_word(engine: SpeechEngine, say: Say) -> None:
    layout, before = engine.model.layout, _tokens(engine)
    pieces = engine.model.text.encode("hello there")
    thought = _thoughtful(engine)
    draft = [*thought[: thought.index(layout.control("<answer>")) + 1], *pieces, layout.control("<end>")]
    said = interleave(layout, pieces, list(range(40)))
    assert said is not None
    say(said, draft)
    engine.receive(Respond("a", "r", "x"))
    events = _run(engine)
    assert _tokens(engine) == [*before, *map(layout.control, ("<assistant>", "<speech>")), *said]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "hello there"
    assert sum(len(e.pcm) for e in events if isinstance(e, AudioDelta)) >= 2 * 960 * 40
    done = events[-1]
    assert isinstance(done, ResponseDone)
    assert done.usage.untold == len(draft)
    assert done.usage.output_text == len(draft) + len(pieces) + 2  # `<text_end>` and `<end>`
    assert done.timings_ms["thought"] <= done.timings_ms["drafted"]
    assert done.timings_ms["thought"] <= done.timings_ms["first_code"]


def test_a_long_answer_is_said_before_all_of_it_is_written(engine: SpeechEngine, say: Say) -> None:
    layout = engine.model.layout
    pieces = [20 + i % 7 for i in range(40)]
    said = interleave(layout, pieces, list(range(120)))
    assert said is not None
    say(said, [*pieces, layout.control("<end>")])
    engine.receive(Respond("a", "r", "x"))
    done = _run(engine)[-1]
    assert isinstance(done, ResponseDone)
    assert done.timings_ms["first_code"] < done.timings_ms["drafted"]
    assert _tokens(engine)[-len(said) :] == said


@pytest.mark.parametrize("end", ["cancel", "close", "resume", "restart"])
@pytest.mark.parametrize("steps", [0, 1, 5])
def test_a_draft_ends_with_its_answer(
    engine: SpeechEngine, monkeypatch: pytest.MonkeyPatch, end: str, steps: int
) -> None:
    for command in (Hear("a", bytes(12_800)), CommitTurn("a", "said", guess=1), Respond("a", "r", "x", max_tokens=300)):
        engine.receive(command)
    session = engine._sessions["a"]
    while session.answer is None or (session.answer.draft is None and steps):
        engine.step()
    for _ in range(steps):
        engine.step()
    tokens = engine.tokens
    assert isinstance(tokens, TorchTokenEngine)
    assert len(tokens._open) == 1 + (session.answer.draft is not None)
    if end == "restart":

        def died(_served: object) -> list[Sampled]:
            raise EngineRestarted("died")

        with monkeypatch.context() as patch:
            patch.setattr(tokens, "step", died)
            engine.step()
    else:
        engine.receive({"cancel": Cancel("a", "r"), "close": CloseSession("a"), "resume": ResumeTurn("a")}[end])
    assert len(tokens._open) == (end != "close")
    _run(engine)
    assert not engine.has_work


@pytest.mark.parametrize("max_tokens", [1, 4, 5, 12, 13, 30])
def test_of_an_answer_that_may_not_be_long_no_more_is_written_than_is_said(
    engine: SpeechEngine, say: Say, max_tokens: int
) -> None:
    said = interleave(engine.model.layout, [20 + i for i in range(20)], list(range(100)))
    assert said is not None
    say(said, [20 + i for i in range(20)])
    engine.receive(Respond("a", "r", "x", max_tokens=max_tokens))
    done = _run(engine)[-1]
    assert isinstance(done, ResponseDone)
    assert done.status == "incomplete"
    assert done.usage.untold == done.usage.output_text - done.usage.untold == most_text(max_tokens)
    assert done.usage.output_text - done.usage.untold + done.usage.output_audio == max_tokens


def test_the_question_stays_when_its_answer_is_chosen_and_drafted(engine: SpeechEngine, say: Say) -> None:
    engine.receive(SetTruncation("a", 0.1, 12))
    say([engine.model.layout.control("<text>"), *[20] * 4], [20] * 4)
    engine.receive(AddText("a", "q2", "user", "hello there"))
    engine.receive(Respond("a", "r", "x", calls=Calls((LIGHT,)), max_tokens=4))
    session = engine._sessions["a"]
    while session.answer is None or session.answer.draft is None:
        engine.step()
    question = engine.model.text.encode("hello there")
    assert str(question)[1:-1] in str(session.answer.draft.sequence.tokens)


def test_an_answer_that_is_chosen_among_functions_is_drafted(engine: SpeechEngine, say: Say) -> None:
    layout, before = engine.model.layout, _tokens(engine)
    pieces = engine.model.text.encode("hello there")
    said = interleave(layout, pieces, list(range(40)))
    assert said is not None
    say([layout.control("<text>"), *said], [*pieces, layout.control("<end>")])
    engine.receive(Respond("a", "r", "x", calls=Calls((LIGHT,))))
    events = _run(engine)
    assert _tokens(engine) == [*before, *map(layout.control, ("<assistant>", "<speech>")), *said]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "hello there"


def test_an_answer_beside_one_that_is_drafted_sees_only_what_was_said_of_it(engine: SpeechEngine, say: Say) -> None:
    layout = engine.model.layout
    say([20, 21], [20, 21, 22])
    engine.receive(Respond("a", "r", "x"))
    for _ in range(3):
        engine.step()
    engine.receive(Respond("a", "out", "y", speak=False, max_tokens=2, context=(Context(item_id="x"),)))
    [copied] = [i for i in engine._sessions["out"].conversation.items if i.item_id == "x"]
    assert copied.tokens[:2] == [layout.control("<assistant>"), layout.control("<speech>")]
    assert copied.tokens[2:] in ([20, layout.control("<end>")], [20, 21, layout.control("<end>")])


def test_an_answer_cancelled_while_it_is_drafted_leaves_nothing_unsaid(engine: SpeechEngine, say: Say) -> None:
    layout, before = engine.model.layout, _tokens(engine)
    say([], [20, 21, 22, 23])
    engine.receive(Respond("a", "r", "x"))
    engine.step()
    engine.receive(Cancel("a", "r"))
    assert _tokens(engine) == [*before, *map(layout.control, ("<assistant>", "<speech>", "<end>"))]


def test_a_call_that_is_cut_off_is_incomplete(engine: SpeechEngine, say: Say) -> None:
    say(_call(engine, 'set_light {"on": true}'))
    engine.receive(Respond("a", "r", "x", calls=Calls((LIGHT,)), max_tokens=9))
    events = _run(engine)
    done = events[-1]
    assert isinstance(done, ResponseDone)
    assert done.status == "incomplete"
    assert '{"on": true}'.startswith(_arguments(events))


def test_the_model_may_answer_although_there_are_functions(engine: SpeechEngine, say: Say) -> None:
    layout = engine.model.layout
    say([layout.control("<text>"), *engine.model.text.encode("few words"), layout.control("<end>")])
    engine.receive(Respond("a", "r", "x", speak=False, calls=Calls((LIGHT,))))
    assert "".join(e.text for e in _run(engine) if isinstance(e, TextDelta)) == "few words"


def test_a_detached_answer_sees_the_conversation_and_leaves_it_as_it_was(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "q2", "user", "there"))
    before = _tokens(engine)
    engine.receive(Respond("a", "in", "x", speak=False, max_tokens=8))
    engine.receive(Respond("a", "out", "y", speak=False, max_tokens=8, context=(Context(item_id="q"),)))
    events = _run(engine)
    assert {e.response_id for e in events if isinstance(e, ResponseDone)} == {"in", "out"}
    assert all(e.session_id == "a" for e in events)
    assert [i.item_id for i in _items(engine)] == ["q", "q2", "x"]
    assert _tokens(engine)[: len(before)] == before
    assert list(engine._sessions) == ["a"]


def test_a_detached_answer_about_the_same_items_says_the_same(engine: SpeechEngine) -> None:
    def words(events: list[Event], response_id: str) -> str:
        return "".join(e.text for e in events if isinstance(e, TextDelta) and e.response_id == response_id)

    context = (Context("user", "hello"),)
    engine.receive(Respond("a", "out", "y", speak=False, max_tokens=12, context=context))
    engine.receive(Respond("a", "in", "x", speak=False, max_tokens=12))
    events = _run(engine)
    assert words(events, "in") == words(events, "out") != ""


def test_a_detached_answer_without_a_free_place_fails_alone(engine: SpeechEngine) -> None:
    for name in "bc":
        engine.receive(OpenSession(name))
    engine.receive(Respond("a", "out", "y", context=()))
    [done] = [e for e in engine.step() if isinstance(e, ResponseDone)]
    assert (done.response_id, done.status) == ("out", "failed")


def test_detached_answers_end_with_a_cancel_and_with_their_session(engine: SpeechEngine) -> None:
    for name in ("one", "two"):
        engine.receive(Respond("a", name, name, context=()))
    engine.step()
    engine.receive(Cancel("a", "one"))
    assert [e.status for e in engine.step() if isinstance(e, ResponseDone)] == ["cancelled"]
    assert list(engine._sessions) == ["a", "two"]
    engine.receive(CloseSession("a"))
    assert not engine._sessions
    assert not engine.has_work


def test_items_are_inserted_where_they_belong(engine: SpeechEngine) -> None:
    engine.receive(AddText("a", "last", "user", "there"))
    engine.receive(AddText("a", "middle", "user", "words", after="q"))
    engine.receive(AddText("a", "first", "user", "few", after=""))
    assert [i.item_id for i in _items(engine)] == ["first", "q", "middle", "last"]
    assert _tokens(engine) == [t for i in _items(engine) for t in i.tokens]


def test_without_truncation_a_conversation_too_long_fails_its_answer(engine: SpeechEngine) -> None:
    engine.receive(SetTruncation("a", None, 60))
    for number in range(8):
        engine.receive(AddText("a", f"q{number}", "user", "hello there"))
    engine.receive(Respond("a", "r", "x"))
    done = _run(engine)[-1]
    assert isinstance(done, ResponseDone)
    assert (done.status, "truncation is disabled" in (done.error or "")) == ("failed", True)


def test_truncation_keeps_the_share_that_was_asked_for(engine: SpeechEngine) -> None:
    engine.receive(SetTruncation("a", 0.5, 60))
    for number in range(8):
        engine.receive(AddText("a", f"q{number}", "user", "hello there"))
        assert len(_tokens(engine)) <= 60
    assert _items(engine)[-1].item_id == "q7"


def test_a_step_that_breaks_loses_the_sessions_and_not_the_engine(
    engine: SpeechEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_think", broken)
        failed = worker.step(engine)
    assert [(e.session_id, e.fatal) for e in failed if isinstance(e, SessionFailed)] == [("a", True)]
    engine.receive(OpenSession("b"))
    engine.receive(AddText("b", "q", "user", "hello"))
    engine.receive(Respond("b", "r", "x", max_tokens=5))
    assert _kinds(_run(engine))[-1] == "ResponseDone"


def test_what_an_answer_reads_is_counted_when_it_begins(engine: SpeechEngine) -> None:
    engine.receive(Respond("a", "r", "x", max_tokens=5))
    [begun] = [e for e in engine.step() if isinstance(e, ResponseBegun)]
    [done] = [e for e in _run(engine) if isinstance(e, ResponseDone)]
    assert begun.usage.input_text == done.usage.input_text > 0


@pytest.mark.parametrize("speed", [0.5, 1.0, 1.4])
def test_an_answer_at_another_speed_is_as_much_shorter(engine: SpeechEngine, speed: float) -> None:
    engine.receive(Respond("a", "r", "x", max_tokens=60, speed=speed))
    events = _run(engine)
    [done] = [e for e in events if isinstance(e, ResponseDone)]
    samples = sum(len(e.pcm) // 2 for e in events if isinstance(e, AudioDelta))
    assert samples == round(done.usage.output_audio * 960 / speed)
