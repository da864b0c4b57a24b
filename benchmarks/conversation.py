"""One session of a benchmark: it speaks questions in real time, listens, and now and then interrupts."""

import argparse
import asyncio
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clients import sound
from clients.realtime import RealtimeClient, RealtimeError, Turn

MODES = ("manual", "server_vad", "semantic_vad")


@dataclass
class Session:
    """What one session experienced."""

    turns: list[Turn] = field(default_factory=list)
    error: str = ""
    """Why it ended early: refused, or lost."""


def settings(mode: str) -> dict[str, Any]:
    """The `session.update` of a mode."""
    return {"audio": {"input": {"turn_detection": None if mode == "manual" else {"type": mode}}}}


def options(name: str, description: str) -> argparse.ArgumentParser:
    """The options that every benchmark of a server has."""
    made = argparse.ArgumentParser(prog=f"antiphon bench {name}", description=description)
    made.add_argument("--key", help="API key of the server")
    made.add_argument("--mode", choices=MODES, default="manual", help="how turns end (default: %(default)s)")
    made.add_argument(
        "--files", type=Path, nargs="+", default=sound.questions(), help="questions (default: those that ship)"
    )
    made.add_argument("--warmup", type=int, default=2, help="turns of each session that are not counted")
    made.add_argument("--save", type=Path, metavar="FILE", help="write the result there as well, for `bench report`")
    return made


async def converse(
    url: str, chosen: argparse.Namespace, number: int, turns: int, start_s: float = 0.0, interruptions: float = 0.0
) -> Session:
    """Hold one conversation of `turns` counted turns; the same `number` asks the same questions at the same times.

    `interruptions`: the share of answers that are interrupted by the next question, where turns end by themselves.
    """
    rng = random.Random(number)
    session = Session()
    await asyncio.sleep(start_s)
    try:
        async with RealtimeClient.connect(url, chosen.key) as client:
            await client.update(**settings(chosen.mode))
            for k in range(chosen.warmup + turns):
                pcm = sound.read(chosen.files[(number * 3 + k) % len(chosen.files)])
                interrupt = k > 0 and chosen.mode != "manual" and rng.random() < interruptions
                if interrupt:
                    before, turn = await client.interrupt(sound.read(chosen.files[k % len(chosen.files)]), pcm)
                    if k >= chosen.warmup:
                        session.turns.append(before)
                else:
                    turn = await client.ask(pcm, chosen.mode == "manual")
                if k >= chosen.warmup:
                    session.turns.append(turn)
                # People listen to the end, and then think.
                await asyncio.sleep(turn.playing_left_s + rng.uniform(0.2, 1.0))
    except (RealtimeError, OSError) as error:
        session.error = str(error) or type(error).__name__
    return session
