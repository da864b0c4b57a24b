"""The items of a conversation as the wire shows them: their order, their checks, their audio. No I/O, no torch."""

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from server import audio
from server.config import LIMITS
from server.engine.messages import HEARD_HZ, SPOKEN_HZ
from server.errors import ClientError
from server.ids import new_id

Wire = dict[str, Any]
FRONT = "root"  # the `previous_item_id` of an item that comes first


@dataclass(slots=True)
class Item:
    """A conversation item: what the wire shows, and the audio behind it."""

    wire: Wire
    pcm: bytes = b""
    audio_ms: int = 0
    speed: float = 1.0
    """How fast the voice of a spoken answer speaks."""

    @property
    def id(self) -> str:
        item_id: str = self.wire["id"]
        return item_id


class Items:
    """Items in order. Raises `ClientError` for ids that are not there."""

    def __init__(self) -> None:
        self._items: dict[str, Item] = {}
        self._order: list[str] = []

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._order)

    def __iter__(self) -> Iterator[Item]:
        return (self._items[item_id] for item_id in self._order)

    def find(self, item_id: str) -> Item | None:
        """The item, if it is there."""
        return self._items.get(item_id)

    def get(self, item_id: str, verb: str) -> Item:
        """The item that a client wants to `verb`."""
        item = self._items.get(item_id)
        if item is None:
            raise ClientError(
                f"expected item_id to be an item of this conversation, got {item_id!r}",
                f"item_{verb}_invalid_item_id",
                "item_id",
            )
        return item

    @property
    def last_id(self) -> str | None:
        return self._order[-1] if self._order else None

    def before(self, item_id: str) -> str | None:
        """The id of the item in front of it."""
        index = self._order.index(item_id)
        return self._order[index - 1] if index else None

    def place(self, previous: str | None) -> int:
        """The index behind `previous`: None means at the end, `root` at the front."""
        if previous is None:
            return len(self._order)
        if previous == FRONT:
            return 0
        if previous not in self._items:
            raise ClientError(
                f"expected previous_item_id to be an item of this conversation, got {previous!r}",
                "invalid_value",
                "previous_item_id",
            )
        return self._order.index(previous) + 1

    def add(self, item: Item, place: int | None = None) -> None:
        """Put it at an index, or at the end."""
        self._items[item.id] = item
        self._order.insert(len(self._order) if place is None else place, item.id)

    def remove(self, item_id: str) -> None:
        self._order.remove(item_id)
        del self._items[item_id]

    def forget_old_audio(self) -> None:
        """Keep at most `LIMITS.kept_audio_bytes` of sound, the newest."""
        kept = 0
        for item_id in reversed(self._order):
            item = self._items[item_id]
            kept += len(item.pcm)
            if kept > LIMITS.kept_audio_bytes:
                item.pcm = b""


def with_audio(item: Item, heard_format: str, spoken_format: str) -> Wire:
    """The wire object with its audio, as `conversation.item.retrieved` shows it."""
    wire = item.wire
    if not item.pcm or not wire.get("content"):
        return wire
    heard = wire["role"] == "user"
    shape = heard_format if heard else spoken_format
    resample = audio.resampler(HEARD_HZ if heard else SPOKEN_HZ, audio.RATE_HZ[shape])
    samples = resample(np.frombuffer(item.pcm, dtype="<i2"), True)
    content = wire["content"][0] | {"audio": base64.b64encode(audio.encode(samples, shape)).decode()}
    return wire | {"content": [content, *wire["content"][1:]]}


# --- items that clients make ---------------------------------------------------------------------------------------

_TEXT_PARTS = {"system": ("input_text",), "user": ("input_text", "input_audio"), "assistant": ("output_text",)}
_CALL_ID_CHARACTERS = 64


@dataclass(frozen=True, slots=True)
class NewItem:
    """A checked item of a client: for the wire, and for the engine either a text with its role or a sound."""

    wire: Wire
    role: str
    text: str = ""
    pcm: bytes | None = None
    """The client's bytes, in its input format."""


def _field(wire: Wire, name: str, kind: type, where: str) -> Any:
    value = wire.get(name)
    if not isinstance(value, kind):
        code = "missing_required_parameter" if value is None else "invalid_type"
        raise ClientError(f"expected {where}.{name} to be a {kind.__name__}, got {value!r}", code, f"{where}.{name}")
    return value


def parse(wire: Wire, where: str = "item") -> NewItem:
    """An item that a client sent. Raises `ClientError` that names the field."""
    item_id = wire.get("id") or new_id("item")
    if not isinstance(item_id, str):
        raise ClientError(f"expected {where}.id to be a string, got {item_id!r}", "invalid_type", f"{where}.id")
    shown = wire | {"id": item_id, "object": "realtime.item", "status": "completed"}
    match wire.get("type"):
        case "message":
            return _message(shown, where)
        case "function_call":
            name, arguments = _field(wire, "name", str, where), _field(wire, "arguments", str, where)
            shown["call_id"] = wire.get("call_id") or new_id("call")
            try:
                json.loads(arguments)
            except (ValueError, RecursionError) as error:
                raise ClientError(
                    f"expected {where}.arguments to be JSON: {error}", "invalid_value", f"{where}.arguments"
                ) from error
            return NewItem(shown, "call", f"{name} {arguments}")
        case "function_call_output":
            call_id, output = _field(wire, "call_id", str, where), _field(wire, "output", str, where)
            if len(call_id) > _CALL_ID_CHARACTERS:
                raise ClientError(
                    f"expected at most {_CALL_ID_CHARACTERS} characters in {where}.call_id, got {len(call_id)}",
                    "string_above_max_length",
                    f"{where}.call_id",
                )
            return NewItem(shown, "result", output)
        case kind:
            raise ClientError(
                f"expected {where}.type message, function_call or function_call_output, got {kind!r}",
                "invalid_value",
                f"{where}.type",
            )


def _message(wire: Wire, where: str) -> NewItem:
    role = wire.get("role")
    wanted = _TEXT_PARTS.get(str(role))
    if wanted is None:
        raise ClientError(
            f"expected {where}.role system, user or assistant, got {role!r}", "invalid_value", f"{where}.role"
        )
    content = wire.get("content")
    if not isinstance(content, list) or not content:
        raise ClientError(
            f"expected {where}.content to be a list of parts, got {content!r}", "invalid_value", f"{where}.content"
        )
    texts: list[str] = []
    sound: bytes | None = None
    for i, part in enumerate(content):
        here = f"{where}.content[{i}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "input_image":
            raise ClientError("expected text or audio: this model does not see images", "invalid_value", f"{here}.type")
        if kind == "output_audio" and role == "assistant":  # clients replay a conversation with its transcripts alone
            texts.append(_field(part, "transcript", str, here) if part.get("transcript") is not None else "")
        elif kind not in wanted:
            raise ClientError(
                f"expected a part of type {' or '.join(wanted)}, got type {kind!r}", "invalid_value", f"{here}.type"
            )
        elif kind == "input_audio":
            if not part.get("audio") and isinstance(part.get("transcript"), str):
                texts.append(part["transcript"])
            else:
                sound = (sound or b"") + audio.from_base64(_field(part, "audio", str, here), f"{here}.audio")
        else:
            texts.append(_field(part, "text", str, here))
    if sound is not None and texts:
        raise ClientError("expected an item of either text or audio, got both", "invalid_value", f"{where}.content")
    if sound is not None:  # audio is shown by `retrieve` alone
        bare = [{"type": "input_audio", "transcript": None}]
        return NewItem(wire | {"content": bare}, "user", pcm=sound)
    return NewItem(wire, str(role), " ".join(texts))
