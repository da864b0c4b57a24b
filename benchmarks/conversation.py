"""One session of a benchmark that takes turns: it speaks a question in real time, hears the answer, speaks the next.

Sessions that speak when their time has come, whatever the server does, are in `benchmarks.schedule`.
"""

import argparse
import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from clients import sound
from clients.local_server import ServerDidNotStart, serving
from clients.realtime import RealtimeClient, RealtimeError, Turn


@dataclass
class Session:
    """What one session experienced. Times are `time.perf_counter` seconds."""

    turns: list[Turn] = field(default_factory=list)
    began_s: float = field(default_factory=time.perf_counter)
    """When it asked to be let in."""
    error: str = ""
    """Why it ended early: refused, or lost."""
    ended_ms: float | None = None
    """After how long it ended early."""

    def end(self, error: Exception) -> None:
        """It ended early."""
        self.error = str(error) or type(error).__name__
        self.ended_ms = 1000 * (time.perf_counter() - self.began_s)


def settings(mode: str) -> dict[str, Any]:
    """The `session.update` of a mode."""
    return {"audio": {"input": {"turn_detection": None if mode == "manual" else {"type": mode}}}}


@asynccontextmanager
async def measured(chosen: argparse.Namespace) -> AsyncIterator[str]:
    """The server that the command line names, or one of one's own. Raises as `reach` does, and `ServerDidNotStart`."""
    if chosen.url is None:
        print("Starting a server with the embedded model …", flush=True)
    async with serving(chosen.url) as url:
        await reach(url, chosen.key)
        yield url


async def reach(url: str, key: str | None) -> None:
    """Open a session and leave. Raises `RealtimeError` if the server refuses, `OSError` if there is none."""
    async with RealtimeClient.connect(url, key):
        pass


def carry_out(work: Coroutine[Any, Any, int]) -> int:
    """Run a benchmark; the exit status is 2, with a line that says why, if there is no server to be measured, or
    nothing that could be said to it."""
    try:
        return asyncio.run(work)
    except sound.UnreadableSound as error:
        print(error)
        return 2
    except (RealtimeError, ServerDidNotStart, OSError) as error:
        code = getattr(error, "code", None)
        hint = "; give its key with --key" if code == "invalid_api_key" else ""
        print(f"expected a Realtime server that lets us in, got: {error}{hint}")
        return 2


async def converse(
    url: str,
    chosen: argparse.Namespace,
    number: int,
    turns: int,
    heard: Callable[[], None] = lambda: None,
) -> Session:
    """Hold one conversation of `turns` counted turns; the same `number` asks the same questions at the same times.

    `heard` is called after each turn, counted or not.
    """
    rng = random.Random(number)
    session = Session()
    try:
        async with RealtimeClient.connect(url, chosen.key) as client:
            await client.update(**settings(chosen.mode))
            for k in range(chosen.warmup + turns):
                pcm = sound.read(chosen.files[(number * 3 + k) % len(chosen.files)])
                counted = k >= chosen.warmup
                if counted:
                    session.turns.append(Turn())  # should the session be lost, a turn without an answer
                turn = await client.ask(pcm, chosen.mode == "manual")
                if counted:
                    session.turns[-1] = turn
                heard()
                # People listen to the end, and then think; who holds a button need not wait for silence.
                listening_s = turn.playing_left_s if chosen.mode != "manual" else 0.0
                await asyncio.sleep(listening_s + rng.uniform(0.2, 0.6))
    except (RealtimeError, OSError) as error:
        session.end(error)
    return session
