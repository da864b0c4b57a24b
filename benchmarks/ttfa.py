"""`antiphon bench ttfa`: time to first audio of one session that speaks in real time, to any Realtime server.

Both clocks are shown: from the commit and from the end of the speech, to the first *audible* sample.

    antiphon bench ttfa                                    an own server, turns ended by hand
    antiphon bench ttfa --mode semantic_vad --turns 50     turns end by themselves
    antiphon bench ttfa --url wss://host/v1/realtime --key KEY
"""

from benchmarks.conversation import carry_out, converse, measured
from benchmarks.figures import HEAD, SUMMARY, TARGET_MS, finish, raw, row, summary
from benchmarks.options import add_conversation, add_server, benchmark
from benchmarks.progress import Progress
from benchmarks.targets import must

_BY_HAND_MS = must("manual_median_ms")
KEYS = {
    "mode": "how turns ended",
    **SUMMARY,
    "target_ms": f"what the median may be: by hand {_BY_HAND_MS:g} from the commit, "
    f"else {TARGET_MS:g} from the end of the speech",
    "met": "whether it is within that",
}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    parser = benchmark("ttfa", __doc__, KEYS)
    add_server(parser)
    add_conversation(parser)
    parser.add_argument("--turns", type=int, default=20, help="turns that are counted (default: %(default)s)")
    chosen = parser.parse_args(argv)

    async def run() -> int:
        async with measured(chosen) as url:
            with Progress(chosen.mode, chosen.warmup + chosen.turns) as progress:
                session = await converse(url, chosen, 0, chosen.turns, progress.advance)
        if session.error:
            print(f"The session ended early: {session.error}")
        figures = summary([session])
        print(f"{HEAD}\n{row(chosen.mode, figures)}")
        start = figures["from_commit_ms" if chosen.mode == "manual" else "from_speech_ms"]
        limit_ms = _BY_HAND_MS if chosen.mode == "manual" else TARGET_MS
        met = bool(start) and start["median"] <= limit_ms
        result = {"command": "bench ttfa", "mode": chosen.mode, **figures, "target_ms": limit_ms, "met": met}
        status = finish(result | {"raw": raw([session])}, chosen)
        return status or int(bool(session.error))

    return carry_out(run())
