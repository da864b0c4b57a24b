"""Recorded conversations: every event of a session, in both directions and with its audio, in a file of its own.

One JSON object a line: `at_s` since the session began, `by` (client or server), `event`. Writing happens in a thread,
so that a slow disk keeps no session waiting. `antiphon replay` plays such a file to a server.
"""

import json
import logging
import queue
import threading
import time
from pathlib import Path

_log = logging.getLogger("antiphon.recording")
_CLIENT, _SERVER = "client", "server"


class Recording:
    """The file of one session."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._started_s = time.perf_counter()
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, daemon=True, name=f"recording {path.name}")
        self._thread.start()

    def client(self, frame: str | bytes) -> None:
        """A frame of the client, whatever it is."""
        text = frame if isinstance(frame, str) else frame.decode(errors="replace")
        try:
            self._note(_CLIENT, json.dumps(json.loads(text)))
        except (ValueError, RecursionError):
            self._note(_CLIENT, json.dumps(text))

    def server(self, event: str) -> None:
        """An event of the server, as JSON."""
        self._note(_SERVER, event)

    def _note(self, by: str, event: str) -> None:
        at_s = round(time.perf_counter() - self._started_s, 4)
        self._lines.put(f'{{"at_s": {at_s}, "by": "{by}", "event": {event}}}\n')

    def _write(self) -> None:
        line: str | None = ""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("w", encoding="utf-8") as file:
                while line is not None:
                    file.write(line)
                    line = self._lines.get()
        except OSError as error:
            _log.error("expected to record into %s, got: %s; this session goes on without", self.path, error)
            while line is not None:  # what nobody takes would fill the memory
                line = self._lines.get()

    def close(self) -> None:
        """Nothing more will come; the file is closed when everything is written."""
        self._lines.put(None)
