"""From turns to figures: percentiles, targets, and whether the benchmark itself was too slow to be believed."""

import argparse
import datetime
import json
import os
import platform
import statistics
from pathlib import Path
from typing import Any

from benchmarks.conversation import Session
from clients.realtime import Turn

TARGET_MS = 320.0
_LAG_MS = 20.0  # a chunk that is sent later than this is late
Figures = dict[str, Any]


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, p90, p95 and p99, to tenths."""
    if not values:
        return {}
    ordered = sorted(values)
    high = {f"p{share}": ordered[min(len(ordered) - 1, share * len(ordered) // 100)] for share in (90, 95, 99)}
    return {name: round(value, 1) for name, value in ({"median": statistics.median(ordered)} | high).items()}


def summary(sessions: list[Session]) -> Figures:
    """What every benchmark says about its turns."""
    turns = [turn for session in sessions for turn in session.turns]
    heard = [t for t in turns if not t.interrupted]
    lags = [lag for t in turns for lag in t.send_lags_ms]
    stages: dict[str, list[float]] = {}
    for turn in heard:
        for stage, ms in turn.server_timings_ms.items():
            stages.setdefault(stage, []).append(ms)
    return {
        "turns": len(turns),
        "answered": sum(t.interrupted or (t.status == "completed" and bool(t.pcm)) for t in turns),
        "refused": sum(bool(s.error) for s in sessions),
        "from_commit_ms": percentiles(_known(t.ttfa_from_commit_ms for t in heard)),
        "from_speech_ms": percentiles(_known(t.ttfa_from_speech_ms for t in heard)),
        "barge_in_ms": percentiles(_known(t.barge_in_ms for t in turns)),
        "viability": round(statistics.fmean(t.viability for t in heard), 4) if heard else 0.0,
        "premature": sum(t.premature for t in turns),
        "stages_ms": {stage: percentiles(values)["median"] for stage, values in stages.items()},
        "send_lag_ms": percentiles(lags),
        "generator_was_too_slow": too_slow(lags),
    }


def too_slow(lags_ms: list[float]) -> bool:
    """Whether the load generator was the bottleneck: it sent a twentieth of its chunks late."""
    return bool(lags_ms) and percentiles(lags_ms)["p95"] > _LAG_MS


def _known(values: Any) -> list[float]:
    return [v for v in values if v is not None]


def raw(turns: list[Turn]) -> list[Figures]:
    """Every turn by itself, for pictures."""
    return [
        {
            "from_commit_ms": t.ttfa_from_commit_ms,
            "from_speech_ms": t.ttfa_from_speech_ms,
            "viability": t.viability,
            "timings_ms": t.server_timings_ms,
        }
        for t in turns
        if not t.interrupted
    ]


def machine() -> Figures:
    """Where and when a result was made."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return {"processor": name, "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}


def finish(result: Figures, chosen: argparse.Namespace) -> int:
    """Print the result as the last line, save it if that was asked for; 0 if every turn was answered."""
    result |= {"target_ms": TARGET_MS, **machine()}
    if chosen.save is not None:
        chosen.save.parent.mkdir(parents=True, exist_ok=True)
        chosen.save.write_text(json.dumps(result, indent=1) + "\n")
    if result.get("generator_was_too_slow"):
        print("The load generator itself was too slow: these figures are an upper bound.")
    print(json.dumps({k: v for k, v in result.items() if k != "raw"}))
    return 0 if result.get("answered", 0) == result.get("turns", 0) else 1


def row(name: str, figures: Figures) -> str:
    """A line of a table."""
    commit, speech = figures["from_commit_ms"], figures["from_speech_ms"]
    cells = [commit.get("median", "-"), commit.get("p95", "-"), speech.get("median", "-"), speech.get("p95", "-")]
    return f"{name:<24}" + "".join(f"{c!s:>9}" for c in cells) + f"{100 * figures['viability']:>9.1f} %"


HEAD = f"{'ms':<24}{'commit':>9}{'p95':>9}{'speech':>9}{'p95':>9}{'viability':>11}"
