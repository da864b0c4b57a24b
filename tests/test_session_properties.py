"""Whatever clients, voices and the engine do, in whatever order: the session keeps its promises.

Ten thousand random sequences of events, and a hundred thousand broken frames. A failure prints its seed.
"""

import base64
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from server.engine.messages import (
    AudioDelta,
    CallDelta,
    Cancel,
    Command,
    CommitTurn,
    Respond,
    ResponseBegun,
    ResponseDone,
    SessionFailed,
    TextDelta,
    TranscriptDone,
    TurnProbability,
    Usage,
)
from server.response import ORDER
from server.session import Output, Session

SEQUENCES, FRAMES = 10_000, 100_000
TOOL = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}
SOUND = base64.b64encode(bytes(48 * 40)).decode()
SETTINGS: list[dict[str, Any]] = [
    {"audio": {"input": {"turn_detection": None}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 64}}}},
    {"audio": {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}},
    {"audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5000}}}},
    {"audio": {"input": {"transcription": {"model": "whisper-1"}, "format": {"type": "audio/pcmu"}}}},
    {"tools": [TOOL]},
    {"tools": [], "output_modalities": ["text"]},
    {"instructions": "Be kind.", "truncation": "disabled"},
    {"type": "transcription"},
    {"voice": "nonsense"},
]


class World:
    """A session, an engine that answers when it likes, and a record of everything that was sent."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now_s = 0.0
        self.session = Session("s", "m", clock=lambda: self.now_s, unix_time=lambda: 0.0)
        self.events: list[dict[str, Any]] = []
        self.commands: list[Command] = []
        self.running: dict[str, Respond] = {}
        self.speaking: set[str] = set()
        self.untold: list[str] = []  # committed turns without a transcript
        self.note(self.session.opened())

    def note(self, output: Output) -> None:
        self.events += output.events
        self.commands += output.commands
        for command in output.commands:
            if isinstance(command, Respond):
                self.running[command.response_id] = command
            elif isinstance(command, Cancel):
                assert command.response_id in self.running, "cancelled what does not run"
                del self.running[command.response_id]
            elif isinstance(command, CommitTurn):
                self.untold.append(command.item_id)

    def send(self, kind: str, **fields: Any) -> None:
        output, samples = self.session.client_frame(json.dumps({"type": kind, **fields}))
        self.note(output)
        if samples is not None:
            self.note(self.session.hear(samples))

    def some_item(self) -> str:
        items = [e["item"]["id"] for e in self.events if e["type"] == "conversation.item.added"]
        return self.rng.choice([*items[-4:], "nobody"])

    # --- what may happen -------------------------------------------------------------------------------------------

    def update(self) -> None:
        self.send("session.update", session=self.rng.choice(SETTINGS))

    def append(self) -> None:
        self.send("input_audio_buffer.append", audio=SOUND)

    def voice(self) -> None:
        probability = self.rng.choice((0.0, 1.0))
        for _ in range(self.rng.randint(1, 4)):
            self.append()
            self.note(self.session.speech_window(probability))

    def commit(self) -> None:
        self.send(self.rng.choice(("input_audio_buffer.commit", "input_audio_buffer.clear")))

    def create(self) -> None:
        previous = self.rng.choice((None, None, "root", self.some_item()))
        text = [{"type": "input_text", "text": "hi"}]
        item = self.rng.choice(
            (
                {"type": "message", "role": "user", "content": text},
                {"type": "message", "role": "user", "content": [{"type": "input_audio", "audio": SOUND}]},
                {"type": "function_call_output", "call_id": "c", "output": "1"},
                {"type": "message", "role": "nobody", "content": text},
            )
        )
        self.send("conversation.item.create", item=item, previous_item_id=previous)

    def edit(self) -> None:
        kind = self.rng.choice(("retrieve", "delete", "truncate"))
        cut = {"content_index": 0, "audio_end_ms": self.rng.choice((0, 40, 10**6))} if kind == "truncate" else {}
        self.send(f"conversation.item.{kind}", item_id=self.some_item(), **cut)

    def respond(self) -> None:
        request = self.rng.choice(({}, {}, {"conversation": "none"}, {"conversation": "none", "input": []}, {"x": 1}))
        self.send("response.create", response=request)

    def cancel(self) -> None:
        chosen = self.rng.choice([None, "nobody", *self.running])
        self.send("response.cancel", **({"response_id": chosen} if chosen else {}))

    def answer(self) -> None:
        if not self.running:
            return
        response_id = self.rng.choice(list(self.running))
        request = self.running[response_id]
        if self.rng.random() < 0.3:
            self.note(self.session.engine_event(ResponseBegun("s", response_id, Usage(1, 1))))
        if response_id not in self.speaking and request.calls and self.rng.random() < 0.5:
            for piece in ("{", "}"):
                self.note(self.session.engine_event(CallDelta("s", response_id, "f", piece)))
        elif self.rng.random() < 0.7:
            self.speaking.add(response_id)
            self.note(self.session.engine_event(TextDelta("s", response_id, "word")))
            if request.speak:
                self.note(self.session.engine_event(AudioDelta("s", response_id, bytes(1920))))
            if self.rng.random() < 0.5:
                return
        status = self.rng.choice(("completed", "completed", "incomplete", "failed"))
        del self.running[response_id]
        self.note(self.session.engine_event(ResponseDone("s", response_id, status)))

    def stale(self) -> None:
        self.note(self.session.engine_event(TextDelta("s", "resp_of_yesterday", "word")))
        self.note(self.session.engine_event(TurnProbability("s", self.rng.random(), 100)))

    def transcript(self) -> None:
        if self.untold:
            self.note(self.session.engine_event(TranscriptDone("s", self.untold.pop(0), "hello", 3, 1)))

    def wait(self) -> None:
        self.now_s += self.rng.choice((0.1, 6.0))
        self.note(self.session.tick())

    def fault(self) -> None:
        if self.rng.random() < 0.1:
            self.note(self.session.engine_event(SessionFailed("s", "broken")))

    def live(self, steps: int) -> None:
        chances: dict[Callable[[], None], int] = {
            self.update: 2, self.append: 4, self.voice: 6, self.commit: 3, self.create: 3, self.edit: 3,
            self.respond: 4, self.cancel: 2, self.answer: 8, self.stale: 1, self.transcript: 3, self.wait: 1,
            self.fault: 1,
        }  # fmt: skip
        for happens in self.rng.choices(list(chances), list(chances.values()), k=steps):
            happens()
        while self.running:  # and in the end every answer ends
            self.answer()


def check(events: list[dict[str, Any]]) -> None:
    """The promises about order and identity, over everything that one session has sent."""
    assert len({e["event_id"] for e in events}) == len(events)
    open_responses: dict[str, str | None] = {}
    last: dict[str, str] = {}
    open_items: set[str] = set()
    known: set[str] = set()
    for event in events:
        kind = event["type"]
        if kind.startswith("response."):
            response_id = event.get("response_id") or event["response"]["id"]
            assert kind == "response.created" or kind[9:] in ORDER[last[response_id]], (
                f"{kind} after {last[response_id]}"
            )
            last[response_id] = kind[9:]
        if kind == "response.created":
            conversation = event["response"]["conversation_id"]
            assert conversation is None or conversation not in open_responses.values(), "two answers at once"
            open_responses[event["response"]["id"]] = conversation
        elif kind == "response.done":
            del open_responses[event["response"]["id"]]
            assert all(i["status"] in ("completed", "incomplete") for i in event["response"]["output"])
            assert event["response"]["usage"] is not None
        elif kind == "conversation.item.added":
            item_id = event["item"]["id"]
            assert item_id not in known, "an item was added twice"
            assert event["previous_item_id"] in (None, *known)
            known.add(item_id)
            open_items.add(item_id)
        elif kind == "conversation.item.done":
            open_items.discard(event["item"]["id"])
        elif kind == "conversation.item.deleted":
            assert event["item_id"] in known
            known.discard(event["item_id"])
            assert event["item_id"] not in open_items, "an item was deleted before it was done"
        elif kind.startswith("response.") and "response_id" in event:
            assert event["response_id"] in open_responses, f"{kind} outside its response"
    assert not open_responses
    assert not open_items
    assert set(last.values()) <= {"done"}


@pytest.mark.parametrize("part", range(4))
def test_random_sequences_of_events_break_no_promise(part: int) -> None:
    for seed in range(part * SEQUENCES // 4, (part + 1) * SEQUENCES // 4):
        world = World(seed)
        try:
            world.live(random.Random(seed).randint(5, 30))
            check(world.events)
        except Exception as fault:
            raise AssertionError(f"sequence of seed {seed}") from fault


GOOD_FRAMES = [
    json.dumps(frame)
    for frame in (
        {"type": "session.update", "session": {"type": "realtime", "audio": {"input": {"turn_detection": None}}}},
        {"type": "input_audio_buffer.append", "audio": SOUND[:80], "event_id": "e1"},
        {"type": "conversation.item.create", "item": {"type": "message", "role": "user", "content": []}},
        {"type": "conversation.item.truncate", "item_id": "i", "content_index": 0, "audio_end_ms": 5},
        {"type": "response.create", "response": {"conversation": "none", "input": [], "metadata": {"a": "b"}}},
    )
]
NONSENSE = [
    "null",
    "[]",
    "{}",
    "-1",
    "1e400",
    '"',
    "\\ud800",
    "\x00",
    "é",
    "true",
    "{",
    "}",
    ":",
    ",",
    "9" * 30,
    '"type"',
]


def _broken(rng: random.Random) -> str:
    frame = rng.choice(GOOD_FRAMES)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(frame) + 1)
        kind = rng.random()
        if kind < 0.4:
            frame = frame[:at] + rng.choice(NONSENSE) + frame[at + rng.randint(0, 8) :]
        elif kind < 0.7:
            frame = frame[:at] + frame[at + rng.randint(1, 20) :]
        else:
            frame = frame[:at] + chr(rng.randrange(32, 127)) + frame[at + 1 :]
    return frame


def test_a_broken_frame_gets_an_error_and_nothing_else_happens() -> None:
    rng = random.Random(0)
    session = Session("s", "m")
    session.opened()
    refused = 0
    for _ in range(FRAMES):
        frame = _broken(rng)
        output, _ = session.client_frame(frame)
        errors = [e["error"] for e in output.events if e["type"] == "error"]
        if errors:
            refused += 1
            assert (len(output.events), output.commands) == (1, []), frame
            assert errors[0]["type"] == "invalid_request_error", frame
            assert errors[0]["code"], frame
            assert errors[0]["message"], frame
        json.dumps(output.events, allow_nan=False).encode()
    assert refused > FRAMES // 2
