"""Where the events of each session wait for the gateway: what every implementation of `SpeechEngine` has. One event
loop calls everything.
"""

import asyncio
from collections.abc import AsyncIterator

from server.engine.messages import Event, SessionFailed


class Inboxes:
    """One queue for each open session."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[Event | None]] = {}

    def open(self, session_id: str) -> None:
        self._queues[session_id] = asyncio.Queue()

    def close(self, session_id: str) -> None:
        """The session's events end here."""
        queue = self._queues.pop(session_id, None)
        if queue is not None:
            queue.put_nowait(None)

    def put(self, event: Event) -> None:
        """Dropped where its session has been closed."""
        queue = self._queues.get(event.session_id)
        if queue is not None:
            queue.put_nowait(event)

    async def events(self, session_id: str) -> AsyncIterator[Event]:
        """The events of one session, in order, until it is closed."""
        queue = self._queues[session_id]
        while (event := await queue.get()) is not None:
            yield event

    def fail(self, message: str) -> None:
        """The engine has died: every session hears of it, and then nothing more."""
        for session_id, queue in self._queues.items():
            queue.put_nowait(SessionFailed(session_id, message, "engine_unavailable"))
            queue.put_nowait(None)
