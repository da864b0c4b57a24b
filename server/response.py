"""One response on the wire: the family of events from `response.created` to `response.done`, in their order.

It owns the response and item objects; it knows nothing about the engine.
"""

import base64
from collections.abc import Callable
from typing import Any

import numpy as np

from server import audio
from server.engine.messages import SPOKEN_HZ, Usage
from server.ids import new_id
from server.session_config import ResponseConfig, SessionConfig

Wire = dict[str, Any]


class Response:
    """Say what happened, in order: `begin`, any number of deltas, `finish`."""

    def __init__(self, request: ResponseConfig, session: SessionConfig, emit: Callable[..., None]) -> None:
        self.id, self.item_id = new_id("resp"), new_id("item")
        self._emit = emit
        modalities = request.output_modalities or session.output_modalities
        self.speaks = modalities == ["audio"]
        limit = request.max_output_tokens or session.max_output_tokens
        self.max_tokens = None if limit == "inf" else limit
        output = session.audio.output
        self._format = request.audio.output.format or output.format
        self._resample = audio.resampler(SPOKEN_HZ, audio.RATE_HZ[self._format.type])
        self.usage: Usage | None = None
        self.timings_ms: dict[str, float] = {}
        self._text = ""
        self._place = {"response_id": self.id, "item_id": self.item_id, "output_index": 0, "content_index": 0}
        self.item: Wire = {
            "id": self.item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "in_progress",
            "role": "assistant",
            "content": [],
        }
        self._wire: Wire = {
            "id": self.id,
            "object": "realtime.response",
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None,
            "output_modalities": modalities,
            "max_output_tokens": limit,
            "audio": {
                "output": {"format": self._format.model_dump(), "voice": request.audio.output.voice or output.voice}
            },
            "metadata": request.metadata,
            "usage": None,
        }

    def _part(self) -> Wire:
        if self.speaks:
            return {"type": "audio", "transcript": self._text}
        return {"type": "text", "text": self._text}

    def begin(self, previous_item_id: Callable[[], str | None]) -> None:
        """Everything up to the first delta."""
        self._previous = previous_item_id()
        self._emit("response.created", response=dict(self._wire))
        self._emit("rate_limits.updated", rate_limits=[])
        self._emit("response.output_item.added", response_id=self.id, output_index=0, item=dict(self.item))
        self._emit("conversation.item.added", previous_item_id=self._previous, item=dict(self.item))
        self._emit("response.content_part.added", **self._place, part=self._part())

    def text_delta(self, text: str) -> None:
        """More text: the transcript of the audio, or the answer itself."""
        self._text += text
        kind = "response.output_audio_transcript.delta" if self.speaks else "response.output_text.delta"
        self._emit(kind, **self._place, delta=text)

    def audio_delta(self, pcm: bytes) -> None:
        """More audio, PCM16 at the engine's rate."""
        self._send_audio(self._resample(np.frombuffer(pcm, dtype=np.int16), False))

    def _send_audio(self, samples: audio.Samples) -> None:
        if not len(samples):
            return
        data = base64.b64encode(audio.encode(samples, self._format.type)).decode()
        self._emit("response.output_audio.delta", **self._place, delta=data)

    def finish(self, status: str, details: Wire | None) -> None:
        """Everything from the last delta on."""
        if self.speaks:
            if status in ("completed", "incomplete"):  # what the resampler still holds
                self._send_audio(self._resample(np.zeros(0, dtype=np.int16), True))
            self._emit("response.output_audio.done", **self._place)
            self._emit("response.output_audio_transcript.done", **self._place, transcript=self._text)
            content = {"type": "output_audio", "transcript": self._text}
        else:
            self._emit("response.output_text.done", **self._place, text=self._text)
            content = {"type": "output_text", "text": self._text}
        self._emit("response.content_part.done", **self._place, part=self._part())
        self.item["status"] = "completed" if status == "completed" else "incomplete"
        self.item["content"] = [content]
        self._emit("conversation.item.done", previous_item_id=self._previous, item=dict(self.item))
        self._emit("response.output_item.done", response_id=self.id, output_index=0, item=dict(self.item))
        self._wire |= {"status": status, "status_details": details, "output": [dict(self.item)], "usage": self._usage()}
        # An extra field, which stock clients ignore: how long each stage took.
        self._emit("response.done", response=dict(self._wire) | {"timings_ms": self.timings_ms})

    def _usage(self) -> Wire:
        used = self.usage or Usage()
        cached = {"text_tokens": used.cached_text, "audio_tokens": used.cached_audio, "image_tokens": 0}
        return {
            "total_tokens": used.input_text + used.input_audio + used.output_text + used.output_audio,
            "input_tokens": used.input_text + used.input_audio,
            "output_tokens": used.output_text + used.output_audio,
            "input_token_details": {
                "text_tokens": used.input_text,
                "audio_tokens": used.input_audio,
                "image_tokens": 0,
                "cached_tokens": used.cached_text + used.cached_audio,
                "cached_tokens_details": cached,
            },
            "output_token_details": {"text_tokens": used.output_text, "audio_tokens": used.output_audio},
        }
