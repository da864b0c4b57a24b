"""Emptying a server before it stops, so that no answer is cut. No I/O: it counts sessions and reads a clock.

begin ──▶ new sessions are refused, the open ones go on ──▶ after `drain_s` each ends between two of its turns
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from server.errors import ServerDraining


class Draining:
    """Whether one server is being emptied, and how many sessions it has."""

    def __init__(self, drain_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._drain_s, self._clock = drain_s, clock
        self._since_s: float | None = None
        self.sessions = 0

    def begin(self) -> None:
        """From now on no session begins. Saying it again changes nothing."""
        if self._since_s is None:
            self._since_s = self._clock()

    @property
    def begun(self) -> bool:
        return self._since_s is not None

    @property
    def closing(self) -> bool:
        """Whether the time in which open sessions just go on is over."""
        return self._since_s is not None and self._clock() >= self._since_s + self._drain_s

    @property
    def done(self) -> bool:
        """Whether nobody would miss the server."""
        return self.begun and not self.sessions

    def check(self) -> None:
        """Raises `ServerDraining` if no new session may begin."""
        if self.begun:
            raise ServerDraining("this server is about to stop; connect again to reach another one")

    @contextmanager
    def session(self) -> Iterator[None]:
        """Around everything that a session does."""
        self.sessions += 1
        try:
            yield
        finally:
            self.sessions -= 1
