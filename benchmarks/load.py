"""`antiphon bench load`: many sessions at once, each speaking in real time, to any Realtime server.

Last line of the output, JSON: `command`, `mode`, `sessions`, and what `ttfa` prints; `answers` counts different ones.
"""

import argparse
import asyncio
import json
import random
from pathlib import Path

from benchmarks.ttfa import TARGET_MS, parser, settings, summary
from clients import sound
from clients.local_server import local_server
from clients.realtime import RealtimeClient, Turn


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    options_of = parser("load", "Time to first audio of many sessions at once.")
    options_of.add_argument("--sessions", type=int, default=8)
    options_of.add_argument("--turns", type=int, default=3, help="turns of each session")
    options_of.add_argument("--spread", type=float, default=3.0, help="sessions begin within so many seconds")
    return asyncio.run(_main(options_of.parse_args(argv)))


async def _main(options: argparse.Namespace) -> int:
    if options.url:
        return await _measure(options, options.url)
    async with local_server() as url:
        return await _measure(options, url)


async def _session(number: int, options: argparse.Namespace, url: str) -> list[tuple[Path, Turn]]:
    rng = random.Random(number)
    await asyncio.sleep(rng.uniform(0, options.spread))
    turns = []
    async with RealtimeClient.connect(url, options.key) as client:
        await client.update(**settings(options.mode))
        for k in range(options.turns):
            path = options.files[(number * options.turns + k) % len(options.files)]
            turns.append((path, await client.ask(sound.read(path), options.mode == "manual")))
            await asyncio.sleep(rng.uniform(0, 1))
    return turns


async def _measure(options: argparse.Namespace, url: str) -> int:
    sessions = await asyncio.gather(*(_session(n, options, url) for n in range(options.sessions)))
    turns = [turn for session in sessions for _, turn in session]
    result = {
        "command": "bench load",
        "mode": options.mode,
        "sessions": options.sessions,
        **summary(turns),
        "target_ms": TARGET_MS,
    }
    print(json.dumps(result))
    return 0 if result["answered"] == len(turns) else 1
