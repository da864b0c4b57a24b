"""`antiphon bench overload`: what happens when twice as many sessions come as the server can serve in time.

First as many sessions as it can serve, then twice as many; all speak in real time and keep their own times (open
loop). Those that are served should hardly notice; the others should be told at once that there is no room, by whatever
means the protocol has: a closed door (an HTTP error, an `error` event, close code 1013) or a response that fails.

    antiphon bench overload --capacity 12
    antiphon bench load --find                             finds the capacity
"""

from benchmarks.conversation import carry_out, measured
from benchmarks.figures import HEAD, SUMMARY, UNSAVED, finish, row
from benchmarks.load import RUN, add_schedule, measure
from benchmarks.options import add_conversation, add_server, benchmark
from benchmarks.targets import Figures, must

LIMIT, REFUSAL_LIMIT_MS = must("overload_ratio"), must("overload_refused_p95_ms")
KEYS = {
    "mode": "how turns ended",
    "capacity": "sessions of the first run; the second has twice as many",
    "runs": "for each count of sessions: " + ", ".join(RUN),
    "ratio": "p95 of those served at twice the capacity over p95 at the capacity, from the end of the speech",
    "refused_ms": SUMMARY["refused_ms"],
    "refused": "sessions turned away and responses refused, at twice the capacity",
    "unanswered": "turns of those let in that were neither answered nor refused, at twice the capacity",
    "met": f"whether the ratio is within {LIMIT:g}, refusals come within {REFUSAL_LIMIT_MS:g} ms, and whoever was not "
    "refused was answered",
    "turns": "counted turns of both runs",
    "generator_was_too_slow": "whether this benchmark was the bottleneck in either run",
}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if the server behaves."""
    parser = benchmark("overload", __doc__, KEYS)
    add_server(parser)
    add_conversation(parser, mode="semantic_vad", warmup=1)
    parser.add_argument("--capacity", type=int, required=True, help="sessions that the server can serve in time")
    add_schedule(parser)
    chosen = parser.parse_args(argv)

    async def run() -> int:
        runs: dict[str, Figures] = {}
        async with measured(chosen) as url:
            print(HEAD)
            for count in (chosen.capacity, 2 * chosen.capacity):
                runs[str(count)] = await measure(url, chosen, count)
                print(row(f"{count} sessions", runs[str(count)]), flush=True)
        figures = judged(*runs.values())
        told = f"told after {figures['refused_ms'].get('p95', '-')} ms (p95)"
        print(f"p95 of those served: {figures['ratio']} times; {figures['refused']} refused, {told}")
        result = {
            "command": "bench overload",
            "mode": chosen.mode,
            "capacity": chosen.capacity,
            "runs": runs,
            **figures,
            "turns": sum(f["turns"] for f in runs.values()),
            "generator_was_too_slow": any(f["generator_was_too_slow"] for f in runs.values()),
        }
        return UNSAVED if finish(result, chosen) == UNSAVED else int(not figures["met"])

    return carry_out(run())


def judged(base: Figures, over: Figures) -> Figures:
    """What twice the load did to those who were served, and to those who were not."""
    before, after = base["from_speech_ms"].get("p95"), over["from_speech_ms"].get("p95")
    ratio = round(after / before, 3) if before and after else None
    told_in_time = not over["refused_ms"] or over["refused_ms"]["p95"] <= REFUSAL_LIMIT_MS
    silent = over["turns"] - over["answered"] - over["failed"]
    return {
        "ratio": ratio,
        "refused": over["refused"] + over["failed"],
        "refused_ms": over["refused_ms"],
        "unanswered": silent,
        "met": ratio is not None and ratio <= LIMIT and told_in_time and silent == 0,
    }
