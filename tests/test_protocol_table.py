"""docs/protocol.md says what the code does, and leaves nothing of the official protocol out."""

import re
from pathlib import Path
from typing import Any, get_args

import pytest
from openai.types.realtime import RealtimeClientEvent, RealtimeServerEvent, RealtimeSessionCreateRequest
from openai.types.realtime.realtime_response_create_params import RealtimeResponseCreateParams

from server import protocol_table
from server.client_events import KINDS
from server.config import ServerConfig
from server.gateway import create_app
from server.session_config import ResponseConfig, SessionConfig
from tests.scripted_engine import ScriptedEngine

ROOT = Path(__file__).parent.parent


def _official(union: Any) -> set[str]:
    members = get_args(get_args(union)[0]) or get_args(union)
    return {get_args(m.model_fields["type"].annotation)[0] for m in members if "type" in m.model_fields}


def test_the_page_is_the_one_that_the_code_makes() -> None:
    made = protocol_table.document()
    assert (ROOT / "docs" / "protocol.md").read_text() == made, (
        "run `python -m server.protocol_table > docs/protocol.md`"
    )


def test_every_official_event_is_in_the_table() -> None:
    assert _official(RealtimeServerEvent) <= set(protocol_table.SERVER_EVENTS)
    assert _official(RealtimeClientEvent) <= set(KINDS) | set(protocol_table.CLIENT_EVENTS)


def test_events_are_sent_exactly_if_the_table_says_so() -> None:
    source = "".join((ROOT / "server" / name).read_text() for name in ("session.py", "response.py", "gateway.py"))
    sent = set(re.findall(r'"((?:session|conversation|input_audio_buffer|response|rate_limits)\.[a-z_.]+)"', source))
    sent = {kind for kind in sent if kind in protocol_table.SERVER_EVENTS} | {"error"}
    promised = {k for k, (here, _) in protocol_table.SERVER_EVENTS.items() if here == protocol_table.SUPPORTED}
    assert sent == promised


def test_notes_are_about_fields_that_exist() -> None:
    known = dict(protocol_table.fields(SessionConfig, "session")) | dict(
        protocol_table.fields(ResponseConfig, "response")
    )
    assert set(protocol_table.FIELDS) <= set(known)


def test_every_route_is_there() -> None:
    paths = create_app(ServerConfig(), ScriptedEngine()).openapi()["paths"]
    served = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    served.add(("GET", "/v1/realtime"))  # a WebSocket, which OpenAPI does not know
    assert {tuple(route.split()) for route in protocol_table.ROUTES} <= served


@pytest.mark.parametrize(
    ("official", "ours"),
    [(RealtimeSessionCreateRequest, SessionConfig), (RealtimeResponseCreateParams, ResponseConfig)],
)
def test_every_official_field_is_known(official: Any, ours: Any) -> None:
    assert set(official.model_fields) - set(ours.model_fields) == set()


def test_the_browser_page_speaks_this_protocol() -> None:
    page = (ROOT / "clients" / "browser" / "index.html").read_text()
    sent = set(re.findall(r'send\("([a-z_.]+)"', page))
    handled = set(re.findall(r'^  "([a-z_.]+)": \(', page, re.MULTILINE))
    assert {"session.update", "input_audio_buffer.append", "conversation.item.truncate"} <= sent <= set(KINDS)
    promised = {k for k, (here, _) in protocol_table.SERVER_EVENTS.items() if here == protocol_table.SUPPORTED}
    assert {"response.output_audio.delta", "error"} <= handled <= promised
