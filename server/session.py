"""One Realtime session as a state machine: client events, detected speech and engine events go in; server events for
the client and commands for the engine come out.

No sockets, no asyncio, no torch, and no clock but the one it is given; a test drives it with plain calls.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from server import audio, client_events
from server.audio import Samples
from server.client_events import ClientEvent
from server.config import LIMITS
from server.engine.messages import (
    HEARD_HZ,
    SPOKEN_HZ,
    AddText,
    AudioDelta,
    Cancel,
    Command,
    CommitTurn,
    DeleteItem,
    DropTurn,
    Event,
    Hear,
    Respond,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    TextDelta,
    TranscriptDelta,
    TranscriptDone,
    TruncateItem,
    TurnProbability,
)
from server.errors import AntiphonError, ClientError, wire_error
from server.ids import new_id
from server.response import Response
from server.session_config import ResponseConfig, SemanticVad, ServerVad, SessionConfig, updated
from server.turn_detection import WINDOW_MS, Hysteresis, SpeechStarted, SpeechStopped

Wire = dict[str, Any]

# semantic_vad: the end-of-turn probability that ends a turn in a pause, and the pause that ends it anyway.
_EAGERNESS = {"low": (0.9, 8000), "medium": (0.75, 4000), "auto": (0.75, 4000), "high": (0.5, 2000)}
_SEMANTIC_THRESHOLD, _SEMANTIC_PADDING_MS, _SEMANTIC_MIN_PAUSE_MS = 0.5, 300, 96
_HEARD_BYTES_PER_MS = HEARD_HZ * 2 // 1000


@dataclass(slots=True)
class Item:
    """A conversation item: what the wire shows, and the audio behind it."""

    wire: Wire
    pcm: bytes = b""
    audio_ms: int = 0


@dataclass(slots=True)
class Output:
    """What a call brought about, each list in order."""

    events: list[Wire] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


class Session:
    """See the module. Every public method returns what to send."""

    def __init__(
        self,
        session_id: str,
        model: str,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
    ) -> None:
        self.id, self.model = session_id, model
        self._clock = clock
        self._expires_at = int(unix_time()) + LIMITS.session_s
        self.config = SessionConfig()
        self._items: dict[str, Item] = {}
        self._order: list[str] = []
        self._out = Output()
        self._response: Response | None = None
        self._resample = audio.resampler(24_000, HEARD_HZ)
        self._hysteresis: Hysteresis | None = Hysteresis(0.5, 500)
        self._windows = 0
        self._windows_start_ms = 0  # where turn detection was switched on
        self._heard_ms = 0.0  # 16 kHz audio since the session began
        self._recent = bytearray()  # what was heard before speech began, as far back as the prefix padding
        self._turn = bytearray()  # 16 kHz audio of the open turn
        self._turn_item_id: str | None = None
        self._spoke_up = False
        self._probability = 0.0
        self._idle_from_s: float | None = None
        self._audio_was_sent = False

    # --- what goes in ----------------------------------------------------------------------------------------------

    def opened(self) -> Output:
        """The session has begun."""
        self._emit("session.created", session=self._session_object())
        return self._take()

    def client_frame(self, frame: str | bytes) -> tuple[Output, Samples | None]:
        """A frame from the client. Also returns new 16 kHz audio if turn detection is on.

        The caller then goes through that audio in pieces of at most one window: `hear` with each piece, then
        `speech_window` if the piece completed one. So turns begin and end where they do, however long a frame is.
        """
        event_id: str | None = None
        samples = None
        try:
            value = client_events.read(frame)
            event_id = value.get("event_id") if isinstance(value.get("event_id"), str) else None
            samples = self._client_event(client_events.check(value))
        except AntiphonError as error:
            self._emit("error", error=wire_error(error, event_id))
        return self._take(), samples

    def hear(self, samples: Samples) -> Output:
        """The next piece of the audio that `client_frame` returned."""
        self._hear(samples)
        return self._take()

    def speech_window(self, probability: float) -> Output:
        """Turn detection's probability of speech in the next 32 ms window."""
        start_ms = self._windows_start_ms + self._windows * WINDOW_MS
        self._windows += 1
        if self._hysteresis is None:
            return self._take()
        change = self._hysteresis.push(probability, start_ms)
        if isinstance(change, SpeechStarted):
            self._speech_started(change.at_ms)
        elif isinstance(change, SpeechStopped):
            self._speech_stopped(change.at_ms)
        else:
            self._semantic_end(start_ms + WINDOW_MS)
        return self._take()

    def engine_event(self, event: Event) -> Output:
        """Something happened in the engine. Events of responses that are over are dropped."""
        match event:
            case TurnProbability(probability=probability):
                self._probability = probability
            case TranscriptDelta(item_id=item_id, text=text):
                if self.config.audio.input.transcription is not None and item_id in self._items:
                    self._emit(
                        "conversation.item.input_audio_transcription.delta",
                        item_id=item_id,
                        content_index=0,
                        delta=text,
                    )
            case TranscriptDone():
                self._transcribed(event)
            case SessionFailed(message=message):
                self._emit("error", error=wire_error(AntiphonError(message)))
                if self._response is not None:
                    self._finish(
                        "failed",
                        {"type": "failed", "error": {"type": "server_error", "code": "engine", "message": message}},
                    )
            case TextDelta() | AudioDelta() | ResponseDone():
                self._response_event(event)
        return self._take()

    def tick(self) -> Output:
        """Time has passed: the idle timeout of `server_vad`."""
        detection = self.config.audio.input.turn_detection
        timeout_ms = detection.idle_timeout_ms if isinstance(detection, ServerVad) else None
        if (
            timeout_ms is not None
            and self._idle_from_s is not None
            and self._response is None
            and not (self._hysteresis and self._hysteresis.speaking)
            and 1000 * (self._clock() - self._idle_from_s) >= timeout_ms
        ):
            self._idle_from_s = None
            item_id = new_id("item")
            end_ms = round(self._heard_ms)
            self._emit(
                "input_audio_buffer.timeout_triggered",
                audio_start_ms=max(0, end_ms - timeout_ms),
                audio_end_ms=end_ms,
                item_id=item_id,
            )
            self._turn = bytearray(self._recent or bytes(_HEARD_BYTES_PER_MS * 200))
            self._command(Hear(self.id, bytes(self._turn)))
            self._commit(item_id)
            self._respond(ResponseConfig(), None)
        return self._take()

    # --- client events ---------------------------------------------------------------------------------------------

    def _client_event(self, event: ClientEvent) -> Samples | None:
        match event:
            case client_events.Append():
                return self._append(event)
            case client_events.SessionUpdate(session=patch):
                self._update(patch)
            case client_events.Commit():
                self._commit_by_client()
            case client_events.Clear():
                self._clear()
            case client_events.ItemCreate(item=item, previous_item_id=previous):
                self._create_item(item, previous)
            case client_events.ItemRetrieve(item_id=item_id):
                self._emit("conversation.item.retrieved", item=self._with_audio(self._item(item_id, "retrieve")))
            case client_events.ItemDelete(item_id=item_id):
                self._item(item_id, "delete")
                if self._response is not None and self._response.item_id == item_id:
                    self._cancel_by_client(None)
                self._order.remove(item_id)
                del self._items[item_id]
                self._command(DeleteItem(self.id, item_id))
                self._emit("conversation.item.deleted", item_id=item_id)
            case client_events.ItemTruncate():
                self._truncate(event)
            case client_events.ResponseCreate(response=request, event_id=event_id):
                self._respond(request, event_id)
            case client_events.ResponseCancel(response_id=response_id):
                self._cancel_by_client(response_id)
        return None

    def _update(self, patch: Wire) -> None:
        config = updated(self.config, patch)
        voice = config.audio.output.voice
        if self._audio_was_sent and voice != self.config.audio.output.voice:
            raise ClientError(
                "expected the voice to stay once audio was sent", "cannot_update_voice", "session.audio.output.voice"
            )
        old, self.config = self.config, config
        if config.instructions != old.instructions:
            self._command(SetInstructions(self.id, config.instructions))
        if config.audio.input.format != old.audio.input.format:
            self._resample = audio.resampler(audio.RATE_HZ[config.audio.input.format.type], HEARD_HZ)
        if config.audio.input.turn_detection != old.audio.input.turn_detection:
            self._set_turn_detection()
        self._emit("session.updated", session=self._session_object())

    def _set_turn_detection(self) -> None:
        detection = self.config.audio.input.turn_detection
        was_on = self._hysteresis is not None
        speaking = self._hysteresis is not None and self._hysteresis.speaking
        if isinstance(detection, ServerVad):
            self._hysteresis = Hysteresis(detection.threshold, detection.silence_duration_ms)
        elif isinstance(detection, SemanticVad):
            self._hysteresis = Hysteresis(_SEMANTIC_THRESHOLD, _EAGERNESS[detection.eagerness][1])
        else:
            self._hysteresis = None
        if not was_on:
            self._windows, self._windows_start_ms = 0, round(self._heard_ms)
        if speaking:  # what was heard of the turn stays in the buffer
            if self._hysteresis is not None:
                self._hysteresis.speaking = True
        elif self._hysteresis is None:
            self._recent.clear()

    def _append(self, event: client_events.Append) -> Samples | None:
        samples = audio.decode(client_events.audio_bytes(event), self.config.audio.input.format.type)
        heard = self._resample(samples, False)
        if self._hysteresis is not None:
            return heard
        self._hear(heard)
        return None

    def _hear(self, samples: Samples) -> None:
        self._heard_ms += 1000 * len(samples) / HEARD_HZ
        data = samples.tobytes()
        if self._hysteresis is None or self._hysteresis.speaking:
            self._turn += data
            self._command(Hear(self.id, data))
        else:
            self._recent += data
            # Keep the padding, and what turn detection needs to make up its mind.
            keep = _HEARD_BYTES_PER_MS * (self._padding_ms() + 4 * WINDOW_MS) + len(data)
            del self._recent[: max(0, len(self._recent) - keep)]

    def _end_of_input(self) -> Samples:
        """What the resampler still holds when a manual turn ends; the next turn begins with none of it."""
        tail = self._resample(np.zeros(0, dtype=np.int16), True)
        self._resample = audio.resampler(audio.RATE_HZ[self.config.audio.input.format.type], HEARD_HZ)
        return tail

    def _padding_ms(self) -> int:
        detection = self.config.audio.input.turn_detection
        return detection.prefix_padding_ms if isinstance(detection, ServerVad) else _SEMANTIC_PADDING_MS

    def _commit_by_client(self) -> None:
        if self._hysteresis is None:
            self._hear(self._end_of_input())
        if not self._turn and self._recent:  # turn detection has heard nothing; the client knows better
            self._turn = bytearray(self._recent)
            self._recent.clear()
            self._command(Hear(self.id, bytes(self._turn)))
        length_ms = len(self._turn) / _HEARD_BYTES_PER_MS
        if length_ms < LIMITS.commit_ms:
            raise ClientError(
                f"Error committing input audio buffer: buffer too small. Expected at least {LIMITS.commit_ms}ms "
                f"of audio, but buffer only has {length_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        if self._hysteresis is not None and self._hysteresis.speaking:
            self._hysteresis.stop()
        self._commit(self._turn_item_id or new_id("item"))

    def _clear(self) -> None:
        if self._hysteresis is None:
            self._heard_ms += 1000 * len(self._end_of_input()) / HEARD_HZ
        self._turn.clear()
        self._recent.clear()
        self._turn_item_id = None
        if self._hysteresis is not None and self._hysteresis.speaking:
            self._hysteresis.stop()
        self._command(DropTurn(self.id))
        self._emit("input_audio_buffer.cleared")

    def _create_item(self, wire: Wire, previous: str | None) -> None:
        item_id = wire.get("id") or new_id("item")
        if not isinstance(item_id, str):
            raise ClientError(f"expected item.id to be a string, got {item_id!r}", "invalid_type", "item.id")
        if item_id in self._items:
            raise ClientError(f"expected a new item.id, got {item_id!r}, which exists", "invalid_value", "item.id")
        role, text = _text_of(wire)
        wire = wire | {"id": item_id, "object": "realtime.item", "status": "completed"}
        at_end = (
            previous is None
            or (bool(self._order) and previous == self._order[-1])
            or (previous == "root" and not self._order)
        )
        if not at_end:
            if previous != "root" and previous not in self._items:
                raise ClientError(
                    f"expected previous_item_id to be an item of this conversation, got {previous!r}",
                    "invalid_value",
                    "previous_item_id",
                )
            raise ClientError(
                "expected an item at the end of the conversation; this server does not insert items yet",
                "unsupported_operation",
                "previous_item_id",
            )
        self._add(Item(wire), AddText(self.id, item_id, role, text))
        self._emit("conversation.item.done", previous_item_id=self._before(item_id), item=wire)

    def _truncate(self, event: client_events.ItemTruncate) -> None:
        item = self._item(event.item_id, "truncate")
        content = item.wire.get("content") or [{}]
        if item.wire.get("role") != "assistant" or content[0].get("type") != "output_audio":
            raise ClientError(
                "Only model output audio messages can be truncated", "unsupported_content_type", "item_id"
            )
        if event.content_index != 0:
            raise ClientError(f"expected content_index 0, got {event.content_index}", "invalid_value", "content_index")
        if event.audio_end_ms > item.audio_ms:
            raise ClientError(
                f"Audio content of {item.audio_ms}ms is already shorter than {event.audio_end_ms}ms",
                "invalid_value",
                "audio_end_ms",
            )
        item.audio_ms = event.audio_end_ms
        item.pcm = item.pcm[: event.audio_end_ms * SPOKEN_HZ * 2 // 1000]
        content[0]["transcript"] = None  # nobody knows which words fit into the part that was heard
        self._command(TruncateItem(self.id, event.item_id, event.audio_end_ms))
        self._emit(
            "conversation.item.truncated", item_id=event.item_id, content_index=0, audio_end_ms=event.audio_end_ms
        )

    def _cancel_by_client(self, response_id: str | None) -> None:
        response = self._response
        if response is None or response_id not in (None, response.id):
            raise ClientError("Cancellation failed: no active response found", "response_cancel_not_active")
        self._command(Cancel(self.id, response.id))
        self._finish("cancelled", {"type": "cancelled", "reason": "client_cancelled"})

    # --- turns -----------------------------------------------------------------------------------------------------

    def _speech_started(self, at_ms: int) -> None:
        start_ms = max(0, at_ms - self._padding_ms())
        wanted = int((self._heard_ms - start_ms) * _HEARD_BYTES_PER_MS) // 2 * 2
        self._turn = bytearray(self._recent[max(0, len(self._recent) - wanted) :])
        self._recent.clear()
        self._turn_item_id = new_id("item")
        self._probability = 0.0
        self._idle_from_s = None
        self._emit("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._turn_item_id)
        detection = self.config.audio.input.turn_detection
        if self._response is not None and detection is not None and detection.interrupt_response:
            self._command(Cancel(self.id, self._response.id))
            self._finish("cancelled", {"type": "cancelled", "reason": "turn_detected"})
        self._command(Hear(self.id, bytes(self._turn)))

    def _semantic_end(self, now_ms: int) -> None:
        """End the turn in a pause if the model thinks that it is over."""
        detection = self.config.audio.input.turn_detection
        if not isinstance(detection, SemanticVad) or self._hysteresis is None:
            return
        quiet_since_ms = self._hysteresis.quiet_since_ms
        if quiet_since_ms is None or now_ms - quiet_since_ms < _SEMANTIC_MIN_PAUSE_MS:
            return
        if self._probability >= _EAGERNESS[detection.eagerness][0]:
            self._speech_stopped(self._hysteresis.stop().at_ms)

    def _speech_stopped(self, at_ms: int) -> None:
        item_id = self._turn_item_id or new_id("item")
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=item_id)
        self._commit(item_id)
        detection = self.config.audio.input.turn_detection
        if (
            detection is not None
            and detection.create_response
            and self.config.type == "realtime"
            and self._response is None
        ):
            self._respond(ResponseConfig(), None)

    def _commit(self, item_id: str) -> None:
        pcm = bytes(self._turn)
        self._turn, self._turn_item_id = bytearray(), None
        previous = self._order[-1] if self._order else None
        self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        wire = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        self._add(Item(wire, pcm, len(pcm) // _HEARD_BYTES_PER_MS), CommitTurn(self.id, item_id))
        self._emit("conversation.item.done", previous_item_id=previous, item=wire)
        self._forget_old_audio()

    def _transcribed(self, event: TranscriptDone) -> None:
        item = self._items.get(event.item_id)
        if item is None:
            return
        item.wire["content"][0]["transcript"] = event.text
        if self.config.audio.input.transcription is not None:
            usage = {
                "type": "tokens",
                "input_tokens": event.audio_tokens,
                "output_tokens": event.text_tokens,
                "total_tokens": event.audio_tokens + event.text_tokens,
                "input_token_details": {"audio_tokens": event.audio_tokens, "text_tokens": 0},
            }
            self._emit(
                "conversation.item.input_audio_transcription.completed",
                item_id=event.item_id,
                content_index=0,
                transcript=event.text,
                usage=usage,
            )

    # --- responses -------------------------------------------------------------------------------------------------

    def _respond(self, request: ResponseConfig, event_id: str | None) -> None:
        if self.config.type == "transcription":
            raise ClientError(
                "expected a realtime session; transcription sessions make no responses", "invalid_event", "type"
            )
        if self._response is not None:
            raise ClientError(
                f"Conversation already has an active response in progress: {self._response.id}. "
                "Wait until the response is finished before creating a new one.",
                "conversation_already_has_active_response",
            )
        if request.conversation == "none" or request.input is not None:
            raise ClientError(
                "expected conversation 'auto' without input: responses outside the conversation are not supported yet",
                "unsupported_operation",
                "response.conversation",
            )
        self._response = Response(request, self.config, self._emit)
        self._idle_from_s = None
        self._response.begin(self._before_new)
        item_id = self._response.item_id
        self._items[item_id] = Item(self._response.item)
        self._order.append(item_id)
        self._command(
            Respond(
                self.id,
                self._response.id,
                item_id,
                speak=self._response.speaks,
                max_tokens=self._response.max_tokens,
                instructions=request.instructions,
            )
        )

    def _response_event(self, event: TextDelta | AudioDelta | ResponseDone) -> None:
        response = self._response
        if response is None or event.response_id != response.id:
            return
        match event:
            case TextDelta(text=text):
                response.text_delta(text)
            case AudioDelta(pcm=pcm):
                self._audio_was_sent = True
                self._items[response.item_id].pcm += pcm
                self._items[response.item_id].audio_ms += 1000 * len(pcm) // (2 * SPOKEN_HZ)
                response.audio_delta(pcm)
            case ResponseDone(status=status):
                response.usage, response.timings_ms = event.usage, event.timings_ms
                details: Wire | None = None
                if status == "incomplete":
                    details = {"type": "incomplete", "reason": "max_output_tokens"}
                elif status == "failed":
                    details = {
                        "type": "failed",
                        "error": {"type": "server_error", "code": "engine", "message": event.error},
                    }
                self._finish(status, details)

    def _finish(self, status: str, details: Wire | None) -> None:
        """Close the active response, whatever it has said so far."""
        if self._response is None:
            return
        response, self._response = self._response, None
        response.finish(status, details)
        item = self._items.get(response.item_id)
        playing_s = (item.audio_ms if item else 0) / 1000
        self._idle_from_s = self._clock() + playing_s

    # --- items and output ------------------------------------------------------------------------------------------

    def _before_new(self) -> str | None:
        return self._order[-1] if self._order else None

    def _before(self, item_id: str) -> str | None:
        index = self._order.index(item_id)
        return self._order[index - 1] if index else None

    def _add(self, item: Item, command: Command) -> None:
        item_id = item.wire["id"]
        self._items[item_id] = item
        self._order.append(item_id)
        self._command(command)
        self._emit("conversation.item.added", previous_item_id=self._before(item_id), item=item.wire)

    def _item(self, item_id: str, verb: str) -> Item:
        item = self._items.get(item_id)
        if item is None:
            raise ClientError(
                f"expected item_id to be an item of this conversation, got {item_id!r}",
                f"item_{verb}_invalid_item_id",
                "item_id",
            )
        return item

    def _with_audio(self, item: Item) -> Wire:
        wire = item.wire
        if not item.pcm or not wire.get("content"):
            return wire
        heard = wire["role"] == "user"
        shape = self.config.audio.input.format if heard else self.config.audio.output.format
        resample = audio.resampler(HEARD_HZ if heard else SPOKEN_HZ, audio.RATE_HZ[shape.type])
        samples = resample(np.frombuffer(item.pcm, dtype="<i2"), True)
        content = wire["content"][0] | {"audio": base64.b64encode(audio.encode(samples, shape.type)).decode()}
        return wire | {"content": [content, *wire["content"][1:]]}

    def _forget_old_audio(self) -> None:
        kept = 0
        for item_id in reversed(self._order):
            item = self._items[item_id]
            kept += len(item.pcm)
            if kept > LIMITS.kept_audio_bytes:
                item.pcm = b""

    def _session_object(self) -> Wire:
        fixed = {"id": self.id, "object": "realtime.session", "expires_at": self._expires_at}
        return self.config.model_dump() | fixed | {"model": self.model}

    def _emit(self, kind: str, **fields: Any) -> None:
        self._out.events.append({"type": kind, "event_id": new_id("event"), **fields})

    def _command(self, command: Command) -> None:
        self._out.commands.append(command)

    def _take(self) -> Output:
        out, self._out = self._out, Output()
        return out


def _text_of(wire: Wire) -> tuple[str, str]:
    """(role, text) of an item that a client created. Raises `ClientError`."""
    if wire.get("type") != "message":
        raise ClientError(
            f"expected item.type 'message', got {wire.get('type')!r}; tool items are not supported yet",
            "invalid_value",
            "item.type",
        )
    role = wire.get("role")
    wanted = {"system": ("input_text",), "user": ("input_text",), "assistant": ("output_text",)}.get(str(role))
    if wanted is None:
        raise ClientError(f"expected item.role system, user or assistant, got {role!r}", "invalid_value", "item.role")
    content = wire.get("content")
    if not isinstance(content, list) or not content:
        raise ClientError(
            f"expected item.content to be a list of parts, got {content!r}", "invalid_value", "item.content"
        )
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in wanted or not isinstance(part.get("text"), str):
            raise ClientError(
                f"expected a part of type {wanted[0]} with a text, got type {kind!r}",
                "invalid_value",
                f"item.content[{i}].type",
            )
        texts.append(part["text"])
    return str(role), " ".join(texts)
