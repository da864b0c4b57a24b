"""A discrete-event simulation of one replica: people talk to an engine whose steps take as long as was measured.

    step: choose whom to serve, then for these
          hear (tokenise what has arrived), think (one step of the token engine), say (detokenise what is ready)

It does what `server.engine.speech_engine` does, in the same order and with the same `Scheduler`, and counts tokens and
milliseconds instead of computing anything. The same seed gives the same times. It knows nothing about files, money or
replicas.
"""

import heapq
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from math import inf
from typing import Any

from model.layout import Interleaver
from server.engine.engine_config import EngineConfig
from server.engine.messages import FRAME_MS
from server.engine.scheduler import Job, Scheduler

# As in the model and the speech engine; they can't be imported from there without torch. The tests compare them.
DELAY_TOKENS = 5
LOOKAHEAD_TOKENS, SYNTHESIS_MS = 3, 20
FIRST_CODES, NEXT_CODES, AHEAD_MS = 4, 4, 250.0
HEARD_WITHIN_MS, ANSWERED_WITHIN_MS, TOGETHER_MS = 300.0, 120.0, 35.0
TURN_ROOM, TURN_ROOM_SHARE = 256, 0.25
READ_TWICE = 8
SEARCHES = 4  # whose hypotheses of a transcript have room
HEARD_FRAMES = 25
ANSWER_MS = 3000.0  # what people allow for an answer, as in `bench load`
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
    """By sessions: two frames of each."""
    hear_one: Curve
    """By sessions: one frame of each."""
    listen: Curve
    """By sessions of which one frame each is heard and read: the whole step, with bookkeeping."""
    prefill: Curve
    """By tokens, of one row."""
    decode: Curve
    """By rows."""
    step: Curve
    """By sessions that decode: the whole step, with sampling and bookkeeping."""
    say: Curve
    """By sessions: four codes of each."""
    say_one: Curve
    """By sessions: one code of each."""
    speak: Curve
    """By sessions of which each gets one more code that is said at once: the whole step, with bookkeeping."""
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
        return cls(
            hear=Curve.read(result["hear"]),
            hear_one=Curve.read(result["hear"], "one_ms"),
            listen=Curve.read(result["listen"]),
            prefill=Curve.read(result["prefill"]),
            decode=Curve.read(result["decode"]),
            step=Curve.read(result["step"]),
            say=Curve.read(result["say"]),
            say_one=Curve.read(result["say"], "one_ms"),
            speak=Curve.read(result["speak"]),
            prefill_long=Curve.read(result["prefill"], "long_ms"),
            decode_long=Curve.read(result["decode"], "long_ms"),
            context=result["context"],
            long_context=result["long_context"],
            spread=tuple(result["spread"]),
        )

    def faster(self, factor: float) -> "StepTimes":
        """The same machine, `factor` times as fast."""
        curves: dict[str, Any] = {n: c.times(1 / factor) for n, c in vars(self).items() if isinstance(c, Curve)}
        return replace(self, **curves)

    def hear_ms(self, rows: int, frames: int) -> float:
        """Tokenising `frames` of each of `rows` sessions."""
        one = self.hear_one(rows)
        return one + (frames - 1) * max(0.0, self.hear(rows) - one)

    def say_ms(self, rows: int, codes: int) -> float:
        """Detokenising `codes` of each of `rows` sessions, with the bookkeeping."""
        one = self.say_one(rows)
        ms = max(one, self.speak(rows) - self.step(rows))
        return ms + (codes - 1) / 3 * max(0.0, self.say(rows) - one)

    def decide_ms(self, rows: int, span: int, held: float) -> float:
        """A whole step in which each of `rows` sequences gets one more token.

        Attention reads `span` rows of the cache, idle ones between them too, of as many tokens as the longest holds.
        """
        return max(0.0, self.step(rows) + self._longer(self.decode, self.decode_long, rows, span, held))

    def read_ms(self, rows: int, span: int, width: int, held: float) -> float:
        """Reading `width` tokens in each of `rows`, with the bookkeeping.

        Several rows cost more than one with as many tokens, as each has a cache to be read: as much more as decoding
        one token in each costs more than reading them all in one row.
        """
        ms = max(0.0, self.listen(rows) - self.hear_one(rows) - self.decode(rows))
        ms += self.prefill(rows * width)
        ms += self._longer(self.prefill, self.prefill_long, rows * width, span * width, held)
        if rows > 1:
            apart = self.decode(rows) + self._longer(self.decode, self.decode_long, rows, span, held)
            together = self.prefill(rows) + self._longer(self.prefill, self.prefill_long, rows, span, held)
            ms += max(0.0, apart - together)
        return max(0.0, ms)

    def _longer(self, short: Curve, long: Curve, size: int, span: int, held: float) -> float:
        """How much longer than measured, with `size` of `context` tokens, it takes with `span` of `held` tokens."""
        each = [(long(n) - short(n)) / (self.long_context - self.context) for n in (size, span)]
        return each[1] * held - each[0] * self.context


def span(slots: Sequence[int]) -> int:
    """How many rows of the cache attention reads for sequences in these slots, see `CachedTransformer.extend`."""
    reach = max(slots) - min(slots)
    return reach + 1 if reach < 2 * len(slots) else len(slots)


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
    untold_tokens: int = 0
    """What the model writes down before it and tells nobody: a thought, a draft."""


@dataclass(frozen=True)
class Talk:
    """How people talk."""

    turns: tuple[Turn, ...]
    outside_ms: tuple[float, ...] = (0.0,)
    """What is spent neither in the engine nor in silence, but in gateway and network: equally likely values."""
    pause_ms: tuple[float, float] = (200.0, 1000.0)
    """How long somebody thinks when the time for an answer is over: evenly between the two."""
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
    unread_since: float | None = None
    """When the oldest whole frame came that waits."""
    reading_since: float | None = None
    """Since when there are tokens that were not read, while nothing is being generated."""
    turn_open: bool = False
    pending: int = 0
    held: int = 0
    commits: bool = False
    wants_answer: bool = False
    transcript_left: int = 0
    to_draft: bool = False
    draft_left: int = 0
    """Tokens that the draft still lacks."""
    draft_pending: int = 0
    draft_held: int = 0
    script: tuple[bool, ...] | None = None
    said: int = 0
    said_text: int = 0
    codes: int = 0
    detokenised: int = 0
    flushed: bool = False
    sent_ms: float = 0.0
    committed_at: float = 0.0
    asked_at: float = 0.0
    """The same as the engine sees it, between two steps."""
    first_sent_at: float = 0.0
    """In the middle of a step, as the engine sees it."""
    arrivals: list[tuple[float, float]] = field(default_factory=list)
    """(when, milliseconds of audio) of each chunk of the answer."""

    @property
    def generating(self) -> bool:
        return self.transcript_left > 0 or self.to_draft or self.script is not None

    @property
    def can_draft(self) -> bool:
        return self.to_draft and self.pending <= READ_TWICE

    @property
    def waits_for_draft(self) -> bool:
        """Whether it says next what has not been drafted yet."""
        if self.script is None or not self.draft_left or self.said_text == self.turn.text_tokens:
            return False
        drafted = self.turn.text_tokens - self.draft_left  # thoughts come before them, and `<end>` last
        return not self.script[self.said] and self.said_text >= drafted

    @property
    def frames(self) -> int:
        """How many wait to be heard."""
        return self.chunks // _CHUNKS_PER_FRAME

    @property
    def can_commit(self) -> bool:
        return self.commits and not self.generating and not self.frames

    @property
    def can_begin(self) -> bool:
        return self.wants_answer and not self.generating and not self.commits

    @property
    def dry_at(self) -> float | None:
        return self.first_sent_at + self.sent_ms if self.sent_ms else None

    @property
    def deadline(self) -> float:
        """As `Session.deadline_s`, in milliseconds."""
        since = [at for at in (self.unread_since, self.reading_since) if at is not None]
        heard = min(since, default=inf) + HEARD_WITHIN_MS
        if not (self.commits or self.wants_answer or self.generating):
            return heard
        answered = self.dry_at if self.script is not None else None
        return min(heard, self.asked_at + ANSWERED_WITHIN_MS if answered is None else answered)


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
        self._piece, self._longest = config.prefill_tokens, config.conversation_tokens
        self._hypotheses = config.hypotheses
        self._slots = config.slots
        self._turn_room = min(TURN_ROOM, int(TURN_ROOM_SHARE * config.conversation_tokens))
        self._random = random.Random(seed)
        self._people = [Person(n, random.Random(self._random.random()), talk.turns[0]) for n in range(sessions)]
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = 0
        self._scheduler = Scheduler()
        self.answered: list[Answered] = []
        self.counts: Counter[tuple[str, int, int]] = Counter()
        """How often each kind of work was done for so many sessions, of so many frames, tokens or codes each."""
        self.busy_ms, self.now, self._factor = 0.0, 0.0, 1.0
        self._spent_ms = 0.0
        """In the step that has begun."""
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
                self._step()
                self.busy_ms += self._spent_ms
                self.now += self._spent_ms
                self._spent_ms = 0.0
            elif self._events:
                self.now = self._events[0][0]
            else:
                return self

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
            # Nobody waits until an answer has been played, but all until it has been made.
            self._ask(person, max(at, person.committed_at + ANSWER_MS + person.random.uniform(*self._talk.pause_ms)))
        person.arrivals = []

    # --- the engine ------------------------------------------------------------------------------------------------

    def _chunk(self, person: Person) -> None:
        self._add(person, 1)

    def _commit(self, person: Person) -> None:
        self._add(person, -person.chunks % _CHUNKS_PER_FRAME + _CHUNKS_PER_FRAME * DELAY_TOKENS)
        person.commits = person.wants_answer = True
        person.asked_at = self.now

    def _add(self, person: Person, chunks: int) -> None:
        person.chunks += chunks
        if person.unread_since is None and person.frames:
            person.unread_since = self.now

    @property
    def has_work(self) -> bool:
        """Whether the engine would do anything before somebody says more."""
        together = self._several_speak
        return any(self._needs(person, together) for person in self._people)

    @property
    def _several_speak(self) -> bool:
        return sum(person.turn_open for person in self._people) > 1

    def _needs(self, person: Person, together: bool) -> int:
        """How many tokens of a step this session would take; 0: it needs nothing."""
        frames = min(self._frames_due(person, together), HEARD_FRAMES)
        waits = person.can_commit or person.can_begin or person.can_draft
        return max(min(person.pending, self._piece), frames, int(waits))

    def _frames_due(self, person: Person, together: bool) -> int:
        """How many frames this session should hear now; `together`: others speak too."""
        since = person.unread_since
        if together and not person.commits and since is not None and self.now < since + TOGETHER_MS:
            return 0
        return person.frames

    def _step(self) -> None:
        together = self._several_speak
        for person in self._people:
            if person.generating or not person.pending:
                person.reading_since = None
            elif person.reading_since is None:
                person.reading_since = self.now
        needs = [(person, self._needs(person, together)) for person in self._people]
        jobs = [Job(person, person.deadline / 1000, tokens) for person, tokens in needs if tokens]
        served = self._scheduler.choose(jobs, self.now / 1000)
        if any(self._frames_due(person, together) for person in served):
            self._hear(self._people)
        for person in served:
            if person.can_commit:
                self._end_turn(person)
            if person.can_begin:
                self._begin(person)
            if person.can_draft:
                self._draft(person)
        self._think(served)
        self._say(served)

    def _spend(self, kind: str, rows: int, size: int, ms: float) -> None:
        """Time in a step: for so many sessions, of so many frames, tokens or codes each."""
        self.counts[kind, rows, size] += 1
        self._spent_ms += self._factor * ms

    def _hears(self, rows: int, frames: int) -> None:
        self._spend("hear", rows, frames, self._times.hear_ms(rows, frames))

    def _decides(self, slots: Sequence[int], held: float) -> None:
        rows = len(slots)
        self._spend("decide", rows, 1, self._times.decide_ms(rows, span(slots), held))

    def _reads(self, slots: Sequence[int], width: int, held: float) -> None:
        rows = len(slots)
        self._spend("read", rows, width, self._times.read_ms(rows, span(slots), width, held))

    def _says(self, rows: int, codes: int) -> None:
        self._spend("say", rows, codes, self._times.say_ms(rows, codes))

    def _hear(self, served: Sequence[Person]) -> None:
        left = HEARD_FRAMES
        while left and (listening := [person for person in served if person.frames]):
            frames = min(left, *(person.frames for person in listening))
            left -= frames
            self._hears(len(listening), frames)
            for person in listening:
                person.chunks -= frames * _CHUNKS_PER_FRAME
                if not person.frames:
                    person.unread_since = None
                opens = not person.turn_open
                self._append(person, frames + opens, self._turn_room if opens else 0)  # `<user>`
                person.turn_open = True

    def _append(self, person: Person, tokens: int, room: int = 0) -> None:
        """More tokens at the end, and `room` for others.

        A conversation that outgrows the context forgets its older half, and what is left is read again.
        """
        person.held += tokens
        person.pending += tokens
        if person.held + room > self._longest:
            person.held = person.pending = self._longest // 2

    def _end_turn(self, person: Person) -> None:
        self._append(person, 2)  # `<end>` and `<transcript>`
        person.commits = person.turn_open = False
        person.transcript_left = person.turn.transcript_tokens

    def _begin(self, person: Person) -> None:
        person.wants_answer = False
        self._append(person, 2)  # `<assistant>` and `<speech>`
        person.to_draft = True
        person.said = person.said_text = person.codes = person.detokenised = 0
        person.sent_ms, person.flushed = 0.0, False

    def _draft(self, person: Person) -> None:
        """A fork begins with `<text>` where the other has `<speech>`: both read what is unread."""
        person.to_draft, person.pending = False, max(1, person.pending)
        person.draft_pending, person.draft_held = person.pending, person.held
        person.draft_left = max(person.turn.untold_tokens, person.turn.text_tokens)
        person.script = _script(person.turn.text_tokens, person.turn.codes)

    def _slot(self, person: Person) -> int:
        """Where the engine puts them: the first one into the last slot. Their draft lies behind all of these."""
        return self._slots - 1 - person.number

    def _think(self, served: Sequence[Person]) -> None:
        drafts = [s for s in served if s.draft_left]
        drafting = [s for s in drafts if s.draft_pending == 1]
        ready = [s for s in served if s.pending and not s.waits_for_draft]
        choosing = [s for s in ready if s.generating and not s.to_draft]
        deciding = [s for s in choosing if s.pending == 1]
        single = [s for s in ready if s not in choosing and s.pending == 1]
        if deciding or drafting:
            # The first ones to write down what they heard do so in several ways, each in a row of its own behind those
            # of the people. Where a search has fewer left, a step is shorter than this thinks.
            searching = [s for s in deciding if s.transcript_left]
            searching = searching[: SEARCHES if self._hypotheses > 1 else 0]
            rows = [self._slot(s) for s in deciding if s not in searching]
            forks = range(2 * self._slots, 2 * self._slots + len(searching) * self._hypotheses)
            rows += [self._slot(s) + self._slots for s in drafting]
            self._decides([*rows, *forks], max([*(s.held for s in deciding), *(s.draft_held for s in drafting)]))
        pieces = [(self._slot(s), s.pending, s.held) for s in ready if s.pending > 1]
        pieces += [(self._slot(s) + self._slots, s.draft_pending, s.draft_held) for s in drafts if s not in drafting]
        for reading in ([(self._slot(s), s.pending, s.held) for s in single], pieces):
            if reading:
                width = max(min(pending, self._piece) for _, pending, _ in reading)
                held = max(held - pending for _, pending, held in reading)
                self._reads([slot for slot, _, _ in reading], width, held)
        for person in ready:
            person.pending -= min(person.pending, self._piece)
            if not person.pending and person.generating and not person.to_draft:
                self._sampled(person)
        for person in drafts:
            person.draft_pending = 1
            person.draft_left -= 1
            person.draft_held += 1

    def _sampled(self, person: Person) -> None:
        person.pending = 1
        person.held += 1
        if person.transcript_left:
            person.transcript_left -= 1
            return
        assert person.script is not None
        person.codes += person.script[person.said]
        person.said_text += not person.script[person.said]
        person.said += 1
        if person.said == len(person.script):
            person.flushed = True
            person.codes += LOOKAHEAD_TOKENS + 1

    def _say(self, served: Sequence[Person]) -> None:
        """What was said arrives when the step is over."""
        began = self.now + self._spent_ms
        groups: dict[int, list[Person]] = {}
        for person in served:
            new = person.codes - person.detokenised if person.script is not None else 0
            if new and (person.flushed or new >= self._codes_wanted(person, began)):
                groups.setdefault(new, []).append(person)
        for codes, sessions in groups.items():
            self._says(len(sessions), codes)
        ends = self.now + self._spent_ms
        for person in [person for sessions in groups.values() for person in sessions]:
            person.detokenised = person.codes
            sent_ms = (person.codes - LOOKAHEAD_TOKENS) * FRAME_MS - SYNTHESIS_MS
            if person.flushed:
                sent_ms = person.turn.codes * FRAME_MS
            if sent_ms > person.sent_ms:
                person.first_sent_at = person.first_sent_at if person.sent_ms else began
                person.arrivals.append((ends, sent_ms - person.sent_ms))
                person.sent_ms = sent_ms
            if person.flushed:
                person.script = None
                self._heard_all(person, ends, person.turn.silence_ms)

    @staticmethod
    def _codes_wanted(person: Person, now: float) -> int:
        if not person.detokenised:
            return FIRST_CODES
        ahead_ms = 0.0 if person.dry_at is None else person.dry_at - now
        return NEXT_CODES if ahead_ms > AHEAD_MS else 1
