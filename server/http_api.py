"""HTTP beside the WebSocket: the same model as transcriber, reader and chat partner, in the shapes of OpenAI's API."""

import asyncio
import base64
import json
import re
import textwrap
import time
from collections.abc import AsyncIterator
from dataclasses import astuple
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, Form, UploadFile
from fastapi.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from model.prompt import Tool, call_text, system_text
from server import sound_files, usage
from server.audio import from_base64
from server.config import LIMITS, ServerConfig
from server.engine.interface import SpeechEngine
from server.engine.messages import (
    HEARD_HZ,
    AudioDelta,
    CallDelta,
    ResponseDone,
    TextDelta,
    TranscriptDone,
    Usage,
)
from server.errors import ClientError, SessionLost
from server.exchange import Exchange, exchange
from server.functions import calls, functions
from server.ids import new_id
from server.instructions import InstructionsLimit
from server.keys import Keys
from server.session_config import FunctionName, SessionConfig, updated

Wire = dict[str, Any]
_Piece = TypeVar("_Piece", str, bytes)
# About 20 s of speech: one answer may take 40 s, and there are slow texts.
_PASSAGE_CHARACTERS = 300
_OWNER = "antiphon"


class ExpiresAfter(BaseModel):
    anchor: Literal["created_at"] = "created_at"
    seconds: int = Field(default=600, ge=10, le=7200)


class SecretRequest(BaseModel):
    """Body of `POST /v1/realtime/client_secrets`."""

    expires_after: ExpiresAfter = ExpiresAfter()
    session: Wire = Field(default_factory=dict)


class SpeechRequest(BaseModel):
    """Body of `POST /v1/audio/speech`. There is one voice, with one manner: `voice` and `instructions` are accepted."""

    model: str | None = None
    input: str = Field(min_length=1, max_length=4096)
    voice: str | Wire | None = None
    instructions: str | None = None
    response_format: Literal["mp3", "opus", "flac", "wav", "pcm"] = "mp3"
    speed: float = Field(default=1.0, ge=0.25, le=4.0)
    stream_format: Literal["audio", "sse"] = "audio"


class ChatAudio(BaseModel):
    voice: str | Wire | None = None
    format: Literal["wav", "mp3", "flac", "opus", "pcm16", "pcm"] = "wav"


class ChatFunction(BaseModel):
    name: FunctionName
    description: str | None = None
    parameters: Wire | None = None


class ChatTool(BaseModel):
    type: Literal["function"]
    function: ChatFunction


class ChosenFunction(BaseModel):
    name: str


class ChatChoice(BaseModel):
    """`tool_choice`: this function and no other."""

    type: Literal["function"]
    function: ChosenFunction


class ChatRequest(BaseModel):
    """Body of `POST /v1/chat/completions`; parameters that this model does not have are accepted and ignored."""

    model: str | None = None
    messages: list[Wire] = Field(min_length=1)
    modalities: list[Literal["text", "audio"]] = ["text"]
    audio: ChatAudio = ChatAudio()
    stream: bool = False
    max_completion_tokens: int | None = Field(default=None, ge=1)
    max_tokens: int | None = Field(default=None, ge=1)
    tools: list[ChatTool] = []
    tool_choice: Literal["auto", "none", "required"] | ChatChoice = "auto"


def router(config: ServerConfig, engine: SpeechEngine, keys: Keys, limit: InstructionsLimit) -> APIRouter:
    """The routes; every one needs an API key if the server has any."""
    made = APIRouter(prefix="/v1", dependencies=[Depends(keys.check_api_key)])
    name, born = config.model_name, int(time.time())

    @made.get("/models")
    async def models() -> Wire:
        return {"object": "list", "data": [_model(name, born)]}

    @made.get("/models/{model}")
    async def one_model(model: str) -> Wire:
        if model != name:
            raise ClientError(f"expected the model {name!r}, got {model!r}", "model_not_found", "model")
        return _model(name, born)

    @made.post("/realtime/client_secrets")
    async def client_secrets(request: SecretRequest) -> Wire:
        session = updated(SessionConfig(), request.session)  # refused here, not when the browser connects
        limit.room_ms(session.instructions, session.tools)
        secret = keys.issue(request.session, request.expires_after.seconds)
        shown = session.shown(new_id("sess"), name, int(time.time()) + LIMITS.session_s)
        return {"value": secret.value, "expires_at": secret.expires_at, "session": shown}

    @made.post("/realtime/calls")
    @made.post("/realtime/calls/{call:path}")
    @made.post("/realtime/sessions")
    @made.post("/realtime/transcription_sessions")
    async def not_here() -> None:
        raise ClientError(
            "expected a WebSocket to /v1/realtime, with a key from /v1/realtime/client_secrets where it runs in a "
            "browser: WebRTC, SIP and the beta's sessions are not served here",
            "unsupported_transport",
        )

    @made.post("/audio/transcriptions", response_model=None)
    async def transcriptions(
        file: UploadFile,
        model: Annotated[str, Form()] = name,
        response_format: Annotated[Literal["json", "text", "verbose_json"], Form()] = "json",
        stream: Annotated[bool, Form()] = False,
    ) -> Response:
        pcm = await asyncio.to_thread(sound_files.read, await file.read(), None, LIMITS.turn_ms)
        _check_length(pcm)
        if stream:
            return StreamingResponse(await _begun(_transcript_events(engine, pcm)), media_type="text/event-stream")
        done = await _transcribe(engine, pcm)
        if response_format == "text":
            return PlainTextResponse(done.text + "\n")
        shown: Wire = {"text": done.text, "usage": usage.of_transcript(done)}
        if response_format == "verbose_json":
            shown |= {"task": "transcribe", "language": "english", "duration": len(pcm) / 2 / HEARD_HZ, "segments": []}
        return JSONResponse(shown)

    @made.post("/audio/speech", response_model=None)
    async def speech(request: SpeechRequest) -> Response:
        if request.stream_format == "sse":
            return StreamingResponse(await _begun(_speech_events(engine, request)), media_type="text/event-stream")
        if request.response_format in ("pcm", "wav"):
            header = sound_files.wav_header() if request.response_format == "wav" else b""
            media_type = "audio/wav" if request.response_format == "wav" else sound_files.PCM_MEDIA_TYPE
            return StreamingResponse(await _begun(_spoken(engine, request, header)), media_type=media_type)
        pcm = b"".join([piece async for piece in _spoken(engine, request)])
        data = await asyncio.to_thread(sound_files.write, pcm, request.response_format)
        return Response(data, media_type=sound_files.FORMATS[request.response_format].media_type)

    @made.post("/chat/completions", response_model=None)
    async def chat_completions(request: ChatRequest) -> Response:
        prepared = [p for i, m in enumerate(request.messages) for p in await asyncio.to_thread(_prepare, m, i)]
        chat = Chat(engine, name, request, prepared)
        if request.stream:
            return StreamingResponse(await _begun(chat.events()), media_type="text/event-stream")
        return JSONResponse(await chat.completion())

    return made


async def _begun(pieces: AsyncIterator[_Piece]) -> AsyncIterator[_Piece]:
    """The same pieces once there is a first one: what fails before it is answered with its own status."""
    first = await anext(pieces, None)

    async def all_pieces() -> AsyncIterator[_Piece]:
        if first is not None:
            yield first
        async for piece in pieces:
            yield piece

    return all_pieces()


def _model(name: str, created: int) -> Wire:
    return {"id": name, "object": "model", "created": created, "owned_by": _OWNER}


def _event(value: Wire) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def _check_length(pcm: bytes) -> None:
    length_ms = len(pcm) / 2 / HEARD_HZ * 1000
    if not LIMITS.commit_ms <= length_ms <= LIMITS.turn_ms:
        raise ClientError(
            f"expected {LIMITS.commit_ms} to {LIMITS.turn_ms} ms of audio, got {length_ms:.0f} ms",
            "invalid_value",
            "file",
        )


# --- transcription -------------------------------------------------------------------------------------------------


async def _transcribe(engine: SpeechEngine, pcm: bytes) -> TranscriptDone:
    async with exchange(engine) as talk:
        talk.hear(pcm)
        async for event in talk.transcript():
            if isinstance(event, TranscriptDone):
                return event
    raise SessionLost("expected a transcript, the engine gave none")


async def _transcript_events(engine: SpeechEngine, pcm: bytes) -> AsyncIterator[str]:
    async with exchange(engine) as talk:
        talk.hear(pcm)
        async for event in talk.transcript():
            if isinstance(event, TranscriptDone):
                used = usage.of_transcript(event)
                yield _event({"type": "transcript.text.done", "text": event.text, "usage": used})
            else:
                yield _event({"type": "transcript.text.delta", "delta": event.text})


# --- reading aloud -------------------------------------------------------------------------------------------------


def passages(text: str, most: int = _PASSAGE_CHARACTERS) -> list[str]:
    """A text in pieces of whole sentences, each short enough to be read in one go."""
    found: list[str] = []
    for sentence in re.split(r"(?<=[.!?;:])\s+", text.strip()):
        for piece in textwrap.wrap(sentence, most):
            if found and len(found[-1]) + 1 + len(piece) <= most:
                found[-1] += f" {piece}"
            else:
                found.append(piece)
    return found


async def _read_aloud(engine: SpeechEngine, request: SpeechRequest) -> AsyncIterator[AudioDelta | Usage]:
    """The sound of a text, passage by passage, and at last what it took."""
    used = Usage()
    for passage in passages(request.input) or [request.input]:
        async with exchange(engine) as talk:
            async for event in talk.answer(speak=True, script=passage, speed=request.speed):
                if isinstance(event, AudioDelta):
                    yield event
                elif isinstance(event, ResponseDone):
                    used = Usage(*(a + b for a, b in zip(astuple(used), astuple(event.usage), strict=True)))
    yield used


async def _spoken(engine: SpeechEngine, request: SpeechRequest, header: bytes = b"") -> AsyncIterator[bytes]:
    async for event in _read_aloud(engine, request):
        if isinstance(event, AudioDelta):
            yield header + event.pcm
            header = b""


async def _speech_events(engine: SpeechEngine, request: SpeechRequest) -> AsyncIterator[str]:
    async for event in _read_aloud(engine, request):
        if isinstance(event, AudioDelta):
            yield _event({"type": "speech.audio.delta", "audio": base64.b64encode(event.pcm).decode()})
        else:
            yield _event({"type": "speech.audio.done", "usage": usage.counts(event)})


# --- chat ----------------------------------------------------------------------------------------------------------


Prepared = tuple[str, str, bytes | None]  # role, text, and the sound if it was spoken
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "result"}


def _prepare(message: Wire, index: int) -> list[Prepared]:
    """A message of a chat: what was said, then each function that was called. Raises `ClientError`."""
    where = f"messages[{index}]"
    role = _ROLES.get(str(message.get("role")))
    if role is None:
        raise ClientError(
            f"expected {where}.role to be one of {sorted(_ROLES)}, got {message.get('role')!r}",
            "invalid_value",
            f"{where}.role",
        )
    called = [_called(call, f"{where}.tool_calls[{i}]") for i, call in enumerate(message.get("tool_calls") or [])]
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return ([(role, content or "", None)] if content or role == "result" else []) + called
    if not isinstance(content, list):
        raise ClientError(
            f"expected {where}.content to be a text or a list of parts, got {content!r}",
            "invalid_type",
            f"{where}.content",
        )
    texts, sound = [], b""
    for i, part in enumerate(content):
        here = f"{where}.content[{i}]"
        match part:
            case {"type": "text", "text": str(text)}:
                texts.append(text)
            case {"type": "input_audio", "input_audio": {"data": str(data), **rest}}:
                raw = from_base64(data, here)
                sound += sound_files.read(raw, 24_000 if rest.get("format") == "pcm16" else None, LIMITS.turn_ms)
            case _:
                kind = part.get("type") if isinstance(part, dict) else part
                raise ClientError(f"expected a part of type text or input_audio, got {kind!r}", "invalid_value", here)
    if sound:
        _check_length(sound)
    return [(role, " ".join(texts), sound or None), *called]


def _called(call: Any, where: str) -> Prepared:
    """A function that was called."""
    match call:
        case {"function": {"name": str(name), "arguments": str(arguments)}}:
            return "call", call_text(name, arguments), None
        case _:
            raise ClientError(
                f"expected {where}.function with a name and arguments, both texts, got {call!r}", "invalid_type", where
            )


class Chat:
    """One chat completion."""

    def __init__(self, engine: SpeechEngine, model: str, request: ChatRequest, prepared: list[Prepared]) -> None:
        self._engine, self._request, self._prepared = engine, request, prepared
        self._speak = "audio" in request.modalities
        self._functions = [t.function for t in request.tools]
        declared = functions([(f.name, f.parameters) for f in self._functions], "tools")
        choice = request.tool_choice
        only = choice.function.name if isinstance(choice, ChatChoice) else None
        self._calls = calls("required" if isinstance(choice, ChatChoice) else choice, declared, only)
        self._common: Wire = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": model}

    def _tell(self, talk: Exchange) -> None:
        """Everything that was said so far."""
        tools = [Tool.from_schema(f.name, f.description, f.parameters) for f in self._functions]
        said = list(self._prepared)
        instructions = said.pop(0)[1] if said and said[0][0] == "system" else ""
        talk.instruct(system_text(instructions, tools))
        for role, text, sound in said:
            if text or role == "result":
                talk.say(role, text)
            if sound is not None:
                talk.hear(sound)

    async def _answer(self) -> AsyncIterator[TextDelta | AudioDelta | CallDelta | ResponseDone]:
        limit = self._request.max_completion_tokens or self._request.max_tokens
        async with exchange(self._engine) as talk:
            self._tell(talk)
            async for event in talk.answer(self._speak, self._calls, limit):
                yield event

    async def completion(self) -> Wire:
        """The whole answer."""
        text, pcm, call, used, reason = "", b"", None, Usage(), "stop"
        async for event in self._answer():
            match event:
                case TextDelta():
                    text += event.text
                case AudioDelta():
                    pcm += event.pcm
                case CallDelta():
                    call = call or _tool_call(event.name)
                    call["function"]["arguments"] += event.arguments
                case ResponseDone():
                    used, reason = event.usage, "length" if event.status == "incomplete" else "stop"
        message: Wire = {"role": "assistant", "content": None if self._speak or call else text, "refusal": None}
        if call:
            message["tool_calls"], reason = [call], "tool_calls" if reason == "stop" else reason
        elif self._speak:
            name = "pcm" if self._request.audio.format == "pcm16" else self._request.audio.format
            data = await asyncio.to_thread(sound_files.write, pcm, name)
            message["audio"] = {
                "id": new_id("audio"),
                "data": base64.b64encode(data).decode(),
                "transcript": text,
                "expires_at": self._common["created"] + LIMITS.session_s,
            }
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        return self._common | {"object": "chat.completion", "choices": [choice], "usage": _chat_usage(used)}

    def _chunk(self, delta: Wire, reason: str | None = None) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return _event(self._common | {"object": "chat.completion.chunk", "choices": [choice]})

    async def events(self) -> AsyncIterator[str]:
        """The answer piece by piece; audio is PCM16 at 24 kHz."""
        audio_id, reason, begun = new_id("audio"), "stop", False
        async for event in self._answer():
            if not begun:
                begun = True
                yield self._chunk({"role": "assistant"})
            match event:
                case TextDelta() if self._speak:
                    yield self._chunk({"audio": {"id": audio_id, "transcript": event.text}})
                case TextDelta():
                    yield self._chunk({"content": event.text})
                case AudioDelta():
                    data = base64.b64encode(event.pcm).decode()
                    yield self._chunk({"audio": {"id": audio_id, "data": data}})
                case CallDelta():
                    if reason != "tool_calls":
                        reason = "tool_calls"
                        yield self._chunk({"tool_calls": [_tool_call(event.name) | {"index": 0}]})
                    more = {"index": 0, "function": {"arguments": event.arguments}}
                    yield self._chunk({"tool_calls": [more]})
                case ResponseDone():
                    yield self._chunk({}, "length" if event.status == "incomplete" else reason)
        yield "data: [DONE]\n\n"


def _tool_call(name: str) -> Wire:
    """A call whose arguments are still to come."""
    return {"id": new_id("call"), "type": "function", "function": {"name": name, "arguments": ""}}


def _chat_usage(used: Usage) -> Wire:
    return {
        "prompt_tokens": used.input_tokens,
        "completion_tokens": used.output_tokens,
        "total_tokens": used.input_tokens + used.output_tokens,
        "prompt_tokens_details": {"audio_tokens": used.input_audio, "cached_tokens": used.cached_tokens},
        "completion_tokens_details": {"audio_tokens": used.output_audio},
    }
