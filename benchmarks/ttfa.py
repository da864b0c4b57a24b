"""`antiphon bench ttfa`: time to first audio of one session that speaks in real time, to any Realtime server.

Last line of the output, JSON: `command`, `mode`, `turns`, `from_commit_ms` and `from_speech_ms` (median, p90, p99),
`viability`, `target_ms`, `met`.
"""

import argparse
import asyncio
import json
import statistics
from pathlib import Path
from typing import Any

from clients import sound
from clients.local_server import local_server
from clients.realtime import RealtimeClient, Turn

TARGET_MS = 320.0


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, p90 and p99, in whole tenths."""
    if not values:
        return {}
    ordered = sorted(values)
    high = {f"p{share}": ordered[min(len(ordered) - 1, share * len(ordered) // 100)] for share in (90, 99)}
    return {name: round(value, 1) for name, value in ({"median": statistics.median(ordered)} | high).items()}


def summary(turns: list[Turn]) -> dict[str, Any]:
    """What both benchmarks print about their turns."""
    return {
        "turns": len(turns),
        "answered": sum(t.status == "completed" and bool(t.pcm) for t in turns),
        "from_commit_ms": percentiles([t.ttfa_from_commit_ms for t in turns if t.ttfa_from_commit_ms is not None]),
        "from_speech_ms": percentiles([t.ttfa_from_speech_ms for t in turns if t.ttfa_from_speech_ms is not None]),
        "viability": round(statistics.fmean(t.viability for t in turns), 4) if turns else 0.0,
    }


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """The options that both benchmarks have."""
    made = argparse.ArgumentParser(prog=f"antiphon bench {name}", description=description)
    made.add_argument("--url", help="server to measure (default: start one with the embedded model)")
    made.add_argument("--key", help="its API key")
    made.add_argument(
        "--mode", choices=("manual", "server_vad", "semantic_vad"), default="manual", help="(default: %(default)s)"
    )
    made.add_argument(
        "--files", type=Path, nargs="+", default=sound.questions(), help="questions (default: those that ship)"
    )
    return made


def settings(mode: str) -> dict[str, Any]:
    """The session of a mode."""
    return {"audio": {"input": {"turn_detection": None if mode == "manual" else {"type": mode}}}}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    options_of = parser("ttfa", "Time to first audio of one session.")
    options_of.add_argument("--turns", type=int, default=20)
    options_of.add_argument("--warmup", type=int, default=3, help="turns that are not counted")
    options = options_of.parse_args(argv)
    return asyncio.run(_main(options))


async def _main(options: argparse.Namespace) -> int:
    if options.url:
        return await _measure(options, options.url)
    async with local_server() as url:
        return await _measure(options, url)


async def _measure(options: argparse.Namespace, url: str) -> int:
    turns = []
    async with RealtimeClient.connect(url, options.key) as client:
        await client.update(**settings(options.mode))
        for number in range(options.warmup + options.turns):
            turn = await client.ask(sound.read(options.files[number % len(options.files)]), options.mode == "manual")
            if number >= options.warmup:
                turns.append(turn)
                commit_ms, speech_ms = turn.ttfa_from_commit_ms, turn.ttfa_from_speech_ms
                print(f"turn {len(turns)}: {commit_ms} ms from the commit, {speech_ms} ms from speech", flush=True)
    result = {"command": "bench ttfa", "mode": options.mode, **summary(turns), "target_ms": TARGET_MS}
    start = "from_commit_ms" if options.mode == "manual" else "from_speech_ms"
    result["met"] = bool(result[start]) and result[start]["median"] <= TARGET_MS
    print(json.dumps(result))
    return 0 if result["answered"] == len(turns) else 1
