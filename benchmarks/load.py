"""`antiphon bench load`: many sessions at once, each speaking in real time, to any Realtime server.

Sessions begin one after the other and keep their own times (open loop), so they talk over each other's turns. Some
answers are interrupted, where turns end by themselves. With several counts the benchmark runs once for each.

Last line, JSON: `command`, `mode`, `runs`: for each count of sessions what `bench ttfa` prints; `holds`: the largest
count whose p95 from the end of speech stays within `--limit-ms` with at least 99 % of the chunks in time.
"""

import argparse
import asyncio
import random

from benchmarks.conversation import converse, options
from benchmarks.figures import HEAD, Figures, finish, raw, row, summary
from clients.local_server import serving


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    parser = options("load", "Time to first audio of many sessions at once.")
    parser.add_argument("--url", help="server to measure (default: start one with the embedded model)")
    parser.add_argument("--sessions", type=int, nargs="+", default=[1, 4, 8], help="(default: %(default)s)")
    parser.add_argument("--turns", type=int, default=4, help="counted turns of each session (default: %(default)s)")
    parser.add_argument("--spread", type=float, default=4.0, help="sessions begin within so many seconds")
    parser.add_argument("--interruptions", type=float, default=0.2, help="share of answers that are interrupted")
    parser.add_argument("--limit-ms", type=float, default=600.0, help="p95 that counts as held (default: %(default)s)")
    chosen = parser.parse_args(argv)

    async def run() -> int:
        runs: dict[str, Figures] = {}
        async with serving(chosen.url) as url:
            print(HEAD)
            for count in chosen.sessions:
                runs[str(count)] = await measure(url, chosen, count)
                print(row(f"{count} sessions", runs[str(count)]), flush=True)
        held = [int(count) for count, figures in runs.items() if _holds(figures, chosen.limit_ms)]
        result = {
            "command": "bench load",
            "mode": chosen.mode,
            "runs": runs,
            "holds": max(held, default=0),
            "limit_ms": chosen.limit_ms,
            "turns": sum(f["turns"] for f in runs.values()),
            "answered": sum(f["answered"] for f in runs.values()),
            "generator_was_too_slow": any(f["generator_was_too_slow"] for f in runs.values()),
        }
        return finish(result, chosen)

    return asyncio.run(run())


async def measure(url: str, chosen: argparse.Namespace, count: int) -> Figures:
    """One run of `count` sessions."""
    starts = random.Random(count)
    sessions = await asyncio.gather(
        *(
            converse(url, chosen, n, chosen.turns, starts.uniform(0, chosen.spread), chosen.interruptions)
            for n in range(count)
        )
    )
    for error in {s.error for s in sessions if s.error}:
        print(f"  a session ended early: {error}")
    return summary(sessions) | {"raw": raw([t for s in sessions for t in s.turns])}


def _holds(figures: Figures, limit_ms: float) -> bool:
    speech = figures["from_speech_ms"]
    return bool(speech) and speech["p95"] <= limit_ms and figures["viability"] >= 0.99 and not figures["refused"]
