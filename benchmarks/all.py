"""`antiphon bench all`: everything that the project promises, measured on this machine, with a report.

Each benchmark runs several times and the medians are kept; the largest number of sessions that holds is looked for once
and measured again in every run of `overload`. Writes `DATE-MACHINE.json` and `.html` into `--out`. Wants a machine that
does nothing else meanwhile, and about 15 minutes of it.

    antiphon bench all --machine epyc-2-cores
    antiphon bench report benchmarks/results/DATE-MACHINE.json --out page.html     draws the page again
"""

import asyncio
import datetime
import json
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import UNSAVED, finish, percentiles, without_raw
from benchmarks.options import benchmark
from benchmarks.report import page
from benchmarks.targets import Figures, scorecard, table
from clients.local_server import ServerDidNotStart, local_server
from server.options import expect_writable

KEYS = {
    "repeats": "runs of each benchmark",
    "minutes": "how long it took",
    "failed": "benchmarks that gave no result",
    "reached": "what was reached of each promise",
    "missed": "promises that were not kept",
    "results": "the file with every figure",
    "page": "the report",
}


def main(argv: list[str]) -> int:
    """Run every benchmark; 0 if each gave a result, whatever it says."""
    parser = benchmark("all", __doc__, KEYS)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each benchmark (default: %(default)s)")
    parser.add_argument("--machine", default=platform.node(), help="its name in the file names (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"), help="folder (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one short run of each, to see that all of them work")
    chosen = parser.parse_args(argv)
    expect_writable(parser, "--out", chosen.out)
    repeats = 1 if chosen.quick else chosen.repeats
    started_s = time.perf_counter()
    try:
        results, failed = asyncio.run(_run(repeats, chosen.quick))
    except ServerDidNotStart as error:
        print(f"expected a server to measure, got: {error}", file=sys.stderr)
        return 2
    name = chosen.out / f"{datetime.date.today().isoformat()}-{chosen.machine}"
    kept, drawn = Path(f"{name}.json"), Path(f"{name}.html")
    kept.write_text(json.dumps({"results": results}, separators=(",", ":")) + "\n", encoding="utf-8")
    drawn.write_text(page(results), encoding="utf-8")
    reached = {target.key: value for target, value in scorecard(results)}
    missed = [t.key for t, value in scorecard(results) if value is not None and t.verdict(value) == "missed"]
    print(f"\n{table(scorecard(results))}")
    print(f"\nThe report is {drawn}")
    result = {
        "command": "bench all",
        "repeats": repeats,
        "minutes": round((time.perf_counter() - started_s) / 60, 1),
        "failed": failed,
        "reached": reached,
        "missed": missed,
        "results": str(kept),
        "page": str(drawn),
    }
    return UNSAVED if finish(result, chosen) == UNSAVED else int(bool(failed))


async def _run(repeats: int, quick: bool) -> tuple[list[Figures], list[str]]:
    """Every result, and the commands that gave none."""
    results: list[Figures] = []
    failed: list[str] = []

    async def measure(times: int, *arguments: str) -> Figures | None:
        found = [await _once(f"{i + 1} of {times}", *arguments) for i in range(times)]
        known = [result for result in found if result is not None]
        if len(known) < times:
            failed.append(" ".join(arguments))
        if known:
            results.append(together(known))
        return together(known) if known else None

    few = ["--turns", "1"] if quick else []
    await measure(repeats, "engine")
    await measure(repeats, "gateway", *(["--sessions", "20", "--seconds", "4", "--warmup", "2"] if quick else []))
    async with local_server() as url:
        server = ["--url", url]
        await measure(repeats, "ttfa", *server, "--mode", "manual", *(few or ["--warmup", "1", "--turns", "12"]))
        await measure(repeats, "ttfa", *server, "--mode", "semantic_vad", "--warmup", "1", *(few or ["--turns", "7"]))
        load = [*server, "--mode", "semantic_vad", *(few or ["--turns", "2"])]
        await measure(repeats, "load", *load, "--sessions", "8", *(few or ["--turns", "3"]))
        found = await measure(1, "load", *load, "--find", "--sessions", *(["2", "--most", "2"] if quick else ["6"]))
        capacity = round(found["holds"]) if found else 0
        await measure(repeats, "overload", *load, "--capacity", str(max(1, capacity)))
        await measure(repeats, "turns", *server, "--window", "1" if quick else "3")
    return results, failed


async def _once(which: str, *arguments: str) -> Figures | None:
    """One benchmark in a process of its own; None if it gave no result."""
    print(f"\n== antiphon bench {' '.join(arguments)} ({which})", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "result.json"
        command = [sys.executable, "-m", "server.cli", "bench", *arguments, "--save", str(kept)]
        child = await asyncio.create_subprocess_exec(*command)
        await child.wait()
        if not kept.exists():  # the exit status also says that a limit was missed
            return None
        found: Figures = json.loads(kept.read_text(encoding="utf-8"))
        return found


def together(results: list[Figures]) -> Figures:
    """The medians of several runs of one benchmark, and what each run gave; single turns are those of the first.

    Percentiles of time to first audio are those of the turns of all runs: one run alone has too few for its high ones.
    """
    merged: Figures = medians(results)
    return merged | {"repeats": len(results), "each": [without_raw(result) for result in results]}


def medians(values: list[Any]) -> Any:
    """The same structure with the median of every number, None where any run has none; yes or no as most say; all else
    as in the first."""
    first = values[0]
    if any(value is None for value in values):
        return None
    if isinstance(first, dict):
        shared = [key for key in first if all(isinstance(v, dict) and key in v for v in values)]
        merged = {key: first[key] if key == "raw" else medians([v[key] for v in values]) for key in shared}
        if "raw" in shared:
            for clock in {"from_commit_ms", "from_speech_ms"}.intersection(shared):
                merged[clock] = percentiles([t[clock] for v in values for t in v["raw"] if t[clock] is not None])
        return merged
    if isinstance(first, bool):
        return sum(values) * 2 > len(values)
    if isinstance(first, int | float) and all(isinstance(v, int | float) for v in values):
        return round(statistics.median(values), 4)
    return first
