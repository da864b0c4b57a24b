"""One Realtime session as a state machine: client events, detected speech and engine events go in; server events for
the client and commands for the engine come out.

No sockets, no asyncio, no torch, and no clock but the one it is given; a test drives it with plain calls.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from server import audio, client_events, items, usage
from server.audio import Samples
from server.client_events import ClientEvent
from server.config import LIMITS
from server.engine.messages import (
    FRAME_MS,
    HEARD_HZ,
    SPOKEN_HZ,
    AddText,
    AudioDelta,
    CallDelta,
    Calls,
    Cancel,
    Command,
    CommitTurn,
    ConfirmTurn,
    Context,
    DeleteItem,
    DropTurn,
    Event,
    Hear,
    Respond,
    ResponseBegun,
    ResponseDone,
    ResumeTurn,
    SessionFailed,
    SetInstructions,
    SetTruncation,
    TextDelta,
    TranscriptDelta,
    TranscriptDone,
    TruncateItem,
    TurnProbability,
)
from server.errors import AntiphonError, ClientError, wire_error
from server.functions import calls
from server.ids import new_id
from server.input_audio import BYTES_PER_MS, InputAudio
from server.items import Item, Items
from server.response import Response
from server.session_config import (
    ChosenTool,
    ResponseConfig,
    RetentionRatio,
    ServerVad,
    SessionConfig,
    Tools,
    declared,
    read_by_model,
    updated,
)
from server.turn_detection import SpeechPaused, SpeechResumed, SpeechStarted, SpeechStopped, TurnChange

Wire = dict[str, Any]
_log = logging.getLogger("antiphon.session")


@dataclass(slots=True)
class Output:
    """What a call brought about, each list in order."""

    events: list[Wire] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    shown: list[AudioDelta | ResponseDone] = field(default_factory=list)
    """What of the engine's answers has gone to the client now, and how they ended there."""
    closes: bool = False
    """The session is over: the engine has no place for it."""


@dataclass(slots=True)
class Guess:
    """An answer begun in a pause that may be the end of the turn; nothing of it is shown until the turn is over."""

    number: int
    item_id: str
    response: Response
    calls: bool
    held: list[Event] = field(default_factory=list)


class Session:
    """See the module. Every public method returns what to send."""

    def __init__(
        self,
        session_id: str,
        model: str,
        preset: Wire | None = None,
        clock: Callable[[], float] = time.monotonic,
        unix_time: Callable[[], float] = time.time,
        room_ms: Callable[[str, Tools], int] = lambda *_: LIMITS.turn_ms,
    ) -> None:
        """`preset` is a first `session.update`, of whoever made the key that the client shows.

        `room_ms` says how long a turn the model has room for beside instructions and tools, and raises `ClientError`
        for some that are too long.
        """
        self.id, self.model, self.conversation_id = session_id, model, new_id("conv")
        self._clock, self._room_ms = clock, room_ms
        self._expires_at = int(unix_time()) + LIMITS.session_s
        self.config = updated(SessionConfig(), preset or {})
        self._items = Items()
        self._out = Output()
        self._response: Response | None = None
        self._detached: dict[str, Response] = {}
        self._input = InputAudio(self.config.audio.input)
        self._turn_item_id: str | None = None
        self._guess: Guess | None = None
        self._guesses = 0
        self._ended_by = {0}
        """Guesses that were right, and 0 for turns that were over at once."""
        self._idle_from_s: float | None = None
        self._broke_silence = False
        """The open turn began while the idle timeout ran."""
        self._unanswered = False
        """A turn ended while another answer was being made: its own comes when that is over and nobody speaks."""
        self._audio_was_sent = False
        self._unwritten: set[str] = set()
        """Turns whose transcript is still to come."""
        self._behind: str | None = None
        """The last item when the active response was asked for: its own is the next one."""
        self._turn_ms = self._longest_turn_ms(self.config)

    @property
    def between_turns(self) -> bool:
        """Nothing is being said: no turn is open, no answer is being made, and the last one has been played."""
        playing = self._idle_from_s is not None and self._clock() < self._idle_from_s
        return not (playing or self._response or self._detached or self._input.turn or self._unwritten)

    # --- what goes in ----------------------------------------------------------------------------------------------

    def opened(self) -> Output:
        """The session has begun."""
        self._instruct(SessionConfig())
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
        except Exception:  # noqa: BLE001 - the outermost edge of one client event
            _log.exception("session %s: a client event could not be carried out", self.id)
            failed = AntiphonError("the server failed on this event; its log says why")
            self._emit("error", error=wire_error(failed, event_id))
        return self._take(), samples

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """What cannot be done although no client event asked for it becomes an `error` of its own."""
        try:
            yield
        except ClientError as error:
            self._emit("error", error=wire_error(error))

    def hear(self, samples: Samples) -> Output:
        """The next piece of the audio that `client_frame` returned."""
        with self._telling():
            self._hear(samples)
        return self._take()

    def speech_window(self, probability: float) -> Output:
        """Turn detection's probability of speech in the next 32 ms window."""
        with self._telling():
            self._turn_changed(self._input.window(probability))
        return self._take()

    def engine_event(self, event: Event) -> Output:
        """Something happened in the engine. Events of responses that are over are dropped."""
        with self._telling():
            self._happened(event)
        return self._take()

    def _happened(self, event: Event) -> None:
        if self._guess is not None and _is_about(event, self._guess):
            self._guess.held.append(event)
            return
        match event:
            case TranscriptDelta() | TranscriptDone() if event.guess not in self._ended_by:
                pass  # of a pause that was none
            case TurnProbability(probability=probability, heard_ms=heard_ms):
                self._turn_changed(self._input.opinion(probability, heard_ms))
            case TranscriptDelta(item_id=item_id, text=text):
                if self.config.audio.input.transcription is not None and item_id in self._items:
                    kind = "conversation.item.input_audio_transcription.delta"
                    self._emit(kind, item_id=item_id, content_index=0, delta=text)
            case TranscriptDone():
                self._transcribed(event)
            case SessionFailed():
                self._failed(event)
            case ResponseBegun() | TextDelta() | CallDelta() | AudioDelta() | ResponseDone():
                self._response_event(event)

    def tick(self) -> Output:
        """Time has passed: the idle timeout of `server_vad`."""
        detection = self.config.audio.input.turn_detection
        timeout_ms = detection.idle_timeout_ms if isinstance(detection, ServerVad) else None
        if (
            timeout_ms is not None
            and self.config.type == "realtime"
            and self._idle_from_s is not None
            and self._response is None
            and not self._input.speaking
            and 1000 * (self._clock() - self._idle_from_s) >= timeout_ms
        ):
            self._idle_from_s = None
            item_id = new_id("item")
            end_ms = round(self._input.heard_ms)
            self._emit(
                "input_audio_buffer.timeout_triggered",
                audio_start_ms=max(0, end_ms - timeout_ms),
                audio_end_ms=end_ms,
                item_id=item_id,
            )
            heard = self._input.take_recent() or bytes(BYTES_PER_MS * 200)
            self._input.turn = bytearray(heard)
            self._command(Hear(self.id, heard))
            self._commit(item_id)
            with self._telling():
                self._respond(ResponseConfig())
        return self._take()

    # --- client events ---------------------------------------------------------------------------------------------

    def _client_event(self, event: ClientEvent) -> Samples | None:
        if not isinstance(event, client_events.Append):
            self._undo_guess()  # it was made about the conversation as it stood
        match event:
            case client_events.Append():
                samples = self._input.decode(client_events.audio_bytes(event))
                if self._input.detects:
                    return samples
                self._hear(samples)
            case client_events.SessionUpdate(session=patch):
                self._update(patch)
            case client_events.Commit():
                self._commit_by_client()
            case client_events.Clear():
                self._input.clear()
                self._turn_item_id = None
                self._command(DropTurn(self.id))
                self._emit("input_audio_buffer.cleared")
                if self._broke_silence and self._response is None:
                    self._idle_from_s = self._clock()
                self._broke_silence = False
            case client_events.ItemCreate(item=item, previous_item_id=previous):
                self._create_item(item, previous)
            case client_events.ItemRetrieve(item_id=item_id):
                found = self._items.get(item_id, "retrieve")
                heard, spoken = self.config.audio.input.format.type, self.config.audio.output.format.type
                self._emit("conversation.item.retrieved", item=items.with_audio(found, heard, spoken))
            case client_events.ItemDelete(item_id=item_id):
                self._items.get(item_id, "delete")
                if self._response is not None and self._response.item_id == item_id:
                    self._cancel(self._response)
                self._items.remove(item_id)
                self._unwritten.discard(item_id)
                self._command(DeleteItem(self.id, item_id))
                self._emit("conversation.item.deleted", item_id=item_id)
            case client_events.ItemTruncate():
                self._truncate(event)
            case client_events.ResponseCreate(response=request):
                self._respond(request)
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
        if config.type != self.config.type and len(self._items):
            raise ClientError(
                f"expected session.type '{self.config.type}' once a conversation has begun, got '{config.type}'",
                "invalid_value",
                "session.type",
            )
        turn_ms = self._turn_ms
        if (config.instructions, config.tools) != (self.config.instructions, self.config.tools):
            turn_ms = self._longest_turn_ms(config)
        by_hand = not self._input.detects
        self._input.configure(config.audio.input)
        if by_hand and self._input.detects and self._input.turn:  # turns begin where speech does from now on
            self._input.take_turn()
            self._command(DropTurn(self.id))
        old, self.config, self._turn_ms = self.config, config, turn_ms
        self._instruct(old)
        self._emit("session.updated", session=self._session_object())

    def _longest_turn_ms(self, config: SessionConfig) -> int:
        """What the model has room for beside the instructions and tools. Raises `ClientError` if these are too long."""
        return min(LIMITS.turn_ms, self._room_ms(config.instructions, config.tools))

    def _instruct(self, old: SessionConfig) -> None:
        """Tell the engine what is new in the session's settings."""
        new = self.config
        if (new.instructions, new.tools) != (old.instructions, old.tools):
            self._command(SetInstructions(self.id, read_by_model(new.instructions, new.tools)))
        if new.truncation != old.truncation:
            self._command(_truncation(self.id, new))

    def _hear(self, samples: Samples) -> None:
        data = self._input.hear(samples)
        if data:
            self._command(Hear(self.id, data))
        if len(self._input.turn) <= self._turn_ms * BYTES_PER_MS:
            return
        # An open microphone in a noisy room is no mistake of the client's.
        if self._input.detects:
            self._input.stop()
            self._speech_stopped(round(self._input.heard_ms))
        else:
            self._command(DropTurn(self.id))
            self._command(Hear(self.id, self._input.keep_newest(min(LIMITS.kept_turn_ms, self._turn_ms // 2))))

    def _commit_by_client(self) -> None:
        if not self._input.detects:
            self._hear(self._input.end_of_input())
        length_ms = len(self._input.turn or self._input.recent) / BYTES_PER_MS
        if length_ms < LIMITS.commit_ms:
            raise ClientError(
                f"Error committing input audio buffer: buffer too small. Expected at least {LIMITS.commit_ms}ms "
                f"of audio, but buffer only has {length_ms:.2f}ms of audio.",
                "input_audio_buffer_commit_empty",
            )
        if not self._input.turn:  # turn detection has heard nothing; the client knows better
            self._command(Hear(self.id, self._input.take_recent()))
        self._input.stop()
        self._commit(self._turn_item_id or new_id("item"))

    def _create_item(self, wire: Wire, previous: str | None) -> None:
        new = items.parse(wire)
        item_id: str = new.wire["id"]
        if item_id in self._items:
            raise ClientError(f"expected a new item.id, got {item_id!r}, which exists", "invalid_value", "item.id")
        place = self._items.place(previous)
        at_end = place == len(self._items)
        if new.pcm is not None:
            self._create_spoken(new.wire, new.pcm, at_end)
            return
        after = None if at_end else "" if previous == items.FRONT else previous
        self._add(Item(new.wire), AddText(self.id, item_id, new.role, new.text, after), place)
        self._emit("conversation.item.done", previous_item_id=self._items.before(item_id), item=new.wire)

    def _create_spoken(self, wire: Wire, data: bytes, at_end: bool) -> None:
        """An item of audio: it is heard as if it had been said now."""
        if not at_end or self._input.turn:
            raise ClientError(
                "expected an audio item at the end of the conversation, while nothing is being said",
                "invalid_value",
                "previous_item_id",
            )
        shape = self.config.audio.input.format.type
        resample = audio.resampler(audio.RATE_HZ[shape], HEARD_HZ)
        pcm = resample(audio.decode(data, shape), True).tobytes()
        if len(pcm) > self._turn_ms * BYTES_PER_MS:
            raise ClientError(
                f"expected at most {self._turn_ms} ms of audio in an item, got {len(pcm) // BYTES_PER_MS} ms",
                "invalid_value",
                "item.content",
            )
        self._command(Hear(self.id, pcm))
        item = Item(wire, pcm, len(pcm) // BYTES_PER_MS)
        self._unwritten.add(item.id)
        self._add(item, CommitTurn(self.id, item.id))
        self._emit("conversation.item.done", previous_item_id=self._items.before(item.id), item=wire)

    def _truncate(self, event: client_events.ItemTruncate) -> None:
        item = self._items.get(event.item_id, "truncate")
        content = item.wire.get("content") or [{}]
        said_now = self._response if self._response is not None and self._response.item_id == item.id else None
        if said_now is not None:  # its content comes with its end
            is_sound = said_now.speaks and said_now.is_message
        else:
            is_sound = item.wire.get("role") == "assistant" and content[0].get("type") == "output_audio"
        if not is_sound:
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
        if said_now is not None:  # stock clients truncate before they cancel
            said_now.truncated = True
        self._command(TruncateItem(self.id, event.item_id, round(event.audio_end_ms * item.speed)))
        self._emit(
            "conversation.item.truncated", item_id=event.item_id, content_index=0, audio_end_ms=event.audio_end_ms
        )

    def _cancel_by_client(self, response_id: str | None) -> None:
        detached = self._detached.get(response_id or "")
        response = detached or self._response
        if response is None or response_id not in (None, response.id):
            raise ClientError("Cancellation failed: no active response found", "response_cancel_not_active")
        if response is self._response:
            self._unanswered = False  # the client goes on itself, often in its next event
        self._cancel(response)

    def _cancel(self, response: Response) -> None:
        self._command(Cancel(self.id, response.id))
        self._finish(response, "cancelled", {"type": "cancelled", "reason": "client_cancelled"})

    # --- turns -----------------------------------------------------------------------------------------------------

    def _turn_changed(self, change: TurnChange | None) -> None:
        match change:
            case SpeechStarted(at_ms=at_ms):
                self._speech_started(at_ms)
            case SpeechStopped(at_ms=at_ms):
                self._speech_stopped(at_ms)
            case SpeechPaused():
                self._make_guess()
            case SpeechResumed():
                self._undo_guess()

    @property
    def _answers_by_itself(self) -> bool:
        """Whether the end of a turn begins an answer."""
        detection = self.config.audio.input.turn_detection
        return detection is not None and detection.create_response and self.config.type == "realtime"

    def _make_guess(self) -> None:
        """Commit the turn for the time being, and begin the answer behind the scenes."""
        if not self._answers_by_itself or self._response is not None or self._guess is not None:
            return
        try:
            response, respond = self._prepare(ResponseConfig())
        except ClientError:  # told when the turn is over
            return
        item_id = self._turn_item_id = self._turn_item_id or new_id("item")
        self._guesses += 1
        self._guess = Guess(self._guesses, item_id, response, respond.calls is not None)
        self._command(CommitTurn(self.id, item_id, self._guesses))
        self._command(respond)

    def _undo_guess(self) -> None:
        if self._guess is not None:
            self._guess = None
            self._command(ResumeTurn(self.id))

    def _speech_started(self, at_ms: int) -> None:
        start_ms = self._input.begin_turn(at_ms)
        self._turn_item_id = new_id("item")
        self._emit("input_audio_buffer.speech_started", audio_start_ms=start_ms, item_id=self._turn_item_id)
        detection = self.config.audio.input.turn_detection
        if self._response is not None and detection is not None and detection.interrupt_response:
            self._command(Cancel(self.id, self._response.id))
            self._finish(self._response, "cancelled", {"type": "cancelled", "reason": "turn_detected"})
        self._broke_silence, self._idle_from_s = self._idle_from_s is not None, None
        self._command(Hear(self.id, bytes(self._input.turn)))

    def _speech_stopped(self, at_ms: int) -> None:
        item_id = self._turn_item_id or new_id("item")
        end_ms = round(self._input.heard_ms)  # of what the model hears: the silence that told the end is part of it
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=end_ms, item_id=item_id)
        guess, self._guess = self._guess, None
        ago_ms = self._input.heard_ms - at_ms
        if guess is not None:
            self._ended_by.add(guess.number)
            self._commit(item_id, confirms=True)
            self._begin(guess.response, guess.calls)
            guess.response.timings_ms["speech_end"] = guess.response.decided_ms - ago_ms
            for event in guess.held:
                self._happened(event)
            return
        self._commit(item_id)
        if not self._answers_by_itself:
            return
        if self._response is not None:
            self._unanswered = True
            return
        self._respond(ResponseConfig())
        if self._response is not None:
            self._response.timings_ms["speech_end"] = self._response.decided_ms - ago_ms

    def _commit(self, item_id: str, confirms: bool = False) -> None:
        pcm = self._input.take_turn()
        self._turn_item_id, self._broke_silence = None, False
        self._unwritten.add(item_id)
        previous = self._items.last_id
        self._emit("input_audio_buffer.committed", item_id=item_id, previous_item_id=previous)
        wire = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_audio", "transcript": None}],
        }
        command = ConfirmTurn(self.id) if confirms else CommitTurn(self.id, item_id)
        self._add(Item(wire, pcm, len(pcm) // BYTES_PER_MS), command)
        self._emit("conversation.item.done", previous_item_id=previous, item=wire)
        self._items.forget_old_audio()

    def _transcribed(self, event: TranscriptDone) -> None:
        self._unwritten.discard(event.item_id)
        item = self._items.find(event.item_id)
        if item is None:
            return
        if self.config.audio.input.transcription is None:
            return
        # Another object: the one before may be in an event that is still to be sent, and was not written down then.
        part, *rest = item.wire["content"]
        item.wire = item.wire | {"content": [part | {"transcript": event.text}, *rest]}
        self._emit(
            "conversation.item.input_audio_transcription.completed",
            item_id=event.item_id,
            content_index=0,
            transcript=event.text,
            usage=usage.of_transcript(event),
        )

    # --- responses -------------------------------------------------------------------------------------------------

    def _respond(self, request: ResponseConfig) -> None:
        if self.config.type == "transcription":
            raise ClientError(
                "expected a realtime session; transcription sessions make no responses", "invalid_event", "type"
            )
        detached = request.conversation == "none"
        if request.input is not None and not detached:
            raise ClientError(
                "expected response.input together with conversation 'none'", "invalid_value", "response.input"
            )
        if self._response is not None and not detached:
            raise ClientError(
                f"Conversation already has an active response in progress: {self._response.id}. "
                "Wait until the response is finished before creating a new one.",
                "conversation_already_has_active_response",
            )
        if detached and len(self._detached) >= LIMITS.detached_responses:
            raise ClientError(
                f"expected at most {LIMITS.detached_responses} responses outside the conversation at once",
                "rate_limit_exceeded",
                "response.conversation",
            )
        response, respond = self._prepare(request)
        self._begin(response, respond.calls is not None)
        self._command(respond)

    def _prepare(self, request: ResponseConfig) -> tuple[Response, Respond]:
        """A response that nobody has seen yet, and the command that makes it. Raises `ClientError`."""
        detached = request.conversation == "none"
        tools = self.config.tools if request.tools is None else request.tools
        allowed = _calls(request.tool_choice or self.config.tool_choice, tools, "response.tools")
        context = self._context(request) if detached else None
        conversation_id = None if detached else self.conversation_id
        response = Response(request, self.config, self._emit, self._opened, conversation_id, self._clock)
        instructions = None
        if request.instructions is not None or request.tools is not None:
            own = self.config.instructions if request.instructions is None else request.instructions
            instructions = read_by_model(own, tools)
        respond = Respond(
            self.id,
            response.id,
            response.item_id,
            speak=response.speaks,
            speed=self.config.audio.output.speed,
            max_tokens=response.max_tokens,
            instructions=instructions,
            calls=allowed,
            context=context,
        )
        return response, respond

    def _begin(self, response: Response, calls: bool) -> None:
        """Show a response; where it may become a function call, without an item yet."""
        response.begin()
        if response.in_conversation:
            self._response, self._idle_from_s = response, None
            self._unanswered, self._behind = False, self._items.last_id
        else:
            self._detached[response.id] = response
        if not calls:
            response.open_message()

    def _context(self, request: ResponseConfig) -> tuple[Context, ...]:
        """What a response outside the conversation is about."""
        if request.input is None:
            return tuple(Context(item_id=item.id) for item in self._items)
        found = []
        for i, part in enumerate(request.input):
            where = f"response.input[{i}]"
            if part.get("type") == "item_reference":
                found.append(Context(item_id=self._items.get(str(part.get("id")), "reference").id))
                continue
            new = items.parse(part, where)
            if new.pcm is not None:
                raise ClientError("expected text, or audio as an item_reference", "invalid_value", f"{where}.content")
            found.append(Context(new.role, new.text))
        return tuple(found)

    def _opened(self, wire: Wire) -> str | None:
        """A response has opened its item; returns the item before it."""
        if self._response is None or wire["id"] != self._response.item_id:
            return None
        # What came since it was asked for stands behind it, as in the engine's conversation.
        known = self._behind is None or self._behind in self._items
        place = self._items.place(self._behind or items.FRONT) if known else None
        self._items.add(Item(wire, speed=self.config.audio.output.speed), place)
        return self._items.before(wire["id"])

    def _response_event(self, event: ResponseBegun | TextDelta | CallDelta | AudioDelta | ResponseDone) -> None:
        response = self._response
        if response is None or event.response_id != response.id:
            response = self._detached.get(event.response_id)
        if response is None:
            return
        match event:
            case ResponseBegun():
                response.usage = event.usage
            case TextDelta(text=text, tokens=tokens):
                response.usage = replace(response.usage, output_text=response.usage.output_text + tokens)
                response.text_delta(text)
            case CallDelta(name=name, arguments=arguments):
                response.call_delta(name, arguments)
            case AudioDelta(pcm=pcm):
                self._audio_was_sent = True
                self._out.shown.append(event)
                frames = len(pcm) * 1000 // (2 * SPOKEN_HZ * FRAME_MS)
                response.usage = replace(response.usage, output_audio=response.usage.output_audio + frames)
                response.audio_delta(pcm)
                item = self._items.find(response.item_id)
                if item is not None and not response.truncated:
                    item.pcm += pcm
                    item.audio_ms = -(-1000 * len(item.pcm) // (2 * SPOKEN_HZ))  # clients round up, too
            case ResponseDone(status=status):
                response.usage, response.timings_ms = event.usage, event.timings_ms | response.timings_ms
                details: Wire | None = None
                if status == "incomplete":
                    details = {"type": "incomplete", "reason": "max_output_tokens"}
                elif status == "failed":
                    details = _failure(event.code, event.error or "the engine could not answer")
                self._finish(response, status, details)

    def _failed(self, event: SessionFailed) -> None:
        error = AntiphonError(event.message)
        error.code = event.code
        self._emit("error", error=wire_error(error))
        if event.item_id:
            heard = event.item_id in self._unwritten or (
                self._guess is not None and self._guess.item_id == event.item_id
            )
            self._unwritten.discard(event.item_id)
            if event.item_id in self._items:
                self._items.remove(event.item_id)
                self._emit("conversation.item.deleted", item_id=event.item_id)
            if not heard:
                return
        else:
            self._unwritten.clear()
        self._undo_guess()  # nobody answers what nobody has heard
        self._unanswered = False
        for response in [r for r in (self._response, *self._detached.values()) if r is not None]:
            self._command(Cancel(self.id, response.id))  # where the engine has not given it up itself
            self._finish(response, "failed", _failure(event.code, event.message))
        self._out.closes = self._out.closes or event.fatal

    def _finish(self, response: Response, status: str, details: Wire | None) -> None:
        """Close a response, whatever it has said so far."""
        if response is self._response:
            self._response = None
        self._detached.pop(response.id, None)
        response.finish(status, details)
        self._out.shown.append(ResponseDone(self.id, response.id, status, response.usage, response.timings_ms))
        if not response.in_conversation:
            return
        self._items.forget_old_audio()
        item = self._items.find(response.item_id)
        plays_ms = item.audio_ms if item is not None and status != "cancelled" else 0
        self._idle_from_s = self._clock() + plays_ms / 1000
        if response.is_call:  # the client gives its result, and asks for the next answer itself
            self._unanswered = False

    # --- items and output ------------------------------------------------------------------------------------------

    def _add(self, item: Item, command: Command, place: int | None = None) -> None:
        self._items.add(item, place)
        self._command(command)
        self._emit("conversation.item.added", previous_item_id=self._items.before(item.id), item=item.wire)

    def _session_object(self) -> Wire:
        return self.config.shown(self.id, self.model, self._expires_at)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._out.events.append({"type": kind, "event_id": new_id("event"), **fields})

    def _command(self, command: Command) -> None:
        self._out.commands.append(command)

    def _take(self) -> Output:
        """The end of every public method: what waits begins only now, when all that one event asks for is done."""
        if self._unanswered and self._response is None and not self._input.turn:
            self._unanswered = False
            if self._answers_by_itself:
                with self._telling():
                    self._respond(ResponseConfig())
        out, self._out = self._out, Output()
        return out


def _is_about(event: Event, guess: Guess) -> bool:
    """Whether an event shows something of a guess."""
    match event:
        case TranscriptDelta() | TranscriptDone():
            return event.guess == guess.number
        case ResponseBegun() | TextDelta() | CallDelta() | AudioDelta() | ResponseDone():
            return event.response_id == guess.response.id
        case _:
            return False


def _failure(code: str, message: str) -> Wire:
    """The `status_details` of a response that failed."""
    return {"type": "failed", "error": {"type": "server_error", "code": code, "message": message}}


def _calls(choice: str | ChosenTool, tools: Tools, param: str) -> Calls | None:
    """What `tool_choice` allows of `tools`. Raises `ClientError`."""
    if isinstance(choice, ChosenTool):
        return calls("required", declared(tools, param), choice.name)
    return calls(choice, declared(tools, param))


def _truncation(session_id: str, config: SessionConfig) -> SetTruncation:
    truncation = config.truncation
    if isinstance(truncation, RetentionRatio):
        limits = truncation.token_limits
        return SetTruncation(session_id, truncation.retention_ratio, limits.post_instructions if limits else None)
    return SetTruncation(session_id, None if truncation == "disabled" else 0.5)
