"""One response on the wire: the family of events from `response.created` to `response.done`, in their order.

It owns the response and item objects; it knows nothing about the engine.
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from server import audio, usage
from server.engine.messages import SPOKEN_HZ, Usage
from server.ids import new_id
from server.session_config import ResponseConfig, SessionConfig

Wire = dict[str, Any]

# Which event of one response may follow which; what a response says in text alone has `output_text` for both kinds of
# audio events. The tests hold every sequence against it.
_DELTAS = frozenset({"output_audio_transcript.delta", "output_audio.delta", "output_text.delta"})
_MESSAGE_ENDS = frozenset({"output_audio.done", "output_text.done"})
ORDER: dict[str, frozenset[str]] = {
    "created": frozenset({"output_item.added", "done"}),
    "output_item.added": frozenset({"content_part.added", "function_call_arguments.delta"}),
    "content_part.added": _DELTAS | _MESSAGE_ENDS,
    **dict.fromkeys(_DELTAS, _DELTAS | _MESSAGE_ENDS),
    "output_audio.done": frozenset({"output_audio_transcript.done"}),
    "output_audio_transcript.done": frozenset({"content_part.done"}),
    "output_text.done": frozenset({"content_part.done"}),
    "content_part.done": frozenset({"output_item.done"}),
    "function_call_arguments.delta": frozenset({"function_call_arguments.delta", "function_call_arguments.done"}),
    "function_call_arguments.done": frozenset({"output_item.done"}),
    "output_item.done": frozenset({"done"}),
    "done": frozenset(),
}


class Response:
    """Say what happened, in order: `begin`, then deltas of a message or of a function call, then `finish`.

    `opened` is told of the item as soon as there is one: with tools, not before the model has chosen what to do.
    """

    def __init__(
        self,
        request: ResponseConfig,
        session: SessionConfig,
        emit: Callable[..., None],
        opened: Callable[[Wire], str | None],
        conversation_id: str | None,
        clock: Callable[[], float],
    ) -> None:
        self.id, self.item_id = new_id("resp"), new_id("item")
        self._emit, self._opened = emit, opened
        modalities = request.output_modalities or session.output_modalities
        self.speaks = modalities == ["audio"]
        limit = request.max_output_tokens or session.max_output_tokens
        self.max_tokens = None if limit == "inf" else limit
        output = session.audio.output
        self._format = request.audio.output.format or output.format
        self._resample = audio.resampler(SPOKEN_HZ, audio.RATE_HZ[self._format.type])
        self.usage = Usage()
        self._clock, self._asked_s = clock, clock()
        self.decided_ms = 0.0
        """From asking for it until it was shown: not at once if it was begun before the turn was over."""
        self.timings_ms: dict[str, float] = {}
        """Stages in milliseconds from asking for it: the engine's, and `speech_end`, `decided`, `sent`."""
        self._text = ""
        self._place = {"response_id": self.id, "item_id": self.item_id, "output_index": 0, "content_index": 0}
        self._item: Wire | None = None
        self._previous: str | None = None
        self.in_conversation = conversation_id is not None
        self.truncated = False
        """Its item was cut while it was being said: what is said from then on, nobody has heard."""
        self._wire: Wire = {
            "id": self.id,
            "object": "realtime.response",
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": conversation_id,
            "output_modalities": modalities,
            "max_output_tokens": limit,
            "audio": {
                "output": {"format": self._format.model_dump(), "voice": request.audio.output.voice or output.voice}
            },
            "metadata": request.metadata,
            "usage": None,
        }

    def begin(self) -> None:
        """The response exists."""
        self.decided_ms = self.timings_ms["decided"] = self._since_asked_ms()
        self._emit("response.created", response=dict(self._wire))
        self._emit("rate_limits.updated", rate_limits=[])

    def _since_asked_ms(self) -> float:
        return 1000 * (self._clock() - self._asked_s)

    def _open(self, fields: Wire) -> None:
        item = {"id": self.item_id, "object": "realtime.item", "status": "in_progress", **fields}
        self._item = item
        self._previous = self._opened(item)
        self._emit("response.output_item.added", response_id=self.id, output_index=0, item=dict(item))
        if self.in_conversation:
            self._emit("conversation.item.added", previous_item_id=self._previous, item=dict(item))

    def _close(self, complete: bool) -> None:
        assert self._item is not None
        self._item["status"] = "completed" if complete else "incomplete"
        if self.in_conversation:
            self._emit("conversation.item.done", previous_item_id=self._previous, item=dict(self._item))
        self._emit("response.output_item.done", response_id=self.id, output_index=0, item=dict(self._item))

    # --- a message -------------------------------------------------------------------------------------------------

    def open_message(self) -> None:
        """The answer is a message; does nothing if it is open already."""
        if self._item is None:
            self._open({"type": "message", "role": "assistant", "content": []})
            self._emit("response.content_part.added", **self._place, part=self._part())

    @property
    def is_message(self) -> bool:
        """Whether it has turned out to be a message, and not a function call."""
        return self._item is not None and self._item["type"] == "message"

    @property
    def is_call(self) -> bool:
        """Whether it has turned out to be a function call."""
        return self._item is not None and self._item["type"] == "function_call"

    def _part(self) -> Wire:
        if self.speaks:
            return {"type": "audio", "transcript": self._text}
        return {"type": "text", "text": self._text}

    def text_delta(self, text: str) -> None:
        """More text: the transcript of the audio, or the answer itself."""
        self.open_message()
        self._text += text
        kind = "response.output_audio_transcript.delta" if self.speaks else "response.output_text.delta"
        self._emit(kind, **self._place, delta=text)

    def audio_delta(self, pcm: bytes) -> None:
        """More audio, PCM16 at the engine's rate."""
        self.open_message()
        self._send_audio(self._resample(np.frombuffer(pcm, dtype=np.int16), False))

    def _send_audio(self, samples: audio.Samples) -> None:
        if not len(samples):
            return
        self.timings_ms.setdefault("sent", self._since_asked_ms())
        data = base64.b64encode(audio.encode(samples, self._format.type)).decode()
        self._emit("response.output_audio.delta", **self._place, delta=data)

    def _close_message(self, status: str) -> None:
        assert self._item is not None
        if self.speaks:
            if status in ("completed", "incomplete"):  # what the resampler still holds
                self._send_audio(self._resample(np.zeros(0, dtype=np.int16), True))
            self._emit("response.output_audio.done", **self._place)
            self._emit("response.output_audio_transcript.done", **self._place, transcript=self._text)
            content = {"type": "output_audio", "transcript": None if self.truncated else self._text}
        else:
            self._emit("response.output_text.done", **self._place, text=self._text)
            content = {"type": "output_text", "text": self._text}
        self._emit("response.content_part.done", **self._place, part=self._part())
        self._item["content"] = [content]
        self._close(status == "completed")

    # --- a function call -------------------------------------------------------------------------------------------

    def call_delta(self, name: str, arguments: str) -> None:
        """More of the arguments of a function call; it begins with the first of them."""
        if self._item is None:
            self._open({"type": "function_call", "call_id": new_id("call"), "name": name, "arguments": ""})
        assert self._item is not None
        self._item["arguments"] += arguments
        self._emit("response.function_call_arguments.delta", **self._call_place(self._item), delta=arguments)

    def _call_place(self, item: Wire) -> Wire:
        return {"response_id": self.id, "item_id": self.item_id, "output_index": 0, "call_id": item["call_id"]}

    def _close_call(self, item: Wire, complete: bool) -> None:
        place = self._call_place(item)
        name, arguments = item["name"], item["arguments"]
        self._emit("response.function_call_arguments.done", **place, name=name, arguments=arguments)
        self._close(complete)

    # --- the end ---------------------------------------------------------------------------------------------------

    def finish(self, status: str, details: Wire | None) -> None:
        """Everything from the last delta on."""
        if self.is_message:
            self._close_message(status)
        elif self._item is not None:
            self._close_call(self._item, status == "completed")
        output = [] if self._item is None else [dict(self._item)]
        self._wire |= {
            "status": status,
            "status_details": details,
            "output": output,
            "usage": usage.of_response(self.usage),
        }
        # An extra field, which stock clients ignore: how long each stage took.
        self._emit("response.done", response=dict(self._wire) | {"timings_ms": self.timings_ms})
