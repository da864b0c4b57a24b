"""What a token engine is: verbs over token sequences (fork, append, generate, rewind, close) and `step`; and what any
engine keeps of its sequences.

Two engines implement it, `token_engine.py` on torch and `vllm_engine.py` on vLLM; `tests/test_conformance.py` runs
against both. Imports neither.
"""

from collections.abc import Iterable
from collections.abc import Sequence as Ids
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Protocol

from model.layout import TokenLayout
from server.engine.engine_config import EngineConfig
from server.errors import EngineFull, SequenceTooLong

if TYPE_CHECKING:
    import torch

UNLIMITED = 1 << 30


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which ids may come next: one contiguous range, and a few single ids beside it."""

    start: int
    stop: int
    also: tuple[int, ...] = ()
    run: int = field(default=1, compare=False)
    """For how many tokens this holds at least, unless one of `also` comes: an engine may generate so many at once."""

    def token(self, number: int) -> int:
        """The id with that number: those of the range come first."""
        within = self.stop - self.start
        return self.start + number if number < within else self.also[number - within]

    @property
    def only(self) -> int | None:
        """The one id that may come, where there is no choice."""
        return self.start if self.stop - self.start == 1 and not self.also else None


class Rule(Protocol):
    """Decides what may be generated next; told of every token."""

    def allowed(self) -> Allowed | None:
        """None: that is not known yet, and the sequence waits."""

    def accept(self, token: int) -> bool:
        """Count a sampled token in; True if it was the last one."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 takes the likeliest token. The same seed gives the same tokens (of the same engine).

    `hypotheses` above 1: the likeliest text that a search with so many finds, all of it at once, whatever the
    temperature; its rule must bear to be copied. An engine that does not search takes the likeliest tokens.
    """

    text_temperature: float = 0.0
    speech_temperature: float = 0.0
    seed: int = 0
    hypotheses: int = 1

    def temperature(self, allowed: Allowed, layout: TokenLayout) -> float:
        return self.speech_temperature if layout.is_spoken(allowed.start) else self.text_temperature


@dataclass(eq=False, slots=True)
class TokenSequence:
    """One sequence: its tokens, and how many of them the engine has read."""

    slot: int
    tokens: list[int] = field(default_factory=list)
    cached: int = 0
    deadline_s: float = inf
    """When somebody notices that this sequence waits: an engine that cannot serve all begins with the earliest."""
    rule: Rule | None = None
    sampling: Sampling = field(default_factory=Sampling)
    random: "torch.Generator | None" = None

    @property
    def pending(self) -> int:
        return len(self.tokens) - self.cached


@dataclass(frozen=True, slots=True)
class Sampled:
    """A token that a sequence generated; `last` if its rule says that this was all."""

    sequence: TokenSequence
    token: int
    last: bool


@dataclass(frozen=True, slots=True)
class TurnOpinion:
    """The probability that the turn is over, after the token before `position` of a sequence, which was a heard one."""

    sequence: TokenSequence
    probability: float
    position: int


class TokenEngine(Protocol):
    """One thread calls everything."""

    config: EngineConfig
    layout: TokenLayout
    worth_reading: int
    """How many heard tokens are worth a step while nobody waits for what comes after them."""

    def open(self) -> TokenSequence:
        """A new, empty sequence. Raises `EngineFull`."""

    def fork(self, sequence: TokenSequence, length: int) -> TokenSequence:
        """One that begins with the first `length` tokens of this one, which has a place for one fork at a time."""

    def append(self, sequence: TokenSequence, tokens: Ids[int]) -> None:
        """Add tokens; the next steps prefill them. Raises `SequenceTooLong`, and then adds nothing."""

    def generate(self, sequence: TokenSequence, rule: Rule, sampling: Sampling) -> None:
        """Generate from the next step on, until `rule` says it was the last token, or `stop`."""

    def stop(self, sequence: TokenSequence) -> None:
        """Stop generating; the tokens so far stay."""

    def rewind(self, sequence: TokenSequence, length: int) -> None:
        """Forget all tokens from `length` on."""

    def close(self, sequence: TokenSequence) -> None:
        """Give the sequence's place back."""

    def clear(self) -> None:
        """Close every sequence, whatever state it is in."""

    @property
    def has_work(self) -> bool:
        """Whether `step` would do anything."""

    def step(self, served: Iterable[TokenSequence] | None = None) -> list[Sampled | TurnOpinion]:
        """One round for some sequences or for all; what came of it.

        Raises `EngineRestarted` where the engine died and starts anew: every sequence keeps its tokens and its rule,
        and the steps after go on with them. Raises `EngineUnavailable` where it cannot start anew.
        """


class Sequences:
    """What every token engine keeps of its sequences: which there are, their tokens, and the limits of both.

    An engine adds what it does with them, and how it gives that up.
    """

    worth_reading = 1

    def __init__(self, layout: TokenLayout, config: EngineConfig) -> None:
        self.layout, self.config = layout, config
        self._free = list(range(config.slots))
        self._open: list[TokenSequence] = []

    def open(self) -> TokenSequence:
        if not self._free:
            raise EngineFull(f"all {self.config.slots} sequences of this engine are in use")
        sequence = TokenSequence(self._free.pop())
        self._open.append(sequence)
        return sequence

    def fork(self, sequence: TokenSequence, length: int) -> TokenSequence:
        slot = sequence.slot + self.config.slots  # behind those of all conversations
        assert all(other.slot != slot for other in self._open)
        fork = TokenSequence(slot, sequence.tokens[:length], min(sequence.cached, length))
        self._open.append(fork)
        return fork

    def append(self, sequence: TokenSequence, tokens: Ids[int]) -> None:
        if len(sequence.tokens) + len(tokens) + self.config.prefill_tokens > self.config.length:
            raise SequenceTooLong(f"expected at most {self.config.length - self.config.prefill_tokens} tokens")
        sequence.tokens.extend(tokens)
        if sequence.rule is not None:
            self._abandon(sequence)

    def generate(self, sequence: TokenSequence, rule: Rule, sampling: Sampling) -> None:
        self._abandon(sequence)
        sequence.rule, sequence.sampling = rule, sampling

    def stop(self, sequence: TokenSequence) -> None:
        if sequence.rule is not None:
            self._abandon(sequence)
        sequence.rule = None

    def rewind(self, sequence: TokenSequence, length: int) -> None:
        """What was read before `length` stays read."""
        self._abandon(sequence)
        sequence.rule = None
        del sequence.tokens[length:]
        sequence.cached = min(sequence.cached, length)

    def close(self, sequence: TokenSequence) -> None:
        self._abandon(sequence)
        self._open.remove(sequence)
        if sequence.slot < self.config.slots:
            self._free.append(sequence.slot)

    def clear(self) -> None:
        for sequence in list(self._open):
            self.close(sequence)

    @property
    def has_work(self) -> bool:
        return any(map(self._goes_on, self._open))

    def _goes_on(self, sequence: TokenSequence) -> bool:
        """Whether there is something to read, and it is known what may come after it."""
        return sequence.pending > 0 and (sequence.rule is None or sequence.rule.allowed() is not None)

    def _abandon(self, sequence: TokenSequence) -> None:
        """What the engine is doing for this sequence is not wanted any more."""

    def _accept(self, sequence: TokenSequence, token: int) -> Sampled:
        """Add a sampled token to its sequence, which ends by its rule or where there is no more room."""
        assert sequence.rule is not None
        sequence.tokens.append(token)
        last = sequence.rule.accept(token)
        if last or len(sequence.tokens) + self.config.prefill_tokens >= self.config.length:
            sequence.rule, last = None, True
        return Sampled(sequence, token, last)
