"""What the gateway needs of a speech engine. Imports neither torch nor a process library."""

from collections.abc import AsyncIterator
from typing import Protocol

from server.engine.messages import Command, Event


class SpeechEngine(Protocol):
    """Commands in, events out; `server.engine.remote` is the real one."""

    async def start(self) -> None:
        """Return when the engine is ready. Raises `EngineUnavailable` if it cannot be."""

    async def stop(self) -> None: ...

    @property
    def alive(self) -> bool:
        """Whether commands are taken."""

    def send(self, command: Command) -> None:
        """Hand a command over; never blocks. Raises `EngineUnavailable` if the engine has died."""

    def subscribe(self, session_id: str) -> AsyncIterator[Event]:
        """The events of one session, in order, until its `CloseSession` or the engine's death."""
