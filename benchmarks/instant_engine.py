"""A gateway whose engine answers at once: what `antiphon bench gateway` measures. `antiphon serve` cannot reach it.

The engine's double hears nothing and knows no words. Every answer is `ANSWER_CHUNKS` chunks of audio, the first at
once and the others at the pace at which they play; each begins with the time at which it was handed over, so that a
client knows how long it was on its way. `/measured` tells when audio reached the double, and what the process has cost.

    python -m benchmarks.instant_engine PORT
"""

import asyncio
import gc
import resource
import struct
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from server.config import ServerConfig
from server.engine.inboxes import Inboxes
from server.engine.messages import (
    SPOKEN_HZ,
    AudioDelta,
    Cancel,
    CloseSession,
    Command,
    CommitTurn,
    ConfirmTurn,
    Event,
    Hear,
    OpenSession,
    Respond,
    ResponseDone,
    ResumeTurn,
    TextDelta,
    TranscriptDone,
)
from server.gateway import create_app, serve

ANSWER_CHUNKS, CHUNK_MS = 15, 160
STAMP = struct.Struct("<d")  # `time.perf_counter` of the engine, in the first samples of a chunk
_SILENCE = bytes(2 * SPOKEN_HZ * CHUNK_MS // 1000 - STAMP.size)


class InstantEngine:
    """Implements `server.engine.interface.SpeechEngine`."""

    def __init__(self) -> None:
        self.heard: dict[str, list[list[tuple[float, int]]]] = defaultdict(lambda: [[]])
        """For each session and turn, when audio came and how many bytes of the turn there were then."""
        self._inboxes = Inboxes()
        self._answers: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, list[Command]] = {}
        """What a provisional end of a turn has brought: an answer that nobody may hear yet is not on its way."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    @property
    def alive(self) -> bool:
        return True

    def send(self, command: Command) -> None:
        session_id = command.session_id
        match command:
            case Hear(pcm=pcm):
                turn = self.heard[session_id][-1]
                turn.append((time.perf_counter(), len(pcm) + (turn[-1][1] if turn else 0)))
            case CommitTurn(item_id=item_id, guess=guess) if guess:
                self._waiting[session_id] = [CommitTurn(session_id, item_id)]
            case Respond() if session_id in self._waiting:
                self._waiting[session_id].append(command)
            case ConfirmTurn():
                for waiting in self._waiting.pop(session_id, []):
                    self.send(waiting)
            case ResumeTurn():
                self._waiting.pop(session_id, None)
            case CommitTurn(item_id=item_id):
                self.heard[session_id].append([])
                self._inboxes.put(TranscriptDone(session_id, item_id, "", 0, 0))
            case Respond():
                self._answers[session_id] = asyncio.create_task(self._answer(command))
            case OpenSession():
                self._inboxes.open(session_id)
            case CloseSession() | Cancel():
                answer = self._answers.pop(session_id, None)
                if answer is not None:
                    answer.cancel()
                if isinstance(command, CloseSession):
                    self._inboxes.close(session_id)
            case _:
                pass

    def subscribe(self, session_id: str) -> AsyncIterator[Event]:
        return self._inboxes.events(session_id)

    async def _answer(self, request: Respond) -> None:
        session_id, response_id = request.session_id, request.response_id
        self._inboxes.put(TextDelta(session_id, response_id, "Here."))
        for number in range(ANSWER_CHUNKS):
            if number:
                await asyncio.sleep(CHUNK_MS / 1000)
            self._inboxes.put(AudioDelta(session_id, response_id, STAMP.pack(time.perf_counter()) + _SILENCE))
        self._inboxes.put(ResponseDone(session_id, response_id, "completed"))


def resident_bytes() -> int:
    """Memory that this process holds now; where `/proc` does not tell, the most it has held."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(port: int) -> None:
    """Serve until ended."""
    engine, config = InstantEngine(), ServerConfig(port=port, log_level="warning")
    app = create_app(config, engine)

    @app.get("/measured")
    async def measured(heard: bool = False) -> dict[str, Any]:
        gc.collect()
        cost = {"cpu_s": time.process_time(), "resident_bytes": resident_bytes()}
        return cost | ({"heard": engine.heard} if heard else {})

    serve(app, config)


if __name__ == "__main__":
    main(int(sys.argv[1]))
