"""Client events: from the text of a WebSocket frame to a checked event. No I/O and no state."""

import json
import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from server.audio import from_base64
from server.config import LIMITS
from server.errors import ClientError
from server.session_config import ResponseConfig, parse


class _Event(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)
    event_id: str | None = Field(None, max_length=512)


class SessionUpdate(_Event):
    type: Literal["session.update"]
    session: dict[str, Any]


class Append(_Event):
    type: Literal["input_audio_buffer.append"]
    audio: str


class Commit(_Event):
    type: Literal["input_audio_buffer.commit"]


class Clear(_Event):
    type: Literal["input_audio_buffer.clear"]


class ItemCreate(_Event):
    type: Literal["conversation.item.create"]
    item: dict[str, Any]
    previous_item_id: str | None = None


class ItemRetrieve(_Event):
    type: Literal["conversation.item.retrieve"]
    item_id: str


class ItemDelete(_Event):
    type: Literal["conversation.item.delete"]
    item_id: str


class ItemTruncate(_Event):
    type: Literal["conversation.item.truncate"]
    item_id: str
    content_index: Annotated[int, Field(ge=0)]
    audio_end_ms: Annotated[int, Field(ge=0)]


class ResponseCreate(_Event):
    type: Literal["response.create"]
    response: ResponseConfig = ResponseConfig()


class ResponseCancel(_Event):
    type: Literal["response.cancel"]
    response_id: str | None = None


ClientEvent = (
    SessionUpdate
    | Append
    | Commit
    | Clear
    | ItemCreate
    | ItemRetrieve
    | ItemDelete
    | ItemTruncate
    | ResponseCreate
    | ResponseCancel
)
KINDS: dict[str, type[ClientEvent]] = {
    "session.update": SessionUpdate,
    "input_audio_buffer.append": Append,
    "input_audio_buffer.commit": Commit,
    "input_audio_buffer.clear": Clear,
    "conversation.item.create": ItemCreate,
    "conversation.item.retrieve": ItemRetrieve,
    "conversation.item.delete": ItemDelete,
    "conversation.item.truncate": ItemTruncate,
    "response.create": ResponseCreate,
    "response.cancel": ResponseCancel,
}


NOT_SERVED = {
    "output_audio_buffer.clear": "WebRTC and SIP only",
    "transcription_session.update": "of the beta; use session.update with type transcription",
}
"""Official events of other transports and versions."""


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def _finite(number: str) -> float:
    """A number, or one of the constants that Python reads and JSON does not have."""
    value = float(number)
    if not math.isfinite(value):
        raise ClientError(f"expected finite numbers, got {number[:40]}", "invalid_json")
    return value


def _nested_deeper(value: Any, levels: int) -> bool:
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(levels == 0 or _nested_deeper(child, levels - 1) for child in children)


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_finite)


def read(frame: str | bytes) -> dict[str, Any]:
    """A frame as a JSON object with a string `type`. Raises `ClientError`."""
    try:
        text = frame if isinstance(frame, str) else frame.decode()
        value = _DECODER.decode(text)
        if _SURROGATE.search(text):
            json.dumps(value, ensure_ascii=False).encode()  # half of a pair is no text and cannot be passed on
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, a number of thousands of digits
        raise ClientError(f"expected a JSON object, got something that is not JSON: {error}", "invalid_json") from error
    if not isinstance(value, dict):
        raise ClientError(f"expected a JSON object, got {type(value).__name__}", "invalid_event")
    if _nested_deeper(value, LIMITS.json_depth):
        raise ClientError(f"expected at most {LIMITS.json_depth} levels of nesting, got more", "invalid_json")
    if not isinstance(value.get("type"), str):
        raise ClientError(f"expected a string in 'type', got {value.get('type')!r}", "invalid_event", "type")
    return value


def check(value: dict[str, Any]) -> ClientEvent:
    """A JSON object as a client event. Raises `ClientError`."""
    kind = KINDS.get(value["type"])
    if kind is None:
        known, why = ", ".join(sorted(KINDS)), NOT_SERVED.get(value["type"])
        came = f"{value['type'][:80]!r}" + (f" ({why})" if why else "")
        raise ClientError(f"expected one of {known}; got type {came}", "invalid_event", "type")
    if kind is ResponseCreate and value.get("response") is None:
        value = {k: v for k, v in value.items() if k != "response"}
    event: ClientEvent = parse(kind, value, "")
    return event


def audio_bytes(event: Append) -> bytes:
    """The bytes of an `append`. Raises `ClientError`."""
    if len(event.audio) > LIMITS.append_bytes * 4 // 3 + 4:
        raise ClientError(
            f"expected at most {LIMITS.append_bytes} bytes of audio in one event, got {len(event.audio) * 3 // 4}",
            "string_above_max_length",
            "audio",
        )
    return from_base64(event.audio, "audio")
