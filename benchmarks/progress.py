"""A progress bar on standard error, for people; where nobody watches, nothing is drawn."""

import sys
import time
from types import TracebackType

_WIDTH = 30
_REDRAW_S = 0.1


class Progress:
    """`with Progress("turns", 20) as progress: ... progress.advance()`."""

    def __init__(self, title: str, total: int) -> None:
        self._title, self._total, self._done = title, max(1, total), 0
        self._drawn_s = 0.0
        self._watched = sys.stderr.isatty()

    def advance(self, by: int = 1) -> None:
        """So much more has been done."""
        self.reach(self._done + by)

    def reach(self, done: int) -> None:
        """So much has been done."""
        self._done = done
        now_s = time.monotonic()
        if self._watched and (now_s - self._drawn_s >= _REDRAW_S or self._done >= self._total):
            self._drawn_s = now_s
            filled = min(_WIDTH, _WIDTH * self._done // self._total)
            bar = "█" * filled + "·" * (_WIDTH - filled)
            print(f"\r  {self._title:<24} {bar} {self._done}/{self._total}\033[K", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> "Progress":
        self.advance(0)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        if self._watched:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
