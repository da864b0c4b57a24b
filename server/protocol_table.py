"""`docs/protocol.md`, made from the code: every event and field of the Realtime protocol, and what this server does.

python -m server.protocol_table > docs/protocol.md
"""

import json
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from server.client_events import KINDS, NOT_SERVED
from server.config import LIMITS
from server.engine.engine_config import EngineConfig
from server.session_config import ResponseConfig, SessionConfig

_ENGINE = EngineConfig()
SUPPORTED, ACCEPTED, REFUSED, NOT_SENT = "supported", "accepted", "refused", "not sent"
LEGEND = f"""**{SUPPORTED}**: works as documented. **{ACCEPTED}**: checked, in a session shown again, without effect.
**{REFUSED}**: answered by an `error` that says so; the session goes on. **{NOT_SENT}**: this server never sends it."""

CLIENT_EVENTS = {
    "conversation.item.create": (
        SUPPORTED,
        "text anywhere; audio, without text beside it, at the end while nobody speaks",
    ),
    **{kind: (REFUSED, why) for kind, why in NOT_SERVED.items()},
}

SERVER_EVENTS = {
    "error": (SUPPORTED, "with the client's event_id"),
    "session.created": (SUPPORTED, ""),
    "session.updated": (SUPPORTED, ""),
    "conversation.created": (NOT_SENT, "as with the hosted service"),
    "conversation.item.added": (SUPPORTED, ""),
    "conversation.item.done": (SUPPORTED, ""),
    "conversation.item.created": (NOT_SENT, "of the beta"),
    "conversation.item.retrieved": (SUPPORTED, "with the audio"),
    "conversation.item.truncated": (SUPPORTED, ""),
    "conversation.item.deleted": (SUPPORTED, "also after `context_length_exceeded`, of an item that was too long"),
    "conversation.item.input_audio_transcription.delta": (SUPPORTED, "where transcription is on"),
    "conversation.item.input_audio_transcription.completed": (SUPPORTED, "where transcription is on"),
    "conversation.item.input_audio_transcription.failed": (
        NOT_SENT,
        "the model that answers also transcribes",
    ),
    "conversation.item.input_audio_transcription.segment": (NOT_SENT, "no diarisation"),
    "input_audio_buffer.committed": (SUPPORTED, ""),
    "input_audio_buffer.cleared": (SUPPORTED, ""),
    "input_audio_buffer.speech_started": (SUPPORTED, ""),
    "input_audio_buffer.speech_stopped": (SUPPORTED, ""),
    "input_audio_buffer.timeout_triggered": (SUPPORTED, "only with idle_timeout_ms"),
    "input_audio_buffer.dtmf_event_received": (NOT_SENT, "SIP only"),
    "response.created": (SUPPORTED, ""),
    "response.done": (SUPPORTED, "with an extra field, timings_ms"),
    "response.output_item.added": (SUPPORTED, ""),
    "response.output_item.done": (SUPPORTED, ""),
    "response.content_part.added": (SUPPORTED, ""),
    "response.content_part.done": (SUPPORTED, ""),
    "response.output_audio.delta": (SUPPORTED, ""),
    "response.output_audio.done": (SUPPORTED, ""),
    "response.output_audio_transcript.delta": (SUPPORTED, ""),
    "response.output_audio_transcript.done": (SUPPORTED, ""),
    "response.output_text.delta": (SUPPORTED, ""),
    "response.output_text.done": (SUPPORTED, ""),
    "response.function_call_arguments.delta": (SUPPORTED, "a delta for each piece that the model says"),
    "response.function_call_arguments.done": (SUPPORTED, ""),
    "rate_limits.updated": (SUPPORTED, "an empty list: there are none"),
    "output_audio_buffer.started": (NOT_SENT, "WebRTC and SIP only"),
    "output_audio_buffer.stopped": (NOT_SENT, "WebRTC and SIP only"),
    "output_audio_buffer.cleared": (NOT_SENT, "WebRTC and SIP only"),
    "mcp_list_tools.in_progress": (NOT_SENT, "no MCP"),
    "mcp_list_tools.completed": (NOT_SENT, "no MCP"),
    "mcp_list_tools.failed": (NOT_SENT, "no MCP"),
    "response.mcp_call_arguments.delta": (NOT_SENT, "no MCP"),
    "response.mcp_call_arguments.done": (NOT_SENT, "no MCP"),
    "response.mcp_call.in_progress": (NOT_SENT, "no MCP"),
    "response.mcp_call.completed": (NOT_SENT, "no MCP"),
    "response.mcp_call.failed": (NOT_SENT, "no MCP"),
}

# Fields that are not simply supported.
FIELDS = {
    "session.model": (ACCEPTED, "any name: one model is served; that in the URL is shown"),
    "session.instructions": (SUPPORTED, f"with the tools at most {_ENGINE.instruction_tokens} tokens"),
    "session.audio.input.noise_reduction": (SUPPORTED, "null: none"),
    "session.audio.input.transcription": (SUPPORTED, "null: transcripts are not shown"),
    "session.audio.input.turn_detection": (SUPPORTED, "null: the client commits, and asks for the answer"),
    "session.audio.input.turn_detection.type": (SUPPORTED, "`server_vad`, or `semantic_vad`, which answers sooner"),
    "session.audio.input.noise_reduction.type": (SUPPORTED, "WebRTC's suppressor; on Linux"),
    "session.audio.input.transcription.model": (ACCEPTED, "any name: the model itself transcribes"),
    "session.audio.input.transcription.language": (ACCEPTED, "English only"),
    "session.audio.input.transcription.languages": (ACCEPTED, "English only"),
    "session.audio.input.transcription.keywords": (ACCEPTED, ""),
    "session.audio.input.transcription.prompt": (ACCEPTED, ""),
    "session.audio.input.transcription.delay": (ACCEPTED, "transcripts come as early as they can"),
    "session.audio.output.voice": (ACCEPTED, "the model has one voice of its own"),
    "session.include": (ACCEPTED, "no logprobs"),
    "session.parallel_tool_calls": (ACCEPTED, "one call at a time"),
    "session.reasoning": (ACCEPTED, "the model does not reason"),
    "session.tracing": (ACCEPTED, ""),
    "session.prompt": (ACCEPTED, "there are no stored prompts"),
    "session.tools.server_label": (REFUSED, "no MCP servers"),
    "session.tools.strict": (ACCEPTED, ""),
    "response.input": (SUPPORTED, "together with conversation none; audio as an `item_reference`"),
    "response.audio.output.format": (SUPPORTED, "null: the session's"),
    "response.audio.output.voice": (ACCEPTED, "the model has one voice of its own"),
    "response.parallel_tool_calls": (ACCEPTED, "one call at a time"),
    "response.reasoning": (ACCEPTED, "the model does not reason"),
    "response.prompt": (ACCEPTED, "there are no stored prompts"),
    "response.tools.server_label": (REFUSED, "no MCP servers"),
    "response.tools.strict": (ACCEPTED, ""),
}


# The extra field `timings_ms` of `response.done`.
TIMINGS = {
    "speech_end": "the end of the speech that is answered, where turn detection found it: usually below zero",
    "heard": "all of the turn has been heard",
    "transcribed": "all of it has been written down",
    "decided": "the turn was over, and the answer could be shown: an answer may be begun in a pause",
    "first_token": "the first token of the answer, or of the thought before it",
    "thought": "the end of that thought, where there was one",
    "drafted": "all of the text of a spoken answer is written; the speech of a long one has begun before",
    "first_code": "the first one that is sound",
    "first_audio": "the first samples",
    "sent": "the first audio handed to the client's connection",
    "done": "the end of the answer",
}

# Of one session, whatever the client asks for.
SESSION_LIMITS = {
    "its length": f"{LIMITS.session_s // 60} minutes, then `session_expired`",
    "one turn": f"{LIMITS.turn_ms // 1000} s, less where instructions and tools need the room. Turn detection ends it "
    f"there; of a longer one that the client would end the newest {LIMITS.kept_turn_ms // 1000} s are kept. Sound "
    "files and `input_audio` may be as long as a turn",
    "the conversation": f"{_ENGINE.length} tokens: 25 a second of speech, on either side, and the texts. Beyond "
    f"{_ENGINE.conversation_tokens} the oldest items are forgotten, as `truncation` says",
    "one answer": f"{_ENGINE.answer_tokens} tokens, about 40 s of speech; then `incomplete`, `max_output_tokens`",
    "responses with `conversation` none": f"{LIMITS.detached_responses} at once",
    "one `input_audio_buffer.append`": f"{LIMITS.append_bytes // 2**20} MiB",
    "audio that `conversation.item.retrieve` gives": f"the newest {LIMITS.kept_audio_bytes // 2**20} MiB of its items",
}

CLOSE_CODES = {
    "1000": "`session_expired`",
    "1008": "`invalid_api_key`",
    "1011": "the server failed; its log says why",
    "1012": "`server_draining`: the server is about to stop; connect again",
    "1013": "`server_overloaded` (no room, told after `session.created`; try again later) or `engine_unavailable`",
}

ROUTES = {
    "GET /v1/realtime": "the WebSocket; `/realtime` too",
    "POST /v1/realtime/client_secrets": "a key for a browser, with settings of its session",
    "GET /v1/models": "the one model that is served; `/v1/models/NAME` too",
    "POST /v1/audio/transcriptions": "a sound file written down; `stream` for server-sent events",
    "POST /v1/audio/speech": "a text read aloud: mp3, opus, flac, wav or pcm; `stream_format` sse",
    "POST /v1/chat/completions": "text, sound and function calls in and out; `stream` for server-sent events",
    "GET /health": "whether the engine lives",
    "GET /ready": "whether new sessions are welcome",
    "GET /metrics": "counters and histograms, for Prometheus",
    "GET /": "a page that talks to the model: microphone, or typed text; with keys, `/#key=KEY`",
}


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that a field may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, UnionType, list) or hasattr(annotation, "__metadata__"):
        return [m for part in get_args(annotation) for m in _models(part)]
    return []


def fields(model: type[BaseModel], where: str, given: BaseModel | None = None) -> Iterator[tuple[str, str]]:
    """(path, default as JSON) of every field below `model`, each once; of several kinds of object the default's own.

    `given` is the default of the object itself, where it has one. An object that may be null, or a word, has a row of
    its own; what is said of its fields is then what holds where it is given.
    """
    for name, field in model.model_fields.items():
        path = f"{where}.{name}"
        value = getattr(given, name) if given else field.get_default(call_default_factory=True)
        inner: dict[str, str] = {}
        for kind in _models(field.annotation):
            is_default = isinstance(value, kind)
            for at, default in fields(kind, path, value if is_default else None):
                inner[at] = default if is_default or at not in inner else inner[at]
        if inner and (value is None or isinstance(value, str)):
            yield path, json.dumps(value)
        elif inner and type(None) in get_args(field.annotation):
            yield path, ""
        if inner:
            yield from inner.items()
        elif given is None and field.is_required():
            yield path, ""
        else:
            yield path, json.dumps(value, default=lambda part: part.model_dump())


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def document() -> str:
    """The whole page."""
    client = dict.fromkeys(KINDS, (SUPPORTED, "")) | CLIENT_EVENTS
    session = dict(fields(SessionConfig, "session"))
    response = dict(fields(ResponseConfig, "response"))
    parts = [
        "# The Realtime protocol, event by event",
        "Made by `python -m server.protocol_table`; a test keeps it true.",
        LEGEND,
        "## Events of the client",
        _table(("event", "here", ""), [(f"`{k}`", *v) for k, v in client.items()]),
        "## Events of the server",
        _table(("event", "here", ""), [(f"`{k}`", *v) for k, v in SERVER_EVENTS.items()]),
    ]
    parts += [
        "## Limits of a session",
        "With the embedded model and the engine's own settings.",
        _table(("of", "at most"), list(SESSION_LIMITS.items())),
        "## How a connection ends",
        "Where it is not the client that ends it: an `error` with the code, then a close frame.",
        _table(("close code", "error code"), list(CLOSE_CODES.items())),
        "## Timings",
        "`response.done` has an extra field `timings_ms`: milliseconds from asking for the answer to each stage.",
        _table(("stage", "what has happened"), [(f"`{k}`", v) for k, v in TIMINGS.items()]),
        "## HTTP",
        "Beside the socket, in the shapes of OpenAI's API. WebRTC and SIP (`/v1/realtime/calls`) and the "
        "sessions of the beta are refused with `unsupported_transport`; the beta's flat session fields are unknown. "
        "Only `/health`, `/ready`, `/metrics` and `/` ask for no key.",
        _table(("route", ""), [(f"`{k}`", v) for k, v in ROUTES.items()]),
    ]
    for title, found in (("session", session), ("response.create", response)):
        rows = [(f"`{p}`", f"`{d}`" if d else "", *FIELDS.get(p, (SUPPORTED, ""))) for p, d in found.items()]
        parts += [f"## Fields of `{title}`", _table(("field", "default", "here", ""), rows)]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    print(document(), end="")
