"""What the project promises, and where in a result of `antiphon bench all` each figure is found."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

Figures = dict[str, Any]


@dataclass(frozen=True)
class Target:
    """One promise."""

    key: str
    measure: str
    command: str
    find: Callable[[Figures], float | None]
    must: float
    aim: float
    unit: str = "ms"
    more_is_better: bool = False

    def verdict(self, value: float) -> str:
        """`aim met`, `met` or `missed`."""
        for limit, word in ((self.aim, "aim met"), (self.must, "met")):
            if value >= limit if self.more_is_better else value <= limit:
                return word
        return "missed"


def at(*path: str) -> Callable[[Figures], float | None]:
    """The value at the end of a path of keys, or None."""

    def find(result: Figures) -> float | None:
        value: Any = result
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        return float(value) if isinstance(value, int | float) else None

    return find


def _of_200(way: str) -> Callable[[Figures], float | None]:
    """Only what was measured with 200 sessions tells of 200 sessions."""
    find = at(way, "p99")
    return lambda result: find(result) if result.get("sessions", 0) >= 200 else None


_MANUAL, _AUTO, _FIND, _SPEECH = "ttfa manual", "ttfa semantic_vad", "load --find", ("from_speech_ms",)
_EIGHT = ("runs", "8")
TARGETS = (
    Target(
        "manual_median_ms", "commit → first audible sample, median", _MANUAL, at("from_commit_ms", "median"), 120, 60
    ),
    Target("manual_p99_ms", "commit → first audible sample, p99", _MANUAL, at("from_commit_ms", "p99"), 220, 120),
    Target(
        "semantic_median_ms", "end of speech → first audible sample, median", _AUTO, at(*_SPEECH, "median"), 320, 232
    ),
    Target("semantic_p95_ms", "end of speech → first audible sample, p95", _AUTO, at(*_SPEECH, "p95"), 450, 320),
    Target("eight_sessions_p95_ms", "the same, 8 sessions, p95", "load", at(*_EIGHT, *_SPEECH, "p95"), 600, 320),
    Target("sessions_held", "sessions with p95 600 ms, 99 % of chunks in time", _FIND, at("holds"), 12, 24, "", True),
    Target("barge_in_p95_ms", "barge-in, 8 sessions, p95", "load", at(*_EIGHT, "barge_in_ms", "p95"), 250, 150),
    Target("turn_50_ratio", "turn 50 of a conversation against turn 2", "turns", at("ratio"), 1.15, 1.05, "×"),
    Target(
        "decode_16_times", "decode of 16 rows against the floor", "engine", at("decode", "16", "times"), 3.5, 2, "×"
    ),
    Target("gateway_up_p99_ms", "gateway, 200 sessions: client → engine, p99", "gateway", _of_200("up_ms"), 10, 5),
    Target("gateway_down_p99_ms", "gateway, 200 sessions: engine → client, p99", "gateway", _of_200("down_ms"), 10, 5),
    Target("gateway_idle_kb", "gateway: memory of an idle session", "gateway", at("idle_session_kb"), 400, 200, "kB"),
    Target("overload_ratio", "twice the capacity: p95 of those served", "overload", at("ratio"), 1.5, 1.1, "×"),
    Target(
        "overload_refused_p95_ms", "twice the capacity: told so, p95", "overload", at("refused_ms", "p95"), 200, 100
    ),
)


def must(key: str) -> float:
    """The limit of one promise."""
    return next(target.must for target in TARGETS if target.key == key)


def table(reached: Iterable[tuple[Target, float | None]]) -> str:
    """Each promise with what was reached, a line each."""
    lines = [f"{'promised':<52}{'reached':>10}{'must':>8}{'aim':>8}"]
    for target, value in reached:
        verdict, shown = ("", "-") if value is None else (target.verdict(value), f"{value:.4g}")
        lines.append(f"{target.measure:<52}{shown:>10}{target.must:>8g}{target.aim:>8g}  {target.unit:<2} {verdict}")
    return "\n".join(lines)


def scorecard(results: list[Figures]) -> list[tuple[Target, float | None]]:
    """Each promise with what was reached, None where it was not measured."""
    named = {name_of(result): result for result in results}
    return [(target, target.find(named.get(target.command, {}))) for target in TARGETS]


def name_of(result: Figures) -> str:
    """`ttfa manual`, `load`, `load --find`, …"""
    name = str(result["command"]).removeprefix("bench ")
    if name == "ttfa":
        return f"{name} {result['mode']}"
    return f"{name} --find" if result.get("find") else name
