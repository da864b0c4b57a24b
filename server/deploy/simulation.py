"""A discrete-event simulation of one replica: people talk to an engine whose steps take as long as was measured.

    step: hear (tokenise what has arrived), think (one step of the token engine), say (detokenise what is ready)

It does what `server.engine.speech_engine` does, in the same order, and counts tokens and milliseconds instead of
computing anything. The same seed gives the same times. It knows nothing about files, money or replicas.
"""

import heapq
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from model.layout import Interleaver
from server.engine.engine_config import EngineConfig
from server.engine.messages import FRAME_MS

# As in the model and the speech engine; they can't be imported from there without torch. The tests compare them.
DELAY_TOKENS = 3
LOOKAHEAD_TOKENS, SYNTHESIS_MS = 3, 20
FIRST_CODES, NEXT_CODES, AHEAD_MS = 4, 4, 250.0
CHUNK_MS = 20  # what a client sends at once
_CHUNKS_PER_FRAME = FRAME_MS // CHUNK_MS


@dataclass(frozen=True)
class Curve:
    """Milliseconds by size, measured at some sizes; straight lines between them and beyond the last."""

    sizes: tuple[float, ...]
    ms: tuple[float, ...]

    def __call__(self, size: float) -> float:
        if size <= self.sizes[0] or len(self.sizes) == 1:
            return self.ms[0]
        i = min(bisect_left(self.sizes, size), len(self.sizes) - 1)
        (x0, x1), (y0, y1) = self.sizes[i - 1 : i + 1], self.ms[i - 1 : i + 1]
        return y0 + (y1 - y0) * (size - x0) / (x1 - x0)

    @classmethod
    def read(cls, rows: dict[str, dict[str, float]], key: str = "ms", scale: float = 1.0) -> "Curve":
        """From a table of `bench engine`; sizes times `scale`."""
        points = sorted((float(size) * scale, row.get(key, row["ms"])) for size, row in rows.items())
        return cls(tuple(size for size, _ in points), tuple(ms for _, ms in points))

    def times(self, factor: float) -> "Curve":
        return replace(self, ms=tuple(factor * ms for ms in self.ms))


@dataclass(frozen=True)
class StepTimes:
    """How long the parts of an engine's step take."""

    hear: Curve
    """By frames, of all sessions together."""
    prefill: Curve
    """By tokens, of one row."""
    decode: Curve
    """By rows."""
    step: Curve
    """By sessions that decode: the whole step, with sampling and bookkeeping."""
    say: Curve
    """By codes, of all sessions together."""
    prefill_long: Curve
    decode_long: Curve
    """The same with `long_context` tokens held already instead of `context`."""
    context: float = 0.0
    long_context: float = 1.0
    spread: tuple[float, ...] = (1.0,)
    """How single steps lie around these times, as equally likely factors: a busy machine now and then takes longer."""

    @classmethod
    def read(cls, result: dict[str, Any]) -> "StepTimes":
        """From the JSON of `antiphon bench engine`. Raises `KeyError` where a table is missing."""
        decode = Curve.read(result["decode"])
        return cls(
            hear=Curve.read(result["hear"], scale=2),  # measured with two frames for each session
            prefill=Curve.read(result["prefill"]),
            decode=decode,
            step=Curve.read(result["step"]) if "step" in result else decode,
            say=Curve.read(result["say"], scale=4),  # measured with four codes for each session
            prefill_long=Curve.read(result["prefill"], "long_ms"),
            decode_long=Curve.read(result["decode"], "long_ms"),
            context=result.get("context", 0.0),
            long_context=result.get("long_context", 1.0),
            spread=tuple(result.get("spread", (1.0,))),
        )

    def faster(self, factor: float) -> "StepTimes":
        """The same machine, `factor` times as fast."""
        curves: dict[str, Any] = {n: c.times(1 / factor) for n, c in vars(self).items() if isinstance(c, Curve)}
        return replace(self, **curves)

    def decode_ms(self, rows: int, held: float) -> float:
        """A whole step in which each of `rows` sequences, of at most `held` tokens, gets one more."""
        return max(0.0, self.step(rows) + self._longer(self.decode, self.decode_long, rows, held))

    def prefill_ms(self, rows: int, width: int, held: float, alone: bool) -> float:
        """Reading `width` tokens in each of `rows`; `alone` if nobody decodes in the same step, which adds bookkeeping.

        Several rows cost more than one with as many tokens, as each has a cache to be read: as much more as decoding
        one token in each costs more than reading them all in one row.
        """
        ms = self.step(1) - self.decode(1) if alone else 0.0
        ms += self.prefill(rows * width) + self._longer(self.prefill, self.prefill_long, rows * width, held)
        if rows > 1:
            apart = self.decode(rows) + self._longer(self.decode, self.decode_long, rows, held)
            ms += max(0.0, apart - self.prefill(rows) - self._longer(self.prefill, self.prefill_long, rows, held))
        return max(0.0, ms)

    def _longer(self, short: Curve, long: Curve, size: int, held: float) -> float:
        return (long(size) - short(size)) * (held - self.context) / (self.long_context - self.context)


@dataclass(frozen=True)
class Turn:
    """What one question and its answer are made of."""

    question_ms: float
    transcript_tokens: int
    """Text pieces that the model writes down of the question, with the closing one."""
    text_tokens: int
    """Text pieces of the answer, with the closing one."""
    codes: int
    """Of the answer: one for every 40 ms."""
    silence_ms: float = 0.0
    """Before the first sound of the answer."""


@dataclass(frozen=True)
class Talk:
    """How people talk."""

    turns: tuple[Turn, ...]
    outside_ms: tuple[float, ...] = (0.0,)
    """What is spent neither in the engine nor in silence, but in gateway and network: equally likely values."""
    pause_ms: tuple[float, float] = (200.0, 1000.0)
    """How long somebody thinks after an answer has been played: evenly between the two."""
    spread_ms: float = 4000.0
    """Sessions begin within so many milliseconds."""


@dataclass(frozen=True)
class Answered:
    """What somebody experienced."""

    ttfa_ms: float
    """From the commit to the first audible sample."""
    chunks: int
    chunks_in_time: int


@cache
def _script(text_tokens: int, codes: int) -> tuple[bool, ...]:
    """For each token of an answer, whether it is a code; `<end>` is the last."""
    order, script = Interleaver(), []
    while text_tokens or codes:
        speaks = order.kind == "speech"
        if speaks and not codes:  # the text is longer than the speech: what is left of it says nothing
            break
        script.append(speaks)
        if speaks:
            codes -= 1
            order.advance()
        else:
            text_tokens -= 1
            order.advance(text_ended=text_tokens == 0)
    return (*script, False)


@dataclass(eq=False)
class Person:
    """Somebody who talks, and what the engine knows of their session."""

    number: int
    random: random.Random
    turn: Turn
    question: int = 0
    asked: int = 0
    chunks: int = 0
    waiting: int = 0
    pending: int = 0
    held: int = 0
    commits: bool = False
    wants_answer: bool = False
    transcript_left: int = 0
    script: tuple[bool, ...] | None = None
    said: int = 0
    codes: int = 0
    detokenised: int = 0
    flushed: bool = False
    sent_ms: float = 0.0
    committed_at: float = 0.0
    first_sent_at: float = 0.0
    """In the middle of a step, as the engine sees it."""
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """(when, milliseconds of audio) of each chunk of the answer."""

    @property
    def generating(self) -> bool:
        return self.transcript_left > 0 or self.script is not None


class Replica:
    """One engine and `sessions` people, each of whom asks `warmup` and then `turns` questions."""

    def __init__(
        self,
        times: StepTimes,
        talk: Talk,
        sessions: int,
        turns: int,
        seed: int = 0,
        warmup: int = 2,
        config: EngineConfig | None = None,
    ) -> None:
        self._times, self._talk, self._turns, self._warmup = times, talk, turns, warmup
        config = config or EngineConfig()
        self._piece, self._longest = config.prefill_tokens, config.length - 2 * config.prefill_tokens
        self._random = random.Random(seed)
        self._people = [Person(n, random.Random(self._random.random()), talk.turns[0]) for n in range(sessions)]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self.answered: list[Answered] = []
        self.busy_ms, self.now, self._factor = 0.0, 0.0, 1.0
        for person in self._people:
            self._ask(person, person.random.uniform(0, talk.spread_ms))

    def run(self) -> "Replica":
        """Until everybody has asked all their questions."""
        while True:
            while self._events and self._events[0][0] <= self.now:
                at, _, event = heapq.heappop(self._events)
                event(at)
            if self.has_work:
                self._factor = self._random.choice(self._times.spread)
                spent = self._step()
                self.busy_ms += spent
                self.now += spent
            elif self._events:
                self.now = self._events[0][0]
            else:
                return self

    @property
    def utilisation(self) -> float:
        """Share of the time in which the engine was busy."""
        return self.busy_ms / self.now if self.now else 0.0

    # --- people ----------------------------------------------------------------------------------------------------

    def _at(self, when: float, event: Callable[[float], None]) -> None:
        self._order += 1
        heapq.heappush(self._events, (when, self._order, event))

    def _ask(self, person: Person, at: float) -> None:
        """Somebody begins to speak at `at`: a chunk is sent when its last sample has been spoken."""
        person.question = (person.number * 3 + person.asked) % len(self._talk.turns)
        person.turn = self._talk.turns[person.question]
        person.asked += 1
        self._speak(person, at + person.turn.question_ms, at + CHUNK_MS)

    def _speak(self, person: Person, ends: float, at: float) -> None:
        def arrived(_: float) -> None:
            self._chunk(person)
            if at + 1e-6 < ends:
                self._speak(person, ends, min(at + CHUNK_MS, ends))
            else:
                person.committed_at = at
                self._commit(person)

        self._at(at, arrived)

    def _heard_all(self, person: Person, at: float, silence_ms: float) -> None:
        """The last chunk of an answer has been sent, which began with so much silence."""
        arrivals = person.arrivals
        if arrivals and person.asked > self._warmup:
            begins, played, in_time, audible_at = arrivals[0][0], 0.0, 0, None
            for when, ms in arrivals:
                in_time += when <= begins + played + 1e-6
                played += ms
                if audible_at is None and played > silence_ms:
                    audible_at = max(when, begins + silence_ms)
            ttfa_ms = (audible_at or begins) - person.committed_at + person.random.choice(self._talk.outside_ms)
            self.answered.append(Answered(ttfa_ms, len(arrivals), in_time))
        if person.asked < self._warmup + self._turns:
            plays_until = arrivals[0][0] + sum(ms for _, ms in arrivals) if arrivals else at
            self._ask(person, max(at, plays_until) + person.random.uniform(*self._talk.pause_ms))
        person.arrivals = []

    # --- the engine ------------------------------------------------------------------------------------------------

    def _chunk(self, person: Person) -> None:
        person.chunks += 1

    def _commit(self, person: Person) -> None:
        person.chunks += -person.chunks % _CHUNKS_PER_FRAME + _CHUNKS_PER_FRAME * DELAY_TOKENS
        person.commits = person.wants_answer = True

    @property
    def has_work(self) -> bool:
        """Whether the engine would do anything before somebody says more."""
        return any(self._can_work(s) for s in self._people)

    @staticmethod
    def _can_work(person: Person) -> bool:
        return bool(
            person.pending
            or person.chunks >= _CHUNKS_PER_FRAME
            or ((person.commits or person.wants_answer) and not person.generating)
        )

    def _step(self) -> float:
        spent = self._hear()
        self._begin()
        spent += self._think()
        return self._say(spent)

    def _hear(self) -> float:
        groups: dict[int, list[Person]] = {}
        for person in self._people:
            if person.chunks >= _CHUNKS_PER_FRAME:
                groups.setdefault(person.chunks // _CHUNKS_PER_FRAME, []).append(person)
        for frames, sessions in groups.items():
            for person in sessions:
                person.chunks -= frames * _CHUNKS_PER_FRAME
                person.waiting += frames
                if not person.generating:
                    self._prefill(person)
        for person in self._people:
            if person.commits and not person.generating:
                self._prefill(person)
                self._append(person, 2)
                person.commits, person.transcript_left = False, person.turn.transcript_tokens
        return self._factor * sum(self._times.hear(frames * len(sessions)) for frames, sessions in groups.items())

    def _prefill(self, person: Person) -> None:
        if person.waiting:
            self._append(person, person.waiting)
            person.waiting = 0

    def _append(self, person: Person, tokens: int) -> None:
        """More tokens at the end; a conversation that outgrows the context forgets its older half and is read again."""
        person.held += tokens
        person.pending += tokens
        if person.held > self._longest:
            person.held = person.pending = self._longest // 2

    def _begin(self) -> None:
        for person in self._people:
            if person.wants_answer and not person.generating and not person.commits:
                person.wants_answer = False
                self._append(person, 2)
                person.script = _script(person.turn.text_tokens, person.turn.codes)
                person.said = person.codes = person.detokenised = 0
                person.sent_ms, person.flushed = 0.0, False

    def _think(self) -> float:
        ready = [s for s in self._people if s.pending]
        deciding = [s for s in ready if s.generating and s.pending == 1]
        reading = [s for s in ready if not (s.generating and s.pending == 1)]
        spent = 0.0
        if deciding:
            spent += self._times.decode_ms(len(deciding), max(s.held for s in deciding))
        if reading:
            width = max(min(s.pending, self._piece) for s in reading)
            held = max(s.held - s.pending for s in reading)
            spent += self._times.prefill_ms(len(reading), width, held, alone=not deciding)
        for person in ready:
            person.pending -= min(person.pending, self._piece)
            if not person.pending and person.generating:
                self._sampled(person)
        return self._factor * spent

    def _sampled(self, person: Person) -> None:
        person.pending = 1
        person.held += 1
        if person.transcript_left:
            person.transcript_left -= 1
            if not person.transcript_left:
                self._prefill(person)
            return
        assert person.script is not None
        person.codes += person.script[person.said]
        person.said += 1
        if person.said == len(person.script):
            person.flushed = True
            person.codes += LOOKAHEAD_TOKENS + 1

    def _say(self, spent: float) -> float:
        """Also ends the step: what was said arrives when the step is over. Returns how long the step took."""
        groups: dict[int, list[Person]] = {}
        for person in self._people:
            new = person.codes - person.detokenised if person.script is not None else 0
            if new and (person.flushed or new >= self._codes_wanted(person, spent)):
                groups.setdefault(new, []).append(person)
        for codes, sessions in groups.items():
            spent += self._factor * self._times.say(codes * len(sessions))
            for person in sessions:
                person.first_sent_at = person.first_sent_at if person.detokenised else self.now + spent
                person.detokenised = person.codes
        ends = self.now + spent
        for sessions in groups.values():
            for person in sessions:
                total_ms = person.turn.codes * FRAME_MS
                sent_ms = (person.codes - LOOKAHEAD_TOKENS) * FRAME_MS - SYNTHESIS_MS
                if person.flushed:
                    sent_ms = total_ms
                if sent_ms > person.sent_ms:
                    person.arrivals.append((ends, sent_ms - person.sent_ms))
                    person.sent_ms = sent_ms
                if person.flushed:
                    person.script = None
                    self._heard_all(person, ends, person.turn.silence_ms)
        return spent

    def _codes_wanted(self, person: Person, spent: float) -> int:
        if not person.detokenised:
            return FIRST_CODES
        ahead_ms = person.sent_ms - (self.now + spent - person.first_sent_at)
        return NEXT_CODES if ahead_ms > AHEAD_MS else 1
