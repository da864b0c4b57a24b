"""Client events and the session object: what is accepted, what is refused and how, without a session."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from server import client_events
from server.config import LIMITS
from server.errors import ClientError
from server.session_config import SemanticVad, SessionConfig, updated

# How fast a busy machine makes up examples is none of these tests' business.
UNTIMED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
FIELDS = ("event_id", "session", "audio", "item", "item_id", "content_index", "audio_end_ms", "response", "response_id")


def _read_and_check(frame: str | bytes) -> client_events.ClientEvent:
    return client_events.check(client_events.read(frame))


NOT_JSON = {
    "no JSON": "{",
    "not UTF-8": b"\xff\xfe",
    "half a surrogate pair, escaped": '{"type": "response.create", "event_id": "\\ud800"}',
    "half a surrogate pair, as bytes": b'{"type": "response.create", "event_id": "\xed\xa0\x80"}',
    "a number of thousands of digits": '{"type": "response.create", "n": ' + "1" * 5000 + "}",
    "not a number": '{"type": "session.update", "session": {"tools": [{"x": NaN}]}}',
    "more than a float holds": '{"type": "session.update", "session": {"tools": [{"x": 1e999}]}}',
    "nested too deeply to echo": '{"type": "x", "n": ' + "[" * 300 + "]" * 300 + "}",
    "nested too deeply to read": "[" * 100_000,
}


@pytest.mark.parametrize("name", NOT_JSON)
def test_what_could_not_be_echoed_as_json_is_refused(name: str) -> None:
    with pytest.raises(ClientError) as refused:
        client_events.read(NOT_JSON[name])
    assert refused.value.code == "invalid_json"


def test_nesting_is_allowed_up_to_the_limit() -> None:
    def nested(levels: int) -> str:
        return '{"type": "x", "n": ' + "[" * levels + "]" * levels + "}"

    assert client_events.read(nested(LIMITS.json_depth))["type"] == "x"
    with pytest.raises(ClientError, match="levels of nesting"):
        client_events.read(nested(LIMITS.json_depth + 2))


def test_a_whole_surrogate_pair_is_text() -> None:
    assert client_events.read('{"type": "\\ud83d\\ude00"}')["type"] == "\U0001f600"


@UNTIMED
@given(kind=st.sampled_from(sorted(client_events.KINDS)), fields=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_any_json_is_an_event_or_a_client_error(kind: str, fields: dict[str, Any]) -> None:
    with suppress(ClientError):
        assert _read_and_check(json.dumps({"type": kind, **fields})).type == kind


@UNTIMED
@given(patch=st.dictionaries(st.sampled_from(sorted(SessionConfig.model_fields)), JSON))
def test_any_update_is_merged_or_refused_and_never_changes_the_old_session(patch: dict[str, Any]) -> None:
    config = SessionConfig()
    before = config.model_dump_json()
    with suppress(ClientError):
        json.dumps(updated(config, patch).model_dump())
    assert config.model_dump_json() == before


def test_a_missing_field_is_named() -> None:
    with pytest.raises(ClientError) as refused:
        _read_and_check('{"type": "conversation.item.truncate", "item_id": "a", "content_index": 0}')
    assert (refused.value.code, refused.value.param) == ("missing_required_parameter", "audio_end_ms")


def test_an_error_says_what_was_expected_and_what_came() -> None:
    with pytest.raises(ClientError, match=r"less than or equal to 1.*got 7") as refused:
        updated(SessionConfig(), {"audio": {"input": {"turn_detection": {"threshold": 7}}}})
    assert refused.value.param == "session.audio.input.turn_detection.threshold"


def test_turn_detection_merges_within_a_type_and_starts_afresh_with_another() -> None:
    def detection(config: SessionConfig, value: Any) -> SessionConfig:
        return updated(config, {"audio": {"input": {"turn_detection": value}}})

    quick = detection(SessionConfig(), {"silence_duration_ms": 200})
    both = detection(quick, {"threshold": 0.7}).audio.input.turn_detection
    assert both is not None
    assert (both.model_dump()["silence_duration_ms"], both.model_dump()["threshold"]) == (200, 0.7)
    off = detection(quick, None)
    assert off.audio.input.turn_detection is None
    assert isinstance(detection(off, {"type": "semantic_vad"}).audio.input.turn_detection, SemanticVad)


@pytest.mark.parametrize(
    ("patch", "param"),
    [
        ({"tool_choice": {"type": "function"}}, "session.tool_choice"),
        ({"audio": {"output": {"voice": 3}}}, "session.audio.output.voice"),
        ({"max_output_tokens": "x"}, "session.max_output_tokens"),
        ({"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}}, "session.audio.input.format.rate"),
        ({"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 2}}}},
         "session.audio.input.turn_detection.threshold"),
        ({"tools": [{"type": "function"}]}, "session.tools.0.name"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "session.tools.0.name"),
        ({"nope": 1}, "session.nope"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_and_not_the_kinds_that_were_tried(patch: dict[str, Any], param: str) -> None:
    with pytest.raises(ClientError) as refused:
        updated(SessionConfig(), patch)
    assert refused.value.param == param


def test_a_field_of_an_event_is_named_as_it_is() -> None:
    with pytest.raises(ClientError) as refused:
        client_events.check({"type": "input_audio_buffer.append"})
    assert refused.value.param == "audio"
