"""`antiphon capacity`: how many replicas a number of sessions needs, what they then wait, and what it costs.

It simulates one replica (`simulation.py`) with step times that `antiphon bench engine` measured, of this machine or any
other, and people who talk as those of `antiphon bench load` do. Sessions never move, so replicas don't meet: what one
holds decides. What a gateway and the network add is taken as it was measured with one session.

Last line, JSON: `command`, `curve` (for each number of `sessions` on one replica `median_ms` and `p95_ms` from the
commit to the first audible sample, `in_time`: the share of audio chunks that come before playback needs them, `busy`:
that of the engine's time), `limit_ms`, `sessions_per_replica`, `at_least` (whether that is all of the total: more
were not tried), `total`, `replicas`, `cost_per_hour`, `cost_per_hour_of_talk`.
With `--compare` it is `command`, `compared` (for each number of sessions the predicted and the measured figures and
their ratios) and `within`: whether all ratios are within 20 %.
"""

import argparse
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from benchmarks.figures import percentiles
from server.deploy.simulation import Replica, StepTimes, Talk, Turn
from server.engine.engine_config import EngineConfig
from server.options import more_than_nothing, positive

STEPS = Path(__file__).parent / "steps.json"
TURNS = Path(__file__).parent / "turns.json"
IN_TIME = 0.99  # share of chunks that must come in time, as everywhere in this project
TOLERANCE = 0.2
_ANSWERS = 400  # at least so many make a point of the curve
_EXAMPLES = """examples:
  antiphon capacity                                      this project's measured machine, 100 sessions
  antiphon bench engine --mixed | tail -1 > mine.json    measure your own,
  antiphon capacity --steps mine.json --total 2000 --price 1.80
  antiphon capacity --steps mine.json --speed 20         what if it were 20 times as fast?
  antiphon capacity --steps mine.json --compare load.json    is it right? (load.json: bench load --mode manual --save)
"""
Point = dict[str, float]


def main(argv: list[str]) -> int:
    """Run the command; 1 if even one session waits too long, or if a comparison misses."""
    parser = argparse.ArgumentParser(
        prog="antiphon capacity",
        description="Simulate replicas with measured step times: how many does it take, what do people wait, the cost.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--steps", type=Path, default=STEPS, help="JSON of `bench engine --mixed` (default: ours)")
    parser.add_argument("--turns", type=Path, default=TURNS, help="what is said (default: the shipped questions)")
    parser.add_argument(
        "--speed", type=more_than_nothing, default=1.0, help="as if every step were so many times as fast"
    )
    parser.add_argument(
        "--sessions",
        type=positive,
        nargs="+",
        default=[1, 2, 4, 8, 16],
        help="points of the curve, sessions on one replica",
    )
    parser.add_argument(
        "--total", type=positive, default=100, help="sessions to be served at once (default: %(default)s)"
    )
    parser.add_argument("--limit-ms", type=float, default=600.0, help="p95 that is still good (default: %(default)g)")
    parser.add_argument("--price", type=float, default=1.0, help="of one replica for an hour (default: %(default)g)")
    parser.add_argument(
        "--pause-s",
        type=float,
        nargs=2,
        default=[0.2, 1.0],
        metavar=("MIN", "MAX"),
        help="between the 3 s for an answer and the next question",
    )
    parser.add_argument(
        "--answers", type=positive, default=20, help="counted answers of each session (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compare", type=Path, metavar="FILE", help="result of `bench load --mode manual` to check")
    options = parser.parse_args(argv)
    try:
        times = StepTimes.read(read_result(options.steps)).faster(options.speed)
        talk = read_talk(read_result(options.turns), options.pause_s)
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"expected results of `bench engine` and `server.deploy.turns`: {error!r}")
    if options.compare is not None:
        try:
            measured = read_result(options.compare)
            return compare(times, talk, measured, options.seed)
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"expected a result of `bench load --mode manual` in {options.compare}: {error!r}")
    print(f"{'sessions':>8} {'median ms':>10} {'p95 ms':>8} {'in time':>9} {'busy':>7}")
    curve = []
    for count in options.sessions:
        curve.append(point(times, talk, count, options.answers, options.seed))
        print(_row(curve[-1]), flush=True)
    each = _most(times, talk, options)
    result = {"command": "capacity", "curve": curve, "limit_ms": options.limit_ms, "sessions_per_replica": each}
    result["at_least"] = each == options.total
    if each == 0:
        print(f"Even one session waits longer than {options.limit_ms:g} ms: a faster machine is needed.")
        print(json.dumps(result))
        return 1
    replicas = math.ceil(options.total / each)
    cost = replicas * options.price
    an_hour = f"{cost:g} an hour, {cost / options.total:.4g} for an hour of talk"
    within = f"p95 within {options.limit_ms:g} ms, {IN_TIME:.0%} of the audio in time"
    least = "at least " if each == options.total else ""  # more were not tried
    print(f"\nOne replica holds {least}{each} sessions: {within}.")
    if each > EngineConfig().slots:
        print(f"That is more than the {EngineConfig().slots} it takes by default: raise `slots`.")
    print(f"{options.total} sessions: {replicas} replicas, {an_hour}.")
    costs = {"cost_per_hour": cost, "cost_per_hour_of_talk": cost / options.total}
    print(json.dumps(result | {"total": options.total, "replicas": replicas} | costs))
    return 0


def read_result(path: Path) -> dict[str, Any]:
    """A result as `--save` writes it, or as a command printed it: its last line. Raises `OSError` and `ValueError`."""
    text = path.read_text().strip()
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = json.loads(text.rpartition("\n")[2])
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected one JSON object")
    return found


def read_talk(found: dict[str, Any], pause_s: Sequence[float]) -> Talk:
    """What `server.deploy.turns` has saved. Raises `KeyError` where something is missing."""
    turns = tuple(Turn(**{f.name: turn[f.name] for f in fields(Turn)}) for turn in found["turns"])
    return Talk(turns, tuple(found["outside_ms"]), (1000 * pause_s[0], 1000 * pause_s[1]))


def point(times: StepTimes, talk: Talk, sessions: int, answers: int, seed: int = 0) -> Point:
    """What `sessions` on one replica wait, who each want so many answers; as often as it takes to be sure of it."""
    config = replace(EngineConfig(), slots=sessions)
    runs = [
        Replica(times, talk, sessions, answers, seed=1000 * seed + n, config=config).run()
        for n in range(max(1, _ANSWERS // (sessions * answers)))
    ]
    found = [answer for run in runs for answer in run.answered]
    waits = percentiles([answer.ttfa_ms for answer in found])
    return {
        "sessions": sessions,
        "median_ms": waits["median"],
        "p95_ms": waits["p95"],
        "in_time": round(sum(a.chunks_in_time for a in found) / sum(a.chunks for a in found), 4),
        "busy": round(sum(r.busy_ms for r in runs) / sum(r.now for r in runs), 3),
    }


def _row(found: Point) -> str:
    cells = f"{found['sessions']:>8} {found['median_ms']:>10} {found['p95_ms']:>8}"
    return f"{cells} {100 * found['in_time']:>7.1f} % {100 * found['busy']:>5.0f} %"


def _most(times: StepTimes, talk: Talk, options: argparse.Namespace) -> int:
    """The most sessions that one replica holds within the limits; 0 if it holds none."""

    def holds(sessions: int) -> bool:
        found = point(times, talk, sessions, options.answers, options.seed)
        good = found["p95_ms"] <= options.limit_ms and found["in_time"] >= IN_TIME
        print(f"\r  {sessions} sessions: {'good' if good else 'too many'}   ", end="", flush=True)
        return good

    low, high = 0, 1
    while high <= options.total and holds(high):
        low, high = high, 2 * high
    high = min(high, options.total + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    print("\r" + 30 * " ", end="\r")
    return low


def compare(
    times: StepTimes, talk: Talk, measured: dict[str, Any], seed: int, where: dict[str, Any] | None = None
) -> int:
    """Print predicted and measured figures side by side; 1 if they differ by more than 20 %."""
    compared = dict(_compared(times, talk, measured, seed))
    print(f"{'sessions':>8} {'':>8} {'predicted':>10} {'measured':>9} {'ratio':>6}")
    for count, row in compared.items():
        for name in ("median_ms", "p95_ms"):
            ratio = row[f"{name}_ratio"]
            verdict = "" if abs(ratio - 1) <= TOLERANCE else f"   missed: not within {TOLERANCE:.0%}"
            print(f"{count:>8} {name:>8.6} {row[name]:>10} {row[f'measured_{name}']:>9} {ratio:>6}{verdict}")
    within = all(abs(row[f"{n}_ratio"] - 1) <= TOLERANCE for row in compared.values() for n in ("median_ms", "p95_ms"))
    print(json.dumps({"command": "capacity", "compared": compared, "within": within} | (where or {})))
    return 0 if within else 1


def _compared(times: StepTimes, talk: Talk, measured: dict[str, Any], seed: int) -> Iterator[tuple[str, Point]]:
    """For each count of a `bench load` result: predicted, measured, and predicted over measured."""
    for count, figures in measured["runs"].items():
        found = point(times, talk, int(count), max(1, figures["turns"] // int(count)), seed)
        seen = {"median_ms": figures["from_commit_ms"]["median"], "p95_ms": figures["from_commit_ms"]["p95"]}
        ratios = {f"{name}_ratio": round(found[name] / ms, 2) for name, ms in seen.items()}
        yield count, found | {f"measured_{name}": ms for name, ms in seen.items()} | ratios
