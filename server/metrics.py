"""What the server counts and times, for Prometheus at `/metrics`. All of it is named here and nowhere else."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from server.engine.messages import Command, ConfirmTurn, ResponseDone, ResumeTurn

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S = (0.02, 0.04, 0.06, 0.08, 0.12, 0.16, 0.232, 0.32, 0.45, 0.6, 1.0, 2.0, 5.0)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
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

    def page(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self._registry)
