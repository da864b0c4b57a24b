"""What the server counts and times, for Prometheus at `/metrics`. All of it is named here and nowhere else."""

import time
from collections import deque
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.engine.messages import SPOKEN_HZ, AudioDelta, Command, ConfirmTurn, ResponseDone, ResumeTurn

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.232, 0.32, 0.45, 0.6, 1.0, 2.0, 5.0)
_SLACK_BUCKETS_S = (-1.0, -0.25, -0.05, 0.0, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)
_SLACK_WINDOW_S = 10.0


class Metrics:
    """The metrics of one server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._registry = CollectorRegistry()
        self.sessions = Gauge("antiphon_sessions", "Open Realtime sessions", registry=self._registry)
        self._responses = Counter(
            "antiphon_responses", "Responses by how they ended", ["status"], registry=self._registry
        )
        self._stages = Histogram(
            "antiphon_stage_seconds",
            "From the request for a response to each of its stages",
            ["stage"],
            buckets=_BUCKETS_S,
            registry=self._registry,
        )
        self._guesses = Counter(
            "antiphon_guesses",
            "Answers begun in a pause, before the turn was over, by what became of them",
            ["outcome"],
            registry=self._registry,
        )
        self._slack = Histogram(
            "antiphon_slack_seconds",
            "What a listener still has to hear when more audio is sent; below zero they heard a gap",
            buckets=_SLACK_BUCKETS_S,
            registry=self._registry,
        )
        self._recent_slack: deque[tuple[float, float]] = deque()  # (when, seconds)
        self._tokens = Counter(
            "antiphon_tokens", "Tokens read and said", ["direction", "kind"], registry=self._registry
        )

    def response(self, done: ResponseDone) -> None:
        """A response is over."""
        self._responses.labels(done.status).inc()
        for stage, ms in done.timings_ms.items():
            self._stages.labels(stage).observe(ms / 1000)
        used = done.usage
        self._tokens.labels("read", "text").inc(used.input_text - used.cached_text)
        self._tokens.labels("read", "audio").inc(used.input_audio - used.cached_audio)
        self._tokens.labels("said", "text").inc(used.output_text)
        self._tokens.labels("said", "audio").inc(used.output_audio)

    def command(self, command: Command) -> None:
        """A session has told the engine something."""
        if isinstance(command, ConfirmTurn | ResumeTurn):
            self._guesses.labels("right" if isinstance(command, ConfirmTurn) else "undone").inc()

    def slack(self, slack_s: float) -> None:
        """A listener still had so much to hear when more audio was sent; see `Playback`."""
        self._slack.observe(slack_s)
        self._recent_slack.append((self._clock(), slack_s))
        self._forget_old_slack()

    def _forget_old_slack(self) -> None:
        oldest_s = self._clock() - _SLACK_WINDOW_S
        while self._recent_slack and self._recent_slack[0][0] < oldest_s:
            self._recent_slack.popleft()

    def late_share(self) -> float:
        """Share of the audio sent in the last seconds that came after its listener had nothing left to hear."""
        self._forget_old_slack()
        late = sum(slack_s < 0 for _, slack_s in self._recent_slack)
        return late / len(self._recent_slack) if self._recent_slack else 0.0

    def page(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)


class Playback:
    """What the listener of one session still has to hear of each response."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends_s: dict[str, float] = {}

    def audio(self, delta: AudioDelta) -> float | None:
        """More audio is on its way: the seconds that were left to hear before it; None if it is a response's first."""
        now_s, ends_s = self._clock(), self._ends_s.get(delta.response_id)
        begins_s = now_s if ends_s is None else max(now_s, ends_s)
        self._ends_s[delta.response_id] = begins_s + len(delta.pcm) / (2 * SPOKEN_HZ)
        return None if ends_s is None else ends_s - now_s
