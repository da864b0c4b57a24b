"""A test double of the speech engine: it answers commands from a script and hears nothing. For tests alone.

Every `Respond` gets the same words and a second of silence; every committed turn the same transcript. A test may also
speak for the engine itself with `say`, hold answers back, or let the engine die. No model, no process, no torch.
"""

import asyncio
from collections.abc import AsyncIterator

from server.engine.inboxes import Inboxes
from server.engine.messages import (
    SPOKEN_HZ,
    AudioDelta,
    CloseSession,
    Command,
    CommitTurn,
    Event,
    OpenSession,
    Respond,
    ResponseDone,
    TextDelta,
    TranscriptDelta,
    TranscriptDone,
    Usage,
)
from server.errors import EngineUnavailable

ANSWER, HEARD = "Good day to you.", "hello there"
CHUNKS, CHUNK_MS = 5, 200


class ScriptedEngine:
    """Implements `server.engine.interface.SpeechEngine`."""

    def __init__(self, hold_answers: bool = False, failing: bool = False) -> None:
        self.commands: list[Command] = []
        self.session_closed = asyncio.Event()
        self._hold_answers, self._failing = hold_answers, failing
        self._inboxes = Inboxes()
        self._alive = False

    async def start(self) -> None:
        self._alive = True

    async def stop(self) -> None:
        self._alive = False

    @property
    def alive(self) -> bool:
        return self._alive

    def send(self, command: Command) -> None:
        if not self._alive:
            raise EngineUnavailable("the scripted engine has died")
        self.commands.append(command)
        session_id = command.session_id
        match command:
            case OpenSession():
                self._inboxes.open(session_id)
            case CloseSession():
                self._inboxes.close(session_id)
                self.session_closed.set()
            case CommitTurn(item_id=item_id):
                self.say(TranscriptDelta(session_id, item_id, HEARD))
                self.say(TranscriptDone(session_id, item_id, HEARD, 12, 2))
            case Respond() if not self._hold_answers:
                self._answer(command)
            case _:
                pass

    def subscribe(self, session_id: str) -> AsyncIterator[Event]:
        return self._inboxes.events(session_id)

    def say(self, event: Event) -> None:
        """Speak for the engine."""
        self._inboxes.put(event)

    def die(self) -> None:
        """End as a lost process ends: every session hears of it, and no further command is taken."""
        self._alive = False
        self._inboxes.fail("the scripted engine has died")

    def _answer(self, request: Respond) -> None:
        session_id, response_id = request.session_id, request.response_id
        if self._failing:
            self.say(ResponseDone(session_id, response_id, "failed", error="the scripted engine cannot"))
            return
        self.say(TextDelta(session_id, response_id, ANSWER))
        if request.speak:
            for _ in range(CHUNKS):
                self.say(AudioDelta(session_id, response_id, bytes(2 * SPOKEN_HZ * CHUNK_MS // 1000)))
        self.say(ResponseDone(session_id, response_id, "completed", Usage(3, 12, 0, 0, 4, 25), {"first_audio": 1.0}))
