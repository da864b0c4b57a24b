"""`antiphon bench ttfa`: time to first audio of one session that speaks in real time, to any Realtime server.

Both clocks are shown: from the commit and from the end of the speech, to the first *audible* sample.

Last line, JSON: `command`, `mode`, `turns`, `answered`, `from_commit_ms`, `from_speech_ms`, `barge_in_ms` (each median,
p90, p95, p99), `viability`, `premature`, `stages_ms` (medians of the server's own stages, if it tells), `send_lag_ms`,
`generator_was_too_slow`, `target_ms`, `met`, and the machine and date.
"""

import asyncio

from benchmarks.conversation import converse, options
from benchmarks.figures import HEAD, TARGET_MS, finish, raw, row, summary
from clients.local_server import serving


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    parser = options("ttfa", "Time to first audio of one session.")
    parser.add_argument("--url", help="server to measure (default: start one with the embedded model)")
    parser.add_argument("--turns", type=int, default=20, help="turns that are counted (default: %(default)s)")
    chosen = parser.parse_args(argv)

    async def run() -> int:
        async with serving(chosen.url) as url:
            session = await converse(url, chosen, 0, chosen.turns)
        if session.error:
            print(f"The session ended early: {session.error}")
        figures = summary([session])
        print(f"{HEAD}\n{row(chosen.mode, figures)}")
        start = figures["from_commit_ms" if chosen.mode == "manual" else "from_speech_ms"]
        met = bool(start) and start["median"] <= TARGET_MS
        result = {"command": "bench ttfa", "mode": chosen.mode, **figures, "met": met, "raw": raw(session.turns)}
        return finish(result, chosen)

    return asyncio.run(run())
