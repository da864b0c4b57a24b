"""One question to the engine and its answer, for HTTP: a session of its own for as long as a request takes."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from server.engine.interface import SpeechEngine
from server.engine.messages import (
    AddText,
    AudioDelta,
    CallDelta,
    Calls,
    CloseSession,
    Command,
    CommitTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    SessionFailed,
    SetInstructions,
    TextDelta,
    TranscriptDelta,
    TranscriptDone,
)
from server.errors import (
    AntiphonError,
    EngineFull,
    EngineUnavailable,
    ImpossibleTools,
    SequenceTooLong,
    SessionLost,
)
from server.ids import new_id


class Exchange:
    """Add what was said, then listen to `transcript` or `answer`."""

    def __init__(self, engine: SpeechEngine) -> None:
        self.id, self._engine = new_id("sess"), engine
        self._committed, self._asked, self._open = "", False, True
        self._happened: asyncio.Queue[Event | None] = asyncio.Queue()

    async def listen(self) -> None:
        """Take events as they come, and leave the engine after the last one that is wanted: a client that reads slowly
        must not keep a place that others wait for."""
        async for event in self._engine.subscribe(self.id):
            self._happened.put_nowait(event)
            if isinstance(event, (SessionFailed, ResponseDone if self._asked else TranscriptDone)):
                break
        self._happened.put_nowait(None)
        self.leave()

    def leave(self) -> None:
        """End the session, once."""
        if self._open:
            self._open = False
            with contextlib.suppress(EngineUnavailable):
                self._engine.send(CloseSession(self.id))

    def _send(self, command: Command) -> None:
        self._engine.send(command)

    def instruct(self, text: str) -> None:
        """The system text."""
        self._send(SetInstructions(self.id, text))

    def say(self, role: str, text: str) -> None:
        """A turn of text."""
        self._send(AddText(self.id, new_id("item"), role, text))

    def hear(self, pcm: bytes) -> None:
        """A spoken turn of the user, 16 kHz."""
        self._committed = new_id("item")
        self._send(Hear(self.id, pcm))
        self._send(CommitTurn(self.id, self._committed))

    async def _events(self) -> AsyncIterator[Event]:
        while (event := await self._happened.get()) is not None:
            if isinstance(event, SessionFailed):
                raise _error(event.message, event.code)
            yield event
        raise EngineUnavailable("the engine has ended")

    async def transcript(self) -> AsyncIterator[TranscriptDelta | TranscriptDone]:
        """What was heard in the newest spoken turn."""
        async for event in self._events():
            if isinstance(event, TranscriptDelta | TranscriptDone) and event.item_id == self._committed:
                yield event
                if isinstance(event, TranscriptDone):
                    return

    async def answer(
        self,
        speak: bool,
        calls: Calls | None = None,
        max_tokens: int | None = None,
        script: str | None = None,
        speed: float = 1.0,
    ) -> AsyncIterator[TextDelta | AudioDelta | CallDelta | ResponseDone]:
        """The answer, to its `ResponseDone`. `script`: the text to be read aloud instead of an answer.

        Raises `SessionLost` where the engine could not answer, and `SequenceTooLong` or `ImpossibleTools` where nobody
        could have.
        """
        response_id, self._asked = new_id("resp"), True
        self._send(
            Respond(
                self.id,
                response_id,
                new_id("item"),
                speak=speak,
                speed=speed,
                calls=calls,
                max_tokens=max_tokens,
                script=script,
            )
        )
        async for event in self._events():
            if isinstance(event, TextDelta | AudioDelta | CallDelta | ResponseDone):
                if isinstance(event, ResponseDone) and event.status == "failed":
                    raise _error(event.error or "the engine could not answer", event.code)
                yield event
                if isinstance(event, ResponseDone):
                    return


def _error(message: str, code: str) -> AntiphonError:
    """What the engine failed with. That there is no room is no fault of the client's, who is to try again."""
    for kind in (SequenceTooLong, ImpossibleTools):
        if code == kind.code:
            return kind(message)
    return SessionLost(message, code) if code == EngineFull.code else SessionLost(message)


@asynccontextmanager
async def exchange(engine: SpeechEngine) -> AsyncIterator[Exchange]:
    """An exchange whose session ends with the block. Raises `EngineUnavailable`."""
    made = Exchange(engine)
    engine.send(OpenSession(made.id))
    listening = asyncio.create_task(made.listen())
    try:
        yield made
    finally:
        listening.cancel()
        made.leave()
