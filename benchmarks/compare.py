"""`antiphon bench compare`: several Realtime servers in one run, in turn, so that the machine's moods hit all alike.

antiphon bench compare --server ours=ws://127.0.0.1:8000/v1/realtime --server theirs=wss://host/v1/realtime
"""

import argparse

from benchmarks.conversation import Session, carry_out, converse, reach
from benchmarks.figures import HEAD, SUMMARY, finish, raw, row, summary
from benchmarks.options import add_conversation, benchmark
from benchmarks.progress import Progress
from benchmarks.targets import Figures

KEYS = {
    "mode": "how turns ended",
    "servers": "for each name: " + ", ".join(SUMMARY),
    "ratios": "for each name its medians over those of the first one",
    "turns": "counted turns of all servers",
    "answered": "those that were answered",
    "refused": "sessions of all servers that were turned away",
    "lost": "sessions of all servers that ended early",
}


def main(argv: list[str]) -> int:
    """Run the benchmark; 0 if every turn was answered."""
    parser = benchmark("compare", __doc__, KEYS)
    parser.add_argument(
        "--server", action="append", required=True, metavar="NAME=URL", help="server to measure; give at least two"
    )
    add_conversation(parser)
    parser.add_argument("--turns", type=int, default=5, help="counted turns of each round (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="times that each server has its turn")
    chosen = parser.parse_args(argv)
    pairs = [name_url.partition("=") for name_url in chosen.server]
    if len(pairs) < 2 or not all(name and url for name, _, url in pairs):
        parser.error("expected --server NAME=URL at least twice")
    return carry_out(_compare({name: url for name, _, url in pairs}, chosen))


async def _compare(servers: dict[str, str], chosen: argparse.Namespace) -> int:
    held: dict[str, list[Session]] = {name: [] for name in servers}
    for url in servers.values():
        await reach(url, chosen.key)
    with Progress("turns", chosen.rounds * len(servers) * (chosen.warmup + chosen.turns)) as progress:
        for number in range(chosen.rounds):
            for name, url in servers.items():
                held[name].append(await converse(url, chosen, number, chosen.turns, progress.advance))
    figures = {name: summary(sessions) for name, sessions in held.items()}
    print(HEAD)
    for name, found in figures.items():
        print(row(name, found))
        for error in dict.fromkeys(session.error for session in held[name] if session.error):
            print(f"  {name}: {error}")
    first = next(iter(figures.values()))
    result = {
        "command": "bench compare",
        "mode": chosen.mode,
        "servers": {n: f | {"raw": raw(held[n])} for n, f in figures.items()},
        "ratios": {name: _ratios(found, first) for name, found in figures.items()},
        **{key: sum(f[key] for f in figures.values()) for key in ("turns", "answered", "refused", "lost")},
    }
    return finish(result, chosen)


def _ratios(figures: Figures, first: Figures) -> dict[str, float]:
    clocks = ("from_commit_ms", "from_speech_ms")
    return {
        clock: round(figures[clock]["median"] / first[clock]["median"], 3)
        for clock in clocks
        if figures[clock] and first[clock]
    }
