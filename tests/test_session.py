"""The session's state machine, driven by plain calls and a clock of the test's own."""

import base64
import json
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from server.config import LIMITS
from server.engine.messages import (
    AddText,
    AudioDelta,
    CallDelta,
    Cancel,
    Command,
    CommitTurn,
    ConfirmTurn,
    DropTurn,
    Hear,
    Respond,
    ResponseDone,
    ResumeTurn,
    SessionFailed,
    SetInstructions,
    TextDelta,
    TranscriptDone,
    TruncateItem,
    TurnProbability,
    Usage,
)
from server.errors import ClientError
from server.session import Output, Session

SILENT, LOUD = 0.0, 1.0


class Driver:
    """A session, and everything that it has sent."""

    def __init__(self, room_ms: Callable[[str, Any], int] = lambda *_: LIMITS.turn_ms) -> None:
        self.now_s = 100.0
        self.session = Session("sess_1", "antiphon-nano", clock=lambda: self.now_s, room_ms=room_ms)
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self._note(self.session.opened())

    def _note(self, output: Output) -> list[str]:
        self.events += output.events
        self.commands += output.commands
        return [e["type"] for e in output.events]

    def send(self, kind: str, **fields: Any) -> list[str]:
        return self._frame(json.dumps({"type": kind, **fields}))

    def _frame(self, text: str) -> list[str]:
        output, samples = self.session.client_frame(text)
        kinds = self._note(output)
        return kinds if samples is None else kinds + self._note(self.session.hear(samples))

    def frame(self, text: str) -> dict[str, Any]:
        self._frame(text)
        return self.events[-1]

    def append(self, ms: int, level: int = 0) -> list[str]:
        pcm = np.full(24 * ms, level, dtype="<i2").tobytes()
        return self.send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())

    def speech(self, ms: int, probability: float, level: int = 1000) -> list[str]:
        """Audio of so many ms, and turn detection's opinion on it."""
        kinds = []
        for _ in range(ms // 32):
            kinds += self.append(32, level)
            kinds += self._note(self.session.speech_window(probability))
        return kinds

    def engine(self, event: Any) -> list[str]:
        return self._note(self.session.engine_event(event))

    def manual(self) -> None:
        self.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": None}}})

    def last(self, kind: type[Any]) -> Any:
        return [c for c in self.commands if isinstance(c, kind)][-1]

    def event(self, kind: str) -> dict[str, Any]:
        return [e for e in self.events if e["type"] == kind][-1]

    def answer(self) -> list[str]:
        """Let the engine answer the newest `Respond`."""
        ask = self.last(Respond)
        kinds = self.engine(TextDelta("sess_1", ask.response_id, "Hello"))
        kinds += self.engine(AudioDelta("sess_1", ask.response_id, bytes(4800)))
        return kinds + self.engine(ResponseDone("sess_1", ask.response_id, "completed", Usage(1, 2, 0, 0, 3, 4)))


@pytest.fixture
def driver() -> Driver:
    return Driver()


BEGIN = [
    "response.created",
    "rate_limits.updated",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
]
END = [
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
]
COMMITTED = ["input_audio_buffer.committed", "conversation.item.added", "conversation.item.done"]


def test_session_created_comes_first_and_shows_every_default(driver: Driver) -> None:
    [created] = driver.events
    assert created["type"] == "session.created"
    assert created["session"]["audio"]["input"]["turn_detection"]["interrupt_response"] is True
    assert created["session"]["audio"]["output"]["format"] == {"type": "audio/pcm", "rate": 24000}


def test_a_spoken_turn_gives_the_documented_order_of_events(driver: Driver) -> None:
    kinds = driver.speech(960, LOUD) + driver.speech(640, SILENT)
    assert kinds == ["input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped", *COMMITTED, *BEGIN]
    deltas = ["response.output_audio_transcript.delta", "response.output_audio.delta"]
    assert driver.answer() == deltas + END
    assert driver.event("response.done")["response"]["status"] == "completed"


def test_speech_events_carry_one_item_id_and_the_padding(driver: Driver) -> None:
    driver.speech(960, SILENT)
    driver.speech(640, LOUD)
    driver.speech(640, SILENT)
    started, stopped = (
        driver.event("input_audio_buffer.speech_started"),
        driver.event("input_audio_buffer.speech_stopped"),
    )
    assert started["audio_start_ms"] == 960 - 300
    assert 960 + 640 < stopped["audio_end_ms"] <= 960 + 640 + 640  # what was heard, the silence at the end too
    committed = driver.event("input_audio_buffer.committed")
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == driver.last(CommitTurn).item_id


def test_the_engine_hears_the_turn_with_its_padding_and_nothing_before(driver: Driver) -> None:
    driver.speech(3200, SILENT)
    assert not any(isinstance(c, Hear) for c in driver.commands)
    driver.speech(640, LOUD)
    heard = sum(len(c.pcm) for c in driver.commands if isinstance(c, Hear)) / 32
    assert heard == pytest.approx(300 + 640, abs=33)


def test_manual_turns_are_heard_at_once_and_answered_on_demand(driver: Driver) -> None:
    driver.manual()
    driver.append(500)
    assert isinstance(driver.commands[-1], Hear)
    assert driver.send("input_audio_buffer.commit") == COMMITTED
    assert driver.send("response.create") == BEGIN
    assert driver.answer()[-len(END) :] == END


def test_barge_in_cancels_the_answer_and_drops_what_still_arrives(driver: Driver) -> None:
    driver.speech(960, LOUD)
    driver.speech(640, SILENT)
    ask = driver.last(Respond)
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(4800)))
    kinds = driver.speech(320, LOUD)
    assert kinds == ["input_audio_buffer.speech_started", *END]
    done = driver.event("response.done")["response"]
    assert (done["status"], done["status_details"]["reason"]) == ("cancelled", "turn_detected")
    assert driver.last(Cancel).response_id == ask.response_id
    assert driver.engine(AudioDelta("sess_1", ask.response_id, bytes(4800))) == []
    assert driver.speech(640, SILENT)[-len(BEGIN) :] == BEGIN


def test_without_interrupt_response_the_answer_goes_on(driver: Driver) -> None:
    detection = {"type": "server_vad", "interrupt_response": False}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.speech(960, LOUD)
    driver.speech(640, SILENT)
    assert driver.speech(320, LOUD) == ["input_audio_buffer.speech_started"]


def test_semantic_turns_end_when_the_model_thinks_so(driver: Driver) -> None:
    detection = {"type": "semantic_vad", "eagerness": "medium"}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.speech(960, LOUD)
    driver.engine(TurnProbability("sess_1", 0.2, 900))
    assert driver.speech(640, SILENT) == []
    assert "input_audio_buffer.committed" in driver.engine(TurnProbability("sess_1", 0.995, 1500))


# --- answers begun in a pause --------------------------------------------------------------------------------------


def _semantic(driver: Driver) -> None:
    detection = {"type": "semantic_vad", "eagerness": "medium"}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})


def test_in_a_pause_an_answer_is_begun_and_shown_when_the_turn_is_over(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    assert driver.speech(64, SILENT) == []
    assert driver.last(CommitTurn).guess
    guessed = driver.last(Respond)
    item_id = driver.last(CommitTurn).item_id
    for event in (
        TranscriptDone("sess_1", item_id, "Hi.", 20, 2, driver.last(CommitTurn).guess),
        TextDelta("sess_1", guessed.response_id, "Hello"),
        AudioDelta("sess_1", guessed.response_id, bytes(4800)),
    ):
        assert driver.engine(event) == []
    driver.engine(TurnProbability("sess_1", 0.995, 1150))
    kinds = driver.speech(128, SILENT)
    deltas = ["response.output_audio_transcript.delta", "response.output_audio.delta"]
    assert kinds == ["input_audio_buffer.speech_stopped", *COMMITTED, *BEGIN, *deltas]
    assert isinstance(driver.commands[-1], ConfirmTurn | Hear)
    assert driver.last(ConfirmTurn)
    assert [c for c in driver.commands if isinstance(c, Respond)] == [guessed]
    assert driver.event("input_audio_buffer.committed")["item_id"] == item_id
    assert driver.engine(ResponseDone("sess_1", guessed.response_id, "completed", Usage(1, 2, 0, 0, 3, 4))) == END
    assert driver.event("response.done")["response"]["timings_ms"].keys() == {"speech_end", "decided", "sent"}


def test_the_transcript_of_a_pause_that_was_none_is_never_shown(driver: Driver) -> None:
    """It may be on its way while the client commits the turn itself."""
    _semantic(driver)
    driver.send("session.update", session={"audio": {"input": {"transcription": {"model": "x"}}}})
    driver.speech(960, LOUD)
    driver.speech(64, SILENT)
    wrong = driver.last(CommitTurn)
    driver.send("input_audio_buffer.commit")
    right = driver.last(CommitTurn)
    assert (right.item_id, right.guess) == (wrong.item_id, 0)
    told = [
        driver.engine(TranscriptDone("sess_1", commit.item_id, text, 20, 2, commit.guess))
        for commit, text in ((wrong, "Hi"), (right, "Hi there."))
    ]
    assert told == [[], ["conversation.item.input_audio_transcription.completed"]]


def test_whoever_goes_on_speaking_never_hears_of_the_guess(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    driver.speech(64, SILENT)
    guessed = driver.last(Respond)
    assert driver.speech(320, LOUD) == []
    assert isinstance(driver.last(ResumeTurn), ResumeTurn)
    assert driver.engine(AudioDelta("sess_1", guessed.response_id, bytes(4800))) == []
    kinds = (
        driver.speech(64, SILENT) + driver.engine(TurnProbability("sess_1", 0.995, 1500)) + driver.speech(128, SILENT)
    )
    assert kinds == ["input_audio_buffer.speech_stopped", *COMMITTED, *BEGIN]
    assert len([c for c in driver.commands if isinstance(c, Respond)]) == 2


def test_a_guess_that_the_model_does_not_believe_in_is_undone_and_not_repeated_in_this_pause(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    driver.speech(64, SILENT)
    driver.engine(TurnProbability("sess_1", 0.1, 1150))
    assert isinstance(driver.commands[-1], ResumeTurn)
    assert driver.speech(640, SILENT) == []
    assert len([c for c in driver.commands if isinstance(c, CommitTurn)]) == 1


def test_a_guess_that_the_model_believes_in_after_all_is_made_once_more(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    driver.speech(64, SILENT)
    for probability, guesses in ((0.1, 1), (0.4, 1), (0.6, 2), (0.1, 2), (0.6, 3)):
        driver.engine(TurnProbability("sess_1", probability, 1150))
        assert len([c for c in driver.commands if isinstance(c, CommitTurn)]) == guesses
    assert "input_audio_buffer.speech_stopped" in driver.speech(640, SILENT) + driver.engine(
        TurnProbability("sess_1", 0.995, 1400)
    )
    assert len([c for c in driver.commands if isinstance(c, CommitTurn)]) == 3  # it was about this guess


def test_a_client_that_changes_the_conversation_undoes_the_guess(driver: Driver) -> None:
    driver.speech(960, LOUD)
    driver.speech(96, SILENT)
    assert driver.last(CommitTurn).guess
    part = {"type": "input_text", "text": "Wait!"}
    driver.send("conversation.item.create", item={"type": "message", "role": "user", "content": [part]})
    order = [type(c) for c in driver.commands if not isinstance(c, Hear)]
    assert order[-2:] == [ResumeTurn, AddText]
    assert driver.speech(640, SILENT) == ["input_audio_buffer.speech_stopped", *COMMITTED, *BEGIN]
    assert not driver.last(CommitTurn).guess


def test_a_turn_ends_by_level_and_meaning_before_turn_detection_notices(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    driver.speech(96, LOUD, level=0)
    assert driver.last(CommitTurn).guess
    driver.engine(TurnProbability("sess_1", 0.995, 1400))
    assert "input_audio_buffer.speech_stopped" in driver.speech(128, LOUD, level=0)
    assert 960 < driver.event("input_audio_buffer.speech_stopped")["audio_end_ms"] < 960 + 300
    assert driver.speech(160, LOUD, level=0) == []  # turn detection still echoes
    assert "input_audio_buffer.speech_started" in driver.speech(96, LOUD)


def test_nothing_is_guessed_where_no_answer_would_follow(driver: Driver) -> None:
    detection = {"type": "server_vad", "create_response": False}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.speech(960, LOUD)
    driver.speech(640, SILENT)
    assert [c.guess for c in driver.commands if isinstance(c, CommitTurn)] == [0]


def test_cancel_ends_the_response_and_a_second_cancel_is_a_known_error(driver: Driver) -> None:
    driver.manual()
    driver.append(200)
    driver.send("input_audio_buffer.commit")
    driver.send("response.create")
    assert driver.send("response.cancel") == END
    assert driver.event("response.done")["response"]["status_details"]["reason"] == "client_cancelled"
    driver.send("response.cancel", event_id="mine")
    error = driver.event("error")["error"]
    assert error["code"] == "response_cancel_not_active"
    assert error["message"].startswith("Cancellation failed")
    assert error["event_id"] == "mine"


def test_only_one_response_at_a_time(driver: Driver) -> None:
    driver.send("response.create")
    assert driver.send("response.create", event_id="second") == ["error"]
    assert driver.event("error")["error"]["code"] == "conversation_already_has_active_response"


def test_metadata_is_echoed_on_created_and_done(driver: Driver) -> None:
    driver.send("response.create", response={"metadata": {"client_event_id": "x"}})
    driver.answer()
    assert driver.event("response.created")["response"]["metadata"] == {"client_event_id": "x"}
    assert driver.event("response.done")["response"]["metadata"] == {"client_event_id": "x"}


def test_usage_counts_by_kind(driver: Driver) -> None:
    driver.send("response.create")
    driver.answer()
    usage = driver.event("response.done")["response"]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (3, 7, 10)
    assert usage["output_token_details"] == {"text_tokens": 3, "audio_tokens": 4}


def test_a_response_in_text_alone_has_its_own_events(driver: Driver) -> None:
    driver.send("response.create", response={"output_modalities": ["text"], "max_output_tokens": 5})
    ask = driver.last(Respond)
    assert (ask.speak, ask.max_tokens) == (False, 5)
    kinds = driver.engine(TextDelta("sess_1", ask.response_id, "Hi"))
    kinds += driver.engine(ResponseDone("sess_1", ask.response_id, "incomplete"))
    assert kinds[:2] == ["response.output_text.delta", "response.output_text.done"]
    assert driver.event("response.done")["response"]["status_details"]["reason"] == "max_output_tokens"


def test_truncation_is_exact_and_checked(driver: Driver) -> None:
    driver.send("response.create")
    driver.answer()  # 100 ms of audio
    item_id = driver.last(Respond).item_id
    driver.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=101)
    assert "already shorter than 101ms" in driver.event("error")["error"]["message"]
    assert driver.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=60) == [
        "conversation.item.truncated"
    ]
    assert driver.last(TruncateItem).audio_end_ms == 60
    driver.send("conversation.item.retrieve", item_id=item_id)
    content = driver.event("conversation.item.retrieved")["item"]["content"][0]
    assert len(base64.b64decode(content["audio"])) == 60 * 48


def test_items_are_added_retrieved_and_deleted_in_order(driver: Driver) -> None:
    item = {"id": "one", "type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]}
    assert driver.send("conversation.item.create", item=item) == ["conversation.item.added", "conversation.item.done"]
    assert driver.last(AddText).text == "hi"
    driver.send("conversation.item.create", item=item | {"id": "two"}, previous_item_id="one")
    assert driver.event("conversation.item.added")["previous_item_id"] == "one"
    assert driver.send("conversation.item.delete", item_id="one") == ["conversation.item.deleted"]
    driver.send("conversation.item.retrieve", item_id="one")
    assert driver.event("error")["error"]["code"] == "item_retrieve_invalid_item_id"


def test_transcripts_are_sent_only_where_asked_for(driver: Driver) -> None:
    driver.manual()
    driver.append(200)
    driver.send("input_audio_buffer.commit")
    done = TranscriptDone("sess_1", driver.last(CommitTurn).item_id, "hello", 5, 2)
    assert driver.engine(done) == []
    driver.send(
        "session.update", session={"type": "realtime", "audio": {"input": {"transcription": {"model": "whisper-1"}}}}
    )
    assert driver.engine(done) == ["conversation.item.input_audio_transcription.completed"]
    assert driver.events[-1]["usage"]["total_tokens"] == 7


def test_updates_merge_deeply_and_rejected_ones_change_nothing(driver: Driver) -> None:
    patch = {
        "type": "realtime",
        "instructions": "Be brief.",
        "audio": {"input": {"turn_detection": {"threshold": 0.8}}},
    }
    assert driver.send("session.update", session=patch) == ["session.updated"]
    detection = driver.event("session.updated")["session"]["audio"]["input"]["turn_detection"]
    assert (detection["type"], detection["threshold"], detection["prefix_padding_ms"]) == ("server_vad", 0.8, 300)
    assert driver.last(SetInstructions).text == "Be brief."
    before = driver.session.config
    driver.send("session.update", session={"type": "realtime", "instructions": "x", "audio": {"output": {"speed": 9}}})
    assert driver.event("error")["error"]["param"] == "session.audio.output.speed"
    assert driver.session.config is before


STOCK_UPDATES = {
    "livekit": {
        "type": "realtime",
        "model": "gpt-realtime",
        "output_modalities": ["audio"],
        "audio": {
            "input": {
                "format": {"type": "audio/pcm", "rate": 24000},
                "noise_reduction": None,
                "transcription": {"model": "gpt-4o-mini-transcribe"},
                "turn_detection": {
                    "type": "semantic_vad",
                    "create_response": True,
                    "eagerness": "medium",
                    "interrupt_response": True,
                },
            },
            "output": {"format": {"type": "audio/pcm", "rate": 24000}, "speed": 1.0, "voice": "marin"},
        },
        "max_output_tokens": "inf",
        "tool_choice": "auto",
        "tracing": None,
    },
    "agents": {"type": "realtime", "tracing": "auto", "tools": [], "audio": {"output": {"voice": "ash"}}},
}


@pytest.mark.parametrize("name", STOCK_UPDATES)
def test_what_stock_clients_send_is_accepted(driver: Driver, name: str) -> None:
    assert driver.send("session.update", session=STOCK_UPDATES[name]) == ["session.updated"]


BAD = {
    "{": "invalid_json",
    "[1]": "invalid_event",
    '{"no": "type"}': "invalid_event",
    '{"type": "no.such.event"}': "invalid_event",
    '{"type": "input_audio_buffer.append"}': "missing_required_parameter",
    '{"type": "input_audio_buffer.append", "audio": "%%%"}': "invalid_value",
    '{"type": "input_audio_buffer.append", "audio": "AAAA"}': "invalid_value",
    '{"type": "input_audio_buffer.commit"}': "input_audio_buffer_commit_empty",
    '{"type": "response.cancel"}': "response_cancel_not_active",
    '{"type": "session.update", "session": {"type": "realtime", "nonsense": 1}}': "unknown_parameter",
    '{"type": "conversation.item.delete", "item_id": "none"}': "item_delete_invalid_item_id",
    '{"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": [{"type": "input_image"}]}}': "invalid_value",
}


@pytest.mark.parametrize("frame", BAD)
def test_bad_input_gets_the_documented_error_and_the_session_goes_on(driver: Driver, frame: str) -> None:
    error = driver.frame(frame)
    assert (error["type"], error["error"]["code"]) == ("error", BAD[frame])
    driver.manual()
    driver.append(200)
    assert driver.send("input_audio_buffer.commit") == COMMITTED


def test_too_much_audio_in_one_event_is_refused(driver: Driver) -> None:
    error = driver.frame(json.dumps({"type": "input_audio_buffer.append", "audio": "A" * (21 * 1024 * 1024)}))
    assert error["error"]["code"] == "string_above_max_length"


def test_clear_forgets_the_turn(driver: Driver) -> None:
    driver.manual()
    driver.append(500)
    assert driver.send("input_audio_buffer.clear") == ["input_audio_buffer.cleared"]
    assert isinstance(driver.commands[-1], DropTurn)
    driver.send("input_audio_buffer.commit")
    assert driver.event("error")["error"]["code"] == "input_audio_buffer_commit_empty"


def _two_turns(driver: Driver) -> Respond:
    """The second ends while the first one's answer is being made."""
    driver.send(
        "session.update",
        session={"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}},
    )
    driver.speech(320, LOUD)
    driver.speech(704, SILENT)
    first: Respond = driver.last(Respond)
    driver.speech(320, LOUD)
    driver.speech(704, SILENT)
    return first


def test_a_turn_that_ends_during_another_answer_is_answered_after_it(driver: Driver) -> None:
    first = _two_turns(driver)
    assert driver.last(Respond) is first
    deltas = ["response.output_audio_transcript.delta", "response.output_audio.delta"]
    assert driver.answer() == [*deltas, *END, *BEGIN]
    assert "speech_end" in driver.event("response.done")["response"]["timings_ms"]
    assert driver.last(Respond) is not first
    driver.answer()
    assert "speech_end" not in driver.event("response.done")["response"]["timings_ms"]  # it waited for more than speech
    assert len([c for c in driver.commands if isinstance(c, Respond)]) == 2


def test_a_client_that_cancels_asks_itself_for_what_waits(driver: Driver) -> None:
    first = _two_turns(driver)
    assert driver.send("response.cancel")[-1] == "response.done"
    assert driver.last(Respond) is first
    assert driver.send("response.create") == BEGIN


def test_what_waits_is_answered_after_all_that_was_said(driver: Driver) -> None:
    """Not while somebody speaks; and at last by the answer to that, or without it if it is taken back."""
    first = _two_turns(driver)
    driver.speech(320, LOUD)
    assert driver.answer()[-1] == "response.done"
    assert driver.last(Respond) is first
    assert driver.send("input_audio_buffer.clear") == ["input_audio_buffer.cleared", *BEGIN]
    driver.answer()
    assert len([c for c in driver.commands if isinstance(c, Respond)]) == 2


def test_the_next_answer_after_a_function_call_is_the_client_s_to_ask_for(driver: Driver) -> None:
    driver.send("session.update", session={"tools": [{"type": "function", "name": "f", "parameters": {}}]})
    first = _two_turns(driver)
    driver.engine(CallDelta("sess_1", first.response_id, "f", "{}"))
    kinds = driver.engine(ResponseDone("sess_1", first.response_id, "completed", Usage(1, 2, 0, 0, 3, 4)))
    assert kinds[-1] == "response.done"
    assert driver.last(Respond) is first


def test_an_answer_that_was_cut_short_is_not_waited_for(driver: Driver) -> None:
    driver.manual()
    driver.send("response.create")
    ask = driver.last(Respond)
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(48 * 60_000)))
    driver.send("response.cancel")
    assert driver.session.between_turns


def test_an_item_that_the_engine_cannot_take_in_is_listed_no_more(driver: Driver) -> None:
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hello"}]}
    driver.send("conversation.item.create", item=said | {"id": "item_a"})
    driver.send("conversation.item.create", item=said | {"id": "item_b"})
    driver.send("response.create")
    refused = SessionFailed("sess_1", "expected at most 5 tokens", "context_length_exceeded", item_id="item_b")
    assert driver.engine(refused) == ["error", "conversation.item.deleted"]
    assert driver.send("conversation.item.retrieve", item_id="item_b") == ["error"]
    assert driver.send("conversation.item.retrieve", item_id="item_a") == ["conversation.item.retrieved"]
    assert driver.answer()[-1] == "response.done"


def test_instructions_too_long_change_nothing() -> None:
    def check(instructions: str, tools: Any) -> int:
        if len(instructions) + 10 * len(tools) > 20:
            raise ClientError("expected at most 20", "context_length_exceeded", "session.instructions")
        return LIMITS.turn_ms

    driver = Driver(check)
    assert driver.send("session.update", session={"instructions": "Be brief."}) == ["session.updated"]
    tools = [{"type": "function", "name": name, "parameters": {}} for name in ("f", "g")]
    longer: list[dict[str, Any]] = [
        {"instructions": "Be very brief indeed."},
        {"tools": tools, "output_modalities": ["text"]},
    ]
    for session in longer:
        said = len(driver.commands)
        assert driver.send("session.update", event_id="mine", session=session) == ["error"]
        assert driver.events[-1]["error"]["code"] == "context_length_exceeded"
        assert driver.events[-1]["error"]["event_id"] == "mine"
        assert driver.commands[said:] == []
        assert driver.session.config.instructions == "Be brief."
        assert driver.session.config.output_modalities == ["audio"]


def test_after_the_idle_timeout_the_model_speaks_up(driver: Driver) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.send("response.create")
    driver.answer()
    driver.now_s += 4
    assert driver._note(driver.session.tick()) == []
    driver.now_s += 2
    assert driver._note(driver.session.tick()) == ["input_audio_buffer.timeout_triggered", *COMMITTED, *BEGIN]


def test_a_turn_that_was_cleared_away_does_not_stop_the_idle_timeout(driver: Driver) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.send("response.create")
    driver.answer()
    driver.speech(640, LOUD)
    driver.send("input_audio_buffer.clear")
    driver.speech(640, SILENT)
    driver.now_s += 6
    assert "input_audio_buffer.timeout_triggered" in driver._note(driver.session.tick())


def test_a_buffer_that_is_cleared_where_no_timeout_ran_starts_none(driver: Driver) -> None:
    detection = {"type": "server_vad", "idle_timeout_ms": 5000}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    for speaks in (False, True):
        if speaks:
            driver.speech(640, LOUD)
        driver.send("input_audio_buffer.clear")
        driver.speech(640, SILENT)
        driver.now_s += 60
        assert driver._note(driver.session.tick()) == []


def test_a_turn_that_the_engine_could_not_take_is_not_answered(driver: Driver) -> None:
    driver.manual()
    driver.append(500)
    driver.send("input_audio_buffer.commit")
    item_id = driver.event("input_audio_buffer.committed")["item_id"]
    driver.send("response.create")
    kinds = driver.engine(SessionFailed("sess_1", "too long", "context_length_exceeded", item_id=item_id))
    assert kinds[:2] == ["error", "conversation.item.deleted"]
    assert kinds[-1] == "response.done"
    assert driver.session.between_turns


def test_a_guess_that_the_engine_could_not_take_is_undone(driver: Driver) -> None:
    _semantic(driver)
    driver.speech(960, LOUD)
    driver.speech(64, SILENT)
    guessed = driver.last(CommitTurn)
    driver.engine(SessionFailed("sess_1", "too long", "context_length_exceeded", item_id=guessed.item_id))
    assert driver.last(ResumeTurn)
    assert not driver.session._unwritten


def test_a_long_turn_beside_long_instructions_is_not_heard_again_with_every_chunk() -> None:
    driver = Driver(lambda *_: 9600)
    driver.manual()
    for _ in range(10):
        driver.append(1000)
    before = len(driver.commands)
    for _ in range(20):
        driver.append(20)
    assert not any(isinstance(command, DropTurn) for command in driver.commands[before:])


def test_a_transcript_is_in_no_event_before_it_is_complete_and_in_none_where_nobody_asked(driver: Driver) -> None:
    for transcription, shown in (({"model": "x"}, "Hi."), (None, None)):
        driver.send("session.update", session={"audio": {"input": {"transcription": transcription}}})
        driver.manual()
        driver.append(500)
        output, _ = driver.session.client_frame(json.dumps({"type": "input_audio_buffer.commit"}))
        item_id = output.events[0]["item_id"]
        driver.engine(TranscriptDone("sess_1", item_id, "Hi.", 20, 2))
        assert [e["item"]["content"][0]["transcript"] for e in output.events[1:]] == [None, None]
        driver.send("conversation.item.retrieve", item_id=item_id)
        assert driver.event("conversation.item.retrieved")["item"]["content"][0]["transcript"] == shown


def test_speech_starts_no_earlier_than_what_was_heard_of_no_other_turn(driver: Driver) -> None:
    driver.speech(640, LOUD)
    driver.speech(640, SILENT)
    ended_ms = driver.event("input_audio_buffer.speech_stopped")["audio_end_ms"]
    driver.answer()
    driver.speech(640, LOUD)
    assert driver.event("input_audio_buffer.speech_started")["audio_start_ms"] >= ended_ms


def test_what_comes_while_a_call_is_being_decided_on_stands_behind_the_answer(driver: Driver) -> None:
    text = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    tool = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
    driver.send("session.update", session={"tools": [tool]})
    driver.send("conversation.item.create", item=text | {"id": "a"})
    driver.send("response.create")
    driver.send("conversation.item.create", item=text | {"id": "b"})
    ask = driver.last(Respond)
    driver.engine(TextDelta("sess_1", ask.response_id, "Hello"))
    assert driver.event("conversation.item.added")["previous_item_id"] == "a"
    assert [item.id for item in driver.session._items] == ["a", ask.item_id, "b"]


def test_a_turn_may_be_as_long_as_the_instructions_leave_room_for() -> None:
    driver = Driver(lambda instructions, tools: 3000 if instructions else LIMITS.turn_ms)
    driver.send("session.update", session={"instructions": "long", "audio": {"input": {"turn_detection": None}}})
    for _ in range(4):
        driver.append(1000)
    dropped = [i for i, command in enumerate(driver.commands) if isinstance(command, DropTurn)]
    assert dropped
    driver.send("session.update", session={"instructions": ""})
    before = len(driver.commands)
    for _ in range(30):
        driver.append(1000)
    assert not any(isinstance(command, DropTurn) for command in driver.commands[before:])


def _heard_ms(commands: list[Command]) -> float:
    return sum(len(c.pcm) for c in commands if isinstance(c, Hear)) / 32


def test_the_shortest_turn_may_be_committed_and_nothing_shorter(driver: Driver) -> None:
    driver.manual()
    driver.append(99)
    assert driver.send("input_audio_buffer.commit") == ["error"]
    driver.append(1)
    assert driver.send("input_audio_buffer.commit") == COMMITTED


def test_a_manual_turn_is_heard_to_its_last_sample(driver: Driver) -> None:
    driver.manual()
    for _ in range(25):
        driver.append(20, 1000)
    driver.send("input_audio_buffer.commit")
    assert _heard_ms(driver.commands) == 500


def test_nothing_of_a_cleared_turn_is_heard_in_the_next(driver: Driver) -> None:
    driver.manual()
    driver.append(500, 10_000)
    driver.send("input_audio_buffer.clear")
    before = len(driver.commands)
    driver.append(500, 0)
    driver.send("input_audio_buffer.commit")
    heard = b"".join(c.pcm for c in driver.commands[before:] if isinstance(c, Hear))
    assert np.abs(np.frombuffer(heard, dtype="<i2").astype(int)).max() <= 2  # dither


def test_audio_is_committed_once(driver: Driver) -> None:
    driver.append(300)
    assert driver.send("input_audio_buffer.commit") == COMMITTED
    driver.send("input_audio_buffer.commit")
    assert driver.event("error")["error"]["code"] == "input_audio_buffer_commit_empty"


def test_two_utterances_in_one_frame_are_two_turns(driver: Driver) -> None:
    probabilities = [SILENT] * 10 + [LOUD] * 30 + [SILENT] * 30 + [LOUD] * 30 + [SILENT] * 30
    pcm = np.full(24 * 32 * len(probabilities), 1000, dtype="<i2").tobytes()
    frame = json.dumps({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})
    output, samples = driver.session.client_frame(frame)
    driver._note(output)
    assert samples is not None
    turns, before = [], len(driver.commands)
    for i in range(len(samples) // 512):
        driver._note(driver.session.hear(samples[512 * i : 512 * i + 512]))
        driver._note(driver.session.speech_window(probabilities[i]))
        if any(isinstance(c, ConfirmTurn) for c in driver.commands[before:]):
            turns.append(_heard_ms(driver.commands[before:]))
            before = len(driver.commands)
    assert turns == [pytest.approx(300 + 30 * 32 + 500, abs=32)] * 2


def test_positions_count_what_was_sent_while_turn_detection_was_off(driver: Driver) -> None:
    driver.manual()
    driver.append(2000)
    driver.send("input_audio_buffer.clear")
    detection = {"type": "server_vad"}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": {"turn_detection": detection}}})
    driver.speech(640, LOUD)
    assert driver.event("input_audio_buffer.speech_started")["audio_start_ms"] == 2000  # what was cleared is no padding


def test_deleting_the_answer_that_is_being_given_ends_it(driver: Driver) -> None:
    driver.send("response.create")
    ask = driver.last(Respond)
    assert driver.send("conversation.item.delete", item_id=ask.item_id) == [*END, "conversation.item.deleted"]
    assert driver.last(Cancel).response_id == ask.response_id
    assert driver.answer() == []
    assert driver.send("response.create") == BEGIN


@pytest.mark.parametrize(("name", "bytes_per_ms"), [("audio/pcm", 48), ("audio/pcmu", 8), ("audio/pcma", 8)])
def test_audio_is_spoken_to_its_last_sample_and_retrieved_as_on_the_wire(
    driver: Driver, name: str, bytes_per_ms: int
) -> None:
    driver.manual()
    driver.append(500, 1000)
    driver.send("input_audio_buffer.commit")
    shape = {"format": {"type": name}}
    driver.send("session.update", session={"type": "realtime", "audio": {"input": shape, "output": shape}})
    driver.send("response.create")
    driver.answer()  # 100 ms of audio
    deltas = [e["delta"] for e in driver.events if e["type"] == "response.output_audio.delta"]
    assert sum(len(base64.b64decode(d)) for d in deltas) == 100 * bytes_per_ms
    assert all(deltas)
    for item_id, ms in ((driver.last(CommitTurn).item_id, 500), (driver.last(Respond).item_id, 100)):
        driver.send("conversation.item.retrieve", item_id=item_id)
        content = driver.event("conversation.item.retrieved")["item"]["content"][0]
        assert len(base64.b64decode(content["audio"])) == ms * bytes_per_ms


# --- what nobody should have to do, and clients do --------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [{"tool_choice": "required"}, {"tool_choice": {"type": "function", "name": "light"}}],
)
def test_a_tool_choice_without_its_tool_is_an_error_of_the_answer_alone(
    driver: Driver, settings: dict[str, Any]
) -> None:
    driver.send("session.update", session={"tools": [], **settings})
    assert driver.speech(960, LOUD)
    assert driver.speech(960, SILENT, level=0)
    assert driver.event("error")["error"]["type"] == "invalid_request_error"
    assert driver.event("input_audio_buffer.committed")
    driver.send("session.update", session={"tool_choice": "auto"})
    driver.speech(960, LOUD)
    assert "response.created" in driver.speech(960, SILENT, level=0)


def test_an_answer_may_be_truncated_while_it_is_being_said(driver: Driver) -> None:
    """As the Agents SDK does it: first truncate, then cancel."""
    driver.send("response.create")
    ask = driver.last(Respond)
    driver.engine(TextDelta("sess_1", ask.response_id, "Hello there"))
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(48 * 500)))
    cut = driver.send("conversation.item.truncate", item_id=ask.item_id, content_index=0, audio_end_ms=200)
    assert cut == ["conversation.item.truncated"]
    assert driver.last(TruncateItem).audio_end_ms == 200
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(48 * 100)))
    driver.send("response.cancel")
    driver.send("conversation.item.retrieve", item_id=ask.item_id)
    [content] = driver.event("conversation.item.retrieved")["item"]["content"]
    assert content["transcript"] is None
    assert len(base64.b64decode(content["audio"])) == 48 * 200


def test_a_function_call_that_is_being_made_is_no_audio(driver: Driver) -> None:
    tool = {"type": "function", "name": "light", "parameters": {"type": "object", "properties": {}}}
    driver.send("session.update", session={"tools": [tool]})
    driver.send("response.create")
    ask = driver.last(Respond)
    driver.engine(CallDelta("sess_1", ask.response_id, "light", "{"))
    driver.send("conversation.item.truncate", item_id=ask.item_id, content_index=0, audio_end_ms=0)
    assert driver.event("error")["error"]["code"] == "unsupported_content_type"


def test_the_audio_of_an_answer_is_as_long_as_all_its_pieces(driver: Driver) -> None:
    driver.send("response.create")
    ask = driver.last(Respond)
    for _ in range(10):
        driver.engine(AudioDelta("sess_1", ask.response_id, bytes(2 * 1234)))
    driver.engine(ResponseDone("sess_1", ask.response_id, "completed", Usage()))
    whole_ms = -(-12340 // 24)
    sent = driver.send("conversation.item.truncate", item_id=ask.item_id, content_index=0, audio_end_ms=whole_ms)
    assert sent == ["conversation.item.truncated"]


def test_an_answer_beside_the_conversation_does_not_end_the_playback_of_another(driver: Driver) -> None:
    driver.send("response.create")
    ask = driver.last(Respond)
    driver.engine(AudioDelta("sess_1", ask.response_id, bytes(48_000 * 10)))
    driver.engine(ResponseDone("sess_1", ask.response_id, "completed", Usage()))
    assert not driver.session.between_turns
    driver.send("response.create", response={"conversation": "none", "output_modalities": ["text"]})
    driver.engine(ResponseDone("sess_1", driver.last(Respond).response_id, "completed", Usage()))
    assert not driver.session.between_turns
    driver.now_s += 10.1
    assert driver.session.between_turns


def test_turn_detection_that_is_switched_on_begins_with_an_empty_turn(driver: Driver) -> None:
    driver.manual()
    driver.append(3000, 500)
    driver.send("session.update", session={"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})
    assert isinstance(driver.commands[-1], DropTurn)
    before = len(driver.commands)
    driver.speech(960, LOUD)
    driver.speech(960, SILENT, level=0)
    heard = sum(len(c.pcm) for c in driver.commands[before:] if isinstance(c, Hear))
    committed = driver.event("input_audio_buffer.committed")["item_id"]
    assert heard == len(driver.session._items.get(committed, "retrieve").pcm)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "role": "assistant", "content": [{"type": "output_audio", "transcript": 5}]},
        {"type": "function_call", "name": "f", "arguments": "[" * 200_000},
    ],
)
def test_an_item_that_is_wrong_inside_is_refused(driver: Driver, item: dict[str, Any]) -> None:
    driver.send("conversation.item.create", event_id="mine", item=item)
    error = driver.event("error")["error"]
    assert (error["type"], error["event_id"]) == ("invalid_request_error", "mine")


def test_a_failure_of_the_server_s_own_is_told_and_the_session_goes_on(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(driver.session, "_respond", Mock(side_effect=RuntimeError("broken")))
        driver.send("response.create", event_id="mine")
    error = driver.event("error")["error"]
    assert (error["type"], error["event_id"]) == ("server_error", "mine")
    assert "response.created" in driver.send("response.create")


def test_an_audio_item_is_as_long_as_a_turn_may_be(driver: Driver) -> None:
    driver.manual()
    for ms, wanted in ((LIMITS.turn_ms + 100, "error"), (LIMITS.turn_ms, "conversation.item.added")):
        part = {"type": "input_audio", "audio": base64.b64encode(bytes(48 * ms)).decode()}
        item = {"type": "message", "role": "user", "content": [part]}
        assert driver.send("conversation.item.create", item=item)[0] == wanted


def test_a_commit_that_is_refused_leaves_the_buffer_as_it_was(driver: Driver) -> None:
    driver.append(64)
    driver.send("input_audio_buffer.commit")
    assert driver.event("error")["error"]["code"] == "input_audio_buffer_commit_empty"
    assert not any(isinstance(command, Hear) for command in driver.commands)
    driver.append(640)
    assert "input_audio_buffer.committed" in driver.send("input_audio_buffer.commit")
