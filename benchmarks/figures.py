"""From turns to figures: percentiles, targets, and whether the benchmark itself was too slow to be believed."""

import argparse
import datetime
import json
import os
import platform
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.conversation import Session
from benchmarks.targets import Figures
from clients.realtime import Turn

TARGET_MS = 320.0
"""What conversation between people allows."""
UNSAVED = 2
"""The exit status where a result could not be saved."""
_LAG_MS = 20.0  # a chunk that is sent later than this is late


def percentiles(values: list[float]) -> dict[str, float]:
    """Median, p90, p95 and p99, to tenths."""
    if not values:
        return {}
    ordered = sorted(values)
    high = {f"p{share}": ordered[min(len(ordered) - 1, share * len(ordered) // 100)] for share in (90, 95, 99)}
    return {name: round(value, 1) for name, value in ({"median": statistics.median(ordered)} | high).items()}


SUMMARY = {
    "turns": "counted turns of the sessions that were let in",
    "answered": "turns whose answer was heard, whole or until the person cut it",
    "refused": "sessions that were turned away or ended before any answer",
    "lost": "sessions that ended early, but not before an answer",
    "failed": "turns whose response failed",
    "from_commit_ms": "commit -> first audible sample at the client; median, p90, p95, p99",
    "from_speech_ms": "end of the real speech -> first audible sample at the client; the same",
    "barge_in_ms": "onset of speech over a sounding answer -> its last audio or `speech_started`, the later; the same",
    "refused_ms": "asking -> being told that there will be no answer; the same",
    "viability": "share of audio chunks that came before playback needed them",
    "premature": "answers that turn detection began in a pause and took back",
    "stages_ms": "medians of the stages of a response as the server itself tells them (`timings_ms`)",
    "send_lag_ms": "how late this benchmark sent its chunks: its own share of every figure",
    "generator_was_too_slow": "whether p95 of that is over 20 ms: then the figures are an upper bound",
}
"""What `summary` says about turns."""


def summary(sessions: list[Session]) -> Figures:
    """What every benchmark says about its turns: the keys of `SUMMARY`."""
    refused = [s for s in sessions if s.error and not any(t.arrivals for t in s.turns)]
    held = [s for s in sessions if s not in refused]
    turns = [turn for session in held for turn in session.turns]
    heard = [t for t in turns if t.arrivals]
    lags = [lag for t in turns for lag in t.send_lags_ms]
    stages: dict[str, list[float]] = {}
    for turn in heard:
        for stage, ms in turn.server_timings_ms.items():
            stages.setdefault(stage, []).append(ms)
    chunks = sum(len(t.arrivals) for t in heard)
    return {
        "turns": len(turns),
        "answered": sum(_answered(t) for t in turns),
        "refused": len(refused),
        "lost": sum(bool(s.error) for s in held),
        "failed": sum(t.status == "failed" for t in turns),
        "from_commit_ms": percentiles(_known(t.ttfa_from_commit_ms for t in heard)),
        "from_speech_ms": percentiles(_known(t.ttfa_from_speech_ms for t in heard)),
        "barge_in_ms": percentiles(_known(t.barge_in_ms for t in turns)),
        "refused_ms": percentiles(_known([s.ended_ms for s in refused] + [t.refused_ms for t in turns])),
        "viability": round(sum(t.viability * len(t.arrivals) for t in heard) / chunks, 4) if chunks else 0.0,
        "premature": sum(t.premature for t in turns),
        "stages_ms": {stage: percentiles(values)["median"] for stage, values in stages.items()},
        "send_lag_ms": percentiles(lags),
        "generator_was_too_slow": too_slow(lags),
    }


def _answered(turn: Turn) -> bool:
    return bool(turn.arrivals) and (turn.interrupted or turn.status == "completed")


def share_within(sessions: list[Session], limit_ms: float) -> float:
    """Share of turns that began to sound within `limit_ms` of the end of the speech; one that never did counts as late.

    A p95 of those that were answered would look the better the more are not.
    """
    turns = [t for s in sessions for t in s.turns]
    times = _known(t.ttfa_from_speech_ms for t in turns if _answered(t))
    return sum(ms <= limit_ms for ms in times) / len(turns) if turns else 0.0


def too_slow(lags_ms: list[float]) -> bool:
    """Whether the load generator was the bottleneck: it sent a twentieth of its chunks late."""
    return bool(lags_ms) and percentiles(lags_ms)["p95"] > _LAG_MS


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def raw(sessions: list[Session]) -> list[Figures]:
    """Every turn by itself, for pictures; seconds count from when the session asked to be let in."""
    return [
        {
            "session": number,
            "from_commit_ms": t.ttfa_from_commit_ms,
            "from_speech_ms": t.ttfa_from_speech_ms,
            "viability": t.viability,
            "timings_ms": t.server_timings_ms,
            "interrupted": t.interrupted,
            "said_s": _since(session, t.speech_began_s, t.speech_ended_s),
            "committed_s": _since(session, t.committed_s),
            "played_s": _since(session, t.first_audible_s, t.playing_until_s),
        }
        for number, session in enumerate(sessions)
        for t in session.turns
    ]


def _since(session: Session, *times_s: float | None) -> list[float | None]:
    return [None if at_s is None else round(at_s - session.began_s, 3) for at_s in times_s]


def machine() -> Figures:
    """Where and when a result was made."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        models = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        name = models[0] if models else name
    return {"processor": name, "cores": os.cpu_count(), "date": datetime.date.today().isoformat()}


def finish(result: Figures, chosen: argparse.Namespace) -> int:
    """Save the result if that was asked for, and print it as the last line, saved or not.

    0 if every turn was answered, and no session refused or lost; `UNSAVED` if it could not be saved.
    """
    result |= machine()
    unsaved = False
    if chosen.save is not None:
        try:
            chosen.save.parent.mkdir(parents=True, exist_ok=True)
            chosen.save.write_text(json.dumps(result, indent=1) + "\n")
        except OSError as error:
            unsaved = True
            print(f"--save: expected a file to write, got: {error}", file=sys.stderr)
    if result.get("generator_was_too_slow"):
        print("The load generator itself was too slow: these figures are an upper bound.")
    print(json.dumps(without_raw(result)))
    if unsaved:
        return UNSAVED
    whole = not (result.get("refused", 0) or result.get("lost", 0))
    return 0 if whole and result.get("answered", 0) == result.get("turns", 0) else 1


def without_raw(result: Any) -> Any:
    """Single turns are for pictures, and would drown the last line."""
    if not isinstance(result, dict):
        return result
    return {key: without_raw(value) for key, value in result.items() if key != "raw"}


def row(name: str, figures: Figures) -> str:
    """A line of a table."""
    commit, speech = figures["from_commit_ms"], figures["from_speech_ms"]
    cells = [commit.get("median", "-"), commit.get("p95", "-"), speech.get("median", "-"), speech.get("p95", "-")]
    shown = "".join(f"{c!s:>9}" for c in cells)
    return f"{name:<24}{shown}{100 * figures['viability']:>9.1f} %{figures['send_lag_ms'].get('p95', '-')!s:>9}"


HEAD = f"{'ms':<24}{'commit':>9}{'p95':>9}{'speech':>9}{'p95':>9}{'viability':>11}{'own lag':>9}"
