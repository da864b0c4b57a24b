"""`antiphon bench load`: many sessions at once, each speaking in real time, to any Realtime server.

What each session says and when is laid out before it begins (open loop): sessions talk over each other's turns, and
some answers are interrupted, whether the server keeps up or not. With several counts the benchmark runs once for each;
`--find` looks for the largest count that holds: 95 % of all turns begin to sound within `--limit-ms` of the end of the
speech, 99 % of the audio chunks are in time, and nobody is refused.

    antiphon bench load --sessions 1 4 8
    antiphon bench load --find --sessions 4
    antiphon bench load --url wss://host/v1/realtime --key KEY --sessions 8 16 32
"""

import argparse
import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from benchmarks.conversation import Session, carry_out, measured
from benchmarks.figures import HEAD, SUMMARY, UNSAVED, finish, raw, row, share_within, summary
from benchmarks.options import add_conversation, add_server, benchmark
from benchmarks.progress import Progress
from benchmarks.schedule import hold, plan
from benchmarks.targets import Figures
from clients import sound
from server.options import positive

_SHARE, _VIABILITY = 0.95, 0.99
RUN = {
    **SUMMARY,
    "within": "share of all turns that began to sound within the limit; an unanswered one did not",
    "holds": "whether 95 % did, with 99 % of the chunks in time and nobody refused",
    "generator_cpu": "share of one core that this benchmark needed",
}
"""What `measure` says about one run."""
KEYS = {
    "mode": "how turns ended",
    "find": "whether the largest count that holds was looked for",
    "runs": "for each count of sessions: " + ", ".join(RUN),
    "holds": "the largest count that held",
    "limit_ms": "the limit of time to first audio, from the end of the speech",
    "turns": "counted turns of all runs",
    "answered": "those that were answered",
    "refused": "sessions of all runs that were turned away",
    "lost": "sessions of all runs that ended early",
    "generator_was_too_slow": "whether this benchmark was the bottleneck in any run",
}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered and no session refused, or with `--find` if any count held."""
    parser = benchmark("load", __doc__, KEYS)
    add_server(parser)
    add_conversation(parser, mode="semantic_vad", warmup=1)
    parser.add_argument("--sessions", type=positive, nargs="+", default=[1, 4, 8], help="(default: 1 4 8)")
    parser.add_argument("--find", action="store_true", help="find the largest count that holds, from the first on")
    parser.add_argument("--most", type=positive, default=64, help="where --find gives up (default: %(default)s)")
    add_schedule(parser)
    chosen = parser.parse_args(argv)
    if chosen.find and chosen.sessions[0] > chosen.most:
        parser.error(f"expected --find to begin with at most --most {chosen.most} sessions, got {chosen.sessions[0]}")

    async def run() -> int:
        runs: dict[int, Figures] = {}

        async def holds(count: int) -> bool:
            runs[count] = await measure(url, chosen, count)
            print(row(f"{count} sessions", runs[count]), flush=True)
            return bool(runs[count]["holds"])

        async with measured(chosen) as url:
            print(HEAD)
            if chosen.find:
                await largest(holds, chosen.sessions[0], chosen.most)
            else:
                for count in chosen.sessions:
                    await holds(count)
        held = max((count for count, figures in runs.items() if figures["holds"]), default=0)
        result = {
            "command": "bench load",
            "mode": chosen.mode,
            "find": chosen.find,
            "runs": {str(count): runs[count] for count in sorted(runs)},
            "holds": held,
            "limit_ms": chosen.limit_ms,
            **{key: sum(f[key] for f in runs.values()) for key in ("turns", "answered", "refused", "lost")},
            "generator_was_too_slow": any(f["generator_was_too_slow"] for f in runs.values()),
        }
        print(f"The largest number of sessions that holds {chosen.limit_ms:g} ms: {held}")
        status = finish(result, chosen)
        return int(held == 0) if chosen.find and status != UNSAVED else status

    return carry_out(run())


def add_schedule(parser: argparse.ArgumentParser) -> None:
    """What sessions say and when, and the limit."""
    parser.add_argument("--turns", type=int, default=4, help="counted turns of each session (default: %(default)s)")
    parser.add_argument("--spread", type=float, default=4.0, help="sessions begin within so many seconds")
    parser.add_argument("--interruptions", type=float, default=0.25, help="share of answers that are interrupted")
    parser.add_argument("--limit-ms", type=float, default=600.0, help="p95 that counts as held (default: %(default)s)")


async def sessions(url: str, chosen: argparse.Namespace, count: int) -> list[Session]:
    """`count` sessions at once; the same for the same count."""
    files, starts = [sound.read(path) for path in chosen.files], random.Random(count)
    interruptions = 0.0 if chosen.mode == "manual" else chosen.interruptions
    with Progress(f"{count} sessions", count) as progress:

        async def one(number: int) -> Session:
            questions = plan(number, files, chosen.warmup + chosen.turns, interruptions)
            start_s = starts.uniform(0, chosen.spread)
            held = await hold(url, chosen.key, chosen.mode, questions, chosen.warmup, start_s)
            progress.advance()
            return held

        return list(await asyncio.gather(*(one(number) for number in range(count))))


async def measure(url: str, chosen: argparse.Namespace, count: int) -> Figures:
    """One run of `count` sessions: the keys of `RUN`."""
    started_s, busy_s = time.perf_counter(), time.process_time()
    held = await sessions(url, chosen, count)
    for error in sorted({s.error for s in held if s.error}):
        print(f"  a session ended early: {error}")
    figures, within = summary(held), share_within(held, chosen.limit_ms)
    kept = within >= _SHARE and figures["viability"] >= _VIABILITY and not figures["refused"] + figures["lost"]
    cpu = (time.process_time() - busy_s) / (time.perf_counter() - started_s)
    return figures | {"within": round(within, 4), "holds": kept, "generator_cpu": round(cpu, 3), "raw": raw(held)}


async def largest(holds: Callable[[int], Awaitable[bool]], first: int, most: int) -> int:
    """The largest count that holds, by doubling, then by halving the gap down to an eighth; 0 if none does."""
    good, bad, count = 0, most + 1, first
    while good < count < bad:
        if await holds(count):
            good = count
            count = min(2 * count, most) if bad > most else (good + bad) // 2
        else:
            bad = count
            count = (good + bad) // 2
        if bad <= most and bad - good <= max(1, good // 8):
            break
    return good
