"""The session's state machine beyond plain turns: function calls, answers beside the conversation, items anywhere."""

import base64
import json
from typing import Any

import pytest

from server.config import LIMITS
from server.engine.messages import (
    AddText,
    AudioDelta,
    CallDelta,
    Calls,
    Cancel,
    CommitTurn,
    Context,
    DropTurn,
    Function,
    Hear,
    Respond,
    ResponseBegun,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    SetTruncation,
    TextDelta,
    Usage,
)
from tests.test_session import BEGIN, END, LOUD, Driver

LIGHT = {
    "type": "function",
    "name": "set_light",
    "description": "Switch the light of a room.",
    "parameters": {
        "type": "object",
        "properties": {"room": {"type": "string"}, "on": {"type": "boolean"}, "level": {"enum": ["low", "high"]}},
    },
}
SET_LIGHT = Function("set_light", json.dumps(LIGHT["parameters"]))
FLY = Function("fly")


@pytest.fixture
def driver() -> Driver:
    made = Driver()
    made.manual()
    return made


def _text(item_id: str, text: str = "hi", role: str = "user") -> dict[str, Any]:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"id": item_id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def _ids(driver: Driver) -> list[str]:
    return [item.id for item in driver.session._items]


# --- function calls ------------------------------------------------------------------------------------------------


def test_tools_are_read_to_the_model_in_one_line_each(driver: Driver) -> None:
    driver.send("session.update", session={"instructions": "Be kind.", "tools": [LIGHT]})
    assert driver.last(SetInstructions).text == (
        "Be kind. Tools: set_light(room: string, on: boolean, level: low|high) Switch the light of a room."
    )


def test_a_function_call_has_its_own_family_of_events(driver: Driver) -> None:
    driver.send("session.update", session={"tools": [LIGHT]})
    assert driver.send("response.create") == ["response.created", "rate_limits.updated"]
    ask = driver.last(Respond)
    assert ask.calls == Calls((SET_LIGHT,))
    assert driver.engine(CallDelta("sess_1", ask.response_id, "set_light", '{"on": ')) == [
        "response.output_item.added",
        "conversation.item.added",
        "response.function_call_arguments.delta",
    ]
    assert driver.engine(CallDelta("sess_1", ask.response_id, "set_light", "true}")) == [
        "response.function_call_arguments.delta"
    ]
    assert driver.engine(ResponseDone("sess_1", ask.response_id, "completed", Usage(1, 2, 0, 0, 3, 0))) == [
        "response.function_call_arguments.done",
        "conversation.item.done",
        "response.output_item.done",
        "response.done",
    ]
    done = driver.event("response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("set_light", '{"on": true}')
    [call] = driver.event("response.done")["response"]["output"]
    assert (call["type"], call["call_id"], call["status"]) == ("function_call", done["call_id"], "completed")


def test_with_tools_an_answer_opens_when_the_model_has_chosen_it(driver: Driver) -> None:
    driver.send("session.update", session={"tools": [LIGHT]})
    begun = driver.send("response.create")
    kinds = driver.answer()
    assert begun + kinds[: len(BEGIN) - len(begun)] == BEGIN
    assert kinds[-len(END) :] == END


def test_the_result_of_a_call_goes_to_the_model(driver: Driver) -> None:
    result = {"type": "function_call_output", "call_id": "call_1", "output": '{"ok": true}'}
    driver.send("conversation.item.create", item=result)
    assert (driver.last(AddText).role, driver.last(AddText).text) == ("result", '{"ok": true}')
    call = {"type": "function_call", "call_id": "c", "name": "set_light", "arguments": '{"on": false}'}
    driver.send("conversation.item.create", item=call)
    assert (driver.last(AddText).role, driver.last(AddText).text) == ("call", 'set_light {"on": false}')


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        ("none", None),
        ("auto", Calls((SET_LIGHT, FLY))),
        ("required", Calls((SET_LIGHT, FLY), required=True)),
        ({"type": "function", "name": "fly"}, Calls((FLY,), required=True)),
    ],
)
def test_tool_choice_reaches_the_engine(driver: Driver, choice: Any, calls: Calls | None) -> None:
    fly = {"type": "function", "name": "fly"}
    driver.send("session.update", session={"tools": [LIGHT, fly], "tool_choice": choice})
    driver.send("response.create")
    assert driver.last(Respond).calls == calls


def test_a_tool_whose_parameters_are_no_schema_is_refused(driver: Driver) -> None:
    wrong = LIGHT | {"parameters": {"type": "object", "properties": {"on": {"type": "banana"}}}}
    driver.send("session.update", session={"tools": [LIGHT, wrong]})
    error = driver.event("error")["error"]
    assert (error["code"], error["param"]) == ("invalid_function_parameters", "session.tools[1].parameters")
    assert "banana" in error["message"]


def test_a_call_must_be_possible_where_one_is_required(driver: Driver) -> None:
    driver.send("response.create", response={"tool_choice": "required"})
    assert driver.event("error")["error"]["param"] == "tool_choice"


def test_a_choice_that_is_no_tool_is_refused(driver: Driver) -> None:
    driver.send("response.create", response={"tool_choice": {"type": "function", "name": "fly"}})
    assert driver.event("error")["error"]["param"] == "tool_choice.name"
    assert not any(isinstance(c, Respond) for c in driver.commands)


def test_tools_of_one_answer_hold_for_it_alone(driver: Driver) -> None:
    driver.send("response.create", response={"tools": [LIGHT], "instructions": "Switch!"})
    assert driver.last(Respond).instructions.startswith("Switch! Tools: set_light(")
    assert driver.event("session.updated")["session"]["tools"] == []


# --- beside the conversation ---------------------------------------------------------------------------------------


def test_a_detached_answer_runs_beside_another_and_leaves_no_item(driver: Driver) -> None:
    driver.send("conversation.item.create", item=_text("one"))
    driver.send("response.create")
    inside = driver.last(Respond)
    kinds = driver.send("response.create", response={"conversation": "none", "metadata": {"topic": "x"}})
    beside = driver.last(Respond)
    assert kinds == [k for k in BEGIN if k != "conversation.item.added"]
    assert driver.event("response.created")["response"]["conversation_id"] is None
    assert driver.event("response.created")["response"]["metadata"] == {"topic": "x"}
    assert beside.context == (Context(item_id="one"), Context(item_id=inside.item_id))
    driver.answer()
    assert driver.event("response.done")["response"]["id"] == beside.response_id
    assert beside.item_id not in _ids(driver)
    driver.engine(ResponseDone("sess_1", inside.response_id, "completed", Usage(1, 2, 0, 0, 3, 4)))
    assert driver.event("response.done")["response"]["id"] == inside.response_id


def test_a_detached_answer_may_have_its_own_input(driver: Driver) -> None:
    driver.send("conversation.item.create", item=_text("one"))
    given = [_text("x", "Is it so?"), {"type": "item_reference", "id": "one"}]
    driver.send("response.create", response={"conversation": "none", "input": given})
    assert driver.last(Respond).context == (Context("user", "Is it so?"), Context(item_id="one"))
    driver.send("response.create", response={"conversation": "none", "input": []})
    assert driver.last(Respond).context == ()


def test_a_detached_answer_is_cancelled_by_its_id(driver: Driver) -> None:
    driver.send("response.create", response={"conversation": "none"})
    ask = driver.last(Respond)
    driver.send("response.cancel", response_id=ask.response_id)
    assert driver.last(Cancel).response_id == ask.response_id
    assert driver.event("response.done")["response"]["status"] == "cancelled"


# --- items anywhere ------------------------------------------------------------------------------------------------


def test_items_are_inserted_where_the_client_wants_them(driver: Driver) -> None:
    for item_id, previous in (("a", None), ("c", None), ("b", "a"), ("first", "root")):
        driver.send("conversation.item.create", item=_text(item_id), previous_item_id=previous)
    assert _ids(driver) == ["first", "a", "b", "c"]
    assert [c.after for c in driver.commands if isinstance(c, AddText)] == [None, None, "a", ""]
    assert driver.event("conversation.item.added")["previous_item_id"] is None


def test_a_place_behind_an_unknown_item_is_refused(driver: Driver) -> None:
    driver.send("conversation.item.create", item=_text("a"), previous_item_id="nobody")
    assert driver.event("error")["error"]["param"] == "previous_item_id"
    assert _ids(driver) == []


def test_an_item_of_audio_is_heard(driver: Driver) -> None:
    sound = base64.b64encode(bytes(48 * 300)).decode()
    item = {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": sound}]}
    driver.send("conversation.item.create", item=item)
    assert len(driver.last(Hear).pcm) == pytest.approx(32 * 300, abs=64)
    added = driver.event("conversation.item.added")["item"]
    assert driver.last(CommitTurn).item_id == added["id"]
    assert added["content"] == [{"type": "input_audio", "transcript": None}]


def test_a_replayed_answer_is_known_by_its_transcript(driver: Driver) -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": "Paris."}]}
    driver.send("conversation.item.create", item=item)
    assert (driver.last(AddText).role, driver.last(AddText).text) == ("assistant", "Paris.")


def test_images_are_refused_with_the_reason(driver: Driver) -> None:
    item = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}
    driver.send("conversation.item.create", item=item)
    assert "images" in driver.event("error")["error"]["message"]


# --- the rest ------------------------------------------------------------------------------------------------------


def test_a_transcription_session_hears_and_never_answers(driver: Driver) -> None:
    driver.send("session.update", session={"type": "transcription"})
    session = driver.event("session.updated")["session"]
    assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
    assert "output_modalities" not in session
    driver.append(200)
    assert "input_audio_buffer.committed" in driver.send("input_audio_buffer.commit")
    driver.send("response.create")
    assert driver.event("error")["error"]["code"] == "invalid_event"
    driver.send("session.update", session={"type": "realtime"})
    assert driver.event("error")["error"]["param"] == "session.type"


def test_a_cancelled_answer_tells_what_it_used(driver: Driver) -> None:
    driver.send("response.create")
    ask = driver.last(Respond)
    driver.engine(ResponseBegun("sess_1", ask.response_id, Usage(7, 50, 3, 20)))
    driver.engine(TextDelta("sess_1", ask.response_id, "Hello"))
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(2 * 960 * 3)))
    driver.send("response.cancel")
    usage = driver.event("response.done")["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (57, 4)
    assert usage["output_token_details"] == {"text_tokens": 1, "audio_tokens": 3}


def test_truncation_is_told_to_the_engine(driver: Driver) -> None:
    driver.send("session.update", session={"truncation": "disabled"})
    assert driver.last(SetTruncation).retained is None
    ratio = {"type": "retention_ratio", "retention_ratio": 0.8, "token_limits": {"post_instructions": 500}}
    driver.send("session.update", session={"truncation": ratio})
    assert (driver.last(SetTruncation).retained, driver.last(SetTruncation).limit) == (0.8, 500)


def test_a_session_that_the_engine_has_lost_fails_its_answer_and_closes(driver: Driver) -> None:
    driver.send("response.create")
    output = driver.session.engine_event(SessionFailed("sess_1", "no place", "server_overloaded", fatal=True))
    assert output.closes
    assert [e["type"] for e in output.events][-1] == "response.done"
    failed = output.events[-1]["response"]
    assert failed["status_details"]["error"]["code"] == "server_overloaded"


def test_an_open_microphone_is_no_error_and_its_newest_audio_is_kept(driver: Driver) -> None:
    driver.send("session.update", session={"audio": {"input": {"turn_detection": None}}})
    limit_ms, kept_ms = LIMITS.turn_ms, LIMITS.kept_turn_ms
    for second in range(limit_ms // 1000 + 1):
        driver.append(1000, level=second)
    assert not [e for e in driver.events if e["type"] == "error"]
    dropped = [i for i, command in enumerate(driver.commands) if isinstance(command, DropTurn)][-1]
    [again] = [command.pcm for command in driver.commands[dropped:] if isinstance(command, Hear)]
    assert len(again) == kept_ms * 32
    assert "input_audio_buffer.committed" in driver.send("input_audio_buffer.commit")


def test_a_turn_that_does_not_end_is_ended_and_answered(driver: Driver) -> None:
    driver.send("session.update", session={"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})
    for _ in range(LIMITS.turn_ms // 1000 + 2):
        driver.speech(992, LOUD)
    kinds = [e["type"] for e in driver.events if e["type"].startswith("input_audio_buffer.") or e["type"] == "error"]
    assert kinds[:3] == [f"input_audio_buffer.{what}" for what in ("speech_started", "speech_stopped", "committed")]
    assert "error" not in kinds
    assert driver.last(Respond)


def test_mcp_tools_are_refused_rather_than_never_called(driver: Driver) -> None:
    driver.send("session.update", session={"tools": [{"type": "mcp", "server_label": "x", "server_url": "http://x"}]})
    error = driver.event("error")["error"]
    assert error["type"] == "invalid_request_error"
    assert "MCP" in error["message"]
